//! Files between clients of different servers, none of which reaches the other: over the server of their conversation, by UDP, or by the
//! links and the mesh where UDP gets through nowhere.

use crate::harness::{Client, DEADLINE, Mesh};
use secchat::client::event::Event;
use secchat::wire::admin::{Answer, Ask};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where no client looks for the servers' UDP: with it nothing but TLS gets through.
const NO_UDP: &[&str] = &["--udp", "127.0.0.2:0"];

fn content(len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    blake3::Hasher::new().update(b"over the mesh").finalize_xof().fill(&mut content);
    content
}

fn texts(word: &str) -> Vec<String> {
    (0..100).map(|n| format!("{word} {n}")).collect()
}

/// Alice shares a file, Bob is there to fetch it, each at the end of a chain of servers.
struct Stage {
    mesh: Mesh,
    content: Vec<u8>,
}

impl Stage {
    fn chain(servers: usize, len: usize, more: &[&str]) -> Self {
        let links = |n: usize| if n > 1 { vec![n - 1] } else { Vec::new() };
        let (mesh, content) = (Mesh::shaped_with(servers, links, more), content(len));
        let share = mesh.path("share");
        std::fs::create_dir(&share).unwrap();
        std::fs::write(share.join("noise.bin"), &content).unwrap();
        Self { mesh, content }
    }

    /// At these servers.
    fn clients(&self, alice: usize, bob: usize) -> (Client, Client) {
        let [share, downloads] = ["share", "downloads"].map(|name| self.mesh.path(name).to_str().unwrap().to_owned());
        let room = ["--no-roam", "--relay-only", "--room", "lab@s1", "--create", "--private", "--share", &share];
        let mut alice = self.mesh.client("alice", alice, &room);
        alice.joined();
        alice.say("@me setglobalshare");
        alice.wait("shared", |event| matches!(event, Event::Ok { .. }));
        self.mesh.settle(&mut alice);
        let room = ["--no-roam", "--relay-only", "--room", "lab@s1", "--downloads", &downloads];
        let mut bob = self.mesh.client("bob", bob, &room);
        bob.joined();
        alice.wait("bob", |event| matches!(event, Event::MemberJoined { .. }));
        (alice, bob)
    }

    /// The way that both were told.
    fn fetch(&self, alice: &mut Client, bob: &mut Client) -> String {
        bob.say("@alice getfile noise.bin");
        let started = |event: &Event| matches!(event, Event::TransferStarted(_));
        let Event::TransferStarted(theirs) = alice.wait("the start", started) else { unreachable!() };
        let Event::TransferStarted(ours) = bob.wait("the start", started) else { unreachable!() };
        assert_eq!(theirs.route, ours.route);
        self.fetched(bob);
        ours.route.unwrap()
    }

    /// A server has counted the file's bytes.
    fn has_relayed(&self, server: usize) {
        let until = Instant::now() + DEADLINE;
        let bytes = || match self.mesh.ask(server, &Ask::Stats) {
            Answer::Stats(counts) => counts["relayed_file_bytes_total"],
            other => panic!("{other:?}"),
        };
        while bytes() < self.content.len() as u64 {
            assert!(Instant::now() < until, "s{server}: {}", bytes());
        }
    }

    fn fetched(&self, bob: &mut Client) {
        let done = bob.wait("the file", |event| matches!(event, Event::TransferDone(_) | Event::TransferFailed(_)));
        let Event::TransferDone(done) = done else { panic!("{done:?}") };
        assert_eq!(done.root.unwrap(), blake3::hash(&self.content).to_hex().as_str());
        assert!(std::fs::read(Path::new(&done.path.unwrap())).unwrap() == self.content);
        eprintln!("{} MB/s", done.rate.unwrap_or_default() / 1_000_000);
    }
}

#[test]
fn guests_of_two_servers_fetch_over_the_server_of_one_by_udp() {
    let stage = Stage::chain(3, 32 << 20, &[]);
    let (mut alice, mut bob) = stage.clients(1, 3);
    assert_eq!(stage.fetch(&mut alice, &mut bob), "relayed by s1");
}

#[test]
fn where_udp_gets_through_nowhere_the_file_comes_over_the_mesh() {
    let stage = Stage::chain(3, 32 << 20, NO_UDP);
    let (mut alice, mut bob) = stage.clients(1, 3);
    assert_eq!(stage.fetch(&mut alice, &mut bob), "relayed by s1 over TLS");
    // The middle one passed on what it cannot read, as it does with all else; the others' clients are charged for it.
    [1, 3].into_iter().for_each(|server| stage.has_relayed(server));
    bob.say("still here");
    alice.hears("still here");
}

#[test]
fn and_between_two_guests_of_a_third_server() {
    let stage = Stage::chain(3, 32 << 20, NO_UDP);
    // Alice is of the middle server, and comes through the first one now.
    let mut alice = stage.mesh.client("alice", 2, &["--no-roam", "--room", "den", "--create", "--private"]);
    alice.joined();
    stage.mesh.settle(&mut alice);
    assert_eq!(alice.exit(), Some(0));
    let (mut alice, mut bob) = stage.clients(1, 3);
    assert!(alice.told(&["connected"], &["server", "name"]).contains(&"connected s1 alice@s2".into()));
    assert_eq!(stage.fetch(&mut alice, &mut bob), "relayed by s2 over TLS");
}

#[test]
fn what_people_say_over_the_same_links_comes_in_order_while_the_relay_is_full() {
    let stage = Stage::chain(2, 256 << 20, NO_UDP);
    let (mut alice, mut bob) = stage.clients(1, 2);
    let mut carol = stage.mesh.client("carol", 1, &["--room", "den@s1", "--create", "--private"]);
    carol.joined();
    let mut dave = stage.mesh.client("dave", 2, &["--room", "den@s1"]);
    dave.joined();
    carol.wait("dave", |event| matches!(event, Event::MemberJoined { .. }));
    bob.say("@alice getfile noise.bin");
    bob.wait("the start", |event| matches!(event, Event::TransferStarted(_)));
    for n in 0..100 {
        carol.say(&format!("carol {n}"));
        dave.say(&format!("dave {n}"));
    }
    carol.hears("dave 99");
    dave.hears("carol 99");
    while bob.next(Duration::ZERO).is_some() {}
    let done = bob.seen.iter().any(|event| matches!(event, Event::TransferDone(_)));
    assert!(!done, "the file was still on its way");
    assert_eq!(
        (carol.texts(), dave.texts()),
        (texts("dave").iter().map(String::as_str).collect(), texts("carol").iter().map(String::as_str).collect())
    );
    bob.say("/cancel noise.bin");
    alice.wait("the end", |event| matches!(event, Event::TransferFailed(_)));
}

#[test]
fn a_server_on_the_way_that_dies_and_comes_back_does_not_end_it() {
    let mut stage = Stage::chain(3, 96 << 20, NO_UDP);
    let (_alice, mut bob) = stage.clients(1, 3);
    bob.say("@alice getfile noise.bin");
    bob.wait("the start", |event| matches!(event, Event::TransferStarted(_)));
    bob.wait("some of it", |event| matches!(event, Event::TransferProgress(_)));
    stage.mesh.kill(2);
    stage.mesh.revive(2);
    stage.fetched(&mut bob);
}
