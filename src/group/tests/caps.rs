//! Every entry for bytes from outside, at every truncated length and with bytes altered.

use super::*;
use crate::limits::{FRAME_MAX, KEY_PACKAGE_MAX, PAYLOAD_MAX};

/// The truncations of a message, and the message with each byte altered; long ones are sampled.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let step = bytes.len() / 400 + 1;
    let cut = (0..bytes.len()).step_by(step).map(|len| bytes[..len].to_vec());
    let altered = (0..bytes.len()).step_by(step).map(|at| {
        let mut out = bytes.to_vec();
        out[at] ^= 0xff;
        out
    });
    let longer = std::iter::once([bytes, &[0]].concat());
    cut.chain(altered).chain(longer)
}

#[test]
fn damaged_messages_of_the_log_change_nothing() {
    let mut world = World::of_three(RoomKind::Private);
    let sealed = world.rooms[1].seal(b"hello").unwrap();
    let (_, join) = world.try_join(&user(4, "dave")).unwrap();
    let leave = world.rooms[2].leave().unwrap();
    let remove = world.directory.propose_remove(&server(), &key(2)).unwrap();
    world.directory = Directory::open(key(100), ROOM, &world_grant(&world), &pinned).unwrap();
    for message in [&sealed, &join.bytes, &leave, &remove] {
        for bad in damaged(message) {
            assert!(world.rooms[0].receive(&bad, &pinned).is_err());
            assert!(world.directory.check_commit(&bad, join.published.clone(), &pinned).is_err());
            if message != &leave || !differs_in_membership_tag(message, &bad) {
                assert!(world.directory.check_proposal(&bad).is_err());
            }
        }
    }
    assert!(!world.rooms[0].must_commit());
}

/// The last 33 bytes of a member's PublicMessage are for members only: a server cannot check them.
fn differs_in_membership_tag(message: &[u8], bad: &[u8]) -> bool {
    let signed = message.len() - 33;
    bad.len() == message.len() && bad[..signed] == message[..signed]
}

/// Without the proposals that stand.
fn world_grant(world: &World) -> Grant {
    Grant { proposals: Vec::new(), ..world.directory.grant() }
}

#[test]
fn a_damaged_group_info_beside_a_commit_is_refused() {
    let world = World::of_three(RoomKind::Private);
    let (_, join) = world.try_join(&user(4, "dave")).unwrap();
    for group_info in damaged(&join.published.group_info) {
        let published = Published { group_info, ..join.published.clone() };
        assert!(world.directory.check_commit(&join.bytes, published, &pinned).is_err());
    }
}

#[test]
fn damaged_grants_take_nobody_in() {
    let world = World::of_three(RoomKind::Public);
    let grant = world.directory.grant();
    let dave = user(4, "dave");
    for group_info in damaged(&grant.group_info) {
        let bad = Grant { group_info, ..grant.clone() };
        assert!(Room::join(&dave, &target(world.kind), &bad, None, &pinned).is_err());
        assert!(Directory::open(key(100), ROOM, &bad, &pinned).is_err());
    }
    for tree in damaged(&grant.tree) {
        let bad = Grant { tree, ..grant.clone() };
        assert!(Room::join(&dave, &target(world.kind), &bad, None, &pinned).is_err());
        assert!(Directory::open(key(100), ROOM, &bad, &pinned).is_err());
    }
}

#[test]
fn damaged_key_packages_and_welcomes_are_refused() {
    let mut stock = KeyPackages::new(&user(2, "bob"));
    let package = stock.make(false).unwrap();
    let alice = user(1, "alice");
    for bad in damaged(&package) {
        assert!(Direct::create(&alice, key(100), ROOM, &bad, &pinned).is_err());
    }
    let (_, w, grant) = Direct::create(&alice, key(100), ROOM, &package, &pinned).unwrap();
    for bad in damaged(&w.welcome) {
        assert!(Direct::accept(&mut stock, key(100), ROOM, &bad, &grant.tree, &pinned).is_err());
    }
    for bad in damaged(&grant.tree) {
        assert!(Direct::accept(&mut stock, key(100), ROOM, &w.welcome, &bad, &pinned).is_err());
    }
    assert!(Direct::accept(&mut stock, key(100), ROOM, &w.welcome, &grant.tree, &pinned).is_ok());
}

