//! The BLAKE3 tree over a file's 64 KiB groups: its shape, how it is made while a file streams by, and how a run of
//! groups is checked against it. A file's root is its plain BLAKE3 hash.
//!
//! The *outboard* holds the tree's parents, 64 bytes each (the two children's chaining values), in post-order: hashing a
//! file writes it from its beginning to its end. Shape and numbering are those of `bao-tree`.

use std::ops::Range;

use bao_tree::iter::{BaoChunk, ResponseIter};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges, TreeNode};
use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use thiserror::Error;

use crate::limits::FILE_SIZE_MAX;

/// Bytes of a group: what is checked, asked for and kept as one.
pub const GROUP: u64 = 1 << 16;
/// Groups that are read and hashed at once where they lie together on a disk.
pub const RUN_GROUPS: u64 = 16;
/// Bytes of a parent in the outboard.
pub const PAIR: usize = 64;

/// The BLAKE3 hash of a whole file.
pub type Root = [u8; 32];
/// A parent: the chaining values of its left and its right child.
pub type Pair = [u8; PAIR];

/// The shape of the tree over a file of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    tree: BaoTree,
}

/// A file of this size cannot be transferred: above [`FILE_SIZE_MAX`], or more than this machine can address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("files of {0} bytes are too large")]
pub struct TooLarge(pub u64);

impl Geometry {
    /// The tree over `size` bytes.
    pub fn new(size: u64) -> Result<Self, TooLarge> {
        if size > FILE_SIZE_MAX || usize::try_from(size).is_err() {
            return Err(TooLarge(size));
        }
        Ok(Self { tree: BaoTree::new(size, BlockSize::from_chunk_log(GROUP_CHUNKS_LOG)) })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Groups of the file, at least 1: an empty file has one that is empty.
    pub fn groups(&self) -> u64 {
        self.tree.blocks()
    }

    /// Bytes of the outboard.
    pub fn outboard_size(&self) -> u64 {
        self.tree.outboard_size()
    }

    /// The bytes of the file that `groups` are; the last group of a file may be short.
    pub fn bytes(&self, groups: &Range<u64>) -> Range<u64> {
        let end = groups.end.saturating_mul(GROUP).min(self.size());
        groups.start.saturating_mul(GROUP).min(end)..end
    }

    /// The encoding of `groups`, one piece after another, empty when they are not all in the file.
    pub fn layout(&self, groups: Range<u64>) -> Layout {
        let sound = !groups.is_empty() && groups.end <= self.groups();
        let last = groups.end == self.groups();
        let (start, end) = (ChunkNum(groups.start << GROUP_CHUNKS_LOG), ChunkNum(groups.end << GROUP_CHUNKS_LOG));
        let chunks = match (sound, last) {
            (false, _) => ChunkRanges::empty(),
            // Open, so that a short last group is not split into its chunks.
            (true, true) => ChunkRanges::from(start..),
            (true, false) => ChunkRanges::from(start..end),
        };
        Layout { tree: self.tree, iter: ResponseIter::new(self.tree, chunks) }
    }
}

/// The encoding of a range of groups, in the order in which it travels: parents before their children.
#[derive(Debug)]
pub struct Layout {
    tree: BaoTree,
    iter: ResponseIter,
}

/// One piece of an encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A parent of 64 bytes.
    Parent {
        /// Its place in the outboard, counted in parents.
        slot: u64,
        /// The groups beneath it, whether wanted or not.
        groups: Range<u64>,
        /// Whether pieces beneath its left child follow.
        left: bool,
        /// Whether pieces beneath its right child follow.
        right: bool,
    },
    /// A group's bytes.
    Group {
        /// Its number.
        group: u64,
        /// Its bytes, at most [`GROUP`].
        len: usize,
    },
}

impl Iterator for Layout {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        Some(match self.iter.next()? {
            BaoChunk::Parent { node, left, right, .. } => Step::Parent {
                slot: self.tree.post_order_offset(node)?.value(),
                groups: groups_of(node, self.tree.blocks()),
                left,
                right,
            },
            BaoChunk::Leaf { start_chunk, size, .. } => {
                Step::Group { group: start_chunk.0 >> GROUP_CHUNKS_LOG, len: size }
            }
        })
    }
}

