//! The home server's side: it knows who is a member and what each commit does, and never what is said.

use super::allow::{View, check_commit, check_leaf_size, check_proposal};
use super::change::{Change, Refusal};
use super::info::{Grant, Info, Published, check_vouch, tag_bytes};
use super::provider::{MlsSigner, Provider};
use super::roster::{MemberInfo, Roster};
use super::{CertCheck, RoomId, mls};
use crate::crypto::identity::{Identity, PublicKey};
use crate::limits::{FRAME_MAX, GROUP_INFO_MAX};
use crate::wire::policy::{Policy, RoomKind};
use openmls::prelude::tls_codec::Serialize;
use openmls::prelude::{
    ContentType, ExternalProposal, LeafNodeIndex, OpenMlsSignaturePublicKey, ProcessedMessage, ProcessedMessageContent,
    ProposalStore, ProtocolMessage, PublicGroup, PublicMessageIn, SenderExtensionIndex, StagedCommit, Verifiable,
};
use openmls_traits::OpenMlsProvider;
use openmls_traits::types::SignatureScheme;
use std::fmt;

/// One room as its home server tracks it.
pub struct Directory {
    group: PublicGroup,
    provider: Provider,
    server: PublicKey,
    room_id: RoomId,
    policy: Policy,
    roster: Roster,
    published: Published,
    standing: Vec<Standing>,
}

struct Standing {
    leaf: u32,
    bytes: Vec<u8>,
}

/// A commit that passed everything, and the GroupInfo that belongs to it. [`Directory::apply`] makes it the present.
pub struct CheckedCommit {
    staged: Box<StagedCommit>,
    change: Change,
    published: Published,
}

/// Why a room is not taken up.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A GroupInfo of more than [`GROUP_INFO_MAX`] or a tree of more than [`FRAME_MAX`] bytes.
    #[error("the GroupInfo or the tree is too long")]
    TooLong,
    /// Not a GroupInfo, a tree or a proposal.
    #[error("not a GroupInfo with its tree")]
    Malformed,
    /// Another room, another home server, or a context that our rooms do not have.
    #[error("not a room of this server, or not this room")]
    WrongRoom,
    /// The join key in the policy does not vouch for the GroupInfo.
    #[error("the join key does not vouch for the GroupInfo")]
    BadVouch,
    /// The tree does not belong to the GroupInfo.
    #[error("the tree does not belong to the GroupInfo: {0}")]
    BadTree(String),
    /// A member's leaf or a standing proposal is not allowed.
    #[error("not allowed: {0}")]
    Refused(#[from] Refusal),
}

/// Why the home server refuses a message of a member.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Longer than a message of its kind may be.
    #[error("longer than a message of its kind may be")]
    TooLong,
    /// Not an MLS message of the kind that belongs here; a sealed handshake message too.
    #[error("not an MLS message of the kind that belongs here")]
    Malformed,
    /// Of another group.
    #[error("the message belongs to another room")]
    WrongRoom,
    /// Of another epoch than the present one: its maker catches up and makes it anew.
    #[error("the message is of epoch {message}, the room is in {ours}")]
    Stale {
        /// The epoch that the message says.
        message: u64,
        /// The room's epoch.
        ours: u64,
    },
    /// Not signed by its sender, or it does not hold together.
    #[error("the message does not hold together: {0}")]
    Invalid(String),
    /// Not allowed to its maker.
    #[error("not allowed: {0}")]
    Refused(#[from] Refusal),
    /// The GroupInfo beside the commit is not that of the epoch which the commit makes, or nobody vouches for it.
    #[error("the GroupInfo is not that of the commit")]
    Published,
    /// Nobody here has this key.
    #[error("no such member")]
    NoSuchMember,
}

impl Directory {
    /// Takes up a room from its GroupInfo and tree: at its creation, and after a restart of the server. Whether the one who
    /// asks for it is its owner is for the caller to see ([`Directory::policy`], [`Directory::members`]).
    pub fn open(server: PublicKey, room_id: RoomId, grant: &Grant, certs: &CertCheck) -> Result<Self, DirectoryError> {
        if grant.group_info.len() > GROUP_INFO_MAX || grant.tree.len() > FRAME_MAX {
            return Err(DirectoryError::TooLong);
        }
        let info = Info::parse(&grant.group_info).ok_or(DirectoryError::Malformed)?;
        let policy = mls::read_context(info.context.extensions(), &server).ok_or(DirectoryError::WrongRoom)?;
        let ours = info.context.group_id().as_slice() == room_id && info.context.ciphersuite() == mls::CIPHERSUITE;
        if !ours {
            return Err(DirectoryError::WrongRoom);
        }
        check_vouch(&room_id, &policy, &grant.group_info, grant.vouch.as_ref())
            .map_err(|_| DirectoryError::BadVouch)?;
        let tree = mls::parse_tree(&grant.tree).ok_or(DirectoryError::Malformed)?;
        let provider = Provider::default();
        let epoch = info.context.epoch().as_u64();
        let (crypto, storage) = (provider.crypto(), provider.storage());
        let (group, _) = PublicGroup::from_external(crypto, storage, tree, info.signed, ProposalStore::new())
            .map_err(|e| DirectoryError::BadTree(e.to_string()))?;
        let roster = Roster::read(group.members(), None, certs)?;
        if policy.kind == RoomKind::Direct && roster.len() != 2 {
            return Err(DirectoryError::WrongRoom);
        }
        for member in roster.iter() {
            let leaf = group.leaf(LeafNodeIndex::new(member.leaf)).ok_or(Refusal::Sender)?;
            check_leaf_size(leaf)?;
        }
        let published = Published { epoch, group_info: grant.group_info.clone(), vouch: grant.vouch };
        let mut directory = Self { group, provider, server, room_id, policy, roster, published, standing: Vec::new() };
        for proposal in &grant.proposals {
            directory.check_proposal(proposal).map_err(|_| DirectoryError::Malformed)?;
        }
        Ok(directory)
    }

