//! What comes of one download from all its sources: checked against the root as it comes, and written.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::downloads::DownloadError;
use super::part::Part;
use super::store::Store;
use super::writer::{Expected, Report};
use crate::transfer::exchange::{Assembler, Refusal, VerifiedSink, Wanted};
use crate::transfer::ranges::RangeSet;
use crate::transfer::restrict::{HEAD, Verdict};
use crate::transfer::tree::Pair;
use crate::wire::id::TransferId;

/// The streams of all sources, and where what they prove goes.
pub(super) struct Intake {
    expected: Arc<Expected>,
    // Nobody wants it any more.
    stopped: Arc<AtomicBool>,
    // None of one of which nothing more counts.
    sources: HashMap<TransferId, Option<Assembler>>,
    pub(super) target: Target,
    saved: Instant,
}

/// Where what is proven goes.
pub(super) enum Target {
    // Of each source that was asked for it, the manifest so far.
    Manifest(HashMap<TransferId, Vec<u8>>),
    Store(Box<Store>, Option<Arc<Part>>),
}

impl Intake {
    pub(super) fn new(expected: Arc<Expected>, stopped: Arc<AtomicBool>, target: Target) -> Self {
        Self { expected, stopped, sources: HashMap::new(), target, saved: Instant::now() }
    }

    /// The same sources, another target.
    pub(super) fn into(self, target: Target) -> Self {
        Self { target, ..self }
    }

    /// A source was asked for this.
    pub(super) fn asked(&mut self, source: TransferId, wanted: Vec<Wanted>) {
        let Some(assembler) = self.stream_of(source) else { return };
        for wanted in wanted {
            // The near end keeps below its caps.
            let _ = assembler.want(wanted);
        }
        // The near end sends the asks.
        assembler.outbox().forget(u64::MAX);
    }

    /// The next bytes of a source's stream; what they prove goes to the disk, and what the download wants to know to `tell`.
    pub(super) fn bytes(
        &mut self,
        source: TransferId,
        bytes: &[u8],
        tell: &mut dyn FnMut(Report),
    ) -> Result<(), DownloadError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (target, expected) = (&mut self.target, &*self.expected);
        let stream = self.sources.entry(source).or_insert_with(|| Some(Assembler::new()));
        let Some(assembler) = stream else { return Ok(()) };
        let mut taking = Taking { source, target, expected, tell: &mut *tell, got: 0..0, failed: None };
        let pushed = assembler.push(bytes, &mut taking);
        taking.tell_got();
        if let Some(failed) = taking.failed {
            return Err(failed);
        }
        if let Err(lie) = pushed {
            *stream = None;
            tell(Report::Lied(source, lie));
        }
        Ok(())
    }

    /// Bytes of a source's stream from which something can be checked.
    pub(super) fn needs(&mut self, source: TransferId) -> usize {
        self.stream_of(source).map_or(usize::MAX, |assembler| assembler.needs())
    }

    /// Nothing more of a source counts.
    pub(super) fn gone(&mut self, source: TransferId) {
        self.sources.insert(source, None);
        if let Target::Manifest(collected) = &mut self.target {
            collected.remove(&source);
        }
    }

    /// Whether it is time to write down what is there; the one who is told so has to.
    pub(super) fn is_save_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.saved) >= SAVE_EVERY;
        if due {
            self.saved = now;
        }
        due
    }

    /// Writes down what is there.
    pub(super) fn save(&mut self) -> Result<(), DownloadError> {
        Ok(self.target.save()?)
    }

    fn stream_of(&mut self, source: TransferId) -> Option<&mut Assembler> {
        self.sources.entry(source).or_insert_with(|| Some(Assembler::new())).as_mut()
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("expected", &self.expected).finish_non_exhaustive()
    }
}

pub(super) fn restricted(verdict: &Verdict) -> DownloadError {
    DownloadError::Restricted(verdict.detail())
}

impl Target {
    pub(super) fn finish(self, expected: &Expected) -> Result<Option<PathBuf>, DownloadError> {
        match self {
            Self::Store(store, part) if store.is_whole() => {
                if let Some(part) = part {
                    part.settle(store.stamps()?);
                }
                store.finish(&expected.name).map(Some)
            }
            _ => Err(io::Error::other("groups are missing").into()),
        }
    }

