//! Our legs at servers that pass datagrams on: bound and kept bound, and known to channels by addresses that exist nowhere else.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::limits::{RELAY_BIND_AGAIN, RELAY_BIND_EVERY, RELAY_BINDS_IN_VAIN};
use crate::wire::id::TransferId;
use crate::wire::leg::{self, BIND_LEN, LegDatagram, LegId, LegKey, LinkData, RELAYED_HEAD, relayed_head};
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    // Of the newest bind, of the newest that was answered, and what the server wants the next one to be.
    counter: u64,
    answered: u64,
    wanted: Option<u64>,
    // Binds since the last answer.
    unanswered: u32,
    // The address in use has answered; bytes that went to some that had not.
    proven: bool,
    spent: usize,
    // It has just been.
    opened: bool,
    next: Duration,
    // UDP does not get through.
    over_link: bool,
    // The link does: something has come over it.
    by_link: bool,
    // UDP got through once, to this leg or to one before it.
    reached: bool,
}

impl Legs {
    /// From now on binds a leg, in the place of one that the session may have. Gives the address by which channels know whichever leg the
    /// session has: to them it is the same way. `in_vain`: UDP seems to get through to no server, so the link is tried first.
    pub(super) fn add(&mut self, now: Duration, ticket: Ticket, in_vain: bool) -> SocketAddr {
        let alias = alias(ticket.transfer);
        let before = self.0.iter().position(|leg| leg.ticket.transfer == ticket.transfer);
        let before = before.map(|at| self.0.swap_remove(at)).filter(|leg| leg.ticket.server == ticket.server);
        // What never got through does not now; what did may have met a leg that was over, or a server that was away.
        let over_link = in_vain || before.as_ref().is_some_and(|leg| leg.over_link && !leg.reached);
        let reached = before.is_some_and(|leg| leg.reached);
        self.0.push(Leg {
            ticket,
            at: 0,
            counter: 0,
            answered: 0,
            wanted: None,
            unanswered: 0,
            proven: false,
            spent: 0,
            opened: false,
            next: now,
            over_link,
            by_link: false,
            reached,
        });
        alias
    }

    /// Forgets those whose sessions are over.
    pub(super) fn keep(&mut self, mut is_live: impl FnMut(TransferId) -> bool) {
        self.0.retain(|leg| is_live(leg.ticket.transfer));
    }

    /// What is due now.
    pub(super) fn poll(&mut self, now: Duration) -> Option<Due> {
        let leg = self.0.iter_mut().find(|leg| leg.next <= now)?;
        if let Some(wanted) = leg.wanted.take() {
            return leg.bind(now, wanted);
        }
        let was_over_link = leg.over_link;
        leg.over_link |= leg.ticket.addrs.is_empty() || leg.unanswered >= RELAY_BINDS_IN_VAIN;
        // As long as nothing comes over the link either, UDP is tried in between.
        let certain = leg.by_link || leg.ticket.addrs.is_empty();
        if leg.over_link && (certain || !was_over_link || leg.unanswered % 2 == 0) {
            leg.unanswered = leg.unanswered.saturating_add(u32::from(!certain));
            leg.next = now + if certain { RELAY_BIND_EVERY } else { RELAY_BIND_AGAIN };
            return Some(Due::Link(leg.ticket.server.clone(), leg.ticket.leg));
        }
        if leg.unanswered >= TRIES || leg.counter == u64::from(leg.unanswered) {
            // Not one that has ever answered, or it has fallen silent: the next address.
            let next = usize::try_from(leg.counter).unwrap_or(0) % leg.ticket.addrs.len();
            leg.proven &= next == leg.at;
            leg.at = next;
        }
        let counter = leg.counter.saturating_add(1);
        leg.bind(now, counter)
    }

    /// A session whose leg has just been bound where it was not, and the leg's address: what was sent there before is lost.
    pub(super) fn take_opened(&mut self) -> Option<(TransferId, SocketAddr)> {
        let leg = self.0.iter_mut().find(|leg| leg.opened)?;
        leg.opened = false;
        Some((leg.ticket.transfer, alias(leg.ticket.transfer)))
    }

