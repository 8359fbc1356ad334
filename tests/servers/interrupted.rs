//! SIGTERM and SIGINT end a client soon, whatever it waits for.

use crate::harness::{Client, Mesh, secchat};
use secchat::client::event::Event;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::tempdir;

const SOON: Duration = Duration::from_secs(3);

#[test]
fn while_the_first_join_waits_for_a_frozen_server() {
    let mesh = Mesh::new(2);
    let mut alice = mesh.client("alice", 1, &["--no-roam", "--room", "den", "--create", "--private"]);
    alice.joined();
    mesh.settle(&mut alice);
    let mut waiting = ["TERM", "INT"].map(|signal| (signal, mesh.client(signal, 2, &["--no-roam"])));
    for (_, bob) in &mut waiting {
        mesh.settle(bob);
    }
    mesh.signal(1, "STOP");
    for (_, bob) in &mut waiting {
        bob.say("/join den@s1");
        bob.say("hello");
    }
    for (signal, mut bob) in waiting {
        bob.wait("waiting", |event| matches!(event, Event::RoomWaiting { server, .. } if server == "s1"));
        bob.say("anybody?");
        bob.wait("an answer", |event| matches!(event, Event::RoomWaiting { lines: 2, .. }));
        bob.say("exit");
        ends(bob, signal);
    }
    // One that is in the room cannot leave it, and does not insist.
    mesh.signal(1, "CONT");
    mesh.settle(&mut alice);
    let mut carol = mesh.client("carol", 2, &["--no-roam", "--room", "den@s1"]);
    carol.joined();
    mesh.signal(1, "STOP");
    carol.say("held");
    carol.wait("held", |event| matches!(event, Event::Held { room: Some(room), .. } if room == "den@s1"));
    ends(carol, "TERM");
}

#[test]
fn before_there_is_any_link() {
    let home = tempdir().unwrap();
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for signal in ["TERM", "INT"] {
        let mut command = secchat(home.path());
        command.args(["client", "--json", "--trust-on-first-use", "--name", "bob", "--room", "den"]);
        command.args(["--server", &address]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut client = command.spawn().unwrap();
        let _connection = silent.accept().unwrap();
        let since = Instant::now();
        let id = client.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        assert_eq!(client.wait().unwrap().code(), Some(130));
        assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    }
}

fn ends(client: Client, signal: &str) {
    let since = Instant::now();
    assert_eq!(client.interrupt(signal), Some(130));
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
}
