//! The main job through the real binary: a private room, messages, a file, limits and exit codes.

use secchat::cli::drive::{Process, Server, client_args, start_client};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

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
    fn new(listen: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&binary(), dir.path(), "s1", listen, &[]).unwrap();
        Self { dir, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn folder(&self, name: &str, files: &[(&str, Vec<u8>)]) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        for (file, bytes) in files {
            std::fs::write(path.join(file), bytes).unwrap();
        }
        path.display().to_string()
    }

    fn secret_file(&self, name: &str, secret: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    fn client(&self, name: &str, more: &[&str]) -> Process {
        start_client(&binary(), self.dir.path(), name, &self.server.invite, more).unwrap()
    }

    /// Alice with a private room `lab`, and the file with its secret.
    fn alice(&self, more: &[&str]) -> (Process, String) {
        let mut args = vec!["--room", "lab", "--create", "--private"];
        args.extend(more);
        let mut alice = self.client("alice", &args);
        let created = alice.wait_event("room_created", WAIT, |_| true).unwrap();
        let secret = self.secret_file("secret", field(&created, "secret"));
        alice.wait_event("joined", WAIT, |_| true).unwrap();
        (alice, secret)
    }

    fn member(&self, name: &str, secret: &str, more: &[&str]) -> Process {
        let mut args = vec!["--room", "lab", "--password-file", secret];
        args.extend(more);
        let mut process = self.client(name, &args);
        process.wait_event("joined", WAIT, |_| true).unwrap();
        process
    }
}

fn says(from: &mut Process, to: &mut Process, text: &str) {
    from.say(text).unwrap();
    to.wait_event("message", WAIT, |e| field(e, "text") == text).unwrap();
}

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn main_job(listen: &str) {
    let stage = Stage::new(listen);
    let content = noise(1, 3_000_000);
    let share = stage.folder("share", &[("летний отчёт 1.bin", content.clone())]);
    let (mut alice, secret) = stage.alice(&["--share", &share]);

    let wrong = stage.secret_file("wrong", "not the secret");
    let args =
        client_args(stage.dir.path(), "mallory", &stage.server.invite, &["--room", "lab", "--password-file", &wrong]);
    let mut mallory = Process::start(&binary(), "mallory", &args, &stage.path("mallory.log")).unwrap();
    assert_eq!(mallory.wait_exit(WAIT).unwrap(), Some(4));

    let downloads = stage.folder("downloads", &[]);
    let mut bob = stage.member("bob", &secret, &["--downloads", &downloads]);
    alice.wait_event("member_joined", WAIT, |e| field(e, "name") == "bob@s1").unwrap();
    says(&mut alice, &mut bob, "hello from alice");
    says(&mut bob, &mut alice, "hello from bob");
    bob.say("@alice between us").unwrap();
    alice.wait_event("direct", WAIT, |e| field(e, "text") == "between us" && field(e, "from") == "bob@s1").unwrap();
    alice.say("@bob likewise").unwrap();
    bob.wait_event("direct", WAIT, |e| field(e, "text") == "likewise").unwrap();

    alice.say("@me setshare летний отчёт 1.bin").unwrap();
    alice.wait_event("ok", WAIT, |e| field(e, "command").starts_with("set")).unwrap();
    bob.say("@all whohas летний*").unwrap();
    bob.wait_event("file_found", WAIT, |e| field(e, "file") == "летний отчёт 1.bin").unwrap();
    bob.say("@alice getfile летний отчёт 1.bin").unwrap();
    let done = bob.wait_event("transfer_done", WAIT, |_| true).unwrap();
    assert_eq!(std::fs::read(field(&done, "path")).unwrap(), content);
    assert_eq!(field(&done, "root"), blake3::hash(&content).to_hex().as_str());
    let mode = Path::new(field(&done, "path")).metadata().unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o111, 0);

    bob.say("@alice getfile no such file").unwrap();
    bob.wait_event("error", WAIT, |e| field(e, "code") == "not_shared").unwrap();
    bob.say("exit").unwrap();
    assert_eq!(bob.wait_exit(WAIT).unwrap(), Some(0));
    alice.wait_event("member_left", WAIT, |e| field(e, "name") == "bob@s1" && field(e, "reason") == "left").unwrap();
}

