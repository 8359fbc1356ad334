//! Addresses that peers may try: which are ours, and which of theirs we take.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::udp::BoundPort;
use crate::limits::CANDIDATES_MAX;

impl BoundPort {
    /// Our own addresses for peers to try, best first, at most [`CANDIDATES_MAX`]: those of the interfaces that are up,
    /// or the one that we are bound to. Loopback addresses come last, and only if `loopback` or if there is no other.
    /// Link-local addresses mean nothing elsewhere and are left out.
    pub fn candidates(&self, loopback: bool) -> Vec<SocketAddr> {
        if !self.local_addr().ip().is_unspecified() {
            return vec![self.local_addr()];
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let found = interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| self.speaks(*ip) && !is_link_local(*ip));
        let (mut local, mut addrs): (Vec<_>, Vec<_>) = found.partition(IpAddr::is_loopback);
        if loopback || addrs.is_empty() {
            addrs.truncate(CANDIDATES_MAX.saturating_sub(local.len()));
            addrs.append(&mut local);
        }
        addrs.truncate(CANDIDATES_MAX);
        addrs.into_iter().map(|ip| SocketAddr::new(ip, self.local_addr().port())).collect()
    }
}

/// Whether datagrams may be sent to an address that a peer named: one host, and not this one unless `loopback`.
pub fn is_candidate(addr: SocketAddr, loopback: bool) -> bool {
    let ip = addr.ip().to_canonical();
    let one_host = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    one_host && !is_nowhere(ip) && addr.port() != 0 && (loopback || !ip.is_loopback()) && !is_link_local(ip)
}

/// The prefix whose packets are dropped everywhere (RFC 6666): what stands for a relay here has addresses in it.
fn is_nowhere(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.octets().starts_with(&[1, 0, 0, 0, 0, 0, 0, 0]))
}

/// Of the addresses that a peer named those that are tried, in this order: IPv6 before IPv4, each once, and of private networks only
/// a few, for nobody has many of these and a list of them would be one of ours to look through.
pub fn worth_trying(named: &[SocketAddr], loopback: bool) -> Vec<SocketAddr> {
    let (mut first, mut then, mut private) = (Vec::new(), Vec::new(), 0);
    for addr in named.iter().map(|addr| canonical(*addr)).filter(|addr| is_candidate(*addr, loopback)) {
        private += usize::from(is_private(addr.ip()));
        let family = if addr.is_ipv6() { &mut first } else { &mut then };
        if !family.contains(&addr) && (private <= PRIVATE_MAX || !is_private(addr.ip())) {
            family.push(addr);
        }
    }
    first.append(&mut then);
    first.truncate(CANDIDATES_MAX);
    first
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

/// Whether it is an address of a private network, which means something within that only.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        // Carriers' own networks (RFC 6598) too.
        IpAddr::V4(v4) => v4.is_private() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64,
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Addresses of private networks that are tried of one list: a host with two interfaces and some bridges of containers.
const PRIVATE_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_named_last_and_only_when_wanted_or_alone() {
        let both = BoundPort::bind(None).unwrap();
        let with = both.candidates(true);
        let first_local = with.iter().position(|addr| addr.ip().is_loopback()).unwrap();
        assert!(with[first_local..].iter().all(|addr| addr.ip().is_loopback()));
        assert!(with.iter().all(|addr| addr.port() == both.local_addr().port() && !addr.ip().is_unspecified()));
        let without = both.candidates(false);
        assert!(without.iter().all(|addr| addr.ip().is_loopback()) || !without.iter().any(|a| a.ip().is_loopback()));
        let bound = BoundPort::bind(Some("127.0.0.1:0".parse().unwrap())).unwrap();
        assert_eq!(bound.candidates(false), [bound.local_addr()]);
    }

    #[test]
    fn ipv6_is_tried_first_and_a_list_of_neighbours_is_cut() {
        let named =
            ["192.0.2.1:5", "[::ffff:192.0.2.1]:5", "[2001:db8::1]:5", "127.0.0.1:5", "[fe80::1]:5", "192.0.2.2:5"];
        let tried = worth_trying(&named.map(|text| text.parse().unwrap()), false);
        assert_eq!(tried, ["[2001:db8::1]:5", "192.0.2.1:5", "192.0.2.2:5"].map(|text| text.parse().unwrap()));
        let neighbours: Vec<SocketAddr> = (1..200).map(|host| ([192, 168, 0, host], 22).into()).collect();
        assert_eq!(worth_trying(&neighbours, true).len(), PRIVATE_MAX);
        let strangers: Vec<SocketAddr> = (1..200).map(|host| ([198, 51, 100, host], 22).into()).collect();
        assert_eq!(worth_trying(&strangers, true).len(), CANDIDATES_MAX);
    }

    #[test]
    fn addresses_that_are_not_one_host_elsewhere_are_not_tried() {
        for bad in [
            "0.0.0.0:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "1.2.3.4:0",
            "[100::7]:1",
            "[::]:1",
            "[ff02::1]:1",
            "[fe80::1]:1",
        ] {
            assert!(!is_candidate(bad.parse().unwrap(), true), "{bad}");
        }
        for local in ["127.0.0.1:53", "[::1]:53", "[::ffff:127.0.0.1]:53"] {
            assert!(!is_candidate(local.parse().unwrap(), false), "{local}");
            assert!(is_candidate(local.parse().unwrap(), true), "{local}");
        }
        assert!(is_candidate("192.168.0.2:4000".parse().unwrap(), false));
    }
}
