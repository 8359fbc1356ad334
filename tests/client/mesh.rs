//! Rooms and people of several servers.

use crate::servers::{Server, authority, identity_of, name_of};
use crate::world::{START_MS, World, full, password};
use secchat::client::effects::Start;
use secchat::client::event::Event;
use secchat::crypto::identity::Identity;
use secchat::wire::cert::NameCert;
use secchat::wire::frame::{Push, ServerInfo, ToClient};
use secchat::wire::home::HomeCard;
use std::time::Duration;

/// Alice of `s1` makes the private room `den` there; Bob of `s2` and Carol of `s3` join it through their own servers.
fn den() -> World {
    let mut world = World::mesh(3);
    for (name, at) in [("alice", 0), ("bob", 1), ("carol", 2)] {
        world.person(name, at);
    }
    world.start(0, Start::Create { room: "den".into(), private: true, password: Some(password()) });
    for client in [1, 2] {
        world.start(client, Start::Join { room: "den@s1".into(), password: Some(password()) });
        assert!(
            matches!(world.clients[client].last(), Some(Event::Joined { .. })),
            "{:?}",
            world.clients[client].events
        );
    }
    world.clear();
    world
}

fn heard(world: &World, client: usize) -> Vec<String> {
    world.clients[client].heard().into_iter().map(|(from, text)| format!("{from}: {text}")).collect()
}

fn told(world: &World, client: usize) -> Vec<String> {
    world.clients[client].told().into_iter().map(|(from, text)| format!("{from}: {text}")).collect()
}

fn calm(world: &World) {
    for c in &world.clients {
        assert!(c.integrity().is_empty() && c.errors().is_empty(), "{}: {:?}", c.name, c.events);
    }
}

fn away(world: &World, client: usize) -> Vec<String> {
    world.clients[client].pick(|event| match event {
        Event::RoomAway { room, server } => Some(format!("{room} waits for {server}")),
        Event::RoomBack { room, .. } => Some(format!("{room} is back")),
        _ => None,
    })
}

#[test]
fn people_of_three_servers_talk_in_a_room_of_one() {
    let mut world = den();
    world.say(1, "hello from s2");
    world.say(0, "hello from s1");
    assert_eq!(heard(&world, 2), ["bob@s2: hello from s2", "alice@s1: hello from s1"]);
    assert_eq!(heard(&world, 0), ["bob@s2: hello from s2"]);
    world.say(2, "/members");
    let peers = world.clients[2].pick(|e| match e {
        Event::Peers { room, peers, owner, .. } => Some((room.clone(), peers.join(" "), owner.clone())),
        _ => None,
    });
    assert_eq!(peers, [("den@s1".into(), "alice@s1 bob@s2 carol@s3".into(), Some("alice@s1".into()))]);
    let number = world.say(1, "/leave den@s1");
    assert_eq!(world.clients[1].done[&number], 0);
    let left = Event::MemberLeft { room: "den@s1".into(), name: "bob@s2".into(), reason: "left".into() };
    assert!(world.clients[0].has(&left) && world.clients[2].has(&left));
    world.say(0, "he is gone");
    assert_eq!(heard(&world, 1), ["alice@s1: hello from s1"]);
    calm(&world);
}

#[test]
fn a_room_is_made_at_another_server_and_found_by_its_label_where_that_is_clear() {
    let mut world = World::mesh(2);
    let (alice, bob) = (world.person("alice", 0), world.person("bob", 1));
    let number = world.say(alice, "/create lab@s2");
    assert_eq!(world.clients[alice].done[&number], 0, "{:?}", world.clients[alice].events);
    world.say(bob, "/join lab");
    world.say(alice, "@#lab at yours");
    assert_eq!(heard(&world, bob), ["alice@s1: at yours"]);
    assert_eq!((world.servers[0].rooms(), world.servers[1].rooms()), (0, 1));
    let number = world.say(alice, "/join lab@s9");
    assert_eq!((world.clients[alice].done[&number], world.clients[alice].errors()), (4, vec!["other_server".into()]));
}

