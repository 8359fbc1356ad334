//! The shared folder: which of its files are shared, and a way in that follows no links.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use thiserror::Error;

use super::content::Content;
use super::hashing::{HashError, Trees};
use super::rules::head_of_file;
use super::stamp::Stamp;
use super::walk::{open_dir, open_file, walk};
use crate::client::effects::ShareCommand;
use crate::limits::MANIFEST_FILES;
use crate::transfer::name::is_shareable;
use crate::transfer::restrict::{Item, Rules};
use crate::transfer::search::{Pattern, SharedFile, find};
use crate::transfer::shares::Switches;
use crate::transfer::tree::Root;
use crate::wire::payload::{FileKind, FileRefusal, FileRow};

/// The files directly in one folder, and their switches. Its methods wait for the disk.
#[derive(Debug)]
pub(super) struct SharedFolder {
    // Without a folder nothing is shared, but switches are kept.
    dir: Option<Dir>,
    data: PathBuf,
    switches: Mutex<Switches>,
    trees: Arc<Trees>,
    // Shared folders, as they were found last.
    folders: Mutex<HashMap<String, Found>>,
}

/// Why there is no shared folder.
#[derive(Debug, Error)]
pub enum ShareError {
    /// The folder itself.
    #[error("the shared folder {path} cannot be opened: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The list of what is shared in it.
    #[error("the list of shares {path} cannot be read: {why}")]
    Switches {
        /// Which.
        path: PathBuf,
        /// For people.
        why: String,
    },
}

/// A shared file, opened for reading.
#[derive(Debug)]
pub(super) struct OpenShare {
    pub(super) file: File,
    pub(super) stamp: Stamp,
}

/// What a folder was found to be.
#[derive(Debug, Clone, Copy)]
enum Found {
    // Bytes of all files, and the root.
    Fit(u64, Root),
    // As it is it can never be sent.
    Unfit,
}

/// What stands directly in the shared folder.
#[derive(Debug)]
struct Entry {
    name: String,
    kind: FileKind,
    stamp: Stamp,
}

/// What `@me getsharestatus` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShareStatus {
    pub(super) global: bool,
    pub(super) files: Vec<(String, bool)>,
    pub(super) missing: Option<String>,
}

impl SharedFolder {
    /// Opens the folder `share`; switches are kept in the directory `data`, which exists.
    pub(super) fn open(share: Option<&Path>, data: &Path, trees: Arc<Trees>) -> Result<Self, ShareError> {
        let open = |path: &Path| Dir::open_ambient_dir(path, ambient_authority());
        let dir = share
            .map(|path| open(path).map_err(|source| ShareError::Folder { path: path.to_owned(), source }))
            .transpose()?;
        let switches = load_switches(&data.join(SWITCHES_FILE))?;
        let (data, folders) = (data.to_owned(), Mutex::default());
        Ok(Self { dir, data, switches: Mutex::new(switches), trees, folders })
    }

    /// Shared files and folders that match, and `parts` of others that are coming, where everything is shared. Hashes
    /// nothing.
    pub(super) fn search(&self, pattern: &Pattern, parts: Vec<SharedFile>, rules: &Rules) -> (Vec<FileRow>, u64) {
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let shared = self.shared().into_iter().filter_map(|Entry { name, kind, stamp }| {
            let (size, root) = match (kind, folders.get(&name)) {
                (FileKind::File, _) => (stamp.size, self.trees.root(stamp)),
                (FileKind::Folder, Some(Found::Fit(size, root))) => (*size, Some(*root)),
                (FileKind::Folder, Some(Found::Unfit)) => return None,
                (FileKind::Folder, None) => (0, None),
            };
            Some(SharedFile { name, size, root, kind, partial: false })
        });
        let all = shared.chain(parts.into_iter().filter(|_| self.shares_all()));
        // The core knows how many slots are free.
        find(pattern, all.filter(|file| pattern.matches(&file.name) && self.may_be_found(file, rules)), 0)
    }

