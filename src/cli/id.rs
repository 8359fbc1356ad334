//! `secchat id`: the user's key pair.

use super::exit::ExitCode;
use super::places;
use super::report::Report;
use super::secrets::{self, PassphraseArgs};
use crate::crypto::identity::Identity;
use crate::crypto::keyfile::KeyFileError;
use crate::crypto::secret::Secret;
use crate::store::identity::{self, IdentityError};
use crate::store::private;
use clap::{Args, Subcommand};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Options of `secchat id`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secchat id show
  secchat id export bob.identity --passphrase-file phrase.txt    sealed under the passphrase
  secchat id import bob.identity --passphrase-file phrase.txt    on another machine")]
pub struct IdArgs {
    /// The client's data directory
    #[arg(long, value_name = "DIR", env = "SECCHAT_DATA", global = true)]
    data: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(subcommand)]
    command: IdCommand,
}

#[derive(Debug, Subcommand)]
enum IdCommand {
    /// Print the fingerprint of your key
    Show,
    /// Copy the identity into a file; sealed, if a passphrase is given
    Export {
        /// The new file, made 0600; an existing one is left alone
        file: PathBuf,
    },
    /// Take the identity from a file; sealed at its place too, if a passphrase is given
    Import {
        /// A file that `export` made
        file: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: IdArgs) -> Result<ExitCode, Report> {
    let dir = data_dir(args.data)?;
    let own = identity::path_in(&dir);
    match args.command {
        IdCommand::Show => {
            let (identity, passphrase) = load(&own, &args.passphrase)?;
            let sealed = if passphrase.is_some() { "yes" } else { "no" };
            let (public, fingerprint) = (identity.public(), identity.public().fingerprint());
            let file = own.display();
            writeln!(io::stdout().lock(), "key     {fingerprint}\npublic  {public}\nfile    {file}\nsealed  {sealed}")?;
        }
        IdCommand::Export { file } => copy(&own, &file, &args.passphrase)?,
        IdCommand::Import { file } => {
            private::make_dir(&dir)?;
            copy(&file, &own, &args.passphrase)?;
        }
    }
    Ok(ExitCode::Done)
}

/// The data directory of a client.
pub fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, Report> {
    given.or_else(|| places::data_dir("client")).ok_or_else(|| {
        Report::new(ExitCode::Usage, "there is no home directory to keep data in").hint("choose one with --data")
    })
}

fn copy(from: &Path, to: &Path, passphrase: &PassphraseArgs) -> Result<(), Report> {
    let (identity, passphrase) = load(from, passphrase)?;
    identity::save_new(to, &identity, passphrase.as_ref()).map_err(|error| match error {
        IdentityError::File(file) if file.is_taken() => {
            Report::new(ExitCode::Failed, format!("{} is there already", to.display()))
                .hint("move it away first: without it, the names that belong to its key are lost")
        }
        error => error.into(),
    })?;
    let fingerprint = identity.public().fingerprint();
    writeln!(io::stdout().lock(), "key     {fingerprint}\nfile    {}", to.display())?;
    Ok(())
}

/// With the passphrase that was given, or asked for on a terminal where one is needed.
fn load(path: &Path, passphrase: &PassphraseArgs) -> Result<(Identity, Option<Secret>), Report> {
    let given = passphrase.given()?;
    match identity::load(path, given.as_ref()) {
        Err(IdentityError::Content { source: KeyFileError::NeedsPassphrase, .. }) => {
            let asked = secrets::ask("passphrase", "Passphrase of the identity: ")?;
            Ok((identity::load(path, Some(&asked))?, Some(asked)))
        }
        Err(IdentityError::File(error)) if error.is_absent() => {
            Err(Report::new(ExitCode::Failed, format!("there is no identity at {}", path.display()))
                .hint("the client makes one at its first start; another place is chosen with --data"))
        }
        loaded => Ok((loaded?, given)),
    }
}
