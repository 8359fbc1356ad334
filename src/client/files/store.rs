//! One download on disk while it is not whole: its files, the parents of their trees, and a list of what is there that
//! survives a crash, and is believed only after it was checked.
//!
//! ```text
//! .secchat-ROOT/   lock
//!                  data        a file's bytes, at their places
//!                  files/      or a folder's files, under their names
//!                  manifest    and what they are
//!                  tree        parents of every item, one item after another, at their places
//!                  state       which groups are there; written after they were
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;

use super::downloads::{DownloadError, Workplace};
use super::hashing::tree_of;
use super::part::{Part, PartBody, PartFolder};
use super::stamp::Stamp;
use crate::transfer::manifest::Manifest;
use crate::transfer::name::SafeName;
use crate::transfer::partial::Partial;
use crate::transfer::ranges::RangeSet;
use crate::transfer::space::{Space, Span};
use crate::transfer::tree::{CheckError, GROUP, PAIR, Pair, PairSource, RUN_GROUPS, Root, check};
use crate::wire::id::RoomId;

/// The unfinished download. What is in it stays when this is dropped.
#[derive(Debug)]
pub(super) struct Store {
    place: Workplace,
    root: Root,
    space: Arc<Space>,
    files: Files,
    tree: Arc<File>,
    // Of each item, the place of its first parent; by item, counted from the first.
    pairs: Arc<Vec<u64>>,
    first_item: u32,
    have: Partial,
    // Claimed by the state and not looked at yet, or not readable now: it stays claimed until a check says otherwise.
    unchecked: RangeSet,
    // Groups that were written since the state was.
    unsaved: u64,
}

#[derive(Debug)]
enum Files {
    One(Arc<File>),
    Folder { dir: Dir, paths: Arc<Vec<String>>, open: Vec<(u32, File)> },
}

impl Store {
    /// The place of a single file. `free` bytes are asked for at once.
    pub(super) fn file(place: Workplace, name: &SafeName, space: Space, root: Root) -> Result<Self, DownloadError> {
        let data = place.file("data")?.into_std();
        Self::new(place, name, space, root, Files::One(Arc::new(data)))
    }

    /// If the last group is there from before, so much it is.
    pub(super) fn resume_size(&self) -> Result<(), DownloadError> {
        let last = self.space.groups().saturating_sub(1);
        match &self.files {
            Files::One(data) if self.have().contains(&(last..last + 1)) => self.settle_size(data),
            _ => Ok(()),
        }
    }

    /// The last group was checked: so much it is, and no more. Until then the size is what somebody says, and nothing is done for it.
    fn settle_size(&self, data: &File) -> Result<(), DownloadError> {
        let (needed, free, found) = (self.space.size(), self.place.free()?, data.metadata()?);
        if needed.saturating_sub(found.blocks().saturating_mul(512)) > free {
            return Err(DownloadError::Full { needed, free });
        }
        // What lies behind it is of another time. Longer it gets by being written.
        if found.len() > needed { Ok(data.set_len(needed)?) } else { Ok(()) }
    }

    /// The place of a folder.
    pub(super) fn folder(
        place: Workplace,
        name: &SafeName,
        manifest: Manifest,
        bytes: Vec<u8>,
        root: Root,
    ) -> Result<Self, DownloadError> {
        let space = manifest.space().map_err(io::Error::other)?;
        // Each takes a block, or as good as one, whatever is in it; those that stand there from before have theirs.
        let made = if place.dir.exists("files") { 0 } else { manifest.entries().len() + manifest.folders() };
        let needed = space.size().saturating_add(BLOCK.saturating_mul(made as u64));
        let place = with_room(place, needed, |claimed| claimed.count().saturating_mul(GROUP), root, &space)?;
        write_beside(&place, "manifest", &[&bytes])?;
        // Both are large for a large folder.
        drop(bytes);
        let dir = make_folder(&place.dir, "files")?;
        let mut made = "";
        for entry in manifest.entries() {
            let folder = entry.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            if folder != made && !folder.is_empty() {
                make_folders(&dir, folder)?;
            }
            made = folder;
        }
        let paths = Arc::new(manifest.into_paths());
        Self::new(place, name, space, root, Files::Folder { dir, paths, open: Vec::new() })
    }

