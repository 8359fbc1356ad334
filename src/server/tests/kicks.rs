//! Kicks as the home server makes them come true, and what operators do to rooms as a whole.

use super::*;
use crate::group::Governing;
use crate::wire::admin::{Failure, Wish};
use crate::wire::log::RemoveReason;

/// Bob's room, whose first session is alice's; carol is in it too.
fn bobs() -> (World, Client, Client, Client) {
    let mut world = World::new();
    let (mut alice, mut bob, mut carol) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "carol"));
    world.create(&mut bob, RoomKind::Private);
    world.join(&mut alice, RoomKind::Private);
    world.join(&mut carol, RoomKind::Private);
    world.catch(&mut alice);
    world.catch(&mut bob);
    (world, alice, bob, carol)
}

fn kick(world: &mut World, name: &str) {
    let ask = Ask::Kick { name: name.into(), room: Some("den".into()), reason: None };
    assert!(matches!(world.owner_asks(ask), Answer::Done { .. }));
}

fn named(pushes: &[Push]) -> bool {
    pushes.iter().any(|p| matches!(p, Push::CommitNow { room: DEN, .. }))
}

/// The owner's commit, with the new secret's door key where it changes the secret.
fn govern(world: &mut World, owner: &mut Client, act: Governing) -> Reply {
    let with_door = act.join.is_some();
    let out = owner.room.as_mut().unwrap().govern(act).unwrap();
    let Request::Commit { room, lease, message, published, .. } = commit(out) else { panic!() };
    let door = with_door.then(|| door(2));
    let reply = world.request(owner.session, Request::Commit { room, lease, message, published, door });
    if let Reply::Sequenced { seq, .. } = reply {
        world.receive_below(owner, seq);
        owner.room.as_mut().unwrap().own_commit_accepted().unwrap();
        owner.seen = seq;
    }
    reply
}

fn new_secret() -> Identity {
    Identity::from_seed(&[201; 32])
}

fn failure(answer: &Answer) -> Option<Failure> {
    match answer {
        Answer::Failed { code, .. } => Some(*code),
        _ => None,
    }
}

#[test]
fn the_owner_is_named_first_then_moderators_then_the_others() {
    let (mut world, mut alice, mut bob, _carol) = bobs();
    let mut dave = world.client(4, "dave");
    world.join(&mut dave, RoomKind::Private);
    for client in [&mut alice, &mut bob] {
        world.catch(client);
    }
    let policy = bob.room.as_ref().unwrap().policy().with_moderators([dave.key()]);
    govern(&mut world, &mut bob, Governing { policy: Some(policy), ..Governing::default() });
    kick(&mut world, "carol");
    assert!(named(&world.catch(&mut bob)) && !named(&world.catch(&mut alice)) && !named(&world.catch(&mut dave)));
    world.pass(Duration::from_secs(2));
    assert!(named(&world.catch(&mut dave)) && !named(&world.catch(&mut alice)));
    world.pass(Duration::from_secs(2));
    assert!(named(&world.catch(&mut alice)));
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    assert_eq!(alice.members(), ["bob", "alice", "dave"]);
}

#[test]
fn nobody_comes_in_while_a_kick_stands_and_its_reason_is_in_the_log() {
    let (mut world, mut alice, mut bob, carol) = bobs();
    kick(&mut world, "carol");
    let mut dave = world.client(4, "dave");
    let asked = world.ask(dave.session, enter(1));
    for _ in 0..3 {
        world.pass(Duration::from_secs(2));
        assert!(world.answer(dave.session, asked).is_none());
    }
    for client in [&alice, &carol] {
        let reasons: Vec<_> = world.inbox[&client.session]
            .iter()
            .filter_map(|f| if let ToClient::Push(Push::Row { row, .. }) = f { row.reason } else { None })
            .collect();
        assert_eq!(reasons, [RemoveReason::Kicked], "who is kicked hears why too");
    }
    world.catch(&mut alice);
    world.commit_pending(&mut alice);
    let entered = world.answer(dave.session, asked).expect("now");
    assert!(matches!(world.finish_join(&mut dave, RoomKind::Private, entered), Reply::Sequenced { .. }));
    world.catch(&mut bob);
}

