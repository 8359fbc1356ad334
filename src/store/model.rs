//! What goes into the database and what comes out of it, as plain data.

use crate::crypto::identity::PublicKey;
use crate::wire::id::{InstanceId, RoomId};
use crate::wire::log::Row;
use crate::wire::name::Name;
use crate::wire::policy::RoomKind;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// One change. A batch of them is one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A name belongs to a key from now on.
    Name {
        /// Normalised.
        name: Name,
        /// Whose.
        key: PublicKey,
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// The run of the client that a key logged in with last.
    Instance {
        /// Whose.
        key: PublicKey,
        /// Which run.
        instance: InstanceId,
    },
    /// Nothing needs to be known any more of the runs of a client.
    ForgetInstance {
        /// Whose.
        key: PublicKey,
    },
    /// A new room or direct conversation with an empty log.
    NewRoom(Box<LoadedRoom>),
    /// A new epoch of a room; goes with the [`Write::Append`] of its commit, which comes before it.
    Epoch {
        /// Which room.
        room: RoomId,
        /// The state from now on.
        state: Box<RoomState>,
        /// With a rotation: the PHC hash of the new door key.
        door: Option<String>,
    },
    /// A row at the end of a room's log.
    Append {
        /// Which room.
        room: RoomId,
        /// Its number is the room's last plus one.
        row: Row,
        /// The chain after it.
        chain: [u8; 32],
    },
    /// A room is gone, with its log.
    RemoveRoom {
        /// Which.
        room: RoomId,
    },
    /// Rows from before a time, and the oldest beyond a number of bytes, are given up; standing proposals stay.
    Trim {
        /// Which room.
        room: RoomId,
        /// Unix milliseconds.
        before_ms: u64,
        /// Bytes of messages that may stay.
        max_bytes: u64,
    },
    /// An entry of the register, new or in the place of the one with its key.
    Keep(super::Entry),
    /// An entry of the register is gone.
    Strike {
        /// Which list.
        list: super::List,
        /// Its key there.
        key: Vec<u8>,
    },
    /// A moderator's act.
    Note(super::Act),
    /// A name belongs to nobody any more.
    FreeName {
        /// Which.
        name: Name,
    },
    /// The largest logs give up their oldest rows until all together fit.
    Bound {
        /// Bytes of messages that may stay in all.
        max_bytes: u64,
    },
}

/// What the core starts from.
#[derive(Debug)]
pub struct Loaded {
    /// Keys the made-up ids of rooms that do not exist.
    pub secret: ServerSecret,
    /// Names and the keys that they belong to.
    pub names: Vec<(Name, PublicKey)>,
    /// The run of its client that each key logged in with last.
    pub instances: Vec<(PublicKey, InstanceId)>,
    /// Rooms and direct conversations.
    pub rooms: Vec<LoadedRoom>,
    /// What moderators keep.
    pub register: Vec<super::Entry>,
}

/// A room as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedRoom {
    /// Its id.
    pub id: RoomId,
    /// Its label; direct conversations have none.
    pub label: Option<Name>,
    /// Public, private or direct.
    pub kind: RoomKind,
    /// Private rooms: the PHC hash of the door key.
    pub door: Option<String>,
    /// What the room's directory is opened from.
    pub state: RoomState,
    /// The number of the last row.
    pub head: u64,
    /// The chain after that row.
    pub chain: [u8; 32],
    /// When something was logged last, Unix milliseconds.
    pub last_used_ms: u64,
    /// Proposals that stand in the present epoch, in order.
    pub standing: Vec<StandingRow>,
    /// Number, time and digest of the last rows, oldest first.
    pub recent: Vec<(u64, u64, Digest)>,
}

/// The published state of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomState {
    /// Which epoch.
    pub epoch: u64,
    /// The number of the row with the commit that began it; proposals after it stand.
    pub since: u64,
    /// As published.
    pub group_info: Vec<u8>,
    /// The ratchet tree.
    pub tree: Vec<u8>,
    /// As published.
    pub vouch: Option<[u8; 64]>,
}

/// A proposal that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingRow {
    /// The row.
    pub bytes: Vec<u8>,
    /// The row's.
    pub reason: Option<crate::wire::log::RemoveReason>,
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// In order, without holes.
    pub rows: Vec<Row>,
    /// The number of the first row that is still kept; one past the last where none is.
    pub first: u64,
}

/// Names the bytes of a row, so that a repeat is known.
pub type Digest = [u8; 16];

/// The digest of a row's bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    let mut out = [0; 16];
    blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut out);
    out
}

/// Thirty-two bytes that only this server knows.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ServerSecret([u8; 32]);

impl ServerSecret {
    /// Takes random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A stable id for the label of a room that does not exist; nobody without the secret can tell it from a random one.
    pub fn made_up_room(&self, label: &Name) -> RoomId {
        let mut out = [0; 16];
        blake3::Hasher::new_keyed(&self.0).update(label.as_str().as_bytes()).finalize_xof().fill(&mut out);
        crate::wire::id::Id(out)
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret(..)")
    }
}
