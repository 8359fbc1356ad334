//! BLAKE3 trees of files: streamed, remembered for as long as the file looks the same, made in the background.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;

use super::outboards::{Kept, OUTBOARDS_MAX, Outboards};
use super::shares::SharedFolder;
use super::stamp::Stamp;
use crate::transfer::tree::{Geometry, Pair, PairSink, Root, TooLarge, TreeHasher};

/// A file's root and the parents beneath it, by place.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) root: Root,
    pub(super) outboard: Arc<Vec<u8>>,
}

/// Why there is no tree.
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
    /// A folder that cannot travel as it is: too much, or names that are one name elsewhere.
    #[error("the folder cannot be sent: {0}")]
    Unfit(String),
    /// A folder without a file in it.
    #[error("there is no file in it")]
    Empty,
    /// No tree reaches that high.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// Told the bytes of each step as they are read; says whether to go on.
pub(super) type Watch<'w> = &'w mut dyn FnMut(u64) -> bool;

/// The trees made so far, by what the files look like.
#[derive(Debug)]
pub(super) struct Trees {
    disk: Outboards,
    // At most ROOTS_MAX.
    roots: Mutex<HashMap<Stamp, Root>>,
    // Those that the disk did not take, the latest last; at most UNKEPT_MAX bytes, or one.
    unkept: Mutex<Vec<(Stamp, Tree)>>,
    // What is being hashed now: whoever wants the same waits for it.
    making: Mutex<HashSet<Stamp>>,
    made: Condvar,
}

impl Trees {
    /// Kept in `data`.
    pub(super) fn new(data: &Path) -> Self {
        Self::with_limit(data, OUTBOARDS_MAX)
    }

    pub(super) fn with_limit(data: &Path, limit: u64) -> Self {
        let (roots, unkept, making) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { disk: Outboards::new(data, limit), roots, unkept, making, made: Condvar::new() }
    }

    /// The root of a file that looks like this, if it is in memory.
    pub(super) fn root(&self, stamp: Stamp) -> Option<Root> {
        self.roots().get(&stamp).copied()
    }

    /// The tree of a file that looks like this, if it was made before.
    pub(super) fn known(&self, stamp: Stamp) -> Option<Tree> {
        let geometry = Geometry::new(stamp.size).ok()?;
        if let Some((_, tree)) = self.unkept().iter().find(|(of, _)| *of == stamp) {
            return Some(tree.clone());
        }
        let kept = match self.root(stamp) {
            Some(root) if geometry.outboard_size() == 0 => Kept { root, outboard: Vec::new() },
            _ => self.disk.get(stamp)?,
        };
        if kept.outboard.len() as u64 != geometry.outboard_size() {
            return None;
        }
        self.remember(stamp, kept.root);
        Some(Tree { root: kept.root, outboard: Arc::new(kept.outboard) })
    }

    /// The tree of an opened file that looks like `stamp`: remembered, or made now.
    pub(super) fn of(&self, file: &File, stamp: Stamp, watch: Watch<'_>) -> Result<Tree, HashError> {
        loop {
            if let Some(tree) = self.known(stamp) {
                return Ok(tree);
            }
            let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            if making.insert(stamp) {
                break;
            }
            // Somebody reads it already; if that is given up, it is up to us.
            drop(self.made.wait_timeout(making, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner));
            if !watch(0) {
                return Err(HashError::Cancelled);
            }
        }
        let made = make(file, stamp, watch);
        if let Ok(tree) = &made {
            self.keep(stamp, tree);
        }
        self.making.lock().unwrap_or_else(PoisonError::into_inner).remove(&stamp);
        self.made.notify_all();
        made
    }

    /// Keeps a tree that was made elsewhere.
    pub(super) fn keep(&self, stamp: Stamp, tree: &Tree) {
        self.remember(stamp, tree.root);
        // That of a small file is made again as fast as it is read.
        if !tree.outboard.is_empty()
            && let Err(error) = self.disk.put(stamp, &tree.root, &tree.outboard)
        {
            tracing::warn!("a hash tree is held in memory, it cannot be kept: {error}");
            self.keep_in_memory(stamp, tree);
        }
    }

    /// Where the disk is full, say, or the tree too large: who has waited for a hash, and maybe not to its end, finds it the
    /// next time.
    fn keep_in_memory(&self, stamp: Stamp, tree: &Tree) {
        let mut unkept = self.unkept();
        unkept.retain(|(of, _)| *of != stamp);
        unkept.push((stamp, tree.clone()));
        while unkept.len() > 1 && unkept.iter().map(|(_, tree)| tree.outboard.len()).sum::<usize>() > UNKEPT_MAX {
            unkept.remove(0);
        }
    }

    fn unkept(&self) -> MutexGuard<'_, Vec<(Stamp, Tree)>> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, stamp: Stamp, root: Root) {
        let mut roots = self.roots();
        if roots.len() >= ROOTS_MAX {
            roots.clear();
        }
        roots.insert(stamp, root);
    }

    fn roots(&self) -> MutexGuard<'_, HashMap<Stamp, Root>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Parents(Vec<u8>);

