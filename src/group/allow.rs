//! Who may do what: the one allow-list that the home server and every member apply before anything changes.
//!
//! What is not named here is refused: Adds, external Adds, Updates by proposal, PSKs, ReInit, custom proposals.

use super::change::{By, Change, Refusal, Removed};
use super::proof::JoinPoint;
use super::roster::{MemberInfo, Roster, leaf_cert};
use super::{CertCheck, RoomId, mls};
use crate::crypto::identity::PublicKey;
use crate::limits::{LEAF_MAX, ROOM_MEMBERS_MAX};
use crate::wire::policy::{Policy, RoomKind};
use openmls::prelude::tls_codec::Size;
use openmls::prelude::{
    GroupContextExtensionProposal, LeafNode, Proposal, ProposalOrRefType, QueuedProposal, Sender, StagedCommit,
};

/// The state of a group before a commit, as far as the rules ask for it.
pub(super) struct View<'a> {
    pub(super) room_id: &'a RoomId,
    pub(super) epoch: u64,
    /// The confirmation tag of this epoch, serialised.
    pub(super) tag: &'a [u8],
    pub(super) policy: &'a Policy,
    pub(super) roster: &'a Roster,
    pub(super) server: &'a PublicKey,
    /// Leaves whose removal is proposed.
    pub(super) standing: Vec<u32>,
}

/// Judges a commit that openmls found well formed; nothing is merged without it.
pub(super) fn check_commit(
    view: &View,
    sender: &Sender,
    data: &[u8],
    staged: &StagedCommit,
    certs: &CertCheck,
) -> Result<Change, Refusal> {
    let leaf = staged.update_path_leaf_node().ok_or(Refusal::NoPath)?;
    match sender {
        Sender::Member(index) if data.is_empty() => member_commit(view, index.u32(), leaf, staged, certs),
        Sender::Member(_) => Err(Refusal::Data),
        Sender::NewMemberCommit => external_commit(view, data, leaf, staged, certs),
        _ => Err(Refusal::Sender),
    }
}

/// Judges a proposal that comes by itself; returns the leaf that it wants out.
pub(super) fn check_proposal(view: &View, sender: &Sender, data: &[u8], proposal: &Proposal) -> Result<u32, Refusal> {
    if view.policy.kind == RoomKind::Direct {
        return Err(Refusal::Forbidden("a proposal"));
    }
    if !data.is_empty() {
        return Err(Refusal::Data);
    }
    let leaf = match (proposal, sender) {
        (Proposal::SelfRemove, Sender::Member(leaf)) => leaf.u32(),
        (Proposal::Remove(remove), Sender::External(_)) => remove.removed().u32(),
        _ => return Err(Refusal::Forbidden(kind(proposal))),
    };
    view.roster.get(leaf).ok_or(Refusal::Sender)?;
    if view.standing.contains(&leaf) { Err(Refusal::Standing) } else { Ok(leaf) }
}

/// The leaf that an allowed standing proposal wants out.
pub(super) fn standing_leaf(queued: &QueuedProposal) -> Option<u32> {
    match (queued.proposal(), queued.sender()) {
        (Proposal::SelfRemove, Sender::Member(leaf)) => Some(leaf.u32()),
        (Proposal::Remove(remove), _) => Some(remove.removed().u32()),
        _ => None,
    }
}

fn member_commit(
    view: &View,
    index: u32,
    leaf: &LeafNode,
    staged: &StagedCommit,
    certs: &CertCheck,
) -> Result<Change, Refusal> {
    let before = view.roster.get(index).ok_or(Refusal::Sender)?;
    // Each commit voids the proposals that it leaves out: who is to go could put it off forever.
    if view.standing.contains(&index) {
        return Err(Refusal::Standing);
    }
    let committer = read_leaf(leaf, index, certs)?;
    if committer.key != before.key || committer.name != before.name {
        return Err(Refusal::Identity(before.name.clone()));
    }
    let mut change = Change::by(committer, staged);
    for queued in staged.queued_proposals() {
        member_proposal(view, before, queued, &mut change)?;
    }
    let change = change.each_gone_once()?;
    check_standing_of(view, &change)?;
    Ok(change)
}

/// A new policy fits the room as it is after the commit: its owner is there, and nobody whom it bans.
fn check_standing_of(view: &View, change: &Change) -> Result<(), Refusal> {
    let Some(policy) = &change.policy else { return Ok(()) };
    let stays =
        |key: &PublicKey| view.roster.by_key(key).is_some_and(|m| change.gone().all(|gone| gone.leaf != m.leaf));
    let owner = policy.owner();
    let fits = stays(&owner) && !policy.is_banned(&owner) && !policy.banned().any(|key| stays(&key));
    if fits { Ok(()) } else { Err(Refusal::Policy) }
}

fn member_proposal(
    view: &View,
    committer: &MemberInfo,
    queued: &QueuedProposal,
    change: &mut Change,
) -> Result<(), Refusal> {
    let by_reference = queued.proposal_or_ref_type() == ProposalOrRefType::Reference;
    let proposal = queued.proposal();
    if view.policy.kind == RoomKind::Direct {
        return Err(Refusal::Forbidden(kind(proposal)));
    }
    match (proposal, queued.sender(), by_reference) {
        (Proposal::SelfRemove, Sender::Member(leaf), true) => {
            change.left.push(view.roster.get(leaf.u32()).ok_or(Refusal::Sender)?.clone());
        }
        (Proposal::Remove(remove), Sender::External(_), true) => {
            let member = view.roster.get(remove.removed().u32()).ok_or(Refusal::Sender)?.clone();
            change.removed.push(Removed { member, by: By::HomeServer });
        }
        (Proposal::Remove(remove), Sender::Member(_), false) => {
            let member = view.roster.get(remove.removed().u32()).ok_or(Refusal::Sender)?.clone();
            if !may_remove(view.policy, &committer.key, &member.key) {
                return Err(Refusal::NotEntitled(committer.name.clone()));
            }
            change.removed.push(Removed { member, by: By::Committer });
        }
        (Proposal::GroupContextExtensions(proposal), Sender::Member(_), false) => {
            if committer.key != view.policy.owner() {
                return Err(Refusal::NotEntitled(committer.name.clone()));
            }
            change.policy = Some(next_policy(view, proposal)?);
        }
        _ => return Err(Refusal::Forbidden(kind(proposal))),
    }
    Ok(())
}

