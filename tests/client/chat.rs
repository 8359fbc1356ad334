//! Rooms: making, joining, talking, leaving.

use crate::world::{World, line, password};
use secchat::client::effects::Start;
use secchat::client::event::Event;
use secchat::crypto::secret::Secret;
use secchat::wire::log::RowKind;
use std::time::Duration;

#[test]
fn a_private_room_carries_words_both_ways() {
    let mut world = World::of(&["alice", "bob"]);
    world.start(0, Start::Create { room: "den".into(), private: true, password: Some(password()) });
    world.start(1, Start::Join { room: "den".into(), password: Some(password()) });
    let joined = Event::MemberJoined { room: "den@s1".into(), name: "bob@s1".into() };
    assert!(world.clients[0].has(&joined));
    let members: Vec<_> = world.clients[1].pick(|e| match e {
        Event::Joined { room, members, .. } => Some((room.clone(), members.clone())),
        _ => None,
    });
    assert_eq!(members, [("den@s1".to_owned(), vec!["alice@s1".to_owned(), "bob@s1".to_owned()])]);
    world.say(0, "hello");
    world.say(1, "@all|hi alice");
    world.say(0, "@#den how are you?");
    assert_eq!(world.clients[1].heard(), [line("alice", "hello"), line("alice", "how are you?")]);
    assert_eq!(world.clients[0].heard(), [line("bob", "hi alice")]);
    assert_eq!((world.clients[0].sent(), world.clients[1].sent()), (2, 1));
    assert!(world.clients.iter().all(|c| c.integrity().is_empty() && c.errors().is_empty()));
}

#[test]
fn a_wrong_password_and_an_unknown_room_are_refused_alike() {
    let mut world = World::den(&["alice", "bob"]);
    for (room, name) in [("den", "mallory"), ("nosuch", "trudy")] {
        let client = world.add(name, Vec::new(), true);
        world.connect(client);
        let wrong = Secret::new("wrong").unwrap();
        world.start(client, Start::Join { room: room.into(), password: Some(wrong) });
        let c = &world.clients[client];
        assert_eq!((c.errors(), c.exit), (vec!["wrong_room_or_password".to_owned()], Some(4)), "{room}");
    }
    let carol = world.join_mesh("carol");
    let number = world.say(carol, "/join nosuch");
    assert_eq!(world.clients[carol].done[&number], 4);
    world.say(0, "still here?");
    assert_eq!(world.clients[1].heard(), [line("alice", "still here?")]);
}

#[test]
fn a_generated_secret_and_an_invite_lead_in() {
    let mut world = World::of(&["alice", "bob", "carol"]);
    world.say(0, "/create den --private");
    let made: Vec<_> = world.clients[0].pick(|e| match e {
        Event::RoomCreated { secret, invite, .. } => Some((secret.clone().unwrap(), invite.clone())),
        _ => None,
    });
    let (secret, invite) = made[0].clone();
    assert!(!invite.contains(&secret));
    world.clients[1].password = Some(Secret::new(&secret).unwrap());
    let number = world.say(1, "/join den");
    assert_eq!(world.clients[1].done[&number], 0);
    world.say(0, "/invite --with-secret");
    let Some(Event::Notice { text, .. }) = world.clients[0].last() else { panic!() };
    let line_typed = format!("/join {text}");
    let number = world.say(2, &line_typed);
    assert_eq!(world.clients[2].done[&number], 0);
    world.say(2, "in");
    assert_eq!(world.clients[1].heard(), [line("carol", "in")]);
}

#[test]
fn a_password_never_opens_a_public_room_of_that_name() {
    let mut world = World::of(&["alice", "bob"]);
    world.say(0, "/create den");
    let number = world.start(1, Start::Join { room: "den".into(), password: Some(password()) });
    assert_eq!((world.clients[1].errors(), world.clients[1].done[&number]), (vec!["not_private".to_owned()], 4));
}

