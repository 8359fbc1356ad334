//! What moderators do, as it is seen at the clients whom it concerns.

use crate::world::{World, line};
use secchat::client::effects::Start;
use secchat::client::event::Event;
use secchat::limits::{SEARCH_BURST, SEARCHES_ANSWERED};
use secchat::wire::admin::{Answer, Ask, Failure};
use std::time::Duration;

fn done(answer: Answer) {
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
}

fn mute(room: Option<&str>) -> Ask {
    Ask::Mute { name: "bob".into(), room: room.map(Into::into), for_s: Some(600), reason: Some("shouting".into()) }
}

/// Codes and texts of errors.
fn errors(world: &World, client: usize) -> Vec<(String, String)> {
    world.clients[client].pick(|event| match event {
        Event::Error { code, message, .. } => Some((code.clone(), message.clone())),
        _ => None,
    })
}

fn notices(world: &World, client: usize) -> Vec<String> {
    world.clients[client].pick(|event| if let Event::Notice { text, .. } = event { Some(text.clone()) } else { None })
}

#[test]
fn a_muted_line_fails_with_the_reason_and_everything_else_goes_on() {
    let mut world = World::den(&["alice", "bob"]);
    world.say(1, "before");
    done(world.owner_asks(mute(Some("den"))));
    let why = "you are muted in den until 2023-11-14T22:23:20Z: shouting";
    assert_eq!(notices(&world, 1), [why]);
    let numbers = ["ONE", "TWO", "THREE"].map(|text| world.type_line(1, text));
    world.run();
    assert_eq!(errors(&world, 1), vec![("muted".to_owned(), why.to_owned()); 3]);
    assert!(numbers.iter().all(|number| world.clients[1].done[number] == 4));
    world.say(0, "hush");
    world.say(1, "@alice privately");
    assert_eq!(
        (world.clients[0].told(), world.clients[1].heard()),
        (vec![line("bob", "privately")], vec![line("alice", "hush")])
    );
    world.pass(Duration::from_secs(600));
    world.say(1, "sorry");
    assert_eq!(world.clients[0].heard(), [line("bob", "before"), line("bob", "sorry")]);
    done(world.owner_asks(mute(None)));
    let number = world.say(1, "@alice and now?");
    assert_eq!((world.clients[1].done[&number], world.clients[0].told().len()), (4, 1));
    done(world.owner_asks(Ask::Unmute { name: "bob".into(), room: None }));
    world.say(1, "@alice at last");
    assert_eq!(world.clients[0].told(), [line("bob", "privately"), line("bob", "at last")]);
    assert!(world.clients.iter().all(|c| c.integrity().is_empty() && c.exit.is_none()));
}

#[test]
fn a_muted_client_that_begins_a_conversation_hears_why_not() {
    let mut world = World::of(&["alice", "bob"]);
    done(world.owner_asks(mute(None)));
    let number = world.say(1, "@alice psst");
    assert_eq!((world.clients[1].done[&number], errors(&world, 1)[0].0.as_str()), (4, "muted"));
    done(world.owner_asks(Ask::Unmute { name: "bob".into(), room: None }));
    world.say(1, "@alice hello");
    assert_eq!(world.clients[0].told(), [line("bob", "hello")]);
}

#[test]
fn who_is_kicked_from_a_room_sees_itself_out_and_so_do_the_others() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    done(world.owner_asks(Ask::Kick { name: "bob".into(), room: Some("den".into()), reason: Some("enough".into()) }));
    world.run();
    assert!(world.clients[1].has(&Event::Left { room: "den@s1".into(), reason: "kicked".into() }));
    assert_eq!(notices(&world, 1), ["the server has put you out of den: enough"]);
    let gone = Event::MemberLeft { room: "den@s1".into(), name: "bob@s1".into(), reason: "kicked".into() };
    assert!(world.clients[0].has(&gone) && world.clients[2].has(&gone));
    world.say(0, "quiet");
    assert_eq!(world.clients[2].heard(), [line("alice", "quiet")]);
    world.pass(Duration::from_secs(60));
    assert!(world.clients[1].heard().is_empty() && world.clients[1].exit.is_none(), "and does not come in by itself");
    assert!(world.clients.iter().all(|c| c.integrity().is_empty()));
}

