use super::*;

#[test]
fn labels_are_unique_by_their_looks_and_a_private_room_needs_a_door() {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Private);
    for label in ["den", "dеn"] {
        let mut bob = world.client(2, "bob");
        let reply = world.try_create(&mut bob, Id([8; 16]), label, RoomKind::Public);
        assert_eq!(code(&reply), Some(Code::LabelTaken), "{label}");
    }
    let mut bob = world.client(2, "bob");
    assert_eq!(code(&world.try_create(&mut bob, Id([8; 16]), "DEN2", RoomKind::Public)), Some(Code::BadName));
    assert_eq!(code(&world.try_create(&mut bob, DEN, "den2", RoomKind::Public)), Some(Code::NotAllowed));
    let policy = Policy::new(RoomKind::Private, "vault".into(), bob.key(), Some(secret().public()));
    let (_, grant) = Room::create(&bob.me, server().public(), [9; 16], policy, Some(secret())).unwrap();
    let open = Request::CreateRoom { room: Id([9; 16]), door: None, published: published(0, &grant) };
    assert_eq!(world.refused(bob.session, open), Code::NotAllowed);
}

#[test]
fn only_public_rooms_are_listed() {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Private);
    world.try_create(&mut alice, Id([8; 16]), "square", RoomKind::Public);
    let Reply::Rooms(rooms) = world.request(alice.session, Request::Rooms) else { panic!() };
    let seen: Vec<_> = rooms.iter().map(|r| (r.room.clone(), r.members)).collect();
    assert_eq!(seen, [(full("square"), 1)]);
}

#[test]
fn nobody_has_rooms_listed_without_end() {
    let mut world = World::new();
    let (alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    for _ in 0..crate::limits::ROOM_LISTS {
        assert!(matches!(world.request(alice.session, Request::Rooms), Reply::Rooms(_)));
    }
    assert_eq!(world.refused(alice.session, Request::Rooms), Code::TooMany);
    assert!(matches!(world.request(bob.session, Request::Rooms), Reply::Rooms(_)));
    world.pass(crate::limits::DOOR_WINDOW);
    let alice = world.client(1, "alice");
    assert!(matches!(world.request(alice.session, Request::Rooms), Reply::Rooms(_)));
}

#[test]
fn many_keys_of_one_address_do_not_get_many_times_as_many_commits() {
    let mut world = World::new();
    let (keys, mut judged) = (u8::try_from(crate::limits::BY_ADDRESS).unwrap() + 3, 0);
    let own = |seed: u8| Id([seed; 16]);
    for seed in 1..=keys {
        let mut client = world.client(seed, &format!("c{seed}x"));
        world.try_create(&mut client, own(seed), &format!("r{seed}x"), RoomKind::Public);
        for _ in 0..=crate::limits::COMMITS {
            let nonsense = Request::Leave { room: own(seed), message: vec![1].into() };
            judged += u32::from(world.refused(client.session, nonsense) != Code::TooMany);
        }
    }
    assert_eq!(judged, crate::limits::BY_ADDRESS * crate::limits::COMMITS);
    let session = world.connect_from(&user(90), "198.51.100.1:1");
    world.login_as(session, "elsewhere", 1).unwrap();
    let lease = Request::Commit { room: DEN, lease: None, message: vec![].into(), published: nothing(), door: None };
    assert_eq!(world.refused(session, lease), Code::NotMember, "who comes from elsewhere is judged");
}

fn nothing() -> Published {
    Published { epoch: 0, group_info: vec![].into(), tree: vec![].into(), vouch: None }
}

#[test]
fn messages_reach_all_others_in_order_and_their_sender_gets_a_number() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    world.join(&mut bob, RoomKind::Private);
    world.catch(&mut alice);
    assert!(matches!(world.say(&mut alice, "one"), Reply::Sequenced { seq: 2, .. }));
    world.catch(&mut bob);
    assert!(matches!(world.say(&mut bob, "two"), Reply::Sequenced { seq: 3, .. }));
    world.catch(&mut alice);
    assert_eq!((alice.texts, bob.texts), (vec!["two".to_owned()], vec!["one".to_owned()]));
}

