//! Our legs at servers that pass datagrams on: bound and kept bound, and known to channels by addresses that exist nowhere else.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::limits::{RELAY_BIND_AGAIN, RELAY_BIND_EVERY, RELAY_BINDS_IN_VAIN};
use crate::wire::id::TransferId;
use crate::wire::leg::{self, BIND_LEN, LegDatagram, LegId, LegKey, RELAYED_HEAD, relayed_head};
use crate::wire::name::Name;

/// What a server gave us for one session.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) transfer: TransferId,
    pub(super) server: Name,
    /// Where its UDP port may be reached; the first that answers is used.
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) leg: LegId,
    pub(super) key: LegKey,
    /// Whether it may go over the link.
    pub(super) linked: bool,
}

/// What keeps a leg bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A bind, and where it goes.
    Bind(SocketAddr, [u8; BIND_LEN]),
    /// A word over the link to this server.
    Link(Name, LegId),
}

/// Where what is for a leg really goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To a server, with this before it.
    Udp(SocketAddr, [u8; RELAYED_HEAD]),
    /// Over the link to this server.
    Link(Name, LegId),
}

/// All legs of one direction.
#[derive(Debug, Default)]
pub(super) struct Legs(Vec<Leg>);

#[derive(Debug)]
struct Leg {
    ticket: Ticket,
    // Which of its addresses is used.
    at: usize,
    // Binds so far, and those since the last answer.
    counter: u64,
    unanswered: u32,
    next: Duration,
    // UDP does not get through.
    over_link: bool,
}

impl Legs {
    /// From now on binds a leg, in the place of one that the session may have. Gives the address by which channels know whichever leg the
    /// session has: to them it is the same way.
    pub(super) fn add(&mut self, now: Duration, ticket: Ticket) -> SocketAddr {
        let alias = alias(ticket.transfer);
        let before = self.0.iter().position(|leg| leg.ticket.transfer == ticket.transfer);
        let before = before.map(|at| self.0.swap_remove(at)).filter(|leg| leg.ticket.server == ticket.server);
        // What did not get through a moment ago does not now.
        let over_link = ticket.linked && before.is_some_and(|leg| leg.over_link);
        self.0.push(Leg { ticket, at: 0, counter: 0, unanswered: 0, next: now, over_link });
        alias
    }

    /// Forgets those whose sessions are over.
    pub(super) fn keep(&mut self, mut is_live: impl FnMut(TransferId) -> bool) {
        self.0.retain(|leg| is_live(leg.ticket.transfer));
    }

    /// What is due now.
    pub(super) fn poll(&mut self, now: Duration) -> Option<Due> {
        let leg = self.0.iter_mut().find(|leg| leg.next <= now && leg.has_way())?;
        let in_vain = leg.ticket.addrs.is_empty() || leg.unanswered >= RELAY_BINDS_IN_VAIN;
        if leg.over_link || in_vain && leg.ticket.linked {
            (leg.over_link, leg.next) = (true, now + RELAY_BIND_EVERY);
            return Some(Due::Link(leg.ticket.server.clone(), leg.ticket.leg));
        }
        if leg.unanswered >= TRIES || leg.counter == u64::from(leg.unanswered) {
            // Not one that has ever answered, or it has fallen silent: the next address.
            leg.at = usize::try_from(leg.counter).unwrap_or(0) % leg.ticket.addrs.len();
        }
        leg.counter += 1;
        leg.unanswered = leg.unanswered.saturating_add(1);
        leg.next = now + RELAY_BIND_AGAIN * if leg.unanswered > TRIES * 4 { 8 } else { 1 };
        Some(Due::Bind(leg.server()?, leg::bind(leg.ticket.leg, leg.counter, &leg.ticket.key)))
    }

    /// When [`Self::poll`] has something.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0.iter().filter(|leg| leg.has_way()).map(|leg| leg.next).min()
    }

    /// Where what is for this address really goes; `None` where the leg is gone.
    pub(super) fn way(&self, alias: SocketAddr) -> Option<Way> {
        let leg = self.0.iter().find(|leg| self::alias(leg.ticket.transfer) == alias)?;
        Some(match leg.over_link {
            true => Way::Link(leg.ticket.server.clone(), leg.ticket.leg),
            false => Way::Udp(leg.server()?, relayed_head(leg.ticket.leg)),
        })
    }

    /// The address by which channels know a leg of ours that is at the link.
    pub(super) fn at_link(&self, leg: LegId) -> Option<SocketAddr> {
        let leg = self.0.iter().find(|known| known.over_link && known.ticket.leg == leg)?;
        Some(alias(leg.ticket.transfer))
    }

    /// A datagram that a server may have sent: what the peer said, and the address by which the channel knows it.
    pub(super) fn open<'d>(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &'d mut [u8],
    ) -> Option<(SocketAddr, &'d mut [u8])> {
        match LegDatagram::decode(datagram)? {
            LegDatagram::Relayed(id) => {
                let leg = self.0.iter().find(|leg| leg.ticket.leg == id && leg.server() == Some(from))?;
                Some((alias(leg.ticket.transfer), datagram.get_mut(RELAYED_HEAD..)?))
            }
            LegDatagram::Bound(id, counter) => {
                let leg = self.0.iter_mut().find(|leg| leg.ticket.leg == id && leg.counter == counter)?;
                if leg.server() == Some(from) && leg::is_genuine(datagram, &leg.ticket.key) {
                    (leg.unanswered, leg.next) = (0, now + RELAY_BIND_EVERY);
                }
                None
            }
            LegDatagram::Bind(..) => None,
        }
    }
}

impl Leg {
    fn has_way(&self) -> bool {
        self.ticket.linked || !self.ticket.addrs.is_empty()
    }

