//! The holder's end: takes asks, says what each byte of its own stream is, without reading any file.

use std::collections::VecDeque;
use std::ops::Range;

use thiserror::Error;

use super::ask::{Ask, AskDecoder, BadAsk};
use super::{CHANGED, DATA, NOT_HERE, encode_have};
use crate::limits::{ASKS_WAITING, PIECES_MAX};
use crate::transfer::ranges::RangeSet;
use crate::transfer::tree::{GROUP, Geometry, Layout, PAIR, Step};

/// What a holder has.
pub trait Catalog {
    /// The item of this number; `None` where no such item can be.
    fn item(&self, item: u32) -> Option<Item<'_>>;
}

/// One item at its holder.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// Its shape.
    pub geometry: Geometry,
    /// How much of it is here.
    pub here: Here<'a>,
}

/// How much of an item a holder has.
#[derive(Debug, Clone, Copy)]
pub enum Here<'a> {
    /// All of it.
    Whole,
    /// Some groups of it.
    Part {
        /// Those that are here, numbered over the whole transfer.
        ranges: &'a RangeSet,
        /// The number that the item's first group has there.
        base: u64,
    },
    /// It is no longer what its root says, or cannot be read.
    Changed,
}

/// The asker broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// Bytes that are no ask.
    #[error(transparent)]
    Malformed(#[from] BadAsk),
    /// More than [`ASKS_WAITING`] asks at once.
    #[error("the peer asks for too much at once")]
    TooMany,
    /// An item that is not part of the transfer.
    #[error("the peer asks for an item that is not offered")]
    Item,
    /// Groups beyond the end of an item.
    #[error("the peer asks for what is beyond the end")]
    Range,
    /// Several times what there is.
    #[error("the peer asks for the same again and again")]
    Greedy,
    /// Its stream ended inside an ask, or went on after its end.
    #[error("the peer's stream ends in the wrong place")]
    End,
}

/// The holder's stream: what it will be as far as the asks reach, and what each byte below its end is.
#[derive(Debug)]
pub struct Answers {
    decoder: AskDecoder,
    asks: VecDeque<Ask>,
    // Sorted by `start`, without gaps, from the first that is not wholly acknowledged up to `end`.
    pieces: VecDeque<Piece>,
    acked: u64,
    end: u64,
    lead: u64,
    current: Option<(u32, Geometry, Layout)>,
    // The newest word about what is here that was not laid out yet.
    news: Option<Vec<u8>>,
    // File bytes that may yet be asked for.
    budget: u64,
    ended: bool,
}

#[derive(Debug)]
struct Piece {
    start: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Kind(u8),
    News(Vec<u8>),
    Pair { item: u32, slot: u64 },
    // At most a group.
    File { item: u32, offset: u64 },
}

/// A part of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Where in the stream it begins.
    pub offset: u64,
    /// Its bytes, never 0.
    pub len: usize,
    /// What they are.
    pub source: PartSource<'a>,
}

/// Where the bytes of a part come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartSource<'a> {
    /// Here they are.
    Bytes(&'a [u8]),
    /// Of a parent of an item's outboard.
    Pair {
        /// Whose.
        item: u32,
        /// Its place in the outboard, counted in parents.
        slot: u64,
        /// Bytes of the parent that come before.
        skip: usize,
    },
    /// Of an item.
    File {
        /// Which.
        item: u32,
        /// From this byte of it on.
        offset: u64,
    },
}

impl Answers {
    /// A holder of `total` bytes (for a folder, of all items) who lays out at most about `lead` bytes beyond what is
    /// acknowledged: at least the channel's window.
    pub fn new(total: u64, lead: u64) -> Self {
        Self {
            decoder: AskDecoder::default(),
            asks: VecDeque::new(),
            pieces: VecDeque::new(),
            acked: 0,
            end: 0,
            lead,
            current: None,
            news: None,
            budget: total.saturating_mul(BUDGET_TIMES).saturating_add(BUDGET_MORE),
            ended: false,
        }
    }