impl PairSink for Parents {
    type Error = Infallible;

    fn put(&mut self, _slot: u64, pair: &Pair) -> Result<(), Infallible> {
        // They come in the order of their places.
        self.0.extend_from_slice(pair);
        Ok(())
    }
}

fn make(file: &File, stamp: Stamp, watch: Watch<'_>) -> Result<Tree, HashError> {
    let geometry = Geometry::new(stamp.size)?;
    let mut hasher = TreeHasher::new(geometry);
    let mut parents = Parents(Vec::with_capacity(usize::try_from(geometry.outboard_size()).unwrap_or_default()));
    let mut buffer = vec![0; READ_SIZE.min(usize::try_from(stamp.size).unwrap_or(READ_SIZE).max(1))];
    let mut offset = 0;
    loop {
        if Stamp::of_std(&file.metadata()?) != stamp {
            return Err(HashError::Changed);
        }
        let len = match file.read_at(&mut buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if len == 0 {
            let root = hasher.finish(&mut parents).map_err(|_| HashError::Changed)?;
            return Ok(Tree { root, outboard: Arc::new(parents.0) });
        }
        let bytes = buffer.get(..len).unwrap_or_default();
        hasher.push(bytes, &mut parents).map_err(|_| HashError::Changed)?;
        offset += len as u64;
        if !watch(len as u64) {
            return Err(HashError::Cancelled);
        }
    }
}

/// The tree of bytes in memory.
pub(super) fn tree_of(bytes: &[u8]) -> Result<Tree, HashError> {
    let mut hasher = TreeHasher::new(Geometry::new(bytes.len() as u64)?);
    let mut parents = Parents(Vec::new());
    hasher.push(bytes, &mut parents).map_err(|_| HashError::Changed)?;
    let root = hasher.finish(&mut parents).map_err(|_| HashError::Changed)?;
    Ok(Tree { root, outboard: Arc::new(parents.0) })
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

/// Whole groups, so that none is hashed in two parts.
const READ_SIZE: usize = 1 << 20;
/// How often who waits for another's hash looks whether it is still wanted.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Roots that are held in memory; some 8 MB.
const ROOTS_MAX: usize = 100_000;
/// Bytes of trees that are held in memory because the disk does not take them: those of 64 GiB of files.
const UNKEPT_MAX: usize = 64 << 20;
/// How long a changed file may wait for its new hash, unless somebody asks for it first.
const RESCAN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn open(dir: &TempDir, bytes: &[u8]) -> (File, Stamp) {
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        let file = File::open(path).unwrap();
        let stamp = Stamp::of_std(&file.metadata().unwrap());
        (file, stamp)
    }

    #[test]
    fn the_second_time_nothing_is_read_not_even_after_a_restart() {
        let (data, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let bytes = vec![7; 3_000_000];
        let (file, stamp) = open(&dir, &bytes);
        let mut seen = 0;
        let mut watch = |bytes| {
            seen += bytes;
            true
        };
        let tree = Trees::new(data.path()).of(&file, stamp, &mut watch).unwrap();
        assert_eq!((tree.root, seen), (*blake3::hash(&bytes).as_bytes(), 3_000_000));
        let again = Trees::new(data.path());
        assert_eq!(again.root(stamp), None);
        let tree = again.of(&file, stamp, &mut |_| panic!("it is read")).unwrap();
        assert_eq!(Some(tree.root), again.root(stamp));
        assert_eq!(tree.outboard.len(), 45 * 64);
    }

    #[test]
    fn a_file_that_is_written_to_meanwhile_has_no_tree_and_hashing_can_be_given_up() {
        let (data, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (file, stamp) = open(&dir, &vec![7; 3_000_000]);
        let trees = Trees::new(data.path());
        assert!(matches!(trees.of(&file, stamp, &mut |_| false), Err(HashError::Cancelled)));
        let path = dir.path().join("file");
        let mut edit = |_| fs::write(&path, vec![8; 2_000_000]).is_ok();
        assert!(matches!(trees.of(&file, stamp, &mut edit), Err(HashError::Changed)));
        assert!(trees.known(stamp).is_none());
    }

    #[test]
    fn a_tree_that_the_disk_does_not_take_is_found_all_the_same() {
        let (data, full, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
        // Nothing can be made beneath it.
        fs::write(full.path().join("outboards"), "").unwrap();
        let (file, stamp) = open(&dir, &vec![7; 3_000_000]);
        for trees in [Trees::with_limit(data.path(), 1_000), Trees::new(full.path())] {
            let tree = trees.of(&file, stamp, &mut |_| true).unwrap();
            let again = trees.of(&file, stamp, &mut |_| panic!("it is read")).unwrap();
            assert_eq!((again.root, again.outboard), (tree.root, tree.outboard));
        }
    }
}
