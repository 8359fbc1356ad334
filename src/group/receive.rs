//! What comes from the home server's log: opened, judged, and only then merged.

use super::allow::{check_commit, check_proposal};
use super::change::{Change, Refusal};
use super::room::Room;
use super::roster::MemberInfo;
use super::{CertCheck, Integrity, mls};
use crate::crypto::identity::PublicKey;
use crate::limits::FRAME_MAX;
use crate::wire::name::FullName;
use openmls::framing::errors::{MessageDecryptionError, SecretTreeError};
use openmls::prelude::{
    ContentType, ProcessMessageError, ProcessedMessageContent, ProtocolMessage, QueuedProposal, Sender, StagedCommit,
    ValidationError, WireFormat,
};
use openmls_traits::OpenMlsProvider;

/// What a message from the log was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Sealed by a member of this epoch.
    Application {
        /// Who, as MLS authenticated it.
        sender: Sealer,
        /// What [`Room::seal`] was given.
        payload: Vec<u8>,
    },
    /// Sealed by a member whom the room's owner has muted: not to be shown or acted upon.
    Muted {
        /// Who, as MLS authenticated it.
        sender: Sealer,
        /// What was sealed.
        payload: Vec<u8>,
    },
    /// The room is in its next epoch. If that was our own removal, [`Room::is_active`] is false.
    Commit(Box<Change>),
    /// A removal stands from now on, until the next commit.
    Proposal {
        /// Who will be out.
        member: MemberInfo,
        /// By its own wish; else the home server's.
        leaving: bool,
    },
    /// An application message that claims to be ours, which nobody can open again, us included. The claim is not authenticated.
    Own,
}

/// Who sealed a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealer {
    /// As certified by its home server.
    pub name: FullName,
    /// The user's key.
    pub key: PublicKey,
    /// Its place in the tree.
    pub leaf: u32,
}

/// Why a message was not taken; nothing has changed by it.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Longer than a message of its kind may be.
    #[error("longer than a message of its kind may be")]
    TooLong,
    /// Not an MLS message of a kind that belongs here.
    #[error("not an MLS message of a kind that belongs here")]
    Malformed,
    /// Of another group.
    #[error("the message belongs to another room")]
    WrongRoom,
    /// Of another epoch; both numbers are given.
    #[error("the message is of epoch {message}, the room is in {ours}")]
    WrongEpoch {
        /// The epoch that the message says.
        message: u64,
        /// The epoch that we are in.
        ours: u64,
    },
    /// Opened before: the same bytes once more.
    #[error("the message came before")]
    Repeated,
    /// No key of ours opens it, or its signature is not its sender's.
    #[error("the message is not its sender's: {0}")]
    Forged(String),
    /// Not allowed to its maker.
    #[error("not allowed: {0}")]
    Refused(#[from] Refusal),
    /// A commit that does not hold together.
    #[error("the commit does not hold together: {0}")]
    BadCommit(String),
    /// We are no longer a member.
    #[error("we are no longer a member")]
    Gone,
    /// The library failed.
    #[error("MLS: {0}")]
    Mls(String),
}

impl ReceiveError {
    /// What to tell the user, if somebody broke the rules.
    pub const fn integrity(&self) -> Option<Integrity> {
        match self {
            Self::WrongRoom => Some(Integrity::WrongRoom),
            Self::WrongEpoch { .. } => Some(Integrity::WrongEpoch),
            Self::Forged(_) => Some(Integrity::ForgedSender),
            Self::Refused(_) | Self::BadCommit(_) => Some(Integrity::UnauthorisedCommit),
            Self::TooLong | Self::Malformed | Self::Repeated | Self::Gone | Self::Mls(_) => None,
        }
    }
}

