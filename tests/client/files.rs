//! Searches and transfers, up to the point where the channel takes over.

use crate::world::{World, root_of};
use secchat::client::effects::{FilesEvent, Input};
use secchat::client::event::Event;
use secchat::wire::payload::FileRefusal;
use std::time::Duration;

fn holders() -> World {
    let mut world = World::den(&["alice", "bob", "carol"]);
    for holder in [1, 2] {
        world.clients[holder].files.insert("a b.iso".into(), vec![7; 1000]);
    }
    world
}

/// The two sides of the only channel between these two.
fn agreed(world: &World, asker: usize, holder: usize) {
    let (id, (download, sends)) = world.clients[asker].channels.iter().next_back().unwrap();
    assert!(!sends);
    let (upload, sends) = &world.clients[holder].channels[id];
    assert!(sends);
    assert_eq!((*download.send, *download.receive), (*upload.receive, *upload.send));
    assert_ne!(*download.send, *download.receive);
    assert_eq!((download.our_connection, download.peer_connection), (upload.peer_connection, upload.our_connection));
    assert_eq!((download.root, download.size), (root_of(&[7; 1000]), 1000));
    assert_eq!(upload.peer_candidates, ["192.0.2.9:9".parse().unwrap()]);
    assert_eq!(download.mode, "x25519+mlkem768");
}

#[test]
fn a_search_finds_what_is_shared_in_two_seconds() {
    let mut world = holders();
    let number = world.say(0, "@all whohas *");
    assert!(!world.clients[0].done.contains_key(&number));
    world.pass(Duration::from_secs(2));
    let found = world.clients[0].pick(|e| match e {
        Event::FileFound { from, file, size, state, .. } => Some((from.clone(), file.clone(), *size, state.clone())),
        _ => None,
    });
    let row = |who: &str| (who.to_owned(), "a b.iso".to_owned(), 1000, "ready".to_owned());
    assert_eq!(found, [row("bob@s1"), row("carol@s1")]);
    let done = Event::SearchDone { room: "den@s1".into(), pattern: "*".into(), found: 2 };
    assert_eq!(world.clients[0].last(), Some(&done));
    assert_eq!(world.clients[0].done[&number], 0);
    let number = world.say(0, "/whohas nothing");
    world.pass(Duration::from_secs(3));
    assert_eq!(world.clients[0].done[&number], 5);
}

#[test]
fn both_sides_agree_on_the_keys_of_a_file() {
    let mut world = holders();
    let number = world.say(0, "@bob getfile a b.iso");
    agreed(&world, 0, 1);
    let done = world.clients[0].pick(|e| match e {
        Event::TransferDone(t) => Some((t.direction.clone(), t.peer.clone(), t.bytes, t.rate)),
        _ => None,
    });
    assert_eq!(done, [("download".to_owned(), "bob@s1".to_owned(), Some(1000), Some(2000))]);
    assert_eq!(world.clients[0].done[&number], 0);
}

#[test]
fn a_refusal_says_why() {
    let mut world = holders();
    for (file, slots, code, exit) in [("other", 2, "not_shared", 6), ("a b.iso", 0, "busy", 6)] {
        world.say(1, &format!("@me setmaxuploads {slots}"));
        world.clear();
        let number = world.say(0, &format!("@bob getfile {file}"));
        assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec![code.to_owned()], exit));
    }
    let number = world.say(0, "@dave getfile x");
    assert_eq!((world.clients[0].errors().pop().unwrap().as_str(), world.clients[0].done[&number]), ("not_here", 5));
}

#[test]
fn any_takes_the_holder_with_a_free_slot_and_then_the_next() {
    let mut world = holders();
    world.say(1, "@me setmaxuploads 0");
    let number = world.say(0, "@any getfile a b.iso");
    agreed(&world, 0, 2);
    assert_eq!(world.clients[0].done[&number], 0);

    // Bob said that he had a slot, and cannot read the file when he is asked.
    let mut world = holders();
    world.clients[1].refusal = Some(FileRefusal::Unreadable);
    let number = world.say(0, "@any getfile a b.iso");
    agreed(&world, 0, 2);
    assert_eq!(world.clients[0].done[&number], 0);

    let mut world = holders();
    (1..3).for_each(|holder| {
        world.say(holder, "@me setmaxuploads 0");
    });
    let number = world.say(0, "@any getfile a b.iso");
    world.pass(Duration::from_secs(3));
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["busy".to_owned()], 6));
    let number = world.say(0, "@any getfile nowhere");
    world.pass(Duration::from_secs(3));
    assert_eq!(world.clients[0].done[&number], 5);
}

#[test]
fn a_failed_channel_goes_on_to_the_next_holder() {
    let mut world = holders();
    world.clients[0].stall = true;
    let number = world.say(0, "@any getfile a b.iso");
    let id = *world.clients[0].channels.keys().next().unwrap();
    let failed = FilesEvent::Failed { transfer: id, reason: "no_path".into(), detail: "no way".into() };
    world.feed(0, Input::Files(failed));
    world.clients[0].stall = false;
    world.run();
    assert_eq!(world.clients[0].done[&number], 0);
    assert_eq!(world.clients[0].channels.len(), 2);
    assert!(world.clients.iter().skip(1).all(|c| c.channels.len() == 1));
}

