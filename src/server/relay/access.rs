//! Our own clients at other servers: what they say there, and what is said to them.

use super::{Act, Relay, veiled};
use crate::crypto::identity::PublicKey;
use crate::limits::{AWAY_SERVERS, FRAME_MAX, FRAME_MAX_BEFORE_LOGIN};
use crate::mesh::{DownReason, NodeId};
use crate::server::attempts::{Allowance, Taken};
use crate::server::io::{SessionId, Way};
use crate::wire::frame::{Away, ToClient, ToServer};
use crate::wire::name::Name;
use crate::wire::relay::Head;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Who is logged in here, and where else it has sessions.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// The number that was given last; none is given twice.
    last: u64,
    sessions: BTreeMap<SessionId, BTreeMap<NodeId, u64>>,
    clients: BTreeMap<u64, (SessionId, NodeId)>,
    logins: Logins,
}

/// Logins elsewhere lately: each home takes only so many through us, and one of ours must not use them up for the others.
#[derive(Debug)]
struct Logins(Allowance);

impl Default for Logins {
    fn default() -> Self {
        Self(Allowance::new(LOGINS, LOGINS_OF_SOURCE, LOGINS_WINDOW))
    }
}

impl Access {
    pub(super) fn open(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }

    /// The session of a client at a server, if it is that server's to speak of.
    fn of(&self, node: NodeId, client: u64) -> Option<SessionId> {
        self.clients.get(&client).filter(|(_, at)| *at == node).map(|(session, _)| *session)
    }

    /// All that have a session at a server.
    fn at(&self, node: NodeId) -> Vec<u64> {
        self.clients.iter().filter(|(_, (_, at))| *at == node).map(|(client, _)| *client).collect()
    }

    fn close(&mut self, client: u64) -> Option<SessionId> {
        let (session, node) = self.clients.remove(&client)?;
        if let Some(servers) = self.sessions.get_mut(&session) {
            servers.remove(&node);
        }
        Some(session)
    }
}

impl Relay {
    /// A client of ours has logged in.
    pub(in crate::server) fn admitted(&mut self, session: SessionId) {
        self.access.sessions.insert(session, BTreeMap::new());
        self.tell_servers_to(session);
    }

    /// A client of ours is gone, here and so everywhere.
    pub(in crate::server) fn left(&mut self, session: SessionId) {
        for (node, client) in self.access.sessions.remove(&session).into_iter().flatten() {
            self.access.clients.remove(&client);
            self.way(Way::NotOut { client });
            self.send_one(node, &Head::Gone { client }, Arc::from([]));
        }
    }

    /// A client of ours has an encoded frame for another server. Each login is answered by that server, or by one `Away`; whatever
    /// else is said where no session is open was on its way when the session ended.
    pub(in crate::server) fn forward(
        &mut self,
        session: SessionId,
        (key, ip): (PublicKey, IpAddr),
        server: &Name,
        frame: Arc<[u8]>,
    ) {
        let Some(servers) = self.access.sessions.get_mut(&session) else { return };
        let node = self.by_name.get(server).copied();
        if let Some(node) = node
            && let Some(client) = servers.get(&node).copied()
        {
            return self.send_one(node, &Head::Frame { client }, frame);
        }
        if frame.len() > FRAME_MAX_BEFORE_LOGIN || !ToServer::is_login(&frame) {
            return;
        }
        let full = servers.len() >= AWAY_SERVERS;
        let in_sight = node.filter(|node| !self.sight.is_lost(node));
        let (Some(node), false) = (in_sight, full) else {
            let why = if full || *server == self.config.name { Away::Refused } else { Away::Unreachable };
            return self.away(session, server.clone(), why);
        };
        if self.access.logins.0.take(key, ip, 1, self.now) == Taken::No {
            return self.away(session, server.clone(), Away::Refused);
        }
        self.access.last += 1;
        let client = self.access.last;
        servers.insert(node, client);
        self.access.clients.insert(client, (session, node));
        self.way(Way::Out { session, server: server.clone(), node, client });
        let source = veiled(&self.config.secret, node, ip).into();
        self.send_one(node, &Head::Open { client, source }, frame);
    }

    /// A client of ours does not take what a server says to it, so that its link might break over it.
    pub(in crate::server) fn too_slow(&mut self, client: u64) {
        let Some((_, node)) = self.access.clients.get(&client).copied() else { return };
        self.send_one(node, &Head::Gone { client }, Arc::from([]));
        self.end(node, client, Away::Reset);
    }

    pub(super) fn told(&mut self, from: NodeId, clients: &[u64], body: &[u8]) {
        let Some(server) = self.nodes.get(&from).map(|node| node.name.clone()) else { return };
        // Whom a server names twice, it is said to once.
        let clients: BTreeSet<u64> = clients.iter().copied().collect();
        let too_long = body.len() > FRAME_MAX;
        let frame =
            if too_long { Vec::new() } else { ToClient::From { server, frame: body.to_vec().into() }.to_bytes() };
        let frame: Arc<[u8]> = frame.into();
        for client in clients {
            match self.access.of(from, client) {
                None => self.counts.ignored += 1,
                Some(_) if too_long => self.too_slow(client),
                Some(session) => self.acts.push_back(Act::From { session, client, frame: Arc::clone(&frame) }),
            }
        }
    }

    pub(super) fn closed_there(&mut self, from: NodeId, client: u64) {
        match self.access.of(from, client) {
            Some(_) => self.end(from, client, Away::Closed),
            None => self.counts.ignored += 1,
        }
    }

    pub(super) fn node_down(&mut self, node: NodeId, name: &Name, why: DownReason) {
        let why = match why {
            DownReason::Unreachable | DownReason::NameTaken => Away::Unreachable,
            DownReason::Restarted | DownReason::Overflow | DownReason::Reset => Away::Reset,
        };
        for client in self.access.at(node) {
            if let Some(session) = self.access.close(client) {
                self.way(Way::NotOut { client });
                self.away(session, name.clone(), why);
            }
        }
    }

    /// Ends all sessions at a server that may still know of them.
    pub(super) fn leave(&mut self, node: NodeId, why: Away) {
        for client in self.access.at(node) {
            self.send_one(node, &Head::Gone { client }, Arc::from([]));
            self.end(node, client, why);
        }
    }

    fn end(&mut self, node: NodeId, client: u64, why: Away) {
        let name = self.nodes.get(&node).map(|node| node.name.clone());
        self.way(Way::NotOut { client });
        if let (Some(session), Some(name)) = (self.access.close(client), name) {
            self.away(session, name, why);
        }
    }

    fn away(&mut self, session: SessionId, server: Name, why: Away) {
        let frame = ToClient::Away { server, why }.to_bytes().into();
        self.acts.push_back(Act::Client(session, frame));
    }
}

/// Logins of one client at other servers in [`LOGINS_WINDOW`]: twice as many as it may have sessions.
const LOGINS: u32 = 128;
/// The same of all clients of one address: a fifth of what one home takes through us.
const LOGINS_OF_SOURCE: u32 = 2000;
const LOGINS_WINDOW: Duration = Duration::from_secs(10);
