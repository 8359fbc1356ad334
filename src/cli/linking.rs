//! The options of all commands that go to a server, and what they become.

use super::exit::ExitCode;
use super::report::Report;
use crate::crypto::identity::Identity;
use crate::net::link::Dial;
use crate::net::pem::load_authorities;
use crate::net::trust::{Ask, Presented, Trust};
use crate::store::client::ClientStore;
use crate::wire::endpoint::Endpoint;
use crate::wire::id::InstanceId;
use crate::wire::invite::{INVITE_MAX, Invite};
use clap::Args;
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Which server, and why it is trusted.
#[derive(Debug, Clone, Args)]
pub struct LinkArgs {
    /// The server
    #[arg(long, value_name = "HOST[:PORT]", env = "SECCHAT_SERVER", conflicts_with_all = ["invite", "invite_file"])]
    pub server: Option<Endpoint>,
    /// An invite without a secret, or - to read one from standard input
    #[arg(long, value_name = "URL", conflicts_with = "invite_file")]
    pub invite: Option<String>,
    /// A file with an invite; the way for one that holds a room's secret
    #[arg(long, value_name = "FILE")]
    pub invite_file: Option<PathBuf>,
    /// Trust certificates for the server's host name that these authorities vouch for
    #[arg(long, value_name = "PEM", env = "SECCHAT_CA")]
    pub ca: Option<PathBuf>,
    /// Approve an unknown server without asking, and remember it
    #[arg(long, env = "SECCHAT_TRUST_ON_FIRST_USE")]
    pub trust_on_first_use: bool,
}

impl LinkArgs {
    /// Reads the invite, if there is one. An invite with a secret is refused on the command line, where other users of the machine
    /// can see it.
    pub fn read_invite(&self) -> Result<Option<Invite>, Report> {
        let text = match (&self.invite, &self.invite_file) {
            (Some(dash), _) if dash == "-" => read_line()?,
            (Some(url), _) => Zeroizing::new(url.clone()),
            (None, Some(path)) => {
                let failed =
                    |e: io::Error| Report::new(ExitCode::Failed, format!("cannot read {}: {e}", path.display()));
                read_capped(File::open(path).map_err(failed)?).map_err(failed)?
            }
            (None, None) => return Ok(None),
        };
        let invite = Invite::parse(&text).map_err(|e| Report::new(ExitCode::Usage, e))?;
        if invite.has_secret() && self.invite.as_deref().is_some_and(|given| given != "-") {
            return Err(Report::new(
                ExitCode::Usage,
                "this invite holds a room's secret, and arguments are seen by others",
            )
            .hint("put it into a file for --invite-file, or give it to --invite - on standard input"));
        }
        Ok(Some(invite))
    }

    /// Where to connect: the invite's server, or the one named. `None` if neither was given.
    pub fn endpoint(&self, invite: Option<&Invite>) -> Option<Endpoint> {
        match invite {
            Some(invite) => Some(Endpoint { host: invite.host.clone(), port: invite.port }),
            None => self.server.clone(),
        }
    }

    /// All that a link is made from. After it stands, its pin goes to [`ClientStore::remember_server`].
    pub fn dial(
        &self,
        endpoint: Endpoint,
        invite: Option<&Invite>,
        store: &ClientStore,
        identity: Identity,
        name: String,
        instance: InstanceId,
    ) -> Result<Dial, Report> {
        let trust = Trust {
            at_address: store.server_at(&endpoint.to_string())?,
            names: store.servers()?,
            invite: invite.map(|invite| (invite.pin, invite.server.clone())),
            ask: self.ask(),
        };
        let authority = self.ca.as_deref().map(load_authorities).transpose()?;
        Ok(Dial { endpoint, identity, name, instance, authority, trust })
    }

    fn ask(&self) -> Option<Ask> {
        if self.trust_on_first_use {
            return Some(Arc::new(|_| true));
        }
        (io::stdin().is_terminal() && io::stderr().is_terminal()).then(|| Arc::new(ask_on_terminal) as Ask)
    }
}

/// Asks on standard error, since standard output may be for programs.
fn ask_on_terminal(presented: &Presented) -> bool {
    let Presented { address, server, key, .. } = presented;
    let mut err = io::stderr().lock();
    let question = format!(
        "The server {server} at {address} is not known yet. Its identity is\n  {}\nCompare that with its operator over another way. Trust it from now on? [y/N] ",
        key.fingerprint()
    );
    if err.write_all(question.as_bytes()).and_then(|()| err.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    match io::stdin().lock().take(ANSWER_MAX).read_line(&mut answer) {
        Ok(_) => matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"),
        Err(_) => false,
    }
}

/// One line of standard input; what follows stays for the commands.
fn read_line() -> Result<Zeroizing<String>, Report> {
    let mut line = Zeroizing::new(String::with_capacity(INVITE_MAX + 2));
    io::stdin().lock().take(INVITE_MAX as u64 + 2).read_line(&mut line)?;
    Ok(line)
}

fn read_capped(file: File) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(INVITE_MAX + 2));
    file.take(INVITE_MAX as u64 + 2).read_to_string(&mut text)?;
    Ok(text)
}

const ANSWER_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        link: LinkArgs,
    }

    fn link(arguments: &[&str]) -> LinkArgs {
        Command::try_parse_from([&["x"], arguments].concat()).unwrap().link
    }

    fn url(secret: &str) -> String {
        let (pin, id) = ("ab".repeat(32), "cd".repeat(16));
        format!("secchat://chat.example.org:7443/?pin={pin}&name=s1&room=lab&id={id}{secret}")
    }

    #[test]
    fn an_invite_names_the_server() {
        let args = link(&["--invite", &url("")]);
        let invite = args.read_invite().unwrap().unwrap();
        assert_eq!(args.endpoint(Some(&invite)).unwrap().to_string(), "chat.example.org:7443");
        assert!(Command::try_parse_from(["x", "--invite", &url(""), "--server", "a"]).is_err());
    }

    #[test]
    fn a_secret_is_taken_from_a_file_and_not_from_the_arguments() {
        let secret = url("&secret=canary");
        let refused = link(&["--invite", &secret]).read_invite().unwrap_err();
        assert_eq!(refused.code, ExitCode::Usage);
        assert!(!format!("{refused:?}").contains("canary"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("invite");
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        let invite = link(&["--invite-file", file.to_str().unwrap()]).read_invite().unwrap().unwrap();
        assert!(invite.has_secret());
    }

    #[test]
    fn a_stranger_is_approved_unasked_only_when_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = ClientStore::open(dir.path()).unwrap();
        let dial = |args: &LinkArgs| {
            let (identity, instance) = (Identity::from_seed(&[1; 32]), InstanceId::default());
            args.dial("a:1".parse().unwrap(), None, &store, identity, "bob".into(), instance).unwrap()
        };
        assert!(dial(&link(&["--trust-on-first-use"])).trust.ask.is_some());
        let absent = link(&["--ca", "/absent.pem"]).dial(
            "a:1".parse().unwrap(),
            None,
            &store,
            Identity::from_seed(&[1; 32]),
            "bob".into(),
            InstanceId::default(),
        );
        assert_eq!(absent.unwrap_err().code, ExitCode::Failed);
    }
}
