//! Links break, servers and clients die: what was acknowledged is there once and in order.

use crate::world::{World, config, full, line, password};
use secchat::client::effects::Start;
use secchat::client::event::Event;
use std::time::Duration;

fn texts(world: &World, client: usize) -> Vec<String> {
    world.clients[client].heard().into_iter().map(|(_, text)| text).collect()
}

fn numbered(to: usize) -> Vec<String> {
    (0..to).map(|n| n.to_string()).collect()
}

#[test]
fn answers_lost_with_the_link_repeat_nothing() {
    let mut world = World::den(&["alice", "bob"]);
    for n in 0..40 {
        world.type_line(1, &n.to_string());
        match n % 10 {
            // The server has it, and its answer is lost.
            3 => world.cut_answers(1),
            // The message itself is lost.
            6 => world.cut(1),
            _ => continue,
        }
        world.connect(1);
    }
    world.run();
    assert_eq!(texts(&world, 0), numbered(40));
    assert_eq!(world.clients[1].sent(), 40);
    assert!(world.clients.iter().all(|c| c.integrity().is_empty()), "{:?}", world.clients[0].integrity());
}

#[test]
fn a_killed_server_loses_no_acknowledged_word() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    for n in 0..30 {
        world.type_line(1, &n.to_string());
        if n % 7 == 5 {
            world.restart_server();
            (0..3).for_each(|client| world.connect(client));
        }
        if n % 3 == 0 {
            world.run();
        }
    }
    world.run();
    for client in [0, 2] {
        assert_eq!(texts(&world, client), numbered(30));
    }
    assert_eq!(world.clients[1].sent(), 30);
    assert!(world.clients.iter().all(|c| c.integrity().is_empty()));
}

#[test]
fn what_was_sealed_in_an_old_epoch_is_sealed_again_under_its_id() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.held.insert(1);
    world.run();
    (0..5).for_each(|n| {
        world.type_line(1, &n.to_string());
    });
    // The epoch changes before the server hears bob.
    world.say(2, "/leave");
    world.run();
    world.held.clear();
    world.run();
    assert_eq!(texts(&world, 0), numbered(5));
    assert_eq!(world.clients[1].sent(), 5);

    world.clear();
    world.held.insert(1);
    world.type_line(1, "0");
    world.cut(1);
    world.held.clear();
    world.enter(2);
    world.connect(1);
    assert_eq!(texts(&world, 0), numbered(1));
    assert!(world.clients.iter().all(|c| c.integrity().is_empty()));
}

#[test]
fn below_the_logs_bound_there_is_a_gap_and_a_new_join() {
    let mut world = World::with(secchat::server::Config { log_bytes: 4096, ..config() });
    ["alice", "bob"].iter().for_each(|name| {
        world.join_mesh(name);
    });
    world.start(0, Start::Create { room: "den".into(), private: true, password: Some(password()) });
    world.enter(1);
    world.type_line(1, "on my way out");
    world.cut(1);
    for n in 0..60 {
        world.say(0, &format!("{n} {}", "x".repeat(300)));
    }
    world.pass(Duration::from_secs(300));
    world.connect(1);
    let c = &world.clients[1];
    assert_eq!(c.pick(|e| matches!(e, Event::Gap { .. }).then_some(())).len(), 1);
    assert_eq!(world.clients[0].heard(), [line("bob", "on my way out")]);
    world.say(0, "welcome back");
    assert_eq!(world.clients[1].heard().last(), Some(&line("alice", "welcome back")));
    assert!(world.clients.iter().all(|c| c.integrity().is_empty()));
}

#[test]
fn a_restarted_member_takes_its_own_place_without_noise() {
    let mut world = World::den(&["alice", "bob"]);
    world.restart_client(1);
    world.enter(1);
    world.say(1, "again");
    assert_eq!(world.clients[0].heard(), [line("bob", "again")]);
    let noise = world.clients[0].pick(|e| match e {
        Event::MemberJoined { .. } | Event::MemberLeft { .. } | Event::Integrity { .. } => Some(e.clone()),
        _ => None,
    });
    assert_eq!(noise, []);
}

#[test]
fn a_join_and_a_creation_survive_a_broken_link() {
    let mut world = World::of(&["alice", "bob"]);
    world.type_line(0, "/create den");
    world.cut_answers(0);
    world.connect(0);
    world.say(0, "first");
    assert_eq!(world.clients[0].sent(), 1);
    for step in 1..=3 {
        world.type_line(1, "/join den");
        for _ in 0..step {
            world.cut_answers(1);
            world.connect(1);
        }
        assert!(world.clients[1].done.values().all(|code| *code == 0), "{:?}", world.clients[1].events);
        world.say(0, "hi");
        assert_eq!(world.clients[1].heard(), [line("alice", "hi")]);
        world.say(1, "/leave");
        world.clear();
    }
}

#[test]
fn of_two_processes_with_one_identity_the_first_goes() {
    let mut world = World::den(&["alice", "bob"]);
    let identity = world.clients[1].identity.clone();
    let second = world.add_as("bob", identity, 77, Vec::new(), true);
    world.connect(second);
    assert_eq!(world.clients[1].exit, Some(4));
    assert_eq!(world.clients[1].last(), Some(&Event::Bye { reason: "replaced".into() }));
    world.enter(second);
    world.say(second, "it is me");
    world.say(0, "I see");
    assert_eq!(world.clients[0].heard(), [line("bob", "it is me")]);
    assert_eq!(world.clients[second].heard(), [line("alice", "I see")]);
    assert_eq!(world.clients[0].pins.iter().filter(|(name, _)| *name == full("bob")).count(), 1);
}

#[test]
fn a_silent_server_is_dropped() {
    let mut world = World::den(&["alice"]);
    world.held.insert(0);
    world.type_line(0, "anybody?");
    world.pass(Duration::from_secs(30));
    assert_eq!(world.clients[0].dropped_links, 1);
    assert!(matches!(world.clients[0].last(), Some(Event::Reconnecting { .. })));
    world.held.clear();
    world.connect(0);
    assert_eq!(world.clients[0].sent(), 1);
}

#[test]
fn words_typed_after_a_change_of_epoch_wait_for_those_before_it() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.held.insert(1);
    world.type_line(1, "0");
    world.type_line(1, "1");
    // Bob hears of the new epoch before the server hears his first words.
    world.say(2, "/leave");
    world.run();
    world.type_line(1, "2");
    world.held.clear();
    world.run();
    assert_eq!(texts(&world, 0), numbered(3));
    assert!(world.clients.iter().all(|c| c.integrity().is_empty()));
}
