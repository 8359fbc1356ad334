//! What a client keeps of the name that it has, and of the mesh in which that name counts.

use super::cert::NameCert;
use super::frame::ServerInfo;
use super::name::Name;
use super::{DecodeError, decode, encode};
use crate::crypto::identity::PublicKey;
use minicbor::bytes::{ByteArray, ByteVec};

/// Other servers that are kept at most.
pub const SERVERS_KEPT: usize = 256;
/// Endpoints that are kept of each.
pub const ENDPOINTS_KEPT: usize = 8;
/// Largest encoded [`HomeCard`], bytes.
pub const CARD_MAX: usize = 1 << 20;

/// Our name at its home server, and the servers that believe it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct HomeCard {
    /// The certificate that the home server gave us last.
    #[n(0)]
    pub cert: NameCert,
    /// The mesh authorities that the home server believed when it was first asked.
    #[n(1)]
    pub authorities: Vec<ByteArray<32>>,
    /// Servers for which an authority vouches, or the home server itself. Whatever was measured of them is 0.
    #[n(2)]
    pub servers: Vec<ServerInfo>,
    /// What the home server does not want shared, as it said last: a signed [`super::sharing::Document`].
    #[n(3)]
    pub sharing: Option<ByteVec>,
}

impl HomeCard {
    /// The home server.
    pub const fn server(&self) -> &Name {
        self.cert.server()
    }

    /// Whether the name counts at a server with this name and key: that is its home, or vouched for there.
    pub fn leads_to(&self, server: &Name, key: &PublicKey) -> bool {
        let home = self.server() == server && self.cert.server_key() == *key;
        home || self.servers.iter().any(|known| known.name == *server && *known.key == *key.as_bytes())
    }

    /// The authorities' keys.
    pub fn authority_keys(&self) -> Vec<PublicKey> {
        self.authorities.iter().map(|key| PublicKey::from_bytes(**key)).collect()
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the encoded form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, CARD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::Identity;
    use crate::wire::name::FullName;

    #[test]
    fn a_card_reads_back_and_leads_to_its_home_and_to_those_it_lists() {
        let (home, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]).public());
        let name = |text: &str| Name::parse(text).unwrap();
        let cert = NameCert::issue(&home, FullName::new(name("alice"), name("s1")), other, 9);
        let listed = ServerInfo {
            name: name("s2"),
            key: (*other.as_bytes()).into(),
            vouch: Vec::new().into(),
            endpoints: vec!["host:1".into()],
            hops: 0,
            round_trip_us: 0,
        };
        let card = HomeCard { cert, authorities: vec![[7; 32].into()], servers: vec![listed], sharing: None };
        assert_eq!(HomeCard::from_bytes(&card.to_bytes()), Ok(card.clone()));
        assert!(card.leads_to(&name("s1"), &home.public()) && card.leads_to(&name("s2"), &other));
        assert!(!card.leads_to(&name("s1"), &other) && !card.leads_to(&name("s3"), &other));
    }
}
