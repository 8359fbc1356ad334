//! Certificates and keys from PEM files.

use super::tls::provider;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a certificate cannot be used. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// Cannot be read at all.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No certificate in it, or a damaged one.
    #[error("{0} holds no readable certificate")]
    NoCertificate(PathBuf),
    /// No private key in it, or one that cannot be used (encrypted, damaged, of an unknown kind).
    #[error("{0} holds no usable private key")]
    NoKey(PathBuf),
    /// `--cert` alone, and no key in that file or beside it.
    #[error("no private key in {certificate} and no {beside}")]
    KeyNotFound {
        /// The certificate's file.
        certificate: PathBuf,
        /// The other place that was looked at.
        beside: PathBuf,
    },
    /// Certificate and key are not a pair.
    #[error("the key in {key} does not belong to the certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// A certificate chain with its key. Without `key` the key is taken from the certificate's own file, or from `NAME.key` beside it.
pub fn load_certified(certificate: &Path, key: Option<&Path>) -> Result<Arc<CertifiedKey>, PemError> {
    let pem = read(certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| PemError::NoCertificate(certificate.to_owned()))?;
    if chain.is_empty() {
        return Err(PemError::NoCertificate(certificate.to_owned()));
    }
    let (key_path, key_pem) = match key {
        Some(path) => (path.to_owned(), read(path)?),
        None if has_key(&pem) => (certificate.to_owned(), pem),
        None => beside(certificate)?,
    };
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| PemError::NoKey(key_path.clone()))?;
    let key = provider().key_provider.load_private_key(key).map_err(|_| PemError::NoKey(key_path.clone()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InvalidCertificate(_)) => Err(PemError::NoCertificate(certificate.to_owned())),
        Err(_) => Err(PemError::Mismatch { certificate: certificate.to_owned(), key: key_path }),
    }
}

/// When a certificate ends, Unix seconds; long ago where it does not say so in a way that can be read.
pub fn ends_at_s(certified: &CertifiedKey) -> i64 {
    let first = certified.cert.first().and_then(|der| X509Certificate::from_der(der).ok());
    first.map_or(i64::MIN, |(_, certificate)| certificate.validity().not_after.timestamp())
}

/// The authorities of a `--ca` file.
pub fn load_authorities(path: &Path) -> Result<Arc<RootCertStore>, PemError> {
    let pem = read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| PemError::NoCertificate(path.to_owned()))?;
        roots.add(certificate).map_err(|_| PemError::NoCertificate(path.to_owned()))?;
    }
    if roots.is_empty() { Err(PemError::NoCertificate(path.to_owned())) } else { Ok(Arc::new(roots)) }
}

fn beside(certificate: &Path) -> Result<(PathBuf, Vec<u8>), PemError> {
    let path = certificate.with_extension("key");
    match read(&path) {
        Ok(pem) => Ok((path, pem)),
        Err(PemError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(PemError::KeyNotFound { certificate: certificate.to_owned(), beside: path })
        }
        Err(e) => Err(e),
    }
}

fn has_key(pem: &[u8]) -> bool {
    !matches!(PrivateKeyDer::from_pem_slice(pem), Err(rustls::pki_types::pem::Error::NoItemsFound))
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(path).map_err(|source| PemError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".into()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn the_key_is_found_in_the_same_file_or_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (certificate, key) = pair();
        std::fs::write(path("both.pem"), format!("{key}{certificate}")).unwrap();
        std::fs::write(path("alone.pem"), &certificate).unwrap();
        assert!(load_certified(&path("both.pem"), None).is_ok());
        assert!(matches!(load_certified(&path("alone.pem"), None), Err(PemError::KeyNotFound { .. })));
        std::fs::write(path("alone.key"), &key).unwrap();
        assert!(load_certified(&path("alone.pem"), None).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let ((certificate, key), (_, other)) = (pair(), pair());
        for (name, text) in [("c.pem", &certificate), ("c.key", &key), ("other.key", &other)] {
            std::fs::write(path(name), text).unwrap();
        }
        std::fs::write(path("junk.pem"), "junk").unwrap();
        let refused = |c: &str, k: &str| load_certified(&path(c), Some(&path(k))).unwrap_err();
        assert!(matches!(refused("c.pem", "other.key"), PemError::Mismatch { .. }));
        assert!(matches!(refused("c.pem", "junk.pem"), PemError::NoKey(_)));
        assert!(matches!(refused("junk.pem", "c.key"), PemError::NoCertificate(_)));
        assert!(matches!(refused("c.key", "c.key"), PemError::NoCertificate(_)));
        assert!(matches!(refused("c.pem", "absent.key"), PemError::Read { .. }));
        assert!(matches!(load_authorities(&path("junk.pem")), Err(PemError::NoCertificate(_))));
    }
}
