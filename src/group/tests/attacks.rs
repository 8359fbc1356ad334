//! What a hostile server, an outsider or a member without the role tries. Each is refused by the members and by the server.

use super::*;
use crate::group::info::Info;
use crate::group::proof::{JoinPoint, join_data};
use crate::group::provider::{MlsSigner, Provider};
use openmls::prelude::MlsGroup;
use openmls_traits::OpenMlsProvider;

/// An external commit that the library makes willingly, with authenticated data of the attacker's choice.
pub(super) fn intrusion(world: &World, me: &Member, data: impl FnOnce(&Info) -> Vec<u8>) -> Outgoing {
    let grant = world.directory.grant();
    let info = Info::parse(&grant.group_info).unwrap();
    let (provider, signer) = (Provider::default(), MlsSigner::new(&me.identity));
    let data = data(&info);
    let (group, bundle) = MlsGroup::external_commit_builder()
        .with_ratchet_tree(mls::parse_tree(&grant.tree).unwrap())
        .with_config(mls::config())
        .with_aad(data)
        .build_group(&provider, info.signed, mls::credential(&me.cert))
        .unwrap()
        .leaf_node_parameters(mls::leaf_parameters(me))
        .load_psks(provider.storage())
        .unwrap()
        .create_group_info(true)
        .build(provider.rand(), provider.crypto(), &signer, |_| true)
        .unwrap()
        .finalize(&provider)
        .unwrap();
    let (commit, _, info) = bundle.into_messages();
    let published =
        Published { epoch: group.epoch().as_u64(), group_info: info.unwrap().to_bytes().unwrap(), vouch: None };
    Outgoing { bytes: commit.to_bytes().unwrap(), published }
}

pub(super) fn proof(
    join: &Identity,
    room: &RoomId,
    version: u64,
    epoch: u64,
    tag: &[u8],
    joiner: PublicKey,
) -> Vec<u8> {
    join_data(Some(join), room, &JoinPoint { version, epoch, tag, joiner })
}

/// Server and members refuse it for the same reason, and the room goes on.
pub(super) fn refused(world: &mut World, out: &Outgoing) -> Refusal {
    let by_server = world.directory.check_commit(&out.bytes, out.published.clone(), &pinned);
    let Err(MessageError::Refused(refusal)) = by_server else { panic!("{by_server:?}") };
    for room in world.rooms.iter_mut().skip(1) {
        let by_member = room.receive(&out.bytes, &pinned).unwrap_err();
        assert_eq!(by_member.integrity(), Some(Integrity::UnauthorisedCommit));
        let ReceiveError::Refused(same) = by_member else { panic!("{by_member:?}") };
        assert_eq!(same, refusal);
    }
    for room in &mut world.rooms {
        room.own_commit_lost().unwrap();
        room.group.clear_pending_proposals(room.provider.storage()).unwrap();
    }
    world.agree();
    world.chat();
    refusal
}

#[test]
fn the_server_cannot_write_itself_into_a_private_room() {
    let mut world = World::of_three(RoomKind::Private);
    let ghost = Member { cert: NameCert::issue(&server(), name("ghost"), key(100), 1_000), identity: server() };
    let out = intrusion(&world, &ghost, |_| Vec::new());
    assert_eq!(refused(&mut world, &out), Refusal::JoinProof);
}

#[test]
fn a_join_proof_holds_for_one_key_room_epoch_and_policy() {
    let mut world = World::of_three(RoomKind::Private);
    let mallory = user(9, "mallory");
    let right = |i: &Info| (i.context.epoch().as_u64(), i.tag.clone());
    type Forgery = Box<dyn Fn(&Info) -> Vec<u8>>;
    let forgeries: Vec<Forgery> = vec![
        Box::new(move |i| proof(&id(99), &ROOM, 1, right(i).0, &right(i).1, key(9))),
        Box::new(move |i| proof(&secret(), &[8; 16], 1, right(i).0, &right(i).1, key(9))),
        Box::new(move |i| proof(&secret(), &ROOM, 2, right(i).0, &right(i).1, key(9))),
        Box::new(move |i| proof(&secret(), &ROOM, 1, right(i).0 - 1, &right(i).1, key(9))),
        Box::new(move |i| proof(&secret(), &ROOM, 1, right(i).0, &[0x20; 33], key(9))),
        Box::new(move |i| proof(&secret(), &ROOM, 1, right(i).0, &right(i).1, key(4))),
        Box::new(|_| vec![0x81; 200]),
        Box::new(|_| vec![0; 5000]),
    ];
    for forgery in forgeries {
        let out = intrusion(&world, &mallory, forgery);
        assert_eq!(refused(&mut world, &out), Refusal::JoinProof);
    }
    let mut out = intrusion(&world, &mallory, |i| proof(&secret(), &ROOM, 1, right(i).0, &right(i).1, key(9)));
    assert!(matches!(
        world.directory.check_commit(&out.bytes, out.published.clone(), &pinned),
        Err(MessageError::Published)
    ));
    out.published.vouch = Some(info::vouch(&secret(), &ROOM, world.directory.policy(), &out.published.group_info));
    assert!(world.directory.check_commit(&out.bytes, out.published, &pinned).is_ok(), "the right proof holds");
}

