//! A UDP port of a client: all its file channels of one direction share it, whatever the peer's address family.
//!
//! Datagrams leave and come in batches, which the system takes apart (GSO) and joins (GRO) where it can.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use quinn_udp::{EcnCodepoint, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;

pub use super::candidates::{canonical, is_candidate, worth_trying};
use super::received::Received;

/// A bound socket that never blocks of itself. Threads may share it: each call is one system call's worth of work.
#[derive(Debug)]
pub struct BoundPort {
    socket: UdpSocket,
    local: SocketAddr,
    family: Family,
    offload: Offload,
    // For batches. A system or card that refuses one is remembered here and from then on gets single datagrams.
    batches: UdpSocketState,
    // For single datagrams, which go to addresses that nobody has tried: their errors say nothing about batches.
    lone: UdpSocketState,
}

/// Which addresses the socket can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Both,
}

/// What the system is asked to do for us. All but [`Offload::Full`] is for measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// Takes batches apart as late as it can, and joins what comes.
    #[default]
    Full,
    /// Takes batches apart but hands over each datagram by itself: on loopback its software does the splitting.
    SendOnly,
    /// One datagram a call.
    Off,
}

/// The port cannot be had.
#[derive(Debug, Error)]
#[error("UDP port {addr} cannot be opened: {source}")]
pub struct BindError {
    /// What was asked for.
    pub addr: SocketAddr,
    /// The system's answer.
    pub source: io::Error,
}

/// What became of datagrams that were to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// All were given to the system, or lost at once (no route, too large, refused by a filter), which for a datagram is
    /// the same.
    Gone,
    /// The system's buffer is full: wait until it is writable, then send what comes after the first `taken` bytes.
    Full {
        /// Bytes of the batch that are gone, whole datagrams.
        taken: usize,
    },
}

impl BoundPort {
    /// Binds `addr`; without one, any port on all addresses, IPv4 and IPv6. `[::]` takes IPv4 too, and only IPv4 where
    /// the system has no IPv6.
    pub fn bind(addr: Option<SocketAddr>) -> Result<Self, BindError> {
        Self::bind_with(addr, Offload::Full)
    }

