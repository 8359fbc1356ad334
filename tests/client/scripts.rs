//! What a script relies on: tags, ends of commands, exit codes, the end of input.

use crate::world::{World, line, password};
use secchat::client::effects::{Fetch, Input, Start};
use secchat::client::event::Event;
use secchat::wire::frame::{Code, Refusal};
use std::time::Duration;

#[test]
fn every_event_of_a_command_bears_its_tag() {
    let mut world = World::den(&["alice", "bob"]);
    world.feed(0, Input::Command { line: "hello".into(), tag: Some("t1".into()) });
    world.feed(0, Input::Command { line: "@nobody hello".into(), tag: Some("t2".into()) });
    world.run();
    let tags: Vec<_> = world.clients[0].events.iter().map(|(tag, _)| tag.clone().unwrap()).collect();
    assert_eq!(tags.len(), 2);
    assert!(world.clients[0].events.iter().any(|(t, e)| t.as_deref() == Some("t1") && matches!(e, Event::Sent { .. })));
    assert!(
        world.clients[0].events.iter().any(|(t, e)| t.as_deref() == Some("t2") && matches!(e, Event::Error { .. }))
    );
}

#[test]
fn a_fetch_for_another_process_that_nobody_waits_for_any_more_comes_to_nothing() {
    let mut world = World::den(&["alice", "bob"]);
    world.clients[1].files.insert("x".into(), vec![1; 10]);
    let fetch = Fetch { tag: "t".into(), room: "den".into(), line: "@any getfile x".into(), into: None, wait: true };
    world.feed(0, Input::Fetch(Box::new(fetch)));
    world.feed(0, Input::GiveUp { tag: "t".into() });
    world.run();
    assert_eq!(world.clients[0].done.values().next_back(), Some(&1));
    assert!(world.clients[0].channels.is_empty() && world.clients[1].channels.is_empty());
    let chat = Fetch { tag: "u".into(), room: "den".into(), line: "@bob hello".into(), into: None, wait: true };
    world.feed(0, Input::Fetch(Box::new(chat)));
    world.run();
    assert_eq!(world.clients[0].done.values().next_back(), Some(&2), "only files are fetched");
    assert!(world.clients[1].told().is_empty());
}

#[test]
fn lines_before_the_link_wait_for_it_and_for_the_room() {
    let mut world = World::of(&["alice"]);
    world.start(0, Start::Create { room: "den".into(), private: true, password: Some(password()) });
    let bob = world.add("bob", Vec::new(), true);
    world.start(bob, Start::Join { room: "den".into(), password: Some(password()) });
    world.say(bob, "first");
    world.say(bob, "@alice second");
    world.feed(bob, Input::EndOfInput);
    world.connect(bob);
    assert_eq!(world.clients[0].heard(), [line("bob", "first")]);
    assert_eq!(world.clients[0].told(), [line("bob", "second")]);
    assert_eq!(world.clients[bob].exit, Some(0));
    assert_eq!(world.clients[bob].done.values().copied().collect::<Vec<_>>(), [0, 0, 0]);
    assert_eq!(world.clients[bob].last(), Some(&Event::Bye { reason: "quit".into() }));
    let left = Event::MemberLeft { room: "den@s1".into(), name: "bob@s1".into(), reason: "left".into() };
    assert!(world.clients[0].has(&left));
}

#[test]
fn the_end_of_input_waits_for_transfers() {
    let mut world = World::den(&["alice", "bob"]);
    world.clients[1].files.insert("x".into(), vec![1; 10]);
    world.clients[0].stall = true;
    world.say(0, "@bob getfile x");
    world.feed(0, Input::EndOfInput);
    world.run();
    assert_eq!(world.clients[0].exit, None);
    let id = *world.clients[0].downloads.values().next().unwrap();
    let done = secchat::client::effects::FilesEvent::Done { transfer: id, bytes: 10, seconds: 1.0, path: None };
    world.feed(0, Input::Files(done));
    world.run();
    assert_eq!(world.clients[0].exit, Some(0));
}

#[test]
fn quit_leaves_cleanly_and_in_time_even_alone() {
    for quit in ["quit()", "!q", "exit", "@server exit"] {
        let mut world = World::den(&["alice", "bob"]);
        world.say(1, "last words");
        world.say(1, quit);
        assert_eq!(world.clients[1].exit, Some(0), "{quit}");
        assert_eq!(world.clients[0].heard(), [line("bob", "last words")]);
    }
    let mut world = World::den(&["alice"]);
    world.held.insert(0);
    world.say(0, "quit()");
    assert_eq!(world.clients[0].exit, None);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.clients[0].exit, Some(0));
}

#[test]
fn refusals_of_the_link_end_with_their_code() {
    for (code, exit) in [(Code::NameTaken, 4), (Code::Banned, 4), (Code::Version, 3)] {
        let mut world = World::new();
        let client = world.add("alice", Vec::new(), true);
        let refusal = Refusal::new(code, "no").hint("alice2");
        world.feed(client, Input::LinkDown { reason: "refused".into(), fatal: Some(refusal) });
        let c = &world.clients[client];
        assert_eq!((c.errors(), c.exit), (vec![code.as_str().to_owned()], Some(exit)));
    }
}

#[test]
fn a_bad_line_is_told_and_harms_nothing() {
    let mut world = World::den(&["alice", "bob"]);
    for (line, code, exit) in [
        ("", "empty", 2),
        ("@all ", "empty", 2),
        ("/nonsense", "unknown_command", 2),
        ("@bob getfile", "usage", 2),
        ("@b\u{202e}ob hi", "bad_name", 2),
        ("/create den", "already_in", 1),
        ("@alice hi", "yourself", 1),
        ("@192.0.2.1 hi", "not_here", 5),
        ("/room elsewhere", "not_member", 5),
    ] {
        world.clear();
        let number = world.say(0, line);
        assert_eq!(
            (world.clients[0].errors(), world.clients[0].done[&number]),
            (vec![code.to_owned()], exit),
            "{line}"
        );
    }
    world.say(0, "all well");
    assert_eq!(world.clients[1].heard(), [line("alice", "all well")]);
}