impl Room {
    /// Opens one message of the log. A commit is judged by the allow-list and merged only if it passes; whatever own commit
    /// was on its way is dropped then, unless it is this one.
    pub fn receive(&mut self, bytes: &[u8], certs: &CertCheck) -> Result<Received, ReceiveError> {
        let message = self.acceptable(bytes)?;
        let processed = self.group.process_message(&self.provider, message).map_err(from_library)?;
        let (sender, data) = (processed.sender().clone(), processed.aad().to_vec());
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => {
                let (sender, payload) = (self.sealer(&sender)?, message.into_bytes());
                if self.policy.is_muted(&sender.key) {
                    return Ok(Received::Muted { sender, payload });
                }
                Ok(Received::Application { sender, payload })
            }
            ProcessedMessageContent::OwnPrivateMessage => Ok(Received::Own),
            ProcessedMessageContent::ProposalMessage(proposal) => self.take_proposal(&sender, &data, *proposal),
            ProcessedMessageContent::StagedCommitMessage(staged) => self.take_commit(&sender, &data, *staged, certs),
            ProcessedMessageContent::OwnPendingCommit => {
                let change = self.own_commit_accepted().map_err(|e| ReceiveError::Mls(e.to_string()))?;
                Ok(Received::Commit(Box::new(change)))
            }
            ProcessedMessageContent::ExternalJoinProposalMessage(_) => {
                Err(Refusal::Forbidden("a newcomer's proposal").into())
            }
        }
    }

    /// Shape, room, epoch and form, before any key is touched.
    fn acceptable(&self, bytes: &[u8]) -> Result<ProtocolMessage, ReceiveError> {
        if bytes.len() > FRAME_MAX {
            return Err(ReceiveError::TooLong);
        }
        if !self.active {
            return Err(ReceiveError::Gone);
        }
        let message = mls::parse(bytes).and_then(|m| m.try_into_protocol_message().ok());
        let message = message.ok_or(ReceiveError::Malformed)?;
        if mls::too_long(bytes, &message) {
            return Err(ReceiveError::TooLong);
        }
        if message.group_id().as_slice() != self.room_id {
            return Err(ReceiveError::WrongRoom);
        }
        let (epoch, ours) = (message.epoch().as_u64(), self.epoch());
        if epoch != ours {
            return Err(ReceiveError::WrongEpoch { message: epoch, ours });
        }
        let sealed = message.wire_format() == WireFormat::PrivateMessage;
        if sealed != (message.content_type() == ContentType::Application) {
            return Err(ReceiveError::Malformed);
        }
        Ok(message)
    }

    fn sealer(&self, sender: &Sender) -> Result<Sealer, ReceiveError> {
        let Sender::Member(leaf) = sender else { return Err(Refusal::Sender.into()) };
        let member = self.roster.get(leaf.u32()).ok_or(Refusal::Sender)?;
        Ok(Sealer { name: member.name.clone(), key: member.key, leaf: member.leaf })
    }

    fn take_proposal(
        &mut self,
        sender: &Sender,
        data: &[u8],
        proposal: QueuedProposal,
    ) -> Result<Received, ReceiveError> {
        let tag = self.tag();
        let mut view = self.view(&tag);
        // Our own SelfRemove stands from the moment that we made it; the log tells it to us once more.
        if *sender == Sender::Member(self.group.own_leaf_index()) {
            view.standing.clear();
        }
        let leaf = check_proposal(&view, sender, data, proposal.proposal())?;
        let member = self.roster.get(leaf).ok_or(Refusal::Sender)?.clone();
        if !self.standing().contains(&leaf) {
            let stored = self.group.store_pending_proposal(self.provider.storage(), proposal);
            stored.map_err(|e| ReceiveError::Mls(e.to_string()))?;
        }
        Ok(Received::Proposal { member, leaving: matches!(sender, Sender::Member(_)) })
    }

    fn take_commit(
        &mut self,
        sender: &Sender,
        data: &[u8],
        staged: StagedCommit,
        certs: &CertCheck,
    ) -> Result<Received, ReceiveError> {
        let tag = self.tag();
        let change = check_commit(&self.view(&tag), sender, data, &staged, certs)?;
        self.group.merge_staged_commit(&self.provider, staged).map_err(|e| ReceiveError::Mls(e.to_string()))?;
        self.follow(&change, false);
        Ok(Received::Commit(Box::new(change)))
    }
}

fn from_library<E: std::fmt::Display>(error: ProcessMessageError<E>) -> ReceiveError {
    let reused = MessageDecryptionError::SecretTreeError(SecretTreeError::SecretReuseError);
    match error {
        ProcessMessageError::ValidationError(ValidationError::UnableToDecrypt(cause)) if cause == reused => {
            ReceiveError::Repeated
        }
        ProcessMessageError::ValidationError(cause) => ReceiveError::Forged(cause.to_string()),
        ProcessMessageError::InvalidCommit(cause) => ReceiveError::BadCommit(cause.to_string()),
        ProcessMessageError::UnauthorizedExternalApplicationMessage
        | ProcessMessageError::UnauthorizedExternalCommitMessage
        | ProcessMessageError::UnsupportedProposalType => {
            Refusal::Forbidden("this message of an external sender").into()
        }
        ProcessMessageError::IncompatibleWireFormat => ReceiveError::Malformed,
        other => ReceiveError::Mls(other.to_string()),
    }
}
