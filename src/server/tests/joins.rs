use super::*;

fn enter_public() -> Request {
    Request::Enter { room: DEN, door: None }
}

#[test]
fn joiners_come_one_at_a_time_in_their_order() {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Public);
    let mut joiners: Vec<Client> = (2..32).map(|n| world.client(n, &format!("u{n}x"))).collect();
    let asked: Vec<u64> = joiners.iter().map(|c| world.ask(c.session, enter_public())).collect();
    for (n, id) in asked.iter().enumerate() {
        let waiting = asked.iter().zip(&joiners).filter(|(id, c)| {
            world
                .inbox
                .get(&c.session)
                .is_none_or(|i| !i.iter().any(|f| matches!(f, ToClient::Reply { id: r, .. } if r == *id)))
        });
        assert_eq!(waiting.count(), 30 - 1, "only one has the lease");
        let client = &mut joiners[n];
        let entered = world.answer(client.session, *id).expect("its turn");
        let reply = world.finish_join(client, RoomKind::Public, entered);
        assert!(matches!(reply, Reply::Sequenced { .. }), "{reply:?}");
    }
    world.catch(&mut alice);
    for client in &mut joiners {
        world.catch(client);
    }
    let tree = alice.room.as_ref().unwrap().tree_hash().to_vec();
    assert!(joiners.iter().all(|c| c.room.as_ref().unwrap().tree_hash() == tree));
    assert_eq!(alice.members().len(), 31);
}

#[test]
fn a_lease_that_is_not_used_goes_to_the_next() {
    let mut world = World::new();
    let (mut alice, mut bob, mut carol) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "carol"));
    world.create(&mut alice, RoomKind::Public);
    let late = world.request(bob.session, enter_public());
    let asked = world.ask(carol.session, enter_public());
    assert_eq!(world.answer(carol.session, asked), None);
    world.pass(Duration::from_secs(5));
    let entered = world.answer(carol.session, asked).expect("the lease after its deadline");
    let reply = world.finish_join(&mut bob, RoomKind::Public, late);
    assert_eq!(code(&reply), Some(Code::Stale), "the lease is over");
    assert!(matches!(world.finish_join(&mut carol, RoomKind::Public, entered), Reply::Sequenced { .. }));
    world.join(&mut bob, RoomKind::Public);
    let gone = world.ask(bob.session, Request::Ping);
    assert!(world.answer(bob.session, gone).is_some());
}

#[test]
fn who_disconnects_gives_the_lease_free() {
    let mut world = World::new();
    let (mut alice, bob, mut carol) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "carol"));
    world.create(&mut alice, RoomKind::Public);
    world.ask(bob.session, enter_public());
    let asked = world.ask(carol.session, enter_public());
    world.disconnect(&bob);
    let entered = world.answer(carol.session, asked).expect("the lease");
    assert!(matches!(world.finish_join(&mut carol, RoomKind::Public, entered), Reply::Sequenced { .. }));
}

#[test]
fn a_joiner_that_loses_the_epoch_keeps_its_place() {
    let mut world = World::new();
    let (mut alice, mut bob, carol) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "carol"));
    world.create(&mut alice, RoomKind::Private);
    let entered = world.request(bob.session, enter(1));
    let waiting = world.ask(carol.session, enter(1));
    world.commit_pending(&mut alice);
    assert_eq!(code(&world.finish_join(&mut bob, RoomKind::Private, entered)), Some(Code::Stale));
    let hashes = world.checked.len();
    world.join(&mut bob, RoomKind::Private);
    assert_eq!(world.checked.len(), hashes, "the door was open already");
    assert!(world.answer(carol.session, waiting).is_some(), "the next one's turn");
}

#[test]
fn a_stolen_join_commit_or_lease_is_worth_nothing() {
    let mut world = World::new();
    let (mut alice, bob, mallory) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "mallory"));
    world.create(&mut alice, RoomKind::Public);
    let entered = world.request(bob.session, enter_public());
    let (lease, join, _) = bob.prepare_join(RoomKind::Public, entered);
    assert_eq!(world.refused(mallory.session, with_lease(join.clone(), lease)), Code::Stale);
    assert_eq!(world.refused(bob.session, with_lease(join.clone(), lease + 1)), Code::Stale);
    assert_eq!(world.refused(alice.session, join.clone()), Code::NotAllowed, "somebody else's commit");
    assert!(matches!(world.request(bob.session, with_lease(join, lease)), Reply::Sequenced { .. }));
}

#[test]
fn joining_again_in_a_new_process_replaces_the_old_leaf() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    world.join(&mut bob, RoomKind::Private);
    world.reconnect(&mut bob, 77);
    world.join(&mut bob, RoomKind::Private);
    world.catch(&mut alice);
    assert_eq!(alice.members(), ["alice", "bob"]);
    world.say(&mut alice, "welcome back");
    world.catch(&mut bob);
    assert_eq!(bob.texts, ["welcome back"]);
}

#[test]
fn idle_newcomers_cannot_keep_others_out() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Public);
    for n in 50..70 {
        let session = world.connect_from(&user(n), "203.0.113.1:1");
        world.login_as(session, &format!("idle{n}"), n).unwrap();
        world.ask(session, enter_public());
    }
    let asked = world.ask(bob.session, enter_public());
    world.pass(Duration::from_secs(5));
    let entered = world.answer(bob.session, asked).expect("the next lease");
    assert!(matches!(world.finish_join(&mut bob, RoomKind::Public, entered), Reply::Sequenced { .. }));
}

#[test]
fn a_flood_of_commits_is_cut_off_and_others_go_on() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Public);
    world.join(&mut bob, RoomKind::Public);
    world.catch(&mut alice);
    let mut out = commit(alice.room.as_mut().unwrap().self_update().unwrap());
    alice.room.as_mut().unwrap().own_commit_lost().unwrap();
    if let Request::Commit { message, .. } = &mut out {
        let middle = message.len() / 2;
        message[middle] ^= 1;
    }
    let codes: Vec<_> = (0..300).map(|_| world.refused(alice.session, out.clone())).collect();
    assert_eq!(codes[0], Code::Malformed);
    assert_eq!(codes.last(), Some(&Code::TooMany));
    assert!(matches!(world.commit_pending(&mut bob), Reply::Sequenced { .. }));
}

#[test]
fn the_holder_of_a_lease_cannot_have_the_tree_without_end() {
    let mut world = World::new();
    let (mut alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Public);
    let given = (0..1000).filter(|_| matches!(world.request(bob.session, enter_public()), Reply::Entered { .. }));
    assert!(given.count() <= 250);
}

#[test]
fn the_chain_that_a_newcomer_is_given_is_that_of_the_rows() {
    let mut world = World::new();
    let (mut alice, mut bob, carol) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "carol"));
    world.create(&mut alice, RoomKind::Private);
    world.join(&mut bob, RoomKind::Private);
    world.catch(&mut alice);
    world.say(&mut alice, "hello");
    let mut world = world.restart();
    let rows = world.store.page(&DEN, 0).unwrap().rows;
    let chain = rows.iter().fold(crate::wire::log::Chain::start(&DEN), |c, r| c.after(r.seq, r.kind, &r.bytes));
    let newcomer = world.connect(&carol.me.identity);
    world.login_as(newcomer, "carol", 3).unwrap();
    let Reply::Entered { seq, chain: given, .. } = world.request(newcomer, enter(1)) else { panic!() };
    assert_eq!((seq, *given), (rows.len() as u64, chain.0));
}