fn groups_of(node: TreeNode, groups: u64) -> Range<u64> {
    let chunks = node.chunk_range();
    (chunks.start.0 >> GROUP_CHUNKS_LOG)..(chunks.end.0 >> GROUP_CHUNKS_LOG).min(groups)
}

/// Where a file's parents go.
pub trait PairSink {
    /// Why a parent could not be kept.
    type Error;
    /// Keeps the parent at place `slot`, counted in parents.
    fn put(&mut self, slot: u64, pair: &Pair) -> Result<(), Self::Error>;
}

/// Where a file's parents come from.
pub trait PairSource {
    /// Why a parent could not be read.
    type Error;
    /// The parent at place `slot`, counted in parents.
    fn read_pair(&mut self, slot: u64) -> Result<Pair, Self::Error>;
}

/// Hashes a file of known size that streams by, and makes its outboard. Takes a few KiB of memory.
#[derive(Debug)]
pub struct TreeHasher {
    geometry: Geometry,
    // Bytes taken.
    at: u64,
    group: Hasher,
    // Subtrees that wait for their right sibling, the largest first; as many as the count of whole groups has ones.
    waiting: Vec<Root>,
    slot: u64,
}

/// Why a file's tree could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HashError<E> {
    /// The file has more or fewer bytes than it was said to have.
    #[error("the file's size is not {0} bytes")]
    Size(u64),
    /// A parent could not be kept.
    #[error("the hash tree could not be kept")]
    Sink(E),
}

impl TreeHasher {
    /// Begins a file.
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry, at: 0, group: Hasher::new(), waiting: Vec::new(), slot: 0 }
    }

    /// Takes the next bytes. Fastest in pieces of whole groups.
    pub fn push<S: PairSink>(&mut self, mut bytes: &[u8], out: &mut S) -> Result<(), HashError<S::Error>> {
        let size = self.geometry.size();
        while !bytes.is_empty() {
            let room = (GROUP - self.at % GROUP).min(size - self.at);
            let now = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (part, rest) = bytes.split_at_checked(now).filter(|_| now > 0).ok_or(HashError::Size(size))?;
            self.group.update(part);
            self.at += part.len() as u64;
            bytes = rest;
            if self.at.is_multiple_of(GROUP) && self.at < size {
                let value = self.group.finalize_non_root();
                self.close(value, out)?;
                self.group = Hasher::new();
                self.group.set_input_offset(self.at);
            }
        }
        Ok(())
    }

    /// The root, once every byte has come.
    pub fn finish<S: PairSink>(mut self, out: &mut S) -> Result<Root, HashError<S::Error>> {
        let size = self.geometry.size();
        if self.at != size {
            return Err(HashError::Size(size));
        }
        if self.geometry.groups() == 1 {
            return Ok(*self.group.finalize().as_bytes());
        }
        let mut right = self.group.finalize_non_root();
        while let Some(left) = self.waiting.pop() {
            self.put(&left, &right, out)?;
            right = merge(&left, &right, self.waiting.is_empty());
        }
        Ok(right)
    }

    /// A whole group that is not the last: it and its finished ancestors.
    fn close<S: PairSink>(&mut self, value: Root, out: &mut S) -> Result<(), HashError<S::Error>> {
        let mut value = value;
        for _ in 0..(self.at / GROUP).trailing_zeros() {
            let Some(left) = self.waiting.pop() else { break };
            self.put(&left, &value, out)?;
            value = merge(&left, &value, false);
        }
        self.waiting.push(value);
        Ok(())
    }

    fn put<S: PairSink>(&mut self, left: &Root, right: &Root, out: &mut S) -> Result<(), HashError<S::Error>> {
        out.put(self.slot, &join(left, right)).map_err(HashError::Sink)?;
        self.slot += 1;
        Ok(())
    }
}

/// The two children's chaining values.
pub(super) fn split(pair: &Pair) -> (Root, Root) {
    let (mut left, mut right) = ([0; 32], [0; 32]);
    let (first, second) = pair.split_at(32);
    left.copy_from_slice(first);
    right.copy_from_slice(second);
    (left, right)
}

fn join(left: &Root, right: &Root) -> Pair {
    let mut pair = [0; PAIR];
    let (first, second) = pair.split_at_mut(32);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    pair
}

/// The value of a parent.
pub(super) fn merge(left: &Root, right: &Root, is_root: bool) -> Root {
    if is_root {
        *merge_subtrees_root(left, right, Mode::Hash).as_bytes()
    } else {
        merge_subtrees_non_root(left, right, Mode::Hash)
    }
}

