//! What a file goes over dies in the middle: the server, its forwarding, the link. The file comes whole all the same.

use super::{NAME, Stage, WAIT, binary, content, field};
use secchat::cli::drive::{Process, Server};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const LEN: usize = 12 << 20;
/// Bytes a second: so that there is a middle.
const RATE: &str = "2M";

/// Somewhere for a server's UDP where no client looks for it.
fn hidden_udp() -> String {
    std::net::UdpSocket::bind("127.0.0.2:0").unwrap().local_addr().unwrap().to_string()
}

fn address(invite: &str) -> &str {
    invite.trim_start_matches("secchat://").split('/').next().unwrap()
}

/// Begins to fetch over a relay, by UDP or not, and waits for the middle.
fn half(asker: &mut Process, udp: bool) {
    asker.say(&format!("@alice getfile {NAME}")).unwrap();
    let started = asker.wait_event("transfer_started", WAIT, |_| true).unwrap();
    assert_eq!(field(&started, "route"), if udp { "relayed by s1" } else { "relayed by s1 over TLS" });
    let bytes = |event: &Value| event.get("bytes").and_then(Value::as_u64).unwrap_or_default();
    asker.wait_event("transfer_progress", WAIT, |event| bytes(event) > LEN as u64 / 4).unwrap();
}

/// The file comes whole. Gives how many sessions it took.
fn whole(asker: &mut Process, content: &[u8]) -> usize {
    let done = asker.wait_event("transfer_done", WAIT, |_| true).unwrap();
    assert_eq!(field(&done, "root"), blake3::hash(content).to_hex().as_str());
    assert!(std::fs::read(field(&done, "path")).unwrap() == content);
    let begun = |event: &Value| matches!(field(event, "event"), "transfer_started" | "source_added");
    asker.events().filter(begun).count()
}

fn restarted(more: &[&str]) {
    let content = content(LEN);
    let mut stage = Stage::new(more);
    let only = ["--relay-only", "--up", RATE];
    let (_alice, mut bob) = stage.two(&content, &only, &only);
    half(&mut bob, more.is_empty());
    stage.server.process.kill();
    let at = address(&stage.server.invite).to_owned();
    stage.server = Server::start(&binary(), stage.dir.path(), "s1", &at, more).unwrap();
    let sessions = whole(&mut bob, &content);
    eprintln!("a server that began anew: {sessions} sessions");
}

/// Carries TCP to the server; can be cut.
struct Cable {
    addr: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    cut: Arc<AtomicBool>,
}

impl Cable {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, server) = (listener.local_addr().unwrap(), server.to_owned());
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let cut = Arc::new(AtomicBool::new(false));
        let (kept, is_cut) = (Arc::clone(&streams), Arc::clone(&cut));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&server) else { continue };
                if is_cut.load(Ordering::Relaxed) {
                    continue;
                }
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || carry(from, to));
                }
                kept.lock().unwrap().extend([near, far]);
            }
        });
        Self { addr, streams, cut }
    }

    /// Cuts what there is, and what comes until it is mended.
    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        self.streams.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// The links of whom are cut.
fn cut(asker: bool, holder: bool) {
    let content = content(LEN);
    let stage = Stage::new(&["--udp", &hidden_udp()]);
    let real = address(&stage.server.invite);
    let cables = [Cable::to(real), Cable::to(real)];
    let invites: Vec<String> =
        cables.iter().map(|cable| stage.server.invite.replace(real, &cable.addr.to_string())).collect();
    let only = ["--relay-only", "--up", RATE];
    let (_alice, mut bob) = stage.two_at([&invites[0], &invites[1]], &content, &only, &only);
    half(&mut bob, false);
    let cut: Vec<&Cable> = cables.iter().zip([holder, asker]).filter(|(_, cut)| *cut).map(|(cable, _)| cable).collect();
    cut.iter().for_each(|cable| cable.cut());
    if asker {
        bob.wait_event("reconnecting", WAIT, |_| true).unwrap();
    }
    cut.iter().for_each(|cable| cable.mend());
    let sessions = whole(&mut bob, &content);
    eprintln!("links cut (asker {asker}, holder {holder}): {sessions} sessions");
}

#[test]
fn a_server_that_is_killed_in_the_middle_and_begins_anew_ends_no_file_that_goes_over_its_udp() {
    restarted(&[]);
}

#[test]
fn nor_one_that_goes_over_its_links() {
    restarted(&["--udp", &hidden_udp()]);
}

#[test]
fn a_file_over_links_of_which_one_is_cut_in_the_middle_comes_whole() {
    cut(true, false);
    cut(false, true);
}

#[test]
fn so_does_one_where_both_are_cut() {
    cut(true, true);
}

#[test]
fn a_server_that_is_away_for_long_ends_the_session_but_not_the_file() {
    let content = content(LEN);
    let mut stage = Stage::new(&[]);
    let only = ["--relay-only", "--up", RATE];
    let (_alice, mut bob) = stage.two(&content, &only, &only);
    half(&mut bob, true);
    stage.server.process.kill();
    bob.wait_event("source_lost", WAIT, |_| true).unwrap();
    let at = address(&stage.server.invite).to_owned();
    stage.server = Server::start(&binary(), stage.dir.path(), "s1", &at, &[]).unwrap();
    assert_eq!(whole(&mut bob, &content), 2);
}
