//! MLS rooms (RFC 9420 over openmls): create, join, seal, open, commit, and what the home server checks.
//!
//! [`Room`] is a member's side, [`Directory`] the home server's: it sees handshake messages and who is a member, never
//! what is said. Both ask the same function in `allow` before a commit changes anything, because openmls checks
//! that a commit is well formed and leaves who may do what to its caller. Pure: no IO and no timers; the one randomness is
//! the crypto provider's own, and openmls reads the system clock when it checks leaf lifetimes, which are unbounded here
//! (name certificates bound them instead).

mod allow;
mod change;
mod commit;
mod direct;
mod directory;
mod info;
mod join;
mod mls;
mod proof;
mod provider;
mod receive;
mod room;
mod roster;
mod storage;
#[cfg(test)]
mod tests;

pub use change::{By, Change, Refusal, Removed};
pub use commit::{CommitError, Governing, Outgoing, Welcoming};
pub use direct::{AcceptError, Direct, KeyPackages};
pub use directory::{CheckedCommit, Directory, DirectoryError, MessageError};
pub use info::{Grant, Published};
pub use join::{JoinError, Target};
pub use receive::{ReceiveError, Received, Sealer};
pub use room::{CreateError, Room, SealError};
pub use roster::MemberInfo;

use crate::crypto::identity::{Identity, PublicKey};
use crate::wire::cert::{CertError, NameCert};
use crate::wire::name::FullName;
use crate::wire::vouch::Doubt;

/// The random identification code of a room, equal to its MLS group id.
pub type RoomId = [u8; 16];

/// Who we are in a room: our key, and our home server's certificate for it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Signs our leaf and everything that we send.
    pub identity: Identity,
    /// Stands in our leaf's credential.
    pub cert: NameCert,
}

/// The caller's judgement of a name certificate: it knows the time, the pinned server keys and the keys that names had before.
/// That the certificate is for the leaf's own key is checked here.
pub type CertCheck<'a> = dyn Fn(&NameCert) -> Result<(), CertRefused> + 'a;

/// Why the caller does not believe a name certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertRefused {
    /// Forged or expired.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// No key is pinned for the certificate's server, and nobody that is trusted vouches for it.
    #[error("the certificate's server is unknown here")]
    UnknownServer,
    /// It is signed by another key than its server has.
    #[error("the certificate is not its server's own")]
    OtherServer,
    /// The name belonged to another key before.
    #[error("the name belonged to another key before")]
    ChangedKey,
    /// Another server than the name's has signed; who, is known.
    #[error("the name {subject} is certified by another server than its own ({})", .signer.fingerprint())]
    FalseName {
        /// The name.
        subject: FullName,
        /// The key that signed.
        signer: PublicKey,
    },
}

impl From<Doubt> for CertRefused {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Unknown(_) => Self::UnknownServer,
            Doubt::OtherKey(_) => Self::OtherServer,
            Doubt::Cert(error) => Self::Cert(error),
        }
    }
}

/// What a user is told when someone (a server, a member, a forger) broke the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// A commit or proposal by somebody who may not make it.
    UnauthorisedCommit,
    /// A GroupInfo that no member with the room's secret vouches for.
    BadVouch,
    /// A tree that is not the one its GroupInfo names, or a leaf in it that is not who it says.
    BadTree,
    /// A message whose sender is not who it says.
    ForgedSender,
    /// A message of another epoch than its place in the log says.
    WrongEpoch,
    /// A message or GroupInfo of another room.
    WrongRoom,
}

impl Integrity {
    /// The word for it in events and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnauthorisedCommit => "unauthorised_commit",
            Self::BadVouch => "bad_vouch",
            Self::BadTree => "bad_tree",
            Self::ForgedSender => "forged_sender",
            Self::WrongEpoch => "wrong_epoch",
            Self::WrongRoom => "wrong_room",
        }
    }
}