#[test]
fn two_of_different_servers_talk_alone_and_a_plain_name_is_who_is_in_the_room() {
    let mut world = den();
    world.say(1, "@carol@s3 just you");
    world.say(2, "@bob and you");
    assert_eq!((told(&world, 2), told(&world, 1)), (vec!["bob@s2: just you".into()], vec!["carol@s3: and you".into()]));
    assert!(told(&world, 0).is_empty() && heard(&world, 0).is_empty());
    let number = world.say(0, "@bob ping");
    assert_eq!(world.clients[0].done[&number], 0);
    calm(&world);
}

#[test]
fn who_never_met_is_reached_at_home() {
    let mut world = World::mesh(2);
    let (alice, bob) = (world.person("alice", 0), world.person("bob", 1));
    world.say(alice, "@bob@s2 good day");
    assert_eq!(told(&world, bob), ["alice@s1: good day"]);
    let number = world.say(alice, "@nobody@s2 good day");
    assert_eq!(world.clients[alice].done[&number], 5);
}

#[test]
fn a_room_whose_server_is_away_is_marked_and_what_is_written_waits() {
    let mut world = den();
    world.say(1, "/create own");
    world.say(2, "/join own@s2");
    world.clear();
    world.kill(0);
    assert_eq!(away(&world, 1), ["den@s1 waits for s1"]);
    let number = world.say(1, "@#den@s1 held");
    world.say(1, "@#own goes on");
    assert!(heard(&world, 2).ends_with(&["bob@s2: goes on".to_owned()]), "other rooms are untouched");
    world.pass(Duration::from_secs(60));
    assert!(!world.clients[1].done.contains_key(&number));
    world.revive(0);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.clients[1].done.get(&number), Some(&0), "it goes on by itself");
    assert_eq!(away(&world, 1), ["den@s1 waits for s1", "den@s1 is back"]);
    assert!(heard(&world, 2).contains(&"bob@s2: held".to_owned()), "{:?}", world.clients[2].events);
    world.go_to(0, 0);
    assert_eq!(heard(&world, 0), ["bob@s2: held"]);
    calm(&world);
}

#[test]
fn when_a_home_is_away_two_meet_at_the_server_of_a_common_room() {
    let mut world = den();
    world.say(1, "@carol@s3 before");
    world.split(1, 2);
    world.say(1, "@carol@s3 over s1");
    world.pass(Duration::from_secs(1));
    assert_eq!(told(&world, 2), ["bob@s2: before", "bob@s2: over s1"], "{:?}", world.clients[1].events);
    world.mend(1, 2);
    world.pass(Duration::from_secs(10));
    world.say(2, "@bob and back");
    assert_eq!(told(&world, 1), ["carol@s3: and back"]);
    calm(&world);
}

#[test]
fn who_loses_its_server_goes_on_through_another_under_its_name_and_misses_nothing() {
    let mut world = den();
    world.say(1, "@carol@s3 alone");
    world.type_line(1, "on its way");
    world.kill(1);
    world.say(0, "while bob is away");
    world.go_to(1, 2);
    world.pass(Duration::from_secs(5));
    let connected: Vec<_> = world.clients[1].pick(|event| match event {
        Event::Connected { server, name, .. } => Some((server.clone(), name.clone())),
        _ => None,
    });
    assert_eq!(connected, [("s3".to_owned(), "bob@s2".to_owned())]);
    assert_eq!(heard(&world, 1), ["alice@s1: while bob is away"]);
    assert_eq!(heard(&world, 0), ["bob@s2: on its way"]);
    world.say(1, "back");
    world.say(0, "welcome");
    assert_eq!(heard(&world, 2).last().unwrap(), "alice@s1: welcome");
    assert_eq!(heard(&world, 1).last().unwrap(), "alice@s1: welcome");
    world.say(2, "@bob@s2 still you?");
    assert_eq!(told(&world, 1), ["carol@s3: still you?"], "{:?}", world.clients[2].events);
    world.revive(1);
    world.pass(Duration::from_secs(10));
    world.say(2, "@bob@s2 and now?");
    assert_eq!(told(&world, 1).last().unwrap(), "carol@s3: and now?");
    calm(&world);
}

