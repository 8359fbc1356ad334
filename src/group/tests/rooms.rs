use super::*;
use openmls_traits::OpenMlsProvider;

#[test]
fn three_in_a_private_room_hear_each_other() {
    let mut world = World::of_three(RoomKind::Private);
    world.chat();
    let names: Vec<_> = world.rooms[2].members().map(|m| m.name.to_string()).collect();
    assert_eq!(names, ["alice@s1", "bob@s1", "carol@s1"]);
}

#[test]
fn three_in_a_public_room_hear_each_other() {
    World::of_three(RoomKind::Public).chat();
}

#[test]
fn the_home_server_goes_on_after_a_restart() {
    let mut world = World::of_three(RoomKind::Private);
    let leave = world.rooms[2].leave().unwrap();
    world.propose(&leave);
    let grant = world.directory.grant();
    world.directory = Directory::open(server().public(), ROOM, &grant, &pinned).unwrap();
    assert_eq!(world.directory.grant(), grant);
    let out = world.rooms[0].commit_pending().unwrap();
    assert_eq!(world.log(&out, Some(0)).left.len(), 1);
}

#[test]
fn a_member_renews_its_leaf_and_its_certificate() {
    let mut world = World::of_three(RoomKind::Private);
    let renewed = NameCert::issue(&server(), name("bob"), key(2), 2_000);
    assert!(world.rooms[1].set_cert(renewed.clone()));
    let out = world.rooms[1].self_update().unwrap();
    let change = world.log(&out, Some(1));
    assert_eq!(change.committer.cert, renewed);
    world.agree();
    assert_eq!(world.rooms[0].member(&key(2)).unwrap().cert, renewed);
    world.chat();
}

#[test]
fn a_certificate_of_another_name_is_not_taken() {
    let mut world = World::of_three(RoomKind::Private);
    assert!(!world.rooms[1].set_cert(NameCert::issue(&server(), name("bobby"), key(2), 2_000)));
    assert!(!world.rooms[1].set_cert(NameCert::issue(&server(), name("bob"), key(9), 2_000)));
}

#[test]
fn of_two_commits_in_one_epoch_the_second_is_stale_and_its_maker_recovers() {
    let mut world = World::of_three(RoomKind::Private);
    let winner = world.rooms[0].self_update().unwrap();
    let loser = world.rooms[1].self_update().unwrap();
    world.log(&winner, Some(0));
    let refused = world.directory.check_commit(&loser.bytes, loser.published, &pinned);
    assert!(matches!(refused, Err(MessageError::Stale { .. })));
    let again = world.rooms[1].self_update().unwrap();
    world.log(&again, Some(1));
    world.agree();
    world.chat();
}

#[test]
fn a_losing_joiner_starts_again() {
    let mut world = World::new(RoomKind::Private);
    let (bob, carol) = (user(2, "bob"), user(3, "carol"));
    let (_, lost) = world.try_join(&carol).unwrap();
    world.join(&bob);
    let refused = world.directory.check_commit(&lost.bytes, lost.published, &pinned);
    assert!(matches!(refused, Err(MessageError::Stale { .. })));
    world.join(&carol);
    world.chat();
}

#[test]
fn a_commit_refused_by_the_server_is_dropped_and_the_room_goes_on() {
    let mut world = World::of_three(RoomKind::Private);
    world.rooms[1].self_update().unwrap();
    assert!(matches!(world.rooms[1].self_update(), Err(CommitError::Busy)));
    world.rooms[1].own_commit_lost().unwrap();
    world.chat();
}

#[test]
fn our_own_commit_found_in_the_log_is_merged() {
    let mut world = World::of_three(RoomKind::Private);
    let out = world.rooms[1].self_update().unwrap();
    world.log(&out, None);
    assert!(!world.rooms[1].has_pending_commit());
    world.agree();
}

#[test]
fn joining_again_replaces_the_old_leaf() {
    let mut world = World::of_three(RoomKind::Private);
    let change = world.join(&user(2, "bob"));
    assert_eq!(change.replaced.map(|m| m.key), Some(key(2)));
    assert_eq!(world.rooms.len(), 3, "the room of the old leaf is no longer active");
    assert_eq!(world.rooms[0].members().count(), 3);
    world.chat();
}

#[test]
fn keys_of_past_epochs_are_not_kept() {
    let mut world = World::of_three(RoomKind::Private);
    for round in 0..12 {
        let maker = round % 3;
        let lost = world.rooms[(maker + 1) % 3].self_update().unwrap();
        let out = world.rooms[maker].self_update().unwrap();
        world.log(&out, Some(maker));
        assert!(world.directory.check_commit(&lost.bytes, lost.published, &pinned).is_err());
    }
    assert!(world.rooms.iter().all(|r| r.provider.storage().len() <= 1));
    assert_eq!(world.directory.grant().proposals.len(), 0);
}

#[test]
fn rooms_and_directories_move_between_threads() {
    fn moves<T: Send + Sync>() {}
    moves::<Room>();
    moves::<Directory>();
    moves::<KeyPackages>();
}

/// The home server has no key to check the membership tag with (nor path and confirmation tag), so a member, though nobody
/// else, can make a commit that only the server follows. The others say so and join again.
#[test]
fn a_commit_that_only_the_server_can_follow_does_not_end_the_room() {
    let mut world = World::of_three(RoomKind::Private);
    let mut out = world.rooms[2].self_update().unwrap();
    *out.bytes.last_mut().unwrap() ^= 1;
    let checked = world.directory.check_commit(&out.bytes, out.published.clone(), &pinned).unwrap();
    world.directory.apply(checked).unwrap();
    let mut carol = world.rooms.pop().unwrap();
    carol.own_commit_accepted().unwrap();
    for mut room in std::mem::take(&mut world.rooms) {
        let told = room.receive(&out.bytes, &pinned).unwrap_err();
        assert_eq!(told.integrity(), Some(Integrity::ForgedSender));
    }
    world.rooms.push(carol);
    world.join(&user(1, "alice"));
    world.join(&user(2, "bob"));
    world.chat();
    assert_eq!(world.rooms.len(), 3);
}

#[test]
fn a_message_of_an_old_epoch_is_refused() {
    let mut world = World::of_three(RoomKind::Private);
    let old = world.rooms[1].seal(b"late").unwrap();
    let out = world.rooms[0].self_update().unwrap();
    world.log(&out, Some(0));
    assert!(matches!(world.directory.check_private_message(&old), Err(MessageError::Stale { .. })));
    let refused = world.rooms[0].receive(&old, &pinned).unwrap_err();
    assert_eq!(refused.integrity(), Some(Integrity::WrongEpoch));
}

#[test]
fn a_repeated_message_is_recognised() {
    let mut world = World::of_three(RoomKind::Private);
    let sealed = world.rooms[1].seal(b"once").unwrap();
    assert!(world.rooms[0].receive(&sealed, &pinned).is_ok());
    assert!(matches!(world.rooms[0].receive(&sealed, &pinned), Err(ReceiveError::Repeated)));
}
