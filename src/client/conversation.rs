//! One room or direct conversation: its log processed strictly in order, every message checked against what its sender says it saw.

use super::core::Ticket;
use super::governing::Rule;
use super::history::{History, Place};
use super::outbox::{Item, Outbox};
use crate::crypto::identity::PublicKey;
use crate::crypto::room::RoomKeys;
use crate::crypto::secret::Secret;
use crate::group::{CertRefused, Change, Integrity, MemberInfo, Room, Sealer};
use crate::wire::id::{MessageId, RoomId};
use crate::wire::log::{Chain, RemoveReason, RowKind};
use crate::wire::name::{FullName, Name};
use crate::wire::payload::Envelope;
use crate::wire::policy::RoomKind;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) struct Conversation {
    pub id: RoomId,
    /// Where it lives.
    pub server: Name,
    pub kind: Kind,
    pub room: Room,
    pub outbox: Outbox,
    /// Held lines that went since the last one that was told of.
    pub held_sent: u64,
    pub history: History,
    /// Rows are fetched from the log; what is pushed meanwhile comes with them.
    pub syncing: bool,
    /// A direct conversation that the server has not taken up yet.
    pub founding: bool,
    /// Somebody broke the rules in a way that we cannot follow: nothing is sent or shown until we join again.
    pub held: bool,
    /// A new join is under way, after a gap in the log.
    pub rejoining: bool,
    /// New joins because we could not follow the log.
    pub mends: Mends,
    /// Our own commit, on its way out of this epoch.
    pub commit: Option<(u64, Vec<u8>)>,
    /// We wait for an epoch after this one.
    pub stale: Option<u64>,
    /// `/leave` was said, by this command.
    pub leaving: Option<Ticket>,
    /// Our SelfRemove is on its way.
    pub left: bool,
    /// Rows before our join, which we can only chain, and the commit that took us in.
    pub joined_at: Option<(u64, Vec<u8>)>,
    /// When our leaf is renewed next.
    pub renew_at: Duration,
    /// Roles, acts of its owner, and where it stands with its secret.
    pub rule: Rule,
    session: [u8; 8],
    counter: u64,
    /// The counter of our last message in the log.
    logged: u64,
    /// A message was refused for good: what is left is counted anew once nothing is on its way.
    recount: bool,
    pub(super) reasons: BTreeMap<PublicKey, RemoveReason>,
    /// What may have been logged and has gone another way since: its bytes, and its counter.
    moved: Vec<(Vec<u8>, u64)>,
}

/// What the conversation is to the user.
pub(super) enum Kind {
    Room { name: FullName, access: Box<Access> },
    Direct { peer: FullName },
}

/// What it takes to get in again.
#[derive(Clone)]
pub(super) struct Access {
    pub kind: RoomKind,
    pub keys: Option<RoomKeys>,
    /// For invites.
    pub secret: Option<Secret>,
}

