//! When a server is asked to pass a file on, and whether the two sides are joined there.

use crate::world::World;
use secchat::client::core::FileRules;
use secchat::client::effects::Reach;
use secchat::server::forwarding::Place;
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
fn both_sides_ask_their_server_after_three_seconds_without_a_path_and_are_joined_there() {
    let mut world = fetch(Reach::Any, Reach::Any);
    world.pass(Duration::from_millis(2_900));
    assert_eq!(legs(&world), (0, 0));
    world.pass(Duration::from_millis(200));
    assert_eq!(legs(&world), (1, 1));
    let (now, server) = (world.now, 0);
    let place = |port| Place::Udp { socket: 0, addr: ([192, 0, 2, 1], port).into() };
    for client in 0..2_u16 {
        let (id, key) = world.clients[usize::from(client)].legs[0].clone();
        let bound = world.servers[server].legs.bind(now, id, 1, &leg::bind(id, 1, &key), place(client));
        assert!(bound.is_some());
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
