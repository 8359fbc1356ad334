//! The writing thread's side of a download: checks what comes against the root, and writes it.

use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::downloads::{DownloadError, Downloads, Workplace};
use super::part::Part;
use super::rules::judge_manifest;
use super::store::Store;
use super::writer::{Expected, Report, Work};
use crate::limits::MANIFEST_MAX;
use crate::transfer::exchange::{Assembler, Refusal, VerifiedSink};
use crate::transfer::manifest::Manifest;
use crate::transfer::ranges::RangeSet;
use crate::transfer::restrict::{HEAD, Verdict};
use crate::transfer::space::Space;
use crate::transfer::tree::{Geometry, Pair};
use crate::wire::id::TransferId;
use crate::wire::payload::FileKind;

/// Where the thread's work comes from and what it tells goes.
pub(super) struct Desk<'t> {
    pub(super) expected: Expected,
    pub(super) queue: Receiver<Work>,
    /// Buffers to be used again.
    pub(super) used: Sender<Vec<u8>>,
    /// Bytes that wait, counted down.
    pub(super) written: Arc<AtomicU64>,
    pub(super) stopped: Arc<AtomicBool>,
    pub(super) tell: &'t dyn Fn(Report),
}

/// The streams of all sources; none of one of which nothing more counts.
type Sources = HashMap<TransferId, Option<Assembler>>;

/// Where what is proven goes.
enum Target {
    // Of each source that was asked for it, the manifest so far.
    Manifest(HashMap<TransferId, Vec<u8>>),
    Store(Box<Store>, Option<Arc<Part>>),
}

impl Desk<'_> {
    /// `None` when the near end is gone without a finish.
    pub(super) fn work(&self, downloads: &Downloads) -> Result<Option<PathBuf>, DownloadError> {
        let place = downloads.anew()?.workplace(&self.expected.root, self.expected.tag)?;
        let mut sources = Sources::new();
        let Some(mut store) = self.open(place, &mut sources)? else { return Ok(None) };
        let mut last = 0;
        store.resume(&mut |read, total| {
            if read - last >= TELL_EVERY || read == total {
                last = read;
                (self.tell)(Report::Checking(read, total));
            }
            !self.stopped.load(Ordering::Relaxed)
        })?;
        if let Err(error) = self.check_heads(&mut store, true) {
            store.remove()?;
            return Err(error);
        }
        let part = self.expected.room.and_then(|room| store.part(room));
        let (space, have) = (Box::new(store.space().clone()), store.have().clone());
        let entries = store.entries();
        (self.tell)(Report::Opened { space, have, entries, part: part.clone() });
        self.write(Target::Store(Box::new(store), part), &mut sources)
    }

    fn open(&self, place: Workplace, sources: &mut Sources) -> Result<Option<Store>, DownloadError> {
        let Expected { name, kind, size, root, .. } = &self.expected;
        if *kind == FileKind::File {
            let geometry = Geometry::new(*size).map_err(io::Error::other)?;
            return Store::file(place, name, Space::file(geometry, *root), *root).map(Some);
        }
        let kept = self.kept_manifest(&place);
        let fetched = match kept {
            Some(kept) => Some(kept),
            None => self.fetch_manifest(sources)?,
        };
        match fetched {
            Some((manifest, _)) if !self.is_as_offered(&manifest) => {
                if self.kept_manifest(&place).is_none() {
                    place.remove()?;
                }
                Err(DownloadError::Folder("it is not as much as was offered".into()))
            }
            Some((manifest, bytes)) => {
                if let Err(verdict) = judge_manifest(name.as_str(), &manifest, &self.expected.rules) {
                    place.remove()?;
                    return Err(restricted(&verdict));
                }
                Store::folder(place, name, manifest, bytes, *root).map(Some)
            }
            None => {
                place.remove()?;
                Ok(None)
            }
        }
    }

    /// Whether a folder holds what its offer said.
    fn is_as_offered(&self, manifest: &Manifest) -> bool {
        self.expected.offered.is_none_or(|offered| {
            let size = manifest.entries().iter().map(|entry| entry.size).fold(0, u64::saturating_add);
            size == offered.size && manifest.entries().len() as u64 == offered.entries
        })
    }

    /// The manifest that is left from before.
    fn kept_manifest(&self, place: &Workplace) -> Option<(Manifest, Vec<u8>)> {
        let mut bytes = Vec::new();
        place.dir.open("manifest").ok()?.take(MANIFEST_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
        if blake3::hash(&bytes) != self.expected.root {
            return None;
        }
        Some((Manifest::decode(&bytes).ok()?, bytes))
    }

    /// `None` when the near end is gone first.
    fn fetch_manifest(&self, sources: &mut Sources) -> Result<Option<(Manifest, Vec<u8>)>, DownloadError> {
        if self.expected.size > MANIFEST_MAX as u64 {
            return Err(DownloadError::Folder("its list of files is too long".into()));
        }
        (self.tell)(Report::NeedsManifest);
        let mut target = Target::Manifest(HashMap::new());
        while let Ok(work) = self.queue.recv() {
            if matches!(work, Work::Finish | Work::Remove) {
                return Ok(None);
            }
            self.take(work, sources, &mut target)?;
            let Target::Manifest(collected) = &mut target else { continue };
            let whole = collected.values_mut().find(|bytes| bytes.len() as u64 >= self.expected.size);
            if let Some(bytes) = whole {
                let bytes = std::mem::take(bytes);
                // It is what the root says: the fault is whose root it is.
                let manifest = Manifest::decode(&bytes).map_err(|error| DownloadError::Folder(error.to_string()))?;
                return Ok(Some((manifest, bytes)));
            }
        }
        Ok(None)
    }

    fn write(&self, mut target: Target, sources: &mut Sources) -> Result<Option<PathBuf>, DownloadError> {
        let mut saved = Instant::now();
        while let Ok(work) = self.queue.recv() {
            match work {
                Work::Finish => return self.finish(target),
                Work::Remove => {
                    target.remove()?;
                    return Ok(None);
                }
                work => {
                    if let Err(error) = self.take(work, sources, &mut target) {
                        return Err(target.fail(error));
                    }
                }
            }
            if saved.elapsed() >= SAVE_EVERY {
                target.save()?;
                saved = Instant::now();
            }
        }
        target.leave()?;
        Ok(None)
    }

    /// Everything is there: it gets its name, if no rule is against any of it.
    fn finish(&self, mut target: Target) -> Result<Option<PathBuf>, DownloadError> {
        if let Target::Store(store, _) = &mut target
            && let Err(error) = self.check_heads(store, false)
        {
            return Err(target.fail(error));
        }
        target.finish(&self.expected)
    }

    /// Holds the first bytes of what stands on the disk against the rules. `known`: of a single file, if its beginning is there yet.
    fn check_heads(&self, store: &mut Store, known: bool) -> Result<(), DownloadError> {
        let rules = &self.expected.rules;
        if !rules.ask_types() || known && (self.expected.kind == FileKind::Folder || !store.have().contains(&(0..1))) {
            return Ok(());
        }
        for item in store.items() {
            let head = store.head(item)?;
            let name = store.path(item).unwrap_or(self.expected.name.as_str());
            rules.judge_head(name, &head).map_err(|verdict| restricted(&verdict))?;
        }
        Ok(())
    }

    /// Takes what concerns a source.
    fn take(&self, work: Work, sources: &mut Sources, target: &mut Target) -> Result<(), DownloadError> {
        match work {
            Work::Asked(source, wanted) => {
                let Some(assembler) = stream_of(sources, source) else { return Ok(()) };
                for wanted in wanted {
                    // The near end keeps below its caps.
                    let _ = assembler.want(wanted);
                }
                // The near end sends the asks.
                assembler.outbox().forget(u64::MAX);
                Ok(())
            }
            Work::Bytes(source, mut bytes) => {
                let given_up = self.stopped.load(Ordering::Relaxed);
                let result = if given_up { Ok(()) } else { self.feed(source, sources, target, &bytes) };
                self.written.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
                bytes.clear();
                let _ = self.used.send(bytes);
                result
            }
            Work::Gone(source) => {
                sources.insert(source, None);
                if let Target::Manifest(collected) = target {
                    collected.remove(&source);
                }
                Ok(())
            }
            Work::Finish | Work::Remove => Ok(()),
        }
    }

    fn feed(
        &self,
        source: TransferId,
        sources: &mut Sources,
        target: &mut Target,
        bytes: &[u8],
    ) -> Result<(), DownloadError> {
        let Some(assembler) = stream_of(sources, source) else { return Ok(()) };
        let mut taking = Taking { source, target, expected: &self.expected, tell: self.tell, got: 0..0, failed: None };
        let pushed = assembler.push(bytes, &mut taking);
        taking.tell_got();
        if let Some(failed) = taking.failed {
            return Err(failed);
        }
        if let Err(lie) = pushed {
            sources.insert(source, None);
            (self.tell)(Report::Lied(source, lie));
        }
        Ok(())
    }
}