#[test]
fn what_is_too_long_is_not_even_parsed() {
    let mut world = World::of_three(RoomKind::Public);
    let long = vec![0; FRAME_MAX + 1];
    assert!(matches!(world.rooms[0].receive(&long, &pinned), Err(ReceiveError::TooLong)));
    assert!(matches!(world.directory.check_proposal(&long), Err(MessageError::TooLong)));
    assert!(matches!(world.directory.check_private_message(&long), Err(MessageError::TooLong)));
    let grant = Grant { tree: long.clone(), ..world.directory.grant() };
    assert!(matches!(world.try_join_with(&grant), Err(JoinError::TooLong)));
    assert!(matches!(Directory::open(key(100), ROOM, &grant, &pinned), Err(DirectoryError::TooLong)));
    let package = vec![0; KEY_PACKAGE_MAX + 1];
    let told = Direct::create(&user(1, "alice"), key(100), ROOM, &package, &pinned);
    assert!(matches!(told, Err(AcceptError::TooLong)));
    assert!(matches!(world.rooms[0].seal(&vec![0; PAYLOAD_MAX + 1]), Err(SealError::TooLong)));
    let sealed = world.rooms[0].seal(&vec![0; PAYLOAD_MAX]).unwrap();
    assert!(world.rooms[1].receive(&sealed, &pinned).is_ok());
}

#[test]
fn a_swollen_membership_tag_does_not_stand() {
    let mut world = World::of_three(RoomKind::Private);
    let leave = world.rooms[2].leave().unwrap();
    // The tag is the last field, and the home server has no key to check it with.
    let mut swollen = leave[..leave.len() - 33].to_vec();
    swollen.extend(vector(&[0; 10_000]));
    assert!(matches!(world.directory.check_proposal(&swollen), Err(MessageError::TooLong)));
    assert!(world.directory.check_proposal(&leave).is_ok());
}

#[test]
fn no_tree_however_spliced_passes_for_the_room() {
    let mut world = World::of_three(RoomKind::Public);
    (4..9).for_each(|n| drop(world.join(&user(n, &format!("user{n}")))));
    let grant = world.directory.grant();
    let nodes = nodes(&grant.tree);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % n as u64).unwrap()
    };
    for _ in 0..300 {
        let mut spliced = nodes.clone();
        let (i, j) = (below(nodes.len()), below(nodes.len()));
        match below(5) {
            0 => drop(spliced.remove(i)),
            1 => spliced.insert(i, nodes[j].clone()),
            2 => spliced.swap(i, j),
            3 => spliced[i] = vec![0],
            _ => spliced.truncate(i),
        }
        let same = spliced == nodes;
        let bad = Grant { tree: vector(&spliced.concat()), ..grant.clone() };
        assert_eq!(Directory::open(key(100), ROOM, &bad, &pinned).is_ok(), same);
        assert_eq!(Room::join(&user(40, "zoe"), &target(world.kind), &bad, None, &pinned).is_ok(), same);
    }
}

/// The nodes of a serialised tree: each the shortest piece that reads as a tree of one.
fn nodes(tree: &[u8]) -> Vec<Vec<u8>> {
    let prefix = vector(&vec![0; tree.len() - 4]).len() - (tree.len() - 4);
    let mut rest = &tree[prefix..];
    let mut nodes = Vec::new();
    while !rest.is_empty() {
        let whole = |len: &usize| rest[0] == 0 || mls::parse_tree(&vector(&rest[..*len])).is_some();
        let len = (1..=rest.len()).find(whole).unwrap();
        nodes.push(rest[..len].to_vec());
        rest = &rest[len..];
    }
    nodes
}

/// A vector as MLS writes it: the length in the fewest bytes, then the content.
fn vector(content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap();
    let prefix = match len {
        0..64 => len.to_be_bytes()[3..].to_vec(),
        64..16384 => (len | 0x4000).to_be_bytes()[2..].to_vec(),
        _ => (len | 0x8000_0000).to_be_bytes().to_vec(),
    };
    [prefix.as_slice(), content].concat()
}

#[test]
fn a_length_of_a_gigabyte_allocates_nothing() {
    let mut world = World::of_three(RoomKind::Public);
    // MLSMessage 1.0, PublicMessage and PrivateMessage, a group id of 2^30 - 1 bytes.
    for form in [1, 2, 3, 4, 5] {
        let bytes = [0, 1, 0, form, 0xbf, 0xff, 0xff, 0xff, 1, 2, 3];
        assert!(world.rooms[0].receive(&bytes, &pinned).is_err());
        assert!(world.directory.check_proposal(&bytes).is_err());
    }
}

impl World {
    fn try_join_with(&self, grant: &Grant) -> Result<(Room, Outgoing), JoinError> {
        Room::join(&user(4, "dave"), &target(self.kind), grant, self.join.clone(), &pinned)
    }
}