#[test]
fn who_is_kicked_off_the_server_hears_why_and_stays_away() {
    let mut world = World::den(&["alice", "bob"]);
    done(world.owner_asks(Ask::Kick { name: "bob".into(), room: None, reason: Some("that was enough".into()) }));
    world.run();
    assert!(notices(&world, 1).contains(&"kicked: that was enough".to_owned()));
    assert_eq!(world.clients[1].exit, Some(4));
    let gone = Event::MemberLeft { room: "den@s1".into(), name: "bob@s1".into(), reason: "kicked".into() };
    assert!(world.clients[0].has(&gone));
}

#[test]
fn the_next_owner_of_a_released_name_is_met_with_the_alarm_of_a_changed_key() {
    let mut world = World::den(&["alice", "bob"]);
    world.say(1, "it is me");
    world.say(0, "@bob the first secret");
    done(world.owner_asks(Ask::Release { name: "bob".into() }));
    world.run();
    assert_eq!(world.clients[1].exit, Some(4));
    assert!(notices(&world, 1).contains(&"kicked: the name was released".to_owned()));
    let gone = Event::MemberLeft { room: "den@s1".into(), name: "bob@s1".into(), reason: "released".into() };
    assert!(world.clients[0].has(&gone));
    let new = world.join_mesh("bob");
    assert_ne!(world.clients[new].identity.public(), world.clients[1].identity.public());
    assert!(!world.clients[0].has(&Event::KeyChanged { name: "bob@s1".into() }));
    world.enter(new);
    assert!(world.clients[0].has(&Event::KeyChanged { name: "bob@s1".into() }));
    let number = world.say(0, "@bob the second secret");
    assert_eq!(world.clients[0].done[&number], 7);
    assert!(world.clients[new].told().is_empty(), "nothing goes there until alice trusts the key");
}

#[test]
fn a_broadcast_and_a_message_are_shown_as_the_servers() {
    let mut world = World::of(&["alice", "bob"]);
    done(world.owner_asks(Ask::Broadcast { text: "noon\x1b[2J".into() }));
    done(world.owner_asks(Ask::Message { name: "bob".into(), text: "you too".into() }));
    world.run();
    let notice = |text: &str| Event::Notice { from: "server@s1".into(), text: text.into() };
    assert!(world.clients.iter().all(|c| c.has(&notice("noon\x1b[2J"))), "as it came; screens make it harmless");
    assert!(world.clients[1].has(&notice("you too")) && !world.clients[0].has(&notice("you too")));
}

#[test]
fn a_client_searches_in_bursts_and_then_once_a_second() {
    let mut world = World::den(&["alice", "bob"]);
    let burst = usize::try_from(SEARCH_BURST).unwrap();
    for n in 0..burst + 3 {
        world.say(1, &format!("@all whohas {n}.iso"));
    }
    assert_eq!(world.clients[1].errors(), vec!["too_many"; 3]);
    assert_eq!(world.clients[0].searched.len(), burst);
    world.pass(Duration::from_secs(2));
    for _ in 0..5 {
        world.say(1, "@any getfile x");
    }
    assert_eq!(world.clients[0].searched.len(), burst + 2);
    assert!(world.clients[0].errors().is_empty());
}

#[test]
fn a_holder_answers_a_modified_client_only_so_often() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    // A new process has a full burst each time, which is what a client without a bound looks like from outside.
    for _ in 0..SEARCHES_ANSWERED / 10 + 1 {
        world.restart_client(1);
        world.enter(1);
        (0..10).for_each(|_| _ = world.say(1, "@all whohas *.iso"));
    }
    assert_eq!(world.clients[0].searched.len(), SEARCHES_ANSWERED);
    world.say(2, "@all whohas *.iso");
    assert_eq!(world.clients[0].searched.len(), SEARCHES_ANSWERED + 1, "others are answered");
    world.pass(Duration::from_secs(60));
    world.say(1, "@all whohas *.iso");
    assert_eq!(world.clients[0].searched.len(), SEARCHES_ANSWERED + 2);
}

