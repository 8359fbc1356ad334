//! What two servers of a mesh say to each other about the clients of one and the rooms of the other.
//!
//! A client is connected to one server, its access server. At every other one where it has rooms it has a session through that:
//! whole frames travel both ways, as they would over a link of its own.

use super::leg::LinkData;
use super::{DecodeError, decode, encode};
use crate::limits::MESH_PARCEL_MAX;
use minicbor::bytes::ByteArray;

/// Largest encoded [`Head`], bytes: one that names [`CLIENTS_MAX`] clients.
pub const HEAD_MAX: usize = 16 + CLIENTS_MAX * 9;
/// Clients that one frame is for at most.
pub const CLIENTS_MAX: usize = 1024;

/// Goes before the body of a message between servers. `client` is a number that the access server never uses twice while it runs.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Head {
    /// To a home server: a client comes. The body is its [`super::frame::ToServer::Login`], encoded.
    #[n(0)]
    Open {
        /// Its number.
        #[n(0)]
        client: u64,
        /// The same for all clients of one network, and nothing else is told of where they are.
        #[n(1)]
        source: ByteArray<16>,
    },
    /// To a home server: the body is a client's [`super::frame::ToServer`], encoded.
    #[n(1)]
    Frame {
        /// Its number.
        #[n(0)]
        client: u64,
    },
    /// To a home server: a client is gone.
    #[n(2)]
    Gone {
        /// Its number.
        #[n(0)]
        client: u64,
    },
    /// To an access server: the body is an encoded [`super::frame::ToClient`] for each of these.
    #[n(3)]
    ToClients {
        /// Their numbers, at most [`CLIENTS_MAX`].
        #[n(0)]
        clients: Vec<u64>,
    },
    /// To an access server: the home server has ended a client's session.
    #[n(4)]
    Closed {
        /// Its number.
        #[n(0)]
        client: u64,
    },
    /// To any server: which bans the sender knows. The body is a [`super::ban::Summary`], encoded; what it lacks is sent to it.
    #[n(5)]
    BansKnown,
    /// To any server: bans, the sender's own or those of a third one. The body is a [`super::ban::Page`], encoded.
    #[n(6)]
    Bans,
}

impl Head {
    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the encoded form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        match decode(bytes, HEAD_MAX)? {
            Self::ToClients { clients } if clients.len() > CLIENTS_MAX => Err(DecodeError::Malformed),
            head => Ok(head),
        }
    }
}

/// In a parcel between servers: relayed datagrams of one client. [`LinkData::server`] is left out.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Passing {
    /// To the home server, which has the leg.
    #[n(0)]
    ToHome {
        /// The client's number, as in [`Head`].
        #[n(0)]
        client: u64,
        /// For the peer.
        #[n(1)]
        data: LinkData,
    },
    /// To the access server.
    #[n(1)]
    ToAccess {
        /// The client's number.
        #[n(0)]
        client: u64,
        /// From the peer.
        #[n(1)]
        data: LinkData,
    },
}

impl Passing {
    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the encoded form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, MESH_PARCEL_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_batch_of_a_link_fits_into_a_parcel() {
        let datagrams = vec![0; crate::limits::RELAY_LINK_BATCH].into();
        let passing =
            Passing::ToAccess { client: u64::MAX, data: LinkData { leg: [7; 8].into(), datagrams, server: None } };
        assert_eq!(Passing::from_bytes(&passing.to_bytes()), Ok(passing));
    }

    #[test]
    fn heads_read_back_and_truncations_are_refused() {
        let heads = [
            Head::Open { client: 7, source: [3; 16].into() },
            Head::Frame { client: u64::MAX },
            Head::ToClients { clients: vec![1, 2, 3] },
            Head::Closed { client: 1 },
            Head::BansKnown,
            Head::Bans,
        ];
        for head in heads {
            let bytes = head.to_bytes();
            assert_eq!(Head::from_bytes(&bytes), Ok(head));
            assert!((0..bytes.len()).all(|len| Head::from_bytes(&bytes[..len]).is_err()));
        }
        let most = Head::ToClients { clients: vec![u64::MAX; CLIENTS_MAX] };
        assert_eq!(Head::from_bytes(&most.to_bytes()), Ok(most));
        let more = Head::ToClients { clients: vec![1; CLIENTS_MAX + 1] };
        assert!(Head::from_bytes(&more.to_bytes()).is_err());
    }
}