    fn new(place: Workplace, name: &SafeName, space: Space, root: Root, files: Files) -> Result<Self, DownloadError> {
        let tree = Arc::new(place.file("tree")?.into_std());
        let first_item = u32::from(matches!(files, Files::Folder { .. }));
        let mut pairs = Vec::new();
        let mut next = 0;
        for item in first_item.. {
            let Some(span) = space.item(item) else { break };
            pairs.push(next);
            next += span.geometry.outboard_size() / PAIR as u64;
        }
        let have = Partial::new(name.as_str(), root, space.size(), space.groups());
        let (space, pairs) = (Arc::new(space), Arc::new(pairs));
        Ok(Self { place, root, space, files, tree, pairs, first_item, have, unchecked: RangeSet::new(), unsaved: 0 })
    }

    /// The numbering of its groups.
    pub(super) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// The groups that are there.
    pub(super) fn have(&self) -> &RangeSet {
        self.have.verified()
    }

    /// Whether nothing is there, nor may be.
    pub(super) fn is_empty(&self) -> bool {
        self.have().is_empty() && self.unchecked.is_empty()
    }

    /// Its items: one, or the files of the folder.
    pub(super) fn items(&self) -> Range<u32> {
        let count = u32::try_from(self.pairs.len()).unwrap_or(u32::MAX);
        self.first_item..self.first_item.saturating_add(count)
    }

    /// How many there are.
    pub(super) fn entries(&self) -> u64 {
        self.pairs.len() as u64
    }

    /// The beginning of an item, whether it is there yet or not.
    pub(super) fn head(&mut self, item: u32) -> io::Result<Vec<u8>> {
        let span = self.space.item(item).ok_or(io::ErrorKind::NotFound)?;
        match span.geometry.size() {
            // Nothing of it ever comes.
            0 => Ok(Vec::new()),
            size => super::rules::head_of(size, |head| self.read(item, 0, head)),
        }
    }

    /// The path of an item in the folder, if it is one.
    pub(super) fn path(&self, item: u32) -> Option<&str> {
        let Files::Folder { paths, .. } = &self.files else { return None };
        path_of(paths, item).ok()
    }

    /// What the members of a room may have of it; nothing if it cannot be opened once more.
    pub(super) fn part(&self, room: RoomId) -> Option<Arc<Part>> {
        let body = match &self.files {
            Files::One(data) => PartBody::File(Arc::clone(data)),
            Files::Folder { dir, paths, .. } => {
                let mut manifest = Vec::new();
                self.place.dir.open("manifest").ok()?.read_to_end(&mut manifest).ok()?;
                let outboard = tree_of(&manifest).ok()?.outboard;
                PartBody::Folder(PartFolder {
                    dir: dir.try_clone().ok()?,
                    manifest: Arc::new(manifest),
                    outboard,
                    space: Arc::clone(&self.space),
                    paths: Arc::clone(paths),
                    pairs: Arc::clone(&self.pairs),
                })
            }
        };
        Some(Arc::new(Part::new(&self.have, room, body, Arc::clone(&self.tree))))
    }