#[test]
fn who_is_not_in_a_room_gets_nothing_from_it() {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Private);
    let mallory = world.client(2, "mallory");
    let message = alice.room.as_mut().unwrap().seal(b"x").unwrap();
    for room in [DEN, Id([99; 16])] {
        let post = Request::Post { room, message: message.clone().into() };
        assert_eq!(world.refused(mallory.session, post), Code::NotMember);
        assert_eq!(world.refused(mallory.session, Request::Log { room, after: 0 }), Code::NotMember);
        let leave = Request::Leave { room, message: Vec::new().into() };
        assert_eq!(world.refused(mallory.session, leave), Code::NotMember);
        assert_eq!(world.refused(mallory.session, Request::NoState { room }), Code::NotMember);
    }
    let mut outsider = world.client(3, "outsider");
    let reply = world.request(outsider.session, enter(1));
    let (_, forged, _) = outsider.prepare_join(RoomKind::Private, reply);
    assert_eq!(world.refused(mallory.session, forged), Code::NotMember, "no lease, no join");
    outsider.room = None;
}

#[test]
fn identical_bytes_are_logged_once_even_across_a_commit_and_a_restart() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Public);
    world.join(&mut bob, RoomKind::Public);
    world.catch(&mut alice);
    let message = alice.room.as_mut().unwrap().seal(b"once").unwrap();
    let first = world.post(&mut alice, message.clone());
    assert_eq!(world.post(&mut alice, message.clone()), first);
    world.catch(&mut bob);
    assert!(matches!(world.commit_pending(&mut bob), Reply::Sequenced { seq: 3, .. }));
    world.catch(&mut alice);
    assert_eq!(world.post(&mut alice, message.clone()), first);
    let mut world = world.restart();
    world.reconnect(&mut alice, 1);
    assert_eq!(world.post(&mut alice, message), first);
    world.reconnect(&mut bob, 2);
    world.catch_up(&mut bob);
    assert_eq!(bob.texts, ["once"]);
}

#[test]
fn a_message_of_another_epoch_is_stale_and_of_another_kind_refused() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Public);
    let early = alice.room.as_mut().unwrap().seal(b"early").unwrap();
    world.join(&mut bob, RoomKind::Public);
    let Reply::Refused(refusal) = world.post(&mut alice, early) else { panic!() };
    assert_eq!((refusal.code, refusal.hint.as_deref()), (Code::Stale, Some("1")));
    for garbage in [vec![], vec![0; 100], b"hello in the clear".to_vec()] {
        assert_eq!(code(&world.post(&mut bob, garbage)), Some(Code::Malformed));
    }
    let long = vec![0; crate::limits::SEALED_MAX + 1];
    assert_eq!(code(&world.post(&mut bob, long)), Some(Code::TooLarge));
}

#[test]
fn of_two_commits_in_one_epoch_the_second_is_stale_and_nothing_breaks() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    world.join(&mut bob, RoomKind::Private);
    world.catch(&mut alice);
    let late = alice.room.as_mut().unwrap().self_update().unwrap();
    assert!(matches!(world.commit_pending(&mut bob), Reply::Sequenced { .. }));
    assert_eq!(world.refused(alice.session, commit(late)), Code::Stale);
    alice.room.as_mut().unwrap().own_commit_lost().unwrap();
    world.catch(&mut alice);
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    world.catch(&mut bob);
    world.say(&mut bob, "still here");
    world.catch(&mut alice);
    assert_eq!(alice.texts, ["still here"]);
}

#[test]
fn catching_up_comes_in_pages_and_the_last_one_subscribes() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Public);
    world.join(&mut bob, RoomKind::Public);
    world.catch(&mut alice);
    world.disconnect(&bob);
    let many = crate::limits::LOG_PAGE_ROWS + 10;
    for n in 0..many {
        world.say(&mut alice, &n.to_string());
    }
    world.reconnect(&mut bob, 2);
    let first = Request::Log { room: DEN, after: bob.seen };
    let Reply::Log { rows, live: false } = world.request(bob.session, first) else { panic!() };
    assert_eq!(rows.len(), crate::limits::LOG_PAGE_ROWS);
    world.say(&mut alice, "not yet");
    assert!(world.pushes(bob.session).is_empty());
    world.catch_up(&mut bob);
    assert_eq!(bob.texts.len(), many + 1);
    world.say(&mut alice, "now");
    world.catch(&mut bob);
    assert_eq!(bob.texts.last().map(String::as_str), Some("now"));
}

