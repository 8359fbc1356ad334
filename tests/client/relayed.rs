//! When a server is asked to pass a file on, and whether the two sides are joined there.

use crate::world::World;
use secchat::client::core::FileRules;
use secchat::client::effects::{FilesEvent, Reach};
use secchat::client::event::Event;
use secchat::limits::RELAY_ANEW;
use secchat::server::forwarding::Place;
use secchat::wire::id::TransferId;
use secchat::wire::leg;
use std::time::Duration;

/// Alice fetches from bob; the first may be reached so, the second so. No path is found.
fn fetch(alice: Reach, bob: Reach) -> World {
    let mut world = World::new();
    for (name, reach) in [("alice", alice), ("bob", bob)] {
        world.rules = FileRules { reach, ..FileRules::default() };
        world.join_mesh(name);
    }
    world.clients.iter_mut().for_each(|client| client.cut_off = true);
    world.clients[1].files.insert("x".into(), vec![1; 10]);
    world.say(0, "@bob getfile x");
    world
}

fn legs(world: &World) -> (usize, usize) {
    (world.clients[0].legs.len(), world.clients[1].legs.len())
}

#[test]
fn both_sides_ask_their_server_when_no_path_has_answered_and_are_joined_there() {
    let mut world = fetch(Reach::Any, Reach::Any);
    world.pass(Duration::from_millis(2_400));
    assert_eq!(legs(&world), (0, 0));
    world.pass(Duration::from_millis(200));
    assert_eq!(legs(&world), (1, 1));
    let (now, server) = (world.now, 0);
    let place = |port| Place::Udp { socket: 0, addr: ([192, 0, 2, 1], port).into() };
    for client in 0..2_u16 {
        let (id, key) = world.clients[usize::from(client)].legs[0].clone();
        for counter in [1, 2] {
            let bind = leg::bind(id, counter, &key);
            assert!(world.servers[server].legs.bind(now, id, counter, &bind, place(client), 0).is_some());
        }
    }
    let [alice, bob] = [0, 1].map(|client| world.clients[client].legs[0].0);
    assert_eq!(world.servers[server].legs.forward(now, alice, 1, place(0)), Some((place(1), bob)));
    assert_eq!(world.servers[server].legs.forward(now, bob, 1, place(1)), Some((place(0), alice)));
    world.pass(Duration::from_secs(5));
    assert_eq!(legs(&world), (1, 1), "it is asked once");
}

#[test]
fn who_wants_a_relay_asks_at_once_and_who_wants_none_never() {
    for (alice, bob, soon, later) in [
        (Reach::Relayed, Reach::Any, (1, 0), (1, 1)),
        (Reach::Any, Reach::Relayed, (0, 1), (1, 1)),
        (Reach::Direct, Reach::Relayed, (0, 1), (0, 1)),
        (Reach::Direct, Reach::Direct, (0, 0), (0, 0)),
    ] {
        let mut world = fetch(alice, bob);
        world.pass(Duration::from_millis(100));
        assert_eq!(legs(&world), soon, "{alice:?} {bob:?}");
        world.pass(Duration::from_secs(4));
        assert_eq!(legs(&world), later, "{alice:?} {bob:?}");
    }
}

fn session(world: &World) -> TransferId {
    *world.clients[0].channels.keys().next().unwrap()
}

#[test]
fn for_a_direct_path_that_falls_silent_the_server_is_asked_and_not_at_every_word() {
    for (reach, asked) in [(Reach::Any, 1), (Reach::Direct, 0)] {
        let mut world = fetch(reach, reach);
        let transfer = session(&world);
        for client in [0, 1] {
            world.news(client, FilesEvent::Started { transfer, route: "192.0.2.9:9".into() });
        }
        world.pass(Duration::from_secs(5));
        assert_eq!(legs(&world), (0, 0), "a direct path needs none");
        for _ in 0..9 {
            world.news(0, FilesEvent::Silent { transfer });
            world.news(1, FilesEvent::Silent { transfer });
        }
        assert_eq!(legs(&world), (asked, asked), "{reach:?}");
        world.pass(RELAY_ANEW);
        world.news(1, FilesEvent::Silent { transfer });
        assert_eq!(legs(&world), (asked, 2 * asked), "the one that it gave does not work");
        let unknown = TransferId::default();
        world.news(1, FilesEvent::Silent { transfer: unknown });
        assert_eq!(legs(&world), (asked, 2 * asked));
    }
}

#[test]
fn a_peer_that_falls_silent_all_the_time_keeps_nobody_asking_for_legs() {
    let mut world = fetch(Reach::Any, Reach::Any);
    let transfer = session(&world);
    world.pass(Duration::from_secs(4));
    for _ in 0..300 {
        world.news(1, FilesEvent::Silent { transfer });
        world.pass(Duration::from_secs(1));
    }
    assert!((8..=14).contains(&legs(&world).1), "{:?}", legs(&world));
}

#[test]
fn a_leg_is_made_anew_when_the_link_comes_back_and_for_no_session_that_needs_none() {
    let mut world = fetch(Reach::Any, Reach::Any);
    let transfer = session(&world);
    world.pass(Duration::from_secs(4));
    for client in [0, 1] {
        world.news(client, FilesEvent::Started { transfer, route: "relayed by s1".into() });
    }
    assert_eq!(legs(&world), (1, 1));
    world.cut(1);
    world.connect(1);
    assert_eq!(legs(&world), (1, 2));
    world.news(1, FilesEvent::Failed { transfer, reason: "timeout".into(), detail: String::new() });
    world.cut(1);
    world.connect(1);
    assert_eq!(legs(&world), (1, 2));
}

#[test]
fn another_way_is_told_at_both_ends_and_stands_in_what_follows() {
    let mut world = fetch(Reach::Any, Reach::Any);
    let transfer = session(&world);
    for client in [0, 1] {
        world.news(client, FilesEvent::Started { transfer, route: "relayed by s1".into() });
        world.news(client, FilesEvent::Rerouted { transfer, route: "192.0.2.9:9".into() });
        let told = world.clients[client].pick(|event| match event {
            Event::TransferPath(told) => Some((told.route.clone(), told.direction.clone())),
            _ => None,
        });
        let direction = if client == 0 { "download" } else { "upload" };
        assert_eq!(told, [(Some("192.0.2.9:9".to_owned()), direction.to_owned())]);
    }
    world.say(0, "@me transfers");
    let rows = world.clients[0].pick(|event| match event {
        Event::TransferProgress(told) => told.route.clone(),
        _ => None,
    });
    assert_eq!(rows.last().map(String::as_str), Some("192.0.2.9:9"));
}