    /// When [`Self::poll`] has something.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0.iter().map(|leg| leg.next).min()
    }

    /// Where `len` bytes for this address really go; `None` where the leg is gone, and where these are too many for an address of the
    /// server that has not answered: whoever has that would be flooded.
    pub(super) fn way(&mut self, alias: SocketAddr, len: usize) -> Option<Way> {
        let leg = self.0.iter_mut().find(|leg| self::alias(leg.ticket.transfer) == alias)?;
        if leg.over_link {
            return Some(Way::Link(leg.ticket.server.clone(), leg.ticket.leg));
        }
        if !leg.proven {
            leg.spent = leg.spent.checked_add(len).filter(|spent| *spent <= UNPROVEN)?;
        }
        Some(Way::Udp(leg.server()?, relayed_head(leg.ticket.leg)))
    }

    /// The address by which channels know the leg of ours that something came for over the link.
    pub(super) fn at_link(&mut self, data: &LinkData) -> Option<SocketAddr> {
        let ours = |leg: &&mut Leg| leg.ticket.leg == *data.leg && data.server.as_ref() == Some(&leg.ticket.server);
        let leg = self.0.iter_mut().filter(|leg| leg.over_link).find(ours)?;
        leg.by_link = true;
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
                // One answer counts once, or who repeats it could keep us from ever asking again.
                let fresh = |leg: &Leg| leg.answered < counter && counter <= leg.counter;
                let leg = self.0.iter_mut().find(|leg| leg.ticket.leg == id && fresh(leg))?;
                let stays = leg.over_link && leg.by_link;
                if leg.server() == Some(from) && leg::is_genuine(datagram, &leg.ticket.key) && !stays {
                    leg.reached = true;
                    // What is on its way over the link still takes the leg back there: it is bound again soon.
                    let again = if leg.over_link { RELAY_BIND_AGAIN } else { RELAY_BIND_EVERY };
                    (leg.unanswered, leg.over_link, leg.next) = (0, false, now + again);
                    leg.opened |= !leg.proven;
                    (leg.answered, leg.proven, leg.spent) = (counter, true, 0);
                }
                None
            }
            LegDatagram::Prove(id, counter) => {
                let leg = self.0.iter_mut().find(|leg| leg.ticket.leg == id && leg.counter < counter)?;
                let stays = leg.over_link && leg.by_link;
                if leg.server() == Some(from) && leg::is_genuine(datagram, &leg.ticket.key) && !stays {
                    (leg.wanted, leg.next) = (Some(counter), now);
                }
                None
            }
            LegDatagram::Bind(..) => None,
        }
    }
}

impl Leg {
    fn bind(&mut self, now: Duration, counter: u64) -> Option<Due> {
        self.counter = counter;
        self.unanswered = self.unanswered.saturating_add(1);
        self.next = now + RELAY_BIND_AGAIN * if self.unanswered > TRIES * 4 { 8 } else { 1 };
        Some(Due::Bind(self.server()?, leg::bind(self.ticket.leg, self.counter, &self.ticket.key)))
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
/// Bytes that addresses get which do not answer: the first challenges of a channel, which need not wait for the answer then.
const UNPROVEN: usize = 8 * 1024;

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
        Ticket { transfer: Id([1; 16]), server: Name::parse("s1").unwrap(), addrs, leg: [7; 8], key }
    }

    fn server_name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// What came over the link.
    fn came(server: &str) -> LinkData {
        LinkData { server: Some(server_name(server)), ..LinkData::new([7; 8], std::iter::empty()) }
    }

    /// The bind that is due.
    fn bind(legs: &mut Legs, now: Duration) -> (SocketAddr, [u8; BIND_LEN]) {
        match legs.poll(now) {
            Some(Due::Bind(to, bind)) => (to, bind),
            other => panic!("{other:?}"),
        }
    }

