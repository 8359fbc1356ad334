//! Where passphrases and passwords come from: a file, a descriptor, or the terminal. Never an argument or the environment.

use crate::crypto::secret::{SECRET_MAX, Secret, SecretError};
use clap::Args;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Options for the passphrase of an identity file.
#[derive(Debug, Clone, Default, Args)]
pub struct PassphraseArgs {
    /// Take the passphrase of the identity from this file
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "passphrase_fd")]
    pub passphrase_file: Option<PathBuf>,
    /// Take the passphrase of the identity from this open descriptor
    #[arg(long, value_name = "N", global = true)]
    pub passphrase_fd: Option<u32>,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretSourceError {
    /// The file or descriptor cannot be read.
    #[error("cannot read the {what} from {from}: {source}")]
    Read {
        /// Passphrase or password.
        what: &'static str,
        /// A path, `descriptor N` or `the terminal`.
        from: String,
        /// Why not.
        source: io::Error,
    },
    /// What was read is no secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It would have to be asked for, and there is nobody to ask.
    #[error("a secret is needed and there is no terminal to ask on")]
    NoTerminal,
}

impl PassphraseArgs {
    /// The passphrase that was given, if any.
    pub fn given(&self) -> Result<Option<Secret>, SecretSourceError> {
        from_file_or_descriptor("passphrase", self.passphrase_file.as_deref(), self.passphrase_fd)
    }
}

/// From a file or an open descriptor, whichever was named.
pub fn from_file_or_descriptor(
    what: &'static str,
    file: Option<&Path>,
    descriptor: Option<u32>,
) -> Result<Option<Secret>, SecretSourceError> {
    let (path, from) = match (file, descriptor) {
        (Some(path), _) => (path.to_owned(), path.display().to_string()),
        // Opening it anew is what the standard library can do without unsafe code; both systems' pipes allow it.
        (None, Some(n)) => (PathBuf::from(format!("/dev/fd/{n}")), format!("descriptor {n}")),
        (None, None) => return Ok(None),
    };
    let bytes = read(&path).map_err(|source| SecretSourceError::Read { what, from, source })?;
    Ok(Some(Secret::from_file_bytes(&bytes)?))
}

/// Asks on the terminal, without showing what is typed.
pub fn ask(what: &'static str, prompt: &str) -> Result<Secret, SecretSourceError> {
    if !io::stdin().is_terminal() {
        return Err(SecretSourceError::NoTerminal);
    }
    let typed = rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|source| SecretSourceError::Read {
        what,
        from: "the terminal".into(),
        source,
    })?;
    Ok(Secret::new(&typed)?)
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_MAX + 3));
    // One byte beyond the longest secret and its line end shows that it is too long.
    File::open(path)?.take(SECRET_MAX as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}
