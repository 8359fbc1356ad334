//! Ed25519 identities of users and servers, and the one function that signs.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;

/// What a signature is for. Each purpose has its own label, so that a signature made for one never verifies as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The server's proof over the TLS exporter and its name, sent first on each link.
    ServerAuth,
    /// A name certificate.
    NameCert,
    /// A joiner's proof that it knows the room's secret (made with the join key).
    Join,
    /// A member's vouching for a published GroupInfo (made with the join key).
    GroupInfo,
    /// A mesh authority's word, or another server's, on which key a server's name belongs to.
    ServerCert,
    /// A client's word that it is connected through a server.
    Pass,
    /// A server's record of its links.
    LinkState,
    /// A server's word that somebody is banned.
    Ban,
    /// A server's rules on what may be shared.
    Sharing,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::ServerAuth => "server-auth",
            Self::NameCert => "name-cert",
            Self::Join => "join",
            Self::GroupInfo => "group-info",
            Self::ServerCert => "server-cert",
            Self::Pass => "pass",
            Self::LinkState => "link-state",
            Self::Ban => "ban",
            Self::Sharing => "sharing",
        }
    }
}

/// The public half of an identity; what pins, name certificates and policies hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// A signature failed or a key is not a point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl PublicKey {
    /// Takes raw key bytes; whether they are a usable key shows when something is verified.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of the key: what pins and invites carry.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(self.0).into())
    }

    /// Checks a signature made by [`Identity::sign`] for the same purpose and fields.
    pub fn verify(&self, purpose: Purpose, fields: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
        key.verify_strict(&message(purpose, fields), &signature).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl fmt::Display for PublicKey {
    /// `ed25519:` and 64 hex digits, so that nobody takes it for a fingerprint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", Fingerprint(self.0))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = BadPublicKey;

    fn from_str(text: &str) -> Result<Self, BadPublicKey> {
        let digits = text.strip_prefix(KEY_PREFIX).ok_or(BadPublicKey)?;
        digits.parse::<Fingerprint>().map(|bytes| Self(bytes.0)).map_err(|_| BadPublicKey)
    }
}

/// Text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key is ed25519: and 64 hex digits")]
pub struct BadPublicKey;

/// SHA-256 of a public key, shown as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or(BadFingerprint)?;
        let bytes: Vec<u8> = digits.chunks(2).filter_map(|p| Some(p.first()? << 4 | p.get(1)?)).collect();
        if digits.len() != 64 {
            return Err(BadFingerprint);
        }
        Ok(Self(bytes.try_into().map_err(|_| BadFingerprint)?))
    }
}

/// Text is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hex digits")]
pub struct BadFingerprint;

/// An Ed25519 key pair: a user's, a server's or a room's join key. Wiped on drop; prints only its fingerprint.
#[derive(Clone)]
pub struct Identity(SigningKey);

impl Identity {
    /// Derives the pair from its 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for storing the identity and for handing it to TLS and MLS; the caller's copy wipes itself.
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `secchat/1 <purpose>` || 0 || the length-prefixed fields. No raw signing call exists beside it; TLS and MLS separate their own.
    pub fn sign(&self, purpose: Purpose, fields: &[&[u8]]) -> [u8; 64] {
        self.0.sign(&message(purpose, fields)).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public().fingerprint())
    }
}

fn message(purpose: Purpose, fields: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("secchat/1 {}", purpose.label()).into_bytes();
    out.push(0);
    for field in fields {
        out.extend_from_slice(&(field.len() as u64).to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

const KEY_PREFIX: &str = "ed25519:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_purpose_and_fields_only() {
        let id = Identity::from_seed(&[7; 32]);
        let sig = id.sign(Purpose::NameCert, &[b"ab", b"c"]);
        assert!(id.public().verify(Purpose::NameCert, &[b"ab", b"c"], &sig).is_ok());
        assert!(id.public().verify(Purpose::NameCert, &[b"a", b"bc"], &sig).is_err());
        assert!(id.public().verify(Purpose::Join, &[b"ab", b"c"], &sig).is_err());
    }

    #[test]
    fn fingerprints_read_back_and_secrets_do_not_print() {
        let id = Identity::from_seed(&[7; 32]);
        let fp = id.public().fingerprint();
        assert_eq!(fp.to_string().parse::<Fingerprint>(), Ok(fp));
        assert!("zz".parse::<Fingerprint>().is_err());
        assert_eq!(id.public().to_string().parse::<PublicKey>(), Ok(id.public()));
        assert!(fp.to_string().parse::<PublicKey>().is_err(), "a fingerprint is no key");
        assert!(!format!("{id:?}").contains("070707"));
    }
}
