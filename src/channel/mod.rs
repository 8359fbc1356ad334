//! The ARQ channel: one byte stream each way between two peers, over sealed datagrams. Pure: it owns no socket, clock,
//! file or source of randomness.
//!
//! ```text
//! connection   what a driver holds: constructor, timers, events, close
//! inbound      a datagram from outside: check, open, then act on its frames
//! outbound     what is owed: acks, challenges, probes, handshake, close
//! transmit     segments in batches, read and sealed in place
//! losses       what an ack settles and shows as lost, what follows when none comes
//!
//! outgoing     our stream: segments, which of them arrived, which goes next
//! go_back_n, selective_repeat    the two schemes of repeating
//! incoming     the peer's stream: delivery in order, segments kept beyond a gap
//! ranges       the latter as ranges for acks
//! acks         which packets to acknowledge, when
//! flight       packets sent and not settled, loss detection
//! recovery     probes and the retransmission timeout
//! rtt          round-trip time
//! pace         how much may leave now, by the
//! congestion   controllers, rate samples, pacer
//! sizes        how large a datagram the path carries
//! paths        candidate addresses, path validation, the amplification limit
//! nudge        signs of life in silence
//! numbers      packet numbers
//! config, data, event    settings and keys; source, sink and batch; what the driver is told
//! impair, impair_spec    a bad path on demand, for tests; how it is written
//! ```
//!
//! A driver gives [`Connection`] every datagram (then [`end_of_batch`](Connection::end_of_batch)) and every due timeout,
//! then drains [`poll_transmit`](Connection::poll_transmit) and [`poll_event`](Connection::poll_event), then asks
//! [`poll_timeout`](Connection::poll_timeout), until [`is_drained`](Connection::is_drained).
//!
//! A *segment* is a numbered piece of a stream. Its bytes are fixed when it is sent first; each transmission has a packet
//! number of its own.
//!
//! How it ends: each side ends its stream. When both streams have arrived and the holder knows, it closes; the asker
//! answers with its own close and is done. While the close does not come, the asker repeats its ack.

mod acks;
mod config;
mod congestion;
mod connection;
mod data;
mod event;
mod flight;
mod go_back_n;
pub mod impair;
mod impair_spec;
mod inbound;
mod incoming;
mod losses;
mod nudge;
mod numbers;
mod outbound;
mod outgoing;
mod pace;
mod paths;
mod ranges;
mod recovery;
mod rtt;
mod selective_repeat;
mod sizes;
mod transmit;

pub use config::{Arq, ChannelKeys, Config, ConfigError, ConnectionIds, DATAGRAM_OVERHEAD, MAX_WINDOW, Side};
pub use congestion::CongestionKind;
pub use connection::Connection;
pub use data::{Batch, MAX_BATCH, NoSink, NoSource, SourceError, StreamSink, StreamSource};
pub use event::{ClosedBy, Event, Failure, HandshakeBytes, Stats, Violation};
pub use paths::{MAX_CANDIDATES, MAX_PROBES};

#[cfg(test)]
mod tests;
