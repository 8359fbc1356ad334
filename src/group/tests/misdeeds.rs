//! What a member, or a server as the external sender, can make the library do without having the role for it.

use super::attacks::refused;
use super::*;
use crate::group::provider::{MlsSigner, Provider};
use openmls::prelude::{
    Capabilities, Extension, ExtensionType, Extensions, ExternalProposal, GroupContext, JoinProposal, KeyPackage,
    LeafNodeIndex, LeafNodeParameters, ProposalType, SenderExtensionIndex,
};
use openmls::schedule::{ExternalPsk, PreSharedKeyId, Psk};
use openmls_traits::OpenMlsProvider;

/// What member `maker` can make the library commit.
fn commit(world: &mut World, maker: usize, act: &Act, data: &[u8]) -> Outgoing {
    let room = &mut world.rooms[maker];
    room.group.set_aad(data.to_vec());
    let mut builder = room.group.commit_builder().force_self_update(true).propose_removals(act.remove);
    if let Some(context) = &act.context {
        let context = Extensions::<GroupContext>::from_vec(context.clone()).unwrap();
        builder = builder.propose_group_context_extensions(context).unwrap();
    }
    let bundle = builder
        .load_psks(room.provider.storage())
        .unwrap()
        .create_group_info(true)
        .build(room.provider.rand(), room.provider.crypto(), &room.signer, |_| true)
        .unwrap()
        .stage_commit(&room.provider)
        .unwrap();
    let (commit, _, info) = bundle.into_messages();
    let group_info = info.unwrap().to_bytes().unwrap();
    let published = Published { epoch: room.epoch() + 1, group_info, vouch: None };
    Outgoing { bytes: commit.to_bytes().unwrap(), published }
}

/// As [`refused`], where `maker` is not the first.
fn refused_of(world: &mut World, maker: usize, act: &Act) -> Refusal {
    world.rooms.swap(0, maker);
    let out = commit(world, 0, act, &[]);
    let refusal = refused_by(world, &out);
    world.rooms.swap(0, maker);
    world.agree();
    world.chat();
    refusal
}

fn refused_by(world: &mut World, out: &Outgoing) -> Refusal {
    let by_server = world.directory.check_commit(&out.bytes, out.published.clone(), &pinned);
    let Err(MessageError::Refused(refusal)) = by_server else { panic!("{by_server:?}") };
    for room in world.rooms.iter_mut().skip(1) {
        let Err(ReceiveError::Refused(same)) = room.receive(&out.bytes, &pinned) else { panic!() };
        assert_eq!(same, refusal);
    }
    world.rooms[0].own_commit_lost().unwrap();
    refusal
}

#[derive(Default)]
struct Act {
    remove: Option<LeafNodeIndex>,
    context: Option<Vec<Extension>>,
}

fn remove(leaf: u32) -> Act {
    Act { remove: Some(LeafNodeIndex::new(leaf)), ..Act::default() }
}

fn policy_change(policy: &Policy) -> Act {
    Act { context: Some(mls::context(policy, &key(100))), ..Act::default() }
}

#[test]
fn a_member_without_the_role_removes_nobody() {
    let mut world = World::of_three(RoomKind::Private);
    assert!(matches!(world.rooms[1].remove(&key(3), None), Err(CommitError::Refused(Refusal::NotEntitled(_)))));
    world.chat();
    assert_eq!(refused_of(&mut world, 1, &remove(2)), Refusal::NotEntitled(name("bob")));
    assert_eq!(refused_of(&mut world, 1, &remove(0)), Refusal::NotEntitled(name("bob")));
}