    fn server(legs: &mut Legs, alias: SocketAddr) -> SocketAddr {
        match legs.way(alias, 1) {
            Some(Way::Udp(server, _)) => server,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_udp_does_not_get_through_the_leg_goes_over_the_link_and_stays_there_if_anything_comes() {
        for heard in [false, true] {
            let mut legs = Legs::default();
            let alias = legs.add(NOW, ticket(vec![addr(1)]), false);
            let silent = (0..RELAY_BINDS_IN_VAIN).map(|n| bind(&mut legs, NOW + RELAY_BIND_AGAIN * n)).count();
            assert_eq!(legs.at_link(&came("s1")), None, "not over the link yet");
            let mut now = NOW + RELAY_BIND_AGAIN * u32::try_from(silent).unwrap();
            let link = Way::Link(server_name("s1"), [7; 8]);
            assert!(matches!(legs.poll(now), Some(Due::Link(server, _)) if server.as_str() == "s1"));
            assert_eq!(legs.way(alias, 1), Some(link.clone()));
            assert_eq!(legs.at_link(&came("s2")), None, "another server has no word in it");
            if heard {
                assert_eq!(legs.at_link(&came("s1")), Some(alias));
            }
            now += RELAY_BIND_AGAIN;
            let tried = legs.poll(now);
            assert_eq!(matches!(tried, Some(Due::Bind(..))), !heard, "{tried:?}");
            let newest = if heard { 6 } else { 7 };
            legs.open(now, addr(1), &mut leg::bound([7; 8], newest, &LegKey::new([5; 32])).to_vec());
            let way = if heard { link } else { Way::Udp(addr(1), relayed_head([7; 8])) };
            assert_eq!(legs.way(alias, 1), Some(way));
        }
    }

    #[test]
    fn without_any_address_of_the_server_there_is_the_link_at_once() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(Vec::new()), false);
        assert!(matches!(legs.poll(NOW), Some(Due::Link(..))));
        assert!(legs.poll(NOW).is_none() && legs.at_link(&came("s1")) == Some(alias));
        assert_eq!(legs.deadline(), Some(NOW + RELAY_BIND_EVERY));
    }