#[test]
fn thirty_join_at_once_and_all_hear_all() {
    let mut world = World::den(&["alice"]);
    for n in 0..30 {
        world.join_mesh(&format!("guest{n}"));
    }
    for client in 1..31 {
        let start = Start::Join { room: "den".into(), password: Some(password()) };
        world.feed(client, secchat::client::effects::Input::Start(Box::new(start)));
    }
    world.run();
    world.clear();
    for client in 0..31 {
        world.type_line(client, &format!("I am {client}"));
    }
    world.run();
    for client in 0..31 {
        let c = &world.clients[client];
        assert_eq!((c.heard().len(), c.sent(), c.integrity().len()), (30, 1, 0), "{client}: {:?}", c.events);
    }
    world.clear();
    let peers = |world: &mut World, client| {
        world.say(client, "/members");
        world.clients[client].pick(|e| match e {
            Event::Peers { peers, .. } => Some(peers.clone()),
            _ => None,
        })
    };
    let first = peers(&mut world, 0);
    assert_eq!(first[0].len(), 31);
    for client in 1..31 {
        assert_eq!(peers(&mut world, client), first);
    }
}

#[test]
fn a_join_that_loses_its_epoch_is_made_again() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    let dave = world.join_mesh("dave");
    let start = Start::Join { room: "den".into(), password: Some(password()) };
    world.hold_after_entered(dave, start);
    world.say(1, "/leave");
    world.held.clear();
    world.run();
    assert!(world.clients[dave].pick(|e| matches!(e, Event::Joined { .. }).then_some(())).len() == 1);
    world.clear();
    world.say(dave, "made it");
    world.say(0, "welcome");
    assert_eq!(world.clients[2].heard(), [line("dave", "made it"), line("alice", "welcome")]);
    assert_eq!(world.clients[dave].heard(), [line("alice", "welcome")]);
}

#[test]
fn two_commits_in_one_epoch_lose_no_message() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    let dave = world.join_mesh("dave");
    world.hold_after_entered(dave, Start::Join { room: "den".into(), password: Some(password()) });
    // Bob leaves; whoever is named to commit that does so too late.
    world.held.extend([0, 2]);
    world.say(1, "/leave");
    world.type_line(0, "from alice");
    world.type_line(2, "from carol");
    world.held.remove(&dave);
    world.run();
    world.held.clear();
    world.run();
    world.pass(Duration::from_secs(10));
    world.say(dave, "from dave");
    let heard = |client: usize| world.clients[client].heard();
    assert_eq!(heard(0), [line("carol", "from carol"), line("dave", "from dave")]);
    assert_eq!(heard(2), [line("alice", "from alice"), line("dave", "from dave")]);
    assert!(world.clients.iter().all(|c| c.integrity().is_empty()), "{:?}", world.clients[0].events);
}

#[test]
fn who_leaves_is_told_to_all_and_hears_nothing_more() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    let number = world.say(1, "/leave den");
    assert_eq!(world.clients[1].done[&number], 0);
    let left = Event::MemberLeft { room: "den@s1".into(), name: "bob@s1".into(), reason: "left".into() };
    assert!(world.clients[0].has(&left) && world.clients[2].has(&left));
    world.say(0, "he is gone");
    assert!(world.clients[1].heard().is_empty());
    assert_eq!(world.clients[2].heard(), [line("alice", "he is gone")]);
    let number = world.say(1, "anybody?");
    assert_eq!(world.clients[1].done[&number], 2);
    world.enter(1);
    world.say(1, "back");
    assert_eq!(world.clients[2].heard().last(), Some(&line("bob", "back")));
}

#[test]
fn several_rooms_at_once_and_a_current_one() {
    let mut world = World::of(&["alice", "bob"]);
    for room in ["den", "lab"] {
        world.say(0, &format!("/create {room}"));
        world.say(1, &format!("/join {room}"));
    }
    world.say(0, "to lab");
    world.say(0, "@#den to den");
    world.say(0, "/room den");
    world.say(0, "to den again");
    let rooms: Vec<_> = world.clients[1].pick(|e| match e {
        Event::Message { room, text, .. } => Some(format!("{room}: {text}")),
        _ => None,
    });
    assert_eq!(rooms, ["lab@s1: to lab", "den@s1: to den", "den@s1: to den again"]);
    world.say(1, "@server get_rooms");
    let Some(Event::Rooms { rooms, .. }) = world.clients[1].last() else { panic!() };
    assert_eq!(rooms.iter().map(|r| r.members).collect::<Vec<_>>(), [2, 2]);
    world.say(0, "@server ping");
    assert!(matches!(world.clients[0].last(), Some(Event::Pong { target, .. }) if target == "s1"));
}

