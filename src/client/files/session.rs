//! What uploads and sources of downloads have in common.

use std::net::SocketAddr;
use std::time::Duration;

use super::legs::is_alias;
use crate::channel::{Arq, Config, CongestionKind, Failure, MAX_WINDOW};
use crate::client::effects::{ChannelStart, Congestion, Reach};
use crate::limits::RELAY_SPARED;
use crate::wire::datagram::CloseCode;
use crate::wire::name::Name;
use crate::wire::payload;

/// What each session is started with beside its agreement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Peers may be on this machine.
    pub(super) loopback: bool,
    pub(super) congestion: Congestion,
    pub(super) reach: Reach,
    /// Bytes that the system holds for us.
    pub(super) receive_buffer: u64,
}

/// The way that a session's file takes, and what the core knows of it.
#[derive(Debug, Default)]
pub(super) struct Way {
    // The server over which it may run.
    relay: Option<Name>,
    // What came last from there came by the link to it.
    linked: bool,
    // The address in use, and since when.
    path: Option<(SocketAddr, Duration)>,
    // Which way the core knows, and when it was told last; whether that is no longer so.
    told: Option<(String, Duration)>,
    differs: bool,
    // When the core was told of a silence.
    silent: Option<Duration>,
}

/// What the core is to know of a session's way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WayNews {
    /// It has none, or another one.
    Route(String),
    /// Nothing comes over it.
    Silent,
}

impl Way {
    /// It may lead over this server.
    pub(super) fn may_be_relayed(&mut self, server: Name) {
        self.relay = Some(server);
        self.compare();
    }

    /// A datagram came from this address; `linked` if by the link to the server.
    pub(super) fn came(&mut self, from: SocketAddr, linked: bool) {
        if self.linked != linked && is_alias(from) {
            self.linked = linked;
            self.compare();
        }
    }

    /// The file travels over this address.
    pub(super) fn leads_to(&mut self, now: Duration, addr: SocketAddr) {
        if self.path.is_none_or(|(known, _)| known != addr) {
            self.path = Some((addr, now));
            self.compare();
        }
    }

    /// Whether the file travels already.
    pub(super) fn is_found(&self) -> bool {
        self.path.is_some()
    }

    fn compare(&mut self) {
        let route = self.route();
        self.differs = route.is_some() && self.told.as_ref().map(|(told, _)| told) != route.as_ref();
    }

    /// As the user is told of it.
    fn route(&self) -> Option<String> {
        let (addr, _) = self.path?;
        match &self.relay {
            Some(server) if is_alias(addr) && self.linked => Some(format!("relayed by {server} over TLS")),
            Some(server) if is_alias(addr) => Some(format!("relayed by {server}")),
            _ => Some(addr.to_string()),
        }
    }

    /// What the core is to be told now; of a peer that wanders about, not too often. `silent`: nothing comes over it.
    pub(super) fn news(&mut self, now: Duration, silent: bool) -> Option<WayNews> {
        if !silent {
            self.silent = None;
        } else if self.silent.is_none_or(|told| now >= told + SILENT_AGAIN) {
            self.silent = Some(now);
            return Some(WayNews::Silent);
        }
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let route = self.route()?;
        self.told = Some((route.clone(), now));
        self.differs = false;
        Some(WayNews::Route(route))
    }

    /// When [`Self::news`] has another way to tell.
    pub(super) fn due(&self) -> Option<Duration> {
        let first = self.told.is_none();
        let last = self.told.as_ref().map(|(_, at)| *at).unwrap_or_default();
        self.differs.then_some(if first { Duration::ZERO } else { last + ROUTES_APART })
    }

    /// The file has come straight for so long that the server need not keep a leg for it.
    pub(super) fn spares_relay(&self, now: Duration) -> bool {
        self.path.is_some_and(|(addr, since)| !is_alias(addr) && now >= since + RELAY_SPARED)
    }
}

/// The channel's settings as both sides agreed, and our own.
pub(super) fn config_of(start: &ChannelStart, terms: Terms) -> Config {
    let arq = match start.arq {
        payload::Arq::Auto => Arq::Auto,
        payload::Arq::GoBackN => Arq::GoBackN,
        payload::Arq::SelectiveRepeat => Arq::SelectiveRepeat,
    };
    let window = start.window.map(|window| window.clamp(1, MAX_WINDOW));
    let congestion = match terms.congestion {
        Congestion::Bbr => CongestionKind::Bbr,
        Congestion::Cubic => CongestionKind::Cubic,
        Congestion::None => CongestionKind::None,
    };
    let (idle_timeout, usual) = (SILENCE, Config::default());
    let receive_bytes = match window {
        // Nothing else keeps it below what the system holds. A controller does, at about what the path contains: on a long
        // path that is far more, and none of it waits here.
        Some(_) => terms.receive_buffer.clamp(RECEIVE_LEAST, usual.receive_bytes),
        None => usual.receive_bytes,
    };
    Config { window, arq, congestion, max_datagram: start.max_datagram, idle_timeout, receive_bytes, ..usual }
}

/// How long a datagram may lie unread where the round trip is that: nobody notices, and the next look finds more of them.
pub(super) fn patience(round_trip: Option<Duration>) -> Duration {
    round_trip
        .map(|round_trip| (round_trip / 32).min(LONGEST_PATIENCE))
        .filter(|long| *long >= SHORTEST_PATIENCE)
        .unwrap_or_default()
}

