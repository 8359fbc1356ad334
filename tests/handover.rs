//! `secchat fetch` beside a client that runs on the same data directory: that client does it.

use secchat::cli::drive::{Process, Server, client_args, start_client};
use secchat::client::control::socket;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(30);
const FILE: &str = "report 7.bin";

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_secchat").into()
}

fn args(list: &[&str]) -> Vec<String> {
    list.iter().map(|&arg| arg.to_owned()).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"handover").finalize_xof().fill(&mut bytes);
    bytes
}

/// A server, alice who shares a file in the room `lab`, and bob who is in it too.
struct Stage {
    dir: TempDir,
    server: Server,
    alice: Process,
    bob: Process,
    content: Vec<u8>,
}

impl Stage {
    fn new(len: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", &[]).unwrap();
        let content = noise(len);
        std::fs::create_dir(dir.path().join("share")).unwrap();
        std::fs::write(dir.path().join("share").join(FILE), &content).unwrap();
        let share = dir.path().join("share").display().to_string();
        let start =
            |name: &str, more: &[&str]| start_client(&binary(), dir.path(), name, &server.invite, more).unwrap();
        let mut alice = start("alice", &["--room", "lab", "--create", "--share", &share]);
        alice.wait_event("joined", WAIT, |_| true).unwrap();
        alice.say("@me setglobalshare").unwrap();
        alice.wait_event("ok", WAIT, |_| true).unwrap();
        // A socket that a killed client left behind is in nobody's way.
        std::fs::create_dir(dir.path().join("client-bob")).unwrap();
        drop(UnixListener::bind(socket(&dir.path().join("client-bob"))).unwrap());
        let downloads = dir.path().join("downloads").display().to_string();
        let mut bob = start("bob", &["--room", "lab", "--downloads", &downloads]);
        bob.wait_event("joined", WAIT, |_| true).unwrap();
        Self { dir, server, alice, bob, content }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("client-bob")
    }

    fn start_fetch(&self, more: &[&str]) -> Process {
        let (data, output) = (self.data().display().to_string(), self.dir.path().join("in").display().to_string());
        let mut all = args(&["fetch", "--invite", &self.server.invite, "--data", &data, "--output", &output]);
        all.extend(args(more));
        Process::start(&binary(), "fetch", &all, &self.dir.path().join("fetch.log")).unwrap()
    }

    fn fetch(&self, more: &[&str]) -> (Option<i32>, Vec<String>) {
        let mut fetch = self.start_fetch(more);
        let code = fetch.wait_exit(WAIT).unwrap();
        (code, fetch.said().to_vec())
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// What the running client answers to these bytes.
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(socket(&self.data())).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        // Where more was said than is read, the end may be a reset.
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).map(|dir| dir.map(|e| e.unwrap().file_name().into_string().unwrap()));
    let mut names: Vec<_> = entries.into_iter().flatten().collect();
    names.sort();
    names
}

#[test]
fn a_running_client_fetches_for_another_process_and_replaces_nothing() {
    let mut stage = Stage::new(2_000_000);
    let socket = socket(&stage.data());
    let metadata = std::fs::symlink_metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);

    for (from, name) in [(None, FILE), (Some("alice"), "report 7 (1).bin")] {
        let mut more = vec!["--room", "lab", FILE];
        more.extend(from.iter().flat_map(|from| ["--from", from]));
        let (code, said) = stage.fetch(&more);
        let path = stage.dir.path().join("in").join(name);
        assert_eq!(code, Some(0), "{}", stage.log("fetch.log"));
        assert_eq!(said, [path.display().to_string()]);
        assert_eq!(std::fs::read(path).unwrap(), stage.content);
    }
    assert_eq!(files(&stage.dir.path().join("downloads")), Vec::<String>::new(), "it went where it was wanted");

    let (code, _) = stage.fetch(&["--room", "lab", "no such file"]);
    assert_eq!(code, Some(5));
    // It has its own ways with files.
    let (code, _) = stage.fetch(&["--room", "lab", "--arq", "go-back-n", "-w", "16", FILE]);
    assert_eq!(code, Some(2));
    assert!(stage.log("fetch.log").contains("leave out --window, --arq, or give"), "{}", stage.log("fetch.log"));
    let (code, _) = stage.fetch(&["--room", "elsewhere", FILE]);
    assert_eq!(code, Some(5));
    assert!(stage.log("fetch.log").contains("you are not in elsewhere@s1"), "{}", stage.log("fetch.log"));

    stage.bob.say("still here").unwrap();
    stage.alice.wait_event("message", WAIT, |e| e.get("text").and_then(Value::as_str) == Some("still here")).unwrap();
    stage.bob.say("exit").unwrap();
    assert_eq!(stage.bob.wait_exit(WAIT).unwrap(), Some(0));
    assert!(!stage.bob.events().any(|e| e.get("event").and_then(Value::as_str) == Some("transfer_done")));
    assert!(!socket.exists());
}

