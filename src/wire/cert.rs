//! Name certificates: a home server vouches that a name there belongs to a key.

use super::name::{FullName, Name};
use super::vouch::{SERVER_CERT_MAX, ServerCert};
use super::{DecodeError, decode, encode};
use crate::crypto::identity::{Identity, PublicKey, Purpose};

/// Largest encoded certificate, bytes.
pub const CERT_MAX: usize = 512 + SERVER_CERT_MAX;

/// `name` at `server` is `key` until `not_after`. Stands in the MLS credential (BasicCredential's bytes).
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct NameCert {
    /// Who, and at which server.
    #[n(0)]
    pub subject: FullName,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    key: [u8; 32],
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    server_key: [u8; 32],
    /// Milliseconds of the Unix clock after which it no longer holds.
    #[n(3)]
    pub not_after: u64,
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    signature: [u8; 64],
    /// Who vouches for the server, where it is in a mesh. Not signed by the server: it is checked by itself.
    #[n(5)]
    pub chain: Option<Box<ServerCert>>,
}

/// Why a certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// Not a certificate at all.
    #[error("malformed name certificate")]
    Malformed(#[from] DecodeError),
    /// Signed by another server key than the one pinned for its server.
    #[error("the name certificate is not signed by its server")]
    Signature,
    /// Its time is over.
    #[error("the name certificate has expired")]
    Expired,
}

impl NameCert {
    /// Made by the home server.
    pub fn issue(server: &Identity, subject: FullName, key: PublicKey, not_after: u64) -> Self {
        let server_key = *server.public().as_bytes();
        let mut cert = Self { subject, key: *key.as_bytes(), server_key, not_after, signature: [0; 64], chain: None };
        cert.signature = cert.with_fields(|fields| server.sign(Purpose::NameCert, fields));
        cert
    }

    /// Carries what vouches for its server.
    #[must_use]
    pub fn with_chain(self, chain: Option<ServerCert>) -> Self {
        Self { chain: chain.map(Box::new), ..self }
    }

    /// The key that the name belongs to.
    pub const fn key(&self) -> PublicKey {
        PublicKey::from_bytes(self.key)
    }

    /// The server key that signed.
    pub const fn server_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.server_key)
    }

    /// Checks signature, signer and time; `server_key` is the one pinned for the certificate's server.
    pub fn check(&self, server_key: &PublicKey, now_ms: u64) -> Result<(), CertError> {
        if self.server_key() != *server_key {
            return Err(CertError::Signature);
        }
        self.with_fields(|fields| server_key.verify(Purpose::NameCert, fields, &self.signature))
            .map_err(|_| CertError::Signature)?;
        if now_ms > self.not_after {
            return Err(CertError::Expired);
        }
        Ok(())
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the encoded form; checks nothing but its shape.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertError> {
        Ok(decode(bytes, CERT_MAX)?)
    }

    /// The server that issued it.
    pub const fn server(&self) -> &Name {
        &self.subject.server
    }

    fn with_fields<T>(&self, f: impl FnOnce(&[&[u8]]) -> T) -> T {
        let name = self.subject.name.as_str().as_bytes();
        let server = self.subject.server.as_str().as_bytes();
        f(&[name, server, &self.key, &self.not_after.to_be_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_holds_for_its_server_name_key_and_time() {
        let server = Identity::from_seed(&[1; 32]);
        let user = Identity::from_seed(&[2; 32]).public();
        let subject = FullName::new(Name::parse("bob").unwrap(), Name::parse("s1").unwrap());
        let cert = NameCert::issue(&server, subject, user, 1000);
        let back = NameCert::from_bytes(&cert.to_bytes()).unwrap();
        assert_eq!(back, cert);
        assert!(back.check(&server.public(), 1000).is_ok());
        assert_eq!(back.check(&server.public(), 1001), Err(CertError::Expired));
        assert_eq!(back.check(&user, 0), Err(CertError::Signature));
        let mut forged = cert;
        forged.subject.name = Name::parse("alice").unwrap();
        assert_eq!(forged.check(&server.public(), 0), Err(CertError::Signature));
    }

    #[test]
    fn every_truncation_is_refused() {
        let server = Identity::from_seed(&[1; 32]);
        let subject = FullName::new(Name::parse("bob").unwrap(), Name::parse("s1").unwrap());
        let bytes = NameCert::issue(&server, subject, server.public(), 9).to_bytes();
        for len in 0..bytes.len() {
            assert!(NameCert::from_bytes(&bytes[..len]).is_err());
        }
    }
}