    pub(super) fn remove(self) -> io::Result<()> {
        if let Self::Store(store, _) = self { store.remove() } else { Ok(()) }
    }

    pub(super) fn save(&mut self) -> io::Result<()> {
        if let Self::Store(store, _) = self { store.save() } else { Ok(()) }
    }

    /// A full disk, say: what has come is good for another time, if it can be said at all. Of what a rule is against nothing stays.
    pub(super) fn fail(self, error: DownloadError) -> DownloadError {
        let cleared = if matches!(error, DownloadError::Restricted(_)) { self.remove() } else { self.leave() };
        if let Err(trouble) = cleared {
            tracing::warn!("what is left of a failed download cannot be put in order: {trouble}");
        }
        error
    }

    /// Stays for another time, if there is anything, or may be.
    pub(super) fn leave(self) -> io::Result<()> {
        match self {
            Self::Store(store, _) if store.is_empty() => store.remove(),
            Self::Store(mut store, _) => store.save(),
            Self::Manifest(_) => Ok(()),
        }
    }
}

/// Takes what one source has proven.
struct Taking<'t> {
    source: TransferId,
    target: &'t mut Target,
    expected: &'t Expected,
    tell: &'t mut dyn FnMut(Report),
    // Written and not told yet, numbered over all items.
    got: Range<u64>,
    failed: Option<DownloadError>,
}

impl Taking<'_> {
    fn tell_got(&mut self) {
        let got = std::mem::take(&mut self.got);
        if !got.is_empty() {
            (self.tell)(Report::Got(self.source, got));
        }
    }

    /// Looks at the beginning of a file before it is written.
    fn is_against_rules(&mut self, item: u32, bytes: &[u8]) -> bool {
        let (Target::Store(store, _), true) = (&*self.target, self.expected.rules.ask_types()) else { return false };
        if store.space().base(item).is_none() {
            return false;
        }
        let name = store.path(item).unwrap_or(self.expected.name.as_str());
        let head = bytes.get(..HEAD).unwrap_or(bytes);
        self.failed = self.expected.rules.judge_head(name, head).err().map(|verdict| restricted(&verdict));
        self.failed.is_some()
    }
}

impl VerifiedSink for Taking<'_> {
    fn pair(&mut self, item: u32, slot: u64, pair: &Pair) {
        if let (Target::Store(store, _), None) = (&mut *self.target, &self.failed)
            && store.space().base(item).is_some()
        {
            self.failed = store.write_pair(item, slot, pair).err().map(DownloadError::from);
        }
    }

    fn group(&mut self, item: u32, group: u64, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if group == 0 && self.is_against_rules(item, bytes) {
            return;
        }
        match &mut *self.target {
            Target::Manifest(collected) => collected.entry(self.source).or_default().extend_from_slice(bytes),
            // A manifest that another source brought first.
            Target::Store(store, _) if store.space().base(item).is_none() => {}
            Target::Store(store, part) => match store.write(item, group, bytes) {
                Ok(at) => {
                    if let Some(part) = part {
                        part.add(at..at + 1);
                    }
                    if self.got.end != at {
                        self.tell_got();
                        self.got = at..at;
                    }
                    self.got.end = at + 1;
                }
                Err(error) => self.failed = Some(error),
            },
        }
    }

    fn refused(&mut self, item: u32, groups: Range<u64>, why: Refusal) {
        let (base, path) = match &*self.target {
            Target::Store(store, _) => (store.space().base(item), store.path(item).map(str::to_owned)),
            Target::Manifest(_) => (Some(0), None),
        };
        let Some(base) = base else { return };
        (self.tell)(Report::Refused(self.source, base + groups.start..base + groups.end, why, path));
    }

    fn has(&mut self, groups: RangeSet) {
        (self.tell)(Report::Has(self.source, groups));
    }
}

/// How often it is written down which groups are there.
const SAVE_EVERY: Duration = Duration::from_millis(250);