#[test]
fn only_the_owner_changes_the_policy_and_only_to_its_next_version() {
    let mut world = World::of_three(RoomKind::Private);
    let next = world.directory.policy().rotated(key(201));
    assert_eq!(refused_of(&mut world, 1, &policy_change(&next)), Refusal::NotEntitled(name("bob")));
    let mut relabelled = next.clone();
    relabelled.label = "other".into();
    let mut skipped = next.clone();
    skipped.version += 1;
    let mut usurped = Policy::new(RoomKind::Private, LABEL.into(), key(9), Some(key(201)));
    usurped.version = 2;
    let mut opened = Policy::new(RoomKind::Public, LABEL.into(), key(1), None);
    opened.version = 2;
    for wrong in [relabelled, skipped, usurped, opened] {
        assert_eq!(refused_of(&mut world, 0, &policy_change(&wrong)), Refusal::Policy);
        assert!(world.rooms[0].set_policy(wrong).is_err());
        world.chat();
    }
}

#[test]
fn a_moderator_removes_members_but_neither_the_owner_nor_its_like() {
    let mut world = World::of_three(RoomKind::Public);
    world.join(&user(4, "dave"));
    let policy = world.directory.policy().with_moderators([key(2), key(3)]);
    let out = world.rooms[0].set_policy(policy.clone()).unwrap();
    assert_eq!(world.log(&out, Some(0)).policy, Some(policy));
    assert_eq!(refused_of(&mut world, 1, &remove(0)), Refusal::NotEntitled(name("bob")));
    assert_eq!(refused_of(&mut world, 1, &remove(2)), Refusal::NotEntitled(name("bob")));
    let out = world.rooms[1].remove(&key(4), None).unwrap();
    assert_eq!(world.log(&out, Some(1)).removed[0].by, By::Committer);
}

#[test]
fn the_owner_cannot_make_another_server_the_home() {
    let mut world = World::of_three(RoomKind::Public);
    let mut next = world.directory.policy().clone();
    next.version += 1;
    let change = Act { context: Some(mls::context(&next, &key(101))), ..Act::default() };
    assert_eq!(refused_of(&mut world, 0, &change), Refusal::Policy);
}

#[test]
fn nobody_adds_anybody() {
    let mut world = World::of_three(RoomKind::Private);
    let dave = user(4, "dave");
    let package = key_package(&dave);
    let room = &mut world.rooms[0];
    let (bytes, _, _) = room.group.add_members(&room.provider, &room.signer, &[package]).unwrap();
    let info = world.directory.grant().group_info;
    let out = Outgoing {
        bytes: bytes.to_bytes().unwrap(),
        published: Published { epoch: world.directory.epoch() + 1, group_info: info, vouch: None },
    };
    assert_eq!(refused(&mut world, &out), Refusal::Forbidden("an Add"));
}

fn key_package(me: &Member) -> KeyPackage {
    let provider = Provider::default();
    KeyPackage::builder()
        .leaf_node_capabilities(mls::capabilities())
        .key_package_lifetime(mls::lifetime())
        .build(mls::CIPHERSUITE, &provider, &MlsSigner::new(&me.identity), mls::credential(&me.cert))
        .unwrap()
        .into_key_package()
}

#[test]
fn a_member_keeps_its_name_and_its_key() {
    let mut world = World::of_three(RoomKind::Public);
    world.rooms.swap(0, 1);
    for other in [user(2, "robert"), user(9, "bob")] {
        let room = &mut world.rooms[0];
        let parameters = LeafNodeParameters::builder().with_credential_with_key(mls::credential(&other.cert)).build();
        let new_signer = MlsSigner::new(&other.identity);
        let builder = room.group.commit_builder().force_self_update(true);
        let loaded = builder.leaf_node_parameters(parameters).load_psks(room.provider.storage()).unwrap();
        let loaded = loaded.create_group_info(true);
        let (rand, crypto) = (room.provider.rand(), room.provider.crypto());
        let built = if other.identity.public() == key(2) {
            loaded.build(rand, crypto, &room.signer, |_| true)
        } else {
            let credential_with_key = mls::credential(&other.cert);
            let new = openmls::prelude::NewSignerBundle { signer: &new_signer, credential_with_key };
            loaded.build_with_new_signer(rand, crypto, &room.signer, new, |_| true)
        };
        let (commit, _, info) = built.unwrap().stage_commit(&room.provider).unwrap().into_messages();
        let group_info = info.unwrap().to_bytes().unwrap();
        let published = Published { epoch: world.directory.epoch() + 1, group_info, vouch: None };
        let out = Outgoing { bytes: commit.to_bytes().unwrap(), published };
        assert_eq!(refused_by(&mut world, &out), Refusal::Identity(name("bob")));
    }
}

