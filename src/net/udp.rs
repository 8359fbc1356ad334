//! The one UDP port of a client: every file channel shares it, whatever the peer's address family.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::limits::CANDIDATES_MAX;

/// A bound socket, not yet attached to a runtime.
#[derive(Debug)]
pub struct BoundPort {
    socket: UdpSocket,
    local: SocketAddr,
    family: Family,
}

/// Which addresses the socket can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Both,
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

impl BoundPort {
    /// Binds `addr`; without one, any port on all addresses, IPv4 and IPv6. `[::]` takes IPv4 too, and only IPv4 where
    /// the system has no IPv6.
    pub fn bind(addr: Option<SocketAddr>) -> Result<Self, BindError> {
        let wanted = addr.unwrap_or(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
        match Self::bind_one(wanted) {
            Err(error) if wanted.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
                let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, wanted.port()));
                Self::bind_one(fallback).map_err(|_| error)
            }
            result => result,
        }
        .map_err(|source| BindError { addr: wanted, source })
    }

    fn bind_one(addr: SocketAddr) -> io::Result<Self> {
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
        // Asked for, not insisted on: the system may have a lower limit.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        Ok(Self { socket, local, family })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Attaches the socket to the runtime that this is called in.
    pub fn attach(self) -> io::Result<UdpPort> {
        let socket = tokio::net::UdpSocket::from_std(self.socket)?;
        Ok(UdpPort { socket, local: self.local, family: self.family })
    }
}

/// The port at work.
#[derive(Debug)]
pub struct UdpPort {
    socket: tokio::net::UdpSocket,
    local: SocketAddr,
    family: Family,
}

/// What became of a datagram that was to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Given to the system, or lost at once (no route, refused by a filter), which for a datagram is the same.
    Gone,
    /// The system's buffer is full: wait for [`UdpPort::writable`], then try again.
    Full,
}

impl UdpPort {
    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits until a datagram may have come.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Waits until a datagram may leave.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Takes the next datagram, cut to `buf`; returns its length and origin (an IPv4-mapped one as IPv4), or `None`
    /// when none waits. An error concerns an earlier datagram or the socket; the next call may work.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        match self.socket.try_recv_from(buf) {
            Ok((len, from)) => Ok(Some((len, canonical(from)))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a datagram.
    pub fn try_send(&self, datagram: &[u8], to: SocketAddr) -> Sent {
        let Some(to) = self.reachable(to) else { return Sent::Gone };
        match self.socket.try_send_to(datagram, to) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
            Ok(_) | Err(_) => Sent::Gone,
        }
    }

    /// Our own addresses for peers to try, best first, at most [`CANDIDATES_MAX`]: those of the interfaces that are up,
    /// or the one that we are bound to. Loopback addresses come last, and only if `loopback` or if there is no other.
    /// Link-local addresses mean nothing elsewhere and are left out.
    pub fn candidates(&self, loopback: bool) -> Vec<SocketAddr> {
        if !self.local.ip().is_unspecified() {
            return vec![self.local];
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let found = interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| self.speaks(*ip) && !is_link_local(*ip));
        let (mut local, mut addrs): (Vec<_>, Vec<_>) = found.partition(IpAddr::is_loopback);
        if loopback || addrs.is_empty() {
            addrs.truncate(CANDIDATES_MAX.saturating_sub(local.len()));
            addrs.append(&mut local);
        }
        addrs.truncate(CANDIDATES_MAX);
        addrs.into_iter().map(|ip| SocketAddr::new(ip, self.local.port())).collect()
    }

    fn speaks(&self, ip: IpAddr) -> bool {
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

/// Whether datagrams may be sent to an address that a peer named: one host, and not this one unless `loopback`.
pub fn is_candidate(addr: SocketAddr, loopback: bool) -> bool {
    let ip = addr.ip().to_canonical();
    let one_host = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    one_host && addr.port() != 0 && (loopback || !ip.is_loopback()) && !is_link_local(ip)
}

/// An IPv4-mapped IPv6 address as IPv4.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Bytes asked for in each direction: a few thousand datagrams, so that a slow moment loses none.
const SOCKET_BUFFER: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn port(addr: &str) -> UdpPort {
        BoundPort::bind(Some(addr.parse().unwrap())).unwrap().attach().unwrap()
    }

    async fn hop(from: &UdpPort, to: &UdpPort, at: &str) -> SocketAddr {
        let at = SocketAddr::new(at.parse().unwrap(), to.local_addr().port());
        from.writable().await.unwrap();
        assert_eq!(from.try_send(b"hello", at), Sent::Gone);
        let mut buf = [0; 16];
        loop {
            to.readable().await.unwrap();
            if let Some((len, origin)) = to.try_recv(&mut buf).unwrap() {
                assert_eq!(&buf[..len], b"hello");
                return origin;
            }
        }
    }

    #[tokio::test]
    async fn one_socket_speaks_both_families_and_shows_plain_addresses() {
        let both = BoundPort::bind(None).unwrap().attach().unwrap();
        let (v4, v6) = (port("127.0.0.1:0"), port("[::1]:0"));
        assert_eq!(hop(&v4, &both, "127.0.0.1").await, v4.local_addr());
        assert_eq!(hop(&v6, &both, "::1").await, v6.local_addr());
        assert!(hop(&both, &v4, "127.0.0.1").await.is_ipv4());
        assert!(hop(&both, &v6, "::1").await.is_ipv6());
    }

    #[tokio::test]
    async fn loopback_is_named_last_and_only_when_wanted_or_alone() {
        let both = BoundPort::bind(None).unwrap().attach().unwrap();
        let with = both.candidates(true);
        let first_local = with.iter().position(|addr| addr.ip().is_loopback()).unwrap();
        assert!(with[first_local..].iter().all(|addr| addr.ip().is_loopback()));
        assert!(with.iter().all(|addr| addr.port() == both.local_addr().port() && !addr.ip().is_unspecified()));
        let without = both.candidates(false);
        assert!(without.iter().all(|addr| addr.ip().is_loopback()) || !without.iter().any(|a| a.ip().is_loopback()));
        let bound = port("127.0.0.1:0");
        assert_eq!(bound.candidates(false), [bound.local_addr()]);
    }

    #[test]
    fn addresses_that_are_not_one_host_elsewhere_are_not_tried() {
        for bad in
            ["0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "1.2.3.4:0", "[::]:1", "[ff02::1]:1", "[fe80::1]:1"]
        {
            assert!(!is_candidate(bad.parse().unwrap(), true), "{bad}");
        }
        for local in ["127.0.0.1:53", "[::1]:53", "[::ffff:127.0.0.1]:53"] {
            assert!(!is_candidate(local.parse().unwrap(), false), "{local}");
            assert!(is_candidate(local.parse().unwrap(), true), "{local}");
        }
        assert!(is_candidate("192.168.0.2:4000".parse().unwrap(), false));
    }

    #[test]
    fn a_taken_port_says_so() {
        let first = BoundPort::bind(Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let again = BoundPort::bind(Some(first.local));
        assert!(again.unwrap_err().to_string().contains("cannot be opened"));
    }
}