fn external_commit(
    view: &View,
    data: &[u8],
    leaf: &LeafNode,
    staged: &StagedCommit,
    certs: &CertCheck,
) -> Result<Change, Refusal> {
    let joiner = leaf_cert(leaf.credential(), leaf.signature_key().as_slice())?.key();
    check_join(view, data, joiner)?;
    let (mut left, mut replaced) = (Vec::new(), None);
    for queued in staged.queued_proposals() {
        let by_reference = queued.proposal_or_ref_type() == ProposalOrRefType::Reference;
        match (queued.proposal(), queued.sender(), by_reference) {
            (Proposal::ExternalInit(_), _, false) => {}
            (Proposal::SelfRemove, Sender::Member(leaf), true) => {
                left.push(view.roster.get(leaf.u32()).ok_or(Refusal::Sender)?.clone());
            }
            (Proposal::Remove(remove), _, false) if replaced.is_none() => {
                let member = view.roster.get(remove.removed().u32()).ok_or(Refusal::Sender)?;
                if member.key != joiner {
                    return Err(Refusal::Forbidden("a newcomer's Remove of somebody else"));
                }
                replaced = Some(member.clone());
            }
            (proposal, ..) => return Err(Refusal::Forbidden(kind(proposal))),
        }
    }
    let gone: Vec<_> = left.iter().chain(&replaced).cloned().collect();
    let committer = read_leaf(leaf, view.roster.free_leaf(&gone), certs)?;
    check_room_for(view, &committer, &gone)?;
    Change { joined: true, left, replaced, ..Change::by(committer, staged) }.each_gone_once()
}

fn check_join(view: &View, data: &[u8], joiner: PublicKey) -> Result<(), Refusal> {
    if view.policy.is_banned(&joiner) {
        return Err(Refusal::Banned);
    }
    match (view.policy.kind, view.policy.join_key()) {
        (RoomKind::Direct, _) => Err(Refusal::Closed),
        (RoomKind::Public, _) if data.is_empty() => Ok(()),
        (RoomKind::Public, _) => Err(Refusal::Data),
        (RoomKind::Private, None) => Err(Refusal::JoinProof),
        (RoomKind::Private, Some(key)) => {
            let point = JoinPoint { version: view.policy.version, epoch: view.epoch, tag: view.tag, joiner };
            point.check(&key, view.room_id, data).map_err(|_| Refusal::JoinProof)
        }
    }
}

/// openmls does not look whether a newcomer's key is in the tree already; such a tree would admit nobody after it.
fn check_room_for(view: &View, joiner: &MemberInfo, gone: &[MemberInfo]) -> Result<(), Refusal> {
    let stays = |member: &&MemberInfo| gone.iter().all(|g| g.leaf != member.leaf);
    if view.roster.iter().filter(stays).any(|m| m.key == joiner.key || m.name == joiner.name) {
        return Err(Refusal::Taken(joiner.name.clone()));
    }
    if view.roster.len().saturating_sub(gone.len()) >= ROOM_MEMBERS_MAX { Err(Refusal::Full) } else { Ok(()) }
}

fn may_remove(policy: &Policy, actor: &PublicKey, target: &PublicKey) -> bool {
    let owner = policy.owner();
    *actor == owner || (policy.is_moderator(actor) && *target != owner && !policy.is_moderator(target))
}

fn next_policy(view: &View, proposal: &GroupContextExtensionProposal) -> Result<Policy, Refusal> {
    let next = mls::read_context(proposal.extensions(), view.server).ok_or(Refusal::Policy)?;
    let now = view.policy;
    // That all lists and texts in it are within their bounds, its decoder has seen to.
    let follows = now.version.checked_add(1) == Some(next.version) && next.kind == now.kind && next.label == now.label;
    if follows { Ok(next) } else { Err(Refusal::Policy) }
}

fn read_leaf(leaf: &LeafNode, index: u32, certs: &CertCheck) -> Result<MemberInfo, Refusal> {
    let cert = leaf_cert(leaf.credential(), leaf.signature_key().as_slice())?;
    check_leaf_size(leaf)?;
    certs(&cert)?;
    Ok(MemberInfo::new(cert, index))
}

/// One member's swollen leaf would make the tree too large for anybody to join.
pub(super) fn check_leaf_size(leaf: &LeafNode) -> Result<(), Refusal> {
    if leaf.tls_serialized_len() > LEAF_MAX { Err(Refusal::Leaf) } else { Ok(()) }
}

fn kind(proposal: &Proposal) -> &'static str {
    match proposal {
        Proposal::Add(_) => "an Add",
        Proposal::Update(_) => "an Update",
        Proposal::Remove(_) => "this Remove",
        Proposal::PreSharedKey(_) => "a PreSharedKey",
        Proposal::ReInit(_) => "a ReInit",
        Proposal::ExternalInit(_) => "an ExternalInit",
        Proposal::GroupContextExtensions(_) => "this change of the group context",
        Proposal::SelfRemove => "this SelfRemove",
        Proposal::Custom(_) => "a custom proposal",
    }
}