#[test]
fn proposals_that_nobody_may_make_do_not_stand() {
    let mut world = World::of_three(RoomKind::Private);
    let epoch = world.rooms[0].group.epoch();
    let group = world.rooms[0].group.group_id().clone();
    let package = key_package(&user(4, "dave"));
    let signer = MlsSigner::new(&server());
    let first = SenderExtensionIndex::new(0);
    let next = world.directory.policy().rotated(key(201));
    let context = Extensions::<GroupContext>::from_vec(mls::context(&next, &key(100))).unwrap();
    let mallory = MlsSigner::new(&id(99));
    let leaf = LeafNodeIndex::new(2);
    let room = &mut world.rooms[1];
    let by_member = room.group.propose_remove_member(&room.provider, &room.signer, leaf).unwrap().0;
    room.group.clear_pending_proposals(room.provider.storage()).unwrap();
    let add = room.group.propose_add_member(&room.provider, &room.signer, &package).unwrap().0;
    let psk = Psk::External(ExternalPsk::new(b"psk".to_vec()));
    let psk = PreSharedKeyId::new(mls::CIPHERSUITE, room.provider.rand(), psk).unwrap();
    let psk = room.group.propose_pre_shared_key(&room.provider, &room.signer, psk).unwrap().0;
    let policy = room.group.propose_group_context_extensions(&room.provider, context.clone(), &room.signer).unwrap().0;
    let update = room.group.propose_self_update(&room.provider, &room.signer, Default::default()).unwrap().0;
    room.group.clear_pending_proposals(room.provider.storage()).unwrap();
    let dave = MlsSigner::new(&id(4));
    let proposals = [
        by_member,
        add,
        psk,
        policy,
        update,
        ExternalProposal::new_add::<Provider>(package.clone(), group.clone(), epoch, &signer, first).unwrap(),
        ExternalProposal::new_group_context_extensions::<Provider>(context, group.clone(), epoch, &signer, first)
            .unwrap(),
        ExternalProposal::new_remove::<Provider>(leaf, group.clone(), epoch, &mallory, first).unwrap(),
        ExternalProposal::new_remove::<Provider>(leaf, group.clone(), epoch, &signer, SenderExtensionIndex::new(1))
            .unwrap(),
        ExternalProposal::new_remove::<Provider>(LeafNodeIndex::new(7), group.clone(), epoch, &signer, first).unwrap(),
        JoinProposal::new::<storage::Storage>(package, group, epoch, &dave).unwrap(),
    ];
    for proposal in proposals {
        let bytes = proposal.to_bytes().unwrap();
        assert!(world.directory.check_proposal(&bytes).is_err());
        let told = world.rooms[0].receive(&bytes, &pinned).unwrap_err();
        assert!(told.integrity().is_some());
    }
    assert!(world.rooms.iter().all(|r| !r.must_commit()));
    world.chat();
}

