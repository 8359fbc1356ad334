//! What uploads and sources of downloads have in common.

use std::net::SocketAddr;
use std::time::Duration;

use super::legs::is_alias;
use crate::channel::{Arq, Config, CongestionKind, Failure, MAX_WINDOW};
use crate::client::effects::{ChannelStart, Congestion, Reach};
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
}

/// A server over which a session may run.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) server: Name,
    /// What came last came by the link to it.
    pub(super) linked: bool,
}

/// How the user is told of the way that a file takes.
pub(super) fn route(addr: SocketAddr, relay: Option<&Relay>) -> String {
    // Whichever leg it is of those that were given one after the other: its address means nothing to people.
    match relay.filter(|_| is_alias(addr)) {
        Some(Relay { server, linked: true, .. }) => format!("relayed by {server} over TLS"),
        Some(Relay { server, .. }) => format!("relayed by {server}"),
        None => addr.to_string(),
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
    let idle_timeout = SILENCE;
    Config { window, arq, congestion, max_datagram: start.max_datagram, idle_timeout, ..Config::default() }
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
/// Below that of the timers that decide what is lost.
const LONGEST_PATIENCE: Duration = Duration::from_millis(1);
/// A sleep that is shorter costs as much as it saves.
const SHORTEST_PATIENCE: Duration = Duration::from_micros(150);
