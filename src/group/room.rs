//! A member's side of a room: its state, creating it, sealing.

use super::allow::{View, standing_leaf};
use super::change::Change;
use super::info::{Grant, tag_bytes, vouch};
use super::provider::{MlsSigner, Provider};
use super::roster::{MemberInfo, Roster};
use super::{Member, RoomId, mls};
use crate::crypto::identity::{Identity, PublicKey};
use crate::limits::PAYLOAD_MAX;
use crate::wire::policy::{Policy, RoomKind};
use openmls::prelude::tls_codec::Serialize;
use openmls::prelude::{Extensions, GroupContext, MlsGroup};
use openmls_traits::OpenMlsProvider;
use std::fmt;

/// One room as a member sees it. Everything it tells about members, senders and epochs comes from MLS, nothing from the
/// server's word.
pub struct Room {
    pub(super) group: MlsGroup,
    pub(super) provider: Provider,
    pub(super) signer: MlsSigner,
    pub(super) me: Member,
    pub(super) server: PublicKey,
    pub(super) room_id: RoomId,
    pub(super) policy: Policy,
    pub(super) roster: Roster,
    /// The join key, if we hold the one of the present policy or of an older one.
    pub(super) join: Option<Identity>,
    /// What our own commit, sent and not yet in the log, will change.
    pub(super) pending: Option<Pending>,
    /// False once our leaf is gone.
    pub(super) active: bool,
}

pub(super) struct Pending {
    pub(super) change: Change,
    pub(super) join: Option<Identity>,
}

/// Why a room could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The policy names another owner, or its join key is not the one given.
    #[error("the policy does not fit its creator")]
    Policy,
    /// The certificate is not for the creator's key.
    #[error("the name certificate is for another key")]
    Cert,
    /// The library failed.
    #[error("MLS: {0}")]
    Mls(String),
}

/// Why a payload could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// More than [`PAYLOAD_MAX`] bytes.
    #[error("a message has at most {PAYLOAD_MAX} bytes")]
    TooLong,
    /// Somebody's removal stands: commit it first ([`Room::commit_pending`]), so that nothing is sealed for who should be gone
    /// (RFC 9420 §12.4).
    #[error("a removal stands and must be committed first")]
    CommitFirst,
    /// We are no longer a member.
    #[error("we are no longer a member")]
    Gone,
    /// The library failed.
    #[error("MLS: {0}")]
    Mls(String),
}

impl Room {
    /// Makes a room of one member, ourselves. `join` is the join key of a private room and `None` otherwise. The
    /// [`Grant`] is what the home server's [`super::Directory`] starts from.
    pub fn create(
        me: &Member,
        server: PublicKey,
        room_id: RoomId,
        policy: Policy,
        join: Option<Identity>,
    ) -> Result<(Self, Grant), CreateError> {
        let fits = policy.kind != RoomKind::Direct
            && policy.owner() == me.identity.public()
            && policy.join_key() == join.as_ref().map(Identity::public);
        if !fits {
            return Err(CreateError::Policy);
        }
        let room = Self::found(me, server, room_id, policy, join)?;
        let grant = room.grant().map_err(CreateError::Mls)?;
        Ok((room, grant))
    }

    /// A group of one, not yet shown to anybody.
    pub(super) fn found(
        me: &Member,
        server: PublicKey,
        room_id: RoomId,
        policy: Policy,
        join: Option<Identity>,
    ) -> Result<Self, CreateError> {
        if me.cert.key() != me.identity.public() {
            return Err(CreateError::Cert);
        }
        let (provider, signer) = (Provider::default(), MlsSigner::new(&me.identity));
        let context = Extensions::<GroupContext>::from_vec(mls::context(&policy, &server)).map_err(library)?;
        let config = mls::config();
        let group = MlsGroup::builder()
            .with_group_id(mls::group_id(&room_id))
            .ciphersuite(mls::CIPHERSUITE)
            .with_wire_format_policy(config.wire_format_policy())
            .max_past_epochs(0)
            .number_of_resumption_psks(0)
            .use_ratchet_tree_extension(false)
            .lifetime(mls::lifetime())
            .with_capabilities(mls::capabilities())
            .with_group_context_extensions(context)
            .build(&provider, &signer, mls::credential(&me.cert))
            .map_err(library)?;
        let own = Some(me.identity.public());
        let roster = Roster::read(group.members(), own, &|_| Ok(())).map_err(|_| CreateError::Cert)?;
        let me = me.clone();
        Ok(Self { group, provider, signer, me, server, room_id, policy, roster, join, pending: None, active: true })
    }

