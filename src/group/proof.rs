//! The proof that a newcomer knows a private room's secret: the join key's signature in its commit's authenticated data.

use super::RoomId;
use crate::crypto::identity::{BadSignature, Identity, PublicKey, Purpose};
use crate::wire::{decode, encode};

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
    /// Checks what [`join_data`] made.
    pub(super) fn check(&self, key: &PublicKey, room_id: &RoomId, data: &[u8]) -> Result<(), BadSignature> {
        let proof: JoinProof = decode(data, JOIN_PROOF_MAX).map_err(|_| BadSignature)?;
        self.with_fields(room_id, |fields| key.verify(Purpose::Join, fields, &proof.signature))
    }

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