#[test]
fn a_client_at_the_rooms_own_server_keeps_its_place_when_it_goes_there_and_away_again() {
    let mut world = den();
    for at in [0, 2, 0, 1] {
        world.cut(1);
        world.say(0, &format!("before {at}"));
        world.go_to(1, at);
        world.say(1, &format!("at {at}"));
    }
    let expected: Vec<String> = [0, 2, 0, 1].iter().map(|at| format!("alice@s1: before {at}")).collect();
    assert_eq!(heard(&world, 1), expected);
    let expected: Vec<String> = [0, 2, 0, 1].iter().map(|at| format!("bob@s2: at {at}")).collect();
    assert_eq!(heard(&world, 0), expected);
    calm(&world);
}

#[test]
fn all_servers_tell_their_rooms_and_how_far_they_are_and_the_silent_are_named() {
    let mut world = den();
    world.say(0, "/create one");
    world.say(1, "/create two");
    world.clear();
    world.say(2, "@server get_rooms");
    let rooms = |world: &World| {
        world.clients[2].pick(|event| match event {
            Event::Rooms { rooms, silent } => {
                Some((rooms.iter().map(|r| r.room.clone()).collect::<Vec<_>>(), silent.clone()))
            }
            _ => None,
        })
    };
    assert_eq!(rooms(&world), [(vec!["one@s1".to_owned(), "two@s2".to_owned()], Vec::<String>::new())]);
    let number = world.say(2, "@server ping");
    let mut targets = world.clients[2].pick(|event| match event {
        Event::Pong { target, route, .. } => Some(format!("{target} {route}")),
        _ => None,
    });
    targets.sort();
    assert_eq!(
        (targets, world.clients[2].done[&number]),
        (vec!["s1 mesh".into(), "s2 mesh".into(), "s3 link".into()], 0)
    );
    // Nobody has noticed yet that it hears nothing.
    world.split.extend([(1, 2), (2, 1)]);
    world.clear();
    world.say(2, "@server get_rooms");
    assert!(rooms(&world).is_empty());
    world.pass(Duration::from_secs(2));
    assert_eq!(rooms(&world), [(vec!["one@s1".to_owned()], vec!["s2".to_owned()])]);
}

#[test]
fn a_new_process_behind_another_server_has_its_old_name() {
    let mut world = den();
    world.cut(1);
    world.clients[1].at = 2;
    world.restart_client(1);
    world.say(0, "@bob@s2 there you are");
    assert_eq!(told(&world, 1), ["alice@s1: there you are"], "{:?}", world.clients[1].events);
    world.start(1, Start::Join { room: "den@s1".into(), password: Some(password()) });
    world.say(1, "again");
    assert_eq!(heard(&world, 0), ["bob@s2: again"]);
    world.start(1, Start::Create { room: "own".into(), private: false, password: None });
    assert_eq!(world.servers[2].rooms(), 0, "a plain name is one at home");
    calm(&world);
}

/// Bob and Carol of `s3` are in a room of `s2`, and so is somebody whom `s2` has certified as Alice of `s1`.
fn with_a_false_alice() -> (World, usize) {
    let mut world = World::meshed(vec![Server::of_mesh(0), Server::liar(1, 0), Server::of_mesh(2)]);
    for name in ["carol", "bob"] {
        world.person(name, 2);
    }
    world.say(0, "/create lab@s2");
    world.say(1, "/join lab@s2");
    world.clear();
    let (mallory, liar) = (Identity::from_seed(&[66; 32]), identity_of(1));
    let cert = NameCert::issue(&liar, full("alice"), mallory.public(), START_MS * 2);
    let there = ServerInfo {
        name: name_of(1),
        key: (*liar.public().as_bytes()).into(),
        vouch: world.servers[1].vouch().to_bytes().into(),
        endpoints: Vec::new(),
        hops: 0,
        round_trip_us: 0,
    };
    let cert = cert.with_chain(Some(world.servers[1].vouch()));
    world.homes = vec![HomeCard {
        cert,
        authorities: vec![(*authority().public().as_bytes()).into()],
        servers: vec![there],
        sharing: None,
    }];
    let false_alice = world.add_as("alice", mallory, 66, Vec::new(), false);
    world.go_to(false_alice, 1);
    world.homes.clear();
    (world, false_alice)
}