#[test]
fn who_is_kicked_neither_speaks_nor_sweeps_its_removal_away() {
    let (mut world, mut alice, mut bob, mut carol) = bobs();
    // A lease from before the kick.
    let entered = world.request(carol.session, enter(1));
    let words = carol.room.as_mut().unwrap().seal(b"one more thing").unwrap();
    kick(&mut world, "carol");
    assert_eq!(world.refused(carol.session, Request::Post { room: DEN, message: words.into() }), Code::NotMember);
    let (lease, commit, _) = carol.prepare_join(RoomKind::Private, entered);
    assert_eq!(world.refused(carol.session, with_lease(commit, lease)), Code::Stale);
    assert_eq!(world.refused(carol.session, enter(1)), Code::NotAllowed, "nor gets another");
    world.catch(&mut bob);
    world.commit_pending(&mut bob);
    world.catch(&mut alice);
    assert_eq!(alice.members(), ["bob", "alice"]);
}

#[test]
fn a_kicked_key_stays_out_until_the_secret_is_changed() {
    let (mut world, mut alice, mut bob, carol) = bobs();
    kick(&mut world, "carol");
    world.catch(&mut alice);
    world.commit_pending(&mut alice);
    world.catch(&mut bob);
    assert_eq!(world.refused(carol.session, enter(1)), Code::NotAllowed, "the old secret is still in force");
    let reply = govern(&mut world, &mut bob, Governing { join: Some(new_secret()), ..Governing::default() });
    assert!(matches!(reply, Reply::Sequenced { .. }));
    assert_eq!(world.refused(carol.session, enter(1)), Code::WrongRoomOrPassword);
    assert!(matches!(world.request(carol.session, enter(2)), Reply::Entered { .. }), "a kick is no ban");
}

#[test]
fn the_owners_commit_removes_and_changes_the_secret_in_one_frame() {
    let (mut world, mut alice, mut bob, carol) = bobs();
    let act = Governing { remove: Some(carol.key()), join: Some(new_secret()), policy: None };
    assert!(matches!(govern(&mut world, &mut bob, act), Reply::Sequenced { .. }));
    assert_eq!(world.refused(carol.session, enter(1)), Code::WrongRoomOrPassword);
    world.catch(&mut alice);
    assert!(!alice.room.as_ref().unwrap().holds_join_key());
    // Killed right after: door and join key are those of the commit.
    let mut world = world.restart();
    world.reconnect(&mut bob, 2);
    world.reconnect(&mut alice, 1);
    let mut mallory = world.client(9, "mallory");
    assert_eq!(world.refused(mallory.session, enter(1)), Code::WrongRoomOrPassword);
    let entered = world.request(mallory.session, enter(2));
    let Reply::Entered { published, .. } = &entered else { panic!() };
    assert!(published.vouch.is_some());
    mallory.room = None;
}

#[test]
fn owner_and_operator_kick_at_once() {
    let (mut world, mut alice, mut bob, carol) = bobs();
    // The owner's commit is under way when the operator's kick comes first.
    let act = Governing { remove: Some(carol.key()), join: Some(new_secret()), policy: None };
    let out = bob.room.as_mut().unwrap().govern(act).unwrap();
    kick(&mut world, "carol");
    let Request::Commit { room, lease, message, published, .. } = commit(out) else { panic!() };
    let asked = Request::Commit { room, lease, message, published, door: Some(door(2)) };
    assert!(matches!(world.request(bob.session, asked), Reply::Sequenced { .. }));
    world.catch(&mut alice);
    assert_eq!(alice.members(), ["bob", "alice"]);
    assert!(!named(&world.pushes(alice.session)), "nothing is left to do");
    world.pass(Duration::from_secs(30));
    assert!(!named(&world.pushes(alice.session)));
}

#[test]
fn two_kicks_at_once_are_one_commit_or_two_but_both_are_out() {
    let (mut world, mut alice, mut bob, _carol) = bobs();
    let mut dave = world.client(4, "dave");
    world.join(&mut dave, RoomKind::Private);
    for client in [&mut alice, &mut bob] {
        world.catch(client);
    }
    kick(&mut world, "carol");
    kick(&mut world, "dave");
    world.catch(&mut bob);
    world.commit_pending(&mut bob);
    world.catch(&mut alice);
    assert_eq!(alice.members(), ["bob", "alice"]);
}

