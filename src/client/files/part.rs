//! The part of a file or folder that is here while it comes, as others may have it from us.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cap_std::fs::Dir;

use super::stamp::Stamp;
use super::walk::open_beneath;
use crate::transfer::partial::Partial;
use crate::transfer::ranges::RangeSet;
use crate::transfer::space::Space;
use crate::transfer::tree::{Geometry, Root};
use crate::wire::id::RoomId;
use crate::wire::payload::FileKind;

/// An unfinished download on disk: written by its thread, read by uploads.
#[derive(Debug)]
pub(super) struct Part {
    /// What it will be called here.
    pub(super) name: String,
    pub(super) root: Root,
    /// Bytes of the whole file, or of all files of the folder.
    pub(super) size: u64,
    pub(super) body: PartBody,
    /// Parents by place, as far as they are known.
    pub(super) tree: Arc<File>,
    /// Whose members may have it from us.
    pub(super) room: RoomId,
    // Groups that were checked and written, and whose parents were.
    have: Mutex<RangeSet>,
    // How its files looked when it was whole: from then on they are the user's.
    settled: OnceLock<Vec<Stamp>>,
}

#[derive(Debug)]
pub(super) enum PartBody {
    File(Arc<File>),
    Folder(PartFolder),
}

/// A folder whose manifest is here whole.
#[derive(Debug)]
pub(super) struct PartFolder {
    pub(super) dir: Dir,
    /// What its files are, and the parents of that.
    pub(super) manifest: Arc<Vec<u8>>,
    pub(super) outboard: Arc<Vec<u8>>,
    pub(super) space: Arc<Space>,
    /// Of each file, its path, and the place of its first parent.
    pub(super) paths: Arc<Vec<String>>,
    pub(super) pairs: Arc<Vec<u64>>,
}

impl Part {
    pub(super) fn new(known: &Partial, room: RoomId, body: PartBody, tree: Arc<File>) -> Self {
        let (name, root, size) = (known.name().to_owned(), *known.root(), known.size());
        Self {
            name,
            root,
            size,
            body,
            tree,
            room,
            have: Mutex::new(known.verified().clone()),
            settled: OnceLock::new(),
        }
    }

    pub(super) fn kind(&self) -> FileKind {
        match self.body {
            PartBody::File(_) => FileKind::File,
            PartBody::Folder(_) => FileKind::Folder,
        }
    }

    /// The groups that are here.
    pub(super) fn have(&self) -> RangeSet {
        self.lock().clone()
    }

    /// Whether all of these groups are here.
    pub(super) fn has(&self, groups: &Range<u64>) -> bool {
        self.lock().contains(groups)
    }

    /// More has been written.
    pub(super) fn add(&self, groups: Range<u64>) {
        self.lock().insert(groups);
    }

    /// It is whole and gets its name: whatever differs from these is not what was fetched.
    pub(super) fn settle(&self, stamps: Vec<Stamp>) {
        let _ = self.settled.set(stamps);
    }

    /// Whether this file of it, opened, is still what was fetched.
    pub(super) fn is_unchanged(&self, item: u32, file: &File) -> bool {
        let Some(stamps) = self.settled.get() else { return true };
        let at = match self.body {
            PartBody::File(_) => Some(item),
            PartBody::Folder(_) => item.checked_sub(1),
        };
        let stamp = at.and_then(|at| usize::try_from(at).ok()).and_then(|at| stamps.get(at));
        stamp.is_some_and(|stamp| file.metadata().is_ok_and(|metadata| Stamp::of_std(&metadata) == *stamp))
    }

    /// Of a folder, the path of a file.
    pub(super) fn path(&self, item: u32) -> Option<&str> {
        match &self.body {
            PartBody::File(_) => None,
            PartBody::Folder(folder) => folder.file(item).map(|(path, _)| path),
        }
    }

    /// The groups of all of it.
    pub(super) fn groups(&self) -> u64 {
        match &self.body {
            PartBody::File(_) => Geometry::new(self.size).map_or(0, |geometry| geometry.groups()),
            PartBody::Folder(folder) => folder.space.groups(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, RangeSet> {
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartFolder {
    /// The shape of a file, by its item.
    pub(super) fn geometry(&self, item: u32) -> Option<Geometry> {
        self.space.item(item).map(|span| span.geometry)
    }

    /// Opens a file, of which something must be here; and the place of its first parent.
    pub(super) fn open(&self, item: u32) -> io::Result<(File, u64)> {
        let (path, first) = self.file(item).ok_or(io::ErrorKind::NotFound)?;
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        Ok((open_beneath(&self.dir, &path)?.into_std(), first))
    }

    /// The path of a file, and the place of its first parent.
    fn file(&self, item: u32) -> Option<(&str, u64)> {
        let at = usize::try_from(item.checked_sub(1)?).ok()?;
        Some((self.paths.get(at)?, *self.pairs.get(at)?))
    }
}
