//! One room: its directory, the end of its log, who is there.

use super::core::LoadError;
use super::io::SessionId;
use super::joins::{Lease, Waiting};
use crate::crypto::identity::PublicKey;
use crate::group::{Directory, Grant};
use crate::limits::REPEATS_KNOWN;
use crate::store::{Digest, LoadedRoom, RoomState};
use crate::wire::cert::NameCert;
use crate::wire::id::RoomId;
use crate::wire::log::{Chain, RemoveReason};
use crate::wire::name::Name;
use crate::wire::policy::RoomKind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// One room or direct conversation.
pub(super) struct Room {
    pub(super) id: RoomId,
    /// `None` for direct conversations.
    pub(super) label: Option<Name>,
    pub(super) kind: RoomKind,
    /// Private rooms: the PHC hash of the door key.
    pub(super) door: Option<String>,
    pub(super) directory: Directory,
    /// The number of the last row, and the chain there.
    pub(super) head: u64,
    pub(super) chain: Chain,
    pub(super) recent: Recent,
    /// Sessions that rows are pushed to: members that are at the log's end.
    pub(super) subscribers: BTreeMap<SessionId, PublicKey>,
    /// Members without a subscribed session, and since when.
    pub(super) lost: BTreeMap<PublicKey, Duration>,
    /// Members that should be out, and why; `None`: they left by themselves.
    pub(super) wanted: BTreeMap<PublicKey, Option<RemoveReason>>,
    /// Keys that were kicked and know the secret that is still in force: a private room's door stays shut for them until it is changed.
    pub(super) barred: BTreeSet<PublicKey>,
    pub(super) committer: super::committer::Duty,
    pub(super) lease: Option<Lease>,
    pub(super) queue: VecDeque<Waiting>,
    pub(super) last_used_ms: u64,
    /// Bytes logged since the log was trimmed.
    pub(super) untrimmed: u64,
    /// When the timer of this room that was set last is due.
    pub(super) armed: Option<Duration>,
}

/// The rows whose bytes are known again.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<Digest>,
    rows: BTreeMap<Digest, (u64, u64)>,
}

impl Recent {
    /// Number and time of the row with these bytes.
    pub(super) fn find(&self, digest: &Digest) -> Option<(u64, u64)> {
        self.rows.get(digest).copied()
    }

    pub(super) fn add(&mut self, digest: Digest, seq: u64, time_ms: u64) {
        if self.rows.insert(digest, (seq, time_ms)).is_none() {
            self.order.push_back(digest);
        }
        if self.order.len() > REPEATS_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.rows.remove(&oldest);
        }
    }
}

impl Room {
    /// A room of a moment ago, with an empty log.
    pub(super) fn new(id: RoomId, label: Option<Name>, directory: Directory, door: Option<String>) -> Self {
        Self {
            id,
            label,
            kind: directory.policy().kind,
            door,
            directory,
            head: 0,
            chain: Chain::start(&id),
            recent: Recent::default(),
            subscribers: BTreeMap::new(),
            lost: BTreeMap::new(),
            wanted: BTreeMap::new(),
            barred: BTreeSet::new(),
            committer: super::committer::Duty::default(),
            lease: None,
            queue: VecDeque::new(),
            last_used_ms: 0,
            untrimmed: 0,
            armed: None,
        }
    }

    /// A room after a restart. Certificates that have expired meanwhile do not keep it from being taken up, nor do those of a server
    /// that nobody vouches for any more: they were judged when they came in.
    pub(super) fn load(
        stored: LoadedRoom,
        server: &PublicKey,
        name: &Name,
        now: Duration,
        wall_ms: u64,
    ) -> Result<Self, LoadError> {
        let state = stored.state;
        let (standing, reasons): (Vec<_>, Vec<_>) = stored.standing.into_iter().map(|s| (s.bytes, s.reason)).unzip();
        let grant = Grant { group_info: state.group_info, tree: state.tree, vouch: state.vouch, proposals: standing };
        let certs = |cert: &NameCert| match cert.server() == name {
            true => Ok(cert.check(server, 0)?),
            false => Ok(()),
        };
        let directory = Directory::open(*server, stored.id.0, &grant, &certs)
            .map_err(|source| LoadError::Room { room: stored.id, source })?;
        let wanted = directory.standing().map(|m| m.key).zip(reasons).collect();
        let lost = directory.members().map(|m| (m.key, now)).collect();
        let mut room = Self::new(stored.id, stored.label, directory, stored.door);
        for (seq, time_ms, digest) in stored.recent {
            room.recent.add(digest, seq, time_ms);
        }
        let last_used_ms = stored.last_used_ms.max(wall_ms);
        Ok(Self { head: stored.head, chain: Chain(stored.chain), wanted, lost, last_used_ms, ..room })
    }

    /// What is kept of the present epoch.
    pub(super) fn state(&self, since: u64) -> RoomState {
        let Grant { group_info, tree, vouch, .. } = self.directory.grant();
        RoomState { epoch: self.directory.epoch(), since, group_info, tree, vouch }
    }

    /// What is kept of a new room.
    pub(super) fn stored(&self) -> LoadedRoom {
        LoadedRoom {
            id: self.id,
            label: self.label.clone(),
            kind: self.kind,
            door: self.door.clone(),
            state: self.state(0),
            head: self.head,
            chain: self.chain.0,
            last_used_ms: self.last_used_ms,
            standing: Vec::new(),
            recent: Vec::new(),
        }
    }

    /// No more pushes; if the session's key is still a member, its grace begins.
    pub(super) fn unsubscribe(&mut self, session: SessionId, now: Duration, wall_ms: u64) {
        let Some(key) = self.subscribers.remove(&session) else { return };
        self.last_used_ms = self.last_used_ms.max(wall_ms);
        if self.directory.is_member(&key) {
            self.lost.insert(key, now);
        }
    }
}
