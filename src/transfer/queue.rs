//! The line of those who wait for an upload slot.

use std::collections::VecDeque;
use std::time::Duration;

use super::slots::{SMALL, Slot, Slots};
use crate::wire::id::TransferId;

/// Slots and the line before them: first come, first served, but nobody gets a second slot while others wait. Bounded in all and for each
/// peer; who waits too long is told to ask again.
#[derive(Debug)]
pub struct Queue<P> {
    slots: Slots<P>,
    waiting: VecDeque<Waiting<P>>,
    // Peers whose next request passes, and until when.
    grants: VecDeque<(P, Duration)>,
}

#[derive(Debug)]
struct Waiting<P> {
    transfer: TransferId,
    peer: P,
    size: u64,
    until: Duration,
    granted: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has a slot.
    Go,
    /// It stands in line.
    Wait,
    /// Neither.
    Busy,
}

/// Why somebody in line should have a slot that another has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It has none like it.
    First,
    /// The same, and whoever has this one has another.
    Second,
}

/// Where somebody stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whose.
    pub transfer: TransferId,
    /// 1 is next.
    pub place: u32,
    /// Bytes that those before have asked for.
    pub ahead: u64,
}

impl<P: Ord + Clone> Queue<P> {
    /// Nobody waits for these slots.
    pub const fn new(limit: u32) -> Self {
        Self { slots: Slots::new(limit), waiting: VecDeque::new(), grants: VecDeque::new() }
    }

    /// A request for this many bytes; `wait` says whether the asker would stand in line.
    pub fn ask(&mut self, now: Duration, transfer: TransferId, peer: &P, size: u64, wait: bool) -> Verdict {
        self.grants.retain(|(_, until)| now < *until);
        if let Some(at) = self.grants.iter().position(|(who, _)| who == peer) {
            self.grants.remove(at);
            self.slots.take(transfer, peer.clone(), Slot::Granted);
            return Verdict::Go;
        }
        if let Some(slot) = self.slots.fitting(size) {
            self.slots.take(transfer, peer.clone(), slot);
            return Verdict::Go;
        }
        let theirs = self.waiting.iter().filter(|waiting| waiting.peer == *peer).count();
        if !wait || self.slots.limit() == 0 || self.waiting.len() >= LINE_MAX || theirs >= LINE_PER_PEER {
            return Verdict::Busy;
        }
        self.waiting.push_back(Waiting { transfer, peer: peer.clone(), size, until: now + PATIENCE, granted: false });
        Verdict::Wait
    }

    /// Lets a request through past every limit: one that we have asked for ourselves.
    pub fn pass(&mut self, transfer: TransferId, peer: &P) {
        self.slots.take(transfer, peer.clone(), Slot::Granted);
    }

    /// The next in line who has a slot now; to be called until it gives `None`, after anything has changed.
    pub fn admit(&mut self) -> Option<TransferId> {
        let (at, slot) = self.first_granted().or_else(|| self.first_plain()).or_else(|| self.first_small())?;
        let waiting = self.waiting.remove(at)?;
        self.slots.take(waiting.transfer, waiting.peer, slot);
        Some(waiting.transfer)
    }

    fn first_granted(&self) -> Option<(usize, Slot)> {
        Some((self.waiting.iter().position(|waiting| waiting.granted)?, Slot::Granted))
    }

    fn first_plain(&self) -> Option<(usize, Slot)> {
        if self.slots.free() == 0 || self.waiting.is_empty() {
            return None;
        }
        let without = self.waiting.iter().position(|waiting| !self.slots.has(&waiting.peer));
        Some((without.unwrap_or(0), Slot::Plain))
    }

    fn first_small(&self) -> Option<(usize, Slot)> {
        let fits = |waiting: &Waiting<P>| self.slots.fitting(waiting.size) == Some(Slot::Small);
        Some((self.waiting.iter().position(fits)?, Slot::Small))
    }

    /// The peer's first request in line, or its next one within ten minutes, passes.
    pub fn grant(&mut self, now: Duration, peer: P) {
        match self.waiting.iter_mut().find(|waiting| waiting.peer == peer && !waiting.granted) {
            Some(waiting) => waiting.granted = true,
            None => {
                self.grants.push_back((peer, now + GRANT));
                self.grants.truncate(LINE_MAX);
            }
        }
    }

    /// Whether somebody waits who should have this slot, which another has.
    pub fn claim(&self, transfer: TransferId) -> Option<Claim> {
        self.claimant(transfer).map(|(_, _, claim)| claim)
    }

    /// Where the first of them stands, and what it would have: a plain slot is for who has none, the small one for what fits in it. Nobody is
    /// waited for who got past the line.
    fn claimant(&self, transfer: TransferId) -> Option<(usize, Slot, Claim)> {
        if self.waiting.is_empty() {
            return None;
        }
        let (holder, slot) = self.slots.holder(transfer)?;
        let fits = |waiting: &Waiting<P>| match slot {
            Slot::Plain => !self.slots.has(&waiting.peer),
            Slot::Small => waiting.size <= SMALL,
            Slot::Granted => false,
        };
        let at = self.waiting.iter().position(|waiting| waiting.peer != *holder && fits(waiting))?;
        let second = slot == Slot::Plain && self.slots.count(holder) > 1;
        Some((at, slot, if second { Claim::Second } else { Claim::First }))
    }

