//! People: which key belongs to which name, who is ignored, which conversation leads to whom, what was heard already.

use super::outbox::Outbox;
use crate::crypto::identity::PublicKey;
use crate::wire::id::{MessageId, RoomId};
use crate::wire::name::FullName;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::core::Ticket;

#[derive(Debug, Default)]
pub(super) struct Peers {
    pins: BTreeMap<FullName, PublicKey>,
    /// Names that came with another key than the pinned one.
    changed: BTreeMap<FullName, PublicKey>,
    ignored: BTreeSet<FullName>,
    known: BTreeMap<FullName, Peer>,
    /// What each key has said lately, so that a repeat under a new seal is dropped.
    heard: BTreeMap<PublicKey, Heard>,
    pub pings: BTreeMap<u64, Ping>,
    /// When strangers began conversations with us.
    strangers: VecDeque<Duration>,
    /// When each asked for something that costs us work.
    asked: BTreeMap<FullName, VecDeque<Duration>>,
}

/// The way to somebody.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Where our lines go; of several the lowest id.
    pub current: Option<RoomId>,
    /// Until there is a conversation.
    pub waiting: Outbox,
    /// A key package is asked for.
    pub taking: bool,
}

#[derive(Debug, Default)]
struct Heard {
    order: VecDeque<MessageId>,
    ids: BTreeSet<MessageId>,
}

/// A round trip under way.
#[derive(Debug)]
pub(super) struct Ping {
    pub ticket: Ticket,
    pub peer: FullName,
    pub sent: Duration,
}

/// What a key is to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    /// The one that we know.
    Known,
    /// The first one.
    New,
    /// Another than the pinned one; seen for the first time.
    Changed,
    /// Another than the pinned one, as told before.
    StillChanged,
}

impl Peers {
    pub fn new(pins: &[(FullName, PublicKey)]) -> Self {
        Self { pins: pins.iter().cloned().collect(), ..Self::default() }
    }

    /// Compares a certified key with the pinned one, and pins the first.
    pub fn meet(&mut self, name: &FullName, key: &PublicKey) -> Meeting {
        match self.pins.get(name) {
            Some(pinned) if pinned == key => {
                self.changed.remove(name);
                Meeting::Known
            }
            Some(_) if self.changed.insert(name.clone(), *key) == Some(*key) => Meeting::StillChanged,
            Some(_) => Meeting::Changed,
            // Full: such a name is met anew each time.
            None if self.pins.len() >= PINS_MAX => Meeting::Known,
            None => {
                self.pins.insert(name.clone(), *key);
                Meeting::New
            }
        }
    }

    pub fn is_changed(&self, name: &FullName) -> bool {
        self.changed.contains_key(name)
    }

    pub fn pinned(&self, name: &FullName) -> Option<PublicKey> {
        self.pins.get(name).copied()
    }

    /// Whether this is the key that the user stands by, or none is kept for the name.
    pub fn is_pinned(&self, name: &FullName, key: &PublicKey) -> bool {
        self.pins.get(name).is_none_or(|pinned| pinned == key)
    }

    /// Pins the changed key, if one waits.
    pub fn trust(&mut self, name: &FullName) -> Option<PublicKey> {
        let key = self.changed.remove(name)?;
        self.pins.insert(name.clone(), key);
        Some(key)
    }

    pub fn ignore(&mut self, name: FullName) {
        self.ignored.insert(name);
    }

    pub fn is_ignored(&self, name: &FullName) -> bool {
        self.ignored.contains(name)
    }

    pub fn get(&mut self, name: &FullName) -> &mut Peer {
        self.known.entry(name.clone()).or_default()
    }

    pub fn current(&self, name: &FullName) -> Option<RoomId> {
        self.known.get(name)?.current
    }

    pub fn not_taking(&mut self, name: &FullName) {
        self.get(name).taking = false;
    }

    /// Those for whom lines wait without a conversation.
    pub fn waiting(&self) -> Vec<FullName> {
        let waits = |p: &Peer| !p.taking && p.current.is_none() && !p.waiting.is_empty();
        self.known.iter().filter(|(_, p)| waits(p)).map(|(name, _)| name.clone()).collect()
    }

    /// False if this was heard before.
    pub fn first_time(&mut self, key: &PublicKey, id: MessageId) -> bool {
        if self.heard.len() >= HEARD_KEYS && !self.heard.contains_key(key) {
            self.heard.pop_first();
        }
        let heard = self.heard.entry(*key).or_default();
        if !heard.ids.insert(id) {
            return false;
        }
        heard.order.push_back(id);
        if heard.order.len() > HEARD_IDS
            && let Some(old) = heard.order.pop_front()
        {
            heard.ids.remove(&old);
        }
        true
    }

    /// Whether one more stranger may begin a conversation now.
    pub fn stranger(&mut self, now: Duration) -> bool {
        allow(&mut self.strangers, now, STRANGERS)
    }

    /// Whether somebody may ask for one more search or file now.
    pub fn may_ask(&mut self, name: &FullName, now: Duration) -> bool {
        if self.asked.len() >= HEARD_KEYS && !self.asked.contains_key(name) {
            self.asked.retain(|_, times| times.back().is_some_and(|t| now < *t + WINDOW));
        }
        allow(self.asked.entry(name.clone()).or_default(), now, ASKS)
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        self.pings.values().map(|p| p.sent + PING_DEADLINE).min()
    }
}

fn allow(times: &mut VecDeque<Duration>, now: Duration, most: usize) -> bool {
    while times.front().is_some_and(|t| *t + WINDOW <= now) {
        times.pop_front();
    }
    if times.len() >= most {
        return false;
    }
    times.push_back(now);
    true
}

pub(super) const PING_DEADLINE: Duration = Duration::from_secs(10);
/// Messages of one key that are recognised when they come again.
const HEARD_IDS: usize = 256;
/// Keys of which that is kept.
const HEARD_KEYS: usize = 1024;
/// Names whose keys are kept.
const PINS_MAX: usize = 1 << 16;
const WINDOW: Duration = Duration::from_secs(60);
/// Conversations that strangers may begin with us in [`WINDOW`].
const STRANGERS: usize = 20;
/// Searches and file requests of one person in [`WINDOW`].
const ASKS: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;
    use crate::wire::name::Name;

    fn bob() -> FullName {
        FullName::new(Name::parse("bob").unwrap(), Name::parse("s1").unwrap())
    }

    #[test]
    fn a_changed_key_is_told_once_and_stands_until_it_is_trusted() {
        let (old, new) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
        let mut peers = Peers::new(&[(bob(), old)]);
        assert_eq!(peers.meet(&bob(), &old), Meeting::Known);
        assert_eq!(peers.meet(&bob(), &new), Meeting::Changed);
        assert_eq!(peers.meet(&bob(), &new), Meeting::StillChanged);
        assert!(peers.is_changed(&bob()));
        assert_eq!(peers.trust(&bob()), Some(new));
        assert_eq!(peers.meet(&bob(), &new), Meeting::Known);
        assert!(!peers.is_changed(&bob()));
    }

    #[test]
    fn repeats_are_known_and_strangers_are_limited() {
        let mut peers = Peers::default();
        let key = PublicKey::from_bytes([1; 32]);
        assert!(peers.first_time(&key, Id([1; 16])));
        assert!(!peers.first_time(&key, Id([1; 16])));
        let now = Duration::from_secs(5);
        assert_eq!((0..100).filter(|_| peers.stranger(now)).count(), STRANGERS);
        assert!(peers.stranger(now + WINDOW));
    }
}
