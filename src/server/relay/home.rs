//! Clients of other servers here: each has a session as if it were connected, with what its server passes on.
//!
//! What a server says for a client counts only if that client has signed that it speaks through exactly this server.

use super::{Act, GUESTS, Relay};
use crate::crypto::identity::PublicKey;
use crate::limits::{FRAME_MAX, FRAME_MAX_BEFORE_LOGIN};
use crate::mesh::NodeId;
use crate::server::attempts::Attempts;
use crate::server::io::{Input, SessionId, Way};
use crate::server::pace::Pace;
use crate::wire::cert::CertError;
use crate::wire::frame::{Code, Login, Refusal, Request, ToClient, ToServer};
use crate::wire::name::Name;
use crate::wire::relay::{CLIENTS_MAX, Head};
use crate::wire::vouch::Pass;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Who is here through which server.
#[derive(Debug, Default)]
pub(super) struct Home {
    last: u64,
    guests: BTreeMap<SessionId, Guest>,
    by_client: BTreeMap<NodeId, BTreeMap<u64, SessionId>>,
    joined: Joined,
    pace: Pace,
    openings: Openings,
}

/// Logins lately: each costs some verifications, whether it holds or not.
#[derive(Debug)]
struct Openings {
    through: Attempts<NodeId>,
    /// Of one client through one server, so that it does not use up what all its server's clients have. The key is what the login
    /// claims: a server that makes keys up has only the one allowance for all of them.
    of: Attempts<(NodeId, PublicKey)>,
}

impl Default for Openings {
    fn default() -> Self {
        Self {
            through: Attempts::new(OPENINGS, OPENINGS_WINDOW),
            of: Attempts::new(OPENINGS_OF_ONE, OPENINGS_OF_ONE_WINDOW),
        }
    }
}

impl Openings {
    fn exhausted(&self, node: NodeId, now: Duration) -> bool {
        self.through.exhausted(&node, now)
    }

    /// Whether the client has allowance left, if the login says who it is. Only then its server's is used.
    fn take(&mut self, node: NodeId, client: Option<PublicKey>, now: Duration) -> bool {
        client.is_none_or(|client| self.of.take((node, client), now)) && self.through.take(node, now)
    }
}

#[derive(Debug, Clone, Copy)]
struct Guest {
    node: NodeId,
    client: u64,
    key: PublicKey,
}

/// One frame, and all those that it is for so far.
#[derive(Debug, Default)]
struct Joined {
    frame: Option<Arc<[u8]>>,
    to: BTreeMap<NodeId, Vec<u64>>,
}

/// A server says that a client comes.
pub(super) struct Opening {
    pub(super) node: NodeId,
    /// The server's.
    pub(super) key: PublicKey,
    /// The server's.
    pub(super) name: Name,
    pub(super) client: u64,
    pub(super) source: [u8; 16],
}

impl Home {
    pub(super) fn len(&self) -> usize {
        self.guests.len()
    }

    fn find(&self, node: NodeId, client: u64) -> Option<SessionId> {
        self.by_client.get(&node)?.get(&client).copied()
    }

    pub(super) fn is_here(&self, session: SessionId) -> bool {
        self.guests.contains_key(&session)
    }

    fn through(&self, node: NodeId) -> usize {
        self.by_client.get(&node).map_or(0, BTreeMap::len)
    }

    fn insert(&mut self, guest: Guest) -> SessionId {
        let session = GUESTS | self.last;
        self.last += 1;
        self.guests.insert(session, guest);
        self.by_client.entry(guest.node).or_default().insert(guest.client, session);
        session
    }

    fn remove(&mut self, session: SessionId) -> Option<Guest> {
        let guest = self.guests.remove(&session)?;
        if let Some(clients) = self.by_client.get_mut(&guest.node) {
            clients.remove(&guest.client);
        }
        Some(guest)
    }

    /// Forgets all sessions through a server; they are to be ended.
    pub(super) fn all_of(&mut self, node: NodeId) -> Vec<(u64, SessionId)> {
        let sessions: Vec<(u64, SessionId)> = self.by_client.remove(&node).into_iter().flatten().collect();
        for (_, session) in &sessions {
            self.guests.remove(session);
        }
        self.joined.to.remove(&node);
        sessions
    }
}

impl Relay {
    /// The core says something to a guest. The same frame to many leaves as one.
    pub(in crate::server) fn say(&mut self, session: SessionId, frame: Arc<[u8]>) {
        let Some(guest) = self.home.guests.get(&session).copied() else { return };
        if self.home.joined.frame.as_ref().is_some_and(|joined| !Arc::ptr_eq(joined, &frame)) {
            self.flush();
        }
        self.home.joined.frame = Some(frame);
        self.home.joined.to.entry(guest.node).or_default().push(guest.client);
    }

    /// Sends what was joined so far; whether there was something.
    pub(in crate::server) fn flush(&mut self) -> bool {
        let Joined { frame, mut to } = std::mem::take(&mut self.home.joined);
        let Some(frame) = frame else { return false };
        while !to.is_empty() {
            let mut targets = Vec::new();
            to.retain(|node, clients| {
                let rest = clients.split_off(clients.len().min(CLIENTS_MAX));
                let clients = std::mem::replace(clients, rest);
                targets.push((*node, Head::ToClients { clients }.to_bytes()));
                true
            });
            to.retain(|_, clients| !clients.is_empty());
            self.counts.sent += targets.len() as u64;
            self.acts.push_back(Act::Mesh(targets, Arc::clone(&frame)));
        }
        true
    }

    /// The core has ended a guest's session.
    pub(in crate::server) fn closed(&mut self, session: SessionId) {
        self.flush();
        if let Some(Guest { node, client, .. }) = self.home.remove(session) {
            self.way(Way::NotIn { node, client });
            self.send_one(node, &Head::Closed { client }, Arc::from([]));
        }
    }

