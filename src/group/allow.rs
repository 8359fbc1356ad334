//! Who may do what: the one allow-list that the home server and every member apply before anything changes.
//!
//! What is not named here is refused: Adds, external Adds, Updates by proposal, PSKs, ReInit, custom proposals.

use super::roster::{MemberInfo, Roster, leaf_cert};
use super::{CertCheck, CertRefused, RoomId, mls};
use crate::crypto::identity::{Identity, PublicKey, Purpose};
use crate::limits::ROOM_MEMBERS_MAX;
use crate::wire::name::FullName;
use crate::wire::policy::{Policy, RoomKind};
use crate::wire::{decode, encode};
use openmls::prelude::{
    GroupContextExtensionProposal, LeafNode, Proposal, ProposalOrRefType, QueuedProposal, Sender, StagedCommit,
};

/// What a commit does to a room, in words of people rather than proposals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The epoch that it makes.
    pub epoch: u64,
    /// Who made it, as it is afterwards; the newcomer if `joined`.
    pub committer: MemberInfo,
    /// The committer was not a member before, or under another leaf.
    pub joined: bool,
    /// The newcomer's own older leaf, which this one replaces.
    pub replaced: Option<MemberInfo>,
    /// Those who left by themselves.
    pub left: Vec<MemberInfo>,
    /// Those who were removed.
    pub removed: Vec<Removed>,
    /// The policy from now on, if it changed.
    pub policy: Option<Policy>,
}

/// One member that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Who is out.
    pub member: MemberInfo,
    /// By whom.
    pub by: By,
}

/// Who wanted a member out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The home server proposed it.
    HomeServer,
    /// The committer did it: the owner or a moderator.
    Committer,
}

impl Change {
    /// Everybody whose leaf is gone.
    pub(super) fn gone(&self) -> impl Iterator<Item = &MemberInfo> {
        self.replaced.iter().chain(&self.left).chain(self.removed.iter().map(|r| &r.member))
    }
}

/// Why a commit or proposal is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A proposal of a kind, sender or form that is never allowed in this kind of room.
    #[error("{0} is not allowed here")]
    Forbidden(&'static str),
    /// The committer has not the role for it.
    #[error("{0} may not do this")]
    NotEntitled(FullName),
    /// The commit does not renew its maker's leaf.
    #[error("the commit has no update path")]
    NoPath,
    /// Nobody can join a direct conversation.
    #[error("nobody can join a direct conversation")]
    Closed,
    /// The newcomer has not shown that it knows the room's secret.
    #[error("the newcomer has not shown that it knows the room's secret")]
    JoinProof,
    /// The room has as many members as it may have.
    #[error("the room is full")]
    Full,
    /// The sender is no member.
    #[error("the sender is no member")]
    Sender,
    /// The leaf's credential is no certificate for its key, or the leaf carries what ours do not.
    #[error("the leaf's credential is no name certificate for its key")]
    Credential,
    /// The leaf's certificate is not believed.
    #[error(transparent)]
    Cert(#[from] CertRefused),
    /// The committer's leaf changed its name or key.
    #[error("{0} changed its identity")]
    Identity(FullName),
    /// Another leaf has this name or key already.
    #[error("{0} is in the room already")]
    Taken(FullName),
    /// A change of the group context other than the next version of the policy.
    #[error("not the next version of the room's policy")]
    Policy,
    /// The member's removal stands already.
    #[error("its removal stands already")]
    Standing,
    /// Authenticated data where none belongs.
    #[error("unexpected authenticated data")]
    Data,
}

/// The state of a group before a commit, as far as the rules ask for it.
pub(super) struct View<'a> {
    pub(super) room_id: &'a RoomId,
    pub(super) epoch: u64,
    /// The confirmation tag of this epoch, serialised.
    pub(super) tag: &'a [u8],
    pub(super) policy: &'a Policy,
    pub(super) roster: &'a Roster,
    pub(super) server: &'a PublicKey,
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

/// Judges a proposal that comes by itself; returns the leaf that it wants out. `standing` are the leaves whose removal is
/// proposed already.
pub(super) fn check_proposal(
    view: &View,
    sender: &Sender,
    data: &[u8],
    proposal: &Proposal,
    standing: &[u32],
) -> Result<u32, Refusal> {
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
    if standing.contains(&leaf) { Err(Refusal::Standing) } else { Ok(leaf) }
}

/// The leaf that an allowed standing proposal wants out.
pub(super) fn standing_leaf(queued: &QueuedProposal) -> Option<u32> {
    match (queued.proposal(), queued.sender()) {
        (Proposal::SelfRemove, Sender::Member(leaf)) => Some(leaf.u32()),
        (Proposal::Remove(remove), _) => Some(remove.removed().u32()),
        _ => None,
    }
}

/// The authenticated data of a join: the join key's signature in a private room, nothing elsewhere.
pub(super) fn join_data(join: Option<&Identity>, room_id: &RoomId, point: &JoinPoint) -> Vec<u8> {
    let Some(join) = join else { return Vec::new() };
    encode(&JoinProof { signature: point.with_fields(room_id, |fields| join.sign(Purpose::Join, fields)) })
}

/// Where and as whom somebody joins.
pub(super) struct JoinPoint<'a> {
    pub(super) version: u64,
    pub(super) epoch: u64,
    pub(super) tag: &'a [u8],
    pub(super) joiner: PublicKey,
}

