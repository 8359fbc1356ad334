//! Secrets stay where they belong: looked for in the arguments, the environment, the logs and the files of real processes.

#![cfg(target_os = "linux")]

use secchat::cli::drive::{Process, Server, client_args, start_client};
use secchat::crypto::identity::Identity;
use secchat::crypto::secret::Secret;
use secchat::store::identity::{path_in, save_new};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);
const PASSWORD: &str = "canary-of-the-room-7f3a";
const WRONG: &str = "canary-of-a-wrong-guess-19c2";
const PASSPHRASE: &str = "canary-of-the-identity-55e1";
const SEED: [u8; 32] = *b"canary-seed-of-the-identity-key!";

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_secchat").into()
}

fn secret_file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Which of these texts stand in the files below `path`.
fn found(path: &Path, needles: &[(&str, Vec<u8>)]) -> Vec<String> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        return entries.flat_map(|entry| found(&entry, needles)).collect();
    }
    let bytes = std::fs::read(path).unwrap_or_default();
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    needles.iter().filter(|(_, n)| holds(n)).map(|(what, _)| format!("{what} in {}", path.display())).collect()
}

fn canaries() -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = SEED.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        ("the password", PASSWORD.into()),
        ("a wrong password", WRONG.into()),
        ("the passphrase", PASSPHRASE.into()),
        ("the key", SEED.into()),
        ("the key", hex.into()),
    ]
}

/// What everybody on the machine, or an administrator, can see of a process.
fn seen_from_outside(process: &Process, needles: &[(&str, Vec<u8>)]) -> Vec<String> {
    let proc = PathBuf::from(format!("/proc/{}", process.pid()));
    assert!(
        !found(&proc.join("cmdline"), &[("a flag", b"--data".into())]).is_empty(),
        "the search finds what is there"
    );
    ["cmdline", "environ", "comm"].iter().flat_map(|file| found(&proc.join(file), needles)).collect()
}

#[test]
fn secrets_are_in_no_argument_environment_log_or_data() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", &[]).unwrap();
    let secrets = tempfile::tempdir().unwrap();
    let password = secret_file(secrets.path(), "password", PASSWORD);
    let wrong = secret_file(secrets.path(), "wrong", WRONG);
    let passphrase = secret_file(secrets.path(), "passphrase", PASSPHRASE);
    let data = dir.path().join("client-alice");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).unwrap();
    save_new(&path_in(&data), &Identity::from_seed(&SEED), Some(&Secret::new(PASSPHRASE).unwrap())).unwrap();

    let private = ["--room", "lab", "--password-file", &password];
    let owner = [&private[..], &["--create", "--private", "--passphrase-file", &passphrase]].concat();
    let mut alice = start_client(&binary(), dir.path(), "alice", &server.invite, &owner).unwrap();
    alice.wait_event("joined", WAIT, |_| true).unwrap();
    let guess = ["--room", "lab", "--password-file", &wrong];
    let args = client_args(dir.path(), "mallory", &server.invite, &guess);
    let mut mallory = Process::start(&binary(), "mallory", &args, &dir.path().join("mallory.log")).unwrap();
    assert_eq!(mallory.wait_exit(WAIT).unwrap(), Some(4));
    let mut bob = start_client(&binary(), dir.path(), "bob", &server.invite, &private).unwrap();
    bob.wait_event("joined", WAIT, |_| true).unwrap();

    let canaries = canaries();
    for process in [&server.process, &alice, &bob] {
        assert_eq!(seen_from_outside(process, &canaries), [""; 0]);
    }
    // Data directories of the server and of all clients, and their standard error.
    assert_eq!(found(dir.path(), &canaries), [""; 0]);
    for process in [&server.process, &alice, &bob, &mallory] {
        let said = process.said().join("\n");
        assert!(
            canaries.iter().all(|(_, needle)| !said.as_bytes().windows(needle.len()).any(|w| w == needle)),
            "{said}"
        );
    }
}

#[test]
fn an_invite_with_a_secret_is_not_taken_from_an_argument() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", &[]).unwrap();
    let mut alice =
        start_client(&binary(), dir.path(), "alice", &server.invite, &["--room", "lab", "--create", "--private"])
            .unwrap();
    alice.wait_event("joined", WAIT, |_| true).unwrap();
    alice.say("/invite --with-secret").unwrap();
    let invite = alice
        .wait_line("an invite", WAIT, |line| {
            let begin = line.find("secchat://")?;
            line.get(begin..)?.split(['"', ' ', '\\']).next().map(str::to_owned)
        })
        .unwrap();
    let args = client_args(dir.path(), "bob", &invite, &[]);
    let mut bob = Process::start(&binary(), "bob", &args, &dir.path().join("bob.log")).unwrap();
    assert_eq!(bob.wait_exit(WAIT).unwrap(), Some(2));
}

#[test]
fn everything_kept_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", &[]).unwrap();
    let mut alice =
        start_client(&binary(), dir.path(), "alice", &server.invite, &["--room", "lab", "--create", "--private"])
            .unwrap();
    alice.wait_event("joined", WAIT, |_| true).unwrap();
    alice.say("exit").unwrap();
    assert_eq!(alice.wait_exit(WAIT).unwrap(), Some(0));
    for data in [server.data.clone(), dir.path().join("client-alice")] {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700, "{}", data.display());
        for entry in std::fs::read_dir(&data).unwrap() {
            let path = entry.unwrap().path();
            let loose = mode(&path) & 0o077;
            assert!(!path.is_file() || loose == 0, "{} is {:o}", path.display(), mode(&path));
        }
    }
}
