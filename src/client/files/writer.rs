//! A thread that opens, checks, writes and names one download, so that a slow disk holds up neither the socket nor other
//! transfers.

use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::downloads::{DownloadError, Downloads, Workplace};
use super::part::Part;
use super::store::Store;
use crate::limits::MANIFEST_MAX;
use crate::transfer::manifest::Manifest;
use crate::transfer::name::SafeName;
use crate::transfer::ranges::RangeSet;
use crate::transfer::space::Space;
use crate::transfer::tree::{Geometry, Pair, Root};
use crate::wire::payload::FileKind;

/// The near end. When it is dropped the thread has ended; what is not whole stays for another time.
#[derive(Debug)]
pub(super) struct Writer {
    // Gone once everything was handed over.
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    // Bytes handed over and not written yet. The channel's window keeps it below CONGESTED and one window.
    waiting: Arc<AtomicU64>,
    // Buffers that were written and can be used again.
    spare: Receiver<Vec<u8>>,
    // Nobody waits for the check of what was left from before, or for the rest of the queue.
    stop: Arc<AtomicBool>,
}

/// What is fetched.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) name: SafeName,
    pub(super) kind: FileKind,
    /// Bytes of the file, or of the manifest.
    pub(super) size: u64,
    pub(super) root: Root,
    /// Random.
    pub(super) tag: [u8; 8],
}

#[derive(Debug)]
enum Work {
    Manifest(Box<Manifest>, Vec<u8>),
    Groups { item: u32, groups: Range<u64>, bytes: Vec<u8>, pairs: Vec<(u64, Pair)> },
    Finish,
    Remove,
}

/// What the thread tells.
#[derive(Debug)]
pub(super) enum Report {
    /// The folder's manifest has to be fetched first.
    NeedsManifest,
    /// What was left from before is being checked: bytes so far and in all.
    Checking(u64, u64),
    /// Everything but what is here already can be written from now on.
    Opened {
        /// The numbering of groups.
        space: Box<Space>,
        /// Those that are there.
        have: RangeSet,
        /// What others may have of it.
        part: Option<Arc<Part>>,
    },
    /// It stands whole under its name.
    Done(PathBuf),
    /// It does not.
    Failed(DownloadError),
}

