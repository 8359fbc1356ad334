//! People: which key belongs to which name, who is ignored, which conversation leads to whom, what was heard already.

use super::outbox::Outbox;
use crate::crypto::identity::PublicKey;
use crate::limits::SEARCHES_ANSWERED;
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
    /// That no more keys are kept was told.
    told_full: bool,
    ignored: BTreeSet<FullName>,
    known: BTreeMap<FullName, Peer>,
    /// What each key has said lately, so that a repeat under a new seal is dropped.
    heard: BTreeMap<PublicKey, Heard>,
    heard_in_all: u64,
    pub pings: BTreeMap<u64, Ping>,
    /// When strangers began conversations with us.
    strangers: VecDeque<Duration>,
    /// When each asked for something that costs us work.
    asked: BTreeMap<FullName, VecDeque<Duration>>,
    /// When each searched.
    searched: BTreeMap<FullName, VecDeque<Duration>>,
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
    /// Its place among all: the quietest key is forgotten first.
    last: u64,
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
    /// The first one, and there is no place to keep it; told once.
    NotKept,
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
            None if self.pins.len() >= PINS_MAX && std::mem::replace(&mut self.told_full, true) => Meeting::Known,
            None if self.pins.len() >= PINS_MAX => Meeting::NotKept,
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

    /// The name that a key was seen with.
    pub fn name_of(&self, key: &PublicKey) -> Option<&FullName> {
        self.pins.iter().find(|(_, pinned)| *pinned == key).map(|(name, _)| name)
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
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(name) {
            self.known.retain(|_, peer| peer.taking || peer.current.is_some() || !peer.waiting.is_empty());
        }
        self.known.entry(name.clone()).or_default()
    }

    pub fn current(&self, name: &FullName) -> Option<RoomId> {
        self.known.get(name)?.current
    }

    pub fn not_taking(&mut self, name: &FullName) {
        self.get(name).taking = false;
    }

    /// Those for whom lines wait without a conversation that gets through.
    pub fn waiting(&self) -> Vec<FullName> {
        let waits = |p: &Peer| !p.taking && !p.waiting.is_empty();
        self.known.iter().filter(|(_, p)| waits(p)).map(|(name, _)| name.clone()).collect()
    }

    /// Those to whom something waits to be said, or whose key package is asked for.
    pub fn awaited(&self) -> impl Iterator<Item = &FullName> {
        self.known.iter().filter(|(_, p)| p.taking || !p.waiting.is_empty()).map(|(name, _)| name)
    }

    /// False if this was heard before.
    pub fn first_time(&mut self, key: &PublicKey, id: MessageId) -> bool {
        if self.heard.len() >= HEARD_KEYS && !self.heard.contains_key(key) {
            let quietest = self.heard.iter().min_by_key(|(_, heard)| heard.last).map(|(key, _)| *key);
            quietest.and_then(|key| self.heard.remove(&key));
        }
        self.heard_in_all += 1;
        let heard = self.heard.entry(*key).or_default();
        heard.last = self.heard_in_all;
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

    /// Whether somebody may ask for one more file now.
    pub fn may_ask(&mut self, name: &FullName, now: Duration) -> bool {
        allow_each(&mut self.asked, name, now, ASKS)
    }

    /// Whether one more search of somebody is answered now.
    pub fn may_search(&mut self, name: &FullName, now: Duration) -> bool {
        allow_each(&mut self.searched, name, now, SEARCHES_ANSWERED)
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        self.pings.values().map(|p| p.sent + PING_DEADLINE).min()
    }
}

fn allow_each(all: &mut BTreeMap<FullName, VecDeque<Duration>>, name: &FullName, now: Duration, most: usize) -> bool {
    if all.len() >= HEARD_KEYS && !all.contains_key(name) {
        all.retain(|_, times| times.back().is_some_and(|t| now < *t + WINDOW));
    }
    allow(all.entry(name.clone()).or_default(), now, most)
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
/// People that are kept before those are forgotten with whom there is no conversation and for whom nothing waits.
const KNOWN_MAX: usize = 1024;
/// Names whose keys are kept.
const PINS_MAX: usize = 1 << 16;
const WINDOW: Duration = Duration::from_secs(60);
/// Conversations that strangers may begin with us in [`WINDOW`].
const STRANGERS: usize = 20;
/// File requests of one person in [`WINDOW`].
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

    fn key(n: u64) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    fn person(n: u64) -> FullName {
        FullName::new(Name::parse(&format!("p{n}x")).unwrap(), Name::parse("s1").unwrap())
    }

    #[test]
    fn a_talkative_key_is_not_forgotten_for_many_that_speak_once() {
        let mut peers = Peers::default();
        // The lowest of all, and heard again and again.
        assert!(peers.first_time(&key(0), Id([1; 16])));
        for n in 1..3 * HEARD_KEYS as u64 {
            assert!(peers.first_time(&key(n), Id([2; 16])));
            assert!(!peers.first_time(&key(0), Id([1; 16])), "a repeat after {n} others");
        }
        assert_eq!(peers.heard.len(), HEARD_KEYS);
    }

    #[test]
    fn people_with_whom_nothing_is_under_way_are_forgotten() {
        let mut peers = Peers::default();
        peers.get(&bob()).current = Some(Id([7; 16]));
        (0..100_000).for_each(|n| peers.not_taking(&person(n)));
        assert!(peers.known.len() <= KNOWN_MAX, "{}", peers.known.len());
        assert_eq!(peers.current(&bob()), Some(Id([7; 16])));
    }

    #[test]
    fn that_no_more_keys_are_kept_is_told_once() {
        let pins: Vec<_> = (0..PINS_MAX as u64).map(|n| (person(n), key(n))).collect();
        let mut peers = Peers::new(&pins);
        assert_eq!(peers.meet(&bob(), &key(1)), Meeting::NotKept);
        assert_eq!(peers.meet(&bob(), &key(2)), Meeting::Known);
        assert_eq!(peers.meet(&person(5), &key(6)), Meeting::Changed, "those that are kept are held to their keys");
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
