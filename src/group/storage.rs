//! What openmls keeps between two calls: only the private keys that it reads back.
//!
//! openmls writes its whole state after every step and reads it only when a group is loaded from disk, which we never do:
//! after a restart a client joins again by external commit, and the server rebuilds its group from GroupInfo and tree.
//! So tree, message secrets and the rest are not written at all (as JSON they cost 1.8 ms a message at 1,000 members);
//! HPKE key pairs and key packages are, because commits and welcomes are opened with what the storage returns.

use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits as t};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// Key pairs and key packages of one group or one stock of key packages; wiped on drop.
#[derive(Default)]
pub(super) struct Storage {
    entries: Mutex<HashMap<Slot, Zeroizing<Vec<u8>>>>,
}

/// An entity did not survive its encoding; a defect of ours or of openmls, never something a peer can cause.
#[derive(Debug, thiserror::Error)]
#[error("an MLS key could not be stored or read back")]
pub struct StorageError(#[from] serde_json::Error);

#[derive(PartialEq, Eq, Hash)]
enum Slot {
    KeyPair(Vec<u8>),
    EpochKeyPairs { group: Vec<u8>, epoch: Vec<u8>, leaf: u32 },
    KeyPackage(Vec<u8>),
}

impl Storage {
    /// A storage that holds only the key package with this reference; `None` if there is none.
    pub(super) fn fork_key_package(&self, hash_ref: &impl Serialize) -> Option<Self> {
        let slot = Slot::KeyPackage(key(hash_ref).ok()?);
        let bundle = self.lock().get(&slot)?.clone();
        Some(Self { entries: Mutex::new(HashMap::from([(slot, bundle)])) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Slot, Zeroizing<Vec<u8>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, slot: Slot, value: &(impl Serialize + ?Sized)) -> Result<(), StorageError> {
        // A first pass counts, so that the buffer never moves and leaves no copy of a key behind.
        let mut counter = Counter(0);
        serde_json::to_writer(&mut counter, value)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(counter.0));
        serde_json::to_writer(&mut *bytes, value)?;
        self.lock().insert(slot, bytes);
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, slot: &Slot) -> Result<Option<T>, StorageError> {
        self.lock().get(slot).map(|bytes| Ok(serde_json::from_slice(bytes)?)).transpose()
    }

    fn delete(&self, slot: &Slot) {
        self.lock().remove(slot);
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn key(value: &impl Serialize) -> Result<Vec<u8>, StorageError> {
    Ok(serde_json::to_vec(value)?)
}

fn epoch_slot(group: &impl Serialize, epoch: &impl Serialize, leaf: u32) -> Result<Slot, StorageError> {
    Ok(Slot::EpochKeyPairs { group: key(group)?, epoch: key(epoch)?, leaf })
}

impl StorageProvider<CURRENT_VERSION> for Storage {
    type Error = StorageError;

    fn write_encryption_key_pair<
        EncryptionKey: t::EncryptionKey<CURRENT_VERSION>,
        HpkeKeyPair: t::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        public_key: &EncryptionKey,
        key_pair: &HpkeKeyPair,
    ) -> Result<(), Self::Error> {
        self.write(Slot::KeyPair(key(public_key)?), key_pair)
    }

    fn write_encryption_epoch_key_pairs<
        GroupId: t::GroupId<CURRENT_VERSION>,
        EpochKey: t::EpochKey<CURRENT_VERSION>,
        HpkeKeyPair: t::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
        key_pairs: &[HpkeKeyPair],
    ) -> Result<(), Self::Error> {
        self.write(epoch_slot(group_id, epoch, leaf_index)?, key_pairs)
    }

    fn write_key_package<
        HashReference: t::HashReference<CURRENT_VERSION>,
        KeyPackage: t::KeyPackage<CURRENT_VERSION>,
    >(
        &self,
        hash_ref: &HashReference,
        key_package: &KeyPackage,
    ) -> Result<(), Self::Error> {
        self.write(Slot::KeyPackage(key(hash_ref)?), key_package)
    }

    fn encryption_key_pair<
        HpkeKeyPair: t::HpkeKeyPair<CURRENT_VERSION>,
        EncryptionKey: t::EncryptionKey<CURRENT_VERSION>,
    >(
        &self,
        public_key: &EncryptionKey,
    ) -> Result<Option<HpkeKeyPair>, Self::Error> {
        self.read(&Slot::KeyPair(key(public_key)?))
    }

    fn encryption_epoch_key_pairs<
        GroupId: t::GroupId<CURRENT_VERSION>,
        EpochKey: t::EpochKey<CURRENT_VERSION>,
        HpkeKeyPair: t::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
    ) -> Result<Vec<HpkeKeyPair>, Self::Error> {
        Ok(self.read(&epoch_slot(group_id, epoch, leaf_index)?)?.unwrap_or_default())
    }

    fn key_package<KeyPackageRef: t::HashReference<CURRENT_VERSION>, KeyPackage: t::KeyPackage<CURRENT_VERSION>>(
        &self,
        hash_ref: &KeyPackageRef,
    ) -> Result<Option<KeyPackage>, Self::Error> {
        self.read(&Slot::KeyPackage(key(hash_ref)?))
    }

    fn delete_encryption_key_pair<EncryptionKey: t::EncryptionKey<CURRENT_VERSION>>(
        &self,
        public_key: &EncryptionKey,
    ) -> Result<(), Self::Error> {
        self.delete(&Slot::KeyPair(key(public_key)?));
        Ok(())
    }

    fn delete_encryption_epoch_key_pairs<
        GroupId: t::GroupId<CURRENT_VERSION>,
        EpochKey: t::EpochKey<CURRENT_VERSION>,
    >(
        &self,
        group_id: &GroupId,
        epoch: &EpochKey,
        leaf_index: u32,
    ) -> Result<(), Self::Error> {
        self.delete(&epoch_slot(group_id, epoch, leaf_index)?);
        Ok(())
    }

    fn delete_key_package<KeyPackageRef: t::HashReference<CURRENT_VERSION>>(
        &self,
        hash_ref: &KeyPackageRef,
    ) -> Result<(), Self::Error> {
        self.delete(&Slot::KeyPackage(key(hash_ref)?));
        Ok(())
    }

    // What follows is only read by loading a group from storage, and no group here ever is.

    fn write_mls_join_config<
        GroupId: t::GroupId<CURRENT_VERSION>,
        MlsGroupJoinConfig: t::MlsGroupJoinConfig<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
        _: &MlsGroupJoinConfig,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn append_own_leaf_node<GroupId: t::GroupId<CURRENT_VERSION>, LeafNode: t::LeafNode<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
        _: &LeafNode,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn queue_proposal<
        GroupId: t::GroupId<CURRENT_VERSION>,
        ProposalRef: t::ProposalRef<CURRENT_VERSION>,
        QueuedProposal: t::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
        _: &ProposalRef,
        _: &QueuedProposal,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_tree<GroupId: t::GroupId<CURRENT_VERSION>, TreeSync: t::TreeSync<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
        _: &TreeSync,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_interim_transcript_hash<
        GroupId: t::GroupId<CURRENT_VERSION>,
        InterimTranscriptHash: t::InterimTranscriptHash<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
        _: &InterimTranscriptHash,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_context<GroupId: t::GroupId<CURRENT_VERSION>, GroupContext: t::GroupContext<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
        _: &GroupContext,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_confirmation_tag<
        GroupId: t::GroupId<CURRENT_VERSION>,
        ConfirmationTag: t::ConfirmationTag<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
        _: &ConfirmationTag,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_group_state<GroupState: t::GroupState<CURRENT_VERSION>, GroupId: t::GroupId<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
        _: &GroupState,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_message_secrets<
        GroupId: t::GroupId<CURRENT_VERSION>,
        MessageSecrets: t::MessageSecrets<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
        _: &MessageSecrets,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_resumption_psk_store<
        GroupId: t::GroupId<CURRENT_VERSION>,
        ResumptionPskStore: t::ResumptionPskStore<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
        _: &ResumptionPskStore,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_own_leaf_index<GroupId: t::GroupId<CURRENT_VERSION>, LeafNodeIndex: t::LeafNodeIndex<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
        _: &LeafNodeIndex,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_group_epoch_secrets<
        GroupId: t::GroupId<CURRENT_VERSION>,
        GroupEpochSecrets: t::GroupEpochSecrets<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
        _: &GroupEpochSecrets,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_signature_key_pair<
        SignaturePublicKey: t::SignaturePublicKey<CURRENT_VERSION>,
        SignatureKeyPair: t::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        _: &SignaturePublicKey,
        _: &SignatureKeyPair,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write_psk<PskId: t::PskId<CURRENT_VERSION>, PskBundle: t::PskBundle<CURRENT_VERSION>>(
        &self,
        _: &PskId,
        _: &PskBundle,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn mls_group_join_config<
        GroupId: t::GroupId<CURRENT_VERSION>,
        MlsGroupJoinConfig: t::MlsGroupJoinConfig<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
    ) -> Result<Option<MlsGroupJoinConfig>, Self::Error> {
        Ok(None)
    }

    fn own_leaf_nodes<GroupId: t::GroupId<CURRENT_VERSION>, LeafNode: t::LeafNode<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<Vec<LeafNode>, Self::Error> {
        Ok(Vec::new())
    }

    fn queued_proposal_refs<GroupId: t::GroupId<CURRENT_VERSION>, ProposalRef: t::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<Vec<ProposalRef>, Self::Error> {
        Ok(Vec::new())
    }

    fn queued_proposals<
        GroupId: t::GroupId<CURRENT_VERSION>,
        ProposalRef: t::ProposalRef<CURRENT_VERSION>,
        QueuedProposal: t::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
    ) -> Result<Vec<(ProposalRef, QueuedProposal)>, Self::Error> {
        Ok(Vec::new())
    }

    fn tree<GroupId: t::GroupId<CURRENT_VERSION>, TreeSync: t::TreeSync<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<Option<TreeSync>, Self::Error> {
        Ok(None)
    }

    fn group_context<GroupId: t::GroupId<CURRENT_VERSION>, GroupContext: t::GroupContext<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<Option<GroupContext>, Self::Error> {
        Ok(None)
    }

    fn interim_transcript_hash<
        GroupId: t::GroupId<CURRENT_VERSION>,
        InterimTranscriptHash: t::InterimTranscriptHash<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
    ) -> Result<Option<InterimTranscriptHash>, Self::Error> {
        Ok(None)
    }

    fn confirmation_tag<GroupId: t::GroupId<CURRENT_VERSION>, ConfirmationTag: t::ConfirmationTag<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<Option<ConfirmationTag>, Self::Error> {
        Ok(None)
    }

    fn group_state<GroupState: t::GroupState<CURRENT_VERSION>, GroupId: t::GroupId<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<Option<GroupState>, Self::Error> {
        Ok(None)
    }

    fn message_secrets<GroupId: t::GroupId<CURRENT_VERSION>, MessageSecrets: t::MessageSecrets<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<Option<MessageSecrets>, Self::Error> {
        Ok(None)
    }

    fn resumption_psk_store<
        GroupId: t::GroupId<CURRENT_VERSION>,
        ResumptionPskStore: t::ResumptionPskStore<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
    ) -> Result<Option<ResumptionPskStore>, Self::Error> {
        Ok(None)
    }

    fn own_leaf_index<GroupId: t::GroupId<CURRENT_VERSION>, LeafNodeIndex: t::LeafNodeIndex<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<Option<LeafNodeIndex>, Self::Error> {
        Ok(None)
    }

    fn group_epoch_secrets<
        GroupId: t::GroupId<CURRENT_VERSION>,
        GroupEpochSecrets: t::GroupEpochSecrets<CURRENT_VERSION>,
    >(
        &self,
        _: &GroupId,
    ) -> Result<Option<GroupEpochSecrets>, Self::Error> {
        Ok(None)
    }

    fn signature_key_pair<
        SignaturePublicKey: t::SignaturePublicKey<CURRENT_VERSION>,
        SignatureKeyPair: t::SignatureKeyPair<CURRENT_VERSION>,
    >(
        &self,
        _: &SignaturePublicKey,
    ) -> Result<Option<SignatureKeyPair>, Self::Error> {
        Ok(None)
    }

    fn psk<PskBundle: t::PskBundle<CURRENT_VERSION>, PskId: t::PskId<CURRENT_VERSION>>(
        &self,
        _: &PskId,
    ) -> Result<Option<PskBundle>, Self::Error> {
        Ok(None)
    }

    fn remove_proposal<GroupId: t::GroupId<CURRENT_VERSION>, ProposalRef: t::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
        _: &ProposalRef,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_own_leaf_nodes<GroupId: t::GroupId<CURRENT_VERSION>>(&self, _: &GroupId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_group_config<GroupId: t::GroupId<CURRENT_VERSION>>(&self, _: &GroupId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_tree<GroupId: t::GroupId<CURRENT_VERSION>>(&self, _: &GroupId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_confirmation_tag<GroupId: t::GroupId<CURRENT_VERSION>>(&self, _: &GroupId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_group_state<GroupId: t::GroupId<CURRENT_VERSION>>(&self, _: &GroupId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_context<GroupId: t::GroupId<CURRENT_VERSION>>(&self, _: &GroupId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_interim_transcript_hash<GroupId: t::GroupId<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_message_secrets<GroupId: t::GroupId<CURRENT_VERSION>>(&self, _: &GroupId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_all_resumption_psk_secrets<GroupId: t::GroupId<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_own_leaf_index<GroupId: t::GroupId<CURRENT_VERSION>>(&self, _: &GroupId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_group_epoch_secrets<GroupId: t::GroupId<CURRENT_VERSION>>(&self, _: &GroupId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn clear_proposal_queue<GroupId: t::GroupId<CURRENT_VERSION>, ProposalRef: t::ProposalRef<CURRENT_VERSION>>(
        &self,
        _: &GroupId,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_signature_key_pair<SignaturePublicKey: t::SignaturePublicKey<CURRENT_VERSION>>(
        &self,
        _: &SignaturePublicKey,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    fn delete_psk<PskKey: t::PskId<CURRENT_VERSION>>(&self, _: &PskKey) -> Result<(), Self::Error> {
        Ok(())
    }
}
