//! Who is asked for ports: the router that the system sends everything to.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use super::super::candidates::is_private;
use super::Refusal;

/// The default gateway, and who we are in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Our address towards it.
    pub own: Ipv4Addr,
    /// Its port for discovery by UPnP.
    pub(super) ssdp: u16,
}

impl Gateway {
    /// The gateway as it is now. [`Refusal::NoGateway`] where there is none, where we have a public address of our own, and on systems
    /// whose table of routes is not known here: all but Linux.
    pub fn find() -> Result<Self, Refusal> {
        let ip = table().as_deref().and_then(default_route).ok_or(Refusal::NoGateway)?;
        let own = towards(ip)?;
        if own == ip || !is_private(own.into()) {
            return Err(Refusal::NoGateway);
        }
        Ok(Self { ip, own, ssdp: SSDP_PORT })
    }
}

/// Our address on the way to `ip`. Nothing is sent.
fn towards(ip: Ipv4Addr) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((ip, crab_nat::GATEWAY_PORT))?;
    match socket.local_addr()?.ip() {
        std::net::IpAddr::V4(own) => Ok(own),
        std::net::IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

#[cfg(target_os = "linux")]
fn table() -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open("/proc/net/route").ok()?.take(TABLE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(not(target_os = "linux"))]
fn table() -> Option<String> {
    None
}

/// The gateway of the default route with the smallest metric in Linux's table of IPv4 routes.
fn default_route(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (to, gateway) = (number(words.next()?, 8)?, number(words.next()?, 8)?);
        let flags = number(words.next()?, 4)?;
        let (metric, mask) = (words.nth(2)?.parse::<u32>().ok()?, number(words.next()?, 8)?);
        // The kernel prints the four bytes as a number of its own byte order.
        let ip = Ipv4Addr::from(gateway.to_ne_bytes());
        let usable = to == 0 && mask == 0 && flags & UP_BY_GATEWAY == UP_BY_GATEWAY && !ip.is_unspecified();
        usable.then_some((metric, ip))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, ip)| ip)
}

/// A number of so many digits; one that is cut is none.
fn number(hexadecimal: &str, digits: usize) -> Option<u32> {
    Some(hexadecimal).filter(|text| text.len() == digits).and_then(|text| u32::from_str_radix(text, 16).ok())
}

/// RTF_UP and RTF_GATEWAY.
const UP_BY_GATEWAY: u32 = 3;
/// Bytes of the table that are read: some hundred routes.
#[cfg(target_os = "linux")]
const TABLE_MAX: u64 = 64 << 10;
/// UPnP Device Architecture 1.1, §1.
const SSDP_PORT: u16 = 1900;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(to: &str, gateway: [u8; 4], flags: &str, metric: u32, mask: &str) -> String {
        let gateway = u32::from_ne_bytes(gateway);
        format!("eth0\t{to}\t{gateway:08X}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
    }

    #[test]
    fn the_gateway_is_that_of_the_default_route_which_the_system_prefers() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n".to_owned();
        assert_eq!(default_route(&head), None);
        let near = row("0000A8C0", [0; 4], "0001", 0, "00FFFFFF");
        let half = row("00000000", [10, 8, 0, 1], "0003", 0, "00000080");
        let tunnel = row("00000000", [0; 4], "0001", 0, "00000000");
        let down = row("00000000", [10, 9, 0, 1], "0002", 1, "00000000");
        let far = row("00000000", [10, 0, 0, 1], "0003", 600, "00000000");
        let home = row("00000000", [192, 168, 0, 1], "0003", 100, "00000000");
        let none = head + &near + &half + &tunnel + &down;
        assert_eq!(default_route(&none), None);
        assert_eq!(default_route(&(none.clone() + &far + &home)), Some([192, 168, 0, 1].into()));
        let whole = none + &home;
        let cut = (0..whole.len()).map(|len| default_route(&whole[..len]));
        assert!(cut.flatten().all(|ip| ip == Ipv4Addr::new(192, 168, 0, 1)));
        assert_eq!(default_route("eth0 00000000 xyz 0003 0 0 0 00000000"), None);
    }
}
