//! Relayed datagrams that pass through the mesh: from a client whose UDP does not get through, by its access server, to the server that
//! has its leg, and back. IO.
//!
//! A parcel names a client by the number that it has between the two servers. It counts only from the server through which that client
//! has a session, as it has signed; so a server speaks for its own clients, for nobody else's, and for none that has left.

use super::io::{SessionId, Way};
use super::udp::{Legs, Line};
use crate::crypto::identity::PublicKey;
use crate::limits::{RELAY_LINK_BATCH, RELAY_LINK_BYTES};
use crate::mesh::NodeId;
use crate::mesh::run::Parcel;
use crate::net::queue::FrameSender;
use crate::wire::frame::{Push, ToClient};
use crate::wire::leg::LinkData;
use crate::wire::name::Name;
use crate::wire::relay::Passing;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Who has a session where. As many as the core has sessions.
#[derive(Default)]
pub(super) struct Ways {
    // Clients of other servers here: by their server, and their number there.
    guests: HashMap<(NodeId, u64), (SessionId, PublicKey)>,
    // Our clients elsewhere, by their number, ...
    away: HashMap<u64, Away>,
    // ... and their numbers.
    numbers: HashMap<(SessionId, Name), u64>,
}

struct Away {
    session: SessionId,
    server: Name,
    node: NodeId,
    // Once it has sent something.
    back: Option<(FrameSender, PublicKey)>,
}

impl Ways {
    fn take(&mut self, way: Way) {
        match way {
            Way::In { node, client, session, key } => _ = self.guests.insert((node, client), (session, key)),
            Way::NotIn { node, client } => _ = self.guests.remove(&(node, client)),
            Way::Out { session, server, node, client } => {
                self.numbers.insert((session, server.clone()), client);
                self.away.insert(client, Away { session, server, node, back: None });
            }
            Way::NotOut { client } => {
                if let Some(Away { session, server, .. }) = self.away.remove(&client) {
                    // A newer one may be there.
                    let key = (session, server);
                    if self.numbers.get(&key) == Some(&client) {
                        self.numbers.remove(&key);
                    }
                }
            }
        }
    }

    /// Where what a client of ours says goes, if it has a session at that server.
    fn out(&mut self, session: SessionId, server: Name, back: (&FrameSender, PublicKey)) -> Option<(NodeId, u64)> {
        let client = *self.numbers.get(&(session, server))?;
        let away = self.away.get_mut(&client)?;
        away.back.get_or_insert_with(|| (back.0.clone(), back.1));
        Some((away.node, client))
    }

    /// Where what a server says to a client of ours goes, if it has a session there and speaks itself.
    fn back(&self, node: NodeId, client: u64) -> Option<(FrameSender, PublicKey, Name)> {
        let away = self.away.get(&client).filter(|away| away.node == node)?;
        let (sender, key) = away.back.clone()?;
        Some((sender, key, away.server.clone()))
    }
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (guests, away) = (self.guests.len(), self.away.len());
        f.debug_struct("Ways").field("guests", &guests).field("away", &away).finish()
    }
}

impl Legs {
    /// A way has begun or ended.
    pub(super) fn way(&self, way: Way) {
        self.ways().take(way);
    }

    /// Datagrams of a client of ours for its leg at another server. It is charged here too: nobody has more passed through us than over us.
    pub(super) fn pass_out(
        &self,
        (user, session): (PublicKey, SessionId),
        sender: &FrameSender,
        server: Name,
        data: LinkData,
    ) {
        if data.datagrams.len() > RELAY_LINK_BATCH {
            return;
        }
        let Some((node, client)) = self.ways().out(session, server, (sender, user)) else {
            return self.with(|forwarding, _| forwarding.refuse());
        };
        let cost = data.cost() + PARCEL_COST;
        if self.with(|forwarding, now| forwarding.transit(now, user, cost)) {
            self.parcel(node, &Passing::ToHome { client, data: LinkData { server: None, ..data } });
        }
    }

    /// To a server of the mesh; what finds no room is lost.
    pub(super) fn parcel(&self, node: NodeId, passing: &Passing) {
        if let Some(mesh) = &self.mesh {
            mesh.parcel(Parcel { peer: node, body: passing.to_bytes().into() });
        }
    }

    /// What another server passes on.
    pub(super) fn came_by_mesh(&self, from: NodeId, body: &[u8]) {
        let Ok(passing) = Passing::from_bytes(body) else {
            return self.with(|forwarding, _| forwarding.refuse());
        };
        match passing {
            Passing::ToHome { client, data } => match self.guest(from, client) {
                Some((session, key)) => self.came((key, session), Line::Mesh { node: from, client }, &data),
                None => self.with(|forwarding, _| forwarding.refuse()),
            },
            Passing::ToAccess { client, data } => self.pass_in(from, client, data),
        }
    }

    fn guest(&self, node: NodeId, client: u64) -> Option<(SessionId, PublicKey)> {
        self.ways().guests.get(&(node, client)).copied()
    }

    fn pass_in(&self, from: NodeId, client: u64, data: LinkData) {
        let back = self.ways().back(from, client).filter(|_| data.datagrams.len() <= RELAY_LINK_BATCH);
        let Some((sender, user, server)) = back else {
            return self.with(|forwarding, _| forwarding.refuse());
        };
        let cost = data.cost() + PARCEL_COST;
        let data = LinkData { server: Some(server), ..data };
        let frame: Arc<[u8]> = ToClient::Push(Push::RelayData(data)).to_bytes().into();
        // What a busy link does not take is not charged.
        if sender.has_room_behind(frame.len(), RELAY_LINK_BYTES)
            && self.with(|forwarding, now| forwarding.transit(now, user, cost))
        {
            // A client that is gone is told of as such by its connection.
            sender.send_behind(frame, RELAY_LINK_BYTES);
        }
    }
}

