//! Files between two real clients over their server, which sees sealed bytes: what comes, what is said of the way, what the server
//! and the line get to see.

mod moving;

use secchat::cli::drive::{Process, Server, start_client};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(60);
const NAME: &str = "quarterly-figures-Q3.bin";
const MARK: &[u8] = b"these sixteen words stand in the clear in no datagram and in no file of any server";

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_secchat").into()
}

fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Noise in which every 4 KiB begin with the mark.
fn content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"relayed").finalize_xof().fill(&mut bytes);
    for page in bytes.chunks_exact_mut(4096) {
        page[..MARK.len()].copy_from_slice(MARK);
    }
    bytes
}

struct Stage {
    dir: tempfile::TempDir,
    server: Server,
}

impl Stage {
    fn new(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", more).unwrap();
        Self { dir, server }
    }

    /// A client that is told that the server is there.
    fn client_at(&self, invite: &str, name: &str, more: &[&str]) -> Process {
        let mut args = vec!["--room", "lab"];
        args.extend(more);
        let mut process = start_client(&binary(), self.dir.path(), name, invite, &args).unwrap();
        process.wait_event("joined", WAIT, |_| true).unwrap();
        process
    }

    fn folder(&self, name: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    }

    /// Alice shares [`NAME`], Bob is there to fetch it; each with options of its own.
    fn two(&self, content: &[u8], alice: &[&str], bob: &[&str]) -> (Process, Process) {
        self.two_at([&self.server.invite; 2], content, alice, bob)
    }

    fn two_at(&self, invites: [&str; 2], content: &[u8], alice: &[&str], bob: &[&str]) -> (Process, Process) {
        let (share, downloads) = (self.folder("share"), self.folder("downloads"));
        std::fs::write(Path::new(&share).join(NAME), content).unwrap();
        let mut holder = self.client_at(invites[0], "alice", &[&["--create", "--share", &share], alice].concat());
        let asker = self.client_at(invites[1], "bob", &[&["--downloads", &downloads], bob].concat());
        holder.wait_event("member_joined", WAIT, |e| field(e, "name") == "bob@s1").unwrap();
        holder.say("@me setglobalshare").unwrap();
        holder.wait_event("ok", WAIT, |e| field(e, "command").starts_with("set")).unwrap();
        (holder, asker)
    }
}

/// Fetches the file; gives the way that both were told, and bytes a second.
fn fetch(holder: &mut Process, asker: &mut Process, content: &[u8]) -> (String, u64) {
    asker.say(&format!("@alice getfile {NAME}")).unwrap();
    let theirs = holder.wait_event("transfer_started", WAIT, |_| true).unwrap();
    let ours = asker.wait_event("transfer_started", WAIT, |_| true).unwrap();
    let done = asker.wait_event("transfer_done", WAIT, |_| true).unwrap();
    assert_eq!(field(&done, "root"), blake3::hash(content).to_hex().as_str());
    assert!(std::fs::read(field(&done, "path")).unwrap() == content);
    holder.wait_event("transfer_done", WAIT, |_| true).unwrap();
    let relayed = |event: &Value| field(event, "route").starts_with("relayed");
    assert_eq!(relayed(&theirs), relayed(&ours), "{theirs} {ours}");
    (field(&ours, "route").to_owned(), done.get("rate").and_then(Value::as_u64).unwrap_or_default())
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    let first = what[0];
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first).map(|(at, _)| at);
    starts.into_iter().any(|at| bytes[at..].starts_with(what))
}

fn assert_nothing_in(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nothing_in(&path);
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!holds(&bytes, MARK) && !holds(&bytes, NAME.as_bytes()), "{}", path.display());
        }
    }
}

/// Listens to all UDP on this machine's loopback, as somebody on the line would. Needs root.
struct Line {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(usize, usize)>,
}