    /// The same, with the system's help limited.
    pub fn bind_with(addr: Option<SocketAddr>, offload: Offload) -> Result<Self, BindError> {
        let wanted = addr.unwrap_or(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
        match Self::bind_one(wanted, offload) {
            Err(error) if wanted.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
                let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, wanted.port()));
                Self::bind_one(fallback, offload).map_err(|_| error)
            }
            result => result,
        }
        .map_err(|source| BindError { addr: wanted, source })
    }

    /// Binds `addr` for its own address family: `[::]` leaves IPv4 to another port of the same number.
    pub fn bind_beside(addr: SocketAddr) -> io::Result<Self> {
        let (socket, _) = open(addr)?;
        let family = if addr.is_ipv6() { Family::V6 } else { Family::V4 };
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        Self::make(addr, Offload::Full, socket, family)
    }

    fn bind_one(addr: SocketAddr, offload: Offload) -> io::Result<Self> {
        let (socket, family) = open(addr)?;
        Self::make(addr, offload, socket, family)
    }

    fn make(addr: SocketAddr, offload: Offload, socket: Socket, family: Family) -> io::Result<Self> {
        // Asked for, not insisted on: the system may have a lower limit.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        // The state switches joining on for the socket that it is made with; for another it receives without.
        let (batches, lone) = match offload {
            Offload::Full => (UdpSocketState::new((&socket).into())?, UdpSocketState::new((&socket).into())?),
            Offload::SendOnly | Offload::Off => {
                let (other, _) = open(addr)?;
                (UdpSocketState::new((&other).into())?, UdpSocketState::new((&other).into())?)
            }
        };
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        Ok(Self { socket, local, family, offload, batches, lone })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Bytes of payload that the system holds for us before it drops what comes, as far as it says: more must not be in
    /// flight towards us.
    pub fn receive_buffer(&self) -> usize {
        granted(SockRef::from(&self.socket).recv_buffer_size().unwrap_or_default())
    }

    /// Bytes that the system takes from us before it says [`Sent::Full`].
    pub fn send_buffer(&self) -> usize {
        granted(SockRef::from(&self.socket).send_buffer_size().unwrap_or_default())
    }

    /// Datagrams of `stride` bytes that leave in one system call. It falls to 1 for good once the system has refused a
    /// batch.
    pub fn batch_len(&self, stride: usize) -> usize {
        match self.offload {
            Offload::Off => 1,
            Offload::Full | Offload::SendOnly => {
                (DATAGRAM_MAX / stride.max(1)).clamp(1, self.batches.max_gso_segments().max(1))
            }
        }
    }

    /// Sends the datagrams in `bytes`: each of `stride` bytes, the last may be shorter. There is no limit to their number,
    /// but [`Self::batch_len`] of them cost no more than one.
    pub fn send_batch(&self, bytes: &[u8], stride: usize, to: SocketAddr) -> Sent {
        let sent = self.send_pieces(bytes, stride, to);
        if sent == bytes.len() { Sent::Gone } else { Sent::Full { taken: sent } }
    }

    /// Receives what waits, at most one batch into each buffer. Returns whether there was anything; an error concerns an
    /// earlier datagram of ours or the socket, and the next call may work.
    pub fn recv_batch(&self, received: &mut Received) -> io::Result<bool> {
        nothing_is_false(self.fill(received))
    }

    /// Waits until a datagram has come. Returns false when `timeout` is over first; `None` waits for ever.
    pub fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.wait(PollFlags::IN, timeout)
    }

    /// Waits until a datagram may leave. Returns false when `timeout` is over first; `None` waits for ever.
    pub fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.wait(PollFlags::OUT, timeout)
    }

    /// Sends as far as there is room; returns the bytes that are gone.
    fn send_pieces(&self, bytes: &[u8], stride: usize, to: SocketAddr) -> usize {
        let Some(destination) = self.reachable(to).filter(|_| stride <= DATAGRAM_MAX) else { return bytes.len() };
        let stride = stride.max(1);
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let contents = rest.get(..stride * self.batch_len(stride)).unwrap_or(rest);
            let many = contents.len() > stride;
            let state = if many { &self.batches } else { &self.lone };
            let segment_size = many.then_some(stride);
            let ecn = Some(EcnCodepoint::Ect0);
            let transmit = Transmit { destination, ecn, contents, segment_size, src_ip: None };
            match state.try_send((&self.socket).into(), &transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The batch was refused as a batch, not for its content: once more, one by one.
                Err(_) if many && self.batch_len(stride) == 1 => {}
                Ok(()) | Err(_) => taken += contents.len(),
            }
        }
        taken
    }

    fn fill(&self, received: &mut Received) -> io::Result<()> {
        received.fill(|buffers, metas| self.batches.recv((&self.socket).into(), buffers, metas))
    }

    fn wait(&self, flags: PollFlags, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut [PollFd::new(&self.socket, flags)], timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            // A signal: the caller looks around as after a timeout.
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it can send to such an address.
    pub(super) fn speaks(&self, ip: IpAddr) -> bool {
        match self.family {
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
            Family::Both => true,
        }
    }

    /// `to` in the form that our socket takes.
    fn reachable(&self, to: SocketAddr) -> Option<SocketAddr> {
        match (self.family, to) {
            (Family::Both, SocketAddr::V4(v4)) => Some(SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))),
            _ => self.speaks(to.ip()).then_some(to),
        }
    }
}

/// To be waited for beside other things.
impl AsFd for BoundPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(addr: SocketAddr) -> io::Result<(Socket, Family)> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    let family = match addr.ip() {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(ip) if ip.is_unspecified() => {
            socket.set_only_v6(false)?;
            Family::Both
        }
        IpAddr::V6(_) => Family::V6,
    };
    socket.set_nonblocking(true)?;
    Ok((socket, family))
}

