//! A TCP connection to a host by name or address.

use crate::limits::CONNECT_DEADLINE;
use crate::wire::endpoint::Endpoint;
use std::io;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Tries the addresses of the host in turn, each until [`CONNECT_DEADLINE`]. Small writes leave at once.
pub async fn tcp(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let addresses = timeout(CONNECT_DEADLINE, lookup_host((endpoint.host_text(), endpoint.port))).await??;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses.take(ADDRESSES_TRIED) {
        match timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                suit_lines(&stream)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Small writes leave at once, and of large ones the system keeps little that it cannot send yet, where the next line would wait behind
/// it: it waits in our queue instead.
pub fn suit_lines(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // What the system does not know it does not do.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    Ok(())
}

/// Bytes: enough for a fast line until the writer is awake again.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;
/// A name may have many addresses; so many of them are tried.
const ADDRESSES_TRIED: usize = 8;
