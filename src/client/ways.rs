//! By which ways files went, and how soon: what `@me stats` and `@NAME ping` tell, and the line of a start.

use super::core::Core;
use super::event::{Event, Transfer, WayRow};
use super::problem::Problem;
use crate::net::candidates::is_private;
use crate::wire::id::TransferId;
use crate::wire::name::FullName;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How the datagrams of a session go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Within one network.
    Lan,
    /// Straight, and no router changes an address, as far as both sides' addresses tell.
    Direct,
    /// Straight, through routers that change addresses.
    Punched,
    /// Over a server.
    Relayed,
}

impl Way {
    /// The stable word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Direct => "direct",
            Self::Punched => "punched",
            Self::Relayed => "relayed",
        }
    }

    /// What a route is, as the file side tells it: the peer's address, or else a relay. `translated` says whether a router changes the
    /// IPv4 address of one of the two.
    fn of(route: &str, translated: bool) -> Self {
        match route.parse::<SocketAddr>() {
            Err(_) => Self::Relayed,
            Ok(addr) if is_private(addr.ip()) || addr.ip().is_loopback() => Self::Lan,
            Ok(addr) if addr.is_ipv4() && translated => Self::Punched,
            Ok(_) => Self::Direct,
        }
    }
}

/// What was seen of them since the start.
#[derive(Debug, Default)]
pub(super) struct Ways {
    // Sessions that look for a way; at most what can be under way, and what lost its way lately.
    looking: BTreeMap<TransferId, Looking>,
    // By whom; at most PEERS_KEPT.
    peers: BTreeMap<FullName, Known>,
    tallies: BTreeMap<Way, Tally>,
    in_vain: u64,
}

#[derive(Debug)]
struct Looking {
    since: Duration,
    translated: bool,
}

#[derive(Debug, Clone)]
struct Known {
    way: Way,
    route: String,
    translated: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    sessions: u64,
    sum: Duration,
    worst: Duration,
}

impl Ways {
    /// A session's keys are agreed: both sides look for a way from now on, with these addresses.
    pub fn begin(&mut self, now: Duration, id: TransferId, ours: &[SocketAddr], theirs: &[SocketAddr]) {
        let translated = ours.iter().chain(theirs).any(|addr| addr.is_ipv4() && is_private(addr.ip()));
        self.looking.retain(|_, looking| now < looking.since + LOOKING);
        self.looking.insert(id, Looking { since: now, translated });
    }

    /// It has found one.
    pub fn found(&mut self, now: Duration, id: &TransferId, peer: &FullName, route: &str) -> Way {
        let looked = self.looking.remove(id);
        let translated = looked.as_ref().is_some_and(|looking| looking.translated);
        let way = self.learn(peer, route, translated);
        if let Some(looking) = looked {
            let (tally, took) = (self.tallies.entry(way).or_default(), now.saturating_sub(looking.since));
            (tally.sessions, tally.sum, tally.worst) = (tally.sessions + 1, tally.sum + took, tally.worst.max(took));
        }
        way
    }

    /// It goes another way now.
    pub fn moved(&mut self, peer: &FullName, route: &str) -> Way {
        let translated = self.peers.get(peer).is_some_and(|known| known.translated);
        self.learn(peer, route, translated)
    }

    /// It found none.
    pub fn lost(&mut self, id: &TransferId) {
        self.in_vain += u64::from(self.looking.remove(id).is_some());
    }

    /// How files went lately between us and this peer, and by which address or server.
    pub fn with(&self, peer: &FullName) -> Option<(Way, &str)> {
        self.peers.get(peer).map(|known| (known.way, known.route.as_str()))
    }

    fn learn(&mut self, peer: &FullName, route: &str, translated: bool) -> Way {
        let way = Way::of(route, translated);
        if self.peers.len() >= PEERS_KEPT && !self.peers.contains_key(peer) {
            self.peers.pop_first();
        }
        self.peers.insert(peer.clone(), Known { way, route: route.to_owned(), translated });
        way
    }

    fn told(&self) -> Event {
        let row = |(way, tally): (&Way, &Tally)| WayRow {
            way: way.word().to_owned(),
            sessions: tally.sessions,
            mean_ms: millis(tally.sum.checked_div(u32::try_from(tally.sessions).unwrap_or(u32::MAX))),
            worst_ms: millis(Some(tally.worst)),
        };
        Event::Stats { ways: self.tallies.iter().map(row).collect(), in_vain: self.in_vain }
    }
}