/// What stands around the datagrams of a parcel, bytes; without it empty ones would cost nothing.
const PARCEL_COST: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::Identity;
    use crate::limits::SESSION_QUEUE_BYTES;
    use crate::net::queue::frame_queue;
    use crate::server::forwarding::RelayLimits;
    use crate::wire::leg::LegId;
    use std::time::Duration;

    const ALICE: u8 = 1;
    const BOB: u8 = 2;

    fn key(of: u8) -> PublicKey {
        Identity::from_seed(&[of; 32]).public()
    }

    fn server(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn batch(leg: LegId) -> LinkData {
        LinkData::new(leg, std::iter::once(&[9; 100][..]))
    }

    /// Alice is here through server 1, Bob through server 2, each with number 5 there and a leg of one transfer.
    fn guests() -> (Legs, LegId, LegId) {
        let legs = Legs::new(RelayLimits::default(), Vec::new());
        for who in [ALICE, BOB] {
            legs.way(Way::In { node: server(who), client: 5, session: 100 + u64::from(who), key: key(who) });
        }
        let (a, b) = ([1; 32], [2; 32]);
        let alice = legs.register(key(ALICE), (a, b)).unwrap().0;
        let bob = legs.register(key(BOB), (b, a)).unwrap().0;
        (legs, alice, bob)
    }

    fn says(legs: &Legs, from: u8, client: u64, leg: LegId) -> (u64, u64) {
        let before = legs.counts();
        legs.came_by_mesh(server(from), &Passing::ToHome { client, data: batch(leg) }.to_bytes());
        let after = legs.counts();
        (after.bytes - before.bytes, after.refused - before.refused)
    }

    #[test]
    fn a_server_speaks_for_its_own_clients_legs_and_for_no_others() {
        let (legs, alice, bob) = guests();
        assert_eq!(says(&legs, ALICE, 5, alice), (0, 0), "the other side is nowhere yet");
        assert_eq!(says(&legs, BOB, 5, bob), (109, 0));
        assert_eq!(says(&legs, ALICE, 5, alice), (109, 0));
        for (from, client, leg, what) in [
            (ALICE, 5, bob, "another's leg"),
            (BOB, 5, alice, "another's leg"),
            (BOB, 6, bob, "a client that is not there"),
            (3, 5, alice, "a server without clients here"),
            (ALICE, 5, [0; 8], "no leg"),
        ] {
            assert_eq!(says(&legs, from, client, leg), (0, 1), "{what}");
        }
        assert_eq!(says(&legs, BOB, 5, bob), (109, 0), "nothing of it has moved a leg");
        legs.way(Way::NotIn { node: server(BOB), client: 5 });
        assert_eq!(says(&legs, BOB, 5, bob), (0, 1), "one that has left");
        legs.came_by_mesh(server(ALICE), b"no parcel of ours");
        let refused = legs.counts().refused;
        let ways = legs.ways();
        assert_eq!((refused, ways.guests.len(), ways.away.len()), (7, 1, 0), "counted, and nothing is kept of it");
    }

    #[tokio::test]
    async fn a_client_hears_the_servers_at_which_it_has_a_session_once_it_has_spoken() {
        let (near, _far) = tokio::io::duplex(64);
        let (sender, _writing) = frame_queue(near, SESSION_QUEUE_BYTES, Duration::from_secs(1));
        let legs = Legs::new(RelayLimits::default(), Vec::new());
        let name = |n: u8| Name::parse(&format!("s{n}")).unwrap();
        let answer = |from: u8, client: u64| {
            let before = (legs.counts(), sender.waiting());
            legs.came_by_mesh(server(from), &Passing::ToAccess { client, data: batch([7; 8]) }.to_bytes());
            let (counts, waiting) = (legs.counts(), sender.waiting());
            (counts.refused - before.0.refused, counts.bytes > before.0.bytes, waiting > before.1)
        };
        let unheard = (1, false, false);
        legs.way(Way::Out { session: 3, server: name(1), node: server(1), client: 8 });
        assert_eq!(answer(1, 8), unheard, "it has not said anything there");
        let say =
            |to: u8| legs.came_by_link(key(ALICE), 3, &sender, LinkData { server: Some(name(to)), ..batch([7; 8]) });
        say(2);
        assert_eq!(legs.counts().refused, 2, "nor has it a session there");
        say(1);
        assert_eq!(legs.counts().bytes, 100 + 9 + PARCEL_COST as u64, "it is charged here as well");
        assert_eq!(answer(1, 8), (0, true, true));
        assert_eq!(answer(2, 8), unheard, "another server in that one's name");
        assert_eq!(answer(1, 9), unheard);
        let each = sender.waiting();
        while sender.waiting() + each <= RELAY_LINK_BYTES {
            assert_eq!(answer(1, 8), (0, true, true));
        }
        assert_eq!(answer(1, 8), (0, false, false), "a busy link gets no more of it");
        legs.way(Way::NotOut { client: 8 });
        assert_eq!(answer(1, 8), unheard);
        let ways = legs.ways();
        assert!(ways.away.is_empty() && ways.numbers.is_empty());
    }
}