/// The value of the subtree over `bytes`, which are the groups from `first` on: one whole subtree of the file's tree, or
/// the file itself if `is_root`. Adds its parents to `made`, in the order of their places.
fn grow(first: u64, bytes: &[u8], is_root: bool, made: &mut Vec<Pair>) -> Root {
    let groups = bytes.len().div_ceil(GROUP_LEN);
    // The left side is the largest power of two below the count.
    let left = groups.next_power_of_two() / 2;
    match bytes.split_at_checked(left * GROUP_LEN) {
        Some((before, after)) if groups > 1 => {
            let (a, b) = (grow(first, before, false, made), grow(first + left as u64, after, false, made));
            made.push(join(&a, &b));
            merge(&a, &b, is_root)
        }
        _ => subtree(first, bytes, is_root),
    }
}

/// The value of the subtree over `bytes`, as [`grow`] has it, without its parents.
pub(super) fn subtree(first: u64, bytes: &[u8], is_root: bool) -> Root {
    if is_root {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(first.saturating_mul(GROUP));
    hasher.update(bytes).finalize_non_root()
}

/// Why groups on disk are not those of a root.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckError<E> {
    /// A parent could not be read.
    #[error("the hash tree could not be read")]
    Source(E),
    /// A parent is not of this root.
    #[error("the hash tree does not fit the root")]
    Tree,
    /// The bytes of this group, or of one soon after it, are wrong, too many or too few.
    #[error("group {0} does not fit the root")]
    Group(u64),
}

/// Checks `bytes`, which are `groups` of the file, against its root through the outboard. Of whole subtrees of at most
/// [`RUN_GROUPS`] groups the parents are not read but made: returns these, each with its place. So every parent above one
/// of `groups` was checked or is returned.
pub fn check<S: PairSource>(
    geometry: &Geometry,
    root: &Root,
    pairs: &mut S,
    groups: Range<u64>,
    bytes: &[u8],
) -> Result<Vec<(u64, Pair)>, CheckError<S::Error>> {
    let span = geometry.bytes(&groups);
    if groups.is_empty() || groups.end > geometry.groups() || bytes.len() as u64 != span.end - span.start {
        return Err(CheckError::Group(groups.start));
    }
    let of = |part: &Range<u64>| {
        let at = geometry.bytes(part);
        let range = usize::try_from(at.start - span.start).ok()?..usize::try_from(at.end - span.start).ok()?;
        bytes.get(range)
    };
    let mut expected = vec![*root];
    let (mut made, mut beneath) = (Vec::new(), Vec::new());
    // Pieces beneath a subtree that was hashed as a whole are passed over.
    let mut done = groups.start;
    for step in geometry.layout(groups.clone()) {
        let (slot, node, left, right) = match step {
            Step::Parent { slot, groups, left, right } => (Some(slot), groups, left, right),
            Step::Group { group, .. } => (None, group..group + 1, false, false),
        };
        if node.start < done && node.end <= done {
            continue;
        }
        let value = expected.pop().ok_or(CheckError::Tree)?;
        let is_root = node == (0..geometry.groups());
        let whole = node.end - node.start <= RUN_GROUPS && groups.start <= node.start && node.end <= groups.end;
        if whole {
            let part = of(&node).ok_or(CheckError::Group(node.start))?;
            if grow(node.start, part, is_root, &mut beneath) != value {
                return Err(CheckError::Group(node.start));
            }
            // In post-order those beneath the subtree's own stand right before it.
            let first = slot.map(|slot| slot + 1 - beneath.len() as u64);
            made.extend(first.into_iter().flat_map(|first| first..).zip(beneath.drain(..)));
            done = node.end;
            continue;
        }
        let pair = pairs.read_pair(slot.ok_or(CheckError::Tree)?).map_err(CheckError::Source)?;
        let (a, b) = split(&pair);
        if merge(&a, &b, is_root) != value {
            return Err(CheckError::Tree);
        }
        expected.extend([right.then_some(b), left.then_some(a)].into_iter().flatten());
    }
    Ok(made)
}

/// A group's bytes in memory.
const GROUP_LEN: usize = GROUP as usize;
/// 64 chunks of 1 KiB.
const GROUP_CHUNKS_LOG: u8 = 6;

#[cfg(test)]
mod tests;
