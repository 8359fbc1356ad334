//! Offers: asked before anything is written, to one person, for a while.

use crate::world::World;
use secchat::client::core::FileRules;
use secchat::client::effects::FilesEvent;
use secchat::client::event::{Event, Transfer};
use std::time::Duration;

fn offering(names: &[&str]) -> (World, u64) {
    let mut world = World::den(names);
    world.clients[1].disk.insert("thesis.pdf".into(), vec![5; 1000]);
    let number = world.say(1, "@alice sendfile /home/bob/thesis.pdf");
    (world, number)
}

fn offered(world: &World, client: usize) -> Vec<Transfer> {
    world.clients[client].pick(|e| match e {
        Event::TransferOffered(t) => Some(t.clone()),
        _ => None,
    })
}

fn over(world: &World, client: usize) -> Vec<String> {
    world.clients[client].pick(|e| match e {
        Event::OfferRefused(t) => t.reason.clone(),
        _ => None,
    })
}

#[test]
fn nothing_happens_before_the_person_says_yes() {
    let (mut world, number) = offering(&["alice", "bob"]);
    let offer = &offered(&world, 0)[0];
    assert_eq!((offer.file.as_str(), offer.size, offer.peer.as_str()), ("thesis.pdf", Some(1000), "bob@s1"));
    assert!(world.clients.iter().all(|c| c.channels.is_empty()));
    let accept = format!("@me accept {}", &offer.id[..8]);
    // The offer is bob's word for this one file: his slots do not matter.
    world.say(1, "@me setmaxuploads 0");
    let accepted = world.say(0, &accept);
    assert_eq!(world.clients[0].done[&accepted], 0);
    let transfer = *world.clients[1].channels.keys().next().unwrap();
    assert!(!world.clients[1].done.contains_key(&number));
    world.news(1, FilesEvent::Done { transfer, bytes: 1000, seconds: 1.0, path: None });
    assert_eq!(world.clients[1].done[&number], 0);
    let again = world.say(0, &accept);
    assert_eq!(world.clients[0].done[&again], 5, "an offer is taken once");
}

#[test]
fn a_no_reaches_the_other_side() {
    let (mut world, number) = offering(&["alice", "bob"]);
    let id = offered(&world, 0)[0].id.clone();
    let refuse = world.say(0, &format!("@me refuse {id}"));
    assert_eq!((world.clients[0].done[&refuse], world.clients[1].done[&number]), (0, 6));
    assert_eq!(over(&world, 1), ["refused"]);
    assert!(world.clients.iter().all(|c| c.channels.is_empty()));
}

#[test]
fn an_offer_is_for_one_person_and_one_content() {
    let (mut world, _) = offering(&["alice", "bob", "carol"]);
    // Carol asks for the name, and bob does not share it.
    let number = world.say(2, "@bob getfile thesis.pdf");
    assert_eq!(world.clients[2].done[&number], 6);
    // The file has changed since it was offered.
    world.clients[1].disk.insert("thesis.pdf".into(), vec![6; 1000]);
    let id = offered(&world, 0)[0].id.clone();
    let number = world.say(0, &format!("@me accept {id}"));
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["changed".to_owned()], 6));
}

#[test]
fn offers_are_forgotten_and_taken_back() {
    let (mut world, number) = offering(&["alice", "bob"]);
    world.pass(Duration::from_secs(601));
    assert_eq!((over(&world, 0), over(&world, 1)), (vec!["expired".to_owned()], vec!["expired".to_owned()]));
    assert_eq!(world.clients[1].done[&number], 1);
    let (mut world, number) = offering(&["alice", "bob"]);
    let id = offered(&world, 1)[0].id.clone();
    world.say(1, &format!("@me cancel {id}"));
    assert_eq!((over(&world, 0), world.clients[1].done[&number]), (vec!["withdrawn".to_owned()], 1));
}

#[test]
fn one_person_has_eight_offers_with_us_and_no_more() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    for (client, n) in [(1, 10), (2, 1)] {
        world.clients[client].disk.insert("x".into(), vec![1]);
        for _ in 0..n {
            world.say(client, "@alice sendfile x");
        }
    }
    assert_eq!(offered(&world, 0).iter().filter(|t| t.peer == "bob@s1").count(), 8);
    assert_eq!(offered(&world, 0).iter().filter(|t| t.peer == "carol@s1").count(), 1);
    assert_eq!(over(&world, 1), ["too_many", "too_many"]);
}

