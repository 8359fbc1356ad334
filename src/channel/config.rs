//! What a connection is made from.

use std::time::Duration;

use thiserror::Error;

use crate::crypto::seal::SealKey;
use crate::wire::datagram::SEGMENT_OVERHEAD;
use crate::wire::packet::{BASE_DATAGRAM, ConnectionId, MAX_DATAGRAM, MIN_DATAGRAM};

/// Limits and sizes of one connection. Both sides must use the same `datagram_size`: it decides where segments begin.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes of the largest datagram, from 1,200 up to 65,507.
    pub datagram_size: usize,
    /// Segments that may be under way at once, 1 up to [`MAX_WINDOW`].
    pub window: u32,
    /// How long both sides try candidate addresses before they give up.
    pub connect_timeout: Duration,
    /// How long nothing authentic may come from the peer before we give up.
    pub idle_timeout: Duration,
    /// How long the file may stand still, although the peer answers, before we give up.
    pub stall_timeout: Duration,
    /// How long a receiver that has everything repeats its last ack while the sender does not confirm it.
    pub linger: Duration,
}

impl Config {
    /// Bytes of the file in each segment but the last.
    pub fn segment_size(&self) -> usize {
        self.datagram_size.saturating_sub(DATAGRAM_OVERHEAD)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(BASE_DATAGRAM..=MAX_DATAGRAM).contains(&self.datagram_size) {
            return Err(ConfigError::DatagramSize(self.datagram_size));
        }
        if !(1..=MAX_WINDOW).contains(&self.window) {
            return Err(ConfigError::Window(self.window));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            datagram_size: BASE_DATAGRAM,
            window: 16,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(45),
            stall_timeout: Duration::from_secs(120),
            linger: Duration::from_secs(10),
        }
    }
}

/// A setting that no connection can be made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Not between 1,200 and 65,507 bytes.
    #[error("a datagram of {0} bytes is outside 1,200 to 65,507")]
    DatagramSize(usize),
    /// Not between 1 and [`MAX_WINDOW`] segments.
    #[error("a window of {0} segments is outside 1 to {MAX_WINDOW}")]
    Window(u32),
}

/// One key for each direction, agreed for this connection alone.
#[derive(Debug)]
pub struct ChannelKeys {
    /// Seals what we send.
    pub send: SealKey,
    /// Opens what we receive.
    pub recv: SealKey,
}

/// The two connection ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionIds {
    /// Chosen by us; stands on datagrams to us.
    pub local: ConnectionId,
    /// Chosen by the peer; stands on datagrams to the peer.
    pub remote: ConnectionId,
}

/// The largest window, in segments: what the replay window can tell apart when a full one arrives out of order.
pub const MAX_WINDOW: u32 = 2_048;

/// Header, tag, segment frame and the ping that asks for an ack.
const DATAGRAM_OVERHEAD: usize = MIN_DATAGRAM + SEGMENT_OVERHEAD + 1;
