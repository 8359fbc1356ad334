//! The downloads directory. Everything happens beneath one directory handle, never through a link, never over a file
//! that is there.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};
use rustix::fs::{OFlags, RenameFlags};
use thiserror::Error;

use crate::transfer::name::SafeName;

/// Where downloads go.
#[derive(Debug, Clone)]
pub(super) struct Downloads {
    dir: Arc<Dir>,
    path: PathBuf,
}

/// What is known of a file before it comes.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) name: SafeName,
    /// Bytes.
    pub(super) size: u64,
    /// BLAKE3.
    pub(super) root: [u8; 32],
}

/// Why a download does not stand under its name.
#[derive(Debug, Error)]
pub(super) enum DownloadError {
    /// It is not the file that was agreed on.
    #[error("the bytes that came are not those of the file that was agreed on")]
    Verification,
    /// The disk.
    #[error("the downloads directory: {0}")]
    Disk(#[from] io::Error),
    /// The name and every number after it are taken.
    #[error("too many files have this name already")]
    NamesTaken,
}

impl Downloads {
    /// Opens the directory; makes it if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self { dir: Arc::new(dir), path: path.to_owned() })
    }

    /// Makes the unfinished file, told apart from others by the random `tag`.
    pub(super) fn begin(&self, expected: Expected, tag: [u8; 8]) -> Result<PartialFile, DownloadError> {
        let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        let partial = expected.name.partial(&tag);
        let mut options = OpenOptions::new();
        let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        options.write(true).create_new(true).mode(0o600).custom_flags(no_follow);
        let file = self.dir.open_with(&partial, &options)?;
        let downloads = self.clone();
        Ok(PartialFile { downloads, partial, file, expected, hasher: blake3::Hasher::new(), written: 0 })
    }

    /// Gives the file `partial` the first of its names that is free.
    fn settle(&self, partial: &str, name: &SafeName) -> Result<PathBuf, DownloadError> {
        let names = std::iter::once(name.clone()).chain((1..=NUMBERS_MAX).map(|n| name.numbered(n)));
        for name in names {
            match rename_to_new(&self.dir, partial, name.as_str()) {
                Ok(()) => {
                    self.dir.open(".")?.sync_all()?;
                    return Ok(self.path.join(name));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DownloadError::NamesTaken)
    }
}

/// A file that is still coming. It is removed when dropped, unless it was finished.
#[derive(Debug)]
pub(super) struct PartialFile {
    downloads: Downloads,
    partial: String,
    file: File,
    expected: Expected,
    hasher: blake3::Hasher,
    written: u64,
}

impl PartialFile {
    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Checks that this is the file expected and gives it its name; returns its path.
    pub(super) fn finish(self) -> Result<PathBuf, DownloadError> {
        let same = blake3::Hash::from_bytes(self.expected.root) == self.hasher.finalize();
        if self.written != self.expected.size || !same {
            return Err(DownloadError::Verification);
        }
        self.file.sync_all()?;
        self.downloads.settle(&self.partial, &self.expected.name)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After a rename nothing stands under this name; the tag is random, so it is nobody else's.
        let _ = self.downloads.dir.remove_file(&self.partial);
    }
}

/// Renames in one step, and fails if `to` is there, be it a dangling link.
fn rename_to_new(dir: &Dir, from: &str, to: &str) -> io::Result<()> {
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            link_to_new(dir, from, to)
        }
        Err(error) => Err(error.into()),
    }
}

/// For file systems without that kind of rename.
fn link_to_new(dir: &Dir, from: &str, to: &str) -> io::Result<()> {
    dir.hard_link(from, dir, to)?;
    dir.remove_file(from)
}