impl JoinPoint<'_> {
    fn with_fields<T>(&self, room_id: &RoomId, f: impl FnOnce(&[&[u8]]) -> T) -> T {
        let (version, epoch) = (self.version.to_be_bytes(), self.epoch.to_be_bytes());
        f(&[room_id, &version, &epoch, self.tag, self.joiner.as_bytes()])
    }
}

#[derive(minicbor::Encode, minicbor::Decode)]
struct JoinProof {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    signature: [u8; 64],
}

/// Largest encoded [`JoinProof`], bytes; room for fields to come.
const JOIN_PROOF_MAX: usize = 256;

fn member_commit(
    view: &View,
    index: u32,
    leaf: &LeafNode,
    staged: &StagedCommit,
    certs: &CertCheck,
) -> Result<Change, Refusal> {
    let before = view.roster.get(index).ok_or(Refusal::Sender)?;
    let committer = read_leaf(leaf, index, certs)?;
    if committer.key != before.key || committer.name != before.name {
        return Err(Refusal::Identity(before.name.clone()));
    }
    let mut change = Change::by(committer, staged);
    for queued in staged.queued_proposals() {
        member_proposal(view, before, queued, &mut change)?;
    }
    Ok(change)
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
    Ok(Change { joined: true, left, replaced, ..Change::by(committer, staged) })
}

fn check_join(view: &View, data: &[u8], joiner: PublicKey) -> Result<(), Refusal> {
    match (view.policy.kind, view.policy.join_key()) {
        (RoomKind::Direct, _) => Err(Refusal::Closed),
        (RoomKind::Public, _) if data.is_empty() => Ok(()),
        (RoomKind::Public, _) => Err(Refusal::Data),
        (RoomKind::Private, None) => Err(Refusal::JoinProof),
        (RoomKind::Private, Some(key)) => {
            let proof: JoinProof = decode(data, JOIN_PROOF_MAX).map_err(|_| Refusal::JoinProof)?;
            let point = JoinPoint { version: view.policy.version, epoch: view.epoch, tag: view.tag, joiner };
            point
                .with_fields(view.room_id, |fields| key.verify(Purpose::Join, fields, &proof.signature))
                .map_err(|_| Refusal::JoinProof)
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
    let is_moderator = |key: &PublicKey| policy.moderators().any(|m| m == *key);
    let owner = policy.owner();
    *actor == owner || (is_moderator(actor) && *target != owner && !is_moderator(target))
}

fn next_policy(view: &View, proposal: &GroupContextExtensionProposal) -> Result<Policy, Refusal> {
    let next = mls::read_context(proposal.extensions(), view.server).ok_or(Refusal::Policy)?;
    let now = view.policy;
    let follows = now.version.checked_add(1) == Some(next.version)
        && next.kind == now.kind
        && next.label == now.label
        && next.owner() == now.owner();
    if follows { Ok(next) } else { Err(Refusal::Policy) }
}

fn read_leaf(leaf: &LeafNode, index: u32, certs: &CertCheck) -> Result<MemberInfo, Refusal> {
    let cert = leaf_cert(leaf.credential(), leaf.signature_key().as_slice())?;
    if leaf.extensions().iter().next().is_some() {
        return Err(Refusal::Credential);
    }
    certs(&cert)?;
    Ok(MemberInfo::new(cert, index))
}

impl Change {
    fn by(committer: MemberInfo, staged: &StagedCommit) -> Self {
        Self {
            epoch: staged.group_context().epoch().as_u64(),
            committer,
            joined: false,
            replaced: None,
            left: Vec::new(),
            removed: Vec::new(),
            policy: None,
        }
    }
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