#[test]
fn a_holder_that_never_answers_is_given_up() {
    let mut world = holders();
    world.say(0, "@bob ping");
    world.held.insert(1);
    let number = world.say(0, "@bob getfile a b.iso");
    world.pass(Duration::from_secs(61));
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["timeout".to_owned()], 1));
}

#[test]
fn the_files_of_a_changed_key_are_refused() {
    let mut world = World::of(&["bob"]);
    world.clients[0].files.insert("x".into(), vec![1]);
    let old = secchat::crypto::identity::Identity::from_seed(&[200; 32]).public();
    let alice = world.add("alice", vec![(crate::world::full("bob"), old)], false);
    world.clients[alice].files.insert("y".into(), vec![2]);
    world.connect(alice);
    let number = world.say(alice, "@bob getfile x");
    assert_eq!(world.clients[alice].done[&number], 7);
    world.say(0, "@alice getfile y");
    assert!(world.clients.iter().all(|c| c.channels.is_empty()));
}

#[test]
fn running_transfers_are_listed_and_cancelled() {
    let mut world = holders();
    world.clients[0].stall = true;
    let number = world.say(0, "@bob getfile a b.iso");
    world.say(0, "@me transfers");
    let rows = world.clients[0].pick(|e| match e {
        Event::TransferProgress(t) => Some(t.id.clone()),
        _ => None,
    });
    assert_eq!(rows.len(), 1);
    world.say(0, &format!("@me cancel {}", &rows[0][..8]));
    assert_eq!(world.clients[0].done[&number], 1);
    let reasons = world.clients[0].pick(|e| match e {
        Event::TransferFailed(t) => t.reason.clone(),
        _ => None,
    });
    assert_eq!(reasons, ["cancelled"]);
}

#[test]
fn nothing_that_the_server_receives_tells_what_is_said_or_fetched() {
    let mut world = World::den(&["alice", "bob"]);
    let content = b"canary of the file's bytes".to_vec();
    let root = root_of(&content);
    world.clients[1].files.insert("canary-file.iso".into(), content.clone());
    world.say(0, "canary in the room");
    world.say(0, "@bob canary between two");
    world.say(0, "@all whohas canary-*");
    world.pass(Duration::from_secs(3));
    world.say(0, "@bob getfile canary-file.iso");
    let (channel, _) = world.clients[0].channels.values().next().unwrap();
    let password = crate::world::password();
    let secrets: [(&str, &[u8]); 8] = [
        ("room text", b"canary in the room"),
        ("direct text", b"canary between two"),
        ("file name", b"canary-file.iso"),
        ("pattern", b"canary-*"),
        ("file bytes", &content),
        ("file root", &root),
        ("password", password.expose().as_bytes()),
        ("file key", &channel.send[..32]),
    ];
    for (what, secret) in secrets {
        assert!(!world.received.windows(secret.len()).any(|w| w == secret), "the server received the {what}");
    }
}

#[test]
fn what_is_left_out_of_a_folder_is_told_on_both_sides() {
    let mut world = World::den(&["alice", "bob"]);
    world.clients[1].files.insert("links/".into(), vec![5; 1000]);
    world.clients[0].stall = true;
    world.say(0, "@bob getfile links/");
    world.say(0, "@bob getfile links/");
    let told = world.clients[1].pick(|e| match e {
        Event::Notice { text, .. } => Some(text.clone()),
        _ => None,
    });
    assert_eq!(told.len(), 3, "once, however often it is fetched: {told:?}");
    assert!(told[0].starts_with("a of links/, which alice@s1 fetches, is left out: a link"), "{told:?}");
    assert!(told[2].starts_with("10 more of links/"), "{told:?}");
    let started = world.clients[0].pick(|e| match e {
        Event::TransferStarted(t) => t.left_out,
        _ => None,
    });
    assert_eq!(started, [12, 12]);
}

#[test]
fn who_asks_for_a_folder_without_its_slash_is_told_how_it_is_written() {
    let mut world = holders();
    for from in ["bob", "any"] {
        world.say(0, &format!("@{from} getfile photos"));
        world.pass(Duration::from_secs(3));
    }
    let hints = world.clients[0].pick(|e| match e {
        Event::Error { hint, .. } => hint.clone(),
        _ => None,
    });
    assert_eq!(hints, ["a folder is written with a slash: photos/"; 2]);
}

#[test]
fn the_holder_hears_which_file_was_changed_under_its_hands() {
    let mut world = holders();
    world.clients[0].stall = true;
    world.say(0, "@bob getfile a b.iso");
    let transfer = *world.clients[1].channels.keys().next().unwrap();
    let detail = "the file was changed, or is gone".to_owned();
    world.news(1, FilesEvent::Failed { transfer, reason: "changed".into(), detail: detail.clone() });
    let failed = world.clients[1].pick(|e| match e {
        Event::TransferFailed(t) => Some((t.reason.clone(), t.detail.clone())),
        _ => None,
    });
    assert_eq!(failed, [(Some("changed".to_owned()), Some(detail))]);
}

#[test]
fn a_search_tells_a_part_from_the_whole() {
    let mut world = holders();
    world.clients[1].files.insert("coming.part".into(), vec![1; 10]);
    world.say(0, "@all whohas coming.part");
    let states = world.clients[0].pick(|e| match e {
        Event::FileFound { state, .. } => Some(state.clone()),
        _ => None,
    });
    assert_eq!(states, ["partial"]);
}
