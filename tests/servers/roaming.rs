//! A server is killed, and its people go on through another one.

use crate::harness::{Client, Mesh};
use secchat::client::event::Event;
use std::time::{Duration, Instant};

const BACK: Duration = Duration::from_secs(5);

#[test]
fn who_loses_its_server_is_back_in_its_room_within_five_seconds_and_has_missed_nothing() {
    let mut mesh = Mesh::new(3);
    let mut alice = mesh.client("alice", 1, &["--room", "den", "--create", "--private"]);
    alice.wait("made", |event| matches!(event, Event::Joined { .. }));
    mesh.settle(&mut alice);
    let mut bob = mesh.client("bob", 2, &["--room", "den@s1"]);
    bob.wait("joined", |event| matches!(event, Event::Joined { .. }));
    let mut stays = mesh.client("stays", 2, &["--room", "den@s1", "--no-roam"]);
    stays.wait("joined", |event| matches!(event, Event::Joined { .. }));
    bob.say("@server ping");
    bob.wait("s3", |event| matches!(event, Event::Pong { target, .. } if target == "s3"));

    for n in 0..20 {
        alice.say(&format!("before {n}"));
    }
    bob.hears("before 10");
    mesh.servers[1].process.kill();
    let killed = Instant::now();
    for n in 0..20 {
        alice.say(&format!("after {n}"));
    }
    bob.say("still here");
    alice.hears("still here");
    assert!(killed.elapsed() < BACK, "{:?}", killed.elapsed());
    bob.hears("after 19");
    assert!(killed.elapsed() < BACK, "{:?}", killed.elapsed());
    let expected: Vec<String> =
        ["before", "after"].iter().flat_map(|word| (0..20).map(move |n| format!("{word} {n}"))).collect();
    assert_eq!(bob.texts(), expected, "all, once, in order");
    let names = |client: &Client| -> Vec<String> {
        let name = |event: &Event| matches!(event, Event::Connected { .. }).then(|| event.clone());
        let connected = client.seen.iter().filter_map(name);
        connected.filter_map(|e| if let Event::Connected { name, .. } = e { Some(name) } else { None }).collect()
    };
    assert_eq!(names(&bob), ["bob@s2", "bob@s2"]);

    // Who was told to stay waits for its own server, and is back when that is.
    while stays.next(Duration::from_millis(10)).is_some() {}
    assert_eq!(names(&stays), ["stays@s2"]);
    assert!(matches!(stays.seen.last(), Some(Event::Reconnecting { .. })), "{:?}", stays.seen.last());

    // A new process keeps the name too, though the server that gave it is gone.
    drop(bob);
    let mut bob = mesh.client("bob", 3, &["--room", "den@s1"]);
    bob.wait("joined", |event| matches!(event, Event::Joined { .. }));
    assert_eq!(names(&bob), ["bob@s2"]);
    bob.say("new process");
    alice.wait("bob", |e| matches!(e, Event::Message { from, text, .. } if from == "bob@s2" && text == "new process"));
}