/// Numbers tried after a name that is taken.
const NUMBERS_MAX: u32 = 9_999;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const VICTIMS: [&str; 3] = ["victim", "dir/victim", "downloads/mine"];

    /// A directory with files that must not change, and links to them in the downloads directory within it.
    fn trap(links: &[String]) -> TempDir {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("dir")).unwrap();
        fs::create_dir(root.path().join("downloads")).unwrap();
        VICTIMS.iter().for_each(|victim| fs::write(root.path().join(victim), victim).unwrap());
        for (n, link) in links.iter().enumerate() {
            let targets = ["victim", "dir", "dir/victim", "not there", "downloads/mine"];
            let target = root.path().join(targets[n % targets.len()]);
            // A name that no file can have makes no link.
            let _ = symlink(target, root.path().join("downloads").join(link));
        }
        root
    }

    /// Everything beneath `root` but the downloads directory, with contents, links not followed.
    fn outside(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all: Vec<_> = ["", "dir"]
            .iter()
            .flat_map(|dir| fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path()))
            .map(|path| (fs::read(&path).unwrap_or_default(), path))
            .map(|(bytes, path)| (path, bytes))
            .collect();
        all.sort();
        all
    }

    fn fetch(root: &Path, name: &str, bytes: &[u8]) -> Option<PathBuf> {
        let downloads = Downloads::open(&root.join("downloads")).unwrap();
        let name = SafeName::new(name).ok()?;
        let expected = Expected { name, size: bytes.len() as u64, root: *blake3::hash(bytes).as_bytes() };
        let mut partial = downloads.begin(expected, [7; 8]).unwrap();
        partial.write(bytes).unwrap();
        Some(partial.finish().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn no_file_outside_the_downloads_directory_changes_and_none_inside_is_replaced(
            name in r"((\.\.|dir|victim|mine|downloads|~|[a-c]|\PC)[/\\]?){1,6}",
            planted in proptest::collection::vec(r"\PC{1,8}", 0..4),
        ) {
            let mut links = planted;
            if let Ok(safe) = SafeName::new(&name) {
                links.extend([safe.as_str().to_owned(), safe.numbered(1).as_str().to_owned()]);
            }
            links.retain(|link| link != "mine" && !link.contains('/'));
            let root = trap(&links);
            let before = outside(root.path());
            if let Some(path) = fetch(root.path(), &name, b"evil") {
                prop_assert_eq!(path.parent().unwrap(), root.path().join("downloads"));
                prop_assert!(fs::symlink_metadata(&path).unwrap().is_file());
                prop_assert_eq!(fs::read(&path).unwrap(), b"evil");
            }
            prop_assert_eq!(outside(root.path()), before);
            prop_assert_eq!(fs::read(root.path().join("downloads/mine")).unwrap(), b"downloads/mine");
        }
    }

    #[test]
    fn a_planted_partial_file_is_not_written_through() {
        let root = trap(&[]);
        let name = SafeName::new("a").unwrap();
        symlink(root.path().join("victim"), root.path().join("downloads").join(name.partial("0707070707070707")))
            .unwrap();
        let downloads = Downloads::open(&root.path().join("downloads")).unwrap();
        let expected = Expected { name, size: 0, root: *blake3::hash(b"").as_bytes() };
        assert!(matches!(downloads.begin(expected, [7; 8]), Err(DownloadError::Disk(_))));
        assert_eq!(fs::read(root.path().join("victim")).unwrap(), b"victim");
    }

    #[test]
    fn a_file_that_is_short_or_wrong_or_given_up_leaves_nothing() {
        let root = TempDir::new().unwrap();
        let downloads = Downloads::open(root.path()).unwrap();
        let begin = |size| {
            let expected = Expected { name: SafeName::new("a").unwrap(), size, root: *blake3::hash(b"abc").as_bytes() };
            downloads.begin(expected, [1; 8]).unwrap()
        };
        for (size, bytes) in [(3, b"abd"), (4, b"abc")] {
            let mut partial = begin(size);
            partial.write(bytes).unwrap();
            assert!(matches!(partial.finish(), Err(DownloadError::Verification)));
        }
        drop(begin(3));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_link_that_stands_in_for_a_missing_rename_does_not_replace_either() {
        let root = TempDir::new().unwrap();
        let dir = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        fs::write(root.path().join("a"), "new").unwrap();
        fs::write(root.path().join("b"), "old").unwrap();
        assert_eq!(link_to_new(&dir, "a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(rename_to_new(&dir, "a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(root.path().join("b")).unwrap(), b"old");
        link_to_new(&dir, "a", "c").unwrap();
        assert_eq!(fs::read(root.path().join("c")).unwrap(), b"new");
        assert!(!root.path().join("a").exists());
    }
}
