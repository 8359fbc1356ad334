//! BLAKE3 trees of files that were hashed before, kept beside the other data: by them an offer costs nothing the second
//! time, also after a restart.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::stamp::Stamp;

/// The trees on disk. They are a cache: what is missing, damaged or of another version is made again. Its methods wait
/// for the disk.
#[derive(Debug)]
pub(super) struct Outboards {
    dir: PathBuf,
    // Bytes that all of them may take together.
    limit: u64,
    // One prunes at a time.
    pruning: Mutex<()>,
}

/// A file's root and the hashes beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) root: [u8; 32],
    pub(super) outboard: Vec<u8>,
}

impl Outboards {
    /// In `data`, which exists; the directory in it is made when there is something to keep.
    pub(super) fn new(data: &Path, limit: u64) -> Self {
        Self { dir: data.join(DIRECTORY), limit, pruning: Mutex::new(()) }
    }

    /// What was kept of a file that looks like `stamp`; it is the most recently used from now on.
    pub(super) fn get(&self, stamp: Stamp) -> Option<Kept> {
        let file = File::open(self.path(stamp)).ok()?;
        let len = file.metadata().ok()?.len();
        if len > self.limit {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).ok()?);
        (&file).take(self.limit).read_to_end(&mut bytes).ok()?;
        let kept = decode(&bytes)?;
        // If the time cannot be set it goes a little earlier than it should.
        let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        Some(kept)
    }

    /// Keeps a tree, unless it would take more than half of the room; the least recently used go where it gets too much.
    pub(super) fn put(&self, stamp: Stamp, root: &[u8; 32], outboard: &[u8]) -> io::Result<()> {
        if outboard.len() as u64 > self.limit / 2 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        fs::create_dir_all(&self.dir)?;
        let mut beside = tempfile::NamedTempFile::new_in(&self.dir)?;
        beside.write_all(MAGIC)?;
        beside.write_all(root)?;
        beside.write_all(&checksum(root, outboard))?;
        beside.write_all(outboard)?;
        // Not synced: a tree that a crash has damaged does not fit its checksum and is made again.
        beside.persist(self.path(stamp)).map_err(|error| error.error)?;
        self.prune()
    }

    fn path(&self, stamp: Stamp) -> PathBuf {
        self.dir.join(stamp.key())
    }

    fn prune(&self) -> io::Result<()> {
        let _one = self.pruning.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        let mut total = 0_u64;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            // An empty tree takes a place in the directory, too.
            let len = metadata.len().max(ENTRY_MIN);
            total = total.saturating_add(len);
            all.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), len, entry.path()));
        }
        all.sort();
        for (_, len, path) in all {
            if total <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            total = total.saturating_sub(len);
        }
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> Option<Kept> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (root, rest) = rest.split_first_chunk::<32>()?;
    let (sum, outboard) = rest.split_first_chunk::<32>()?;
    (checksum(root, outboard) == *sum).then(|| Kept { root: *root, outboard: outboard.to_vec() })
}

fn checksum(root: &[u8; 32], outboard: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(root).update(outboard).finalize().as_bytes()
}

/// In the data directory.
const DIRECTORY: &str = "outboards";
/// Version of what is kept.
const MAGIC: &[u8] = b"secchat outboard 1\n";
/// What the smallest entry counts.
const ENTRY_MIN: u64 = 4_096;
/// Bytes of trees that are kept: those of some 256 GiB of files. That of a single file above half of it is not.
pub(super) const OUTBOARDS_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tempfile::TempDir;

    fn stamp(dir: &TempDir, name: &str) -> Stamp {
        let path = dir.path().join(name);
        fs::write(&path, name).unwrap();
        Stamp::of_std(&fs::metadata(path).unwrap())
    }

    #[test]
    fn a_tree_is_found_again_until_the_file_looks_different() {
        let (data, files) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let a = stamp(&files, "a");
        assert_eq!(Outboards::new(data.path(), 1 << 20).get(a), None);
        Outboards::new(data.path(), 1 << 20).put(a, &[1; 32], &[7; 640]).unwrap();
        let kept = Kept { root: [1; 32], outboard: vec![7; 640] };
        assert_eq!(Outboards::new(data.path(), 1 << 20).get(a), Some(kept));
        let later = SystemTime::now() + Duration::from_secs(5);
        let file = File::options().write(true).open(files.path().join("a")).unwrap();
        file.set_times(FileTimes::new().set_modified(later)).unwrap();
        let edited = Stamp::of_std(&fs::metadata(files.path().join("a")).unwrap());
        assert_eq!(Outboards::new(data.path(), 1 << 20).get(edited), None);
    }

    #[test]
    fn a_damaged_tree_is_as_good_as_none() {
        let (data, files) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let a = stamp(&files, "a");
        let kept = Outboards::new(data.path(), 1 << 20);
        kept.put(a, &[1; 32], &[7; 640]).unwrap();
        let path = data.path().join(DIRECTORY).join(a.key());
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(kept.get(a), None, "{len}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(kept.get(a), None, "{at}");
        }
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let (data, files) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let kept = Outboards::new(data.path(), 100_000);
        let stamps: Vec<Stamp> = (0..5).map(|n| stamp(&files, &n.to_string())).collect();
        for (n, stamp) in stamps.iter().take(4).enumerate() {
            kept.put(*stamp, &[1; 32], &[7; 24_000]).unwrap();
            let old = SystemTime::now() - Duration::from_secs(100 - n as u64);
            let file = File::open(kept.path(*stamp)).unwrap();
            file.set_times(FileTimes::new().set_modified(old)).unwrap();
        }
        assert!(kept.get(stamps[0]).is_some());
        kept.put(stamps[4], &[1; 32], &[7; 24_000]).unwrap();
        let there: Vec<bool> = stamps.iter().map(|stamp| kept.get(*stamp).is_some()).collect();
        assert_eq!(there, [true, false, true, true, true]);
    }
}