#[test]
fn a_private_room_a_direct_message_and_a_file_over_ipv4() {
    main_job("127.0.0.1:0");
}

#[test]
fn a_private_room_a_direct_message_and_a_file_over_ipv6() {
    main_job("[::1]:0");
}

#[test]
fn a_busy_holder_is_passed_over_for_the_next() {
    let stage = Stage::new("127.0.0.1:0");
    let content = noise(2, 500_000);
    let one = stage.folder("one", &[("data.bin", content.clone())]);
    let two = stage.folder("two", &[("data.bin", content.clone())]);
    let (mut alice, secret) = stage.alice(&["--share", &one, "-p", "0"]);
    let mut carol = stage.member("carol", &secret, &["--share", &two]);
    for holder in [&mut alice, &mut carol] {
        holder.say("@me setglobalshare").unwrap();
        holder.wait_event("ok", WAIT, |e| field(e, "command").starts_with("set")).unwrap();
    }
    let downloads = stage.folder("downloads", &[("data.bin", b"mine".to_vec())]);
    let mut bob = stage.member("bob", &secret, &["--downloads", &downloads]);
    bob.say("@alice getfile data.bin").unwrap();
    bob.wait_event("error", WAIT, |e| field(e, "code") == "busy").unwrap();
    bob.say("@any getfile data.bin").unwrap();
    let done = bob.wait_event("transfer_done", WAIT, |e| field(e, "peer") == "carol@s1").unwrap();
    assert_eq!(std::fs::read(field(&done, "path")).unwrap(), content);
    assert_eq!(std::fs::read(Path::new(&downloads).join("data.bin")).unwrap(), b"mine", "nothing is overwritten");
}

#[test]
fn messages_survive_a_killed_server_once_and_in_order() {
    let mut stage = Stage::new("127.0.0.1:0");
    let (mut alice, secret) = stage.alice(&[]);
    let mut bob = stage.member("bob", &secret, &[]);
    let address = stage.server.invite.trim_start_matches("secchat://").split('/').next().unwrap().to_owned();
    for round in 0..3 {
        for n in 0..20 {
            alice.say(&format!("message {round}.{n}")).unwrap();
            if n == 10 {
                stage.server.process.kill();
                stage.server = Server::start(&binary(), stage.dir.path(), "s1", &address, &[]).unwrap();
            }
        }
        let mut got = Vec::new();
        while got.len() < 20 {
            let message = bob.wait_event("message", WAIT, |_| true).unwrap();
            got.push(field(&message, "text").to_owned());
        }
        let sent: Vec<String> = (0..20).map(|n| format!("message {round}.{n}")).collect();
        assert_eq!(got, sent);
    }
}

#[test]
fn no_canary_is_in_what_the_server_keeps() {
    let stage = Stage::new("127.0.0.1:0");
    let share = stage.folder("share", &[("canary-file-name.txt", b"canary-file-bytes".to_vec())]);
    let (mut alice, secret) = stage.alice(&["--share", &share]);
    let mut bob = stage.member("bob", &secret, &[]);
    alice.say("@me setglobalshare").unwrap();
    alice.wait_event("ok", WAIT, |e| field(e, "command").starts_with("set")).unwrap();
    says(&mut alice, &mut bob, "canary-message");
    bob.say("@alice canary-direct").unwrap();
    alice.wait_event("direct", WAIT, |_| true).unwrap();
    bob.say("@alice getfile canary-file-name.txt").unwrap();
    bob.wait_event("transfer_done", WAIT, |_| true).unwrap();
    let secret = std::fs::read_to_string(secret).unwrap();
    for canary in ["canary-file", "canary-message", "canary-direct", secret.trim()] {
        assert!(!holds(&stage.server.data, canary.as_bytes()), "{canary} is in the server's data");
        assert!(!holds(&stage.path("s1.log"), canary.as_bytes()), "{canary} is in the server's log");
    }
}

fn holds(path: &Path, needle: &[u8]) -> bool {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().any(|entry| holds(&entry.unwrap().path(), needle));
    }
    path.is_file() && std::fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle)
}