/// What a row of the log, or the server's answer to a post, means.
#[derive(Debug)]
pub(super) enum News {
    /// Our own message is in the log.
    Delivered(Box<Item>),
    /// Somebody said something, and all that can be checked about it holds.
    Said { sender: Sealer, envelope: Box<Envelope> },
    /// Somebody whom the room's owner has muted sent something, which is dropped.
    Muted { sender: Sealer },
    /// A new epoch; each who is gone, and why.
    Changed { change: Box<Change>, gone: Vec<(MemberInfo, &'static str)> },
    /// Our own leaf is gone.
    Out { reason: &'static str },
    /// Somebody broke the rules.
    Integrity { kind: &'static str, peer: Option<FullName> },
    /// Somebody came under a name that its server did not certify.
    FalseName(Box<CertRefused>),
    /// Rows are missing: ask for them.
    Resync,
    /// The room went where we cannot follow: only a new join helps.
    Lost,
}

/// How often we joined anew because we could not follow; a server or a member that makes us do it again and again gets us held.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Mends {
    count: u32,
    since: Duration,
}

impl Mends {
    /// Whether once more is still all right.
    pub fn once_more(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= MENDS_WINDOW {
            *self = Self { count: 0, since: now };
        }
        self.count = self.count.saturating_add(1);
        self.count <= MENDS
    }
}

impl Conversation {
    /// At a row of the log, with the chain there.
    pub fn new((id, server): (RoomId, Name), kind: Kind, room: Room, at: (u64, Chain), session: [u8; 8]) -> Self {
        Self {
            id,
            server,
            kind,
            room,
            outbox: Outbox::default(),
            held_sent: 0,
            history: History::new(at),
            syncing: false,
            held: false,
            founding: false,
            rejoining: false,
            mends: Mends::default(),
            commit: None,
            stale: None,
            leaving: None,
            left: false,
            joined_at: None,
            renew_at: Duration::MAX,
            rule: Rule::default(),
            session,
            counter: 0,
            logged: 0,
            recount: false,
            reasons: BTreeMap::new(),
            moved: Vec::new(),
        }
    }

    /// How people call it.
    pub fn title(&self) -> String {
        match &self.kind {
            Kind::Room { name, .. } => name.to_string(),
            Kind::Direct { peer, .. } => peer.to_string(),
        }
    }

    /// The same as fields of events: the room, or the person.
    pub fn whither(&self) -> (Option<String>, Option<String>) {
        match &self.kind {
            Kind::Room { name, .. } => (Some(name.to_string()), None),
            Kind::Direct { peer, .. } => (None, Some(peer.to_string())),
        }
    }

    pub const fn is_room(&self) -> bool {
        matches!(self.kind, Kind::Room { .. })
    }

    /// A private room's password, for invites.
    pub const fn secret(&self) -> Option<&Secret> {
        match &self.kind {
            Kind::Room { access, .. } => access.secret.as_ref(),
            Kind::Direct { .. } => None,
        }
    }

    /// The next message to be posted, sealed in the present epoch; repeats of one epoch are identical bytes.
    pub fn next_post(&mut self) -> Option<(MessageId, Vec<u8>)> {
        if self.recount && !self.outbox.any_in_flight() {
            self.recount = false;
            self.counter = self.logged;
            self.outbox.forget_counters();
        }
        if !self.may_post() {
            return None;
        }
        let epoch = self.room.epoch();
        let (seen, chain) = self.history.last();
        let item = self.outbox.next()?;
        if item.sealed_in(epoch).is_none() {
            let counter = *item.counter.get_or_insert_with(|| {
                self.counter += 1;
                self.counter
            });
            let (session, chain) = (self.session.into(), chain.0.into());
            let envelope = Envelope { id: item.id, session, counter, seen, chain, body: item.body.clone() };
            let bytes = self.room.seal(&envelope.to_bytes()).ok()?;
            item.set_sealed(epoch, bytes);
        }
        let post = (item.id, item.sealed_in(epoch)?.to_vec());
        self.outbox.set_in_flight(&post.0);
        Some(post)
    }

    fn may_post(&self) -> bool {
        let waits = self.recount || !self.may_commit() || self.outbox.awaits_stale(self.room.epoch());
        !waits && !self.room.must_commit() && self.stale.is_none_or(|epoch| self.room.epoch() > epoch)
    }

    /// Whether a commit of ours makes sense now.
    pub fn may_commit(&self) -> bool {
        let waits = self.syncing || self.founding || self.held || self.rejoining || self.left;
        !waits && self.commit.is_none() && self.room.is_active()
    }

    /// Nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        self.outbox.is_empty() && self.commit.is_none() && !self.syncing && !self.rejoining
    }

    /// The server has logged our message under this number.
    pub fn posted(&mut self, id: &MessageId, seq: u64) -> Vec<News> {
        let Some(bytes) = self.outbox.bytes_of(id).map(<[u8]>::to_vec) else { return Vec::new() };
        let mut news = self.own_row(seq, RowKind::Message, &bytes);
        news.extend(self.delivered(id));
        news
    }

    pub(super) fn delivered(&mut self, id: &MessageId) -> Option<News> {
        let item = self.outbox.take(id)?;
        self.logged = self.logged.max(item.counter.unwrap_or(0));
        Some(News::Delivered(Box::new(item)))
    }

    /// Takes out all that the log is not known to have, for another conversation with the same inner ids. What was on its way is known
    /// again if it was logged.
    pub fn move_out(&mut self) -> Vec<Item> {
        self.moved.extend(self.outbox.sealed());
        self.recount = true;
        self.outbox.drain(true)
    }

    /// Whether a row is something that has gone another way.
    pub(super) fn is_moved(&mut self, bytes: &[u8]) -> bool {
        let Some(at) = self.moved.iter().position(|(moved, _)| moved == bytes) else { return false };
        let (_, counter) = self.moved.swap_remove(at);
        self.logged = self.logged.max(counter);
        self.history.remember_own(bytes);
        true
    }

    /// All that the log has is known.
    pub fn synced(&mut self) {
        self.syncing = false;
        self.moved.clear();
        // Had it won, it would have stood in the log.
        self.commit_lost();
    }

    /// The server will not log it, whatever we do.
    pub fn post_failed(&mut self, id: &MessageId) -> Option<Item> {
        self.recount = true;
        self.outbox.take(id)
    }

    /// The server has logged our commit out of an epoch under this number.
    pub fn committed(&mut self, epoch: u64, seq: u64) -> Vec<News> {
        let Some((_, bytes)) = self.commit.take_if(|(of, _)| *of == epoch) else { return Vec::new() };
        let mut news = self.own_row(seq, RowKind::Commit, &bytes);
        if !self.syncing
            && self.room.has_pending_commit()
            && let Ok(change) = self.room.own_commit_accepted()
        {
            news.extend(self.changed(change));
        }
        news
    }

    /// The server has refused our commit out of an epoch. By now another one may be on its way.
    pub fn commit_refused(&mut self, epoch: u64) {
        if self.commit.as_ref().is_some_and(|(of, _)| *of == epoch) {
            self.commit_lost();
        }
    }

    /// Our own commit, if there is one, did not make it.
    pub fn commit_lost(&mut self) {
        self.commit = None;
        if self.room.has_pending_commit() {
            // Only a library failure: the next commit of anybody clears it too.
            let _ = self.room.own_commit_lost();
        }
    }

    /// Where one of our own rows stands. While rows are being fetched it comes once more with them.
    fn own_row(&mut self, seq: u64, kind: RowKind, bytes: &[u8]) -> Vec<News> {
        self.history.remember_own(bytes);
        if self.syncing {
            return Vec::new();
        }
        match self.history.place(seq) {
            Place::Next => self.history.append(seq, kind, bytes),
            // Logged before the link broke.
            Place::Past => {}
            Place::Beyond => return self.hole(),
        }
        Vec::new()
    }

    pub(super) fn hole(&mut self) -> Vec<News> {
        self.syncing = true;
        vec![News::Integrity { kind: "gap", peer: None }, News::Resync]
    }
}

/// The word for it in events.
pub(super) const fn kind_of(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::BadVouch | Integrity::BadTree => "bad_state",
        Integrity::WrongEpoch => "diverged",
        other => other.as_str(),
    }
}

/// New joins in [`MENDS_WINDOW`] before a room is held instead.
const MENDS: u32 = 8;
const MENDS_WINDOW: Duration = Duration::from_secs(600);
