//! The asker's end: takes the bytes of one holder's stream and gives out what they prove.

use std::collections::VecDeque;
use std::ops::Range;

use thiserror::Error;

use super::ask::Ask;
use super::incoming::Data;
use super::outbox::Outbox;
use super::{CHANGED, DATA, HAVE, NOT_HERE, decode_have};
use crate::limits::{HAVES_MAX, ITEMS_PER_ASK, WANTS_MAX};
use crate::transfer::ranges::RangeSet;
use crate::transfer::space::{Space, Span};
use crate::transfer::tree::{Geometry, Pair, Root};

/// What is wanted of an item: its groups, and what they are checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The item's number.
    pub item: u32,
    /// Its shape.
    pub geometry: Geometry,
    /// Its root.
    pub root: Root,
    /// Which groups.
    pub groups: Range<u64>,
}

/// Why a wish was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WantError {
    /// No such groups or items.
    #[error("there is nothing like that to ask for")]
    Range,
    /// [`WANTS_MAX`] answers are awaited already; ask again when some have come.
    #[error("too much is asked for at once")]
    Full,
    /// After [`Assembler::finish`].
    #[error("the asking has ended")]
    Finished,
}

/// The holder sent what cannot be: it lies, or its disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Lie {
    /// A group whose bytes are not those of the root.
    #[error("group {group} of item {item} is not what its root says")]
    Group {
        /// The item's number.
        item: u32,
        /// The group's number.
        group: u64,
    },
    /// A parent that is not of the root.
    #[error("the hash tree of item {item} is not what its root says")]
    Tree {
        /// The item's number.
        item: u32,
    },
    /// An answer without an ask.
    #[error("the peer sends what was not asked for")]
    Unasked,
    /// An answer of no known kind, or a malformed one.
    #[error("the peer's answer is malformed")]
    Malformed,
}

/// Why a holder does not send what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has only a part, and this is not in it.
    NotHere,
    /// Its file is no longer what the root says, or cannot be read.
    Changed,
}

/// Takes what was proven.
pub trait VerifiedSink {
    /// A parent of an item's outboard, with its place there; it comes before the groups beneath it.
    fn pair(&mut self, item: u32, slot: u64, pair: &Pair);
    /// A group of an item with its bytes.
    fn group(&mut self, item: u32, group: u64, bytes: &[u8]);
    /// An ask came to nothing.
    fn refused(&mut self, item: u32, groups: Range<u64>, why: Refusal);
    /// The holder has these groups, numbered over the whole transfer, and others not: replaces what it said before. It is
    /// a claim, and its numbers may be beyond the end.
    fn has(&mut self, groups: RangeSet);
}

/// One holder's stream on its way in, and the asks on their way out.
#[derive(Debug, Default)]
pub struct Assembler {
    // What was asked for and has not been answered wholly; the first is under way if `answer` is `Data`.
    wanted: VecDeque<Wanted>,
    asks: Outbox,
    finished: bool,
    haves: u32,
    answer: Answer,
    // Of a group that is cut by the end of what was pushed, what has come.
    buffer: Vec<u8>,
}

#[derive(Debug, Default)]
enum Answer {
    #[default]
    None,
    // The length and body so far.
    Have(Vec<u8>),
    Data(Box<Data>),
}

impl Assembler {
    /// A stream from its beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for groups of an item.
    pub fn want(&mut self, wanted: Wanted) -> Result<(), WantError> {
        let Range { start, end } = wanted.groups;
        if start >= end || end > wanted.geometry.groups() {
            return Err(WantError::Range);
        }
        self.may_ask(1)?;
        self.ask(&Ask::Want { item: wanted.item, first: start, count: end - start });
        self.wanted.push_back(wanted);
        Ok(())
    }

    /// Asks for whole items that follow each other: shape and root of each, from number `first` on, at most
    /// [`ITEMS_PER_ASK`].
    pub fn items(&mut self, first: u32, items: &[(Geometry, Root)]) -> Result<(), WantError> {
        let count = u32::try_from(items.len()).ok().filter(|n| (1..=ITEMS_PER_ASK).contains(n));
        let count = count.ok_or(WantError::Range)?;
        let end = first.checked_add(count).ok_or(WantError::Range)?;
        self.may_ask(items.len())?;
        self.ask(&Ask::Items { first, count });
        let whole = |(item, (geometry, root)): (u32, &(Geometry, Root))| {
            let (geometry, root) = (*geometry, *root);
            Wanted { item, geometry, root, groups: 0..geometry.groups() }
        };
        self.wanted.extend((first..end).zip(items).map(whole));
        Ok(())
    }