    /// Whether rules let a file be sent. Of a folder its files are looked at when it is asked for.
    fn may_be_found(&self, file: &SharedFile, rules: &Rules) -> bool {
        let folder = file.kind == FileKind::Folder;
        let item = Item { name: &file.name, folder, size: Some(file.size), root: file.root.as_ref() };
        if rules.judge(&item).is_err() {
            return false;
        }
        if folder || file.partial || !rules.ask_types() {
            return true;
        }
        let head = self.open_shared(&file.name).ok().and_then(|open| head_of_file(&open.file, open.stamp.size).ok());
        head.is_some_and(|head| rules.judge_head(&file.name, &head).is_ok())
    }

    /// Whether everything in the folder is shared that is not held back.
    pub(super) fn shares_all(&self) -> bool {
        self.lock().global()
    }

    /// Opens a file if it is shared. That it is not shared and that there is none are the same answer.
    pub(super) fn open_shared(&self, name: &str) -> Result<OpenShare, FileRefusal> {
        let dir = self.dir.as_ref().filter(|_| self.lock().is_shared(name)).ok_or(FileRefusal::NotShared)?;
        let before = dir.symlink_metadata(name).map_err(|_| FileRefusal::NotShared)?;
        if !before.is_file() {
            return Err(FileRefusal::NotShared);
        }
        let file = open_file(dir, name).map_err(|_| FileRefusal::Unreadable)?;
        let metadata = file.metadata().map_err(|_| FileRefusal::Unreadable)?;
        Ok(OpenShare { file: file.into_std(), stamp: Stamp::of(&metadata) })
    }

    /// Opens a folder if it is shared.
    pub(super) fn open_shared_folder(&self, name: &str) -> Result<Dir, FileRefusal> {
        let name = plain(name);
        let dir = self.dir.as_ref().filter(|_| is_shareable(name) && self.lock().is_shared(name));
        open_dir(dir.ok_or(FileRefusal::NotShared)?, name).map_err(|_| FileRefusal::NotShared)
    }

    /// Bytes of all files in a shared folder. Hashes nothing.
    pub(super) fn measure_folder(&self, name: &str) -> Result<u64, FileRefusal> {
        let dir = self.open_shared_folder(name)?;
        let found = walk(&dir, MANIFEST_FILES, &|_| true).map_err(|_| FileRefusal::Unreadable)?;
        Ok(found.files.iter().map(|(_, stamp)| stamp.size).sum())
    }

    /// Turns switches and tells how they stand. A switch that could not be kept is turned back.
    pub(super) fn command(&self, command: &ShareCommand) -> ShareStatus {
        let files = self.files();
        let mut switches = self.lock();
        let mut changed = switches.clone();
        let there = |name: &str| files.iter().any(|entry| entry.name == plain(name));
        let mut missing = None;
        match command {
            ShareCommand::Set(name) if !there(name) => missing = Some(name.clone()),
            ShareCommand::Clear(name) if !there(name) && !changed.has_own(plain(name)) => missing = Some(name.clone()),
            // Names of files that are there satisfy the switches; at most there are too many of them.
            ShareCommand::Set(name) => warn_if_not_kept(changed.set(plain(name), true)),
            ShareCommand::Clear(name) => warn_if_not_kept(changed.set(plain(name), false)),
            ShareCommand::Global(on) => changed.set_global(*on),
            ShareCommand::Status => {}
        }
        if changed != *switches {
            let kept = keep_switches(&self.data, &changed);
            if kept.is_ok() {
                *switches = changed;
            }
            warn_if_not_kept(kept);
        }
        let files = files.into_iter().map(|entry| {
            let mark = if entry.kind == FileKind::Folder { "/" } else { "" };
            (format!("{}{mark}", entry.name), switches.is_shared(&entry.name))
        });
        ShareStatus { global: switches.global(), files: files.collect(), missing }
    }

    /// Hashes what is shared and not hashed yet.
    pub(super) fn hash_shared(&self, stop: &AtomicBool) {
        let go_on = || !stop.load(Ordering::Relaxed);
        let mut folders = HashMap::new();
        for Entry { name, kind, stamp } in self.shared() {
            if !go_on() {
                return;
            }
            // What cannot be read now, or changes under our eyes, is looked at again in the next round.
            match kind {
                FileKind::File if self.trees.root(stamp).is_some() => {}
                FileKind::File => {
                    if let Ok(open) = self.open_shared(&name) {
                        let _ = self.trees.of(&open.file, open.stamp, &mut |_| go_on());
                    }
                }
                FileKind::Folder => {
                    let opened = self.open_shared_folder(&name).ok();
                    let content = opened.map(|dir| Content::of_folder(dir, &self.trees, &mut |_, _| go_on()));
                    match content {
                        Some(Ok(content)) => folders.insert(name, Found::Fit(content.total, content.root)),
                        Some(Err(HashError::Empty | HashError::Unfit(_))) => folders.insert(name, Found::Unfit),
                        Some(Err(_)) | None => None,
                    };
                }
            }
        }
        *self.folders.lock().unwrap_or_else(PoisonError::into_inner) = folders;
    }

