use super::*;
use openmls_traits::OpenMlsProvider;

#[test]
fn who_leaves_is_out_once_another_commits() {
    let mut world = World::of_three(RoomKind::Private);
    let leave = world.rooms[2].leave().unwrap();
    world.propose(&leave);
    assert!(matches!(world.rooms[0].seal(b"x"), Err(SealError::CommitFirst)));
    assert!(matches!(world.rooms[2].commit_pending(), Err(CommitError::Leaving)));
    let out = world.rooms[1].commit_pending().unwrap();
    let change = world.log(&out, Some(1));
    assert_eq!(change.left.iter().map(|m| m.key).collect::<Vec<_>>(), [key(3)]);
    let carol = world.rooms.remove(2);
    assert!(!carol.is_active());
    world.agree();
    world.chat();
}

#[test]
fn nothing_of_a_member_that_left_is_accepted() {
    let mut world = World::of_three(RoomKind::Private);
    let leave = world.rooms[2].leave().unwrap();
    let mut carol = world.rooms.remove(2);
    world.propose(&leave);
    let out = world.rooms[1].commit_pending().unwrap();
    world.log(&out, Some(1));
    carol.group.clear_pending_proposals(carol.provider.storage()).unwrap();
    let late = carol.seal(b"still here").unwrap();
    assert!(world.directory.check_private_message(&late).is_err());
    assert!(world.rooms[0].receive(&late, &pinned).is_err());
    let next = world.rooms[0].seal(b"gone?").unwrap();
    assert!(carol.receive(&next, &pinned).is_err());
}

#[test]
fn a_newcomer_takes_standing_departures_in() {
    let mut world = World::of_three(RoomKind::Private);
    let leave = world.rooms[2].leave().unwrap();
    world.propose(&leave);
    let change = world.join(&user(4, "dave"));
    assert_eq!(change.left.iter().map(|m| m.key).collect::<Vec<_>>(), [key(3)]);
    assert!(!world.directory.is_member(&key(3)));
    world.chat();
}

#[test]
fn who_left_joins_again_while_its_departure_stands() {
    let mut world = World::of_three(RoomKind::Private);
    let leave = world.rooms[2].leave().unwrap();
    world.propose(&leave);
    let change = world.join(&user(3, "carol"));
    assert_eq!(change.replaced.map(|m| m.key), Some(key(3)));
    world.chat();
}

#[test]
fn a_standing_removal_that_a_join_overtook_is_proposed_anew() {
    let mut world = World::of_three(RoomKind::Private);
    let remove = world.directory.propose_remove(&server(), &key(3)).unwrap();
    world.tell_proposal(&remove);
    world.join(&user(4, "dave"));
    assert!(world.directory.is_member(&key(3)));
    assert_eq!(world.directory.standing().count(), 0);
    let remove = world.directory.propose_remove(&server(), &key(3)).unwrap();
    world.tell_proposal(&remove);
    let out = world.rooms[3].commit_pending().unwrap();
    let change = world.log(&out, Some(3));
    assert_eq!(change.removed[0].by, By::HomeServer);
    assert!(!world.rooms.remove(2).is_active());
    world.agree();
    world.chat();
}

#[test]
fn a_removal_is_proposed_once() {
    let mut world = World::of_three(RoomKind::Private);
    world.directory.propose_remove(&server(), &key(3)).unwrap();
    let twice = world.directory.propose_remove(&server(), &key(3));
    assert!(matches!(twice, Err(MessageError::Refused(Refusal::Standing))));
    let leave = world.rooms[2].leave().unwrap();
    assert!(matches!(world.directory.check_proposal(&leave), Err(MessageError::Refused(Refusal::Standing))));
}

#[test]
fn who_is_to_go_cannot_put_it_off_by_committing() {
    let mut world = World::of_three(RoomKind::Private);
    let early = world.rooms[2].self_update().unwrap();
    let remove = world.directory.propose_remove(&server(), &key(3)).unwrap();
    world.tell_proposal(&remove);
    let by_server = world.directory.check_commit(&early.bytes, early.published, &pinned);
    assert!(matches!(by_server, Err(MessageError::Refused(Refusal::Standing))));
    let by_member = world.rooms[0].receive(&early.bytes, &pinned);
    assert!(matches!(by_member, Err(ReceiveError::Refused(Refusal::Standing))));
    world.rooms[2].own_commit_lost().unwrap();
    assert!(matches!(world.rooms[2].self_update(), Err(CommitError::Leaving)));
    let out = world.rooms[1].commit_pending().unwrap();
    world.log(&out, Some(1));
    assert!(world.rooms.remove(2).own().is_none());
    world.agree();
}

#[test]
fn a_kick_with_rotation_shuts_the_old_secret_out() {
    let mut world = World::of_three(RoomKind::Private);
    let before = world.directory.grant();
    let new = id(201);
    let out = world.rooms[0].remove(&key(3), Some(new.clone())).unwrap();
    let change = world.log(&out, Some(0));
    assert_eq!(change.removed[0].member.key, key(3));
    let mut carol = world.rooms.remove(2);
    assert!(!carol.is_active());
    assert!(carol.seal(b"x").is_err());
    world.agree();

    // Under another name, with the old password and the server's help, in the old state or in the new one:
    let mallory = user(9, "mallory");
    for grant in [world.directory.grant(), before] {
        let told = Room::join(&mallory, &target(RoomKind::Private), &grant, Some(secret()), &pinned);
        if let Ok((_, out)) = told {
            assert!(world.directory.check_commit(&out.bytes, out.published, &pinned).is_err());
            assert!(world.rooms[0].receive(&out.bytes, &pinned).is_err());
        }
    }
    // Who knows the new secret does not fall for the old state either.
    world.join = Some(new.clone());
    world.join(&user(4, "dave"));
    assert!(!world.rooms[1].holds_join_key());
    assert!(matches!(world.rooms[1].self_update(), Err(CommitError::NoJoinKey)));
    assert!(!world.rooms[1].set_join_key(secret()));
    assert!(world.rooms[1].set_join_key(new));
    let out = world.rooms[1].self_update().unwrap();
    world.log(&out, Some(1));
    world.chat();
}

#[test]
fn an_old_group_info_is_refused_after_a_rotation() {
    let mut world = World::of_three(RoomKind::Private);
    let before = world.directory.grant();
    let new = id(201);
    let out = world.rooms[0].rotate(new.clone()).unwrap();
    world.log(&out, Some(0));
    let refused = Room::join(&user(4, "dave"), &target(RoomKind::Private), &before, Some(new), &pinned).unwrap_err();
    assert_eq!(refused.integrity(), Some(Integrity::BadVouch));
}

#[test]
fn the_owner_removes_a_member_whose_removal_stands() {
    let mut world = World::of_three(RoomKind::Public);
    let remove = world.directory.propose_remove(&server(), &key(3)).unwrap();
    world.tell_proposal(&remove);
    let out = world.rooms[0].remove(&key(3), None).unwrap();
    world.log(&out, Some(0));
    world.rooms.remove(2);
    world.agree();
}
