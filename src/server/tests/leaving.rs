use super::*;

fn three() -> (World, Client, Client, Client) {
    let mut world = World::new();
    let (mut alice, mut bob, mut carol) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "carol"));
    world.create(&mut alice, RoomKind::Private);
    world.join(&mut bob, RoomKind::Private);
    world.join(&mut carol, RoomKind::Private);
    world.catch(&mut alice);
    world.catch(&mut bob);
    (world, alice, bob, carol)
}

fn told(pushes: &[Push]) -> bool {
    pushes.iter().any(|p| matches!(p, Push::CommitNow { room: DEN, .. }))
}

fn alive(world: &mut World, clients: &[&Client]) {
    for client in clients {
        world.feed(Input::Frame(client.session, ToServer::Alive));
    }
}

#[test]
fn who_leaves_hears_nothing_more_and_a_named_member_commits() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    assert!(matches!(world.leave(&mut carol), Reply::Sequenced { .. }));
    assert!(told(&world.catch(&mut alice)), "the first member is named");
    assert!(!told(&world.catch(&mut bob)));
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    world.say(&mut alice, "she is gone");
    assert!(world.nothing_for(carol.session), "not even the commit");
    world.catch(&mut bob);
    assert_eq!(
        (bob.members(), bob.texts),
        (vec!["alice".to_owned(), "bob".to_owned()], vec!["she is gone".to_owned()])
    );
    assert_eq!(world.refused(carol.session, Request::Log { room: DEN, after: 0 }), Code::NotMember);
}

#[test]
fn a_committer_that_does_not_is_followed_by_the_next() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    world.leave(&mut carol);
    assert!(told(&world.catch(&mut alice)));
    world.pass(Duration::from_secs(2));
    assert!(told(&world.catch(&mut bob)), "after two seconds the next one");
    world.disconnect(&bob);
    assert!(told(&world.catch(&mut alice)), "at once when that one is lost");
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
}

#[test]
fn newcomers_wait_for_a_removal_but_not_for_ever() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    world.leave(&mut carol);
    let mut dave = world.client(4, "dave");
    let asked = world.ask(dave.session, enter(1));
    assert_eq!(world.answer(dave.session, asked), None, "the removal first");
    world.catch(&mut alice);
    world.commit_pending(&mut alice);
    let entered = world.answer(dave.session, asked).expect("now");
    assert!(matches!(world.finish_join(&mut dave, RoomKind::Private, entered), Reply::Sequenced { .. }));
    for client in [&mut alice, &mut bob] {
        world.catch(client);
    }
    world.leave(&mut dave);
    let asked = world.ask(carol.session, enter(1));
    world.pass(Duration::from_secs(6));
    let entered = world.answer(carol.session, asked).expect("nobody commits, so nobody waits");
    assert!(matches!(world.finish_join(&mut carol, RoomKind::Private, entered), Reply::Sequenced { .. }));
    assert_eq!(carol.members(), ["alice", "bob", "carol"], "and took the departure in");
}

#[test]
fn a_member_that_is_lost_is_removed_after_its_grace() {
    let (mut world, mut alice, mut bob, carol) = three();
    world.disconnect(&carol);
    for _ in 0..19 {
        world.pass(Duration::from_secs(30));
        alive(&mut world, &[&alice, &bob]);
    }
    assert!(!told(&world.catch(&mut alice)));
    for _ in 0..2 {
        world.pass(Duration::from_secs(15));
        alive(&mut world, &[&alice, &bob]);
    }
    let pushes = world.pushes(alice.session);
    let reasons: Vec<_> = pushes
        .iter()
        .filter_map(|p| if let Push::Row { row, .. } = p { Some((row.kind, row.reason)) } else { None })
        .collect();
    assert_eq!(reasons, [(RowKind::Proposal, Some(crate::wire::log::RemoveReason::Lost))]);
    assert!(told(&pushes));
    world.catch(&mut bob);
    assert!(matches!(world.commit_pending(&mut bob), Reply::Sequenced { .. }), "any member may");
    assert_eq!(bob.members(), ["alice", "bob"]);
}

