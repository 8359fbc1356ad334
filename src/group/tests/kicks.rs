//! Kicks, bans, mutes and roles: who may, and what is left to who is out.

use super::attacks::{intrusion, proof, refused};
use super::*;

fn govern(policy: Policy) -> Governing {
    Governing { policy: Some(policy), ..Governing::default() }
}

/// The commit, as a modified client of the owner's would send it: only the others judge it.
fn refused_by_all(world: &World, out: &Outgoing, wanted: &Refusal) {
    let by_server = world.directory.check_commit(&out.bytes, out.published.clone(), &pinned);
    assert!(matches!(by_server, Err(MessageError::Refused(refusal)) if refusal == *wanted));
}

#[test]
fn a_kick_a_ban_and_a_new_secret_are_one_commit() {
    let mut world = World::of_three(RoomKind::Private);
    let policy = world.directory.policy().with_banned([key(3)]);
    let (new, before) = (id(201), world.directory.policy().version);
    let out = world.rooms[0]
        .govern(Governing { remove: Some(key(3)), policy: Some(policy), join: Some(new.clone()) })
        .unwrap();
    let change = world.log(&out, Some(0));
    let policy = change.policy.unwrap();
    assert_eq!((policy.version, policy.join_key()), (before + 1, Some(new.public())));
    assert!(policy.is_banned(&key(3)) && !world.directory.is_member(&key(3)));
    assert!(world.rooms[0].holds_join_key() && !world.rooms[1].holds_join_key());
    world.rooms.remove(2);
    world.agree();
    world.chat();
}

#[test]
fn who_kept_its_state_from_before_its_kick_opens_nothing_of_what_follows() {
    let mut world = World::of_three(RoomKind::Private);
    // She never hears of the commit, and keeps all that she had.
    let mut carol = world.rooms.remove(2);
    let out = world.rooms[0].govern(Governing { remove: Some(key(3)), join: Some(id(201)), policy: None }).unwrap();
    world.log(&out, Some(0));
    assert!(world.rooms[1].set_join_key(id(201)));
    world.join = Some(id(201));
    let mut later = Vec::new();
    for _ in 0..3 {
        let update = world.rooms[1].self_update().unwrap();
        world.log(&update, Some(1));
        later.push(world.rooms[0].seal(b"after her").unwrap());
        later.push(update.bytes);
    }
    for bytes in &later {
        assert!(carol.receive(bytes, &pinned).is_err());
    }
    // Even the commit that removed her gives her no key of the epochs after it.
    assert!(matches!(carol.receive(&out.bytes, &pinned), Ok(Received::Commit(_))));
    assert!(!carol.is_active());
    for bytes in &later {
        assert!(matches!(carol.receive(bytes, &pinned), Err(ReceiveError::Gone)));
    }
}

#[test]
fn a_banned_key_stays_out_and_comes_in_once_it_is_no_longer_banned() {
    let mut world = World::of_three(RoomKind::Public);
    let banned = world.directory.policy().with_banned([key(3)]);
    let out = world.rooms[0].govern(Governing { remove: Some(key(3)), policy: Some(banned), join: None }).unwrap();
    world.log(&out, Some(0));
    world.rooms.remove(2);
    let (_, join) = world.try_join(&user(3, "other")).unwrap();
    refused_by_all(&world, &join, &Refusal::Banned);
    assert!(matches!(world.rooms[1].receive(&join.bytes, &pinned), Err(ReceiveError::Refused(Refusal::Banned))));
    let none = world.directory.policy().with_banned([]);
    let out = world.rooms[0].govern(govern(none)).unwrap();
    world.log(&out, Some(0));
    world.join(&user(3, "carol"));
    world.chat();
}

#[test]
fn nobody_is_banned_who_stays_and_no_owner() {
    let mut world = World::of_three(RoomKind::Private);
    for key in [key(1), key(2)] {
        let policy = world.directory.policy().with_banned([key]);
        assert!(matches!(world.rooms[0].govern(govern(policy)), Err(CommitError::Refused(Refusal::Policy))));
    }
    let absent = world.directory.policy().with_banned([key(9)]);
    assert!(world.rooms[0].govern(govern(absent)).is_ok());
}

#[test]
fn what_a_muted_member_says_is_dropped_until_it_may_speak_again() {
    let mut world = World::of_three(RoomKind::Private);
    let muted = world.directory.policy().with_muted([key(1), key(3)]);
    let out = world.rooms[0].govern(govern(muted)).unwrap();
    world.log(&out, Some(0));
    let shouted = world.rooms[2].seal(b"!!!").unwrap();
    for listener in 0..2 {
        let received = world.rooms[listener].receive(&shouted, &pinned).unwrap();
        assert!(matches!(received, Received::Muted { sender, .. } if sender.key == key(3)));
    }
    let owners = world.rooms[0].seal(b"quiet").unwrap();
    assert!(matches!(world.rooms[1].receive(&owners, &pinned), Ok(Received::Application { .. })), "no owner is muted");
    let none = world.directory.policy().with_muted([]);
    let out = world.rooms[0].govern(govern(none)).unwrap();
    world.log(&out, Some(0));
    world.chat();
}

