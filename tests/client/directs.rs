//! Private messages.

use crate::world::{World, full, line};
use secchat::client::event::Event;
use secchat::crypto::identity::Identity;
use secchat::wire::frame::{Push, ToClient};
use secchat::wire::id::Id;
use std::time::Duration;

#[test]
fn words_go_both_ways_in_one_conversation() {
    let mut world = World::of(&["alice", "bob"]);
    world.say(0, "@bob hello");
    world.say(1, "@alice@s1|hi");
    world.say(0, "/msg bob how are you?");
    assert_eq!(world.clients[1].told(), [line("alice", "hello"), line("alice", "how are you?")]);
    assert_eq!(world.clients[0].told(), [line("bob", "hi")]);
    let sent = |c: usize| {
        world.clients[c].pick(|e| match e {
            Event::Sent { to, .. } => to.clone(),
            _ => None,
        })
    };
    assert_eq!((sent(0), sent(1)), (vec!["bob@s1".to_owned(); 2], vec!["alice@s1".to_owned()]));
    assert_eq!(world.servers[0].rooms(), 1);
}

#[test]
fn two_that_begin_at_once_meet_and_lose_nothing() {
    let mut world = World::of(&["alice", "bob"]);
    for n in 0..3 {
        world.type_line(0, &format!("@bob a{n}"));
        world.type_line(1, &format!("@alice b{n}"));
    }
    world.run();
    world.say(0, "@bob a3");
    world.say(1, "@alice b3");
    let texts = |c: usize| world.clients[c].told().into_iter().map(|(_, t)| t).collect::<Vec<_>>();
    assert_eq!(texts(1), ["a0", "a1", "a2", "a3"]);
    assert_eq!(texts(0), ["b0", "b1", "b2", "b3"]);
    assert!(world.clients.iter().all(|c| c.sent() == 4 && c.integrity().is_empty()));
}

#[test]
fn somebody_absent_is_never_written_to() {
    let mut world = World::of(&["alice", "bob"]);
    let number = world.say(0, "@carol hello");
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["not_here".to_owned()], 5));
    world.say(0, "@bob one");
    world.cut(1);
    world.clear();
    world.say(0, "@bob two");
    assert_eq!((world.clients[0].errors(), world.clients[0].sent()), (vec!["not_here".to_owned()], 0));
    world.connect(1);
    world.say(0, "@bob three");
    assert_eq!(world.clients[1].told().last(), Some(&line("alice", "three")));
    assert_eq!(world.clients[1].integrity(), [""; 0]);
}

#[test]
fn a_restarted_peer_gets_a_new_conversation() {
    let mut world = World::of(&["alice", "bob"]);
    world.say(0, "@bob one");
    world.restart_client(1);
    world.clear();
    world.say(0, "@bob two");
    world.say(1, "@alice back");
    assert_eq!(world.clients[1].told(), [line("alice", "two")]);
    assert_eq!(world.clients[0].told(), [line("bob", "back")]);
    assert!(world.clients.iter().all(|c| c.integrity().is_empty()));
}

#[test]
fn words_on_their_way_survive_both_links() {
    let mut world = World::of(&["alice", "bob"]);
    world.say(0, "@bob 0");
    for n in 1..6 {
        world.type_line(0, &format!("@bob {n}"));
        if n % 2 == 0 {
            world.cut_answers(0)
        } else {
            world.cut(0)
        }
        world.connect(0);
    }
    world.type_line(0, "@bob 6");
    world.restart_server();
    world.connect(1);
    world.connect(0);
    world.run();
    let texts: Vec<_> = world.clients[1].told().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(world.clients[0].sent(), 7);
    assert!(world.clients.iter().all(|c| c.integrity().is_empty()));
}

#[test]
fn a_conversation_whose_creation_was_not_answered_is_begun_anew() {
    let mut world = World::of(&["alice", "bob"]);
    world.type_line(0, "@bob hello");
    for _ in 0..3 {
        world.cut_answers(0);
        world.connect(0);
    }
    assert_eq!(world.clients[1].told(), [line("alice", "hello")]);
    world.say(1, "@alice hi");
    assert_eq!(world.clients[0].told(), [line("bob", "hi")]);
}

