//! Connections: login, keep-alive, replacement, the end.

use super::core::{Answer, Core};
use super::forwarding::Stay;
use super::io::{LogEvent, Output, SessionId};
use super::rates::Doing;
use super::timers::Timer;
use crate::crypto::identity::PublicKey;
use crate::limits::{KEEPALIVE, LOGIN_DEADLINE, TEXT_MAX};
use crate::wire::frame::{Away, Code, Login, Push, Refusal, Reply, ToClient, ToServer, Welcome};
use crate::wire::id::{InstanceId, RoomId};
use crate::wire::name::{FullName, Name};
use crate::wire::text::Untrusted;
use minicbor::bytes::ByteVec;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: PublicKey,
    pub(super) addr: SocketAddr,
    /// The server of the mesh that it comes through, which says when it is gone.
    pub(super) via: Option<Name>,
    /// Once logged in.
    pub(super) name: Option<FullName>,
    pub(super) instance: InstanceId,
    /// Login deadline, later the next keep-alive.
    due: Duration,
    /// Keep-alives without an answer.
    missed: u32,
    /// Rooms whose rows are pushed to it.
    pub(super) rooms: BTreeSet<RoomId>,
    /// Rooms whose lease it has or waits for.
    pub(super) waits: BTreeSet<RoomId>,
    pub(super) packages: VecDeque<ByteVec>,
    pub(super) last_resort: Option<ByteVec>,
    /// When it was asked for new packages last.
    pub(super) told_low: Option<Duration>,
    /// Log reads under way.
    pub(super) reads: usize,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) session: SessionId,
    pub(super) key: PublicKey,
    pub(super) name: FullName,
    pub(super) addr: SocketAddr,
}

impl Core {
    pub(super) fn connected(&mut self, session: SessionId, key: PublicKey, addr: SocketAddr, via: Option<Name>) {
        let due = self.now + LOGIN_DEADLINE;
        let new = Session {
            key,
            addr,
            via,
            name: None,
            instance: InstanceId::default(),
            due,
            missed: 0,
            rooms: BTreeSet::new(),
            waits: BTreeSet::new(),
            packages: VecDeque::new(),
            last_resort: None,
            told_low: None,
            reads: 0,
        };
        self.sessions.insert(session, new);
        self.timers.set(due, Timer::Session(session));
    }

