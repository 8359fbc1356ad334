//! The server's TLS certificate: read at the start, and again when asked.

use crate::net::pem::{PemError, ends_at_s, load_certified};
use crate::net::tls::{TlsSetupError, server_config};
use rustls::ServerConfig;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;

/// Where the certificate stands.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// Its key, if that is in another file than [`load_certified`] would look at.
    pub key: Option<PathBuf>,
}

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The files are not as they should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// TLS refuses them.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

/// The configuration that new connections get.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    current: RwLock<Current>,
}

impl Certificate {
    /// Reads the files.
    pub fn load(files: CertificateFiles) -> Result<Self, ReloadError> {
        let current = RwLock::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// Reads them again. When that fails the earlier certificate stays in use.
    pub fn reload(&self) -> Result<(), ReloadError> {
        let current = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(())
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).config.clone().into()
    }

    /// When the certificate ends, Unix seconds.
    pub fn ends_at_s(&self) -> i64 {
        self.current.read().unwrap_or_else(PoisonError::into_inner).ends_at_s
    }
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    ends_at_s: i64,
}

fn read(files: &CertificateFiles) -> Result<Current, ReloadError> {
    let certified = load_certified(&files.certificate, files.key.as_deref())?;
    let ends_at_s = ends_at_s(&certified);
    Ok(Current { config: server_config(certified)?, ends_at_s })
}
