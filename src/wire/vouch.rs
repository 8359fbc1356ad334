//! Which key a server has, on whose word, and through which server a client speaks.

use super::cert::{CertError, NameCert};
use super::id::InstanceId;
use super::name::Name;
use super::{DecodeError, decode, encode};
use crate::crypto::identity::{Fingerprint, Identity, PublicKey, Purpose};
use std::fmt;

/// Largest encoded [`ServerCert`], bytes.
pub const SERVER_CERT_MAX: usize = 384;
/// Largest encoded [`Pass`], bytes.
pub const PASS_MAX: usize = 256;

/// A server in the mesh: SHA-256 of its identity key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The node with this identity key.
    pub fn of(key: &PublicKey) -> Self {
        Self(key.fingerprint().0)
    }
}

impl fmt::Display for NodeId {
    /// Its first eight bytes: enough to tell nodes apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// The server called `name` has `key` until `not_after`, on the signer's word. A mesh authority signs one for each server.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct ServerCert {
    /// The server's name.
    #[n(0)]
    pub name: Name,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    key: [u8; 32],
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    signer: [u8; 32],
    /// Milliseconds of the Unix clock after which it no longer holds.
    #[n(3)]
    pub not_after: u64,
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    signature: [u8; 64],
}

impl ServerCert {
    /// Signs.
    pub fn issue(signer: &Identity, name: Name, key: PublicKey, not_after: u64) -> Self {
        let mut cert =
            Self { name, key: *key.as_bytes(), signer: *signer.public().as_bytes(), not_after, signature: [0; 64] };
        cert.signature = cert.with_fields(|fields| signer.sign(Purpose::ServerCert, fields));
        cert
    }

    /// The server's identity key.
    pub const fn key(&self) -> PublicKey {
        PublicKey::from_bytes(self.key)
    }

    /// Whose word it is; not believed by itself.
    pub const fn signer(&self) -> PublicKey {
        PublicKey::from_bytes(self.signer)
    }

    /// Whether it is `signer`'s word, and holds at `now_ms`.
    pub fn check(&self, signer: &PublicKey, now_ms: u64) -> Result<(), CertError> {
        if self.signer() != *signer {
            return Err(CertError::Signature);
        }
        self.with_fields(|fields| signer.verify(Purpose::ServerCert, fields, &self.signature))
            .map_err(|_| CertError::Signature)?;
        if now_ms > self.not_after { Err(CertError::Expired) } else { Ok(()) }
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the encoded form; checks nothing but its shape.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, SERVER_CERT_MAX)
    }

    fn with_fields<T>(&self, f: impl FnOnce(&[&[u8]]) -> T) -> T {
        f(&[self.name.as_str().as_bytes(), &self.key, &self.not_after.to_be_bytes()])
    }
}

/// Which servers' certificates are believed, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTrust {
    /// Keys of mesh authorities.
    pub authorities: Vec<PublicKey>,
    /// Servers that are believed by themselves: our own, and those listed by fingerprint. The name is theirs, whatever an
    /// authority says.
    pub listed: Vec<(Name, Fingerprint)>,
}

/// Why a server, or a certificate of a server, is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Nobody that we trust vouches for it.
    #[error("no authority that is trusted here vouches for the server {0}")]
    Unknown(Name),
    /// Another key has this name.
    #[error("the server {0} has another key than it proves")]
    OtherKey(Name),
    /// A certificate does not hold.
    #[error(transparent)]
    Cert(#[from] CertError),
}

impl ServerTrust {
    /// Whether the server called `name` is the one with `key`, at `now_ms`; `vouch` is what it shows for that.
    pub fn check_server(
        &self,
        name: &Name,
        key: &PublicKey,
        vouch: Option<&ServerCert>,
        now_ms: u64,
    ) -> Result<(), Doubt> {
        if let Some((_, listed)) = self.listed.iter().find(|(listed, _)| listed == name) {
            return if *listed == key.fingerprint() { Ok(()) } else { Err(Doubt::OtherKey(name.clone())) };
        }
        let vouch = vouch.ok_or_else(|| Doubt::Unknown(name.clone()))?;
        let authority =
            self.authorities.iter().find(|a| **a == vouch.signer()).ok_or_else(|| Doubt::Unknown(name.clone()))?;
        vouch.check(authority, now_ms)?;
        if vouch.name != *name || vouch.key() != *key {
            return Err(Doubt::OtherKey(name.clone()));
        }
        Ok(())
    }

    /// Whether a name certificate holds at `now_ms`: signed by its server, which is believed.
    pub fn check_name(&self, cert: &NameCert, now_ms: u64) -> Result<(), Doubt> {
        self.check_server(cert.server(), &cert.server_key(), cert.chain.as_deref(), now_ms)?;
        Ok(cert.check(&cert.server_key(), now_ms)?)
    }
}

/// A client's word that it speaks through a server: no server can make up sessions of clients that are not its own.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Pass {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    client: [u8; 32],
    /// The process; a login elsewhere in the mesh has the same.
    #[n(1)]
    pub instance: InstanceId,
    /// Milliseconds of the Unix clock after which it no longer holds.
    #[n(2)]
    pub not_after: u64,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    signature: [u8; 64],
}

impl Pass {
    /// `client` speaks through the server with the key `through`.
    pub fn sign(client: &Identity, through: &PublicKey, instance: InstanceId, not_after: u64) -> Self {
        let mut pass = Self { client: *client.public().as_bytes(), instance, not_after, signature: [0; 64] };
        pass.signature = pass.with_fields(through, |fields| client.sign(Purpose::Pass, fields));
        pass
    }

