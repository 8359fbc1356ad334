use super::*;

fn private() -> (World, Client) {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Private);
    (world, alice)
}

#[test]
fn a_wrong_password_and_an_unknown_room_are_one_answer_for_one_price() {
    let (mut world, _) = private();
    let bob = world.client(2, "bob");
    let Reply::Resolved { room: unknown, private: true } =
        world.request(bob.session, Request::Resolve { label: "nowhere".into() })
    else {
        panic!()
    };
    let wrong = world.request(bob.session, enter(2));
    let missing = world.request(bob.session, Request::Enter { room: unknown, door: Some(door(2)) });
    assert_eq!(wrong, missing);
    assert_eq!(code(&wrong), Some(Code::WrongRoomOrPassword));
    assert_eq!(world.checked.len(), 2, "both cost a hash");
    assert_eq!(world.checked.last().map(String::as_str), Some("decoy"));
    let no_door = |room| Request::Enter { room, door: None };
    assert_eq!(world.request(bob.session, no_door(DEN)), world.request(bob.session, no_door(unknown)));
}

#[test]
fn made_up_ids_are_stable_and_survive_a_restart() {
    let (mut world, _) = private();
    let bob = world.client(2, "bob");
    let ask = |label: &str| Request::Resolve { label: label.into() };
    let first = world.request(bob.session, ask("nowhere"));
    assert_eq!(world.request(bob.session, ask("NoWhere")), first);
    assert_ne!(world.request(bob.session, ask("elsewhere")), first);
    assert_eq!(world.request(bob.session, ask("den")), Reply::Resolved { room: DEN, private: true });
    let mut world = world.restart();
    let bob = world.client(2, "bob");
    assert_eq!(world.request(bob.session, ask("nowhere")), first);
}

#[test]
fn guesses_are_limited_by_address_and_key_and_never_by_room() {
    let (mut world, _) = private();
    let mut guesses = 0;
    for seed in 10..20 {
        let mallory = world.connect_from(&user(seed), &format!("[2001:db8::{seed:x}]:1"));
        world.login_as(mallory, &format!("m{seed}x"), 1).unwrap();
        for _ in 0..10 {
            guesses += usize::from(world.refused(mallory, enter(2)) == Code::WrongRoomOrPassword);
        }
    }
    assert_eq!(guesses, 20, "one IPv6 network, many keys");
    let mut bob = world.client(2, "bob");
    world.join(&mut bob, RoomKind::Private);
    let roaming: Vec<_> = (0..30)
        .map(|n| {
            let session = world.connect_from(&user(50), &format!("198.51.100.{n}:1"));
            world.login_as(session, "roaming", 1).unwrap();
            world.refused(session, enter(2))
        })
        .collect();
    assert_eq!(roaming.iter().filter(|c| **c == Code::WrongRoomOrPassword).count(), 20, "one key, many addresses");
    world.pass(Duration::from_secs(61));
    let session = world.connect_from(&user(50), "198.51.100.1:1");
    world.login_as(session, "roaming", 1).unwrap();
    assert_eq!(world.refused(session, enter(2)), Code::WrongRoomOrPassword);
}

/// So many hashes of one source wait that the queue is full; each key's session and its last request.
fn flood(world: &mut World, from: &str) -> Vec<(SessionId, u64)> {
    let mut asked = Vec::new();
    for seed in 61..100 {
        let session = world.connect_from(&user(seed), from);
        world.login_as(session, &format!("f{seed}x"), 1).unwrap();
        (0..3).for_each(|_| asked.push((session, world.ask(session, enter(2)))));
    }
    asked
}

fn too_many_for(world: &mut World, asked: &[(SessionId, u64)]) -> usize {
    let refused = |world: &mut World, (session, id)| world.answer(session, id).and_then(|r| code(&r));
    asked.iter().filter(|a| refused(world, **a) == Some(Code::TooMany)).count()
}

#[test]
fn hashing_is_bounded_as_a_whole_and_a_flood_delays_itself() {
    let (mut world, _) = private();
    world.hold_hashes = true;
    let key = world.connect_from(&user(60), "203.0.113.1:1");
    world.login_as(key, "flood", 1).unwrap();
    let asked: Vec<_> = (0..10).map(|_| (key, world.ask(key, enter(2)))).collect();
    assert_eq!(world.hashes.len(), crate::limits::HASHES_RUNNING);
    let refused = too_many_for(&mut world, &asked);
    assert_eq!(refused, 10 - crate::limits::HASHES_PER_KEY, "one key holds a few places only");
    let asked = flood(&mut world, "203.0.113.1:1");
    let places = crate::limits::HASHES_WAITING + crate::limits::HASHES_RUNNING - crate::limits::HASHES_PER_KEY;
    assert_eq!(too_many_for(&mut world, &asked), asked.len() - places, "the queue ends");
    let bob = world.client(2, "bob");
    let asked = world.ask(bob.session, enter(1));
    // Both that run are the flood's; its first failure puts the newcomer before the rest.
    for _ in 0..2 {
        let next = world.hashes.pop_front().unwrap();
        world.feed(next);
    }
    let last = world.hashes.pop_front().unwrap();
    world.feed(last);
    assert!(matches!(world.answer(bob.session, asked), Some(Reply::Entered { .. })), "who has not failed goes first");
}

#[test]
fn a_source_that_fills_the_queue_through_many_keys_keeps_nobody_else_out() {
    let (mut world, _) = private();
    world.hold_hashes = true;
    let asked = flood(&mut world, "203.0.113.1:1");
    let before = too_many_for(&mut world, &asked);
    let bob = world.client(2, "bob");
    let request = world.ask(bob.session, enter(1));
    assert!(world.answer(bob.session, request).is_none(), "it waits");
    assert_eq!(too_many_for(&mut world, &asked), 1, "the flood's newest made room; {before} were refused at once");
    world.hold_hashes = false;
    world.drain();
    assert!(matches!(world.answer(bob.session, request), Some(Reply::Entered { .. })));
    assert_eq!(world.checked.len(), crate::limits::HASHES_WAITING + crate::limits::HASHES_RUNNING);
}

#[test]
fn a_rotation_closes_the_old_door_in_the_commit_itself() {
    let (mut world, mut alice) = private();
    let next = Identity::from_seed(&[201; 32]);
    let out = alice.room.as_mut().unwrap().rotate(next).unwrap();
    let Request::Commit { room, lease, message, published, .. } = commit(out) else { panic!() };
    let rotation = |door| Request::Commit { room, lease, message: message.clone(), published: published.clone(), door };
    assert_eq!(world.refused(alice.session, rotation(None)), Code::NotAllowed);
    let reply = world.request(alice.session, rotation(Some(door(9))));
    assert!(matches!(reply, Reply::Sequenced { seq: 1, .. }));
    let bob = world.client(2, "bob");
    assert_eq!(world.refused(bob.session, enter(1)), Code::WrongRoomOrPassword);
    assert!(matches!(world.request(bob.session, enter(9)), Reply::Entered { .. }));
    let mut world = world.restart();
    let bob = world.client(2, "bob");
    assert_eq!(world.refused(bob.session, enter(1)), Code::WrongRoomOrPassword);
    assert!(matches!(world.request(bob.session, enter(9)), Reply::Entered { .. }));
}