#[test]
fn a_server_that_certifies_a_name_of_another_one_is_caught_and_named() {
    let (mut world, false_alice) = with_a_false_alice();
    world.say(false_alice, "/join lab@s2");
    assert!(
        matches!(world.clients[false_alice].last(), Some(Event::Joined { .. })),
        "{:?}",
        world.clients[false_alice].events
    );
    let caught = Event::Integrity {
        room: "lab@s2".into(),
        kind: "false_name".into(),
        peer: Some("alice@s1".into()),
        server: Some("s2".into()),
    };
    world.say(false_alice, "believe me");
    for client in [0, 1] {
        assert!(world.clients[client].has(&caught), "{:?}", world.clients[client].events);
        assert!(
            heard(&world, client).is_empty() && world.clients[client].pins.iter().all(|(n, _)| *n != full("alice"))
        );
    }
    world.clear();
    world.person("dave", 2);
    let dave = world.clients.len() - 1;
    let number = world.say(dave, "/join lab@s2");
    assert!(
        world.clients[dave].has(&caught) && world.clients[dave].done[&number] == 7,
        "{:?}",
        world.clients[dave].events
    );
}

#[test]
fn a_false_name_gets_no_private_word_and_begins_none() {
    let (mut world, false_alice) = with_a_false_alice();
    world.say(false_alice, "@bob@s3 it is me, alice");
    assert!(told(&world, 1).is_empty());
    let number = world.say(1, "@alice@s1 is it?");
    assert_eq!(world.clients[1].done[&number], 5, "s1 knows no alice");
}

#[test]
fn another_set_of_authorities_is_told_and_not_taken() {
    let mut world = den();
    world.servers[0].change_authority();
    world.kill(0);
    world.revive(0);
    world.go_to(0, 0);
    assert_eq!(world.clients[0].integrity(), ["authorities_changed"]);
    let home = world.clients[0].home.as_ref().unwrap();
    assert_eq!(home.authority_keys(), [authority().public()]);
    let number = world.say(0, "@me trust server@s1");
    assert_eq!(world.clients[0].done[&number], 0);
    assert_eq!(world.clients[0].home.as_ref().unwrap().authority_keys(), [identity_of(50).public()]);
    let number = world.say(0, "@me trust server@s1");
    assert_eq!(world.clients[0].done[&number], 1, "nothing waits any more");
}

#[test]
fn a_server_with_a_forged_certificate_is_named_and_never_asked() {
    let mut world = World::mesh(2);
    world.mangler = Box::new(|_, frame| match frame {
        ToClient::Push(Push::Servers(mut list)) => {
            list.iter_mut().for_each(|info| info.key = (*identity_of(9).public().as_bytes()).into());
            vec![ToClient::Push(Push::Servers(list))]
        }
        frame => vec![frame],
    });
    let alice = world.person("alice", 0);
    assert_eq!(world.clients[alice].integrity(), ["false_server"]);
    let number = world.say(alice, "/join lab@s2");
    assert_eq!((world.clients[alice].done[&number], world.clients[alice].errors()), (4, vec!["other_server".into()]));
}

#[test]
fn no_server_gets_at_a_room_of_another_one() {
    let mut world = den();
    world.say(1, "/create own");
    let room = world.servers[0].store.load().unwrap().rooms[0].id;
    // What s2 says of a room of s1 counts for nothing.
    world.mangler = Box::new(move |client, frame| {
        let said = [Push::DirectClosed { room }, Push::CommitNow { room, epoch: 2 }];
        let said = said.into_iter().filter(|_| client == 1).map(ToClient::Push);
        std::iter::once(frame).chain(said).collect()
    });
    world.say(2, "hello");
    assert_eq!(heard(&world, 1), ["carol@s3: hello"]);
    world.say(1, "@#den@s1 hello too");
    assert_eq!(heard(&world, 2), ["bob@s2: hello too"]);
    calm(&world);
}