    /// The client's key.
    pub const fn client(&self) -> PublicKey {
        PublicKey::from_bytes(self.client)
    }

    /// Whether the client gave it to the server with the key `through`, and it holds at `now_ms`.
    pub fn check(&self, through: &PublicKey, now_ms: u64) -> Result<(), CertError> {
        self.with_fields(through, |fields| self.client().verify(Purpose::Pass, fields, &self.signature))
            .map_err(|_| CertError::Signature)?;
        if now_ms > self.not_after { Err(CertError::Expired) } else { Ok(()) }
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the encoded form; checks nothing but its shape.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, PASS_MAX)
    }

    fn with_fields<T>(&self, through: &PublicKey, f: impl FnOnce(&[&[u8]]) -> T) -> T {
        f(&[through.as_bytes(), &self.instance.0, &self.not_after.to_be_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;
    use crate::wire::name::FullName;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn identity(n: u8) -> Identity {
        Identity::from_seed(&[n; 32])
    }

    #[test]
    fn a_server_is_believed_on_the_authoritys_word_for_its_own_name_key_and_time_only() {
        let (authority, other, s1, s2) = (identity(1), identity(2), identity(3), identity(4));
        let trust = ServerTrust { authorities: vec![authority.public()], listed: Vec::new() };
        let vouch = ServerCert::issue(&authority, name("s1"), s1.public(), 100);
        let back = ServerCert::from_bytes(&vouch.to_bytes()).unwrap();
        assert_eq!(trust.check_server(&name("s1"), &s1.public(), Some(&back), 100), Ok(()));
        let expired = Err(Doubt::Cert(CertError::Expired));
        assert_eq!(trust.check_server(&name("s1"), &s1.public(), Some(&vouch), 101), expired);
        let wrong = Err(Doubt::OtherKey(name("s1")));
        assert_eq!(trust.check_server(&name("s1"), &s2.public(), Some(&vouch), 1), wrong);
        assert!(trust.check_server(&name("s2"), &s1.public(), Some(&vouch), 1).is_err(), "a server has one name");
        let foreign = ServerCert::issue(&other, name("s1"), s1.public(), 100);
        assert_eq!(
            trust.check_server(&name("s1"), &s1.public(), Some(&foreign), 1),
            Err(Doubt::Unknown(name("s1"))),
            "another authority's word"
        );
        assert_eq!(trust.check_server(&name("s1"), &s1.public(), None, 1), Err(Doubt::Unknown(name("s1"))));
        let mut forged = vouch;
        forged.name = name("s9");
        let bad = Err(Doubt::Cert(CertError::Signature));
        assert_eq!(trust.check_server(&name("s9"), &s1.public(), Some(&forged), 1), bad);
    }

    #[test]
    fn a_listed_server_is_its_fingerprint_whatever_an_authority_says() {
        let (authority, s1, s2) = (identity(1), identity(3), identity(4));
        let listed = vec![(name("s1"), s1.public().fingerprint())];
        let trust = ServerTrust { authorities: vec![authority.public()], listed };
        assert_eq!(trust.check_server(&name("s1"), &s1.public(), None, 1), Ok(()));
        let vouch = ServerCert::issue(&authority, name("s1"), s2.public(), 100);
        let wrong = Err(Doubt::OtherKey(name("s1")));
        assert_eq!(trust.check_server(&name("s1"), &s2.public(), Some(&vouch), 1), wrong);
    }

    #[test]
    fn a_name_is_believed_through_its_servers_certificate_and_not_on_another_servers_word() {
        let (authority, s1, s2, alice) = (identity(1), identity(3), identity(4), identity(5).public());
        let trust = ServerTrust { authorities: vec![authority.public()], listed: Vec::new() };
        let chain = |server: &Identity, n: &str| Some(ServerCert::issue(&authority, name(n), server.public(), 100));
        let subject = FullName::new(name("alice"), name("s1"));
        let good = NameCert::issue(&s1, subject.clone(), alice, 50).with_chain(chain(&s1, "s1"));
        assert_eq!(trust.check_name(&good, 50), Ok(()));
        assert_eq!(trust.check_name(&good, 51), Err(Doubt::Cert(CertError::Expired)));
        let lie = NameCert::issue(&s2, subject.clone(), alice, 50).with_chain(chain(&s2, "s2"));
        assert_eq!(trust.check_name(&lie, 1), Err(Doubt::OtherKey(name("s1"))), "s2 signs for a name at s1");
        let borrowed = NameCert::issue(&s2, subject, alice, 50).with_chain(chain(&s1, "s1"));
        assert_eq!(trust.check_name(&borrowed, 1), Err(Doubt::OtherKey(name("s1"))), "with s1's own certificate");
    }

    #[test]
    fn a_pass_is_good_for_the_server_that_it_was_given_to() {
        let (client, s1, s2) = (identity(1), identity(2).public(), identity(3).public());
        let pass = Pass::sign(&client, &s1, Id([7; 16]), 100);
        let back = Pass::from_bytes(&pass.to_bytes()).unwrap();
        assert_eq!((back.client(), back.check(&s1, 100)), (client.public(), Ok(())));
        assert_eq!(back.check(&s1, 101), Err(CertError::Expired));
        assert_eq!(back.check(&s2, 1), Err(CertError::Signature), "another server shows it");
        let mut later = back;
        later.not_after += 1;
        assert_eq!(later.check(&s1, 1), Err(CertError::Signature));
    }
}
