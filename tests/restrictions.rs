//! Rules on sharing between real processes: a program under another name, a denied content under a new one, a file that is too large.
//! Each is refused at both ends, with the rule and its reason.

use secchat::cli::drive::{Process, Server, start_client};
use secchat::server::desk::socket_in;
use secchat::transfer::restrict::parse;
use secchat::wire::admin::{Answer, Ask};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_secchat").into()
}

fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

struct Stage {
    dir: tempfile::TempDir,
    server: Server,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", &[]).unwrap();
        Self { dir, server }
    }

    /// Whoever runs the server makes a rule.
    fn restrict(&self, flags: &str) {
        let typed = parse(flags).unwrap();
        let (limits, reason) = (Box::new(typed.limits), typed.reason);
        let answer = ask(&self.server.data, &Ask::Restrict { room: None, user: None, limits, reason });
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    }

    /// A client in the public room `den` that shares what is in its folder.
    fn client(&self, name: &str, more: &[&str]) -> Process {
        for folder in ["share", "in"] {
            std::fs::create_dir_all(self.path(name, folder)).unwrap();
        }
        let (share, downloads) = (self.path(name, "share"), self.path(name, "in"));
        let mut args = vec!["--room", "den", "--share", share.to_str().unwrap()];
        args.extend(["--downloads", downloads.to_str().unwrap()]);
        args.extend(more);
        let mut client = start_client(&binary(), self.dir.path(), name, &self.server.invite, &args).unwrap();
        client.wait_event("joined", WAIT, |_| true).unwrap();
        client.say("@me setglobalshare").unwrap();
        client.wait_event("ok", WAIT, |_| true).unwrap();
        client
    }

    fn path(&self, name: &str, folder: &str) -> PathBuf {
        self.dir.path().join(format!("{name}-{folder}"))
    }

    fn put(&self, name: &str, file: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.path(name, "share")).unwrap();
        std::fs::write(self.path(name, "share").join(file), bytes).unwrap();
    }

    fn downloaded(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(name, "in")).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn ask(data: &Path, ask: &Ask) -> Answer {
    let mut stream = UnixStream::connect(socket_in(data)).unwrap();
    stream.write_all((serde_json::to_string(ask).unwrap() + "\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

/// The next transfer that fails by a rule, and what is said of it.
fn refused(client: &mut Process) -> (String, String) {
    let event = client.wait_event("transfer_failed", WAIT, |e| field(e, "reason") == "restricted").unwrap();
    (field(&event, "file").into(), field(&event, "detail").into())
}

/// The beginning of a program, and some more.
fn program(magic: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x5a; 300_000];
    bytes[..magic.len()].copy_from_slice(magic);
    bytes
}

const NO_PROGRAMS: &str = "--deny-type application/x-executable \
                           --deny-type application/vnd.microsoft.portable-executable --reason 'no programs here'";

#[test]
fn a_renamed_program_a_denied_content_and_an_oversized_file_are_refused_at_both_ends_with_the_reason() {
    let stage = Stage::new();
    let secret = b"what must not go round".repeat(1000);
    stage.put("alice", "holiday.jpg", &program(b"\x7fELF\x02\x01\x01\0"));
    stage.put("alice", "setup.txt", &program(b"MZ\x90\0"));
    stage.put("alice", "innocent.dat", &secret);
    stage.put("alice", "big.bin", &vec![7; 2_000_000]);
    stage.put("alice", "fine.txt", b"fine");
    stage.restrict(NO_PROGRAMS);
    stage.restrict(&format!("--deny-root {} --reason 'by law'", blake3::hash(&secret).to_hex()));
    stage.restrict("--max-size 1M --reason 'small disks'");
    // More than fits into what a server may say before a login.
    let many: String = (0..60).map(|n| format!("--deny-name {n}{} ", "x".repeat(200))).collect();
    stage.restrict(&many);
    let mut alice = stage.client("alice", &["--create"]);
    let mut bob = stage.client("bob", &[]);
    for (file, what) in [
        ("holiday.jpg", "rule 1 of the server s1: holiday.jpg is application/x-executable by its content"),
        ("setup.txt", "rule 1 of the server s1: setup.txt is application/vnd.microsoft.portable-executable by its"),
        ("innocent.dat", "rule 2 of the server s1: the content of innocent.dat is not shared, whatever its name"),
        ("big.bin", "rule 3 of the server s1: big.bin has 2000000 bytes, and at most 1048576 are shared"),
    ] {
        bob.say(&format!("@alice getfile {file}")).unwrap();
        let (there, here) = (refused(&mut alice), refused(&mut bob));
        assert!(there.0 == file && there.1.starts_with(what), "{there:?}");
        assert!(here.0 == file && here.1.starts_with(&format!("alice@s1 says: {what}")), "{here:?}");
        let reason = ["no programs here", "no programs here", "by law", "small disks"];
        assert!(reason.iter().any(|reason| there.1.ends_with(&format!("({reason})"))), "{there:?}");
        // And it is not offered either.
        alice.say(&format!("@bob sendfile {}", stage.path("alice", "share").join(file).display())).unwrap();
        let error = alice.wait_event("error", WAIT, |_| true).unwrap();
        assert!(field(&error, "code") == "restricted" && field(&error, "message").starts_with(what), "{error}");
    }
    assert!(stage.downloaded("bob").is_empty());
    bob.say("@alice getfile fine.txt").unwrap();
    bob.wait_event("transfer_done", WAIT, |e| field(e, "direction") == "download").unwrap();
    assert_eq!(stage.downloaded("bob"), ["fine.txt"]);
}

#[test]
fn a_rule_is_there_at_once_for_who_is_connected_and_ends_what_runs() {
    let stage = Stage::new();
    stage.put("alice", "big.bin", &vec![7; 30_000_000]);
    let mut alice = stage.client("alice", &["--create", "--up", "1MB"]);
    let mut bob = stage.client("bob", &[]);
    bob.say("@alice getfile big.bin").unwrap();
    bob.wait_event("transfer_progress", WAIT, |e| e["bytes"].as_u64() > Some(100_000)).unwrap();
    stage.restrict("--off --reason maintenance");
    for client in [&mut alice, &mut bob] {
        let (file, detail) = refused(client);
        assert!(file == "big.bin" && detail.contains("nothing is shared (maintenance)"), "{detail}");
    }
    bob.say("@alice getfile big.bin").unwrap();
    bob.wait_event("error", WAIT, |e| field(e, "code") == "restricted").unwrap();
    // Nothing stays.
    let kept = || stage.downloaded("bob");
    for _ in 0..200 {
        if kept().is_empty() {
            return;
        }
        bob.listen(Duration::from_millis(20));
    }
    panic!("{:?}", kept());
}

#[test]
fn a_rooms_owner_restricts_it_by_a_chat_command_and_a_day_outlives_the_process() {
    let stage = Stage::new();
    stage.put("bob", "a.txt", b"one");
    stage.put("bob", "b.txt", b"two");
    let mut alice = stage.client("alice", &["--create"]);
    let mut bob = stage.client("bob", &[]);
    alice.say("/restrict --files-a-day 1 --reason 'one each'").unwrap();
    alice.wait_event("notice", WAIT, |e| field(e, "text").contains("holds in den@s1 now")).unwrap();
    bob.wait_event("notice", WAIT, |e| field(e, "text").contains("has changed")).unwrap();
    alice.say("@bob getfile a.txt").unwrap();
    alice.wait_event("transfer_done", WAIT, |_| true).unwrap();
    // Killed and back.
    drop(bob);
    let mut bob = stage.client("bob", &[]);
    alice.say("@bob getfile b.txt").unwrap();
    let (file, detail) = refused(&mut bob);
    assert!(
        file == "b.txt" && detail.contains("of the room den@s1: one person sends at most 1 files a day"),
        "{detail}"
    );
    refused(&mut alice);
}
