//! The server's TLS certificate: read at the start, and again when asked.

use crate::net::pem::{PemError, load_certified};
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
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificate {
    /// Reads the files.
    pub fn load(files: CertificateFiles) -> Result<Self, ReloadError> {
        let current = RwLock::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// Reads them again. When that fails the earlier certificate stays in use.
    pub fn reload(&self) -> Result<(), ReloadError> {
        let config = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

fn read(files: &CertificateFiles) -> Result<Arc<ServerConfig>, ReloadError> {
    Ok(server_config(load_certified(&files.certificate, files.key.as_deref())?)?)
}