impl Writer {
    /// Starts the thread. `tell` is called on it.
    pub(super) fn start(
        downloads: Downloads,
        expected: Expected,
        tell: impl Fn(Report) + Send + 'static,
    ) -> io::Result<Self> {
        let (work, queue) = channel();
        let (used, spare) = channel();
        let (waiting, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (written, stopped) = (Arc::clone(&waiting), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("download".into()).spawn(move || {
            let desk = Desk { queue, used, written, stopped, tell: &tell };
            match desk.work(&downloads, &expected) {
                Ok(Some(path)) => tell(Report::Done(path)),
                Ok(None) => {}
                Err(error) => tell(Report::Failed(error)),
            }
        })?;
        Ok(Self { work: Some(work), thread: Some(thread), waiting, spare, stop })
    }

    /// Whether the disk is behind: then the sources should pause.
    pub(super) fn is_congested(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > CONGESTED
    }

    /// Whether it has caught up again.
    pub(super) fn is_relieved(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < CONGESTED / 2
    }

    /// What the folder holds.
    pub(super) fn manifest(&self, manifest: Manifest, bytes: Vec<u8>) {
        self.hand_over(Work::Manifest(Box::new(manifest), bytes));
    }

    /// Groups that were checked, and the parents that came with them. Their bytes are taken, and a buffer to be used again is
    /// left in their place.
    pub(super) fn write(&self, item: u32, groups: Range<u64>, bytes: &mut Vec<u8>, pairs: &mut Vec<(u64, Pair)>) {
        let bytes = std::mem::replace(bytes, self.spare.try_recv().unwrap_or_default());
        self.waiting.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.hand_over(Work::Groups { item, groups, bytes, pairs: std::mem::take(pairs) });
    }

    /// Everything was handed over: keep it and give it its name.
    pub(super) fn finish(&mut self) {
        self.hand_over(Work::Finish);
        self.work = None;
    }

    /// Everything was handed over; how it ends will be told.
    pub(super) fn is_finishing(&self) -> bool {
        self.work.is_none()
    }

    /// Nobody wants it any more: removes what there is.
    pub(super) fn remove(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.hand_over(Work::Remove);
        self.work = None;
    }

    fn hand_over(&self, work: Work) {
        // A thread that is gone has told why.
        let _ = self.work.as_ref().map(|queue| queue.send(work));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.work.take().is_some() {
            self.stop.store(true, Ordering::Relaxed);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Desk<'t> {
    queue: Receiver<Work>,
    used: Sender<Vec<u8>>,
    written: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    tell: &'t dyn Fn(Report),
}

impl Desk<'_> {
    /// `None` when the near end is gone without a finish.
    fn work(&self, downloads: &Downloads, expected: &Expected) -> Result<Option<PathBuf>, DownloadError> {
        let place = downloads.workplace(&expected.root, expected.tag)?;
        let Some(mut store) = self.open(place, expected)? else { return Ok(None) };
        let mut last = 0;
        store.resume(&mut |read, total| {
            if read - last >= TELL_EVERY || read == total {
                last = read;
                (self.tell)(Report::Checking(read, total));
            }
            !self.stopped.load(Ordering::Relaxed)
        })?;
        let part = store.part();
        let (space, have) = (Box::new(store.space().clone()), store.have().clone());
        (self.tell)(Report::Opened { space, have, part: part.clone() });
        self.write(store, expected, part.as_deref())
    }

    fn open(&self, place: Workplace, expected: &Expected) -> Result<Option<Store>, DownloadError> {
        if expected.kind == FileKind::File {
            let geometry = Geometry::new(expected.size).map_err(io::Error::other)?;
            let space = Space::file(geometry, expected.root);
            return Store::file(place, space, expected.root).map(Some);
        }
        let (manifest, bytes) = match kept_manifest(&place, &expected.root) {
            Some(kept) => kept,
            None => {
                (self.tell)(Report::NeedsManifest);
                match self.queue.recv() {
                    Ok(Work::Manifest(manifest, bytes)) => (*manifest, bytes),
                    _ => {
                        place.remove()?;
                        return Ok(None);
                    }
                }
            }
        };
        Store::folder(place, &manifest, &bytes, expected.root).map(Some)
    }

    fn write(
        &self,
        mut store: Store,
        expected: &Expected,
        part: Option<&Part>,
    ) -> Result<Option<PathBuf>, DownloadError> {
        while let Ok(work) = self.queue.recv() {
            match work {
                Work::Groups { item, groups, mut bytes, pairs } => {
                    let groups = store.write(item, groups, &bytes, &pairs)?;
                    if let Some(part) = part {
                        part.add(groups);
                    }
                    self.written.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
                    bytes.clear();
                    let _ = self.used.send(bytes);
                }
                Work::Finish if store.is_whole() => return store.finish(&expected.name).map(Some),
                Work::Finish => return Err(io::Error::other("groups are missing").into()),
                Work::Remove => {
                    store.remove()?;
                    return Ok(None);
                }
                // There is one already.
                Work::Manifest(..) => {}
            }
        }
        if store.have().is_empty() {
            store.remove()?;
        } else {
            store.save()?;
        }
        Ok(None)
    }
}

/// The manifest that is left from before.
fn kept_manifest(place: &Workplace, root: &Root) -> Option<(Manifest, Vec<u8>)> {
    let mut bytes = Vec::new();
    place.dir.open("manifest").ok()?.take(MANIFEST_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
    if blake3::hash(&bytes) != *root {
        return None;
    }
    Some((Manifest::decode(&bytes).ok()?, bytes))
}

/// Bytes waiting for the disk beyond which the sources are asked to pause.
const CONGESTED: u64 = 8 << 20;
/// Bytes between two words about a check.
const TELL_EVERY: u64 = 64 << 20;