    /// Gives this slot to the first who has a claim to it, before others of whoever loses it; `None` if there are fewer slots by now.
    pub fn pass_on(&mut self, transfer: TransferId) -> Option<TransferId> {
        let (at, slot, _) = self.claimant(transfer)?;
        self.slots.release(transfer);
        if slot == Slot::Plain && self.slots.free() == 0 || self.slots.limit() == 0 {
            return None;
        }
        let waiting = self.waiting.remove(at)?;
        self.slots.take(waiting.transfer, waiting.peer, slot);
        Some(waiting.transfer)
    }

    /// A transfer is over, or waits no more. Returns whether it had a slot or a place.
    pub fn release(&mut self, transfer: TransferId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.transfer != transfer);
        self.slots.release(transfer) || self.waiting.len() < before
    }

    /// Those whose patience has run out; they stand in line no more.
    pub fn expire(&mut self, now: Duration) -> Vec<TransferId> {
        let late: Vec<TransferId> = self.waiting.iter().filter(|w| now >= w.until).map(|w| w.transfer).collect();
        self.waiting.retain(|waiting| now < waiting.until);
        late
    }

    /// When [`Self::expire`] has something to do.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// The line, from its head.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let mut ahead = 0_u64;
        self.waiting.iter().zip(1..).map(move |(waiting, place)| {
            let here = Place { transfer: waiting.transfer, place, ahead };
            ahead = ahead.saturating_add(waiting.size);
            here
        })
    }

    /// Plain slots that can be taken now.
    pub fn free(&self) -> u32 {
        self.slots.free()
    }

    /// Plain slots in all.
    pub const fn limit(&self) -> u32 {
        self.slots.limit()
    }

    /// Another number of plain slots.
    pub const fn set_limit(&mut self, limit: u32) {
        self.slots.set_limit(limit);
    }
}

