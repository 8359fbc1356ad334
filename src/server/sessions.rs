//! Connections: login, keep-alive, replacement, the end.

use super::attempts::source;
use super::core::{Answer, Core};
use super::io::{LogEvent, Output, SessionId};
use super::names::Claim;
use super::outbox::too_many;
use super::timers::Timer;
use crate::crypto::identity::PublicKey;
use crate::limits::{KEEPALIVE, LOGIN_DEADLINE, TEXT_MAX};
use crate::store::Write;
use crate::wire::cert::NameCert;
use crate::wire::frame::{Code, Login, Push, Refusal, Reply, ToClient, ToServer, VERSION, Welcome};
use crate::wire::id::RoomId;
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
    /// Once logged in.
    pub(super) name: Option<FullName>,
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
    pub(super) fn connected(&mut self, session: SessionId, key: PublicKey, addr: SocketAddr) {
        let due = self.now + LOGIN_DEADLINE;
        let new = Session {
            key,
            addr,
            name: None,
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
            (ToServer::Alive, Some(_)) => {}
            _ => self.close(id, "protocol"),
        }
    }

    /// Who a session is, if it is logged in.
    pub(super) fn asker(&self, id: SessionId) -> Option<Asker> {
        let session = self.sessions.get(&id)?;
        Some(Asker { session: id, key: session.key, name: session.name.clone()?, addr: session.addr })
    }

    fn login(&mut self, id: SessionId, login: &Login) {
        let Some((key, addr)) = self.sessions.get(&id).map(|s| (s.key, s.addr)) else { return };
        let name = match self.admit(login, key, addr) {
            Ok(name) => name,
            Err(refusal) => {
                self.out.log(LogEvent::LoginRefused { addr, code: refusal.code });
                self.out.send(id, &ToClient::Refused(refusal));
                return self.close(id, "refused");
            }
        };
        if let Some(old) = self.online.get(&key).copied() {
            self.out.push(old, Push::Bye { reason: "replaced".into() });
            self.close(old, "replaced");
        }
        self.online.insert(key, id);
        let name = FullName::new(name, self.config.name.clone());
        if let Some(session) = self.sessions.get_mut(&id) {
            session.name = Some(name.clone());
            session.due = self.now + KEEPALIVE;
            self.timers.set(session.due, Timer::Session(id));
        }
        self.out.output(Output::Admitted { session: id });
        let asker = Asker { session: id, key, name: name.clone(), addr };
        let cert = self.issue(&asker).into();
        let (seen_as, stun_port, now_ms) = (addr.to_string(), self.config.stun_port, self.wall_ms);
        self.out.send(id, &ToClient::Welcome(Welcome { cert, seen_as, stun_port, now_ms, mesh: None }));
        self.out.log(LogEvent::LoggedIn { name, addr });
        self.note_instance(key, login);
    }

    /// Whether a login holds; a free name becomes the key's.
    fn admit(&mut self, login: &Login, key: PublicKey, addr: SocketAddr) -> Result<Name, Refusal> {
        if login.version != VERSION {
            let message = format!("this server speaks version {VERSION} of the protocol");
            return Err(Refusal::new(Code::Version, message));
        }
        if self.draining {
            return Err(Refusal::new(Code::Draining, "the server is stopping"));
        }
        let name = Name::parse_user(&login.name).map_err(|e| Refusal::new(Code::BadName, e.to_string()))?;
        match self.names.claim(&name, &key) {
            Claim::Own => {}
            Claim::Taken(free) => {
                let refusal = Refusal::new(Code::NameTaken, format!("the name {name} is taken"));
                return Err(free.map_or(refusal.clone(), |free| refusal.hint(free.to_string())));
            }
            Claim::TooMany => return Err(too_many("this key has as many names as it may have")),
            Claim::Free => {
                self.may_add_name(addr)?;
                self.names.insert(name.clone(), key);
                self.out.write(Write::Name { name: name.clone(), key, since_ms: self.wall_ms });
            }
        }
        Ok(name)
    }

    fn may_add_name(&mut self, addr: SocketAddr) -> Result<(), Refusal> {
        let source = source(addr.ip());
        if self.names.len() >= self.bounds.names {
            return Err(Refusal::new(Code::TooMany, "the server has as many names as it may have"));
        }
        if !self.new_things.take(source, self.now) || !self.new_names.take(source, self.now) {
            return Err(too_many("too many new names from this address"));
        }
        Ok(())
    }

    /// A new run of a client has lost the state of its direct conversations; of its rooms too, which it joins again by itself.
    fn note_instance(&mut self, key: PublicKey, login: &Login) {
        let before = self.instances.insert(key, login.instance);
        if before == Some(login.instance) {
            return;
        }
        self.out.write(Write::Instance { key, instance: login.instance });
        for room in self.rooms.directs_of(&key) {
            self.drop_direct(room, &key);
        }
    }

    /// The encoded certificate of the asker's name.
    pub(super) fn issue(&self, asker: &Asker) -> Vec<u8> {
        let not_after = self.wall_ms.saturating_add(CERT_MS);
        NameCert::issue(&self.identity, asker.name.clone(), asker.key, not_after).to_bytes()
    }

    pub(super) fn operator(&mut self, asker: &Asker, text: String) -> Answer {
        if text.len() > TEXT_MAX {
            return Err(Refusal::new(Code::TooLarge, "the text is too long"));
        }
        if !self.operator_lines.take(asker.key, self.now) {
            return Err(too_many("too many lines to the operator"));
        }
        self.out.log(LogEvent::Operator { from: asker.name.clone(), text: Untrusted::new(text) });
        Ok(Some(Reply::Done))
    }

    pub(super) fn session_due(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.due > self.now {
            return self.timers.set(session.due, Timer::Session(id));
        }
        if session.name.is_none() {
            return self.close(id, "no login");
        }
        if session.missed >= MISSES {
            self.out.push(id, Push::Bye { reason: "idle".into() });
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
            self.out.push(id, Push::Bye { reason: "draining".into() });
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
            self.out.log(LogEvent::LoggedOut { name, reason });
        }
    }
}

/// Keep-alives without an answer after which a client is lost.
const MISSES: u32 = 3;
/// How long a name certificate holds: 90 days, milliseconds.
const CERT_MS: u64 = 90 * 24 * 3600 * 1000;
