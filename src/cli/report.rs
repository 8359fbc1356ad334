//! Errors for people: a cause, a way out, an exit code.

use super::config::ConfigError;
use super::exit::ExitCode;
use super::secrets::SecretSourceError;
use crate::client::event::Event;
use crate::client::files;
use crate::crypto::keyfile::KeyFileError;
use crate::net::link::LinkError;
use crate::net::pem::PemError;
use crate::server::reload::ReloadError;
use crate::server::run::StartError;
use crate::store::StoreError;
use crate::store::client::ClientStoreError;
use crate::store::identity::IdentityError;
use crate::store::mesh::MeshFileError;
use crate::store::private::PrivateError;
use crate::wire::frame::Code;
use crate::wire::text::shown;
use std::io::{self, Write};

/// Why the program ends with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What scripts see.
    pub code: ExitCode,
    /// What happened. May hold text of others; it is made harmless when printed.
    pub cause: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// The stable word for programs.
    pub word: &'static str,
}

impl Report {
    /// Without a hint.
    pub fn new(code: ExitCode, cause: impl ToString) -> Self {
        Self { code, cause: cause.to_string(), hint: None, word: code.word() }
    }

    /// With a way out.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With a stable word of its own, where the exit code's says too little.
    #[must_use]
    pub fn word(self, word: &'static str) -> Self {
        Self { word, ..self }
    }

    /// What a program that reads events is told before the end.
    pub fn events(&self) -> [Event; 2] {
        let (code, message, hint) = (self.word.to_owned(), self.cause.clone(), self.hint.clone());
        [Event::Error { code, message, hint }, Event::Bye { reason: self.word.to_owned() }]
    }

    /// Prints it to standard error and gives its exit code.
    pub fn print(&self) -> ExitCode {
        let mut err = io::stderr().lock();
        // Where standard error is closed the exit code alone has to say it.
        let _ = err.write_all(self.text().as_bytes());
        self.code
    }

    /// The lines for people, harmless.
    fn text(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!("hint: {}\n", shown(hint))).unwrap_or_default();
        format!("error: {}\n{hint}", shown(&self.cause))
    }
}

impl From<io::Error> for Report {
    fn from(error: io::Error) -> Self {
        Self::new(ExitCode::Failed, error)
    }
}

impl From<ConfigError> for Report {
    fn from(error: ConfigError) -> Self {
        Self::new(ExitCode::Usage, error)
    }
}

impl From<SecretSourceError> for Report {
    fn from(error: SecretSourceError) -> Self {
        match error {
            SecretSourceError::NoTerminal => Self::new(ExitCode::Usage, error)
                .hint("give it with a file or a descriptor; secrets are not taken from arguments"),
            error => Self::new(ExitCode::Failed, error),
        }
    }
}

impl From<PrivateError> for Report {
    fn from(error: PrivateError) -> Self {
        let hint = match &error {
            PrivateError::Loose { path, .. } => {
                Some(format!("if nobody else has read it: chmod 600 {}", path.display()))
            }
            PrivateError::TooLarge { .. } | PrivateError::Io { .. } => None,
        };
        Self { hint, ..Self::new(ExitCode::Failed, error) }
    }
}

impl From<IdentityError> for Report {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::File(error) => error.into(),
            IdentityError::Content { source: KeyFileError::NeedsPassphrase, .. } => {
                Self::new(ExitCode::Failed, error).hint("give it with --passphrase-file or --passphrase-fd")
            }
            error => Self::new(ExitCode::Failed, error),
        }
    }
}

impl From<MeshFileError> for Report {
    fn from(error: MeshFileError) -> Self {
        match error {
            MeshFileError::File(error) => error.into(),
            MeshFileError::Identity(error) => error.into(),
            MeshFileError::Content { .. } => {
                Self::new(ExitCode::Failed, error).hint("secchat cert issue makes the directory that is wanted here")
            }
        }
    }
}

impl From<StoreError> for Report {
    fn from(error: StoreError) -> Self {
        let hint = match &error {
            StoreError::Locked { .. } => Some("stop the other process, or choose another directory with --data"),
            StoreError::Newer { .. } => Some("use the newer version of the program"),
            StoreError::Io { .. } | StoreError::Sqlite(_) | StoreError::Damaged(_) | StoreError::Random => None,
        };
        Self { hint: hint.map(str::to_owned), ..Self::new(ExitCode::Failed, error) }
    }
}

impl From<ClientStoreError> for Report {
    fn from(error: ClientStoreError) -> Self {
        match error {
            ClientStoreError::Dir(error) => error.into(),
            ClientStoreError::Lock(error) => error.into(),
            error => Self::new(ExitCode::Failed, error),
        }
    }
}