    pub(super) fn frame(&mut self, id: SessionId, frame: ToServer) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.missed = 0;
        if session.name.is_some() {
            session.due = self.now + KEEPALIVE;
        }
        match (frame, self.asker(id)) {
            (ToServer::Login(login), None) => self.login(id, &login),
            (ToServer::Request { id: request, body }, Some(asker)) => self.request(&asker, request, body),
            (ToServer::Goodbye, _) => self.close(id, "left"),
            // Those of our own clients do not come so far; there is no way for others'.
            (ToServer::Alive | ToServer::RelayData(_), Some(_)) => {}
            (ToServer::At { server, frame }, Some(asker)) if self.is_direct(id) => self.relay(&asker, server, frame),
            _ => self.close(id, "protocol"),
        }
    }

    /// Who a session is, if it is logged in.
    pub(super) fn asker(&self, id: SessionId) -> Option<Asker> {
        let session = self.sessions.get(&id)?;
        Some(Asker { session: id, key: session.key, name: session.name.clone()?, addr: session.addr })
    }

    fn login(&mut self, id: SessionId, login: &Login) {
        let Some((key, addr, via)) = self.sessions.get(&id).map(|s| (s.key, s.addr, s.via.clone())) else { return };
        let attempt = self.attempt_login(key, addr);
        let admitted = attempt.and_then(|warned| Ok((self.admit(login, key, addr, via.is_some())?, warned)));
        let ((name, cert), warned) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.out.log(LogEvent::LoginRefused { addr, code: refusal.code });
                self.out.send(id, &ToClient::Refused(refusal));
                return self.close(id, "refused");
            }
        };
        if let Some(old) = self.online.get(&key).copied() {
            self.out.push(old, Push::Bye { reason: "replaced".into(), detail: None });
            self.close(old, "replaced");
        }
        self.online.insert(key, id);
        if name.server != self.config.name {
            self.guests.insert(name.clone(), id);
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.name = Some(name.clone());
            session.instance = login.instance;
            session.due = self.now + KEEPALIVE;
            self.timers.set(session.due, Timer::Session(id));
        }
        let (seen_as, stun_port, now_ms) = (addr.to_string(), self.config.stun_port, self.wall_ms);
        let mesh = self.mesh_word();
        self.out.send(id, &ToClient::Welcome(Welcome { cert: cert.into(), seen_as, stun_port, now_ms, mesh }));
        self.out.output(Output::Admitted { session: id });
        self.out.output(Output::Legs { user: key, stay: self.stay(&key) });
        if warned {
            self.warn(id, Doing::LogIn);
        }
        self.tell_sharing(id);
        self.out.log(LogEvent::LoggedIn { name, addr, via });
        self.note_instance(key, login.instance);
    }

    pub(super) fn operator(&mut self, asker: &Asker, text: String) -> Answer {
        if text.len() > TEXT_MAX {
            return Err(Refusal::new(Code::TooLarge, "the text is too long"));
        }
        self.spend(asker, Doing::TellOperator, 1)?;
        self.out.log(LogEvent::Operator { from: asker.name.clone(), text: Untrusted::new(text) });
        Ok(Some(Reply::Done))
    }

    /// Whether it is a connection to this server.
    pub(super) fn is_direct(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.via.is_none())
    }

    /// A frame for another server of the mesh, if we are in one.
    fn relay(&mut self, asker: &Asker, server: Name, frame: ByteVec) {
        if self.mesh_word().is_none() {
            return self.out.send(asker.session, &ToClient::Away { server, why: Away::Refused });
        }
        let (session, key, addr) = (asker.session, asker.key, asker.addr);
        self.out.output(Output::Relay { session, key, addr, server, frame: Vec::from(frame).into() });
    }

    pub(super) fn session_due(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.due > self.now {
            return self.timers.set(session.due, Timer::Session(id));
        }
        if session.name.is_none() {
            return self.close(id, "no login");
        }
        if session.via.is_some() {
            return;
        }
        if session.missed >= MISSES {
            self.out.push(id, Push::Bye { reason: "idle".into(), detail: None });
            return self.close(id, "idle");
        }
        session.missed += 1;
        session.due = self.now + KEEPALIVE;
        self.timers.set(session.due, Timer::Session(id));
        self.out.push(id, Push::KeepAlive);
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
        let all: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in all {
            self.out.push(id, Push::Bye { reason: "draining".into(), detail: None });
            self.close(id, "draining");
        }
    }

    /// Ends a connection from our side.
    pub(super) fn close(&mut self, id: SessionId, reason: &'static str) {
        self.forget(id, reason);
        self.out.output(Output::Close { session: id });
    }

    /// Nothing of a session is left after this; its leaves stay in their rooms until their grace is over.
    pub(super) fn forget(&mut self, id: SessionId, reason: &'static str) {
        let Some(session) = self.sessions.remove(&id) else { return };
        if self.online.get(&session.key) == Some(&id) {
            self.online.remove(&session.key);
            let stay = if reason == BANNED { Stay::Out } else { Stay::Away };
            self.out.output(Output::Legs { user: session.key, stay });
        }
        for room in session.rooms.iter().chain(&session.waits).copied().collect::<BTreeSet<_>>() {
            if let Some(room) = self.rooms.get_mut(&room) {
                room.unsubscribe(id, self.now, self.wall_ms);
                room.stop_waiting(id);
            }
            if !self.draining {
                self.settle(room);
            }
        }
        if let Some(name) = session.name {
            if self.guests.get(&name) == Some(&id) {
                self.guests.remove(&name);
            }
            self.out.log(LogEvent::LoggedOut { name, reason });
        }
    }
}

/// Keep-alives without an answer after which a client is lost.
const MISSES: u32 = 3;
/// Why the sessions of those end who are banned.
pub(super) const BANNED: &str = "banned";
