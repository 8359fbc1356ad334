//! The home server of a room goes away and comes back.

use crate::harness::{Client, Mesh};
use secchat::client::event::Event;

#[test]
fn a_room_whose_server_is_away_is_marked_what_is_written_waits_and_other_rooms_go_on() {
    let mut mesh = Mesh::new(3);
    let mut alice = mesh.client("alice", 1, &["--no-roam", "--room", "den", "--create", "--private"]);
    alice.joined();
    mesh.settle(&mut alice);
    let mut bob = mesh.client("bob", 2, &["--no-roam", "--room", "den@s1"]);
    bob.joined();
    let mut carol = mesh.client("carol", 3, &["--no-roam", "--room", "den@s1"]);
    carol.joined();
    bob.say("/create own");
    bob.wait("own", |event| matches!(event, Event::Joined { room, .. } if room == "own@s2"));
    carol.say("/join own@s2");
    carol.wait("own", |event| matches!(event, Event::Joined { room, .. } if room == "own@s2"));
    bob.say("@#den@s1 before");
    bob.wait("sent", |event| matches!(event, Event::Sent { room: Some(room), .. } if room == "den@s1"));
    carol.hears("before");
    alice.hears("before");

    mesh.kill(1);
    for client in [&mut bob, &mut carol] {
        client.wait("marked", |event| marked(event, true));
    }
    bob.say("@#den@s1 held");
    bob.say("@#own@s2 goes on");
    carol.hears("goes on");
    carol.say("@#own@s2 so it does");
    bob.hears("so it does");
    carol.say("@bob between us");
    bob.wait("a private word", |event| matches!(event, Event::Direct { text, .. } if text == "between us"));
    assert_eq!(sent(&bob), ["sent den@s1", "sent own@s2"], "what waits is not sent");
    assert_eq!(bob.told(&["held", "held_sent"], &["room", "server", "waiting", "count"]), ["held den@s1 s1 1"]);
    bob.say("@server get_rooms");
    let asked = |event: &Event| matches!(event, Event::Rooms { silent, .. } if silent == &["s1"]);
    bob.wait("that s1 did not answer", asked);

    mesh.revive(1);
    for client in [&mut bob, &mut carol] {
        client.wait("not marked any more", |event| marked(event, false));
    }
    bob.wait("sent at last", |event| matches!(event, Event::Sent { room: Some(room), .. } if room == "den@s1"));
    bob.wait("all of it", |event| matches!(event, Event::HeldSent { count: 1, .. }));
    carol.hears("held");
    alice.hears("held");
    carol.say("@#den@s1 all here");
    bob.hears("all here");
    alice.hears("all here");
    assert_eq!(alice.texts(), ["before", "held", "all here"], "once, in order, and nothing missed");
    assert_eq!(carol.texts(), ["before", "goes on", "held"]);
    for client in [alice, bob, carol] {
        assert!(client.told(&["integrity", "gap", "error"], &["kind", "code", "message"]).is_empty());
    }
}

#[test]
fn a_frozen_server_is_as_good_as_away_and_goes_on_where_it_was() {
    let mesh = Mesh::new(3);
    let mut alice = mesh.client("alice", 1, &["--no-roam", "--room", "den", "--create", "--private"]);
    alice.joined();
    mesh.settle(&mut alice);
    let mut bob = mesh.client("bob", 2, &["--no-roam", "--room", "den@s1"]);
    bob.joined();
    let mut carol = mesh.client("carol", 3, &["--no-roam", "--room", "den@s1"]);
    carol.joined();
    mesh.signal(1, "STOP");
    bob.say("into the silence");
    for client in [&mut bob, &mut carol] {
        client.wait("marked", |event| marked(event, true));
    }
    carol.say("and once more");
    mesh.signal(1, "CONT");
    for client in [&mut bob, &mut carol] {
        client.wait("not marked any more", |event| marked(event, false));
    }
    carol.hears("into the silence");
    bob.hears("and once more");
    // Which of the two comes first is the server's business.
    while alice.texts().len() < 2 {
        alice.wait("both", |event| matches!(event, Event::Message { .. }));
    }
    alice.say("welcome back");
    bob.hears("welcome back");
    carol.hears("welcome back");
    assert_eq!((bob.texts().len(), carol.texts().len(), alice.texts().len()), (2, 2, 2), "each once");
    for client in [alice, bob, carol] {
        assert!(client.told(&["integrity", "gap", "error"], &["kind", "code", "message"]).is_empty());
    }
}

fn marked(event: &Event, away: bool) -> bool {
    match event {
        Event::RoomAway { room, server } => away && (room.as_str(), server.as_str()) == ("den@s1", "s1"),
        Event::RoomBack { room, .. } => !away && room == "den@s1",
        _ => false,
    }
}

fn sent(client: &Client) -> Vec<String> {
    client.told(&["sent"], &["room"])
}