#[test]
fn a_member_lost_past_its_grace_is_removed_and_comes_back_by_itself() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.cut(1);
    world.pass(Duration::from_secs(700));
    let lost = Event::MemberLeft { room: "den@s1".into(), name: "bob@s1".into(), reason: "lost".into() };
    assert!(world.clients[0].has(&lost) && world.clients[2].has(&lost));
    world.type_line(1, "written while away");
    world.connect(1);
    assert_eq!(world.clients[0].heard(), [line("bob", "written while away")]);
    assert_eq!(world.clients[1].integrity(), [""; 0]);
}

#[test]
fn a_member_lost_while_alone_finds_its_room_again() {
    let mut world = World::den(&["alice"]);
    world.cut(0);
    world.pass(Duration::from_secs(5000));
    world.connect(0);
    world.say(0, "echo");
    assert_eq!(world.clients[0].sent(), 1);
    let bob = world.join_mesh("bob");
    world.enter(bob);
    world.say(0, "at last");
    assert_eq!(world.clients[bob].heard(), [line("alice", "at last")]);
}

#[test]
fn whoever_comes_back_to_a_room_that_has_expired_is_told() {
    let mut world = World::den(&["alice"]);
    world.cut(0);
    world.pass(Duration::from_secs(25 * 3600));
    world.connect(0);
    assert!(world.clients[0].has(&Event::Left { room: "den@s1".into(), reason: "lost".into() }));
    let code = |e: &(_, Event)| matches!(&e.1, Event::Error { code, .. } if code == "wrong_room_or_password");
    assert!(world.clients[0].events.iter().any(code), "{:?}", world.clients[0].events);
}

/// By `self_update`, as the log's commits show: nobody else is there to make any.
#[test]
fn a_leaf_gets_new_keys_after_half_a_day_to_a_day() {
    let mut world = World::den(&["alice"]);
    let commits = |world: &World| -> Vec<u64> {
        let store = &world.servers[0].store;
        let room = store.load().unwrap().rooms[0].id;
        let rows = store.page(&room, 0).unwrap().rows;
        rows.iter().filter(|row| row.kind == RowKind::Commit).map(|row| row.time_ms).collect()
    };
    let hours = |n: u64| Duration::from_secs(n * 3600);
    world.pass(hours(12) - Duration::from_secs(60));
    assert_eq!(commits(&world), [0; 0], "not before its time");
    world.pass(hours(12) + Duration::from_secs(120));
    assert_eq!(commits(&world).len(), 1, "within a day");
    world.pass(hours(5 * 24));
    let times = commits(&world);
    let gaps: Vec<u64> = times.windows(2).map(|w| (w[1] - w[0]) / 60_000).collect();
    assert!(gaps.len() >= 5 && gaps.iter().all(|m| (12 * 60..=24 * 60).contains(m)), "{gaps:?} minutes");
    assert!(gaps.windows(2).any(|w| w[0].abs_diff(w[1]) > 5), "at times that nobody can tell: {gaps:?} minutes");
    let epoch = world.servers[0].store.load().unwrap().rooms[0].state.epoch;
    assert_eq!(epoch, times.len() as u64, "each made a new epoch");
}

#[test]
fn leaves_are_renewed_in_time_without_a_trace() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.pass(Duration::from_secs(30 * 3600));
    for client in 0..3 {
        world.say(client, "still fine");
    }
    for c in &world.clients {
        assert_eq!((c.heard().len(), c.integrity().len(), c.dropped_links), (2, 0, 0));
    }
}
