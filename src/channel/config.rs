//! What a connection is made from.

use std::time::Duration;

use thiserror::Error;

use super::congestion::CongestionKind;
use crate::crypto::seal::SealKey;
use crate::wire::datagram::SEGMENT_OVERHEAD;
use crate::wire::packet::{BASE_DATAGRAM, ConnectionId, MAX_DATAGRAM, MIN_DATAGRAM};

/// Limits and choices of one connection. `arq` must be the same at both ends; all else is each end's own.
#[derive(Debug, Clone)]
pub struct Config {
    /// A fixed window in segments, 1 up to [`MAX_WINDOW`], in place of congestion control.
    pub window: Option<u32>,
    /// What is sent again after a loss, and what is kept of what came out of order.
    pub arq: Arq,
    /// What decides how much is under way and how fast it leaves, while `window` is `None`.
    pub congestion: CongestionKind,
    /// Bytes of the largest datagram that the path is probed for, from 1,200 up to 65,507.
    pub max_datagram: usize,
    /// Bytes that may be under way to us: what is kept of what came out of order, and what the window offers. At least 1. With
    /// a fixed window in segments not above what the socket's receive buffer holds, or a burst is lost there.
    pub receive_bytes: u64,
    /// Bytes a second that we send at most, whatever the path would carry.
    pub rate_limit: Option<u64>,
    /// How long both sides try candidate addresses before they give up.
    pub connect_timeout: Duration,
    /// How long nothing authentic may come from the peer before we give up.
    pub idle_timeout: Duration,
    /// How long both streams may stand still, although the peer answers, before we give up.
    pub stall_timeout: Duration,
    /// How long who has finished stays for a peer that may not know: an asker repeats its last ack, a holder its close.
    pub linger: Duration,
}

/// Automatic repeat request: which segments are sent again after a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arq {
    /// Go-Back-N until a loss is seen, from then on Selective Repeat; without loss both look the same on the wire.
    #[default]
    Auto,
    /// Everything from the first missing segment on; the receiver keeps only what is in order.
    GoBackN,
    /// What is missing; the receiver keeps the rest.
    SelectiveRepeat,
}

/// Which end of the connection we are. Both send and receive a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Chooses the path: the first that answers.
    Asker,
    /// Follows to the path that the asker uses, and closes the connection when both streams are done.
    Holder,
}

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(BASE_DATAGRAM..=MAX_DATAGRAM).contains(&self.max_datagram) {
            return Err(ConfigError::DatagramSize(self.max_datagram));
        }
        if let Some(window) = self.window.filter(|window| !(1..=MAX_WINDOW).contains(window)) {
            return Err(ConfigError::Window(window));
        }
        if self.receive_bytes == 0 {
            return Err(ConfigError::ReceiveBytes);
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: None,
            arq: Arq::Auto,
            congestion: CongestionKind::Bbr,
            max_datagram: MAX_DATAGRAM,
            receive_bytes: 16 << 20,
            rate_limit: None,
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
    /// Nothing may be kept at all.
    #[error("a receive buffer of no bytes")]
    ReceiveBytes,
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

/// The largest window, in segments: half of what the replay window can tell apart.
pub const MAX_WINDOW: u32 = 16_384;

/// Bytes of a datagram that are not the segment's: header, segment frame and tag.
pub const DATAGRAM_OVERHEAD: usize = MIN_DATAGRAM + SEGMENT_OVERHEAD;