/// Requests that may stand in line.
pub const LINE_MAX: usize = 64;
/// Of them, those of one peer.
const LINE_PER_PEER: usize = 8;
/// How long one may stand there: shorter than the asker's file side keeps its side prepared.
const PATIENCE: Duration = Duration::from_secs(25 * 60);
/// How long the user's word holds for a peer who has not asked yet.
const GRANT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;

    const BIG: u64 = 1 << 30;
    const START: Duration = Duration::ZERO;

    fn id(n: u8) -> TransferId {
        Id([n; 16])
    }

    fn full() -> Queue<&'static str> {
        let mut queue = Queue::new(2);
        for n in [1, 2] {
            assert_eq!(queue.ask(START, id(n), &"bob", BIG, true), Verdict::Go);
        }
        queue
    }

    #[test]
    fn the_line_moves_up_and_says_where_one_stands() {
        let mut queue = full();
        assert_eq!(queue.ask(START, id(3), &"carol", BIG, false), Verdict::Busy);
        assert_eq!(queue.ask(START, id(3), &"carol", BIG, true), Verdict::Wait);
        assert_eq!(queue.ask(START, id(4), &"dave", 2 * BIG, true), Verdict::Wait);
        let places: Vec<_> = queue.places().map(|p| (p.transfer, p.place, p.ahead)).collect();
        assert_eq!((queue.admit(), places), (None, vec![(id(3), 1, 0), (id(4), 2, BIG)]));
        assert!(queue.release(id(1)));
        assert_eq!((queue.admit(), queue.admit()), (Some(id(3)), None));
        assert_eq!(queue.places().next().map(|p| (p.transfer, p.place)), Some((id(4), 1)));
    }

    #[test]
    fn nobody_gets_a_second_slot_while_others_wait() {
        let mut queue = full();
        for (n, who) in [(3, "bob"), (4, "bob"), (5, "carol")] {
            assert_eq!(queue.ask(START, id(n), &who, BIG, true), Verdict::Wait);
        }
        queue.release(id(1));
        assert_eq!(queue.admit(), Some(id(5)), "bob has one already");
        queue.release(id(5));
        assert_eq!(queue.admit(), Some(id(3)), "only bob waits");
    }

    #[test]
    fn whoever_has_none_has_a_claim_to_what_others_have() {
        let mut queue = full();
        assert_eq!(queue.claim(id(1)), None, "nobody waits");
        assert_eq!(queue.ask(START, id(3), &"bob", BIG, true), Verdict::Wait);
        assert_eq!(queue.claim(id(1)), None, "only bob himself does");
        assert_eq!(queue.ask(START, id(4), &"carol", BIG, true), Verdict::Wait);
        assert_eq!((queue.claim(id(1)), queue.claim(id(3))), (Some(Claim::Second), None));
        queue.release(id(1));
        assert_eq!(queue.admit(), Some(id(4)));
        assert_eq!(queue.claim(id(2)), None);
        assert_eq!(queue.ask(START, id(5), &"dave", BIG, true), Verdict::Wait);
        assert_eq!((queue.claim(id(2)), queue.claim(id(4))), (Some(Claim::First), Some(Claim::First)));
    }

    #[test]
    fn the_small_slot_can_be_claimed_for_what_is_small() {
        let mut queue = full();
        assert_eq!(queue.ask(START, id(3), &"carol", SMALL, true), Verdict::Go);
        assert_eq!(queue.ask(START, id(4), &"carol", SMALL, true), Verdict::Wait);
        assert_eq!(queue.ask(START, id(5), &"dave", SMALL + 1, true), Verdict::Wait);
        assert_eq!(queue.claim(id(3)), None, "nobody else waits for something small");
        assert_eq!(queue.ask(START, id(6), &"eve", SMALL, true), Verdict::Wait);
        assert_eq!(queue.claim(id(3)), Some(Claim::First));
        assert_eq!((queue.pass_on(id(3)), queue.admit()), (Some(id(6)), None), "not to another of carol's");
        queue.grant(START, "dave");
        assert_eq!((queue.admit(), queue.claim(id(5))), (Some(id(5)), None), "the user's word stands");
        queue.release(id(6));
        assert_eq!(queue.admit(), Some(id(4)));
    }

    #[test]
    fn what_is_passed_on_does_not_come_back_by_the_line() {
        let mut queue = full();
        for (n, who) in [(3, "bob"), (4, "carol")] {
            assert_eq!(queue.ask(START, id(n), &who, BIG, true), Verdict::Wait);
        }
        queue.release(id(2));
        assert_eq!(queue.ask(START, id(5), &"dave", BIG, true), Verdict::Go);
        assert_eq!((queue.pass_on(id(1)), queue.pass_on(id(5))), (Some(id(4)), Some(id(3))));
        assert_eq!(queue.ask(START, id(6), &"eve", BIG, true), Verdict::Wait);
        queue.set_limit(1);
        assert_eq!(queue.pass_on(id(3)), None, "there is one slot, and carol has it");
        assert_eq!((queue.admit(), queue.places().count()), (None, 1));
    }

    #[test]
    fn small_files_pass_one_at_a_time() {
        let mut queue = full();
        assert_eq!(queue.ask(START, id(3), &"carol", BIG, true), Verdict::Wait);
        assert_eq!(queue.ask(START, id(4), &"dave", 1000, true), Verdict::Go);
        assert_eq!(queue.ask(START, id(5), &"eve", 1000, true), Verdict::Wait);
        assert_eq!(queue.admit(), None);
        queue.release(id(4));
        assert_eq!((queue.admit(), queue.admit()), (Some(id(5)), None));
    }

    #[test]
    fn the_users_word_lets_one_through() {
        let mut queue = full();
        assert_eq!(queue.ask(START, id(3), &"carol", BIG, true), Verdict::Wait);
        assert_eq!(queue.ask(START, id(4), &"dave", BIG, true), Verdict::Wait);
        queue.grant(START, "dave");
        assert_eq!((queue.admit(), queue.admit()), (Some(id(4)), None));
        queue.grant(START, "eve");
        assert_eq!(queue.ask(START, id(5), &"eve", BIG, false), Verdict::Go);
        assert_eq!(queue.ask(START, id(6), &"eve", BIG, false), Verdict::Busy);
        queue.grant(START, "eve");
        assert_eq!(queue.ask(START + GRANT, id(6), &"eve", BIG, false), Verdict::Busy, "too late");
    }

    #[test]
    fn the_line_is_bounded_for_each_and_in_all_and_nobody_stands_there_for_ever() {
        let mut queue = full();
        let line = LINE_PER_PEER as u8;
        for n in 0..line {
            assert_eq!(queue.ask(START, id(100 + n), &"carol", BIG, true), Verdict::Wait);
        }
        assert_eq!(queue.ask(START, id(99), &"carol", BIG, true), Verdict::Busy);
        assert_eq!(queue.next_timeout(), Some(PATIENCE));
        assert_eq!(queue.expire(PATIENCE).len(), LINE_PER_PEER);
        assert_eq!(queue.places().count(), 0);
        let mut queue: Queue<u8> = Queue::new(1);
        assert_eq!(queue.ask(START, id(0), &0, BIG, true), Verdict::Go);
        let asked: Vec<_> = (1..=65).map(|n| queue.ask(START, id(n), &(n / 4), BIG, true)).collect();
        assert_eq!(asked.iter().filter(|v| **v == Verdict::Wait).count(), LINE_MAX);
        assert_eq!(asked.last(), Some(&Verdict::Busy));
        let mut closed: Queue<u8> = Queue::new(0);
        assert_eq!(closed.ask(START, id(0), &0, 1, true), Verdict::Busy);
    }
}