fn restricted(verdict: &Verdict) -> DownloadError {
    DownloadError::Restricted(verdict.detail())
}

fn stream_of(sources: &mut Sources, source: TransferId) -> Option<&mut Assembler> {
    sources.entry(source).or_insert_with(|| Some(Assembler::new())).as_mut()
}

impl Target {
    fn finish(self, expected: &Expected) -> Result<Option<PathBuf>, DownloadError> {
        match self {
            Self::Store(store, _) if store.is_whole() => store.finish(&expected.name).map(Some),
            _ => Err(io::Error::other("groups are missing").into()),
        }
    }

    fn remove(self) -> io::Result<()> {
        if let Self::Store(store, _) = self { store.remove() } else { Ok(()) }
    }

    fn save(&mut self) -> io::Result<()> {
        if let Self::Store(store, _) = self { store.save() } else { Ok(()) }
    }

    /// A full disk, say: what has come is good for another time, if it can be said at all. Of what a rule is against nothing stays.
    fn fail(self, error: DownloadError) -> DownloadError {
        let cleared = if matches!(error, DownloadError::Restricted(_)) { self.remove() } else { self.leave() };
        if let Err(trouble) = cleared {
            tracing::warn!("what is left of a failed download cannot be put in order: {trouble}");
        }
        error
    }

    /// Stays for another time, if there is anything.
    fn leave(self) -> io::Result<()> {
        match self {
            Self::Store(store, _) if store.have().is_empty() => store.remove(),
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
    tell: &'t dyn Fn(Report),
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
                Err(error) => self.failed = Some(error.into()),
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

/// Bytes between two words about a check.
const TELL_EVERY: u64 = 64 << 20;
/// How often it is written down which groups are there.
const SAVE_EVERY: Duration = Duration::from_millis(250);
