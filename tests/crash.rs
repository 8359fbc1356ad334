//! The server is killed at each point before and after each of its writes, in the middle of a chat. Afterwards the clients are back by
//! themselves, and every message is at the other side once and in order.
#![cfg(feature = "failpoints")]

use secchat::cli::drive::{Process, client_args, start_client};
use secchat::store::FAILPOINTS;
use secchat::wire::admin::{Answer, Ask, Whom};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);
const ROUND: Duration = Duration::from_millis(40);

fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The server's process, killed at `point` if one is given, and its invite.
fn serve(dir: &Path, listen: &str, point: Option<&str>) -> (Process, String) {
    let data = dir.join("server").display().to_string();
    let mut args = vec![format!("SECCHAT_FAILPOINT={}", point.unwrap_or("none"))];
    args.extend(
        [env!("CARGO_BIN_EXE_secchat"), "server", "--listen", listen, "--name", "s1", "--data"].map(String::from),
    );
    args.push(data);
    let mut process = Process::start(Path::new("env"), "server", &args, &dir.join("server.log")).unwrap();
    let invite = process.wait_line("its invite", WAIT, |l| {
        l.split_whitespace().find(|w| w.starts_with("secchat://")).map(str::to_owned)
    });
    // At some points it dies before it can say so; the address is known by then.
    (process, invite.unwrap_or_default())
}

struct Chat {
    dir: tempfile::TempDir,
    address: String,
    invite: String,
    secret: String,
    server: Process,
    alice: Process,
    bob: Process,
}

impl Chat {
    fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, invite) = serve(dir.path(), "127.0.0.1:0", None);
        let address = invite.trim_start_matches("secchat://").split('/').next().unwrap().to_owned();
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_secchat"));
        let more = ["--room", "lab", "--create", "--private"];
        let mut alice = start_client(&binary, dir.path(), "alice", &invite, &more).unwrap();
        let created = alice.wait_event("room_created", WAIT, |_| true).unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, field(&created, "secret")).unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let secret = secret.display().to_string();
        let more = ["--room", "lab", "--password-file", &secret];
        let mut bob = start_client(&binary, dir.path(), "bob", &invite, &more).unwrap();
        bob.wait_event("joined", WAIT, |_| true).unwrap();
        Self { dir, address, invite, secret, server, alice, bob }
    }

    fn newcomer(&self) -> Process {
        let more = ["--room", "lab", "--password-file", &self.secret];
        let args = client_args(self.dir.path(), "carol", &self.invite, &more);
        let log = self.dir.path().join("carol.log");
        Process::start(Path::new(env!("CARGO_BIN_EXE_secchat")), "carol", &args, &log).unwrap()
    }

    /// Lets the server die at the point, starts it anew, and tells whether the point was reached.
    fn survives(&mut self, point: &str) -> bool {
        self.server.kill();
        self.server = serve(self.dir.path(), &self.address, Some(point)).0;
        let sent = |who: &str| (0..8).map(|n| format!("{who} {n}")).collect::<Vec<_>>();
        for line in sent("alice") {
            self.alice.say(&line).unwrap();
        }
        let mut carol = self.newcomer();
        for line in sent("bob") {
            self.bob.say(&line).unwrap();
        }
        let (mut died, mut tried) = (false, 0);
        let end = Instant::now() + LONG;
        loop {
            if self.server.listen(ROUND) {
                died = true;
                self.server = serve(self.dir.path(), &self.address, None).0;
            }
            if carol.listen(ROUND) {
                carol = self.newcomer();
            }
            self.alice.listen(ROUND);
            self.bob.listen(ROUND);
            let there = heard(&self.bob, "alice@s1") == sent("alice") && heard(&self.alice, "bob@s1") == sent("bob");
            let joined = carol.events().any(|e| field(&e, "event") == "joined");
            let made = self.alice.events().any(|e| field(&e, "room") == "den@s1");
            // Without a link a room cannot be made: that is said, and tried again.
            let refused = self.alice.events().filter(|e| field(e, "event") == "error").count();
            if there && joined && refused >= tried && !made {
                tried = refused + 1;
                self.alice.say("/create den").unwrap();
            }
            if there && joined && made {
                break;
            }
            assert!(
                Instant::now() < end,
                "{point}: carol joined {joined}; den made {made}; bob heard {:?}; alice heard {:?}; alice said {:?}",
                heard(&self.bob, "alice@s1"),
                heard(&self.alice, "bob@s1"),
                self.alice.said().iter().rev().take(5).collect::<Vec<_>>()
            );
        }
        died
    }
}

