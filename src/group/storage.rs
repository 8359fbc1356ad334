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

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
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

/// Methods that keep nothing: what they write is only ever read by loading a group from storage, and none is.
macro_rules! nothing {
    ($($name:ident<$($generic:ident),*>($($argument:ty),*) -> $answer:ty;)*) => {$(
        fn $name<$($generic: t::$generic<CURRENT_VERSION>),*>(
            &self,
            $(_: $argument),*
        ) -> Result<$answer, StorageError> {
            Ok(Default::default())
        }
    )*};
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

    nothing! {
        write_mls_join_config<GroupId, MlsGroupJoinConfig>(&GroupId, &MlsGroupJoinConfig) -> ();
        append_own_leaf_node<GroupId, LeafNode>(&GroupId, &LeafNode) -> ();
        queue_proposal<GroupId, ProposalRef, QueuedProposal>(&GroupId, &ProposalRef, &QueuedProposal) -> ();
        write_tree<GroupId, TreeSync>(&GroupId, &TreeSync) -> ();
        write_interim_transcript_hash<GroupId, InterimTranscriptHash>(&GroupId, &InterimTranscriptHash) -> ();
        write_context<GroupId, GroupContext>(&GroupId, &GroupContext) -> ();
        write_confirmation_tag<GroupId, ConfirmationTag>(&GroupId, &ConfirmationTag) -> ();
        write_group_state<GroupState, GroupId>(&GroupId, &GroupState) -> ();
        write_message_secrets<GroupId, MessageSecrets>(&GroupId, &MessageSecrets) -> ();
        write_resumption_psk_store<GroupId, ResumptionPskStore>(&GroupId, &ResumptionPskStore) -> ();
        write_own_leaf_index<GroupId, LeafNodeIndex>(&GroupId, &LeafNodeIndex) -> ();
        write_group_epoch_secrets<GroupId, GroupEpochSecrets>(&GroupId, &GroupEpochSecrets) -> ();
        write_signature_key_pair<SignaturePublicKey, SignatureKeyPair>(&SignaturePublicKey, &SignatureKeyPair) -> ();
        write_psk<PskId, PskBundle>(&PskId, &PskBundle) -> ();
        mls_group_join_config<GroupId, MlsGroupJoinConfig>(&GroupId) -> Option<MlsGroupJoinConfig>;
        own_leaf_nodes<GroupId, LeafNode>(&GroupId) -> Vec<LeafNode>;
        queued_proposal_refs<GroupId, ProposalRef>(&GroupId) -> Vec<ProposalRef>;
        queued_proposals<GroupId, ProposalRef, QueuedProposal>(&GroupId) -> Vec<(ProposalRef, QueuedProposal)>;
        tree<GroupId, TreeSync>(&GroupId) -> Option<TreeSync>;
        group_context<GroupId, GroupContext>(&GroupId) -> Option<GroupContext>;
        interim_transcript_hash<GroupId, InterimTranscriptHash>(&GroupId) -> Option<InterimTranscriptHash>;
        confirmation_tag<GroupId, ConfirmationTag>(&GroupId) -> Option<ConfirmationTag>;
        group_state<GroupState, GroupId>(&GroupId) -> Option<GroupState>;
        message_secrets<GroupId, MessageSecrets>(&GroupId) -> Option<MessageSecrets>;
        resumption_psk_store<GroupId, ResumptionPskStore>(&GroupId) -> Option<ResumptionPskStore>;
        own_leaf_index<GroupId, LeafNodeIndex>(&GroupId) -> Option<LeafNodeIndex>;
        group_epoch_secrets<GroupId, GroupEpochSecrets>(&GroupId) -> Option<GroupEpochSecrets>;
        signature_key_pair<SignaturePublicKey, SignatureKeyPair>(&SignaturePublicKey) -> Option<SignatureKeyPair>;
        psk<PskBundle, PskId>(&PskId) -> Option<PskBundle>;
        remove_proposal<GroupId, ProposalRef>(&GroupId, &ProposalRef) -> ();
        delete_own_leaf_nodes<GroupId>(&GroupId) -> ();
        delete_group_config<GroupId>(&GroupId) -> ();
        delete_tree<GroupId>(&GroupId) -> ();
        delete_confirmation_tag<GroupId>(&GroupId) -> ();
        delete_group_state<GroupId>(&GroupId) -> ();
        delete_context<GroupId>(&GroupId) -> ();
        delete_interim_transcript_hash<GroupId>(&GroupId) -> ();
        delete_message_secrets<GroupId>(&GroupId) -> ();
        delete_all_resumption_psk_secrets<GroupId>(&GroupId) -> ();
        delete_own_leaf_index<GroupId>(&GroupId) -> ();
        delete_group_epoch_secrets<GroupId>(&GroupId) -> ();
        clear_proposal_queue<GroupId, ProposalRef>(&GroupId) -> ();
        delete_signature_key_pair<SignaturePublicKey>(&SignaturePublicKey) -> ();
        delete_psk<PskId>(&PskId) -> ();
    }
}
