//! Joining a room: a newcomer believes nothing that the room's secret, the pins and the tree hash do not prove.

use super::change::Refusal;
use super::commit::Outgoing;
use super::info::{Grant, Info, Published, check_vouch, vouch};
use super::proof::{JoinPoint, join_data};
use super::provider::{MlsSigner, Provider};
use super::room::Room;
use super::roster::Roster;
use super::{CertCheck, Integrity, Member, RoomId, mls};
use crate::crypto::identity::{Identity, PublicKey};
use crate::limits::{FRAME_MAX, GROUP_INFO_MAX};
use crate::wire::policy::{Policy, RoomKind};
use openmls::prelude::{CommitMessageBundle, MlsGroup, MlsMessageBodyIn, PublicMessageIn, RatchetTreeIn, Sender};
use openmls_traits::OpenMlsProvider;

/// The room that the user meant.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its code; the join key was derived with it.
    pub room_id: RoomId,
    /// As the user asked: a password makes it private.
    pub kind: RoomKind,
    /// The label that the user typed, normalised.
    pub label: String,
    /// The pinned key of its home server.
    pub server: PublicKey,
}

/// Why a newcomer does not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A GroupInfo of more than [`GROUP_INFO_MAX`] or a tree of more than [`FRAME_MAX`] bytes.
    #[error("the GroupInfo or the tree is too long")]
    TooLong,
    /// Not a GroupInfo or not a tree.
    #[error("not a GroupInfo with its tree")]
    Malformed,
    /// Nobody who knows the room's secret vouches for it: a room of the server's own making, or one from before a rotation.
    #[error("nobody who knows the room's secret vouches for this GroupInfo")]
    BadVouch,
    /// A GroupInfo of another room: code, kind, label or home server are not those asked for.
    #[error("this is not the room that was asked for")]
    WrongRoom,
    /// The tree does not belong to the GroupInfo.
    #[error("the tree does not belong to the GroupInfo: {0}")]
    BadTree(String),
    /// A member's leaf is not believed.
    #[error("a member's leaf is not believed: {0}")]
    Member(#[from] Refusal),
    /// Our certificate is not for our key.
    #[error("the name certificate is for another key")]
    Cert,
    /// The library failed.
    #[error("MLS: {0}")]
    Mls(String),
}

impl JoinError {
    /// What to tell the user, if somebody broke the rules.
    pub const fn integrity(&self) -> Option<Integrity> {
        match self {
            Self::BadVouch => Some(Integrity::BadVouch),
            Self::WrongRoom => Some(Integrity::WrongRoom),
            Self::BadTree(_) | Self::Member(_) => Some(Integrity::BadTree),
            Self::TooLong | Self::Malformed | Self::Cert | Self::Mls(_) => None,
        }
    }
}

impl Room {
    /// Makes the external commit that takes us in, and the room as it is once the home server has logged it; if another commit
    /// wins the epoch, the room is dropped and made anew from the next [`Grant`]. An older leaf with our key is replaced.
    pub fn join(
        me: &Member,
        target: &Target,
        grant: &Grant,
        join: Option<Identity>,
        certs: &CertCheck,
    ) -> Result<(Self, Outgoing), JoinError> {
        if me.cert.key() != me.identity.public() {
            return Err(JoinError::Cert);
        }
        let (info, policy) = examine(target, grant, join.as_ref())?;
        let tree = mls::parse_tree(&grant.tree).ok_or(JoinError::Malformed)?;
        let provider = Provider::default();
        let signer = MlsSigner::new(&me.identity);
        let epoch = info.context.epoch().as_u64();
        let point = JoinPoint { version: policy.version, epoch, tag: &info.tag, joiner: me.identity.public() };
        let data = join_data(join.as_ref(), &target.room_id, &point);
        let (group, bundle) = external_commit(me, &provider, &signer, info, tree, data, &grant.proposals)?;
        let own = me.identity.public();
        let roster = Roster::read(group.members(), Some(own), certs)?;
        let (me, server, room_id) = (me.clone(), target.server, target.room_id);
        let room =
            Self { group, provider, signer, me, server, room_id, policy, roster, join, pending: None, active: true };
        let outgoing = room.announce(bundle)?;
        Ok((room, outgoing))
    }

    fn announce(&self, bundle: CommitMessageBundle) -> Result<Outgoing, JoinError> {
        let (commit, _, group_info) = bundle.into_messages();
        let group_info = group_info.ok_or_else(|| JoinError::Mls("no GroupInfo".into()))?;
        let group_info = group_info.to_bytes().map_err(library)?;
        let vouch = self.join.as_ref().map(|join| vouch(join, &self.room_id, &self.policy, &group_info));
        let published = Published { epoch: self.epoch(), group_info, vouch };
        Ok(Outgoing { bytes: commit.to_bytes().map_err(library)?, published })
    }
}

/// Everything that can be said about a GroupInfo without its tree, the vouching first.
fn examine(target: &Target, grant: &Grant, join: Option<&Identity>) -> Result<(Info, Policy), JoinError> {
    if grant.group_info.len() > GROUP_INFO_MAX || grant.tree.len() > FRAME_MAX {
        return Err(JoinError::TooLong);
    }
    let info = Info::parse(&grant.group_info).ok_or(JoinError::Malformed)?;
    let policy = mls::read_context(info.context.extensions(), &target.server).ok_or(JoinError::WrongRoom)?;
    // The key comes from our password, not from the GroupInfo: who made this without the password is found out here.
    if policy.join_key() != join.map(Identity::public) {
        return Err(JoinError::BadVouch);
    }
    check_vouch(&target.room_id, &policy, &grant.group_info, grant.vouch.as_ref()).map_err(|_| JoinError::BadVouch)?;
    let asked_for = info.context.group_id().as_slice() == target.room_id
        && info.context.ciphersuite() == mls::CIPHERSUITE
        && policy.kind == target.kind
        && policy.kind != RoomKind::Direct
        && policy.label == target.label;
    if asked_for { Ok((info, policy)) } else { Err(JoinError::WrongRoom) }
}

fn external_commit(
    me: &Member,
    provider: &Provider,
    signer: &MlsSigner,
    info: Info,
    tree: RatchetTreeIn,
    data: Vec<u8>,
    proposals: &[Vec<u8>],
) -> Result<(MlsGroup, CommitMessageBundle), JoinError> {
    MlsGroup::external_commit_builder()
        .with_ratchet_tree(tree)
        .with_config(mls::config())
        .with_aad(data)
        .with_proposals(departures(proposals))
        .skip_lifetime_validation()
        .build_group(provider, info.signed, mls::credential(&me.cert))
        .map_err(|e| JoinError::BadTree(e.to_string()))?
        .leaf_node_parameters(mls::leaf_parameters(me))
        .load_psks(provider.storage())
        .map_err(library)?
        .create_group_info(true)
        .build(provider.rand(), provider.crypto(), signer, |_| true)
        .map_err(library)?
        .finalize(provider)
        .map_err(library)
}

/// The standing SelfRemoves; a newcomer's commit can take in those and no other proposal by reference.
fn departures(proposals: &[Vec<u8>]) -> Vec<PublicMessageIn> {
    let public = |bytes: &Vec<u8>| match mls::parse(bytes)?.extract() {
        MlsMessageBodyIn::PublicMessage(message) => Some(message),
        _ => None,
    };
    proposals.iter().filter_map(public).filter(|m| matches!(m.sender(), Sender::Member(_))).collect()
}

fn library(error: impl std::fmt::Display) -> JoinError {
    JoinError::Mls(error.to_string())
}
