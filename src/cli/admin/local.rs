//! A server on this machine, at the admin socket in its data directory.

use super::counter::Counter;
use crate::cli::exit::ExitCode;
use crate::cli::places;
use crate::cli::report::Report;
use clap::Args;
use std::path::PathBuf;

/// Which server of this machine.
#[derive(Debug, Args)]
pub(super) struct LocalArgs {
    /// The data directory of a server on this machine
    #[arg(long, value_name = "DIR", env = "SECCHAT_SERVER_DATA", global = true)]
    data: Option<PathBuf>,
}

impl LocalArgs {
    /// The way to it.
    pub fn open(self) -> Result<Box<dyn Counter>, Report> {
        let dir = self.data.or_else(|| places::data_dir("server")).ok_or_else(|| {
            Report::new(ExitCode::Usage, "there is no home directory to look for the server in").hint("name its --data")
        })?;
        open(dir)
    }
}

#[cfg(unix)]
fn open(data: PathBuf) -> Result<Box<dyn Counter>, Report> {
    Ok(Box::new(unix::Socket { data }))
}

#[cfg(not(unix))]
fn open(_: PathBuf) -> Result<Box<dyn Counter>, Report> {
    Err(Report::new(ExitCode::Failed, "servers have no admin socket on this system"))
}

#[cfg(unix)]
mod unix {
    use super::{Counter, ExitCode, Report};
    use crate::server::desk::{ANSWER_MAX, answer_deadline, socket_in};
    use crate::wire::admin::{Answer, Ask};
    use std::io::{self, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    pub(super) struct Socket {
        pub data: PathBuf,
    }

    impl Counter for Socket {
        fn ask(&mut self, ask: &Ask) -> Result<Answer, Report> {
            let (path, patience) = (socket_in(&self.data), answer_deadline(ask) + PATIENCE);
            let failed = |e: &dyn std::fmt::Display| {
                let cause = format!("no server answers at {}: {e}", path.display());
                let hint = "is it running, as the same user, and is this its --data?";
                Report::new(ExitCode::Unreachable, cause).hint(hint)
            };
            let silent = || {
                let waited = patience.as_secs();
                let cause = format!("the server at {} does not answer within {waited} s", path.display());
                let hint =
                    "it runs, but is stopped or stuck: look at its process (`ps`, state T means stopped) and its log";
                Report::new(ExitCode::Unreachable, cause).hint(hint)
            };
            let answer = exchange(&path, ask, patience).map_err(|e| match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => silent(),
                io::ErrorKind::NotFound => failed(&"there is no such socket"),
                io::ErrorKind::ConnectionRefused => failed(&"the server that made it is gone"),
                _ => failed(&e),
            })?;
            if answer.is_empty() {
                return Err(silent());
            }
            serde_json::from_str(&answer).map_err(|e| failed(&e))
        }
    }

    fn exchange(path: &Path, ask: &Ask, patience: Duration) -> io::Result<String> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all((serde_json::to_string(ask)? + "\n").as_bytes())?;
        let mut answer = String::new();
        stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Beside what the server itself allows for an answer.
    const PATIENCE: Duration = Duration::from_secs(1);
}