fn millis(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Core {
    /// `@me stats`.
    pub(super) fn show_stats(&mut self, number: u64) -> Result<(), Problem> {
        let told = self.transfers.ways.told();
        self.tell(Some(number), told);
        self.done(Some(number), 0);
        Ok(())
    }

    /// A session goes another way than it began.
    pub(super) fn rerouted(&mut self, id: &TransferId, route: String) {
        if let Some(upload) = self.transfers.uploads.get_mut(id) {
            let way = self.transfers.ways.moved(&upload.peer, &route);
            (upload.route, upload.way) = (Some(route), Some(way));
            let told = upload.told(id);
            let ticket = self.transfers.uploads.get(id).and_then(|upload| self.upload_ticket(upload));
            return self.tell(ticket, Event::TransferPath(told));
        }
        let Some(source) = self.transfers.sources.get(id) else { return };
        let (download, peer) = (source.download, source.peer.clone());
        let way = self.transfers.ways.moved(&peer, &route);
        let Some(wish) = self.transfers.downloads.get_mut(&download) else { return };
        if wish.peer.as_ref() == Some(&peer) {
            (wish.route, wish.way) = (Some(route.clone()), Some(way));
        }
        let told = Transfer {
            peer: peer.to_string(),
            route: Some(route),
            way: Some(way.word().to_owned()),
            ..wish.told(&download)
        };
        self.tell_of(&download, Event::TransferPath(told));
    }
}

/// Longer than any session looks for a way.
const LOOKING: Duration = Duration::from_secs(120);
const PEERS_KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::Name;

    fn addrs(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn bob() -> FullName {
        FullName::new(Name::parse("bob").unwrap(), Name::parse("s1").unwrap())
    }

    #[test]
    fn what_a_way_is_called_follows_from_both_sides_addresses() {
        let home = addrs(&["192.168.0.7:500", "198.51.100.7:9000"]);
        let open = addrs(&["203.0.113.9:500", "[2001:db8::9]:500"]);
        let peer = bob();
        for (ours, theirs, route, wanted) in [
            (&home, &open, "203.0.113.9:500", Way::Punched),
            (&open, &home, "198.51.100.7:9000", Way::Punched),
            (&home, &open, "[2001:db8::9]:500", Way::Direct),
            (&open, &open, "203.0.113.9:500", Way::Direct),
            (&home, &home, "192.168.0.7:500", Way::Lan),
            (&open, &open, "127.0.0.1:500", Way::Lan),
            (&home, &home, "relayed by s1", Way::Relayed),
        ] {
            let (mut ways, id) = (Ways::default(), TransferId::default());
            ways.begin(Duration::ZERO, id, ours, theirs);
            assert_eq!(ways.found(Duration::ZERO, &id, &peer, route), wanted, "{route}");
            assert_eq!(ways.with(&peer), Some((wanted, route)));
        }
    }

    #[test]
    fn sessions_are_counted_by_way_with_the_time_that_it_took() {
        let (mut ways, peer) = (Ways::default(), bob());
        let id = |n| crate::wire::id::Id([n; 16]);
        for (n, took, route) in [(1, 100, "198.51.100.7:9"), (2, 300, "198.51.100.7:9"), (3, 3200, "relayed by s1")] {
            ways.begin(Duration::from_secs(1), id(n), &addrs(&["10.0.0.1:5"]), &[]);
            ways.found(Duration::from_millis(1000 + took), &id(n), &peer, route);
        }
        ways.begin(Duration::from_secs(1), id(4), &[], &[]);
        ways.lost(&id(4));
        ways.lost(&id(4));
        // It takes over from the relay, which is no new session.
        assert_eq!(ways.moved(&peer, "198.51.100.7:9"), Way::Punched);
        let Event::Stats { ways: rows, in_vain } = ways.told() else { panic!() };
        let row = |way: &str, sessions, mean_ms, worst_ms| WayRow { way: way.into(), sessions, mean_ms, worst_ms };
        assert_eq!((rows, in_vain), (vec![row("punched", 2, 200, 300), row("relayed", 1, 3200, 3200)], 1));
    }
}
