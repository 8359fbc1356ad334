//! The crypto, randomness and storage that openmls asks for, and our identities as its signer.

use super::storage::Storage;
use crate::crypto::identity::Identity;
use ed25519_dalek::{Signer as _, SigningKey};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;

/// One for each group: RustCrypto, its own generator seeded from the system, and a storage of its own.
#[derive(Debug, Default)]
pub(super) struct Provider {
    crypto: RustCrypto,
    storage: Storage,
}

impl Provider {
    pub(super) fn with_storage(storage: Storage) -> Self {
        Self { crypto: RustCrypto::default(), storage }
    }
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = Storage;

    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        &self.crypto
    }
}

/// An identity as MLS signs with it. MLS separates its signatures from all others by its own labels ("MLS 1.0 ...",
/// RFC 9420 §5.1.2), so they need no purpose of ours.
pub(super) struct MlsSigner(SigningKey);

impl MlsSigner {
    pub(super) fn new(identity: &Identity) -> Self {
        Self(SigningKey::from_bytes(&identity.seed()))
    }
}

impl Signer for MlsSigner {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