/// Alice of `s1` has a room there; Bob of `s2` is in it through his own server.
fn two_servers() -> World {
    let mut world = World::mesh(2);
    world.person("alice", 0);
    world.person("bob", 1);
    world.start(0, Start::Create { room: "den".into(), private: false, password: None });
    world.start(1, Start::Join { room: "den@s1".into(), password: None });
    world.clear();
    world
}

#[test]
fn a_guest_of_another_server_is_listed_muted_and_kicked_like_anybody() {
    let mut world = two_servers();
    let Answer::Users(page) = world.owner_asks(Ask::Users { after: None }) else { panic!() };
    let bob = page.rows.iter().find(|user| user.name == "bob@s2").unwrap();
    assert_eq!((bob.via.as_deref(), bob.online, bob.address.as_deref()), (Some("s2"), true, None));
    let name = || "bob@s2".to_owned();
    let (reason, room) = (Some("enough".to_owned()), None);
    done(world.owner_asks(Ask::Mute { name: name(), room: room.clone(), for_s: None, reason: reason.clone() }));
    let number = world.say(1, "HELLO");
    assert_eq!((world.clients[1].done[&number], errors(&world, 1)[0].1.as_str()), (4, "you are muted: enough"));
    let answer = world.owner_asks(Ask::Release { name: name() });
    assert!(matches!(answer, Answer::Failed { code: Failure::NotAllowed, .. }), "{answer:?}");
    done(world.owner_asks(Ask::Kick { name: name(), room, reason }));
    world.run();
    assert!(world.clients[1].has(&Event::Left { room: "den@s1".into(), reason: "kicked".into() }));
    assert!(notices(&world, 1).contains(&"kicked: enough".to_owned()));
    assert!(world.clients[1].exit.is_none(), "its own server stays its own");
    let gone = Event::MemberLeft { room: "den@s1".into(), name: name(), reason: "kicked".into() };
    assert!(world.clients[0].has(&gone));
    let lifted = Ask::Unmute { name: name(), room: None };
    done(world.owner_asks(lifted));
}

#[test]
fn a_guest_that_is_not_on_the_list_gets_in_nowhere() {
    let mut world = two_servers();
    done(world.owner_asks(Ask::Allow { whom: "alice".into() }));
    world.cut(1);
    world.connect(1);
    let number = world.say(1, "let me in");
    world.pass(Duration::from_secs(5));
    assert!(world.clients[0].heard().is_empty() && !world.clients[1].done.contains_key(&number), "it waits");
    assert_eq!(world.clients[1].errors(), ["not_listed"], "and is told why, once");
    let print = world.clients[1].identity.public().fingerprint().to_string();
    done(world.owner_asks(Ask::Allow { whom: print }));
    world.pass(Duration::from_secs(120));
    assert_eq!(world.clients[0].heard(), [("bob@s2".to_owned(), "let me in".to_owned())]);
}

#[test]
fn at_a_wary_level_a_guest_posts_no_faster_than_the_others() {
    let mut world = two_servers();
    done(world.owner_asks(Ask::Defcon { level: 2 }));
    (0..400).for_each(|_| _ = world.type_line(1, "spam"));
    world.run();
    let through = world.clients[0].heard().len();
    assert!((200..300).contains(&through), "{through}");
    assert!(world.clients[1].errors().iter().all(|code| code == "too_many"));
    world.pass(Duration::from_secs(5));
    let number = world.say(1, "calmly");
    assert_eq!((world.clients[1].done[&number], world.clients[0].heard().len()), (0, through + 1));
}