    /// Takes over what was left from before, as far as it is what it should be. `watch` is told bytes that were read
    /// and bytes in all, and says whether to go on.
    pub(super) fn resume(&mut self, watch: &mut dyn FnMut(u64, u64) -> bool) -> io::Result<()> {
        let claimed = claimed(&self.place, &self.root, &self.space)?;
        self.unchecked = claimed.clone();
        let total = claimed.iter().map(|range| self.space.bytes(&range)).sum();
        let (mut read, mut buffer) = (0, Vec::new());
        for range in claimed.iter() {
            let spans: Vec<Span> = self.space.spans(range).collect();
            for span in spans {
                let mut at = span.groups.start;
                while at < span.groups.end {
                    let end = (at / RUN_GROUPS * RUN_GROUPS + RUN_GROUPS).min(span.groups.end);
                    read += self.believe(&span, at..end, &mut buffer);
                    at = end;
                    if !watch(read, total) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks groups of an item that may be there; returns their bytes.
    fn believe(&mut self, span: &Span, groups: Range<u64>, buffer: &mut Vec<u8>) -> u64 {
        let bytes = span.geometry.bytes(&groups);
        let len = usize::try_from(bytes.end - bytes.start).unwrap_or(0);
        buffer.resize(len, 0);
        let read = self.read(span.item, bytes.start, buffer);
        let base = self.space.base(span.item).unwrap_or(0);
        let place = base + groups.start..base + groups.end;
        match read.and_then(|()| self.fits(span, groups.clone(), buffer)) {
            Ok(true) => {
                self.have.mark(place.clone());
                self.unchecked.remove(place);
            }
            _ if groups.end - groups.start > 1 => {
                for group in groups {
                    self.believe(span, group..group + 1, buffer);
                }
            }
            Ok(false) => drop(self.unchecked.remove(place)),
            // Less is there than was claimed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => drop(self.unchecked.remove(place)),
            Err(error) => tracing::warn!("a part of an unfinished download cannot be checked now: {error}"),
        }
        len as u64
    }

    /// Whether the bytes of these groups are right; the parents above them are from then on, too, as others may get them.
    fn fits(&self, span: &Span, groups: Range<u64>, bytes: &[u8]) -> io::Result<bool> {
        let first = self.first_pair(span.item).unwrap_or(0);
        let mut parents = Parents { tree: &self.tree, first };
        let made = match check(&span.geometry, &span.root, &mut parents, groups, bytes) {
            Ok(made) => made,
            Err(CheckError::Source(error)) => return Err(error),
            Err(CheckError::Tree | CheckError::Group(_)) => return Ok(false),
        };
        for (slot, pair) in made {
            // The bytes may have survived a crash that the parents did not.
            if !parents.read_pair(slot).is_ok_and(|found| found == pair) {
                self.tree.write_all_at(&pair, (first + slot) * PAIR as u64)?;
            }
        }
        Ok(true)
    }

    /// Keeps a parent that was checked.
    pub(super) fn write_pair(&mut self, item: u32, slot: u64, pair: &Pair) -> io::Result<()> {
        let first = self.first_pair(item).ok_or(io::ErrorKind::NotFound)?;
        self.tree.write_all_at(pair, (first + slot) * PAIR as u64)
    }

    /// Writes a group of an item that was checked, as its parents were; returns its number in the space.
    pub(super) fn write(&mut self, item: u32, group: u64, bytes: &[u8]) -> Result<u64, DownloadError> {
        let span = self.space.item(item).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        if let Files::One(data) = &self.files
            && group + 1 == span.geometry.groups()
        {
            self.settle_size(data)?;
        }
        let offset = span.geometry.bytes(&(group..group + 1)).start;
        self.write_at(item, offset, bytes, span.geometry.groups() == 1)?;
        let at = self.space.base(item).unwrap_or(0) + group;
        self.unsaved += self.have.mark(at..at + 1);
        Ok(at)
    }

    /// Whether everything is there.
    pub(super) fn is_whole(&self) -> bool {
        self.have.is_complete()
    }

    /// How its files look.
    pub(super) fn stamps(&self) -> io::Result<Vec<Stamp>> {
        match &self.files {
            Files::One(data) => Ok(vec![Stamp::of_std(&data.metadata()?)]),
            Files::Folder { dir, paths, .. } => {
                paths.iter().map(|path| Ok(Stamp::of(&dir.symlink_metadata(path)?))).collect()
            }
        }
    }

    /// Keeps what is there on disk, and gives it its name; returns its path.
    pub(super) fn finish(mut self, name: &SafeName) -> Result<PathBuf, DownloadError> {
        let from = match &mut self.files {
            Files::One(data) => {
                data.sync_all()?;
                "data"
            }
            Files::Folder { dir, open, .. } => {
                open.clear();
                // One for all: a sync of each small file would take longer than to fetch it.
                rustix::fs::syncfs(&*dir).map_err(io::Error::from)?;
                "files"
            }
        };
        self.place.settle(from, name)
    }

    /// Writes down which groups are there, unless that stands there already.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.unsaved > 0 {
            let mut claimed = self.have.clone();
            for range in self.unchecked.iter() {
                claimed.mark(range);
            }
            write_beside(&self.place, "state", &[&claimed.encode()])?;
            self.unsaved = 0;
        }
        Ok(())
    }

    /// Removes everything.
    pub(super) fn remove(self) -> io::Result<()> {
        self.place.remove()
    }

    fn first_pair(&self, item: u32) -> Option<u64> {
        let at = usize::try_from(item.checked_sub(self.first_item)?).ok()?;
        self.pairs.get(at).copied()
    }

    fn read(&mut self, item: u32, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match &mut self.files {
            Files::One(data) => data.read_exact_at(bytes, offset),
            Files::Folder { .. } => self.open(item)?.read_exact_at(bytes, offset),
        }
    }

    fn write_at(&mut self, item: u32, offset: u64, bytes: &[u8], whole: bool) -> io::Result<()> {
        match &mut self.files {
            Files::One(data) => data.write_all_at(bytes, offset),
            Files::Folder { dir, paths, .. } if whole => {
                // A small file, or the whole of one: opened, written and closed.
                open_in(dir, path_of(paths, item)?)?.write_all_at(bytes, offset)
            }
            Files::Folder { .. } => self.open(item)?.write_all_at(bytes, offset),
        }
    }

    /// A file of the folder.
    fn open(&mut self, item: u32) -> io::Result<&File> {
        let Files::Folder { dir, paths, open } = &mut self.files else { return Err(io::ErrorKind::NotFound.into()) };
        if !open.iter().any(|(known, _)| *known == item) {
            if open.len() >= OPEN_MAX {
                open.remove(0);
            }
            open.push((item, open_in(dir, path_of(paths, item)?)?));
        }
        let found = open.iter().find(|(known, _)| *known == item);
        found.map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// What the state says is there.
fn claimed(place: &Workplace, root: &Root, space: &Space) -> io::Result<RangeSet> {
    let state = place.state()?.filter(|partial| partial.is_of(root, space.size(), space.groups()));
    Ok(state.map(|partial| partial.verified().clone()).unwrap_or_default())
}

/// Sees that what is needed fits, beside what is there from before: `allocated` bytes, given what the state claims. If it
/// does not and nothing is claimed, nothing stays.
fn with_room(
    place: Workplace,
    needed: u64,
    allocated: impl FnOnce(&RangeSet) -> u64,
    root: Root,
    space: &Space,
) -> Result<Workplace, DownloadError> {
    let claimed = claimed(&place, &root, space)?;
    let free = place.free()?;
    if needed.saturating_sub(allocated(&claimed)) <= free {
        return Ok(place);
    }
    if claimed.is_empty() {
        place.remove()?;
    }
    Err(DownloadError::Full { needed, free })
}

/// The parents of one item.
struct Parents<'t> {
    tree: &'t File,
    first: u64,
}

impl PairSource for Parents<'_> {
    type Error = io::Error;

    fn read_pair(&mut self, slot: u64) -> io::Result<Pair> {
        let mut pair = [0; PAIR];
        self.tree.read_exact_at(&mut pair, (self.first + slot) * PAIR as u64)?;
        Ok(pair)
    }
}

fn path_of(paths: &[String], item: u32) -> io::Result<&str> {
    let at = item.checked_sub(1).and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| paths.get(at)).map(String::as_str).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// A file beneath a folder of ours, as it was left or new; never through a link at its end, never outside.
fn open_in(dir: &Dir, path: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(no_follow);
    Ok(dir.open_with(path, &options)?.into_std())
}

fn make_folder(dir: &Dir, name: &str) -> io::Result<Dir> {
    match rustix::fs::mkdirat(dir, name, rustix::fs::Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => super::walk::open_dir(dir, name),
        Err(error) => Err(error.into()),
    }
}

fn make_folders(dir: &Dir, path: &str) -> io::Result<()> {
    let mut deepest: Option<Dir> = None;
    for name in path.split('/') {
        deepest = Some(make_folder(deepest.as_ref().unwrap_or(dir), name)?);
    }
    Ok(())
}

/// Writes beside, then renames: after a crash the old or the new one stands there, whole.
fn write_beside(place: &Workplace, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let beside = format!("{name}.new");
    let mut file = place.file(&beside)?;
    file.set_len(0)?;
    for part in parts {
        file.write_all(part)?;
    }
    place.dir.rename(&beside, &place.dir, name)
}

/// What a file or a folder takes on common file systems beside its bytes.
const BLOCK: u64 = 4096;
/// Large files of a folder that are open at once.
const OPEN_MAX: usize = 16;

#[cfg(test)]
mod tests;
