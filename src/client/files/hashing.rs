//! BLAKE3 of shared files: streamed, remembered for as long as the file looks the same, made in the background.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cap_std::fs::{File, FileExt, Metadata, MetadataExt};
use thiserror::Error;

use super::shares::SharedFolder;

/// By what a file is known to be the same as before: size, time of the last change, and which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Bytes.
    pub(super) size: u64,
    changed: (i64, i64),
    file: (u64, u64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
            file: (metadata.dev(), metadata.ino()),
        }
    }
}

/// Why there is no hash.
#[derive(Debug, Error)]
pub(super) enum HashError {
    /// The disk.
    #[error("the file cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Somebody wrote to it meanwhile.
    #[error("the file was changed while it was read")]
    Changed,
    /// Nobody wants it any more.
    #[error("given up")]
    Cancelled,
}

/// The BLAKE3 of an opened file that looks like `stamp`, before and after. Looks at `cancel` every few megabytes.
pub(super) fn hash_file(file: &File, stamp: Stamp, cancel: &AtomicBool) -> Result<[u8; 32], HashError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_SIZE];
    let mut offset = 0;
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(HashError::Cancelled);
        }
        if Stamp::of(&file.metadata()?) != stamp {
            return Err(HashError::Changed);
        }
        let len = match file.read_at(&mut buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if len == 0 {
            let whole = offset == stamp.size;
            return if whole { Ok(*hasher.finalize().as_bytes()) } else { Err(HashError::Changed) };
        }
        hasher.update(buffer.get(..len).unwrap_or_default());
        offset += len as u64;
    }
}

/// The hashes made so far, by base name.
#[derive(Debug, Default)]
pub(super) struct Roots(Mutex<HashMap<String, (Stamp, [u8; 32])>>);

impl Roots {
    /// The hash of `name` if it still looks like `stamp`.
    pub(super) fn get(&self, name: &str, stamp: Stamp) -> Option<[u8; 32]> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).filter(|(then, _)| *then == stamp).map(|(_, root)| *root)
    }

    pub(super) fn put(&self, name: &str, stamp: Stamp, root: [u8; 32]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), (stamp, root));
    }

    /// Forgets the files for which `stays` is false.
    pub(super) fn retain(&self, stays: impl Fn(&str) -> bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| stays(name));
    }
}

/// A thread that hashes what is shared and not hashed yet: when woken, and every [`RESCAN`]. Ends when dropped.
#[derive(Debug)]
pub(super) struct Hasher {
    wake: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hasher {
    pub(super) fn start(folder: Arc<SharedFolder>) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || hash_until_stopped(&folder, &woken, &stopped);
        let thread = std::thread::Builder::new().name("hash".into()).spawn(work)?;
        Ok(Self { wake: Some(wake), stop, thread: Some(thread) })
    }

    /// Something is newly shared.
    pub(super) fn wake(&self) {
        // If a wake-up waits already, it will look anyway.
        let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn hash_until_stopped(folder: &SharedFolder, woken: &Receiver<()>, stop: &AtomicBool) {
    loop {
        folder.hash_shared(stop);
        match woken.recv_timeout(RESCAN) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

const READ_SIZE: usize = 1 << 20;
/// How long a changed file may wait for its new hash, unless somebody asks for it first.
const RESCAN: Duration = Duration::from_secs(10);
