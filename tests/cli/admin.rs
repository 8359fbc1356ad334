//! `secchat admin` from the socket, from afar, and through the client that runs.

use crate::harness::{DEADLINE, run};
use crate::terminal::Terminal;
use secchat::cli::drive::{Process, Server, start_client};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_secchat"))
}

/// A server, and what is asked of it.
pub struct Stage {
    pub dir: TempDir,
    pub server: Server,
}

impl Stage {
    pub fn new(more: &[&str]) -> Self {
        Self::named("s1", more)
    }

    pub fn named(name: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(binary(), dir.path(), name, "127.0.0.1:0", more).unwrap();
        Self { dir, server }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn address(&self) -> String {
        let rest = self.server.invite.strip_prefix("secchat://").unwrap();
        rest.split(['/', '?']).next().unwrap().to_owned()
    }

    pub fn client(&self, name: &str) -> Process {
        start_client(binary(), self.dir.path(), name, &self.server.invite, &[]).unwrap()
    }

    /// Somebody who has a name here, an identity and a pin, and is gone.
    pub fn met(&self, name: &str) {
        let mut client = self.client(name);
        client.say("exit").unwrap();
        assert_eq!(client.wait_exit(DEADLINE).unwrap(), Some(0));
    }

    /// As the owner: exit code, output, errors.
    pub fn admin(&self, arguments: &[&str]) -> (i32, String, String) {
        let data = self.server.data.to_str().unwrap();
        run(self.dir.path(), &[&["admin", "--data", data], arguments].concat())
    }

    /// The answer to it, and the exit code.
    pub fn json(&self, arguments: &[&str]) -> (i32, Value) {
        parsed(self.admin(&[&["--json", "--yes"], arguments].concat()))
    }

    /// As somebody, from afar.
    pub fn afar(&self, name: &str, arguments: &[&str]) -> (i32, String, String) {
        let (data, address) = (self.path(&format!("client-{name}")), self.address());
        let remote = ["admin", "--server", &address, "--client-data", data.to_str().unwrap()];
        run(self.dir.path(), &[&remote, arguments].concat())
    }
}

pub fn parsed((code, out, err): (i32, String, String)) -> (i32, Value) {
    assert_eq!(out.lines().count(), 1, "{out}{err}");
    (code, serde_json::from_str(&out).unwrap())
}

#[test]
fn an_operator_asks_from_afar_what_the_owner_asks_at_the_socket_and_the_running_client_is_not_thrown_out() {
    let stage = Stage::new(&[]);
    stage.met("alice");
    let (code, _, err) = stage.afar("alice", &["roles"]);
    assert_eq!((code, err.contains("you have no role")), (4, true), "{err}");
    assert_eq!(stage.json(&["grant", "alice", "--role", "operator"]).0, 0);
    let local = stage.json(&["roles"]);
    assert_eq!((local.0, &local.1["rows"][0]["name"]), (0, &"alice@s1".into()));
    // No client runs: a link of its own.
    assert_eq!(parsed(stage.afar("alice", &["--json", "roles"])), local);
    // One runs: it asks, and stays.
    let mut alice = stage.client("alice");
    assert_eq!(parsed(stage.afar("alice", &["--json", "roles"])), local);
    let (code, answer) = parsed(stage.afar("alice", &["--json", "--yes", "stop"]));
    assert_eq!((code, &answer["code"]), (4, &"not_allowed".into()));
    alice.say("@server still here").unwrap();
    alice.wait_event("ok", DEADLINE, |_| true).unwrap();
    assert!(!alice.events().any(|event| event["event"] == "bye" || event["event"] == "reconnecting"));
    let (code, table, _) = stage.admin(&["audit"]);
    assert_eq!(code, 0);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID  TIME") && lines[1].contains("alice@s1  stop"), "{table}");
    assert!(lines[2].contains("owner") && lines[2].contains("alice as operator (key "), "{table}");
}

#[test]
fn long_lists_come_whole_and_a_number_is_kept() {
    let stage = Stage::new(&[]);
    for _ in 0..6 {
        assert_eq!(stage.json(&["grant", "nobody", "--role", "moderator"]).0, 5);
    }
    let (_, answer) = stage.json(&["audit", "--limit", "4"]);
    let ids = |answer: &Value| -> Vec<u64> {
        answer["rows"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&answer), [6, 5, 4, 3]);
    let (_, answer) = stage.json(&["audit", "--before", "3"]);
    assert_eq!(ids(&answer), [2, 1]);
}

#[test]
fn a_server_that_was_never_met_is_not_trusted_by_a_script() {
    let (known, other) = (Stage::new(&[]), Stage::named("s2", &[]));
    known.met("alice");
    let data = known.path("client-alice");
    let (data, address) = (data.to_str().unwrap(), other.address());
    let (code, out, err) = run(
        known.dir.path(),
        &["admin", "--server", &address, "--client-data", data, "--name", "alice", "--json", "roles"],
    );
    assert_eq!(code, 3, "{err}");
    assert!(out.contains(r#""code":"not_trusted""#) && err.contains("compare that with its operator"), "{out}{err}");
    // Its invite speaks for it.
    let (code, _, err) =
        run(known.dir.path(), &["admin", "--invite", &other.server.invite, "--client-data", data, "roles"]);
    assert_eq!((code, err.contains("you have no role")), (4, true), "{err}");
    let nobody = known.path("nobody");
    let (code, _, err) =
        run(known.dir.path(), &["admin", "--server", &address, "--client-data", nobody.to_str().unwrap(), "roles"]);
    assert_eq!((code, err.contains("there is no identity in")), (2, true), "{err}");
    assert!(!nobody.exists());
}

#[test]
fn what_makes_no_sense_is_said_before_anybody_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], wanted: &str| {
        let (code, out, err) = run(home.path(), &[&["admin", "--yes"], arguments].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(wanted), "{arguments:?}: {err}");
    };
    refused(&["ban"], "NAME|--fingerprint <HEX>|--network <CIDR>");
    refused(&["ban", "--for", "2h"], "required");
    refused(&["ban", "bob", "--network", "10.0.0.0/8"], "cannot be used with");
    refused(&["ban", "--network", "10.0.0.0/33"], "0 to 32 bits");
    refused(&["ban", "--network", "10.0.0/8"], "203.0.113.0/24");
    refused(&["ban", "bob", "--for", "soon"], "30s, 10min or 7d");
    refused(&["ban", "bob", "--for", "0s"], "less than a second");
    refused(&["ban", "--fingerprint", "abc"], "64 hex digits");
    refused(&["restrict"], "--max-size <BYTES>");
    refused(&["restrict", "--reason", "x"], "required");
    refused(&["restrict", "--max-size", "1.5G"], "512K, 64M or 2G");
    refused(&["restrict", "--deny-type", "zip"], "application/zip");
    refused(&["restrict", "--deny-name", "["], "*.exe");
    refused(&["restrict", "--off", "--room", "lab", "--user", "bob"], "cannot be used with");
    refused(&["defcon", "0"], "1..=5");
    refused(&["grant", "bob", "--role", "owner"], "moderator, operator");
    refused(&["kick", "bob", "--reason", &"x".repeat(513)], "at most 512 bytes");
    refused(&["message", "bob", &"x".repeat(40_000)], "too long");
    refused(&["audit", "--limit", "0"], "1..=1000000");
    refused(&["registration", "maybe"], "open, invite, closed");
    refused(&["--server", "a b", "roles"], "--server a b");
    let (code, out, err) = run(home.path(), &["admin", "--json", "health"]);
    assert_eq!((code, err.contains("no server answers at")), (3, true), "{err}");
    assert!(out.starts_with(r#"{"answer":"failed","code":"unreachable","why":"no server answers"#), "{out}");
}

#[test]
fn what_hurts_needs_a_yes() {
    let stage = Stage::new(&[]);
    stage.met("alice");
    assert_eq!(stage.json(&["grant", "alice", "--role", "moderator"]).0, 0);
    let hurting: [&[&str]; 9] = [
        &["kick", "alice"],
        &["ban", "alice"],
        &["room", "close", "lab"],
        &["release", "alice"],
        &["restrict", "--off"],
        &["defcon", "1"],
        &["defcon", "2"],
        &["revoke", "alice"],
        &["stop"],
    ];
    for command in hurting {
        let (code, out, err) = stage.admin(command);
        assert_eq!((code, out.as_str()), (2, ""), "{command:?}");
        assert!(err.contains("this needs a yes") && err.contains("--yes"), "{err}");
    }
    let (code, answer) = parsed(stage.admin(&["--json", "stop"]));
    assert_eq!((code, &answer["code"]), (2, &"not_confirmed".into()));
    assert_eq!(stage.json(&["audit"]).1["rows"].as_array().unwrap().len(), 1, "nothing of it was asked");
}

#[test]
fn a_person_is_told_what_will_happen_and_says_yes_or_no() {
    let stage = Stage::new(&[]);
    stage.met("alice");
    assert_eq!(stage.json(&["grant", "alice", "--role", "moderator"]).0, 0);
    let data = stage.server.data.to_str().unwrap().to_owned();
    let revoke = || Terminal::start(stage.dir.path(), &["admin", "--data", &data, "revoke", "alice"]);
    let mut terminal = revoke();
    terminal.answer("alice has no role any more.", "no");
    terminal.wait_for("nothing was done");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(1));
    let mut terminal = Terminal::start(stage.dir.path(), &["admin", "--data", &data, "roles"]);
    terminal.wait_for("alice@s1");
    assert!(terminal.shown.contains("\x1b[1mNAME"), "the head stands out: {}", terminal.shown);
    let mut terminal = revoke();
    terminal.answer("go on? [yes/no] ", "yes");
    terminal.wait_for("alice@s1 has no role any more");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
    assert_eq!(stage.admin(&["roles"]).1, "nobody has a role\n");
}

/// What a person sees who asks from a terminal about a server that was never met.
#[test]
fn a_person_is_asked_about_a_server_that_was_never_met() {
    let (known, other) = (Stage::new(&[]), Stage::named("s2", &[]));
    known.met("alice");
    let (data, address) = (known.path("client-alice"), other.address());
    let arguments =
        ["admin", "--server", &address, "--client-data", data.to_str().unwrap(), "--name", "alice", "roles"];
    let mut terminal = Terminal::start(known.dir.path(), &arguments);
    terminal.answer("is that right? [yes/no] ", "no");
    terminal.wait_for("is not known");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(3));
}