impl Line {
    fn tap() -> Option<Self> {
        let udp = Some(socket2::Protocol::UDP);
        let mut socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, udp).ok()?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (mut buffer, mut relayed, mut clear) = (vec![0; 70_000], 0, 0);
            while !stop.load(Ordering::Relaxed) {
                let Ok(len) = socket.read(&mut buffer) else { continue };
                let packet = &buffer[..len];
                // Behind the headers of IPv4 and UDP.
                relayed += usize::from(packet.get(28) == Some(&9));
                clear += usize::from(holds(packet, MARK) || holds(packet, NAME.as_bytes()));
            }
            (relayed, clear)
        });
        Some(Self { over, thread })
    }

    /// Relayed packets that were heard, and those with anything in the clear.
    fn heard(self) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn a_file_comes_whole_over_the_server_which_and_whose_line_hold_nothing_of_it_in_the_clear() {
    let content = content(64 << 20);
    let stage = Stage::new(&[]);
    let (mut alice, mut bob) = stage.two(&content, &["--relay-only"], &["--relay-only"]);
    let line = Line::tap();
    let (route, rate) = fetch(&mut alice, &mut bob, &content);
    assert_eq!(route, "relayed by s1");
    eprintln!("relayed: {} MB/s", rate / 1_000_000);
    match line.map(Line::heard) {
        Some((relayed, clear)) => assert!(relayed > 100 && clear == 0, "{relayed} heard, {clear} in the clear"),
        None => eprintln!("the line was not listened to: that needs root"),
    }
    assert_nothing_in(&stage.dir.path().join("s1"));
}

#[test]
fn who_wants_a_relay_gets_it_though_the_other_would_be_reached_directly() {
    let content = content(1 << 20);
    for (alice, bob) in [(&["--relay-only"][..], &[][..]), (&[], &["--relay-only"])] {
        let stage = Stage::new(&[]);
        let (mut alice, mut bob) = stage.two(&content, alice, bob);
        assert_eq!(fetch(&mut alice, &mut bob, &content).0, "relayed by s1");
    }
}

#[test]
fn where_no_udp_gets_through_to_the_server_the_file_comes_over_the_link() {
    let content = content(32 << 20);
    // The server's UDP is where the clients do not look for it.
    let free = std::net::UdpSocket::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let stage = Stage::new(&["--udp", &free.to_string()]);
    let (mut alice, mut bob) = stage.two(&content, &["--relay-only"], &["--relay-only"]);
    let (route, rate) = fetch(&mut alice, &mut bob, &content);
    assert_eq!(route, "relayed by s1 over TLS");
    eprintln!("relayed over TLS: {} MB/s", rate / 1_000_000);
    bob.say("still here").unwrap();
    alice.wait_event("message", WAIT, |e| field(e, "text") == "still here").unwrap();
    assert_nothing_in(&stage.dir.path().join("s1"));
}

#[test]
fn a_direct_path_is_taken_where_there_is_one() {
    let content = content(64 << 20);
    let stage = Stage::new(&[]);
    let (mut alice, mut bob) = stage.two(&content, &[], &["--direct-only"]);
    let (route, rate) = fetch(&mut alice, &mut bob, &content);
    assert!(route.parse::<std::net::SocketAddr>().is_ok(), "{route}");
    eprintln!("direct: {} MB/s", rate / 1_000_000);
}

#[test]
fn a_server_that_relays_nothing_says_so() {
    let stage = Stage::new(&["--relay-rate", "0"]);
    let (_alice, mut bob) = stage.two(&content(1000), &["--relay-only"], &["--relay-only"]);
    bob.say(&format!("@alice getfile {NAME}")).unwrap();
    bob.wait_event("notice", WAIT, |e| field(e, "text").contains("s1 does not pass this file on")).unwrap();
}

#[test]
fn what_is_relayed_follows_the_settings_as_soon_as_they_are_read_again() {
    let settings = tempfile::NamedTempFile::new().unwrap();
    let says = |rate: &str| std::fs::write(settings.path(), format!("[server]\nrelay-user-rate = '{rate}'\n")).unwrap();
    says("0");
    let stage = Stage::new(&["--config", settings.path().to_str().unwrap()]);
    let content = content(1 << 20);
    let (mut alice, mut bob) = stage.two(&content, &["--relay-only"], &["--relay-only"]);
    bob.say(&format!("@alice getfile {NAME}")).unwrap();
    bob.wait_event("notice", WAIT, |e| field(e, "text").contains("s1 does not pass this file on")).unwrap();
    says("64M");
    let mut reload = std::process::Command::new(binary());
    let reload = reload.args(["admin", "--data"]).arg(&stage.server.data).arg("reload").output().unwrap();
    assert!(reload.status.success(), "{reload:?}");
    bob.say(&format!("/cancel {NAME}")).unwrap();
    assert_eq!(fetch(&mut alice, &mut bob, &content).0, "relayed by s1");
}
