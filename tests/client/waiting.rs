//! What a user hears while something waits for a server that is away: lines that are held, rooms that are entered, surveys.

use crate::world::{World, password};
use secchat::client::effects::{Input, Start};
use secchat::client::event::Event;
use std::time::Duration;

/// Alice of `s1` has made the room `den` there, and Bob of `s2` is in it.
fn den() -> World {
    let mut world = World::mesh(3);
    world.person("alice", 0);
    world.person("bob", 1);
    world.start(0, Start::Create { room: "den".into(), private: true, password: Some(password()) });
    world.start(1, Start::Join { room: "den@s1".into(), password: Some(password()) });
    world.clear();
    world
}

/// What is said of lines that wait, in order.
fn marks(world: &World, client: usize) -> Vec<String> {
    world.clients[client].pick(|event| match event {
        Event::Held { room, to, server, waiting, .. } => {
            let place = room.as_ref().or(to.as_ref()).unwrap();
            Some(format!("{place} {waiting} held for {}", server.as_deref().unwrap_or("a link")))
        }
        Event::HeldSent { room, count, .. } => Some(format!("{} {count} sent", room.as_deref().unwrap_or("?"))),
        Event::RoomWaiting { room, server, lines } => Some(format!("{room} waits for {server}, {lines} lines")),
        _ => None,
    })
}

#[test]
fn each_line_for_a_room_that_is_away_is_marked_and_their_end_is_told_once() {
    let mut world = den();
    world.say(1, "in time");
    world.kill(0);
    world.say(1, "one");
    world.say(1, "two");
    assert_eq!(marks(&world, 1), ["den@s1 1 held for s1", "den@s1 2 held for s1"]);
    world.pass(Duration::from_secs(60));
    world.revive(0);
    world.pass(Duration::from_secs(6));
    assert_eq!(marks(&world, 1)[2..], ["den@s1 2 sent"], "{:?}", world.clients[1].events);
    assert_eq!(world.clients[1].sent(), 3);
    assert!(matches!(world.clients[1].last(), Some(Event::HeldSent { count: 2, .. })), "after each of them");
    world.say(1, "and on");
    assert_eq!(marks(&world, 1).len(), 3, "nothing is held any more");
    world.go_to(0, 0);
    let texts: Vec<String> = world.clients[0].heard().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["in time", "one", "two", "and on"].map(str::to_owned));
}

#[test]
fn a_line_that_was_on_its_way_when_the_server_froze_is_marked_too_with_the_tag_of_its_command() {
    let mut world = den();
    world.stalled = true;
    world.feed(1, Input::Command { line: "into the silence".into(), tag: Some("7".into()) });
    world.run();
    assert!(marks(&world, 1).is_empty(), "nobody knows yet");
    world.pass(Duration::from_secs(120));
    assert_eq!(marks(&world, 1), ["den@s1 1 held for s1"]);
    let tags = world.clients[1].events.iter().filter(|(_, event)| matches!(event, Event::Held { .. }));
    assert_eq!(tags.map(|(tag, _)| tag.as_deref()).collect::<Vec<_>>(), [Some("7")]);
}

#[test]
fn a_line_without_any_link_and_a_private_one_are_marked() {
    let mut world = den();
    world.say(1, "@alice first words");
    world.unplug(1);
    world.say(1, "to the room");
    world.say(1, "@alice to her");
    assert_eq!(marks(&world, 1), ["den@s1 1 held for a link", "alice@s1 1 held for a link"]);
    world.go_to(1, 2);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.clients[0].heard().len(), 1, "{:?}", world.clients[1].events);
    assert_eq!(world.clients[0].told().len(), 2);
    assert_eq!(marks(&world, 1).len(), 4, "{:?}", marks(&world, 1));
}

#[test]
fn while_a_room_is_entered_whose_server_does_not_answer_that_is_told_and_what_is_typed_is_answered() {
    let mut world = den();
    world.person("carol", 2);
    world.stalled = true;
    world.start(2, Start::Join { room: "den@s1".into(), password: Some(password()) });
    let early = world.say(2, "hello");
    assert!(marks(&world, 2).is_empty(), "it may take a moment");
    world.pass(Duration::from_secs(2));
    assert_eq!(marks(&world, 2), ["den@s1 waits for s1, 1 lines"]);
    let late = world.say(2, "anybody?");
    world.pass(Duration::from_secs(1));
    assert_eq!(marks(&world, 2)[1..], ["den@s1 waits for s1, 2 lines"], "once for each line");
    world.stalled = false;
    world.run();
    world.pass(Duration::from_secs(20));
    let done = &world.clients[2].done;
    assert_eq!((done.get(&early), done.get(&late)), (Some(&0), Some(&0)), "{:?}", world.clients[2].events);
    assert_eq!(world.clients[0].heard().len(), 2);
}

