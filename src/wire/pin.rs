//! What a client remembers of a server that it trusts.

use super::name::Name;
use crate::crypto::identity::PublicKey;

/// A server that was approved once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPin {
    /// `HOST:PORT`, as it was asked for.
    pub address: String,
    /// The name that it proved.
    pub server: Name,
    /// Its identity key.
    pub key: PublicKey,
    /// SHA-256 of its TLS certificate's SubjectPublicKeyInfo (DER) when it was last met. Changes with a certificate's key; the
    /// identity does not.
    pub tls_key: [u8; 32],
}