    pub(super) fn opened(&mut self, opening: Opening, body: &[u8]) {
        let Opening { node, key, name, client, source } = opening;
        if self.home.find(node, client).is_some() {
            self.counts.ignored += 1;
            return;
        }
        let (login, pass) = match self.invited(node, &key, body) {
            Ok(invited) => invited,
            Err(refusal) => return self.turn_away(node, client, refusal),
        };
        let session = self.home.insert(Guest { node, client, key: pass.client() });
        let addr = stand_in(node, &source);
        self.way(Way::In { node, client, session, key: pass.client() });
        self.tell_core(Input::Connected { session, key: pass.client(), addr, via: Some(name) });
        self.tell_core(Input::Frame(session, ToServer::Login(login)));
    }

    /// The login and the client's word that it comes through the server with this key.
    fn invited(&mut self, node: NodeId, key: &PublicKey, body: &[u8]) -> Result<(Login, Pass), Refusal> {
        let full = self.home.len() >= self.caps.guests || self.home.through(node) >= self.caps.guests_of_one;
        if full || self.home.openings.exhausted(node, self.now) {
            return Err(too_many());
        }
        let said = invitation(body);
        let client = said.as_ref().ok().map(|(_, pass)| pass.client());
        if !self.home.openings.take(node, client, self.now) {
            return Err(too_many());
        }
        let (login, pass) = said?;
        pass.check(key, self.wall_ms).map_err(|error| match error {
            CertError::Expired => bad_pass("has expired"),
            CertError::Signature | CertError::Malformed(_) => bad_pass("is not for that server"),
        })?;
        if pass.instance != login.instance {
            return Err(bad_pass("is another process's"));
        }
        Ok((login, pass))
    }

    fn turn_away(&mut self, node: NodeId, client: u64, refusal: Refusal) {
        self.counts.refused += 1;
        let body = ToClient::Refused(refusal).to_bytes().into();
        self.send_one(node, &Head::ToClients { clients: vec![client] }, body);
        self.send_one(node, &Head::Closed { client }, Arc::from([]));
    }

    pub(super) fn client_frame(&mut self, from: NodeId, client: u64, body: &[u8]) {
        let Some(session) = self.home.find(from, client) else {
            self.counts.ignored += 1;
            return;
        };
        let keeps_to_the_rules = match ToServer::from_bytes(body, FRAME_MAX) {
            Err(_) | Ok(ToServer::At { .. }) => false,
            Ok(frame @ ToServer::Request { body: Request::Log { .. }, .. }) => self.read(from, session, frame),
            Ok(frame) if self.floods(session, &frame, body.len()) => false,
            Ok(frame) => {
                self.tell_core(Input::Frame(session, frame));
                true
            }
        };
        if !keeps_to_the_rules {
            self.closed(session);
            self.tell_core(Input::Disconnected(session));
        }
    }

    pub(super) fn client_gone(&mut self, from: NodeId, client: u64) {
        match self.home.find(from, client) {
            Some(session) => {
                self.home.remove(session);
                self.way(Way::NotIn { node: from, client });
                self.tell_core(Input::Disconnected(session));
            }
            None => self.counts.ignored += 1,
        }
    }

    /// Its server slows a client down as we do with our own. What has waited on the way comes all at once, but not more than that.
    fn floods(&mut self, session: SessionId, frame: &ToServer, bytes: usize) -> bool {
        let (ToServer::Request { body: Request::Post { .. }, .. }, Some(guest)) =
            (frame, self.home.guests.get(&session))
        else {
            return false;
        };
        self.home.pace.post(guest.key, bytes, 1, self.now).wait > BEHIND_MAX
    }
}

/// What a login says; nothing of it is believed yet.
fn invitation(body: &[u8]) -> Result<(Login, Pass), Refusal> {
    let Ok(ToServer::Login(login)) = ToServer::from_bytes(body, FRAME_MAX_BEFORE_LOGIN) else {
        return Err(Refusal::new(Code::Malformed, "not a login"));
    };
    let pass = login.pass.as_ref().ok_or_else(|| bad_pass("is missing"))?;
    let pass = Pass::from_bytes(pass).map_err(|_| bad_pass("is none"))?;
    Ok((login, pass))
}

fn bad_pass(why: &str) -> Refusal {
    Refusal::new(Code::BadPass, format!("the pass for the server on the way {why}"))
}

fn too_many() -> Refusal {
    Refusal::new(Code::TooMany, "too many people of other servers are here or come; try again later")
}

/// An address (RFC 4193) for all clients of one network at one server, for limits by address. A server that makes networks up has not
/// more than 256 of them.
fn stand_in(node: NodeId, source: &[u8; 16]) -> SocketAddr {
    let bucket = Sha256::digest(source).first().copied().unwrap_or_default();
    let mut ip = [0; 16];
    ip.iter_mut().skip(1).zip(node.0).take(6).for_each(|(to, from)| *to = from);
    ip[0] = 0xfd;
    ip[7] = bucket;
    SocketAddr::new(Ipv6Addr::from(ip).into(), 0)
}

/// Logins through one other server in [`OPENINGS_WINDOW`].
const OPENINGS: u32 = 1000;
const OPENINGS_WINDOW: Duration = Duration::from_secs(1);
/// Of those, of one client in [`OPENINGS_OF_ONE_WINDOW`].
const OPENINGS_OF_ONE: u32 = 32;
const OPENINGS_OF_ONE_WINDOW: Duration = Duration::from_secs(2);
/// A guest may be so far ahead of what it may post: what was held for it on the way comes in one go.
const BEHIND_MAX: Duration = Duration::from_secs(30);