#[test]
fn an_offered_name_is_shown_as_it_would_be_written() {
    let mut world = World::den(&["alice", "bob"]);
    let name = "..\\\u{202e}gpj.exe\x1b[2J";
    world.clients[1].disk.insert(name.into(), vec![1]);
    world.say(1, &format!("@alice sendfile {name}"));
    assert_eq!(offered(&world, 0)[0].file, "_gpj.exe_[2J");
}

#[test]
fn from_some_everything_is_taken() {
    let mut world = World::new();
    world.rules = FileRules { accept_from: vec!["bob".into()], ..FileRules::default() };
    let alice = world.join_mesh("alice");
    for name in ["bob", "carol"] {
        let client = world.join_mesh(name);
        world.clients[client].disk.insert("x".into(), vec![1]);
        world.say(client, "@alice sendfile ./x");
    }
    let from: Vec<_> = world.clients[alice].channels.values().map(|(start, _)| start.peer.to_string()).collect();
    assert_eq!(from, ["bob@s1"]);
}

#[test]
fn a_folder_is_offered_with_what_is_left_out() {
    let mut world = World::den(&["alice", "bob"]);
    world.clients[1].disk.insert("photos/".into(), vec![5; 1000]);
    world.say(1, "@alice sendfile photos/");
    let offer = &offered(&world, 0)[0];
    assert_eq!((offer.file.as_str(), offer.entries), ("photos/", Some(12)));
    let notices = world.clients[1].pick(|e| match e {
        Event::Notice { text, .. } => Some(text.clone()),
        _ => None,
    });
    assert!(notices.iter().any(|text| text.starts_with("a/link")), "{notices:?}");
    let number = world.say(1, "@alice sendfile nothing");
    assert_eq!(world.clients[1].done[&number], 5);
}

#[test]
fn more_than_was_offered_is_not_taken() {
    let (mut world, _) = offering(&["alice", "bob"]);
    world.clients[1].more = 1;
    let id = offered(&world, 0)[0].id.clone();
    let number = world.say(0, &format!("@me accept {id}"));
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["verification".to_owned()], 7));
    assert!(world.clients[0].channels.is_empty());
}

#[test]
fn what_is_fetched_is_for_its_room_and_what_was_offered_for_nobody() {
    let (mut world, _) = offering(&["alice", "bob", "carol"]);
    world.clients[1].files.insert("x".into(), vec![1; 10]);
    world.say(2, "@all whohas x");
    world.pass(Duration::from_secs(3));
    let den = world.clients[1].searched[0];
    world.say(0, "@bob getfile x");
    world.say(0, "@any getfile x");
    world.pass(Duration::from_secs(3));
    let id = offered(&world, 0)[0].id.clone();
    world.say(0, &format!("@me accept {id}"));
    assert_eq!(world.clients[0].serves, [Some(den), Some(den), None]);
    // Who is in no room with bob is in none of his.
    let dave = world.join_mesh("dave");
    world.say(dave, "@bob getfile x");
    let rooms: Vec<_> = world.clients[1].wanted.iter().map(|wanted| wanted.rooms.contains(&den)).collect();
    assert_eq!(rooms, [true, true, true, false]);
    assert_eq!(world.clients[dave].serves, [None]);
}

#[test]
fn both_sides_can_tell_which_transfer_takes_an_offer() {
    let (mut world, _) = offering(&["alice", "bob"]);
    world.clients[0].stall = true;
    let id = offered(&world, 0)[0].id.clone();
    world.say(0, &format!("@me accept {id}"));
    let transfer = *world.clients[1].channels.keys().next().unwrap();
    world.news(1, FilesEvent::Started { transfer, route: "127.0.0.1:1".into() });
    for client in [0, 1] {
        let started = world.clients[client].pick(|e| match e {
            Event::TransferStarted(t) => t.offer.clone(),
            _ => None,
        });
        assert_eq!(started, std::slice::from_ref(&id), "{client}");
    }
}

#[test]
fn what_cannot_be_offered_is_named() {
    let mut world = World::den(&["alice", "bob"]);
    world.say(1, "@alice sendfile /tmp/nothing.txt");
    let told = world.clients[1].pick(|e| match e {
        Event::Error { message, .. } => Some(message.clone()),
        _ => None,
    });
    assert_eq!(told, ["there is no file or folder nothing.txt"]);
}