#[test]
fn a_group_info_that_is_not_the_commits_is_refused() {
    let mut world = World::of_three(RoomKind::Private);
    let present = world.directory.grant();
    let out = world.rooms[0].self_update().unwrap();
    let of_present = Published { epoch: out.published.epoch, group_info: present.group_info, vouch: present.vouch };
    let misnumbered = Published { epoch: 0, ..out.published.clone() };
    let unvouched = Published { vouch: None, ..out.published.clone() };
    let mut flipped = out.published.clone();
    *flipped.group_info.last_mut().unwrap() ^= 1;
    flipped.vouch = Some(info::vouch(&secret(), &ROOM, world.directory.policy(), &flipped.group_info));
    for published in [of_present, misnumbered, unvouched, flipped] {
        let told = world.directory.check_commit(&out.bytes, published, &pinned);
        assert!(matches!(told, Err(MessageError::Published)), "{told:?}");
    }
    world.log(&out, Some(0));
    world.chat();
}

#[test]
fn messages_of_another_room_and_altered_ones_are_refused() {
    let mut world = World::of_three(RoomKind::Private);
    let policy = Policy::new(RoomKind::Public, "other".into(), key(2), None);
    let (mut other, _) = Room::create(&user(2, "bob"), key(100), [8; 16], policy, None).unwrap();
    let sealed = other.seal(b"x").unwrap();
    assert!(matches!(world.directory.check_private_message(&sealed), Err(MessageError::WrongRoom)));
    let told = world.rooms[0].receive(&sealed, &pinned).unwrap_err();
    assert_eq!(told.integrity(), Some(Integrity::WrongRoom));
    let mut altered = world.rooms[1].seal(b"x").unwrap();
    *altered.last_mut().unwrap() ^= 1;
    let told = world.rooms[0].receive(&altered, &pinned).unwrap_err();
    assert_eq!(told.integrity(), Some(Integrity::ForgedSender));
    world.chat();
}

#[test]
fn a_sealed_handshake_message_is_refused() {
    let mut world = World::of_three(RoomKind::Private);
    let room = &mut world.rooms[1];
    let sealing = openmls::prelude::MlsGroupJoinConfig::builder()
        .wire_format_policy(openmls::prelude::PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .build();
    room.group.set_configuration(room.provider.storage(), &sealing).unwrap();
    let out = commit(&mut world, 1, &Act::default(), &[]);
    assert!(matches!(world.directory.check_private_message(&out.bytes), Err(MessageError::Malformed)));
    let told = world.directory.check_commit(&out.bytes, out.published, &pinned);
    assert!(matches!(told, Err(MessageError::Malformed)));
    assert!(matches!(world.rooms[0].receive(&out.bytes, &pinned), Err(ReceiveError::Malformed)));
}

#[test]
fn a_leaf_that_would_swell_the_tree_is_refused() {
    let mut world = World::of_three(RoomKind::Public);
    let many: Vec<_> = (0..500).map(|n| ExtensionType::Unknown(0xf600 + n)).chain([mls::POLICY]).collect();
    let builder = Capabilities::builder().extensions(many).proposals(vec![ProposalType::SelfRemove]);
    let capabilities = builder.ciphersuites(vec![mls::CIPHERSUITE]).build();
    let room = &mut world.rooms[0];
    let parameters = LeafNodeParameters::builder().with_capabilities(capabilities).build();
    let builder = room.group.commit_builder().force_self_update(true).leaf_node_parameters(parameters);
    let built = builder.load_psks(room.provider.storage()).unwrap().create_group_info(true).build(
        room.provider.rand(),
        room.provider.crypto(),
        &room.signer,
        |_| true,
    );
    let (commit, _, info) = built.unwrap().stage_commit(&room.provider).unwrap().into_messages();
    let group_info = info.unwrap().to_bytes().unwrap();
    let published = Published { epoch: world.directory.epoch() + 1, group_info, vouch: None };
    let out = Outgoing { bytes: commit.to_bytes().unwrap(), published };
    assert_eq!(refused_by(&mut world, &out), Refusal::Leaf);
}

#[test]
fn data_in_a_members_commit_is_refused() {
    let mut world = World::of_three(RoomKind::Private);
    let out = commit(&mut world, 0, &Act::default(), b"hidden");
    assert_eq!(refused_by(&mut world, &out), Refusal::Data);
}