#[test]
fn a_kick_with_nobody_there_to_commit_it_outlives_a_restart() {
    let (mut world, mut alice, bob, carol) = bobs();
    world.disconnect(&alice);
    world.disconnect(&bob);
    kick(&mut world, "carol");
    let mut world = world.restart();
    let mut back = world.client(3, "carol");
    back.room = carol.room;
    let words = back.room.as_mut().unwrap().seal(b"still here").unwrap();
    assert_eq!(world.refused(back.session, Request::Post { room: DEN, message: words.into() }), Code::NotMember);
    world.reconnect(&mut alice, 1);
    world.catch_up(&mut alice);
    assert!(named(&world.catch(&mut alice)));
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    assert_eq!(alice.members(), ["bob", "alice"]);
}

#[test]
fn bans_and_mutes_of_an_owner_hold_at_the_server() {
    let (mut world, mut alice, mut bob, carol) = bobs();
    let policy = bob.room.as_ref().unwrap().policy().with_banned([carol.key()]).with_muted([alice.key()]);
    let act = Governing { remove: Some(carol.key()), policy: Some(policy), join: None };
    assert!(matches!(govern(&mut world, &mut bob, act), Reply::Sequenced { .. }));
    world.catch(&mut alice);
    assert!(matches!(world.say(&mut alice, "hm"), Reply::Refused(refusal) if refusal.code == Code::Muted));
    assert_eq!(world.refused(carol.session, enter(1)), Code::Banned);
    assert_eq!(world.refused(carol.session, enter(3)), Code::WrongRoomOrPassword, "told behind the door only");
}

#[test]
fn a_locked_room_tells_strangers_nothing_and_lets_members_back() {
    let (mut world, _alice, mut bob, carol) = bobs();
    let mut dave = world.client(4, "dave");
    let waiting = world.request(dave.session, enter(1));
    let lock = |room: &str| Ask::Lock { room: room.into() };
    assert!(matches!(world.owner_asks(lock("den@s1")), Answer::Done { .. }));
    assert_eq!(failure(&world.owner_asks(lock("den"))), Some(Failure::Already));
    assert_eq!(failure(&world.owner_asks(lock("nowhere"))), Some(Failure::UnknownRoom));
    assert_eq!(failure(&world.owner_asks(lock("den@s9"))), Some(Failure::UnknownRoom));
    // A lease from before is worth nothing.
    let refused = world.finish_join(&mut dave, RoomKind::Private, waiting);
    assert_eq!(code(&refused), Some(Code::Stale));
    assert_eq!(world.refused(dave.session, enter(3)), Code::WrongRoomOrPassword);
    assert_eq!(world.refused(dave.session, enter(1)), Code::Locked);
    let mut world = world.restart();
    let mut dave = world.client(4, "dave");
    assert_eq!(world.refused(dave.session, enter(1)), Code::Locked);
    world.reconnect(&mut bob, 2);
    world.catch_up(&mut bob);
    let mut carol_again = world.client(3, "carol");
    world.join(&mut carol_again, RoomKind::Private);
    assert_eq!(carol_again.members().len(), carol.members().len(), "in place of her own leaf");
    assert!(matches!(world.owner_asks(Ask::Unlock { room: "den".into() }), Answer::Done { .. }));
    world.join(&mut dave, RoomKind::Private);
    assert_eq!(failure(&world.owner_asks(Ask::Unlock { room: "den".into() })), Some(Failure::Already));
}

#[test]
fn a_closed_room_is_gone_with_its_log_and_its_members_are_told() {
    let (mut world, alice, bob, carol) = bobs();
    world.disconnect(&carol);
    assert!(matches!(world.owner_asks(Ask::Lock { room: "den".into() }), Answer::Done { .. }));
    let Answer::Done { notes, .. } = world.owner_asks(Ask::Close { room: "den".into(), reason: Some("spam".into()) })
    else {
        panic!()
    };
    assert_eq!(notes.len(), 1, "one is away");
    for client in [&alice, &bob] {
        let closed = Push::RoomClosed { room: DEN, reason: Some("spam".into()) };
        assert!(world.pushes(client.session).contains(&closed));
        assert_eq!(world.refused(client.session, Request::Log { room: DEN, after: 0 }), Code::NotMember);
    }
    assert_eq!(failure(&world.owner_asks(Ask::Room { room: "den".into() })), Some(Failure::UnknownRoom));
    let loaded = world.store.load().unwrap();
    assert!(loaded.rooms.is_empty() && loaded.register.is_empty(), "the lock is gone too");
    assert_eq!(world.store.page(&DEN, 0).unwrap().rows, []);
    let mut world = world.restart();
    let mut dave = world.client(4, "dave");
    world.create(&mut dave, RoomKind::Public);
}

