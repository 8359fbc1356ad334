//! Running the binary.

use secchat::crypto::identity::Identity;
use secchat::net::link::Dial;
use secchat::net::trust::Trust;
use secchat::wire::id::Id;
use secchat::wire::invite::Invite;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Every wait of these tests ends by then.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The binary in an environment that knows nothing of the one who runs the tests.
pub fn secchat(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secchat"));
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    command
}

/// Runs to the end; exit code, standard output, standard error.
pub fn run(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    told(secchat(home).args(arguments).output().unwrap())
}

pub fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// A running `secchat server`; killed when dropped.
pub struct Server {
    child: Child,
    pub invite: Invite,
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Listens on a port of the system's choice, unless the arguments say otherwise; its log goes to `server.log` in `home`.
    pub fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut command = secchat(home);
        let log = File::create(home.join("server.log")).unwrap();
        command.arg("server").args(arguments).stdout(Stdio::piped()).stderr(log);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let invite = lines.find_map(|line| line.unwrap().strip_prefix("invite     ").map(str::to_owned));
        let invite = Invite::parse(&invite.expect("the server starts")).unwrap();
        Self { child, invite, _lines: lines }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Stops it as an operator would; its exit code and the time that it took.
    pub fn stop(mut self) -> (Option<i32>, Duration) {
        let since = Instant::now();
        self.signal("TERM");
        (self.child.wait().unwrap().code(), since.elapsed())
    }

    /// Dials as a user with the invite.
    pub fn dial(&self, seed: u8, name: &str) -> Dial {
        let Invite { host, port, pin, server, .. } = self.invite.clone();
        Dial {
            endpoint: secchat::wire::endpoint::Endpoint { host, port },
            identity: Identity::from_seed(&[seed; 32]),
            name: name.into(),
            instance: Id([seed; 16]),
            authority: None,
            trust: Trust { invite: Some((pin, server)), ..Trust::default() },
            homes: Vec::new(),
            token: None,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