    /// Asks for groups of a whole transfer, in as few asks as they take: all of them, or none if there is no room.
    pub fn request(&mut self, space: &Space, groups: Range<u64>) -> Result<(), WantError> {
        let asks = space.asks(groups);
        if asks.is_empty() {
            return Err(WantError::Range);
        }
        self.may_ask(asks.iter().map(|(_, spans)| spans.len()).sum())?;
        for (ask, spans) in asks {
            self.ask(&ask);
            let wanted = |Span { item, geometry, root, groups }| Wanted { item, geometry, root, groups };
            self.wanted.extend(spans.into_iter().map(wanted));
        }
        Ok(())
    }

    /// Nothing more will be asked for.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether everything asked for was answered and nothing more will be.
    pub fn is_finished(&self) -> bool {
        self.finished && self.wanted.is_empty() && matches!(self.answer, Answer::None)
    }

    /// Answers that may be awaited beside those that are: one for each file of a request.
    pub fn room(&self) -> usize {
        WANTS_MAX.saturating_sub(self.wanted.len())
    }

    /// Our own stream: the asks.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.asks
    }

    /// Takes the next bytes of the holder's stream; what lies in one piece in them is checked and given out where it
    /// stands, so large pushes cost less than small ones. After an error its stream is worth nothing any more; what was given
    /// out before is sound.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut impl VerifiedSink) -> Result<(), Lie> {
        while !bytes.is_empty() {
            match &mut self.answer {
                Answer::None => {
                    let (kind, rest) = bytes.split_first().ok_or(Lie::Malformed)?;
                    bytes = rest;
                    self.begin(*kind, out)?;
                }
                Answer::Have(begun) => {
                    if let Some(groups) = take_have(begun, &mut bytes)? {
                        self.answer = Answer::None;
                        out.has(groups);
                    }
                }
                Answer::Data(data) => {
                    if data.take(&mut self.buffer, &mut bytes, out)? {
                        self.end();
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes, at least 1, without which nothing more can be checked: whoever gathers as many and pushes them at once saves
    /// a copy.
    pub fn needs(&self) -> usize {
        match &self.answer {
            Answer::Data(data) => data.needs(&self.buffer).max(1),
            Answer::Have(begun) => have_missing(begun).max(1),
            Answer::None => 1,
        }
    }

    fn may_ask(&self, answers: usize) -> Result<(), WantError> {
        match (self.finished, self.wanted.len().saturating_add(answers) > WANTS_MAX) {
            (true, _) => Err(WantError::Finished),
            (false, true) => Err(WantError::Full),
            (false, false) => Ok(()),
        }
    }

    fn ask(&mut self, ask: &Ask) {
        let mut bytes = Vec::new();
        ask.encode(&mut bytes);
        self.asks.push(&bytes);
    }

    fn begin(&mut self, kind: u8, out: &mut impl VerifiedSink) -> Result<(), Lie> {
        match kind {
            HAVE => {
                self.haves += 1;
                if self.haves > HAVES_MAX {
                    return Err(Lie::Malformed);
                }
                self.answer = Answer::Have(Vec::new());
            }
            DATA => {
                let mut data = Box::new(Data::new(self.wanted.front().ok_or(Lie::Unasked)?));
                self.buffer.clear();
                if data.next_step(out)? {
                    self.end();
                } else {
                    self.answer = Answer::Data(data);
                }
            }
            NOT_HERE | CHANGED => {
                let wanted = self.wanted.pop_front().ok_or(Lie::Unasked)?;
                let why = if kind == CHANGED { Refusal::Changed } else { Refusal::NotHere };
                out.refused(wanted.item, wanted.groups, why);
            }
            _ => return Err(Lie::Malformed),
        }
        Ok(())
    }

    fn end(&mut self) {
        self.wanted.pop_front();
        self.answer = Answer::None;
    }
}

/// Bytes that a `have` still lacks: of its length, then of its body; 0 when it is whole.
fn have_missing(begun: &[u8]) -> usize {
    match begun.get(..2) {
        Some([high, low]) => (2 + usize::from(u16::from_be_bytes([*high, *low]))).saturating_sub(begun.len()),
        _ => 2_usize.saturating_sub(begun.len()),
    }
}

/// Adds to a `have`; returns it when it is whole.
fn take_have(begun: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<Option<RangeSet>, Lie> {
    loop {
        let missing = have_missing(begun);
        if missing == 0 {
            return decode_have(begun.get(2..).unwrap_or_default()).map(Some).ok_or(Lie::Malformed);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let (now, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        begun.extend_from_slice(now);
        *bytes = rest;
    }
}
