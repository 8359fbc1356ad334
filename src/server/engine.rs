//! The seam between the IO around the server and what decides: one input at a time, then outputs until there are no more.

use crate::crypto::identity::PublicKey;
use crate::wire::frame::{ToClient, ToServer};
use std::net::SocketAddr;
use std::time::Duration;

/// Names one connection for as long as the process runs.
pub type SessionId = u64;

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// A client finished the TLS handshake with this certificate key.
    Connected { session: SessionId, key: PublicKey, address: SocketAddr },
    /// It said something.
    Frame { session: SessionId, frame: ToServer },
    /// It is gone.
    Disconnected { session: SessionId },
    /// The server stops: members are to be told.
    Drain,
}

/// Something is to be done.
#[derive(Debug)]
pub enum Output {
    /// To one client.
    Send { session: SessionId, frame: ToClient },
    /// The connection ends once what waits for it is sent.
    Close { session: SessionId },
}

/// What decides.
pub trait Engine: Send + 'static {
    /// Takes one input.
    fn input(&mut self, input: Input, now: Duration);
    /// The next output, in order.
    fn output(&mut self) -> Option<Output>;
}