    fn shared(&self) -> Vec<Entry> {
        let files = self.files();
        let switches = self.lock();
        files.into_iter().filter(|entry| switches.is_shared(&entry.name)).collect()
    }

    /// The regular files and folders directly in the folder that can be shared at all, by name.
    fn files(&self) -> Vec<Entry> {
        let Some(entries) = self.dir.as_ref().and_then(|dir| dir.entries().ok()) else { return Vec::new() };
        let mut files: Vec<Entry> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok().filter(|name| is_shareable(name))?;
                // Of the entry itself, not of what a link points to.
                let metadata = entry.metadata().ok()?;
                let kind = match (metadata.is_file(), metadata.is_dir()) {
                    (true, _) => FileKind::File,
                    (_, true) => FileKind::Folder,
                    _ => return None,
                };
                Some(Entry { name, kind, stamp: Stamp::of(&metadata) })
            })
            .take(FILES_MAX)
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    fn lock(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A folder's name without the mark of one.
fn plain(name: &str) -> &str {
    name.strip_suffix('/').unwrap_or(name)
}

fn warn_if_not_kept<E: std::fmt::Display>(result: Result<(), E>) {
    if let Err(error) = result {
        tracing::warn!("the shares stay as they were: {error}");
    }
}

fn load_switches(path: &Path) -> Result<Switches, ShareError> {
    let failed = |why: String| ShareError::Switches { path: path.to_owned(), why };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Switches::default()),
        Err(error) => return Err(failed(error.to_string())),
        Ok(metadata) if metadata.len() > SWITCHES_SIZE_MAX => return Err(failed("it is too long".into())),
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    Switches::from_json(&text).map_err(|error| failed(error.to_string()))
}

/// Writes beside, then renames: after a crash the old or the new list stands there, whole.
fn keep_switches(data: &Path, switches: &Switches) -> io::Result<()> {
    let mut beside = tempfile::NamedTempFile::new_in(data)?;
    beside.write_all(switches.to_json().as_bytes())?;
    beside.as_file().sync_all()?;
    beside.persist(data.join(SWITCHES_FILE)).map_err(|error| error.error)?;
    File::open(data)?.sync_all()
}