#[test]
fn an_interrupt_ends_a_client_whatever_it_waits_for() {
    let mut world = den();
    world.person("carol", 2);
    world.stalled = true;
    world.start(2, Start::Join { room: "den@s1".into(), password: Some(password()) });
    world.say(2, "exit");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.clients[2].exit, None, "what is typed waits for its turn");
    world.feed(2, Input::Interrupt);
    assert!(world.clients[2].exit.is_some(), "{:?}", world.clients[2].events);
    // Bob is in the room, and cannot leave it properly.
    world.say(1, "a last word");
    world.feed(1, Input::Interrupt);
    world.pass(Duration::from_secs(1));
    assert!(world.clients[1].exit.is_some(), "{:?}", world.clients[1].events);
}

#[test]
fn who_leaves_while_lines_are_held_is_told_that_they_were_not_sent() {
    let mut world = den();
    world.kill(0);
    world.say(1, "one");
    world.say(1, "two");
    world.say(1, "exit");
    world.pass(Duration::from_secs(5));
    let told = world.clients[1].pick(|event| match event {
        Event::Error { code, message, .. } => Some(format!("{code}: {message}")),
        _ => None,
    });
    assert_eq!(told, ["not_sent: 2 held lines for den@s1 not sent"]);
    assert_eq!(world.clients[1].exit, Some(0));
}

#[test]
fn an_interrupt_is_heeded_in_the_queue_at_a_rooms_door() {
    let mut world = World::den(&["alice"]);
    let (slow, next) = (world.join_mesh("slow"), world.join_mesh("next"));
    let join = || Start::Join { room: "den".into(), password: Some(password()) };
    world.hold_after_entered(slow, join());
    world.start(next, join());
    assert!(world.clients[next].core.rooms().is_empty(), "{:?}", world.clients[next].events);
    world.feed(next, Input::Interrupt);
    assert!(world.clients[next].exit.is_some(), "{:?}", world.clients[next].events);
}

#[test]
fn an_interrupted_client_leaves_its_rooms() {
    let mut world = den();
    world.feed(1, Input::Interrupt);
    world.run();
    assert!(world.clients[1].exit.is_some());
    let left = Event::MemberLeft { room: "den@s1".into(), name: "bob@s2".into(), reason: "left".into() };
    assert!(world.clients[0].has(&left), "{:?}", world.clients[0].events);
}

#[test]
fn a_server_that_is_away_is_named_where_all_are_asked() {
    let mut world = den();
    world.say(1, "/create open");
    world.kill(2);
    world.pass(Duration::from_secs(5));
    world.clear();
    world.say(1, "@server get_rooms");
    let answers = |world: &World| {
        world.clients[1].pick(|event| match event {
            Event::Rooms { rooms, silent } => Some((rooms.len(), silent.clone())),
            _ => None,
        })
    };
    assert_eq!(answers(&world), [(1, vec!["s3".to_owned()])]);
    world.say(1, "@server ping");
    assert_eq!(world.clients[1].errors(), ["timeout"]);
    world.revive(2);
    world.pass(Duration::from_secs(5));
    world.clear();
    world.say(1, "@server get_rooms");
    assert_eq!(answers(&world), [(1, Vec::new())]);
}

#[test]
fn a_public_room_of_another_server_is_hinted_at_where_its_label_alone_leads_nowhere() {
    let mut world = den();
    world.say(0, "/create pub");
    world.clients[1].password = None;
    world.clear();
    let first = world.type_line(1, "/join pub");
    let second = world.type_line(1, "/join nowhere");
    let third = world.type_line(1, "/join pub@s1");
    world.run();
    world.pass(Duration::from_secs(3));
    let told = world.clients[1].pick(|event| match event {
        Event::Error { code, hint, .. } => Some((code.clone(), hint.clone().unwrap_or_default())),
        _ => None,
    });
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|(code, _)| code == "wrong_room_or_password"), "{told:?}");
    assert!(told[0].1.contains("pub@s1") && !told[1].1.contains("pub"), "{told:?}");
    let done = &world.clients[1].done;
    assert_eq!((done[&first], done[&second], done[&third]), (4, 4, 0));
}

#[test]
fn who_is_not_here_is_named() {
    let mut world = den();
    world.say(1, "@nobody@s1 hello");
    let told = world.clients[1].pick(|event| match event {
        Event::Error { message, .. } => Some(message.clone()),
        _ => None,
    });
    assert_eq!(told, ["nobody@s1 is not here"]);
}

#[test]
fn what_is_typed_before_any_link_is_answered_once_there_was_no_server() {
    let mut world = World::of(&["alice"]);
    let bob = world.add("bob", Vec::new(), true);
    let notices = |world: &World| {
        world.clients[bob].pick(|event| match event {
            Event::Notice { from, text } => Some(format!("{from}: {text}")),
            _ => None,
        })
    };
    world.type_line(bob, "/create lab");
    assert!(notices(&world).is_empty(), "a script may be faster than its link");
    world.feed(bob, Input::LinkDown { reason: "nobody listens there".into(), fatal: None });
    world.type_line(bob, "hello");
    assert!(notices(&world)[0].contains("no link to a server yet"), "{:?}", world.clients[bob].events);
    world.connect(bob);
    world.say(bob, "there it is");
    assert_eq!((notices(&world).len(), world.clients[bob].sent()), (1, 2));
}
