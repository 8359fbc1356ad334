//! Where a server is reached: `HOST:PORT`.

use super::invite::{Host, InviteError};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The port of a server, TCP and UDP, where none is named.
pub const DEFAULT_PORT: u16 = 7443;
/// The port at which servers link with each other, where none is named.
pub const MESH_PORT: u16 = 7444;

/// A host and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A DNS name or an address.
    pub host: Host,
    /// Never 0.
    pub port: u16,
}

impl Endpoint {
    /// The host as name services take it: an IPv6 address without brackets.
    pub fn host_text(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::V4(address) => address.to_string(),
            Host::V6(address) => address.to_string(),
        }
    }

    /// Whether this is a loopback address, or the name that stands for it.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost",
            Host::V4(address) => address.is_loopback(),
            Host::V6(address) => address.is_loopback(),
        }
    }
}

impl Endpoint {
    /// As [`Self::from_str`], with another port where none is given.
    pub fn parse_with(text: &str, port: u16) -> Result<Self, InviteError> {
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::V6(address), port });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, parse_port(port)?),
            _ => (text, port),
        };
        Ok(Self { host: host.parse()?, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Endpoint {
    type Err = InviteError;

    /// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`, or a bare IPv6 address; [`DEFAULT_PORT`] where none is given.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        Self::parse_with(text, DEFAULT_PORT)
    }
}

fn parse_port(text: &str) -> Result<u16, InviteError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InviteError::Port);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(InviteError::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_a_port() {
        for (text, shown) in [
            ("chat.example.org", "chat.example.org:7443"),
            ("Chat.Example.org:1", "chat.example.org:1"),
            ("10.0.0.1:65535", "10.0.0.1:65535"),
            ("::1", "[::1]:7443"),
            ("[::1]", "[::1]:7443"),
            ("[2001:db8::7]:9", "[2001:db8::7]:9"),
        ] {
            assert_eq!(text.parse::<Endpoint>().map(|e| e.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for bad in ["", ":1", "host:", "host:0", "host:65536", "host:+1", "1.2.3:4", "ho st", "[::1", "::1]:4"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