impl From<PemError> for Report {
    fn from(error: PemError) -> Self {
        let hint = match &error {
            PemError::KeyNotFound { .. } => Some("name the key's file with --key"),
            PemError::NoKey(_) => Some("keys are unencrypted PEM: PKCS #8, SEC 1 or PKCS #1"),
            PemError::Mismatch { .. } => Some("use the key that the certificate was made with"),
            PemError::Read { .. } | PemError::NoCertificate(_) => None,
        };
        Self { hint: hint.map(str::to_owned), ..Self::new(ExitCode::Failed, error) }
    }
}

impl From<ReloadError> for Report {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Pem(error) => error.into(),
            error => Self::new(ExitCode::Failed, error),
        }
    }
}

impl From<StartError> for Report {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Certificate(error) => error.into(),
            StartError::Listen { ref source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Self::new(ExitCode::Failed, error).hint("another server runs there; choose another port with --listen")
            }
            error @ StartError::Listen { .. } => Self::new(ExitCode::Failed, error),
        }
    }
}

impl From<files::StartError> for Report {
    fn from(error: files::StartError) -> Self {
        let hint = match &error {
            files::StartError::Port(_) => "choose another port with --udp",
            files::StartError::Share(_) => "name a folder that is there with --share",
            files::StartError::Downloads { .. } => "name a folder that you can write with --downloads",
            files::StartError::System(_) => return Self::new(ExitCode::Failed, error),
        };
        Self::new(ExitCode::Failed, error).hint(hint)
    }
}

impl From<LinkError> for Report {
    fn from(error: LinkError) -> Self {
        let word = match &error {
            LinkError::NotTrusted(_) | LinkError::Authority { .. } => "not_trusted",
            LinkError::Changed { .. } | LinkError::Renamed(_) => "server_changed",
            LinkError::Elsewhere(_) => "other_server",
            LinkError::Refused(refusal) => refusal.code.as_str(),
            LinkError::Unreachable { .. } | LinkError::Silent | LinkError::Broken(_) => "unreachable",
            LinkError::Tls { .. } | LinkError::Hello(_) | LinkError::Protocol(_) => "protocol",
            LinkError::Setup(_) => "failed",
        };
        explained(error).word(word)
    }
}

fn explained(error: LinkError) -> Report {
    let hint = match &error {
        LinkError::Refused(refusal) => return refused(refusal.code, &error, refusal.hint.clone()),
        LinkError::NotTrusted(presented) => format!(
            "its identity is {}; compare that with its operator and use an invite, --ca or --trust-on-first-use",
            presented.key.fingerprint()
        ),
        LinkError::Changed { .. } => {
            "somebody may be in the middle, or the server was set up anew; ask its operator over another way".into()
        }
        LinkError::Renamed(_) => "ask its operator over another way".into(),
        LinkError::Elsewhere(_) => "name servers of one mesh".into(),
        LinkError::Authority { .. } => "give the right authority with --ca, or use an invite".into(),
        LinkError::Unreachable { .. } | LinkError::Silent => "check the address, and that the server runs".into(),
        LinkError::Setup(_) => return Report::new(ExitCode::Failed, error),
        LinkError::Tls { .. } | LinkError::Hello(_) | LinkError::Protocol(_) | LinkError::Broken(_) => {
            return Report::new(ExitCode::Unreachable, error);
        }
    };
    Report::new(ExitCode::Unreachable, error).hint(hint)
}

/// `hint` is the server's: a free name where the wished one is taken.
fn refused(code: Code, cause: &LinkError, hint: Option<String>) -> Report {
    let hint = match (code, hint) {
        (Code::NameTaken, Some(free)) => Some(format!("{free} is free")),
        (_, hint) => hint,
    };
    Report { hint, ..Report::new(ExitCode::Refused, cause) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Refusal;
    use crate::wire::text::harmless;

    #[test]
    fn a_taken_name_is_refused_with_a_free_one() {
        let refusal = Refusal::new(Code::NameTaken, "the name bob is taken").hint("bob2");
        let report = Report::from(LinkError::Refused(refusal));
        assert_eq!(report.code.code(), 4);
        assert_eq!(report.cause, "the name bob is taken");
        assert_eq!(report.hint.as_deref(), Some("bob2 is free"));
    }

    #[test]
    fn a_server_cannot_steer_the_terminal_by_an_error() {
        let naughty = "a\x1b]0;x\x07\u{9b}2J\u{202e}\r\nb\u{200b}\u{2028}";
        let refusal = Refusal::new(Code::NameTaken, naughty).hint(naughty);
        let text = Report::from(LinkError::Refused(refusal)).text();
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(text.lines().flat_map(str::chars).all(harmless), "{text:?}");
    }

    #[test]
    fn a_silent_server_is_not_reached() {
        assert_eq!(Report::from(LinkError::Silent).code.code(), 3);
    }
}