fn nothing_is_false(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Of the size that the system reports, what is left for payload: Linux counts its own bookkeeping into it and doubles
/// what was asked for to make up for that (socket(7), SO_RCVBUF).
fn granted(reported: usize) -> usize {
    if cfg!(target_os = "linux") { reported / 2 } else { reported }
}

/// The largest payload of an IPv4 datagram, bytes, and of a batch.
pub const DATAGRAM_MAX: usize = 65_507;
/// Bytes asked for in each direction: a few thousand datagrams, so that a slow moment loses none.
const SOCKET_BUFFER: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Option<Duration> = Some(Duration::from_secs(5));

    fn bound(addr: &str, offload: Offload) -> BoundPort {
        BoundPort::bind_with(Some(addr.parse().unwrap()), offload).unwrap()
    }

    fn at(port: &BoundPort, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), port.local_addr().port())
    }

    /// Datagrams and who sent them, until `count` have come.
    fn receive(port: &BoundPort, count: usize) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut received = Received::new(4);
        let mut found = Vec::new();
        while found.len() < count {
            assert!(port.wait_readable(WAIT).unwrap(), "{} of {count} came", found.len());
            while port.recv_batch(&mut received).unwrap() {
                for mut batch in received.batches() {
                    let from = batch.from;
                    found.extend(batch.datagrams().map(|datagram| (datagram.to_vec(), from)));
                }
            }
        }
        found
    }

    #[test]
    fn one_socket_speaks_both_families_and_shows_plain_addresses() {
        let both = BoundPort::bind(None).unwrap();
        let (v4, v6) = (bound("127.0.0.1:0", Offload::Full), bound("[::1]:0", Offload::Full));
        let hop = |from: &BoundPort, to: &BoundPort, ip: &str| {
            assert_eq!(from.send_batch(b"hello", 5, at(to, ip)), Sent::Gone);
            let (datagram, origin) = receive(to, 1).remove(0);
            assert_eq!(datagram, b"hello");
            origin
        };
        assert_eq!(hop(&v4, &both, "127.0.0.1"), v4.local_addr());
        assert_eq!(hop(&v6, &both, "::1"), v6.local_addr());
        assert!(hop(&both, &v4, "127.0.0.1").is_ipv4());
        assert!(hop(&both, &v6, "::1").is_ipv6());
    }

    #[test]
    fn batches_arrive_as_the_datagrams_that_they_were_whoever_takes_them_apart() {
        // More than one system call's worth, with a short one at the end.
        let bytes: Vec<u8> = (0..100 * 1452 + 77u32).map(|i| (i % 251) as u8).collect();
        let all = [Offload::Full, Offload::SendOnly, Offload::Off];
        for (sender, receiver) in all.into_iter().flat_map(|s| all.map(|r| (s, r))) {
            for ip in ["127.0.0.1", "::1"] {
                let (from, to) = (bound("[::]:0", sender), bound("[::]:0", receiver));
                assert_eq!(from.send_batch(&bytes, 1452, at(&to, ip)), Sent::Gone);
                let found = receive(&to, 101);
                let expected: Vec<_> = bytes.chunks(1452).map(|chunk| (chunk.to_vec(), at(&from, ip))).collect();
                assert!(found == expected, "{sender:?} to {receiver:?} over {ip}");
            }
        }
    }

    #[test]
    fn the_largest_datagram_passes_over_loopback_and_one_too_large_is_lost_alone() {
        let (from, to) = (bound("127.0.0.1:0", Offload::Full), bound("127.0.0.1:0", Offload::Full));
        assert_eq!(from.send_batch(&vec![1; DATAGRAM_MAX + 1], DATAGRAM_MAX + 1, to.local_addr()), Sent::Gone);
        assert_eq!(from.send_batch(&vec![2; DATAGRAM_MAX], DATAGRAM_MAX, to.local_addr()), Sent::Gone);
        assert_eq!(receive(&to, 1), [(vec![2; DATAGRAM_MAX], from.local_addr())]);
    }

    #[test]
    fn a_datagram_to_nowhere_does_not_end_batches() {
        let (from, to) = (bound("127.0.0.1:0", Offload::Full), bound("127.0.0.1:0", Offload::Full));
        let before = from.batch_len(1200);
        for nowhere in ["240.0.0.1:9", "0.0.0.1:9", "192.0.2.1:9", "[::1]:9", "255.255.255.255:9"] {
            assert_eq!(from.send_batch(b"?", 1, nowhere.parse().unwrap()), Sent::Gone);
        }
        assert_eq!(from.batch_len(1200), before);
        assert_eq!(from.send_batch(&[7; 2400], 1200, to.local_addr()), Sent::Gone);
        assert_eq!(receive(&to, 2).len(), 2);
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_buffers_are_as_granted() {
        let port = bound("127.0.0.1:0", Offload::Full);
        assert!(!port.wait_readable(Some(Duration::from_millis(1))).unwrap());
        assert!(port.wait_writable(WAIT).unwrap());
        assert!(port.receive_buffer() > 65_536 && port.send_buffer() > 65_536);
    }

    #[test]
    fn a_taken_port_says_so() {
        let first = bound("127.0.0.1:0", Offload::Full);
        let again = BoundPort::bind(Some(first.local_addr()));
        assert!(again.unwrap_err().to_string().contains("cannot be opened"));
    }
}