    /// Judges a commit and the GroupInfo beside it; changes nothing.
    pub fn check_commit(
        &self,
        bytes: &[u8],
        published: Published,
        certs: &CertCheck,
    ) -> Result<CheckedCommit, MessageError> {
        let message = self.handshake(bytes, ContentType::Commit)?;
        let tag = message.confirmation_tag().and_then(tag_bytes).ok_or(MessageError::Malformed)?;
        let processed = self.process(message)?;
        let (sender, data) = (processed.sender().clone(), processed.aad().to_vec());
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(MessageError::Malformed);
        };
        let own_tag = tag_bytes(self.group.confirmation_tag()).unwrap_or_default();
        let change = check_commit(&self.view(&own_tag), &sender, &data, &staged, certs)?;
        self.check_published(&published, &staged, &change, &tag)?;
        Ok(CheckedCommit { staged, change, published })
    }

    /// Makes a checked commit the present. It must be the next thing to happen to the directory that checked it.
    pub fn apply(&mut self, checked: CheckedCommit) -> Result<Change, MessageError> {
        let CheckedCommit { staged, change, published } = checked;
        let ours = self.epoch();
        if ours.checked_add(1) != Some(change.epoch) {
            return Err(MessageError::Stale { message: change.epoch.saturating_sub(1), ours });
        }
        let merged = self.group.merge_commit(self.provider.storage(), *staged);
        merged.map_err(|e| MessageError::Invalid(e.to_string()))?;
        self.roster.apply(&change);
        if let Some(policy) = &change.policy {
            self.policy = policy.clone();
        }
        self.published = published;
        self.standing.clear();
        Ok(change)
    }

    /// Takes a SelfRemove of a member or a Remove of this server's own; it stands until the next commit.
    pub fn check_proposal(&mut self, bytes: &[u8]) -> Result<MemberInfo, MessageError> {
        let message = self.handshake(bytes, ContentType::Proposal)?;
        let processed = self.process(message)?;
        let (sender, data) = (processed.sender().clone(), processed.aad().to_vec());
        let ProcessedMessageContent::ProposalMessage(proposal) = processed.into_content() else {
            return Err(Refusal::Forbidden("a newcomer's proposal").into());
        };
        let tag = tag_bytes(self.group.confirmation_tag()).unwrap_or_default();
        let leaf = check_proposal(&self.view(&tag), &sender, &data, proposal.proposal())?;
        let member = self.roster.get(leaf).ok_or(Refusal::Sender)?.clone();
        let added = self.group.add_proposal(self.provider.storage(), *proposal);
        added.map_err(|e| MessageError::Invalid(e.to_string()))?;
        self.standing.push(Standing { leaf, bytes: bytes.to_vec() });
        Ok(member)
    }

    /// Proposes, as the external sender, that a member be removed: the bytes for the room's log. It stands from now on.
    pub fn propose_remove(&mut self, server: &Identity, member: &PublicKey) -> Result<Vec<u8>, MessageError> {
        let leaf = self.roster.by_key(member).ok_or(MessageError::NoSuchMember)?.leaf;
        let proposal = ExternalProposal::new_remove::<Provider>(
            LeafNodeIndex::new(leaf),
            self.group.group_id().clone(),
            self.group.group_context().epoch(),
            &MlsSigner::new(server),
            SenderExtensionIndex::new(0),
        );
        let bytes = proposal.map_err(|e| MessageError::Invalid(e.to_string()))?.to_bytes();
        let bytes = bytes.map_err(|e| MessageError::Invalid(e.to_string()))?;
        self.check_proposal(&bytes)?;
        Ok(bytes)
    }

    /// Checks what can be seen of a sealed message: it is an application message of this room in its present epoch, which is
    /// returned. Handshake messages must not be sealed, since nobody could check them here.
    pub fn check_private_message(&self, bytes: &[u8]) -> Result<u64, MessageError> {
        match self.protocol_message(bytes)? {
            ProtocolMessage::PrivateMessage(message) if message.content_type() == ContentType::Application => {
                Ok(self.epoch())
            }
            _ => Err(MessageError::Malformed),
        }
    }

    /// What a newcomer with this key needs. A SelfRemove of its own older leaf is left out, since its join replaces that leaf.
    pub fn grant_for(&self, newcomer: &PublicKey) -> Grant {
        let own = self.roster.by_key(newcomer).map(|m| m.leaf);
        self.grant_without(own)
    }

    /// What this directory can be opened from again.
    pub fn grant(&self) -> Grant {
        self.grant_without(None)
    }

    /// The exported ratchet tree.
    pub fn tree(&self) -> Vec<u8> {
        self.group.export_ratchet_tree().tls_serialize_detached().unwrap_or_default()
    }

    /// All members, in the order of their leaves.
    pub fn members(&self) -> impl Iterator<Item = &MemberInfo> {
        self.roster.iter()
    }

    /// Whether a leaf with this key is in the tree.
    pub fn is_member(&self, key: &PublicKey) -> bool {
        self.roster.by_key(key).is_some()
    }

    /// Members whose removal stands.
    pub fn standing(&self) -> impl Iterator<Item = &MemberInfo> {
        self.standing.iter().filter_map(|s| self.roster.get(s.leaf))
    }

    /// The present epoch.
    pub fn epoch(&self) -> u64 {
        self.group.group_context().epoch().as_u64()
    }

    /// The room's policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The room's identification code.
    pub const fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    fn grant_without(&self, leaf: Option<u32>) -> Grant {
        let kept = self.standing.iter().filter(|s| Some(s.leaf) != leaf);
        Grant {
            group_info: self.published.group_info.clone(),
            tree: self.tree(),
            vouch: self.published.vouch,
            proposals: kept.map(|s| s.bytes.clone()).collect(),
        }
    }

    fn view<'a>(&'a self, tag: &'a [u8]) -> View<'a> {
        View {
            room_id: &self.room_id,
            epoch: self.epoch(),
            tag,
            policy: &self.policy,
            roster: &self.roster,
            server: &self.server,
            standing: self.standing.iter().map(|s| s.leaf).collect(),
        }
    }

    fn process(&self, message: PublicMessageIn) -> Result<ProcessedMessage, MessageError> {
        let processed = self.group.process_message(self.provider.crypto(), message);
        processed.map_err(|e| MessageError::Invalid(e.to_string()))
    }

    fn handshake(&self, bytes: &[u8], content: ContentType) -> Result<PublicMessageIn, MessageError> {
        match self.protocol_message(bytes)? {
            ProtocolMessage::PublicMessage(message) if message.content_type() == content => Ok(*message),
            _ => Err(MessageError::Malformed),
        }
    }

    fn protocol_message(&self, bytes: &[u8]) -> Result<ProtocolMessage, MessageError> {
        if bytes.len() > FRAME_MAX {
            return Err(MessageError::TooLong);
        }
        let message = mls::parse(bytes).and_then(|m| m.try_into_protocol_message().ok());
        let message = message.ok_or(MessageError::Malformed)?;
        if mls::too_long(bytes, &message) {
            return Err(MessageError::TooLong);
        }
        if message.group_id().as_slice() != self.room_id {
            return Err(MessageError::WrongRoom);
        }
        let (epoch, ours) = (message.epoch().as_u64(), self.epoch());
        if epoch == ours { Ok(message) } else { Err(MessageError::Stale { message: epoch, ours }) }
    }

    /// The GroupInfo must be the committer's, of exactly the state that the commit makes; else nobody could join after it.
    fn check_published(
        &self,
        published: &Published,
        staged: &StagedCommit,
        change: &Change,
        tag: &[u8],
    ) -> Result<(), MessageError> {
        let refused = MessageError::Published;
        if published.group_info.len() > GROUP_INFO_MAX {
            return Err(MessageError::TooLong);
        }
        let Some(info) = Info::parse(&published.group_info) else { return Err(refused) };
        let same = info.context == *staged.group_context()
            && info.tag == tag
            && info.signer == change.committer.leaf
            && published.epoch == change.epoch
            && info.signed.extensions().external_pub().is_some();
        let key =
            OpenMlsSignaturePublicKey::new(change.committer.key.as_bytes().as_slice().into(), SignatureScheme::ED25519);
        let signed = key.is_ok_and(|key| info.signed.verify(self.provider.crypto(), &key).is_ok());
        let policy = change.policy.as_ref().unwrap_or(&self.policy);
        let vouched = check_vouch(&self.room_id, policy, &published.group_info, published.vouch.as_ref()).is_ok();
        if same && signed && vouched { Ok(()) } else { Err(refused) }
    }
}

impl CheckedCommit {
    /// What it will change.
    pub const fn change(&self) -> &Change {
        &self.change
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("epoch", &self.epoch())
            .field("members", &self.roster.len())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CheckedCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedCommit").field("change", &self.change).finish_non_exhaustive()
    }
}
