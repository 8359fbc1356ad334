//! The file `identity` of a data directory.

use super::private::{self, PrivateError};
use crate::crypto::identity::Identity;
use crate::crypto::keyfile::{self, FILE_MAX, KeyFileError};
use crate::crypto::secret::Secret;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is not private, or cannot be read or written.
    #[error(transparent)]
    File(#[from] PrivateError),
    /// What stands in it gives no identity.
    #[error("{path}: {source}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: KeyFileError,
    },
    /// The system gave no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

/// Where a data directory keeps its identity.
pub fn path_in(dir: &Path) -> PathBuf {
    dir.join("identity")
}

/// Reads an identity file; one that others may read is refused.
pub fn load(path: &Path, passphrase: Option<&Secret>) -> Result<Identity, IdentityError> {
    let bytes = private::read(path, FILE_MAX as u64)?;
    keyfile::read(&bytes, passphrase).map_err(|source| IdentityError::Content { path: path.to_owned(), source })
}

/// The identity of a data directory; made, under the passphrase if there is one, where there is none yet. The directory must exist.
pub fn load_or_create(dir: &Path, passphrase: Option<&Secret>) -> Result<Identity, IdentityError> {
    let path = path_in(dir);
    match load(&path, passphrase) {
        Err(IdentityError::File(error)) if error.is_absent() => create(&path, passphrase),
        loaded => loaded,
    }
}

/// Makes an identity, and its file where none stands.
pub fn create(path: &Path, passphrase: Option<&Secret>) -> Result<Identity, IdentityError> {
    let seed = Zeroizing::new(random::<32>()?);
    let identity = Identity::from_seed(&seed);
    save_new(path, &identity, passphrase)?;
    Ok(identity)
}

/// Writes an identity file where none stands.
pub fn save_new(path: &Path, identity: &Identity, passphrase: Option<&Secret>) -> Result<(), IdentityError> {
    let text = match passphrase {
        Some(passphrase) => keyfile::write_sealed(identity, passphrase, &random()?, &random()?),
        None => keyfile::write_plain(identity),
    };
    Ok(private::write_new(path, text.as_bytes())?)
}

fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| IdentityError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path(), None).unwrap();
        assert_eq!(load_or_create(dir.path(), None).unwrap().public(), first.public());
        assert!(save_new(&path_in(dir.path()), &first, None).is_err(), "never over another one");
    }

    #[test]
    fn a_passphrase_seals_it() {
        let dir = tempfile::tempdir().unwrap();
        let passphrase = Secret::new("correct horse").unwrap();
        let made = load_or_create(dir.path(), Some(&passphrase)).unwrap();
        let refused = load_or_create(dir.path(), None).unwrap_err();
        assert!(matches!(refused, IdentityError::Content { source: KeyFileError::NeedsPassphrase, .. }));
        assert_eq!(load_or_create(dir.path(), Some(&passphrase)).unwrap().public(), made.public());
    }
}