/// The stable word for why a channel failed.
pub(super) fn reason_of_failure(failure: Failure) -> &'static str {
    match failure {
        Failure::NoPath => "no_path",
        Failure::Silent | Failure::Stalled | Failure::PathShrunk => "timeout",
        Failure::Source => "disk",
        Failure::Peer(_) | Failure::PacketNumbers => "protocol",
    }
}

/// The stable word for why the peer closed.
pub(super) fn reason_of_close(code: CloseCode) -> &'static str {
    match code {
        CloseCode::VIOLATION => "protocol",
        CloseCode::RESTRICTED => "restricted",
        _ => "peer_closed",
    }
}

/// How long a peer may be silent before its session ends. Another one is agreed then, with the addresses that both have by now: that is how
/// they meet again when one has moved to where the other cannot reach it. Signs of life come once a second.
const SILENCE: Duration = Duration::from_secs(8);
/// Between two words about the way of one session, and about a silence that lasts.
const ROUTES_APART: Duration = Duration::from_secs(1);
const SILENT_AGAIN: Duration = Duration::from_secs(2);
/// Below that of the timers that decide what is lost.
const LONGEST_PATIENCE: Duration = Duration::from_millis(1);
/// A sleep that is shorter costs as much as it saves.
const SHORTEST_PATIENCE: Duration = Duration::from_micros(150);
/// Two of the largest datagrams: with less nothing would move.
const RECEIVE_LEAST: u64 = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::FullName;
    use zeroize::Zeroizing;

    const NOW: Duration = Duration::from_secs(9);

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_of_segments_stays_below_what_the_system_holds_for_us() {
        let receive_bytes = |window, receive_buffer| {
            let terms = Terms { loopback: true, congestion: Congestion::None, reach: Reach::Any, receive_buffer };
            config_of(&start(window), terms).receive_bytes
        };
        assert_eq!(receive_bytes(Some(512), 200 << 10), 200 << 10);
        assert_eq!(receive_bytes(Some(512), 0), RECEIVE_LEAST);
        assert_eq!(receive_bytes(Some(512), 1 << 40), Config::default().receive_bytes);
        assert_eq!(receive_bytes(None, 200 << 10), Config::default().receive_bytes, "the path may contain more");
    }

    fn start(window: Option<u32>) -> ChannelStart {
        let name = Name::parse("mallory").unwrap();
        ChannelStart {
            transfer: crate::wire::id::Id([1; 16]),
            peer: FullName::new(name.clone(), name),
            send: Zeroizing::new([1; 44]),
            receive: Zeroizing::new([2; 44]),
            our_connection: [1; 8],
            peer_connection: [2; 8],
            peer_candidates: Vec::new(),
            kind: payload::FileKind::File,
            size: 1,
            root: [0; 32],
            partial: false,
            arq: payload::Arq::Auto,
            window,
            max_datagram: 1_452,
            mode: String::new(),
            handover: None,
        }
    }

    #[test]
    fn the_core_hears_of_each_way_but_not_of_every_turn_of_a_wanderer() {
        let (straight, alias) = (addr("192.0.2.1:9"), addr("[100::7]:1"));
        let mut way = Way::default();
        assert_eq!((way.news(NOW, false), way.due()), (None, None));
        way.may_be_relayed(Name::parse("s1").unwrap());
        way.leads_to(NOW, alias);
        assert_eq!(way.news(NOW, false), Some(WayNews::Route("relayed by s1".into())));
        way.came(straight, true);
        assert_eq!(way.due(), None);
        way.came(alias, true);
        assert_eq!(way.news(NOW + ROUTES_APART, false), Some(WayNews::Route("relayed by s1 over TLS".into())));
        way.came(alias, false);
        assert_eq!(way.news(NOW + ROUTES_APART * 2, false), Some(WayNews::Route("relayed by s1".into())));
        way.leads_to(NOW, straight);
        assert_eq!((way.news(NOW, false), way.due()), (None, Some(NOW + ROUTES_APART * 3)));
        assert_eq!(way.news(NOW + ROUTES_APART * 3, false), Some(WayNews::Route("192.0.2.1:9".into())));
        let told = (0..10_000_u64).filter(|n| {
            let now = NOW + ROUTES_APART * 3 + Duration::from_millis(*n);
            way.leads_to(now, if n % 2 == 0 { alias } else { straight });
            way.news(now, false).is_some()
        });
        assert!(told.count() <= 10);
    }

    #[test]
    fn a_silence_is_told_while_it_lasts() {
        let mut way = Way::default();
        way.leads_to(NOW, addr("192.0.2.1:9"));
        assert!(way.news(NOW, false).is_some());
        let told = (0..7_000).filter(|n| way.news(NOW + Duration::from_millis(*n), true).is_some());
        assert_eq!(told.count(), 4);
        assert_eq!(way.news(NOW, false), None);
        assert_eq!(way.news(NOW, true), Some(WayNews::Silent));
    }

    #[test]
    fn a_leg_is_kept_until_the_straight_way_has_proved_itself() {
        let (straight, alias) = (addr("192.0.2.1:9"), addr("[100::7]:1"));
        let mut way = Way::default();
        assert!(!way.spares_relay(NOW * 100));
        way.leads_to(NOW, alias);
        assert!(!way.spares_relay(NOW * 100));
        way.leads_to(NOW * 100, straight);
        assert!(!way.spares_relay(NOW * 100 + RELAY_SPARED / 2) && way.spares_relay(NOW * 100 + RELAY_SPARED));
    }
}