#[test]
fn rooms_are_shown_with_who_is_in_them() {
    let (mut world, _alice, bob, carol) = bobs();
    world.disconnect(&carol);
    let Answer::Room(room) = world.owner_asks(Ask::Room { room: "den".into() }) else { panic!() };
    assert_eq!((room.room.as_str(), room.private, room.locked), ("den@s1", true, false));
    assert_eq!((room.members, room.present, room.owner.as_str()), (3, 2, "bob@s1"));
    assert_eq!(room.names, ["bob@s1", "alice@s1", "carol@s1"]);
    let mut named = bob;
    for n in 0..u8::try_from(crate::limits::ROOMS_PER_CLIENT).unwrap() - 1 {
        let reply = world.try_create(&mut named, Id([100 + n; 16]), &format!("room-{n:02}"), RoomKind::Public);
        assert!(matches!(reply, Reply::Sequenced { .. }));
    }
    let Answer::Rooms(page) = world.owner_asks(Ask::Rooms { after: Some("room-20".into()) }) else { panic!() };
    let labels: Vec<_> = page.rows.iter().map(|row| row.room.clone()).collect();
    assert_eq!((labels.first().unwrap().as_str(), labels.len()), ("room-21@s1", 10));
    assert!(page.rows.iter().all(|row| row.names.is_empty()) && page.next.is_none());
}

#[test]
fn an_owner_is_asked_now_or_when_it_is_back() {
    let (mut world, alice, mut bob, _carol) = bobs();
    let ask = |wish| Ask::AskOwner { room: "den".into(), wish };
    let wished = Push::Wish { room: DEN, wish: Wish::NewSecret };
    assert!(matches!(world.owner_asks(ask(Wish::NewSecret)), Answer::Done { notes, .. } if notes.is_empty()));
    assert!(world.pushes(bob.session).contains(&wished));
    world.disconnect(&bob);
    let hand_over = Wish::HandOver("alice".into());
    for wish in [Wish::NewSecret, Wish::NewSecret, hand_over.clone()] {
        assert!(matches!(world.owner_asks(ask(wish)), Answer::Done { notes, .. } if notes.len() == 1));
    }
    world.client(4, "dave");
    assert_eq!(failure(&world.owner_asks(ask(Wish::HandOver("dave".into())))), Some(Failure::BadValue));
    assert_eq!(failure(&world.owner_asks(ask(Wish::HandOver("bob".into())))), Some(Failure::Already));
    assert_eq!(failure(&world.owner_asks(ask(Wish::HandOver("nobody".into())))), Some(Failure::UnknownUser));
    let version = |world: &mut World| {
        let Answer::Room(room) = world.owner_asks(Ask::Room { room: "den".into() }) else { panic!() };
        (room.policy_version, room.owner, room.epoch)
    };
    let before = version(&mut world);
    world.reconnect(&mut bob, 2);
    assert!(world.pushes(bob.session).is_empty(), "not before it is in the room again");
    world.catch_up(&mut bob);
    let pushes = world.pushes(bob.session);
    assert_eq!(pushes, [wished, Push::Wish { room: DEN, wish: hand_over }], "each once");
    assert_eq!(version(&mut world), before, "and nothing else has happened");
    assert!(world.pushes(alice.session).iter().all(|push| !matches!(push, Push::Wish { .. })));
}

/// A commit of a member that leaves out what stands.
fn sweep(world: &mut World, member: &mut Client) -> Reply {
    let out = member.room.as_mut().unwrap().self_update().unwrap();
    let reply = world.request(member.session, commit(out));
    match reply {
        Reply::Sequenced { seq, .. } => {
            member.room.as_mut().unwrap().own_commit_accepted().unwrap();
            member.seen = seq;
        }
        _ => member.room.as_mut().unwrap().own_commit_lost().unwrap(),
    }
    reply
}

