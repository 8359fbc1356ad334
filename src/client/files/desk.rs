//! The writing thread's side of a download: opens what is left from before, does what it is told, and gives the file its name.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use super::downloads::{DownloadError, Downloads, Shape, Workplace};
use super::intake::{Intake, Target, restricted};
use super::rules::judge_manifest;
use super::store::Store;
use super::writer::{Expected, Report, Table, Work};
use crate::limits::MANIFEST_MAX;
use crate::transfer::manifest::Manifest;
use crate::transfer::space::Space;
use crate::transfer::tree::Geometry;
use crate::wire::payload::FileKind;

/// Where the thread's work comes from and what it tells goes.
pub(super) struct Desk<'t> {
    pub(super) expected: Arc<Expected>,
    pub(super) queue: Receiver<Work>,
    /// Buffers to be used again.
    pub(super) used: Sender<Vec<u8>>,
    /// Bytes that wait, counted down.
    pub(super) written: Arc<AtomicU64>,
    /// Works that wait, counted down.
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) stopped: Arc<AtomicBool>,
    /// Where the near end finds what it may do itself.
    pub(super) table: Arc<Table>,
    pub(super) tell: &'t dyn Fn(Report),
}

impl Desk<'_> {
    /// `None` when the near end is gone without a finish.
    pub(super) fn work(&self, downloads: &Downloads) -> Result<Option<PathBuf>, DownloadError> {
        let Expected { root, kind, size, tag, .. } = &*self.expected;
        let shape = if *kind == FileKind::File { Shape::File(*size) } else { Shape::Folder };
        let place = downloads.anew()?.workplace(root, shape, *tag)?;
        let (expected, stopped) = (Arc::clone(&self.expected), Arc::clone(&self.stopped));
        let mut intake = Intake::new(expected, stopped, Target::Manifest(HashMap::new()));
        let Some(mut store) = self.open(place, &mut intake)? else { return Ok(None) };
        let mut last = 0;
        store.resume(&mut |read, total| {
            if read - last >= TELL_EVERY || read == total {
                last = read;
                (self.tell)(Report::Checking(read, total));
            }
            !self.stopped.load(Ordering::Relaxed)
        })?;
        store.resume_size()?;
        if let Err(error) = self.check_heads(&mut store, true) {
            return Err(Target::Store(Box::new(store), None).fail(error));
        }
        let part = self.expected.room.and_then(|room| store.part(room));
        let (space, have) = (Arc::clone(store.space()), store.have().clone());
        let entries = store.entries();
        (self.tell)(Report::Opened { space, have, entries, part: part.clone() });
        self.write(intake.into(Target::Store(Box::new(store), part)))
    }

    fn open(&self, place: Workplace, intake: &mut Intake) -> Result<Option<Store>, DownloadError> {
        let Expected { name, kind, size, root, .. } = &*self.expected;
        if *kind == FileKind::File {
            let geometry = Geometry::new(*size).map_err(io::Error::other)?;
            return Store::file(place, name, Space::file(geometry, *root), *root).map(Some);
        }
        let kept = self.kept_manifest(&place);
        let fetched = match kept {
            Some(kept) => Ok(kept),
            None => self.fetch_manifest(intake)?,
        };
        match fetched {
            Ok((manifest, _)) if !self.is_as_offered(&manifest) => {
                if place.is_fresh() {
                    place.remove()?;
                }
                Err(DownloadError::Folder("it is not as much as was offered".into()))
            }
            Ok((manifest, bytes)) => {
                (self.tell)(Report::ListKnown(bytes.len() as u64));
                if let Err(verdict) = judge_manifest(name.as_str(), &manifest, &self.expected.rules) {
                    place.remove()?;
                    return Err(restricted(&verdict));
                }
                Store::folder(place, name, manifest, bytes, *root).map(Some)
            }
            Err(ended) => {
                // The list may be lost, or not readable now, beside files that are there.
                if ended == Ended::Unwanted || place.is_fresh() {
                    place.remove()?;
                }
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

    /// An inner error when nobody waits for it any more.
    fn fetch_manifest(&self, intake: &mut Intake) -> Result<Result<(Manifest, Vec<u8>), Ended>, DownloadError> {
        if self.expected.size > MANIFEST_MAX as u64 {
            return Err(DownloadError::Folder("its list of files is too long".into()));
        }
        (self.tell)(Report::NeedsManifest);
        while let Ok(work) = self.queue.recv() {
            if matches!(work, Work::Finish | Work::Remove) {
                return Ok(Err(Ended::Unwanted));
            }
            self.carry_out(work, intake)?;
            let Target::Manifest(collected) = &mut intake.target else { continue };
            let whole = collected.values_mut().find(|bytes| bytes.len() as u64 >= self.expected.size);
            if let Some(bytes) = whole {
                let bytes = std::mem::take(bytes);
                // It is what the root says: the fault is whose root it is.
                let manifest = Manifest::decode(&bytes).map_err(|error| DownloadError::Folder(error.to_string()))?;
                return Ok(Ok((manifest, bytes)));
            }
        }
        Ok(Err(Ended::Left))
    }

    fn write(&self, intake: Intake) -> Result<Option<PathBuf>, DownloadError> {
        *self.at_table() = Some(intake);
        let end = loop {
            let Ok(work) = self.queue.recv() else { break None };
            if matches!(work, Work::Finish | Work::Remove) {
                break Some(work);
            }
            // Under one lock: the near end finds no target after a failure.
            let mut table = self.at_table();
            let result = table.as_mut().map_or(Ok(()), |intake| self.carry_out(work, intake));
            if let Err(error) = result {
                let intake = table.take();
                drop(table);
                return Err(match intake {
                    Some(intake) => intake.target.fail(error),
                    None => error,
                });
            }
        };
        let Some(target) = self.clear_table() else { return Ok(None) };
        match end {
            Some(Work::Finish) => self.finish(target),
            Some(_) => target.remove().map(|()| None).map_err(DownloadError::from),
            None => target.leave().map(|()| None).map_err(DownloadError::from),
        }
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

    fn carry_out(&self, work: Work, intake: &mut Intake) -> Result<(), DownloadError> {
        let result = match work {
            Work::Asked(source, wanted) => {
                intake.asked(source, wanted);
                Ok(())
            }
            Work::Bytes(source, mut bytes) => {
                let result = intake.bytes(source, &bytes, &mut |report| (self.tell)(report));
                self.written.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
                bytes.clear();
                let _ = self.used.send(bytes);
                result
            }
            Work::Gone(source) => {
                intake.gone(source);
                Ok(())
            }
            Work::Save => intake.save(),
            Work::Tell(report) => {
                (self.tell)(report);
                Ok(())
            }
            Work::Failed(error) => Err(error),
            Work::Finish | Work::Remove => Ok(()),
        };
        let result = result.and_then(|()| if intake.is_save_due(Instant::now()) { intake.save() } else { Ok(()) });
        self.queued.fetch_sub(1, Ordering::Release);
        result
    }

    fn at_table(&self) -> MutexGuard<'_, Option<Intake>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear_table(&self) -> Option<Target> {
        self.at_table().take().map(|intake| intake.target)
    }
}

/// Why nobody waits any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It stays for another time.
    Left,
    /// It is to be removed.
    Unwanted,
}

/// Bytes between two words about a check.
const TELL_EVERY: u64 = 64 << 20;