#[test]
fn below_the_bound_of_the_log_is_a_gap() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Public);
    world.join(&mut bob, RoomKind::Public);
    world.catch(&mut alice);
    world.disconnect(&bob);
    let text = "x".repeat(crate::limits::TEXT_MAX);
    for _ in 0..100 {
        world.say(&mut alice, &text);
        world.feed(Input::Frame(alice.session, ToServer::Alive));
    }
    world.pass(Duration::from_secs(61));
    world.reconnect(&mut bob, 2);
    let Reply::Refused(gap) = world.request(bob.session, Request::Log { room: DEN, after: bob.seen }) else { panic!() };
    assert_eq!(gap.code, Code::Gap);
    let first: u64 = gap.hint.unwrap().parse().unwrap();
    let again = Request::Log { room: DEN, after: first - 1 };
    assert!(matches!(world.request(bob.session, again), Reply::Log { rows, .. } if rows[0].seq == first));
    let ahead = Request::Log { room: DEN, after: 1_000_000 };
    assert_eq!(world.refused(bob.session, ahead), Code::Gap);
}

#[test]
fn rows_that_are_too_old_are_given_up() {
    let config = Config { room_ttl: 2 * config().log_age, ..config() };
    let mut world = World::with(config.clone(), ServerStore::in_memory().unwrap());
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Private);
    world.say(&mut alice, "old");
    world.pass(config.log_age + Duration::from_secs(2 * 3600));
    assert_eq!(world.store.page(&DEN, 0).unwrap().first, 2);
}

#[test]
fn a_room_goes_away_when_nobody_has_been_in_it_for_long() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    world.try_create(&mut bob, Id([8; 16]), "square", RoomKind::Public);
    world.disconnect(&alice);
    world.disconnect(&bob);
    world.pass(Duration::from_secs(3000));
    assert_eq!(world.core.room_count(), 2);
    world.pass(Duration::from_secs(700));
    assert_eq!(world.core.room_count(), 0);
    assert!(world.log.contains(&LogEvent::RoomExpired { label: name("square") }));
    assert!(world.log.contains(&LogEvent::RoomExpired { label: name("den") }), "a private one too");
    let mut world = world.restart();
    let mut bob = world.client(2, "bob");
    let again = world.try_create(&mut bob, Id([8; 16]), "square", RoomKind::Public);
    assert!(matches!(again, Reply::Sequenced { .. }), "its label is free again");
    assert_eq!(world.core.room_count(), 1);
}

#[test]
fn other_times_to_keep_things_hold_at_once_and_nobody_is_dropped() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    world.try_create(&mut bob, Id([8; 16]), "square", RoomKind::Public);
    world.say(&mut alice, "old");
    world.disconnect(&bob);
    world.pass(Duration::from_secs(20));
    assert_eq!((world.core.room_count(), world.store.page(&DEN, 0).unwrap().first), (2, 1));
    let ten = Duration::from_secs(10);
    world.feed(Input::Retain(Retention { log_age: ten, log_bytes: config().log_bytes, room_ttl: ten }));
    assert_eq!((world.core.room_count(), world.store.page(&DEN, 0).unwrap().first), (1, 2));
    assert_eq!(world.core.logged_in(), 1);
}

#[test]
fn a_room_with_somebody_in_it_stays() {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Private);
    for _ in 0..2 * config().room_ttl.as_secs() / 10 {
        world.pass(Duration::from_secs(10));
        world.feed(Input::Frame(alice.session, ToServer::Alive));
    }
    assert_eq!(world.core.room_count(), 1);
}