    /// The present epoch as a newcomer or a server needs it.
    pub(super) fn grant(&self) -> Result<Grant, String> {
        let group_info = self
            .group
            .export_group_info(self.provider.crypto(), &self.signer, false)
            .map_err(|e| e.to_string())?
            .to_bytes()
            .map_err(|e| e.to_string())?;
        let tree = self.group.export_ratchet_tree().tls_serialize_detached().map_err(|e| e.to_string())?;
        let vouch = self.join.as_ref().map(|join| vouch(join, &self.room_id, &self.policy, &group_info));
        Ok(Grant { group_info, tree, vouch, proposals: Vec::new() })
    }

    /// Seals a payload for all members of the present epoch; an MLS PrivateMessage.
    pub fn seal(&mut self, payload: &[u8]) -> Result<Vec<u8>, SealError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(SealError::TooLong);
        }
        if !self.active {
            return Err(SealError::Gone);
        }
        if self.must_commit() {
            return Err(SealError::CommitFirst);
        }
        let message = self.group.create_message(&self.provider, &self.signer, payload);
        message.map_err(seal_library)?.to_bytes().map_err(seal_library)
    }

    /// All members, in the order of their leaves.
    pub fn members(&self) -> impl Iterator<Item = &MemberInfo> {
        self.roster.iter()
    }

    /// The member with this key.
    pub fn member(&self, key: &PublicKey) -> Option<&MemberInfo> {
        self.roster.by_key(key)
    }

    /// Our own key.
    pub fn own_key(&self) -> PublicKey {
        self.me.identity.public()
    }

    /// Our own leaf, `None` once it is gone.
    pub fn own(&self) -> Option<&MemberInfo> {
        self.active.then(|| self.roster.get(self.group.own_leaf_index().u32())).flatten()
    }

    /// The epoch, which grows by one with each commit.
    pub fn epoch(&self) -> u64 {
        self.group.epoch().as_u64()
    }

    /// Owner, moderators, join key, label.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The room's identification code.
    pub const fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// A value that is equal for all members of an epoch that agree on everything, and that nobody else knows (RFC 9420 §8.7).
    pub fn epoch_authenticator(&self) -> &[u8] {
        self.group.epoch_authenticator().as_slice()
    }

    /// The hash of the ratchet tree.
    pub fn tree_hash(&self) -> &[u8] {
        self.group.public_group().group_context().tree_hash()
    }

    /// A removal stands, so nothing can be sealed before a commit.
    pub fn must_commit(&self) -> bool {
        self.group.has_pending_proposals()
    }

    /// False once our leaf is gone; such a room neither seals nor opens.
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// Whether we hold the join key of the present policy, without which we cannot commit in a private room.
    pub fn holds_join_key(&self) -> bool {
        self.policy.join_key() == self.join.as_ref().map(Identity::public)
    }

    /// Takes the join key of a rotated secret; false, and nothing taken, if it is not the present policy's.
    pub fn set_join_key(&mut self, join: Identity) -> bool {
        let fits = self.policy.join_key() == Some(join.public());
        if fits {
            self.join = Some(join);
        }
        fits
    }

    /// Takes a renewed certificate of the same name and key; the next commit puts it into our leaf. False if it is another's.
    pub fn set_cert(&mut self, cert: crate::wire::cert::NameCert) -> bool {
        let fits = cert.key() == self.me.cert.key() && cert.subject == self.me.cert.subject;
        if fits {
            self.me.cert = cert;
        }
        fits
    }

    /// The serialised confirmation tag of this epoch.
    pub(super) fn tag(&self) -> Vec<u8> {
        tag_bytes(self.group.confirmation_tag()).unwrap_or_default()
    }

    pub(super) fn view<'a>(&'a self, tag: &'a [u8]) -> View<'a> {
        View {
            room_id: &self.room_id,
            epoch: self.epoch(),
            tag,
            policy: &self.policy,
            roster: &self.roster,
            server: &self.server,
            standing: self.standing(),
        }
    }

    pub(super) fn standing(&self) -> Vec<u32> {
        self.group.pending_proposals().filter_map(standing_leaf).collect()
    }

    /// Follows a commit that the group has merged.
    pub(super) fn follow(&mut self, change: &Change, own: bool) {
        self.roster.apply(change);
        if let Some(policy) = &change.policy {
            self.policy = policy.clone();
        }
        let pending = self.pending.take();
        if own && let Some(join) = pending.and_then(|p| p.join) {
            self.join = Some(join);
        }
        self.active = self.group.is_active();
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("epoch", &self.epoch())
            .field("members", &self.roster.len())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

fn library(error: impl fmt::Display) -> CreateError {
    CreateError::Mls(error.to_string())
}

fn seal_library(error: impl fmt::Display) -> SealError {
    SealError::Mls(error.to_string())
}