#[test]
fn a_second_client_is_refused_and_only_a_proper_request_is_taken() {
    let mut stage = Stage::new(1000);
    let second = client_args(stage.dir.path(), "bob", &stage.server.invite, &["--room", "lab"]);
    let mut second = Process::start(&binary(), "second", &second, &stage.dir.path().join("second.log")).unwrap();
    assert_eq!(second.wait_exit(WAIT).unwrap(), Some(1));
    assert!(socket(&stage.data()).exists());

    let done = |answer: String| answer.lines().last().unwrap_or_default().to_owned();
    assert_eq!(done(stage.ask(b"exit\n")), r#"{"done":2}"#);
    assert_eq!(done(stage.ask(b"{\"room\":\"lab\",\"file\":\"x\",\"cmd\":\"exit\"}\n")), r#"{"done":2}"#);
    assert_eq!(done(stage.ask(b"{\"room\":\"lab\",\"from\":\"all\",\"file\":\"x\"}\n")), r#"{"done":2}"#);
    assert_eq!(done(stage.ask(b"{\"room\":\"lab\",\"file\":\"x\",\"output\":\"in\"}\n")), r#"{"done":2}"#);
    let other = stage.ask(b"{\"room\":\"lab\",\"file\":\"x\",\"server\":\"example.org:7443\"}\n");
    assert_eq!(done(other), r#"{"done":5}"#);
    stage.ask(&[b'x'; 10_000]);

    let (code, _) = stage.fetch(&["--room", "lab", FILE]);
    assert_eq!(code, Some(0), "{}", stage.log("fetch.log"));
    stage.bob.say("alone").unwrap();
    let heard = stage.alice.wait_event("message", WAIT, |_| true).unwrap();
    assert_eq!(heard.get("text").and_then(Value::as_str), Some("alone"), "nothing else reached the room");
}

#[test]
fn who_stops_waiting_cancels_the_transfer() {
    let mut stage = Stage::new(400_000_000);
    let mut fetch = stage.start_fetch(&["--room", "lab", FILE]);
    stage.alice.wait_event("transfer_started", WAIT, |_| true).unwrap();
    fetch.kill();
    stage.alice.wait_event("transfer_failed", WAIT, |_| true).unwrap();
    stage.bob.say("@me transfers").unwrap();
    stage.bob.wait_event("ok", WAIT, |_| true).unwrap();
    assert!(!stage.bob.events().any(|e| e.get("event").and_then(Value::as_str) == Some("transfer_progress")));
    let into = stage.dir.path().join("in");
    assert!(files(&into).iter().all(|name| name.starts_with(".secchat-")), "what has come is kept for another time");
    let (code, _) = stage.fetch(&["--room", "lab", FILE]);
    assert_eq!(code, Some(0), "{}", stage.log("fetch.log"));
    assert!(std::fs::read(into.join(FILE)).unwrap() == stage.content);
    assert_eq!(files(&into), [FILE], "nothing unfinished is left");
    stage.bob.say("exit").unwrap();
    assert_eq!(stage.bob.wait_exit(WAIT).unwrap(), Some(0));
}
