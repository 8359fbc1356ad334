//! The client on a real (pseudo) terminal: questions, answers, and what must not show.

use crate::harness::{DEADLINE, Server, run, secchat};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use tempfile::tempdir;

/// A program on a terminal of its own; killed when dropped.
pub struct Terminal {
    pub child: Child,
    keys: File,
    output: Receiver<Vec<u8>>,
    pub shown: String,
}

impl Terminal {
    pub fn start(home: &Path, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let side = || OpenOptions::new().read(true).write(true).open(path).unwrap();
        let child = secchat(home).args(arguments).stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let keys = File::from(master);
        let (mut screen, (sender, output)) = (keys.try_clone().unwrap(), channel());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, output, shown: String::new() }
    }

    pub fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.shown.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let bytes = self.output.recv_timeout(left).unwrap_or_else(|_| panic!("no {text:?} in: {}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Waits for the question and answers it.
    pub fn answer(&mut self, question: &str, answer: &str) {
        self.wait_for(question);
        self.shown.clear();
        writeln!(self.keys, "{answer}").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_newcomer_is_asked_for_everything_and_gets_into_a_private_room() {
    let home = tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let address = format!("127.0.0.1:{}", server.invite.port);
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("a"), path("b"));
    let mut alice = Terminal::start(home.path(), &["client", "--server", &address, "--data", &a]);
    alice.answer("your name: ", "alice");
    alice.answer("create a room or join one?", "c");
    alice.answer("room: ", "den");
    alice.answer("private?", "y");
    alice.answer("is that right? [yes/no] ", "yes");
    alice.wait_for("you are in den");
    let password =
        alice.shown.split("its password is ").nth(1).and_then(|rest| rest.split(';').next()).unwrap().to_owned();

    let mut bob = Terminal::start(home.path(), &["client", "--server", &address, "--data", &b, "--name", "bob"]);
    bob.answer("create a room or join one?", "j");
    bob.answer("room: ", "den");
    bob.answer("is that right? [yes/no] ", "yes");
    bob.answer("password of den@", &password);
    bob.wait_for("you are in den");
    assert!(!bob.shown.contains(&password), "what is typed does not show: {}", bob.shown);
    bob.answer("bob", "good evening");
    alice.wait_for("good evening");
    alice.answer("good evening", "/invite");
    alice.wait_for("&room=den&id=");
}

#[test]
fn who_does_not_say_yes_trusts_nobody() {
    let home = tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let address = format!("127.0.0.1:{}", server.invite.port);
    let mut bob = Terminal::start(home.path(), &["client", "--server", &address, "--name", "bob", "--room", "den"]);
    bob.answer("is that right? [yes/no] ", "y");
    bob.wait_for("is not known");
    assert_eq!(bob.child.wait().unwrap().code(), Some(3));
}

#[test]
fn an_empty_name_is_asked_for_again_and_ctrl_d_ends_the_questions() {
    let home = tempdir().unwrap();
    let mut nobody = Terminal::start(home.path(), &["client", "--server", "127.0.0.1:1"]);
    nobody.answer("your name: ", "");
    nobody.wait_for("your name: ");
    nobody.keys.write_all(&[4]).unwrap();
    assert_eq!(nobody.child.wait().unwrap().code(), Some(130));
}

#[test]
fn programs_are_told_as_events_why_nothing_came_of_it() {
    let home = tempdir().unwrap();
    let client = |server: &str| {
        let (code, out, err) = run(home.path(), &["client", "--json", "--server", server, "--name", "bob"]);
        let events: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((events[0]["event"].as_str(), events[1]["event"].as_str()), (Some("error"), Some("bye")), "{err}");
        assert_eq!(events[0]["code"], events[1]["reason"]);
        assert!(events[0]["hint"].is_string() && events.len() == 2, "{out}");
        (code, events[0]["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(client("127.0.0.1:1"), (3, "unreachable".into()));
    let server = Server::start(home.path(), &[]);
    assert_eq!(client(&format!("127.0.0.1:{}", server.invite.port)), (3, "not_trusted".into()));
}