    fn server(&self) -> Option<SocketAddr> {
        self.ticket.addrs.get(self.at).copied()
    }
}

/// Whether an address stands for a leg: in the prefix whose packets every router drops (RFC 6666), so that no peer is there.
pub(super) fn is_alias(addr: SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V6(ip) if ip.octets().starts_with(&PREFIX))
}

/// Half of the session's id: whoever makes two that share it harms nobody but its own sessions.
fn alias(transfer: TransferId) -> SocketAddr {
    let mut octets = [0; 16];
    octets.iter_mut().zip(PREFIX.iter().chain(&transfer.0)).for_each(|(to, from)| *to = *from);
    (Ipv6Addr::from(octets), 1).into()
}

const PREFIX: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
/// Binds without an answer before another of the server's addresses is tried.
const TRIES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;

    const NOW: Duration = Duration::from_secs(9);

    fn addr(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn ticket(addrs: Vec<SocketAddr>) -> Ticket {
        let key = LegKey::new([5; 32]);
        Ticket { transfer: Id([1; 16]), server: Name::parse("s1").unwrap(), addrs, leg: [7; 8], key, linked: false }
    }

    /// The bind that is due.
    fn bind(legs: &mut Legs, now: Duration) -> (SocketAddr, [u8; BIND_LEN]) {
        match legs.poll(now) {
            Some(Due::Bind(to, bind)) => (to, bind),
            other => panic!("{other:?}"),
        }
    }

    fn server(legs: &Legs, alias: SocketAddr) -> SocketAddr {
        match legs.way(alias) {
            Some(Way::Udp(server, _)) => server,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_udp_does_not_get_through_the_leg_goes_over_the_link_if_that_leads_there() {
        for linked in [false, true] {
            let mut legs = Legs::default();
            let alias = legs.add(NOW, Ticket { linked, ..ticket(vec![addr(1)]) });
            let due: Vec<_> = (0..8).map(|n| legs.poll(NOW + RELAY_BIND_AGAIN * n)).collect();
            let binds = due.iter().flatten().filter(|due| matches!(due, Due::Bind(..))).count();
            let over = legs.way(alias) == Some(Way::Link(Name::parse("s1").unwrap(), [7; 8]));
            assert_eq!((over, binds == 8, legs.at_link([7; 8])), (linked, !linked, linked.then_some(alias)));
        }
    }

    #[test]
    fn a_leg_is_bound_until_it_is_answered_and_then_kept() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1)]));
        assert!(is_alias(alias) && !is_alias(addr(1)));
        let (to, bound) = bind(&mut legs, NOW);
        assert_eq!((to, LegDatagram::decode(&bound)), (addr(1), Some(LegDatagram::Bind([7; 8], 1))));
        assert_eq!(legs.poll(NOW), None);
        assert_eq!(legs.deadline(), Some(NOW + RELAY_BIND_AGAIN));
        for false_answer in [leg::bound([7; 8], 1, &LegKey::new([6; 32])), leg::bound([7; 8], 2, &LegKey::new([5; 32]))]
        {
            legs.open(NOW, addr(1), &mut false_answer.to_vec());
            assert_eq!(legs.deadline(), Some(NOW + RELAY_BIND_AGAIN));
        }
        legs.open(NOW, addr(1), &mut leg::bound([7; 8], 1, &LegKey::new([5; 32])).to_vec());
        assert_eq!(legs.deadline(), Some(NOW + RELAY_BIND_EVERY));
        legs.keep(|_| false);
        assert_eq!((legs.deadline(), legs.way(alias)), (None, None));
    }

    #[test]
    fn another_address_of_the_server_is_tried_where_the_first_is_silent() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1), addr(2)]));
        let tried: Vec<_> = (0..4).map(|n| bind(&mut legs, NOW + RELAY_BIND_AGAIN * n).0).collect();
        assert_eq!(tried, [addr(1), addr(2), addr(1), addr(2)]);
        let now = NOW + RELAY_BIND_AGAIN * 3;
        legs.open(now, addr(2), &mut leg::bound([7; 8], 4, &LegKey::new([5; 32])).to_vec());
        assert_eq!(bind(&mut legs, now + RELAY_BIND_EVERY).0, addr(2), "the one that answered");
        assert_eq!(server(&legs, alias), addr(2));
    }

    #[test]
    fn a_leg_in_the_place_of_one_that_died_is_the_same_way_and_goes_over_the_link_where_that_did() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, Ticket { linked: true, ..ticket(vec![addr(1)]) });
        (0..8).for_each(|n| drop(legs.poll(NOW + RELAY_BIND_AGAIN * n)));
        assert_eq!(legs.at_link([7; 8]), Some(alias));
        let again = Ticket { linked: true, leg: [8; 8], ..ticket(vec![addr(1)]) };
        assert_eq!(legs.add(NOW, again), alias);
        assert_eq!((legs.at_link([7; 8]), legs.at_link([8; 8])), (None, Some(alias)));
        assert_eq!(legs.poll(NOW), Some(Due::Link(Name::parse("s1").unwrap(), [8; 8])));
        assert_eq!(legs.way(alias), Some(Way::Link(Name::parse("s1").unwrap(), [8; 8])));
    }

    #[test]
    fn only_the_server_speaks_for_the_peer() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1)]));
        let mut said = [&relayed_head([7; 8])[..], b"sealed"].concat();
        assert_eq!(legs.open(NOW, addr(2), &mut said), None);
        assert_eq!(
            legs.open(NOW, addr(1), &mut said).map(|(from, bytes)| (from, bytes.to_vec())),
            Some((alias, b"sealed".to_vec()))
        );
        said[1] ^= 1;
        assert_eq!(legs.open(NOW, addr(1), &mut said), None);
    }
}
