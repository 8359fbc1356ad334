//! A thread that opens, checks, writes and names one download, so that neither a slow disk nor hashing holds up the socket
//! or other transfers. Where [`InPlace`] finds that to be faster, whoever receives checks and writes in place instead, and a
//! disk that turns slow then holds it up once before the thread has it again.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use super::desk::Desk;
use super::downloads::{DownloadError, Downloads};
use super::in_place::InPlace;
use super::intake::Intake;
use super::part::Part;
use crate::client::effects::Offered;
use crate::transfer::exchange::{Lie, Refusal, Wanted};
use crate::transfer::name::SafeName;
use crate::transfer::ranges::RangeSet;
use crate::transfer::restrict::Rules;
use crate::transfer::space::Space;
use crate::transfer::tree::Root;
use crate::wire::id::{RoomId, TransferId};
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
    // Nobody waits for the check of what was left from before.
    stop: Arc<AtomicBool>,
    // Works handed over and not done yet.
    queued: Arc<AtomicUsize>,
    table: Arc<Table>,
    in_place: InPlace,
}

/// What takes the bytes, while there is a file to write to: for the thread, and for the near end while the thread has nothing
/// to do.
pub(super) type Table = Mutex<Option<Intake>>;

/// What is fetched.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) name: SafeName,
    pub(super) kind: FileKind,
    /// Bytes of the file, or of the manifest.
    pub(super) size: u64,
    pub(super) root: Root,
    /// What was said of it when it was offered.
    pub(super) offered: Option<Offered>,
    /// Whose members may have it from us while it comes.
    pub(super) room: Option<RoomId>,
    /// What it is held against.
    pub(super) rules: Rules,
    /// Random.
    pub(super) tag: [u8; 8],
}

#[derive(Debug)]
pub(super) enum Work {
    /// A source was asked for this.
    Asked(TransferId, Vec<Wanted>),
    /// The next bytes of its stream.
    Bytes(TransferId, Vec<u8>),
    /// Nothing more of it counts.
    Gone(TransferId),
    /// It is time to write down what is there.
    Save,
    /// The near end has found this.
    Tell(Report),
    /// The near end has done some of it, and that went wrong.
    Failed(DownloadError),
    /// All is there.
    Finish,
    /// Nobody wants it any more.
    Remove,
}