#[test]
fn the_server_has_so_many_rooms_and_names_and_says_so() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.core.bounds.rooms = 1;
    world.core.bounds.names = 2;
    world.create(&mut alice, RoomKind::Private);
    let Reply::Refused(refusal) = world.try_create(&mut bob, Id([8; 16]), "square", RoomKind::Public) else { panic!() };
    assert_eq!((refusal.code, &*refusal.message), (Code::TooMany, "the server has as many rooms as it may have"));
    let session = world.connect(&user(3));
    let refusal = world.login_as(session, "carol", 3).unwrap_err();
    assert_eq!((refusal.code, &*refusal.message), (Code::TooMany, "the server has as many names as it may have"));
    let again = world.connect(&user(2));
    assert!(world.login_as(again, "bob", 2).is_ok(), "who has a name comes in");
    world.disconnect(&alice);
    world.pass(Duration::from_secs(3700));
    let mut bob = world.client(2, "bob");
    let reply = world.try_create(&mut bob, Id([8; 16]), "square", RoomKind::Public);
    assert!(matches!(reply, Reply::Sequenced { .. }), "an expired room makes room");
}

#[test]
fn one_address_cannot_take_all_names_in_a_day() {
    let mut world = World::new();
    let mut taken = 0;
    for minute in 0..40u32 {
        for n in 0..crate::limits::NEW_THINGS {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(u64::from(minute) << 32 | u64::from(n)).to_be_bytes());
            let session = world.connect(&Identity::from_seed(&seed));
            taken += u32::from(world.login_as(session, &format!("n{minute}x{n}x"), 1).is_ok());
            world.feed(Input::Disconnected(session));
        }
        world.pass(Duration::from_secs(61));
    }
    assert_eq!(taken, crate::limits::NEW_NAMES);
}

#[test]
fn many_rooms_together_do_not_fill_the_disk_and_the_largest_logs_give_way() {
    let mut world = World::new();
    world.core.bounds.logs_bytes = 1 << 20;
    let mut quiet = world.client(1, "quiet");
    world.create(&mut quiet, RoomKind::Public);
    world.say(&mut quiet, "keep this");
    let rooms: Vec<RoomId> = (50..55).map(|n| Id([n; 16])).collect();
    for (n, room) in rooms.iter().enumerate() {
        let mut loud = world.client(u8::try_from(n).unwrap() + 2, &format!("loud{n}x"));
        world.try_create(&mut loud, *room, &format!("r{n}x"), RoomKind::Public);
        for _ in 0..15 {
            let message = loud.room.as_mut().unwrap().seal(&[7; 60_000]).unwrap().into();
            let reply = world.request(loud.session, Request::Post { room: *room, message });
            assert!(matches!(reply, Reply::Sequenced { .. }), "{reply:?}");
        }
    }
    let kept = |room: &RoomId| 16 - world.store.page(room, 0).unwrap().first;
    let all: u64 = rooms.iter().map(kept).sum();
    assert!((8..=18).contains(&all), "{all} rows of 60,000 bytes where a megabyte may be kept in all");
    assert_eq!(world.store.page(&DEN, 0).unwrap().rows.len(), 1, "a small log is left alone");
}

#[test]
fn one_may_be_in_so_many_rooms_only() {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    for n in 0..u8::try_from(crate::limits::ROOMS_PER_CLIENT).unwrap() {
        world.try_create(&mut alice, Id([n + 50; 16]), &format!("r{n}x"), RoomKind::Public);
    }
    let mut bob = world.client(2, "bob");
    world.create(&mut bob, RoomKind::Public);
    assert_eq!(world.refused(alice.session, Request::Enter { room: DEN, door: None }), Code::TooMany);
    assert_eq!(code(&world.try_create(&mut alice, Id([1; 16]), "one", RoomKind::Public)), Some(Code::TooMany));
}

#[test]
fn a_fast_writer_does_not_grow_the_log_beyond_its_bound_until_a_timer_comes() {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Public);
    for _ in 0..40 {
        let reply = world.say(&mut alice, &"x".repeat(60_000));
        assert!(matches!(reply, Reply::Sequenced { .. }), "{reply:?}");
    }
    let kept = 41 - world.store.page(&DEN, 0).unwrap().first;
    assert!((16..=20).contains(&kept), "{kept} rows of 60,000 bytes where a megabyte may be kept");
}