    /// Takes the next bytes of the asker's stream. Call [`Answers::advance`] after it.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        if self.ended && !bytes.is_empty() {
            return Err(Violation::End);
        }
        while let Some(ask) = self.decoder.next(&mut bytes)? {
            if self.asks.len() >= ASKS_WAITING {
                return Err(Violation::TooMany);
            }
            self.asks.push_back(ask);
        }
        Ok(())
    }

    /// The asker's stream has ended: nothing more is wanted.
    pub fn finish(&mut self) -> Result<(), Violation> {
        self.ended = true;
        self.decoder.is_between().then_some(()).ok_or(Violation::End)
    }

    /// Tells the asker, between two answers, which groups of the whole transfer are here: for a holder of a part, at first
    /// and when it has got many more. Replaces what was not yet told.
    pub fn announce(&mut self, ranges: &RangeSet) {
        self.news = Some(encode_have(ranges));
    }

    /// The asker has every byte below `acked`.
    pub fn forget(&mut self, acked: u64) {
        self.acked = self.acked.max(acked.min(self.end));
        while self.pieces.get(1).map_or(self.end, |next| next.start) <= self.acked {
            if self.pieces.pop_front().is_none() {
                break;
            }
        }
    }

    /// To answer so far, so many bytes more were read than are sent: they count as if they had been asked for.
    pub fn charge(&mut self, bytes: u64) -> Result<(), Violation> {
        self.budget = self.budget.checked_sub(bytes).ok_or(Violation::Greedy)?;
        Ok(())
    }

    /// Lays out more of the stream, as far as asks and lead go; returns its end so far.
    pub fn advance(&mut self, catalog: &impl Catalog) -> Result<u64, Violation> {
        while self.end - self.acked < self.lead && self.pieces.len() < PIECES_MAX {
            let step = self.current.as_mut().map(|(item, geometry, layout)| (*item, *geometry, layout.next()));
            match step {
                Some((item, geometry, Some(step))) => self.lay(item, &geometry, &step),
                Some((.., None)) => self.current = None,
                None => {
                    if let Some(news) = self.news.take() {
                        self.place(news.len() as u64, What::News(news));
                    } else if !self.next_answer(catalog)? {
                        break;
                    }
                }
            }
        }
        Ok(self.end)
    }

    /// Whether the stream's end is final: the asker wants nothing more and has been answered.
    pub fn is_finished(&self) -> bool {
        self.ended && self.asks.is_empty() && self.current.is_none() && self.news.is_none()
    }

    /// Asks that wait for their answer.
    pub fn waiting(&self) -> usize {
        self.asks.len()
    }

    /// Pieces that are laid out and not forgotten: at most [`PIECES_MAX`].
    pub fn laid_out(&self) -> usize {
        self.pieces.len()
    }

    /// What the stream's bytes `range` are, in order; ends early where the range leaves what is laid out and not
    /// forgotten.
    pub fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part<'_>> {
        let from = self.pieces.partition_point(|piece| piece.start <= range.start).saturating_sub(1);
        let mut at = range.start;
        (from..self.pieces.len()).map_while(move |index| {
            let piece = self.pieces.get(index)?;
            let end = self.pieces.get(index + 1).map_or(self.end, |next| next.start).min(range.end);
            let skip = usize::try_from(at.checked_sub(piece.start)?).ok()?;
            let len = usize::try_from(end.checked_sub(at)?).ok().filter(|len| *len > 0)?;
            let source = match &piece.what {
                What::Kind(kind) => PartSource::Bytes(std::slice::from_ref(KINDS.get(usize::from(*kind))?)),
                What::News(bytes) => PartSource::Bytes(bytes.get(skip..skip.checked_add(len)?)?),
                What::Pair { item, slot } => PartSource::Pair { item: *item, slot: *slot, skip },
                What::File { item, offset } => PartSource::File { item: *item, offset: offset + skip as u64 },
            };
            let part = Part { offset: at, len, source };
            at = end;
            Some(part)
        })
    }

    /// Begins the answer to the next ask, or to the next item of it; false when none waits.
    fn next_answer(&mut self, catalog: &impl Catalog) -> Result<bool, Violation> {
        let (item, groups) = match self.asks.front_mut() {
            None => return Ok(false),
            Some(Ask::Want { item, first, count }) => (*item, Some(Ask::groups(*first, *count)?)),
            Some(Ask::Items { first, count }) => {
                let item = *first;
                *first = first.saturating_add(1);
                *count = count.saturating_sub(1);
                (item, None)
            }
        };
        if !matches!(self.asks.front(), Some(Ask::Items { count: 1.., .. })) {
            self.asks.pop_front();
        }
        let Item { geometry, here } = catalog.item(item).ok_or(Violation::Item)?;
        let groups = groups.unwrap_or(0..geometry.groups());
        if groups.end > geometry.groups() {
            return Err(Violation::Range);
        }
        let kind = match here {
            Here::Whole => DATA,
            Here::Part { ranges, base } => {
                let there = base.saturating_add(groups.start)..base.saturating_add(groups.end);
                if ranges.contains(&there) { DATA } else { NOT_HERE }
            }
            Here::Changed => CHANGED,
        };
        self.place(1, What::Kind(kind));
        if kind == DATA {
            let bytes = geometry.bytes(&groups);
            self.charge(bytes.end - bytes.start)?;
            self.current = Some((item, geometry, geometry.layout(groups)));
        }
        Ok(true)
    }

    fn lay(&mut self, item: u32, geometry: &Geometry, step: &Step) {
        match step {
            Step::Parent { slot, .. } => self.place(PAIR as u64, What::Pair { item, slot: *slot }),
            Step::Group { group, len } => {
                let offset = geometry.bytes(&(*group..group + 1)).start;
                debug_assert!(*len as u64 <= GROUP);
                if *len > 0 {
                    self.place(*len as u64, What::File { item, offset });
                }
            }
        }
    }

    fn place(&mut self, len: u64, what: What) {
        self.pieces.push_back(Piece { start: self.end, what });
        self.end += len;
    }
}

/// So that one byte can be lent.
const KINDS: [u8; 4] = [0, 1, 2, 3];
/// What an asker may ask for is so many times what there is: repeats after failures, and when several holders race to the
/// end, are well below.
const BUDGET_TIMES: u64 = 4;
/// And so much more, bytes.
const BUDGET_MORE: u64 = 64 << 20;