/// What the thread tells.
#[derive(Debug)]
pub(super) enum Report {
    /// The folder's manifest has to be fetched first: item 0.
    NeedsManifest,
    /// What was left from before is being checked: bytes so far and in all.
    Checking(u64, u64),
    /// The folder's manifest is here, and has so many bytes.
    ListKnown(u64),
    /// Everything but what is here already can be fetched from now on.
    Opened {
        /// The numbering of groups.
        space: Arc<Space>,
        /// Those that are there.
        have: RangeSet,
        /// Files in it.
        entries: u64,
        /// What others may have of it.
        part: Option<Arc<Part>>,
    },
    /// These groups came from this source, were checked and written.
    Got(TransferId, Range<u64>),
    /// An ask came to nothing; of a folder, the path of what was asked for.
    Refused(TransferId, Range<u64>, Refusal, Option<String>),
    /// The source has these groups.
    Has(TransferId, RangeSet),
    /// The source sent what cannot be.
    Lied(TransferId, Lie),
    /// It was left for another time, or removed.
    Ended,
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
        let (queued, table) = (Arc::new(AtomicUsize::new(0)), Arc::new(Table::default()));
        let (done, shared) = (Arc::clone(&queued), Arc::clone(&table));
        let thread = std::thread::Builder::new().name("download".into()).spawn(move || {
            let (expected, tell) = (Arc::new(expected), &tell);
            let desk = Desk { expected, queue, used, written, queued: done, stopped, table: shared, tell };
            match desk.work(&downloads) {
                Ok(Some(path)) => tell(Report::Done(path)),
                Ok(None) => tell(Report::Ended),
                Err(error) => tell(Report::Failed(downloads.named(error))),
            }
        })?;
        let in_place = InPlace::new();
        Ok(Self { work: Some(work), thread: Some(thread), waiting, spare, stop, queued, table, in_place })
    }

    /// Whether it is the only one that whoever receives has to do with.
    pub(super) fn set_alone(&self, alone: bool) {
        self.in_place.set_alone(alone);
    }

    /// The groups that were checked and written in place, and the source of each, since this was asked.
    pub(super) fn found(&self) -> Vec<(TransferId, Range<u64>)> {
        self.in_place.found()
    }

    /// Whether the disk is behind: then the sources should pause.
    pub(super) fn is_congested(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > CONGESTED
    }

    /// Whether it has caught up again.
    pub(super) fn is_relieved(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < CONGESTED / 2
    }

    /// Whether it waits for bytes.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// A source was asked for this.
    pub(super) fn asked(&self, source: TransferId, wanted: Vec<Wanted>) {
        let mut wanted = Some(wanted);
        let done = self.do_in_place(|intake| {
            intake.asked(source, wanted.take().unwrap_or_default());
            Ok(())
        });
        if done.is_none() {
            self.hand_over(Work::Asked(source, wanted.unwrap_or_default()));
        }
    }

    /// The next bytes of a source's stream; an empty buffer is left in their place. Returns how many to gather before the next
    /// call: [`CHUNK`], or where fewer complete what is begun, as many as that takes.
    pub(super) fn take(&self, source: TransferId, bytes: &mut Vec<u8>) -> usize {
        let mut others = Vec::new();
        let done = self.do_in_place(|intake| {
            intake.bytes(source, bytes, &mut |report| match report {
                Report::Got(source, groups) => self.in_place.find(source, groups),
                other => others.push(other),
            })?;
            Ok(intake.needs(source))
        });
        if let Some(result) = done {
            bytes.clear();
            // Through the thread, so that none overtakes what it has told.
            others.into_iter().for_each(|report| self.hand_over(Work::Tell(report)));
            return result.unwrap_or(CHUNK).min(CHUNK);
        }
        let spare = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK_ROOM));
        let bytes = std::mem::replace(bytes, spare);
        self.waiting.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.hand_over(Work::Bytes(source, bytes));
        CHUNK
    }

    /// Nothing more of a source counts.
    pub(super) fn gone(&self, source: TransferId) {
        self.hand_over(Work::Gone(source));
    }

    /// All is there: keep it and give it its name.
    pub(super) fn finish(&mut self) {
        self.hand_over(Work::Finish);
        self.work = None;
    }

    /// Everything was handed over; how it ends will be told.
    pub(super) fn is_finishing(&self) -> bool {
        self.work.is_none()
    }

    /// It stays as it is for another time.
    pub(super) fn leave(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.work = None;
    }

    /// Nobody wants it any more: removes what there is.
    pub(super) fn remove(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.hand_over(Work::Remove);
        self.work = None;
    }

    /// `None` if it is for the thread: then nothing was done.
    fn do_in_place<T>(&self, work: impl FnOnce(&mut Intake) -> Result<T, DownloadError>) -> Option<Result<T, ()>> {
        // What was handed over comes first.
        if self.work.is_none() || self.queued.load(Ordering::Acquire) > 0 {
            return None;
        }
        let began = Instant::now();
        if !self.in_place.is_sensible(began) {
            return None;
        }
        let mut table = self.table.try_lock().ok()?;
        let intake = table.as_mut()?;
        let result = work(intake);
        let ended = Instant::now();
        self.in_place.took(ended, ended.saturating_duration_since(began));
        let save = intake.is_save_due(ended);
        drop(table);
        match result {
            Err(error) => {
                self.hand_over(Work::Failed(error));
                Some(Err(()))
            }
            Ok(done) => {
                if save {
                    // It waits for the disk.
                    self.hand_over(Work::Save);
                }
                Some(Ok(done))
            }
        }
    }

    fn hand_over(&self, work: Work) {
        self.queued.fetch_add(1, Ordering::Relaxed);
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

/// Bytes handed over at once while there is much: they stay in the processor's cache until they were hashed and written.
pub(super) const CHUNK: usize = 256 << 10;
/// With what comes on top in one datagram.
const CHUNK_ROOM: usize = CHUNK + (64 << 10);
/// Bytes waiting for the disk beyond which the sources are asked to pause.
const CONGESTED: u64 = 8 << 20;

#[cfg(test)]
mod tests;