#[test]
fn a_room_of_the_servers_own_making_takes_nobody_in() {
    let dave = user(4, "dave");
    let owner = Member { cert: NameCert::issue(&server(), name("alice"), key(1), 1_000), identity: id(1) };
    // Without a join key, with one of the server's, and with the right key in the policy but nobody to vouch.
    let of = |kind, join: Option<Identity>| {
        let policy = Policy::new(kind, LABEL.into(), key(1), join.as_ref().map(Identity::public));
        Room::create(&owner, key(100), ROOM, policy, join).unwrap().1
    };
    let mut unvouched = of(RoomKind::Private, Some(secret()));
    unvouched.vouch = None;
    let mut misvouched = of(RoomKind::Private, Some(secret()));
    misvouched.vouch = of(RoomKind::Private, Some(id(99))).vouch;
    for grant in [of(RoomKind::Public, None), of(RoomKind::Private, Some(id(99))), unvouched, misvouched] {
        let told = Room::join(&dave, &target(RoomKind::Private), &grant, Some(secret()), &pinned).unwrap_err();
        assert_eq!(told.integrity(), Some(Integrity::BadVouch));
    }
}

#[test]
fn another_room_is_not_passed_off_as_the_one_asked_for() {
    let world = World::of_three(RoomKind::Public);
    let grant = world.directory.grant();
    let dave = user(4, "dave");
    let asked = target(RoomKind::Public);
    let others = [
        Target { room_id: [8; 16], ..asked.clone() },
        Target { label: "other".into(), ..asked.clone() },
        Target { server: key(101), ..asked.clone() },
    ];
    for other in others {
        let told = Room::join(&dave, &other, &grant, None, &pinned).unwrap_err();
        assert_eq!(told.integrity(), Some(Integrity::WrongRoom));
    }
    assert!(Room::join(&dave, &asked, &grant, None, &pinned).is_ok());
}

#[test]
fn a_tree_that_is_not_the_group_infos_is_refused() {
    let mut world = World::of_three(RoomKind::Private);
    let old = world.directory.tree();
    world.join(&user(4, "dave"));
    let grant = Grant { tree: old, ..world.directory.grant() };
    let told = Room::join(&user(5, "erin"), &target(world.kind), &grant, Some(secret()), &pinned).unwrap_err();
    assert_eq!(told.integrity(), Some(Integrity::BadTree));
    assert!(matches!(Directory::open(key(100), ROOM, &grant, &pinned), Err(DirectoryError::BadTree(_))));
}

#[test]
fn a_member_whom_the_pins_contradict_keeps_a_newcomer_out() {
    let world = World::of_three(RoomKind::Private);
    let changed = |cert: &NameCert| {
        if cert.key() == key(2) { Err(CertRefused::ChangedKey) } else { pinned(cert) }
    };
    let dave = user(4, "dave");
    let told = Room::join(&dave, &target(world.kind), &world.directory.grant(), Some(secret()), &changed).unwrap_err();
    assert!(matches!(told, JoinError::Member(Refusal::Cert(CertRefused::ChangedKey))));
}

#[test]
fn a_newcomer_with_a_forged_certificate_or_a_taken_name_is_refused() {
    let mut world = World::of_three(RoomKind::Public);
    let forged = Member { cert: NameCert::issue(&id(99), name("dave"), key(4), 1_000), identity: id(4) };
    let out = intrusion(&world, &forged, |_| Vec::new());
    assert!(matches!(refused(&mut world, &out), Refusal::Cert(CertRefused::Cert(CertError::Signature))));
    let expired = Member { cert: NameCert::issue(&server(), name("dave"), key(4), 1), identity: id(4) };
    let out = intrusion(&world, &expired, |_| Vec::new());
    assert!(matches!(refused(&mut world, &out), Refusal::Cert(CertRefused::Cert(CertError::Expired))));
    let twin = user(4, "bob");
    let out = intrusion(&world, &twin, |_| Vec::new());
    assert_eq!(refused(&mut world, &out), Refusal::Taken(name("bob")));
    let borrowed = Member { cert: user(2, "bob").cert, identity: id(4) };
    let told = Room::join(&borrowed, &target(world.kind), &world.directory.grant(), None, &pinned);
    assert!(matches!(told, Err(JoinError::Cert)));
}

#[test]
fn data_in_a_public_join_is_refused() {
    let mut world = World::of_three(RoomKind::Public);
    let out = intrusion(&world, &user(4, "dave"), |_| vec![1]);
    assert_eq!(refused(&mut world, &out), Refusal::Data);
}
