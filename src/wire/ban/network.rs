//! An address, or all addresses that begin alike.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use minicbor::bytes::ByteVec;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses with a common beginning (RFC 4632 §3.1, RFC 4291 §2.3); a single address has all of its bits there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

/// A text is neither an address nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an address, or a network like 192.0.2.0/24 or 2001:db8::/32, is wanted")]
pub struct BadNetwork;

impl Network {
    /// Whether an address is in it. An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`) counts as what it is.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }

    /// The networks of every size that an address is in, itself first.
    pub fn around(ip: IpAddr) -> impl Iterator<Item = Self> {
        let whole = IpNet::from(ip.to_canonical());
        std::iter::successors(Some(whole), IpNet::supernet).map(Self)
    }

    /// Whether it is wider than what one server may shut for a whole mesh: /8 of IPv4, /16 of IPv6.
    pub const fn is_wide(&self) -> bool {
        match self.0 {
            IpNet::V4(net) => net.prefix_len() < WIDEST_V4,
            IpNet::V6(net) => net.prefix_len() < WIDEST_V6,
        }
    }

    fn of(ip: IpAddr, prefix: u8) -> Result<Self, BadNetwork> {
        let whole = match ip {
            IpAddr::V4(ip) => Ipv4Net::new(ip, prefix).map(IpNet::V4),
            IpAddr::V6(ip) => Ipv6Net::new(ip, prefix).map(IpNet::V6),
        };
        whole.map(|net| Self(net.trunc())).map_err(|_| BadNetwork)
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    /// `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`. What of the address is beyond the prefix counts for nothing.
    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.parse().map_err(|_| BadNetwork)?;
        let bits = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u8>().map_err(|_| BadNetwork),
            false => Err(BadNetwork),
        };
        match (ip, ip.to_canonical(), prefix.map(bits).transpose()?) {
            (_, canonical, None) => Ok(Self(canonical.into())),
            (IpAddr::V6(_), IpAddr::V4(ip), Some(prefix)) => {
                Self::of(ip.into(), prefix.checked_sub(MAPPED).ok_or(BadNetwork)?)
            }
            (ip, _, Some(prefix)) => Self::of(ip, prefix),
        }
    }
}

impl fmt::Display for Network {
    /// A single address without its prefix length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl<C> minicbor::Encode<C> for Network {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?;
        match self.0.addr() {
            IpAddr::V4(ip) => e.bytes(&ip.octets())?,
            IpAddr::V6(ip) => e.bytes(&ip.octets())?,
        };
        e.u8(self.0.prefix_len())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Network {
    /// Only the one form that it is written in: nothing beyond the prefix, no IPv4 address as IPv6.
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bad = || minicbor::decode::Error::message("not a network");
        if d.array()? != Some(2) {
            return Err(bad());
        }
        let bytes: Vec<u8> = d.decode_with::<C, ByteVec>(ctx)?.into();
        let ip = <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from);
        let ip = ip.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from)).map_err(|_| bad())?;
        let network = Self::of(ip, d.u8()?).map_err(|_| bad())?;
        if network.0.addr() != ip || ip.to_canonical() != ip {
            return Err(bad());
        }
        Ok(network)
    }
}

const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 16;
/// Bits before an IPv4 address that is written as an IPv6 one.
const MAPPED: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode};

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_in_its_networks_and_in_no_other() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let cases = [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.77/24", "192.0.2.1", "192.0.3.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.1.9"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "::1", "10.0.0.1"),
        ];
        for (net, inside, outside) in cases {
            let net = network(net);
            assert!(net.contains(ip(inside)) && !net.contains(ip(outside)), "{net}");
            assert!(Network::around(ip(inside)).any(|around| around == net), "{net}");
            assert!(!Network::around(ip(outside)).any(|around| around == net), "{net}");
        }
        assert_eq!(Network::around(ip("10.1.2.3")).count(), 33);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        let bad =
            ["", "bob", "192.0.2", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "192.0.2.0/+8", "2001:db8::/129"];
        let worse = ["192.0.2.0/24/24", "192.0.2.0/255.255.255.0", "192.0.2.0/999", " 192.0.2.1", "::ffff:10.0.0.0/95"];
        for text in bad.into_iter().chain(worse) {
            assert_eq!(text.parse::<Network>(), Err(BadNetwork), "{text:?}");
        }
    }

    #[test]
    fn a_network_has_one_form_on_the_wire() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "192.0.2.1", "::1"] {
            let bytes = encode(&network(text));
            assert_eq!(decode::<Network>(&bytes, 64), Ok(network(text)));
            assert_eq!(network(text).to_string(), text);
            assert!((0..bytes.len()).all(|len| decode::<Network>(&bytes[..len], 64).is_err()));
        }
        let odd: [&[u8]; 4] = [
            &[0x82, 0x44, 192, 0, 2, 1, 24],
            &[0x82, 0x44, 192, 0, 2, 0, 0x18, 33],
            &[0x82, 0x43, 192, 0, 2, 24],
            &[0x82, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0x18, 128],
        ];
        for bytes in odd {
            assert!(decode::<Network>(bytes, 64).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn half_the_world_is_wide() {
        let wide = ["0.0.0.0/0", "10.0.0.0/7", "::/0", "2000::/15"];
        let narrow = ["10.0.0.0/8", "192.0.2.1", "2001::/16", "::1"];
        assert!(wide.into_iter().all(|text| network(text).is_wide()));
        assert!(!narrow.into_iter().any(|text| network(text).is_wide()));
    }
}