#[test]
fn a_script_that_wants_a_server_that_is_not_there_goes_on_with_what_follows() {
    let mut world = World::mesh(2);
    let alice = world.person("alice", 0);
    let first = world.type_line(alice, "/join lab@s7");
    let second = world.type_line(alice, "@bob@s7 hello");
    let third = world.type_line(alice, "/create lab");
    world.run();
    let done = &world.clients[alice].done;
    assert_eq!((done[&first], done[&second], done[&third]), (4, 4, 0));
}

#[test]
fn a_private_word_on_its_way_to_a_server_that_dies_goes_another_way_and_comes_once() {
    let mut world = den();
    world.say(1, "@carol@s3 one");
    // Heard and logged, and the answer is lost.
    world.type_line(1, "@carol@s3 two");
    world.deaf.insert(1);
    world.run();
    let lost = world.type_line(1, "@carol@s3 three");
    world.deaf.clear();
    world.split(1, 2);
    world.pass(Duration::from_secs(1));
    assert_eq!(told(&world, 2), ["bob@s2: one", "bob@s2: two", "bob@s2: three"], "{:?}", world.clients[1].events);
    assert_eq!(world.clients[1].done.get(&lost), Some(&0));
    world.mend(1, 2);
    world.pass(Duration::from_secs(10));
    for (n, who) in [(1, "@carol@s3 four"), (2, "@bob five"), (1, "@carol@s3 six")] {
        world.say(n, who);
    }
    assert_eq!(told(&world, 2)[3..], ["bob@s2: four", "bob@s2: six"]);
    assert_eq!(told(&world, 1), ["carol@s3: five"]);
    calm(&world);
}

#[test]
fn a_server_that_does_not_answer_a_login_is_away_before_the_mesh_has_noticed() {
    let mut world = den();
    world.stalled = true;
    world.cut(2);
    world.go_to(2, 2);
    world.pass(Duration::from_secs(1));
    assert!(away(&world, 2).is_empty());
    world.pass(Duration::from_secs(1));
    assert_eq!(away(&world, 2), ["den@s1 waits for s1"]);
    world.stalled = false;
    world.run();
    assert_eq!(away(&world, 2), ["den@s1 waits for s1", "den@s1 is back"]);
    world.say(0, "still there");
    assert_eq!(heard(&world, 2), ["alice@s1: still there"]);
    calm(&world);
}

/// How often a client has given up its link.
fn given_up(world: &World, client: usize) -> usize {
    world.clients[client].pick(|event| matches!(event, Event::Reconnecting { .. }).then_some(())).len()
}

#[test]
fn a_frozen_server_is_given_up_within_seconds_and_no_room_elsewhere_is_called_away() {
    for (line, within) in [(Some("is anybody there"), 10), (None, 10)] {
        let mut world = den();
        world.pass(Duration::from_secs(60));
        world.deaf.insert(1);
        if let Some(line) = line {
            world.type_line(1, line);
        }
        world.pass(Duration::from_secs(within));
        assert_eq!(given_up(&world, 1), 1, "{line:?}");
        assert!(away(&world, 1).is_empty(), "{line:?}");
    }
}

#[test]
fn a_living_server_is_kept_however_quiet_it_is_and_whoever_else_is_silent() {
    let mut world = den();
    world.pass(Duration::from_secs(300));
    assert!((0..3).all(|client| away(&world, client).is_empty()), "a quiet room is not away");
    world.stalled = true;
    world.type_line(2, "to a server that does not answer");
    world.pass(Duration::from_secs(300));
    assert_eq!((given_up(&world, 1), given_up(&world, 2)), (0, 0));
}