    #[test]
    fn where_no_server_hears_our_udp_the_link_is_tried_first_and_udp_in_between() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1)]), true);
        assert_eq!(legs.poll(NOW), Some(Due::Link(server_name("s1"), [7; 8])));
        bind(&mut legs, NOW + RELAY_BIND_AGAIN);
        assert_eq!(legs.way(alias, 1), Some(Way::Link(server_name("s1"), [7; 8])));
        legs.open(NOW, addr(1), &mut leg::bound([7; 8], 1, &LegKey::new([5; 32])).to_vec());
        assert_eq!(server(&mut legs, alias), addr(1), "it does after all");
    }

    #[test]
    fn a_leg_is_bound_until_it_is_answered_and_then_kept() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1)]), false);
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
        assert_eq!((legs.deadline(), legs.way(alias, 1)), (None, None));
    }

    #[test]
    fn another_address_of_the_server_is_tried_where_the_first_is_silent() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1), addr(2)]), false);
        let tried: Vec<_> = (0..4).map(|n| bind(&mut legs, NOW + RELAY_BIND_AGAIN * n).0).collect();
        assert_eq!(tried, [addr(1), addr(2), addr(1), addr(2)]);
        let now = NOW + RELAY_BIND_AGAIN * 3;
        legs.open(now, addr(2), &mut leg::bound([7; 8], 4, &LegKey::new([5; 32])).to_vec());
        assert_eq!(bind(&mut legs, now + RELAY_BIND_EVERY).0, addr(2), "the one that answered");
        assert_eq!(server(&mut legs, alias), addr(2));
    }

    #[test]
    fn a_leg_in_the_place_of_one_that_died_is_the_same_way_and_goes_over_the_link_where_that_did() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1)]), false);
        (0..8).for_each(|n| drop(legs.poll(NOW + RELAY_BIND_AGAIN * n)));
        assert_eq!(legs.at_link(&came("s1")), Some(alias));
        let again = Ticket { leg: [8; 8], ..ticket(vec![addr(1)]) };
        assert_eq!(legs.add(NOW, again, false), alias);
        let new = LinkData { leg: [8; 8].into(), ..came("s1") };
        assert_eq!(legs.at_link(&came("s1")), None, "the leg that died");
        assert_eq!(legs.poll(NOW), Some(Due::Link(server_name("s1"), [8; 8])));
        assert_eq!(legs.way(alias, 1), Some(Way::Link(server_name("s1"), [8; 8])));
        assert_eq!(legs.at_link(&new), Some(alias));
    }

    #[test]
    fn an_address_is_proved_as_the_server_asks_for_it() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1), addr(2)]), false);
        assert_eq!(bind(&mut legs, NOW).0, addr(1));
        let key = LegKey::new([5; 32]);
        for (from, other) in [
            (addr(1), leg::prove([7; 8], 900, &LegKey::new([6; 32]))),
            (addr(2), leg::prove([7; 8], 900, &key)),
            (addr(1), leg::prove([7; 8], 1, &key)),
        ] {
            legs.open(NOW, from, &mut other.to_vec());
            assert_eq!(legs.poll(NOW), None);
        }
        legs.open(NOW, addr(1), &mut leg::prove([7; 8], 900, &key).to_vec());
        let (to, bound) = bind(&mut legs, NOW);
        assert_eq!((to, LegDatagram::decode(&bound)), (addr(1), Some(LegDatagram::Bind([7; 8], 900))));
        legs.open(NOW, addr(1), &mut leg::prove([7; 8], 900, &key).to_vec());
        assert_eq!(legs.poll(NOW), None, "once");
        assert_eq!(legs.take_opened(), None);
        legs.open(NOW, addr(1), &mut leg::bound([7; 8], 900, &key).to_vec());
        assert_eq!((legs.take_opened(), legs.take_opened()), (Some((Id([1; 16]), alias)), None));
        let (to, bound) = bind(&mut legs, NOW + RELAY_BIND_EVERY);
        assert_eq!((to, LegDatagram::decode(&bound)), (addr(1), Some(LegDatagram::Bind([7; 8], 901))));
        assert_eq!(server(&mut legs, alias), addr(1));
    }

    #[test]
    fn an_answer_counts_once_and_one_from_far_away_too() {
        let mut legs = Legs::default();
        legs.add(NOW, ticket(vec![addr(1)]), false);
        let binds: Vec<_> = (0..3).map(|n| bind(&mut legs, NOW + RELAY_BIND_AGAIN * n)).collect();
        assert_eq!(binds.len(), 3);
        let now = NOW + RELAY_BIND_AGAIN * 3;
        let mut first = leg::bound([7; 8], 1, &LegKey::new([5; 32]));
        legs.open(now, addr(1), &mut first.clone());
        assert_eq!(legs.deadline(), Some(now + RELAY_BIND_EVERY), "others are under way by then");
        legs.open(now + RELAY_BIND_EVERY / 2, addr(1), &mut first);
        assert_eq!(legs.deadline(), Some(now + RELAY_BIND_EVERY), "a repeated answer keeps nobody from asking");
    }

    #[test]
    fn an_address_of_the_server_that_has_not_answered_gets_little() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1), addr(2)]), false);
        let sent = |legs: &mut Legs| (0..1000).filter(|_| legs.way(alias, 1200).is_some()).count() * 1200;
        bind(&mut legs, NOW);
        let unproven = sent(&mut legs);
        assert!((1200..=UNPROVEN).contains(&unproven), "{unproven}");
        legs.open(NOW, addr(1), &mut leg::bound([7; 8], 1, &LegKey::new([5; 32])).to_vec());
        assert_eq!(sent(&mut legs), 1_200_000);
        while server(&mut legs, alias) == addr(1) {
            let now = legs.deadline().unwrap();
            legs.poll(now);
        }
        let unproven = sent(&mut legs);
        assert!(
            unproven <= UNPROVEN,
            "the server has fallen silent, and its other address may be anybody's: {unproven}"
        );
    }

    #[test]
    fn a_leg_in_the_place_of_one_whose_binds_were_answered_once_is_bound_again() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1)]), false);
        let _ = bind(&mut legs, NOW);
        legs.open(NOW, addr(1), &mut leg::bound([7; 8], 1, &LegKey::new([5; 32])).to_vec());
        // Asleep: it has ended at the server meanwhile.
        let now = NOW + Duration::from_secs(40);
        (0..8).for_each(|n| drop(legs.poll(now + RELAY_BIND_AGAIN * n)));
        assert_eq!(legs.way(alias, 1), Some(Way::Link(server_name("s1"), [7; 8])));
        for id in [8, 9] {
            legs.add(now, Ticket { leg: [id; 8], ..ticket(vec![addr(1)]) }, false);
            assert_eq!((bind(&mut legs, now).0, server(&mut legs, alias)), (addr(1), addr(1)));
            (0..8).for_each(|n| drop(legs.poll(now + RELAY_BIND_AGAIN * n)));
        }
    }

    #[test]
    fn only_the_server_speaks_for_the_peer() {
        let mut legs = Legs::default();
        let alias = legs.add(NOW, ticket(vec![addr(1)]), false);
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