#[test]
fn a_removal_that_another_commit_swept_away_is_proposed_anew() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    let ahead = alice.room.as_mut().unwrap().self_update().unwrap();
    world.leave(&mut carol);
    assert!(matches!(world.request(alice.session, commit(ahead)), Reply::Sequenced { .. }));
    alice.room.as_mut().unwrap().own_commit_accepted().unwrap();
    let pushes = world.catch(&mut bob);
    assert_eq!(bob.members().len(), 3, "the commit knew nothing of it");
    let last = world.pushes(alice.session);
    assert!(told(&pushes) || told(&last), "somebody is named again");
    assert!(matches!(world.commit_pending(&mut bob), Reply::Sequenced { .. }));
    assert_eq!(bob.members(), ["alice", "bob"]);
}

#[test]
fn who_is_back_within_its_grace_stays() {
    let (mut world, mut alice, bob, mut carol) = three();
    world.disconnect(&carol);
    world.pass(Duration::from_secs(30));
    world.say(&mut alice, "where are you");
    world.reconnect(&mut carol, 3);
    world.catch_up(&mut carol);
    assert_eq!(carol.texts, ["where are you"]);
    for _ in 0..60 {
        world.pass(Duration::from_secs(15));
        alive(&mut world, &[&alice, &bob, &carol]);
    }
    assert!(world.pushes(alice.session).iter().all(|p| !matches!(p, Push::Row { .. })));
}

#[test]
fn a_member_lost_while_alone_waits_for_somebody_to_commit() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    world.disconnect(&alice);
    world.pass(Duration::from_secs(700));
    world.reconnect(&mut bob, 2);
    world.join(&mut bob, RoomKind::Private);
    assert!(told(&world.catch(&mut bob)), "the newcomer commits the removal first");
    assert!(matches!(world.commit_pending(&mut bob), Reply::Sequenced { .. }));
    assert_eq!(bob.members(), ["bob"]);
}

#[test]
fn the_last_one_leaves_and_the_next_one_finds_an_empty_room() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    assert!(matches!(world.leave(&mut alice), Reply::Sequenced { .. }));
    world.join(&mut bob, RoomKind::Private);
    assert_eq!(bob.members(), ["bob"]);
}

#[test]
fn a_public_room_that_all_have_left_is_listed_as_empty() {
    let mut world = World::new();
    let (mut alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Public);
    assert!(matches!(world.leave(&mut alice), Reply::Sequenced { .. }));
    let Reply::Rooms(rooms) = world.request(bob.session, Request::Rooms) else { panic!() };
    assert_eq!(rooms.iter().map(|r| r.members).collect::<Vec<_>>(), [0]);
}

#[test]
fn who_was_lost_while_alone_just_goes_on() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    world.join(&mut bob, RoomKind::Private);
    world.catch(&mut alice);
    world.disconnect(&alice);
    world.disconnect(&bob);
    world.pass(Duration::from_secs(700));
    world.reconnect(&mut alice, 1);
    world.catch_up(&mut alice);
    assert!(told(&world.catch(&mut alice)), "bob is still away");
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    assert_eq!(alice.members(), ["alice"]);
    world.reconnect(&mut bob, 2);
    assert_eq!(world.refused(bob.session, Request::Log { room: DEN, after: bob.seen }), Code::NotMember);
    world.join(&mut bob, RoomKind::Private);
    assert_eq!(bob.members(), ["alice", "bob"]);
}

#[test]
fn a_member_kicked_by_the_owner_hears_of_it_and_nothing_after() {
    let (mut world, mut alice, mut bob, mut carol) = three();
    let out = alice.room.as_mut().unwrap().remove(&carol.key(), None).unwrap();
    assert!(matches!(world.request(alice.session, commit(out)), Reply::Sequenced { .. }));
    alice.room.as_mut().unwrap().own_commit_accepted().unwrap();
    world.catch(&mut carol);
    assert!(!carol.room.as_ref().unwrap().is_active());
    world.catch(&mut bob);
    world.say(&mut bob, "well");
    assert!(world.nothing_for(carol.session));
    assert_eq!(world.refused(carol.session, Request::Log { room: DEN, after: 0 }), Code::NotMember);
}