#[test]
fn a_room_is_handed_over_by_its_owner_to_a_member_only() {
    let mut world = World::of_three(RoomKind::Private);
    let to = |world: &World, to: &PublicKey| govern(world.directory.policy().with_owner(to));
    let absent = to(&world, &key(9));
    assert!(matches!(world.rooms[0].govern(absent), Err(CommitError::Refused(Refusal::Policy))));
    let taken = to(&world, &key(2));
    assert!(matches!(world.rooms[1].govern(taken), Err(CommitError::Refused(Refusal::NotEntitled(_)))));
    // Not to who is out by the same commit.
    let policy = world.directory.policy().with_owner(&key(2));
    let both = world.rooms[0].govern(Governing { remove: Some(key(2)), policy: Some(policy), join: None });
    assert!(matches!(both, Err(CommitError::Refused(Refusal::Policy))));
    let given = to(&world, &key(2));
    let out = world.rooms[0].govern(given).unwrap();
    world.log(&out, Some(0));
    assert_eq!(world.directory.policy().owner(), key(2));
    let back = to(&world, &key(1));
    assert!(matches!(world.rooms[0].govern(back), Err(CommitError::Refused(Refusal::NotEntitled(_)))));
    let out = world.rooms[1].govern(Governing { remove: Some(key(1)), join: Some(id(201)), policy: None }).unwrap();
    world.log(&out, Some(1));
    world.rooms.remove(0);
    world.agree();
    world.chat();
}

#[test]
fn a_moderator_removes_members_and_nothing_else() {
    let mut world = World::of_three(RoomKind::Private);
    world.join(&user(4, "dave"));
    let policy = world.directory.policy().with_moderators([key(2), key(3)]);
    let out = world.rooms[0].govern(govern(policy)).unwrap();
    world.log(&out, Some(0));
    for untouchable in [key(1), key(3)] {
        let act = Governing { remove: Some(untouchable), ..Governing::default() };
        assert!(matches!(world.rooms[1].govern(act), Err(CommitError::Refused(Refusal::NotEntitled(_)))));
    }
    let policy = world.directory.policy().with_topic("mine");
    assert!(matches!(world.rooms[1].govern(govern(policy)), Err(CommitError::Refused(Refusal::NotEntitled(_)))));
    let rotate = Governing { remove: Some(key(4)), join: Some(id(201)), policy: None };
    assert!(matches!(world.rooms[1].govern(rotate), Err(CommitError::Refused(Refusal::NotEntitled(_)))));
    let out = world.rooms[1].govern(Governing { remove: Some(key(4)), ..Governing::default() }).unwrap();
    let change = world.log(&out, Some(1));
    assert_eq!((change.removed[0].member.key, change.removed[0].by), (key(4), By::Committer));
    world.rooms.remove(3);
    world.agree();
}

#[test]
fn kind_and_label_of_a_room_never_change_and_its_lists_are_bounded() {
    let mut world = World::of_three(RoomKind::Private);
    let now = world.directory.policy().clone();
    let mut relabelled = now.clone();
    relabelled.label = "other".into();
    assert!(matches!(world.rooms[0].govern(govern(relabelled)), Err(CommitError::Refused(Refusal::Policy))));
    let long = now.with_topic("x".repeat(crate::wire::policy::TOPIC_MAX + 1));
    assert!(world.rooms[0].govern(govern(long)).is_err());
    let crowd = (0..=u8::try_from(crate::wire::policy::ROOM_BANS_MAX).unwrap()).map(|n| key(n.saturating_add(100)));
    assert!(world.rooms[0].govern(govern(now.with_muted(crowd))).is_err());
    let topic = now.with_topic("what we read");
    let out = world.rooms[0].govern(govern(topic)).unwrap();
    world.log(&out, Some(0));
    assert_eq!(world.rooms[1].policy().topic, "what we read");
}

#[test]
fn a_modified_client_with_the_old_secret_gets_in_under_no_name() {
    let mut world = World::of_three(RoomKind::Private);
    let out = world.rooms[0].govern(Governing { remove: Some(key(3)), join: Some(id(201)), policy: None }).unwrap();
    world.log(&out, Some(0));
    world.rooms.remove(2);
    // The server gives it the present state, whatever its own rules say about that.
    for comer in [user(3, "carol"), user(9, "mallory")] {
        let joiner = comer.identity.public();
        for version in [1, 2] {
            let out = intrusion(&world, &comer, |info| {
                proof(&secret(), &ROOM, version, info.context.epoch().as_u64(), &info.tag, joiner)
            });
            assert_eq!(refused(&mut world, &out), Refusal::JoinProof);
        }
    }
}

#[test]
fn a_newcomer_with_the_new_secret_takes_no_state_from_before_it() {
    let mut world = World::of_three(RoomKind::Private);
    let before = world.directory.grant();
    let out = world.rooms[0].govern(Governing { remove: Some(key(3)), join: Some(id(201)), policy: None }).unwrap();
    world.log(&out, Some(0));
    // Vouched for anew by who was kicked, with the only secret it has.
    let mut forged = before.clone();
    forged.vouch = Some(info::vouch(&secret(), &ROOM, world.directory.policy(), &before.group_info));
    for grant in [before, forged] {
        let told = Room::join(&user(4, "dave"), &target(RoomKind::Private), &grant, Some(id(201)), &pinned);
        assert_eq!(told.unwrap_err().integrity(), Some(Integrity::BadVouch));
    }
}
