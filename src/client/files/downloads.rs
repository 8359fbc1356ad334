//! The downloads directory. Everything happens beneath one directory handle, never through a link, never over a file
//! that is there.
//!
//! What is not whole yet stands in a hidden directory of its own, named after its root, so that it is found again after a
//! restart; [`Workplace`] is one of these.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};
use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use thiserror::Error;

use crate::limits::PARTIAL_MAX;
use crate::transfer::name::SafeName;
use crate::transfer::partial::Partial;

/// Where downloads go.
#[derive(Debug, Clone)]
pub(super) struct Downloads {
    dir: Arc<Dir>,
    path: PathBuf,
}

/// What is put together, as far as its source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Of so many bytes.
    File(u64),
    Folder,
}

impl Shape {
    /// Whether this state is of one.
    fn is_of(self, state: &Partial) -> bool {
        match self {
            Self::File(size) => state.size() == size,
            // Its size is that of its list of files, and the state's that of the files.
            Self::Folder => true,
        }
    }
}

/// Why a download does not stand under its name.
#[derive(Debug, Error)]
pub(super) enum DownloadError {
    /// The disk.
    #[error("the downloads directory: {0}")]
    Disk(#[from] io::Error),
    /// The disk, at this directory.
    #[error("{path}: {source}")]
    At {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is not enough room.
    #[error("the downloads directory has not enough room: {needed} bytes are needed and {free} are free")]
    Full {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// What the folder holds cannot be made here.
    #[error("the folder cannot be taken: {0}")]
    Folder(String),
    /// A rule on sharing is against it.
    #[error("{0}")]
    Restricted(String),
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

    /// The error with the name of this directory in it.
    pub(super) fn named(&self, error: DownloadError) -> DownloadError {
        match error {
            DownloadError::Disk(source) => DownloadError::At { path: self.path.clone(), source },
            error => error,
        }
    }

    /// The same directory, made again where somebody has removed it.
    pub(super) fn anew(&self) -> io::Result<Self> {
        if self.path.exists() { Ok(self.clone()) } else { Self::open(&self.path) }
    }

    /// The place where what has this root is put together: the one that is left from before, unless somebody works there
    /// now, else a new one. `tag` is random. What was begun with another size is left alone: which of them is the root's shows
    /// only later.
    pub(super) fn workplace(&self, root: &[u8; 32], shape: Shape, tag: [u8; 8]) -> io::Result<Workplace> {
        let name = format!("{WORKPLACE}{}", hex(root.get(..16).unwrap_or_default()));
        let other = match shape {
            Shape::File(size) => format!("{name}-{size}"),
            Shape::Folder => format!("{name}-folder"),
        };
        let begun = |name: &&String| {
            state_in(&self.dir, name).is_ok_and(|state| state.is_some_and(|state| shape.is_of(&state)))
        };
        let names = [name.clone(), other, format!("{name}-{}", hex(&tag))];
        for name in names.iter().filter(begun).chain(&names) {
            if let Some(place) = self.take_place(name)?.filter(|place| place.suits(shape)) {
                return Ok(place);
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Bytes that may still be written here.
    pub(super) fn free(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(&*self.dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Removes what nobody has worked on for [`KEPT_FOR`].
    pub(super) fn clean(&self, now: SystemTime) -> io::Result<()> {
        for entry in self.dir.entries()? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !name.starts_with(WORKPLACE) || !entry.metadata().is_ok_and(|metadata| metadata.is_dir()) {
                continue;
            }
            let Some(place) = self.take_place(&name)? else { continue };
            let changed = place.changed().unwrap_or(now);
            if now.duration_since(changed).is_ok_and(|age| age > KEPT_FOR) {
                tracing::info!("{name} was left unfinished for a week and is removed");
                place.remove()?;
            }
        }
        Ok(())
    }

    /// Opens a place and locks it; `None` if another has it.
    fn take_place(&self, name: &str) -> io::Result<Option<Workplace>> {
        match rustix::fs::mkdirat(&*self.dir, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&*self.dir, name, flags, Mode::empty())?;
        let dir = Dir::from_std_file(opened.into());
        let lock = open_new_or_old(&dir, "lock")?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(Workplace { downloads: self.clone(), dir, name: name.to_owned(), _lock: lock }))
    }

    /// Gives what stands at `from` in `dir` the first of its names that is free.
    fn settle(&self, dir: &Dir, from: &str, name: &SafeName) -> Result<PathBuf, DownloadError> {
        let names = std::iter::once(name.clone()).chain((1..=NUMBERS_MAX).map(|n| name.numbered(n)));
        for name in names {
            match rename_to_new(dir, from, &self.dir, name.as_str()) {
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

/// A hidden directory for what is not whole yet. It stays when this is dropped.
#[derive(Debug)]
pub(super) struct Workplace {
    downloads: Downloads,
    /// The directory itself.
    pub(super) dir: Dir,
    name: String,
    // Gives way when it is dropped.
    _lock: File,
}

impl Workplace {
    /// Opens a file in it to read and write, as it was left or new.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        open_new_or_old(&self.dir, name)
    }

    /// Bytes that may still be written here.
    pub(super) fn free(&self) -> io::Result<u64> {
        self.downloads.free()
    }

    /// Moves the file or directory `from`, which is whole, under the first of its names that is free, and removes the rest.
    pub(super) fn settle(self, from: &str, name: &SafeName) -> Result<PathBuf, DownloadError> {
        let path = self.downloads.settle(&self.dir, from, name)?;
        if let Err(error) = self.remove() {
            tracing::warn!("what is left of a finished download stays: {error}");
        }
        Ok(path)
    }

    /// Removes it with all that is in it.
    pub(super) fn remove(self) -> io::Result<()> {
        self.downloads.dir.remove_dir_all(&self.name)
    }

    /// What its state says: nothing where there is none, or a damaged one. One that cannot be read now may say anything.
    pub(super) fn state(&self) -> io::Result<Option<Partial>> {
        state_in(&self.dir, ".")
    }

    /// Whether nothing of another shape was begun in it.
    fn suits(&self, shape: Shape) -> bool {
        let other: &[&str] = if shape == Shape::Folder { &["data"] } else { &["files", "manifest"] };
        let of_another = |state: Option<Partial>| state.is_some_and(|state| !shape.is_of(&state));
        !other.iter().any(|name| self.dir.exists(name)) && !self.state().is_ok_and(of_another)
    }

    /// Whether it was never written down that something is in it.
    pub(super) fn is_fresh(&self) -> bool {
        self.dir.symlink_metadata("state").is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// When its state was last written.
    fn changed(&self) -> io::Result<SystemTime> {
        let found = self.dir.metadata("state").or_else(|_| self.dir.dir_metadata())?;
        Ok(found.modified()?.into_std())
    }
}

fn state_in(dir: &Dir, place: &str) -> io::Result<Option<Partial>> {
    let mut bytes = Vec::new();
    match dir.open(Path::new(place).join("state")) {
        Ok(state) => state.take(PARTIAL_MAX as u64 + 1).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Partial::decode(&bytes).ok())
}

fn open_new_or_old(dir: &Dir, name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(no_follow);
    dir.open_with(name, &options)
}

/// Renames in one step, and fails if `to` is there, be it a dangling link.
fn rename_to_new(from_dir: &Dir, from: &str, to_dir: &Dir, to: &str) -> io::Result<()> {
    match rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            take_then_rename(from_dir, from, to_dir, to)
        }
        Err(error) => Err(error.into()),
    }
}

/// For file systems without that kind of rename.
fn take_then_rename(from_dir: &Dir, from: &str, to_dir: &Dir, to: &str) -> io::Result<()> {
    if from_dir.symlink_metadata(from)?.is_dir() {
        // A rename replaces an empty directory, which this one is, and ours.
        to_dir.create_dir(to)?;
        return from_dir.rename(from, to_dir, to);
    }
    from_dir.hard_link(from, to_dir, to)?;
    from_dir.remove_file(from)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How the names of workplaces begin. Hidden, so they are never shared.
const WORKPLACE: &str = ".secchat-";
/// How long an unfinished download waits to be resumed.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Numbers tried after a name that is taken.
const NUMBERS_MAX: u32 = 9_999;

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::fs::FileExt;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const VICTIMS: [&str; 3] = ["victim", "dir/victim", "downloads/mine"];
    const ROOT: [u8; 32] = [0xab; 32];

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

    fn downloads(root: &TempDir) -> Downloads {
        Downloads::open(&root.path().join("downloads")).unwrap()
    }

    fn fetch(downloads: &Downloads, name: &str, bytes: &[u8]) -> Option<PathBuf> {
        let name = SafeName::new(name).ok()?;
        let place = downloads.workplace(&ROOT, Shape::Folder, [7; 8]).unwrap();
        place.file("data").unwrap().write_all_at(bytes, 0).unwrap();
        Some(place.settle("data", &name).unwrap())
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
            if let Some(path) = fetch(&downloads(&root), &name, b"evil") {
                prop_assert_eq!(path.parent().unwrap(), root.path().join("downloads"));
                prop_assert!(fs::symlink_metadata(&path).unwrap().is_file());
                prop_assert_eq!(fs::read(&path).unwrap(), b"evil");
            }
            prop_assert_eq!(outside(root.path()), before);
            prop_assert_eq!(fs::read(root.path().join("downloads/mine")).unwrap(), b"downloads/mine");
        }
    }

    #[test]
    fn a_planted_workplace_is_not_written_through() {
        let root = trap(&[]);
        let hidden = root.path().join("downloads").join(format!("{WORKPLACE}{}", hex(&ROOT[..16])));
        symlink(root.path().join("dir"), &hidden).unwrap();
        assert!(downloads(&root).workplace(&ROOT, Shape::Folder, [7; 8]).is_err());
        fs::remove_file(&hidden).unwrap();
        fs::create_dir(&hidden).unwrap();
        symlink(root.path().join("victim"), hidden.join("data")).unwrap();
        assert!(downloads(&root).workplace(&ROOT, Shape::Folder, [7; 8]).unwrap().file("data").is_err());
        assert_eq!(fs::read(root.path().join("victim")).unwrap(), b"victim");
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again() {
        let root = trap(&[]);
        let downloads = downloads(&root);
        fs::remove_dir_all(root.path().join("downloads")).unwrap();
        assert!(downloads.workplace(&ROOT, Shape::Folder, [1; 8]).is_err());
        assert!(fetch(&downloads.anew().unwrap(), "a", b"a").unwrap().is_file());
        fs::remove_dir_all(root.path().join("downloads")).unwrap();
        fs::write(root.path().join("downloads"), "in the way").unwrap();
        let error = downloads.workplace(&ROOT, Shape::Folder, [1; 8]).unwrap_err();
        let told = downloads.named(error.into()).to_string();
        assert!(told.starts_with(root.path().to_str().unwrap()), "{told}");
    }

    const SHAPE: Shape = Shape::File(4);

    #[test]
    fn what_was_left_is_found_again_and_two_never_work_at_one_place() {
        let root = trap(&[]);
        let downloads = downloads(&root);
        let first = downloads.workplace(&ROOT, SHAPE, [1; 8]).unwrap();
        first.file("data").unwrap().write_all_at(b"part", 0).unwrap();
        let second = downloads.workplace(&ROOT, SHAPE, [2; 8]).unwrap();
        assert_eq!(second.file("data").unwrap().metadata().unwrap().len(), 0);
        drop((first, second));
        let again = downloads.workplace(&ROOT, SHAPE, [3; 8]).unwrap();
        assert_eq!(again.file("data").unwrap().metadata().unwrap().len(), 4);
    }

    #[test]
    fn what_nobody_came_back_for_is_removed_after_a_week_unless_somebody_works_there() {
        let root = trap(&[]);
        let downloads = downloads(&root);
        let working = downloads.workplace(&ROOT, Shape::Folder, [1; 8]).unwrap();
        drop(downloads.workplace(&[1; 32], Shape::Folder, [1; 8]).unwrap());
        let there = || fs::read_dir(root.path().join("downloads")).unwrap().count();
        downloads.clean(SystemTime::now()).unwrap();
        assert_eq!(there(), 3);
        downloads.clean(SystemTime::now() + KEPT_FOR * 2).unwrap();
        assert_eq!(there(), 2);
        drop(working);
        downloads.clean(SystemTime::now() + KEPT_FOR * 2).unwrap();
        assert_eq!(there(), 1);
    }

    #[test]
    fn what_stands_in_for_a_missing_rename_does_not_replace_either() {
        let root = TempDir::new().unwrap();
        let dir = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        for name in ["a", "b"] {
            fs::write(root.path().join(name), name).unwrap();
        }
        fs::create_dir_all(root.path().join("folder/deep")).unwrap();
        fs::create_dir_all(root.path().join("other/deep")).unwrap();
        for (from, to) in [("a", "b"), ("folder", "b"), ("folder", "other")] {
            let failed = take_then_rename(&dir, from, &dir, to).unwrap_err().kind();
            assert_eq!(failed, io::ErrorKind::AlreadyExists, "{from} {to}");
            let failed = rename_to_new(&dir, from, &dir, to).unwrap_err().kind();
            assert_eq!(failed, io::ErrorKind::AlreadyExists, "{from} {to}");
        }
        take_then_rename(&dir, "a", &dir, "c").unwrap();
        take_then_rename(&dir, "folder", &dir, "new").unwrap();
        assert_eq!(fs::read(root.path().join("c")).unwrap(), b"a");
        assert!(root.path().join("new/deep").is_dir());
        assert!(!root.path().join("a").exists() && !root.path().join("folder").exists());
    }
}