fn heard(who: &Process, from: &str) -> Vec<String> {
    let messages = who.events().filter(|e| field(e, "event") == "message" && field(e, "from") == from);
    messages.map(|e| field(&e, "text").to_owned()).collect()
}

/// What is asked at the admin socket, and the answer if one comes.
fn ask(dir: &Path, ask: &Ask) -> Option<Answer> {
    let mut socket = UnixStream::connect(dir.join("server").join("admin.sock")).ok()?;
    socket.write_all((serde_json::to_string(ask).unwrap() + "\n").as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

/// A ban is made, another one lifted, while the server dies at the point; whether it did.
fn bans_survive(point: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let ban =
        |digit: &str| Ask::Ban { whom: Whom::Fingerprint(digit.repeat(64)), for_s: None, reason: None, here: false };
    let (mut server, _) = serve(dir.path(), "127.0.0.1:0", None);
    assert!(matches!(ask(dir.path(), &ban("a")), Some(Answer::Done { .. })));
    server.kill();
    let (mut server, _) = serve(dir.path(), "127.0.0.1:0", Some(point));
    let asked = [ban("b"), Ask::Unban { id: "1".into() }].map(|asked| ask(dir.path(), &asked).is_some());
    let died = asked.contains(&false);
    server.kill();
    let (_server, _) = serve(dir.path(), "127.0.0.1:0", None);
    let Some(Answer::Bans(page)) = ask(dir.path(), &Ask::Bans { after: None }) else { panic!("{point}") };
    let Some(Answer::Audit(acts)) = ask(dir.path(), &Ask::Audit { before: None, limit: None }) else {
        panic!("{point}")
    };
    let holds = |digit: &str| page.rows.iter().any(|row| row.fingerprint.as_deref() == Some(&digit.repeat(64)));
    let noted = |act: &str| acts.rows.iter().filter(|row| row.act == act).count();
    assert!(!asked[0] || holds("b"), "{point}: what was acknowledged is gone");
    assert!(!asked[1] || !holds("a"), "{point}: what was lifted is back");
    assert_eq!((noted("ban"), noted("unban")), (1 + usize::from(holds("b")), usize::from(!holds("a"))), "{point}");
    died
}

fn all_survived(points: impl Iterator<Item = &'static str>, must_be_reached: bool) {
    for point in points {
        for nth in [1, 3] {
            let reached = Chat::begin().survives(&format!("{point}:{nth}"));
            assert!(reached || !must_be_reached || nth > 1, "{point} was never reached");
        }
    }
}

fn points(of: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    FAILPOINTS.iter().copied().filter(move |p| of.contains(&p.split('.').next().unwrap_or(p)))
}

#[test]
fn killed_around_transactions() {
    all_survived(points(&["begin", "commit"]), true);
}

#[test]
fn killed_around_names_and_rooms() {
    all_survived(points(&["name", "instance", "room"]), true);
}

#[test]
fn killed_around_rows_and_epochs() {
    all_survived(points(&["row", "epoch"]), true);
}

#[test]
fn killed_around_bans() {
    for point in points(&["begin", "commit", "register", "act"]) {
        for nth in 1..=4 {
            let reached = bans_survive(&format!("{point}:{nth}"));
            assert!(reached || nth > 2, "{point} was never reached");
        }
    }
}

#[test]
fn killed_around_upkeep() {
    all_survived(points(&["remove", "trim"]), false);
}
