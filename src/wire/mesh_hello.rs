//! What two servers say to each other before they are linked. Who speaks, the TLS handshake has proved.
//!
//! The one that dialled says [`MeshHello`] first. The other answers with its own if it agrees to the link, and the first confirms
//! that; either says [`MeshRefusal`] instead if it does not agree, and ends the connection;
//! that may also be the last word on a link.

use super::name::Name;
use super::vouch::{SERVER_CERT_MAX, ServerCert};
use super::{DecodeError, decode, encode};

/// The version of the protocol between servers.
pub const MESH_VERSION: u32 = 1;
/// Largest encoded [`MeshHello`], bytes.
pub const MESH_HELLO_MAX: usize = SERVER_CERT_MAX + 128;
/// Largest encoded [`MeshRefusal`], bytes.
pub const MESH_REFUSAL_MAX: usize = 512;

/// Which server this is.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct MeshHello {
    /// [`MESH_VERSION`] of the speaker.
    #[n(0)]
    pub version: u32,
    /// Its name.
    #[n(1)]
    pub name: Name,
    /// What an authority says of it.
    #[n(2)]
    pub vouch: Option<ServerCert>,
    /// The process: a link of a newer one takes the place of an older one's.
    #[n(3)]
    pub instance: u64,
    /// Whether it takes parcels; earlier builds do not know them and do not say it.
    #[n(4)]
    pub parcels: Option<bool>,
}

/// Why a server does not want the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, thiserror::Error)]
#[cbor(index_only)]
pub enum MeshRefusal {
    /// Another version of the protocol.
    #[n(0)]
    #[error("it speaks another version of the mesh protocol")]
    Version,
    /// Nobody that it trusts vouches for this server.
    #[n(1)]
    #[error("nobody that it trusts vouches for this server and its name")]
    NotTrusted,
    /// Another server of the mesh has this name.
    #[n(2)]
    #[error("another server of the mesh has this name already")]
    NameTaken,
    /// The two are linked already.
    #[n(3)]
    #[error("the two servers are linked already")]
    Linked,
    /// It has dialled itself.
    #[n(4)]
    #[error("it is this server itself")]
    Itself,
    /// It has as many links as it takes, or it stops.
    #[n(5)]
    #[error("it takes no more links")]
    Busy,
    /// The last word on a link: its operator has stopped it.
    #[n(6)]
    #[error("it was stopped")]
    Leaving,
    /// It has a link to a newer process with the same identity.
    #[n(7)]
    #[error("a newer process with this server's identity is linked there: it runs twice, or its clock was set back")]
    Former,
}

impl MeshHello {
    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the encoded form; checks nothing but its shape.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, MESH_HELLO_MAX)
    }
}

impl MeshRefusal {
    /// The encoded form.
    pub fn to_bytes(self) -> Vec<u8> {
        encode(&self)
    }

    /// Reads the encoded form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, MESH_REFUSAL_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::Identity;

    #[test]
    fn a_hello_reads_back_whole_and_no_part_of_it_does() {
        let (authority, server) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let name = Name::parse("s".repeat(48).as_str()).unwrap();
        let vouch = Some(ServerCert::issue(&authority, name.clone(), server.public(), u64::MAX));
        let hello = MeshHello { version: MESH_VERSION, name, vouch, instance: u64::MAX, parcels: Some(true) };
        let bytes = hello.to_bytes();
        assert_eq!(MeshHello::from_bytes(&bytes), Ok(hello));
        for end in 0..bytes.len() {
            assert!(MeshHello::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        assert_eq!(MeshRefusal::from_bytes(&MeshRefusal::NameTaken.to_bytes()), Ok(MeshRefusal::NameTaken));
        assert!(MeshRefusal::from_bytes(&[99]).is_err());
    }
}
