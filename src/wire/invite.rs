//! Invites: one line that tells a newcomer where a server is, which key it has, and how to get into a room.

use super::name::Name;
use crate::crypto::identity::Fingerprint;
use crate::crypto::secret::Secret;
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use zeroize::Zeroizing;

/// `secchat://HOST:PORT/?pin=FINGERPRINT&name=SERVER[&room=LABEL&id=ROOM-ID[&secret=WORDS]]`. There is no `Display`: whoever prints one
/// says by [`Invite::to_url`] whether the secret goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// Where the server listens.
    pub host: Host,
    /// Its TCP port.
    pub port: u16,
    /// SHA-256 of the server's identity key.
    pub pin: Fingerprint,
    /// The server's name, to pin with the key.
    pub server: Name,
    /// The room to join there.
    pub room: Option<InvitedRoom>,
}

/// A room that an invite leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitedRoom {
    /// Its label at the server.
    pub label: Name,
    /// Its id, which the password is salted with.
    pub id: [u8; 16],
    /// Its password, if the invite carries it.
    pub secret: Option<Secret>,
}

/// A server's address: a DNS name (ASCII, lower case) or a literal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// To be looked up.
    Name(String),
    /// As it is.
    V4(Ipv4Addr),
    /// As it is; in brackets where a port follows.
    V6(Ipv6Addr),
}

/// Why a text is not an invite. Never repeats any of it, since a secret may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// More than [`INVITE_MAX`] bytes.
    #[error("an invite has at most {INVITE_MAX} bytes")]
    TooLong,
    /// Not `secchat://HOST:PORT/?...`.
    #[error("not an invite (it begins with secchat://HOST:PORT/?)")]
    Shape,
    /// No DNS name and no address.
    #[error("the invite's host is neither a name nor an address")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A `%` without two hex digits, or bytes that are not UTF-8.
    #[error("the invite's percent-encoding is broken")]
    Encoding,
    /// This part is needed and not there.
    #[error("the invite has no {0}")]
    Missing(&'static str),
    /// This part is there twice.
    #[error("the invite has {0} twice")]
    Twice(&'static str),
    /// This part is not what it should be.
    #[error("the invite's {0} is malformed")]
    Part(&'static str),
}

impl Invite {
    /// Reads an invite; spaces and newlines around it are dropped, parts with unknown names are skipped.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        if text.len() > INVITE_MAX {
            return Err(InviteError::TooLong);
        }
        let rest = text.trim().strip_prefix(SCHEME).ok_or(InviteError::Shape)?;
        let (authority, query) = rest.split_once('?').ok_or(InviteError::Shape)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':').ok_or(InviteError::Shape)?;
        let parts = Parts::parse(query)?;
        Ok(Self {
            host: host.parse()?,
            port: parse_port(port)?,
            pin: parts.need("pin")?.parse().map_err(|_| InviteError::Part("pin"))?,
            server: Name::parse(parts.need("name")?).map_err(|_| InviteError::Part("name"))?,
            room: parts.room()?,
        })
    }

    /// Whether it carries a room's password.
    pub fn has_secret(&self) -> bool {
        self.room.as_ref().is_some_and(|room| room.secret.is_some())
    }

    /// The text, with the password or without it. Wiped on drop.
    pub fn to_url(&self, with_secret: bool) -> Zeroizing<String> {
        // Sized before it is filled: a buffer that moves would leave a copy behind.
        let mut url = Zeroizing::new(String::with_capacity(INVITE_MAX));
        let out: &mut String = &mut url;
        write!(out, "{SCHEME}{}:{}/?pin={}", self.host, self.port, self.pin).expect("writing to memory");
        push_part(out, "name", self.server.as_str());
        if let Some(room) = &self.room {
            push_part(out, "room", room.label.as_str());
            out.push_str("&id=");
            for byte in room.id {
                write!(out, "{byte:02x}").expect("writing to memory");
            }
            if let Some(secret) = room.secret.as_ref().filter(|_| with_secret) {
                push_part(out, "secret", secret.expose());
            }
        }
        url
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl FromStr for Host {
    type Err = InviteError;

    /// An IPv6 address stands in brackets; what looks like an IPv4 address must be one.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse().ok());
            return address.map(Self::V6).ok_or(InviteError::Host);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::V4(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let numeric = name.rsplit('.').next().is_none_or(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if numeric || name.len() > HOST_MAX || !name.split('.').all(dns_label) {
            return Err(InviteError::Host);
        }
        Ok(Self::Name(name))
    }
}

fn dns_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn parse_port(text: &str) -> Result<u16, InviteError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InviteError::Port);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(InviteError::Port)
}

/// The known parts of the query, decoded; each at most once.
#[derive(Default)]
struct Parts([Option<Zeroizing<String>>; KNOWN.len()]);

impl Parts {
    fn parse(query: &str) -> Result<Self, InviteError> {
        let mut parts = Self::default();
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let known = KNOWN.iter().zip(&mut parts.0).find(|(known, _)| **known == name);
            let Some((name, slot)) = known else { continue };
            if slot.replace(percent_decode(value)?).is_some() {
                return Err(InviteError::Twice(name));
            }
        }
        Ok(parts)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = KNOWN.iter().zip(&self.0).find(|(known, _)| **known == name)?;
        value.as_ref().map(|value| value.as_str())
    }

    fn need(&self, name: &'static str) -> Result<&str, InviteError> {
        self.get(name).ok_or(InviteError::Missing(name))
    }

    fn room(&self) -> Result<Option<InvitedRoom>, InviteError> {
        if ["room", "id", "secret"].iter().all(|name| self.get(name).is_none()) {
            return Ok(None);
        }
        let label = Name::parse(self.need("room")?).map_err(|_| InviteError::Part("room"))?;
        let id = room_id(self.need("id")?).ok_or(InviteError::Part("id"))?;
        let secret = self.get("secret").map(Secret::new).transpose().map_err(|_| InviteError::Part("secret"))?;
        Ok(Some(InvitedRoom { label, id, secret }))
    }
}

/// Exactly 32 hex digits.
fn room_id(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

fn push_part(out: &mut String, name: &str, value: &str) {
    write!(out, "&{name}=").expect("writing to memory");
    for byte in value.bytes() {
        // What RFC 3986 calls unreserved stands for itself.
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to memory");
        }
    }
}

fn percent_decode(text: &str) -> Result<Zeroizing<String>, InviteError> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.bytes();
    let digit = |byte: Option<u8>| {
        let digit = char::from(byte?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (digit(bytes.next()), digit(bytes.next()));
            let (Some(high), Some(low)) = (high, low) else { return Err(InviteError::Encoding) };
            out.push(high << 4 | low);
        } else {
            out.push(byte);
        }
    }
    let text = std::str::from_utf8(&out).map_err(|_| InviteError::Encoding)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Longest invite, bytes: the longest secret, each of its bytes written as three, and the rest.
pub const INVITE_MAX: usize = 4096;
const HOST_MAX: usize = 253;
const SCHEME: &str = "secchat://";
const KNOWN: [&str; 5] = ["pin", "name", "room", "id", "secret"];

#[cfg(test)]
mod tests;
