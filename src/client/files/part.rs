//! The part of a file that is here while it comes, as others may have it from us.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transfer::partial::Partial;
use crate::transfer::ranges::RangeSet;
use crate::transfer::tree::Root;
use crate::wire::id::RoomId;

/// An unfinished file on disk: written by its download, read by uploads.
#[derive(Debug)]
pub(super) struct Part {
    /// What it will be called here.
    pub(super) name: String,
    pub(super) root: Root,
    /// Bytes of the whole file.
    pub(super) size: u64,
    pub(super) data: Arc<File>,
    /// Parents by place, as far as they are known.
    pub(super) tree: Arc<File>,
    /// Whose members may have it from us.
    pub(super) room: RoomId,
    // Groups that were checked and written, and whose parents were.
    have: Mutex<RangeSet>,
}

impl Part {
    pub(super) fn new(known: &Partial, room: RoomId, data: Arc<File>, tree: Arc<File>) -> Self {
        let (name, root, size) = (known.name().to_owned(), *known.root(), known.size());
        Self { name, root, size, data, tree, room, have: Mutex::new(known.verified().clone()) }
    }

    /// The groups that are here.
    pub(super) fn have(&self) -> RangeSet {
        self.lock().clone()
    }

    /// More has been written.
    pub(super) fn add(&self, groups: std::ops::Range<u64>) {
        self.lock().insert(groups);
    }

    fn lock(&self) -> MutexGuard<'_, RangeSet> {
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
