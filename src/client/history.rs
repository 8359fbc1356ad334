//! The log of a conversation as we have processed it, and what others say they saw: gaps, swaps, repeats and diverging views show here.

use crate::crypto::identity::PublicKey;
use crate::wire::log::{Chain, RowKind};
use crate::wire::payload::Envelope;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Debug)]
pub(super) struct History {
    /// The chain at the last rows, the newest last.
    chains: VecDeque<Chain>,
    last: u64,
    senders: BTreeMap<PublicKey, Heard>,
    /// Members whose join we saw: their first message counts 1.
    fresh: BTreeSet<PublicKey>,
    /// Hashes of our own last messages.
    own: VecDeque<[u8; 32]>,
}

#[derive(Debug)]
struct Heard {
    session: [u8; 8],
    counter: u64,
    /// Told once; every later message of theirs would say it again.
    diverged: bool,
}

/// Where a number stands against the last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Past,
    Next,
    Beyond,
}

/// What is wrong with a message that its sender did seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Messages of theirs before this one are missing.
    Missing,
    /// It comes after later ones, or again.
    Late,
    /// They have seen another log than we.
    Diverged,
}

impl Flaw {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "gap",
            Self::Late => "replay",
            Self::Diverged => "diverged",
        }
    }
}

impl History {
    pub fn new((last, chain): (u64, Chain)) -> Self {
        let (senders, fresh, own) = Default::default();
        Self { chains: VecDeque::from([chain]), last, senders, fresh, own }
    }

    /// The last row and the chain there.
    pub fn last(&self) -> (u64, Chain) {
        (self.last, self.chains.back().copied().unwrap_or(Chain([0; 32])))
    }

    pub fn place(&self, seq: u64) -> Place {
        match seq.checked_sub(self.last) {
            Some(1) => Place::Next,
            Some(n) if n > 1 => Place::Beyond,
            _ => Place::Past,
        }
    }

    pub fn append(&mut self, seq: u64, kind: RowKind, bytes: &[u8]) {
        let (_, chain) = self.last();
        self.chains.push_back(chain.after(seq, kind, bytes));
        self.last = seq;
        if self.chains.len() > CHAINS {
            self.chains.pop_front();
        }
    }

    pub fn remember_own(&mut self, bytes: &[u8]) {
        self.own.push_back(Sha256::digest(bytes).into());
        if self.own.len() > OWN {
            self.own.pop_front();
        }
    }

    pub fn is_own(&self, bytes: &[u8]) -> bool {
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        self.own.contains(&hash)
    }

    /// A member has joined before our eyes.
    pub fn expect(&mut self, key: &PublicKey) {
        self.senders.remove(key);
        self.fresh.insert(*key);
    }

    /// A member is gone.
    pub fn forget(&mut self, key: &PublicKey) {
        self.senders.remove(key);
        self.fresh.remove(key);
    }

    /// Compares what a sender counted and saw with what we did. Late messages change nothing.
    pub fn check(&mut self, seq: u64, key: &PublicKey, envelope: &Envelope) -> Vec<Flaw> {
        let session = *envelope.session;
        let expected = match self.senders.get(key) {
            Some(heard) if heard.session == session && envelope.counter <= heard.counter => return vec![Flaw::Late],
            Some(heard) if heard.session == session => Some(heard.counter.saturating_add(1)),
            None if !self.fresh.contains(key) => None,
            // A new session begins with a join, which we saw.
            _ => Some(1),
        };
        let mut flaws = Vec::new();
        if expected.is_some_and(|n| n != envelope.counter) {
            flaws.push(Flaw::Missing);
        }
        let told = self.senders.get(key).is_some_and(|heard| heard.diverged);
        let diverged = told || self.differs(seq, envelope);
        if diverged && !told {
            flaws.push(Flaw::Diverged);
        }
        self.fresh.remove(key);
        self.senders.insert(*key, Heard { session, counter: envelope.counter, diverged });
        flaws
    }

    fn differs(&self, seq: u64, envelope: &Envelope) -> bool {
        if envelope.seen >= seq {
            return true;
        }
        let Some(back) = self.last.checked_sub(envelope.seen).and_then(|n| usize::try_from(n).ok()) else {
            return true;
        };
        let Some(at) = self.chains.len().checked_sub(back + 1) else { return false };
        self.chains.get(at).is_some_and(|chain| chain.0 != *envelope.chain)
    }
}

/// Rows whose chain is kept; a sender that is further behind is not compared.
const CHAINS: usize = 2048;
/// Own messages that are recognised when they come again.
const OWN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;
    use crate::wire::payload::Body;

    const BOB: PublicKey = PublicKey::from_bytes([2; 32]);

    fn history() -> History {
        let mut history = History::new((0, Chain::start(&Id([1; 16]))));
        (1..=3).for_each(|seq| history.append(seq, RowKind::Message, &[7]));
        history
    }

    fn message(counter: u64, seen: u64, chain: Chain) -> Envelope {
        let body = Body::Text("x".into());
        Envelope { id: Id([9; 16]), session: [1; 8].into(), counter, seen, chain: chain.0.into(), body }
    }

    #[test]
    fn gaps_swaps_and_other_views_show() {
        let mut history = history();
        let (_, chain) = history.last();
        history.expect(&BOB);
        history.append(4, RowKind::Message, &[8]);
        assert_eq!(history.check(4, &BOB, &message(2, 3, chain)), [Flaw::Missing]);
        assert_eq!(history.check(4, &BOB, &message(1, 3, chain)), [Flaw::Late]);
        assert_eq!(history.check(4, &BOB, &message(2, 3, chain)), [Flaw::Late]);
        assert_eq!(history.check(4, &BOB, &message(3, 4, chain)), [Flaw::Diverged]);
        assert_eq!(history.check(4, &BOB, &message(4, 2, chain)), []);
        assert_eq!(history.check(4, &BOB, &message(5, 3, chain)), []);
    }

    #[test]
    fn a_first_word_of_an_older_member_counts_from_anywhere() {
        let mut history = history();
        let (_, chain) = history.last();
        history.append(4, RowKind::Message, &[8]);
        assert_eq!(history.check(4, &BOB, &message(17, 3, chain)), []);
        assert_eq!(history.check(4, &BOB, &message(19, 3, chain)), [Flaw::Missing]);
    }
}