#[test]
fn nothing_goes_to_a_changed_key_until_it_is_trusted() {
    let mut world = World::of(&["bob"]);
    let old = Identity::from_seed(&[200; 32]).public();
    let alice = world.add("alice", vec![(full("bob"), old)], false);
    world.connect(alice);
    let number = world.say(alice, "@bob a secret");
    let c = &world.clients[alice];
    assert!(c.has(&Event::KeyChanged { name: "bob@s1".into() }));
    assert_eq!((c.errors(), c.done[&number]), (vec!["key_changed".to_owned()], 7));
    assert!(world.clients[0].told().is_empty());
    let number = world.say(alice, "@bob getfile x");
    assert_eq!(world.clients[alice].done[&number], 7);
    world.say(0, "@alice it is really me");
    let number = world.say(alice, "@bob still nothing");
    assert_eq!(world.clients[alice].done[&number], 7);
    world.say(alice, "@me trust bob");
    world.say(alice, "@bob a secret");
    assert_eq!(world.clients[0].told(), [line("alice", "a secret")]);
    assert_eq!(world.clients[alice].pins, [(full("bob"), world.clients[0].identity.public())]);
}

#[test]
fn lines_that_wait_do_not_go_into_a_conversation_that_a_changed_key_began() {
    let mut world = World::new();
    let (alice, bob) = (world.add("alice", vec![(full("bob"), Identity::from_seed(&[99; 32]).public())], false), 1);
    world.connect(alice);
    world.join_mesh("bob");
    // Her question for a key package is on its way while somebody with another key begins a conversation as bob.
    world.held.insert(alice);
    let number = world.say(alice, "@bob for the true bob only");
    world.say(bob, "@alice it is me");
    world.held.clear();
    world.run();
    assert_eq!(world.clients[bob].told(), []);
    let c = &world.clients[alice];
    assert!(c.has(&Event::KeyChanged { name: "bob@s1".into() }));
    assert_eq!((c.errors(), c.done[&number]), (vec!["key_changed".to_owned()], 7));
    world.say(alice, "@me trust bob");
    world.say(alice, "@bob so it is you");
    assert_eq!(world.clients[bob].told(), [line("alice", "so it is you")]);
    assert_eq!(world.servers[0].rooms(), 1, "their conversation is used");
}

#[test]
fn who_is_ignored_is_not_heard() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.say(0, "@me ignore bob");
    world.say(1, "@alice psst");
    world.say(1, "hey");
    world.say(2, "hello");
    assert!(world.clients[0].told().is_empty());
    assert_eq!(world.clients[0].heard(), [line("carol", "hello")]);
}

/// What is opened and proves to be of another room is told; this is not even opened.
#[test]
fn an_invitation_of_whom_we_ignore_is_not_opened() {
    let mut world = World::of(&["alice", "bob"]);
    world.mangler = Box::new(|_, frame| match frame {
        ToClient::Push(Push::Direct { welcome, tree, .. }) => {
            vec![ToClient::Push(Push::Direct { room: Id([9; 16]), welcome, tree })]
        }
        other => vec![other],
    });
    world.say(1, "@alice hello");
    assert_eq!(world.clients[0].integrity(), ["wrong_room"]);
    world.say(0, "@me ignore carol");
    let carol = world.join_mesh("carol");
    world.say(carol, "@alice hello");
    assert_eq!(world.clients[0].integrity(), ["wrong_room"]);
}

#[test]
fn strangers_begin_only_so_many_conversations() {
    let mut world = World::of(&["alice"]);
    for n in 0..25 {
        let client = world.join_mesh(&format!("stranger{n}"));
        world.say(client, "@alice buy this");
    }
    assert_eq!(world.clients[0].told().len(), 20);
    world.pass(Duration::from_secs(61));
    world.say(25, "@alice buy this now");
    assert_eq!(world.clients[0].told().last().unwrap().1, "buy this now");
}

#[test]
fn a_ping_comes_back_or_its_time_is_over() {
    let mut world = World::of(&["alice", "bob"]);
    let number = world.say(0, "@bob ping");
    assert!(matches!(world.clients[0].last(), Some(Event::Pong { target, .. }) if target == "bob@s1"));
    assert_eq!(world.clients[0].done[&number], 0);
    world.held.insert(1);
    let number = world.say(0, "@bob ping");
    world.pass(Duration::from_secs(11));
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["timeout".to_owned()], 5));
}

#[test]
fn both_sides_read_one_safety_number() {
    let mut world = World::den(&["alice", "bob"]);
    world.say(0, "@me verify bob");
    world.say(1, "@me verify alice");
    let number = |c: usize| match world.clients[c].last() {
        Some(Event::Notice { text, .. }) => text.split(" is ").next().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(number(0), number(1));
}
