//! The ARQ channel: one file, from one peer to another, over sealed datagrams. Pure: it owns no socket, clock, file or
//! source of randomness.
//!
//! ```text
//! connection   what a driver holds: constructors, timers, events, close
//! inbound      a datagram from outside: check, open, then act on its frames
//! outbound     the next datagram to send
//! paths        candidate addresses, path validation, the amplification limit
//! sender       the sending half: retransmission timer, the receiver's window
//! receiver     the receiving half: delivery, window, repeated acks in silence
//! policy       what an ARQ scheme decides
//! go_back_n    the scheme that keeps only what is in order
//! acks         which packets to acknowledge, when; which of ours were
//! rtt          round-trip time, retransmission timeout
//! impair, impair_spec    a bad path on demand, for tests; how it is written
//! congestion   how much may be under way, how fast it leaves
//! config, data, event    settings and keys; source and sink of segments; what the driver is told
//! ```
//!
//! A driver gives [`Connection`] every datagram and every due timeout, then drains
//! [`poll_transmit`](Connection::poll_transmit) and [`poll_event`](Connection::poll_event), then asks
//! [`poll_timeout`](Connection::poll_timeout), until [`is_drained`](Connection::is_drained).
//!
//! How a transfer ends: the receiver's last ack says that it has everything; the sender answers with a close; the
//! receiver answers that with its own and is done. While the close does not come, the receiver repeats its ack.

mod acks;
mod config;
mod congestion;
mod connection;
mod data;
mod event;
mod go_back_n;
pub mod impair;
mod impair_spec;
mod inbound;
mod outbound;
mod paths;
mod policy;
mod receiver;
mod rtt;
mod sender;

pub use config::{ChannelKeys, Config, ConfigError, ConnectionIds, MAX_WINDOW};
pub use congestion::CongestionKind;
pub use connection::Connection;
pub use data::{NoSink, NoSource, SegmentSink, SegmentSource, SourceError};
pub use event::{ClosedBy, Event, Failure, HandshakeBytes, Stats, Violation};
pub use paths::{MAX_CANDIDATES, MAX_PROBES};
