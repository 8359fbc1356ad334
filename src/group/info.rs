//! GroupInfos: what a member publishes after a commit, and what a newcomer is given.

use super::RoomId;
use super::mls;
use crate::crypto::identity::{BadSignature, Identity, Purpose};
use crate::wire::policy::Policy;
use openmls::messages::ConfirmationTag;
use openmls::messages::group_info::{GroupInfo, VerifiableGroupInfo};
use openmls::prelude::tls_codec::{Deserialize, Serialize};
use openmls::prelude::{Extensions, GroupContext, MlsMessageBodyIn};
use sha2::{Digest, Sha256};

/// What goes with a commit, so that others can join the epoch that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The epoch that the GroupInfo is of.
    pub epoch: u64,
    /// An MLSMessage with the GroupInfo, without the tree.
    pub group_info: Vec<u8>,
    /// In a private room the join key's signature over room id, policy version and SHA-256 of `group_info`.
    pub vouch: Option<[u8; 64]>,
}

/// What the home server gives a newcomer, and what it keeps on disk to go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// As last published.
    pub group_info: Vec<u8>,
    /// The ratchet tree, which the GroupInfo's signed tree hash authenticates.
    pub tree: Vec<u8>,
    /// As last published.
    pub vouch: Option<[u8; 64]>,
    /// Standing proposals of the epoch, as they were sent.
    pub proposals: Vec<Vec<u8>>,
}

/// The parts of a GroupInfo that openmls does not show before it has built a group.
pub(super) struct Info {
    pub(super) context: GroupContext,
    /// The confirmation tag of its epoch, serialised.
    pub(super) tag: Vec<u8>,
    pub(super) signer: u32,
    pub(super) signed: VerifiableGroupInfo,
}

impl Info {
    /// Reads an MLSMessage; checks nothing but its shape and that it carries no tree.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let MlsMessageBodyIn::GroupInfo(signed) = mls::parse(bytes)?.extract() else { return None };
        if signed.extensions().ratchet_tree().is_some() {
            return None;
        }
        let body = signed.tls_serialize_detached().ok()?;
        let mut rest = body.as_slice();
        let context = GroupContext::tls_deserialize(&mut rest).ok()?;
        Extensions::<GroupInfo>::tls_deserialize(&mut rest).ok()?;
        let tag = ConfirmationTag::tls_deserialize(&mut rest).ok()?;
        let signer = u32::tls_deserialize(&mut rest).ok()?;
        Some(Self { context, tag: tag_bytes(&tag)?, signer, signed })
    }
}

/// A confirmation tag as it stands in signatures.
pub(super) fn tag_bytes(tag: &ConfirmationTag) -> Option<Vec<u8>> {
    tag.tls_serialize_detached().ok()
}

/// Signs a GroupInfo with the join key.
pub(super) fn vouch(join: &Identity, room_id: &RoomId, policy: &Policy, group_info: &[u8]) -> [u8; 64] {
    join.sign(Purpose::GroupInfo, &[room_id, &policy.version.to_be_bytes(), &Sha256::digest(group_info)])
}

/// Checks [`vouch`] against the policy's join key; rooms without one need none.
pub(super) fn check_vouch(
    room_id: &RoomId,
    policy: &Policy,
    group_info: &[u8],
    vouch: Option<&[u8; 64]>,
) -> Result<(), BadSignature> {
    let Some(key) = policy.join_key() else { return Ok(()) };
    let fields: [&[u8]; 3] = [room_id, &policy.version.to_be_bytes(), &Sha256::digest(group_info)];
    key.verify(Purpose::GroupInfo, &fields, vouch.ok_or(BadSignature)?)
}