#[test]
fn an_accomplice_does_not_put_off_a_kick_nor_keep_newcomers_out() {
    let mut world = World::new();
    // The oldest session is asked first.
    let mut mallory = world.client(9, "mallory");
    let (mut bob, mut carol) = (world.client(2, "bob"), world.client(3, "carol"));
    world.create(&mut bob, RoomKind::Public);
    world.join(&mut mallory, RoomKind::Public);
    world.join(&mut carol, RoomKind::Public);
    for client in [&mut mallory, &mut bob] {
        world.catch(client);
    }
    kick(&mut world, "carol");
    let dave = world.client(4, "dave");
    let asked = world.ask(dave.session, Request::Enter { room: DEN, door: None });
    for _ in 0..20 {
        world.pass(Duration::from_millis(1900));
        assert!(matches!(sweep(&mut world, &mut mallory), Reply::Refused(refusal) if refusal.code == Code::Stale));
        if named(&world.catch(&mut bob)) {
            assert!(matches!(world.commit_pending(&mut bob), Reply::Sequenced { .. }));
            break;
        }
    }
    assert_eq!(bob.members(), ["mallory", "bob"].map(String::from).iter().rev().cloned().collect::<Vec<_>>());
    assert!(world.answer(dave.session, asked).is_some(), "the newcomer is let in");
}

#[test]
fn a_lease_from_before_does_not_lead_back_after_a_moderators_kick() {
    let (mut world, mut alice, mut bob, mut carol) = bobs();
    let policy = bob.room.as_ref().unwrap().policy().with_moderators([alice.key()]);
    govern(&mut world, &mut bob, Governing { policy: Some(policy), ..Governing::default() });
    world.catch(&mut alice);
    world.catch(&mut carol);
    let entered = world.request(carol.session, enter(1));
    let act = Governing { remove: Some(carol.key()), ..Governing::default() };
    assert!(matches!(govern(&mut world, &mut alice, act), Reply::Sequenced { .. }));
    assert_eq!(world.refused(carol.session, enter(1)), Code::NotAllowed);
    let (lease, join, _) = carol.prepare_join(RoomKind::Private, entered);
    assert_eq!(world.refused(carol.session, with_lease(join, lease)), Code::Stale);
    world.catch(&mut bob);
    assert_eq!(bob.members(), ["bob", "alice"]);
}

#[test]
fn a_muted_owner_changes_no_secret_that_it_could_not_tell() {
    let (mut world, _alice, mut bob, _carol) = bobs();
    world.owner_asks(Ask::Mute { name: "bob".into(), room: None, for_s: None, reason: None });
    let topic = bob.room.as_ref().unwrap().policy().with_topic("still talking");
    for act in [
        Governing { join: Some(new_secret()), ..Governing::default() },
        Governing { policy: Some(topic), ..Governing::default() },
    ] {
        assert!(matches!(govern(&mut world, &mut bob, act), Reply::Refused(refusal) if refusal.code == Code::Muted));
        bob.room.as_mut().unwrap().own_commit_lost().unwrap();
    }
    world.owner_asks(Ask::Unmute { name: "bob".into(), room: None });
    let act = Governing { join: Some(new_secret()), ..Governing::default() };
    assert!(matches!(govern(&mut world, &mut bob, act), Reply::Sequenced { .. }));
}

#[test]
fn who_leaves_just_before_a_kick_is_kicked_all_the_same() {
    let (mut world, alice, bob, mut carol) = bobs();
    world.disconnect(&alice);
    world.disconnect(&bob);
    let message = carol.room.as_mut().unwrap().leave().unwrap().into();
    assert!(matches!(world.request(carol.session, Request::Leave { room: DEN, message }), Reply::Sequenced { .. }));
    kick(&mut world, "carol");
    assert_eq!(world.refused(carol.session, enter(1)), Code::NotAllowed);
}

#[test]
fn a_kicked_owner_may_come_back_for_nobody_else_could_change_the_secret() {
    let (mut world, mut alice, mut bob, carol) = bobs();
    kick(&mut world, "bob");
    world.pass(Duration::from_secs(2));
    world.catch(&mut alice);
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    world.join(&mut bob, RoomKind::Private);
    assert!(bob.members().contains(&"bob".to_owned()));
    drop(carol);
}

#[test]
fn a_public_room_out_of_which_everybody_was_put_is_open_again() {
    let mut world = World::new();
    let (mut bob, mut carol) = (world.client(2, "bob"), world.client(3, "carol"));
    world.create(&mut bob, RoomKind::Public);
    world.join(&mut carol, RoomKind::Public);
    kick(&mut world, "bob");
    kick(&mut world, "carol");
    let mut world = world.restart();
    world.reconnect(&mut carol, 9);
    world.join(&mut carol, RoomKind::Public);
    world.catch(&mut carol);
    assert!(matches!(world.commit_pending(&mut carol), Reply::Sequenced { .. }));
    assert_eq!(carol.members(), ["carol"]);
    world.reconnect(&mut bob, 9);
    world.join(&mut bob, RoomKind::Public);
}