/// In the data directory.
const SWITCHES_FILE: &str = "shares.json";
/// Room for every switch that there may be, with the longest name.
const SWITCHES_SIZE_MAX: u64 = 16 << 20;
/// Files of the folder that are looked at.
const FILES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    struct Place {
        share: TempDir,
        data: TempDir,
    }

    impl Place {
        fn new(files: &[(&str, &[u8])]) -> Self {
            let place = Self { share: TempDir::new().unwrap(), data: TempDir::new().unwrap() };
            files.iter().for_each(|(name, bytes)| fs::write(place.share.path().join(name), bytes).unwrap());
            place
        }

        fn open(&self) -> SharedFolder {
            let trees = Arc::new(Trees::new(self.data.path()));
            SharedFolder::open(Some(self.share.path()), self.data.path(), trees).unwrap()
        }
    }

    fn found(folder: &SharedFolder, pattern: &str) -> Vec<(String, bool)> {
        let (rows, _) = folder.search(&Pattern::parse(pattern).unwrap(), Vec::new(), &Rules::default());
        rows.into_iter().map(|row| (row.name, row.root.is_some())).collect()
    }

    #[test]
    fn switches_survive_a_restart_and_nothing_is_shared_at_first() {
        let place = Place::new(&[("a.txt", b"a"), ("b.txt", b"b"), ("c d.txt", b"c")]);
        let folder = place.open();
        assert!(found(&folder, "*").is_empty());
        folder.command(&ShareCommand::Global(true));
        folder.command(&ShareCommand::Clear("b.txt".into()));
        let status = folder.command(&ShareCommand::Set("nowhere".into()));
        assert_eq!(status.missing.as_deref(), Some("nowhere"));
        let again = place.open().command(&ShareCommand::Status);
        assert_eq!(again, ShareStatus { missing: None, ..status });
        let names: Vec<_> = again.files.iter().map(|(name, on)| (name.as_str(), *on)).collect();
        assert_eq!(names, [("a.txt", true), ("b.txt", false), ("c d.txt", true)]);
    }

    #[test]
    fn a_search_hashes_nothing_and_shows_a_hash_until_the_file_changes() {
        let place = Place::new(&[("a", b"one"), ("b", b"two")]);
        let folder = place.open();
        folder.command(&ShareCommand::Set("a".into()));
        assert_eq!(found(&folder, "*"), [("a".to_owned(), false)]);
        assert_eq!(found(&folder, "*"), [("a".to_owned(), false)]);
        folder.hash_shared(&AtomicBool::new(false));
        assert_eq!(found(&folder, "*"), [("a".to_owned(), true)]);
        fs::write(place.share.path().join("a"), b"three").unwrap();
        assert_eq!(found(&folder, "*"), [("a".to_owned(), false)]);
        folder.hash_shared(&AtomicBool::new(false));
        assert_eq!(found(&folder, "*"), [("a".to_owned(), true)]);
    }

    #[test]
    fn links_pipes_hidden_files_and_paths_are_as_if_they_were_not_there() {
        let place = Place::new(&[("plain", b"x"), (".hidden", b"x")]);
        let share = place.share.path();
        let outside = place.data.path().join("secret");
        fs::write(&outside, b"secret").unwrap();
        symlink(&outside, share.join("link")).unwrap();
        symlink("plain", share.join("inner-link")).unwrap();
        fs::create_dir(share.join("folder")).unwrap();
        fs::write(share.join("folder/deep"), b"x").unwrap();
        let pipe = share.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let folder = place.open();
        folder.command(&ShareCommand::Global(true));
        let (folders, plain) = (("folder".to_owned(), false), ("plain".to_owned(), false));
        assert_eq!(found(&folder, "*"), [folders, plain]);
        for name in ["link", "inner-link", "plain", "../plain", "/etc", "..", ".", ""] {
            assert_eq!(folder.open_shared_folder(name).unwrap_err(), FileRefusal::NotShared, "{name}");
        }
        assert!(folder.open_shared_folder("folder/").is_ok());
        for name in ["link", "inner-link", "folder", "pipe", ".hidden", "folder/deep", "../secret", "nothing", "", "."]
        {
            assert_eq!(folder.open_shared(name).unwrap_err(), FileRefusal::NotShared, "{name}");
        }
        assert!(folder.open_shared("plain").is_ok());
        folder.command(&ShareCommand::Global(false));
        assert_eq!(folder.open_shared("plain").unwrap_err(), FileRefusal::NotShared);
    }

    #[test]
    fn a_broken_list_of_shares_stops_the_start() {
        let place = Place::new(&[]);
        fs::write(place.data.path().join(SWITCHES_FILE), "{").unwrap();
        let trees = Arc::new(Trees::new(place.data.path()));
        let opened = SharedFolder::open(Some(place.share.path()), place.data.path(), trees);
        assert!(matches!(opened, Err(ShareError::Switches { .. })));
    }

    #[test]
    fn folders_that_can_never_be_sent_are_not_found() {
        let place = Place::new(&[]);
        let share = place.share.path();
        for folder in ["good", "empty", "links", "cases"] {
            fs::create_dir(share.join(folder)).unwrap();
        }
        for file in ["good/a", "cases/a", "cases/A"] {
            fs::write(share.join(file), file).unwrap();
        }
        symlink("/etc/passwd", share.join("links/passwd")).unwrap();
        let folder = place.open();
        folder.command(&ShareCommand::Global(true));
        folder.hash_shared(&AtomicBool::new(false));
        assert_eq!(found(&folder, "*"), [("good".to_owned(), true)]);
        fs::write(share.join("empty/a"), "a").unwrap();
        folder.hash_shared(&AtomicBool::new(false));
        assert_eq!(found(&folder, "*"), [("empty".to_owned(), true), ("good".to_owned(), true)]);
    }
}
