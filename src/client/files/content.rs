//! What a holder has opened to send: a file, a folder, or the part of a file that it has itself so far.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use cap_std::fs::Dir;

use super::hashing::{HashError, Tree, Trees, Watch, tree_of};
use super::part::{Part, PartBody};
use super::stamp::Stamp;
use super::walk::{open_beneath, walk};
use crate::client::effects::Skipped;
use crate::limits::MANIFEST_FILES;
use crate::transfer::manifest::{Entry, Manifest};
use crate::transfer::tree::{Geometry, PAIR, Pair, Root};
use crate::wire::payload::FileKind;

/// Everything that may be asked for in one transfer.
#[derive(Debug)]
pub(super) struct Content {
    /// BLAKE3 of the file, or of the folder's manifest.
    pub(super) root: Root,
    /// Bytes of the file, or of the manifest.
    pub(super) size: u64,
    /// Bytes of all files.
    pub(super) total: u64,
    /// Files: 1, or those in the folder.
    pub(super) entries: u64,
    /// What else is in the folder.
    pub(super) skipped: Skipped,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    File(Opened),
    Folder(Folder),
    Part(Arc<Part>),
}

/// An opened file that still has to look as it did.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    file: Arc<File>,
    stamp: Stamp,
    outboard: Arc<Vec<u8>>,
}

/// A folder whose files are opened when they are asked for.
#[derive(Debug)]
pub(super) struct Folder {
    dir: Dir,
    manifest: Arc<Vec<u8>>,
    outboard: Arc<Vec<u8>>,
    files: Vec<(Vec<String>, Stamp, Geometry)>,
    trees: Arc<Trees>,
}

/// An item that was opened, and what the disk has read for its tree, bytes.
pub(super) type Costly = (Reader, u64);

impl Content {
    /// A file, hashed if it has to be.
    pub(super) fn of_file(file: File, stamp: Stamp, trees: &Trees, watch: Watch<'_>) -> Result<Self, HashError> {
        let Tree { root, outboard } = trees.of(&file, stamp, watch)?;
        let body = Body::File(Opened { file: Arc::new(file), stamp, outboard });
        Ok(Self { root, size: stamp.size, total: stamp.size, entries: 1, skipped: Skipped::default(), body })
    }

    /// All files of a folder, hashed if they have to be.
    pub(super) fn of_folder(
        dir: Dir,
        trees: &Arc<Trees>,
        watch: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Self, HashError> {
        let found = walk(&dir, MANIFEST_FILES, &|name| Entry::new([name], 0, [0; 32]).is_ok())?;
        if found.too_many {
            return Err(HashError::Unfit("it holds too many files".into()));
        }
        if found.files.is_empty() {
            return Err(HashError::Empty);
        }
        let total: u64 = found.files.iter().map(|(_, stamp)| stamp.size).sum();
        let (mut entries, mut files) = (Vec::new(), Vec::new());
        for (path, stamp) in found.files {
            let root = match trees.root(stamp) {
                Some(root) => root,
                None => {
                    let file = open_beneath(&dir, &path)?.into_std();
                    trees.of(&file, stamp, &mut |bytes| watch(bytes, total))?.root
                }
            };
            let entry = Entry::new(path.iter().map(String::as_str), stamp.size, root);
            entries.push(entry.map_err(|error| HashError::Unfit(error.to_string()))?);
            files.push((path, stamp, Geometry::new(stamp.size)?));
        }
        let manifest = Manifest::new(entries).map_err(|error| HashError::Unfit(error.to_string()))?.encode();
        let Tree { root, outboard } = tree_of(&manifest)?;
        let (size, entries) = (manifest.len() as u64, files.len() as u64);
        let body =
            Body::Folder(Folder { dir, manifest: Arc::new(manifest), outboard, files, trees: Arc::clone(trees) });
        Ok(Self { root, size, total, entries, skipped: found.skipped, body })
    }

    /// What we have so far of what we are fetching ourselves.
    pub(super) fn of_part(part: Arc<Part>) -> Self {
        let (root, total, skipped) = (part.root, part.size, Skipped::default());
        let (size, entries) = match &part.body {
            PartBody::File(_) => (total, 1),
            PartBody::Folder(folder) => (folder.manifest.len() as u64, folder.paths.len() as u64),
        };
        Self { root, size, total, entries, skipped, body: Body::Part(part) }
    }

    /// Bytes of all items: of the files, and of a folder's list of them.
    pub(super) fn all_items(&self) -> u64 {
        match self.kind() {
            FileKind::File => self.total,
            FileKind::Folder => self.total.saturating_add(self.size),
        }
    }

    pub(super) fn is_part(&self) -> bool {
        matches!(self.body, Body::Part(_))
    }

    pub(super) fn kind(&self) -> FileKind {
        match &self.body {
            Body::File(_) => FileKind::File,
            Body::Folder(_) => FileKind::Folder,
            Body::Part(part) => part.kind(),
        }
    }

    /// The shape of an item.
    pub(super) fn geometry(&self, item: u32) -> Option<Geometry> {
        match &self.body {
            Body::Folder(folder) if item > 0 => folder.entry(item).map(|(.., geometry)| *geometry),
            Body::Part(part) if item > 0 => match &part.body {
                PartBody::File(_) => None,
                PartBody::Folder(folder) => folder.geometry(item),
            },
            _ if item == 0 => Geometry::new(self.size).ok(),
            _ => None,
        }
    }

    /// Of a part, the number that an item's first group has among those that are here; `None` for what is here whole.
    pub(super) fn base(&self, item: u32) -> Option<u64> {
        let Body::Part(part) = &self.body else { return None };
        match &part.body {
            PartBody::File(_) => Some(0),
            PartBody::Folder(folder) => folder.space.base(item),
        }
    }

    /// Whether an item looks as it did when it was hashed.
    pub(super) fn is_unchanged(&self, item: u32) -> bool {
        match &self.body {
            Body::File(opened) => opened.is_unchanged(),
            Body::Folder(folder) if item > 0 => folder.is_unchanged(item),
            Body::Folder(_) | Body::Part(_) => true,
        }
    }

    /// Why an item cannot be sent: the stable word, and for people.
    pub(super) fn failure(&self, item: u32) -> (&'static str, String) {
        let what = match &self.body {
            Body::Folder(folder) => {
                folder.entry(item).map(|(path, ..)| format!("\"{}\" in the folder", path.join("/")))
            }
            Body::Part(part) => part.path(item).map(|path| format!("\"{path}\" in the folder")),
            Body::File(_) => None,
        };
        let what = what.unwrap_or_else(|| "the file".into());
        if self.is_unchanged(item) {
            ("disk", format!("{what} cannot be read"))
        } else {
            ("changed", format!("{what} was changed, or is gone"))
        }
    }

    /// Opens an item to read its bytes from, without its tree.
    pub(super) fn open_plain(&self, item: u32) -> io::Result<Reader> {
        match &self.body {
            Body::Folder(folder) if item > 0 => folder.open_plain(item).map(Reader::File),
            _ => self.open_simple(item),
        }
    }

    /// Opens an item to read from, if that takes no longer than to read a group of it; `None` if it does.
    pub(super) fn open_quickly(&self, item: u32) -> io::Result<Option<Costly>> {
        match &self.body {
            Body::Folder(folder) if item > 0 => folder.open_quickly(item),
            _ => self.open_simple(item).map(|reader| Some((reader, 0))),
        }
    }

    /// The same for as long as it takes to read a tree that was kept; `None` if the item has to be hashed.
    pub(super) fn open_known(&self, item: u32) -> io::Result<Option<Costly>> {
        match &self.body {
            Body::Folder(folder) if item > 0 => folder.open_known(item),
            _ => self.open_quickly(item),
        }
    }

    /// The same for as long as it takes, hashed if it has to be.
    pub(super) fn open_hashed(&self, item: u32, watch: Watch<'_>) -> io::Result<Costly> {
        match &self.body {
            Body::Folder(folder) if item > 0 => folder.open_hashed(item, watch),
            _ => self.open_simple(item).map(|reader| (reader, 0)),
        }
    }

    /// Opens what has its parents in memory, or beside it.
    fn open_simple(&self, item: u32) -> io::Result<Reader> {
        match &self.body {
            Body::File(opened) => Ok(Reader::File(opened.clone())),
            Body::Part(part) => match &part.body {
                PartBody::File(data) => Ok(Reader::Part(Arc::clone(part), item, Arc::clone(data), 0)),
                PartBody::Folder(folder) if item == 0 => {
                    Ok(Reader::Memory(Arc::clone(&folder.manifest), Arc::clone(&folder.outboard)))
                }
                PartBody::Folder(folder) => {
                    let (data, first) = folder.open(item)?;
                    Ok(Reader::Part(Arc::clone(part), item, Arc::new(data), first))
                }
            },
            Body::Folder(folder) if item == 0 => {
                Ok(Reader::Memory(Arc::clone(&folder.manifest), Arc::clone(&folder.outboard)))
            }
            Body::Folder(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Folder {
    fn entry(&self, item: u32) -> Option<&(Vec<String>, Stamp, Geometry)> {
        self.files.get(usize::try_from(item).ok()?.checked_sub(1)?)
    }

    fn is_unchanged(&self, item: u32) -> bool {
        self.entry(item).is_some_and(|(path, stamp, _)| {
            let found = self.dir.symlink_metadata(path.join("/"));
            found.is_ok_and(|metadata| Stamp::of(&metadata) == *stamp)
        })
    }

    /// The encoded list of its files.
    pub(super) fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    fn open_plain(&self, item: u32) -> io::Result<Opened> {
        let (path, stamp, _) = self.entry(item).ok_or(io::ErrorKind::NotFound)?;
        let file = open_beneath(&self.dir, path)?.into_std();
        Ok(Opened { file: Arc::new(file), stamp: *stamp, outboard: Arc::default() })
    }

    fn open_quickly(&self, item: u32) -> io::Result<Option<Costly>> {
        let (_, _, geometry) = self.entry(item).ok_or(io::ErrorKind::NotFound)?;
        match geometry.outboard_size() {
            0 => Ok(Some((Reader::File(self.open_plain(item)?), 0))),
            1..=QUICK_TREE => self.open_known(item),
            _ => Ok(None),
        }
    }

    fn open_known(&self, item: u32) -> io::Result<Option<Costly>> {
        let opened = self.open_plain(item)?;
        let Some(Tree { outboard, .. }) = self.trees.known(opened.stamp) else { return Ok(None) };
        let read = outboard.len() as u64;
        Ok(Some((Reader::File(Opened { outboard, ..opened }), read)))
    }

    fn open_hashed(&self, item: u32, watch: Watch<'_>) -> io::Result<Costly> {
        let opened = self.open_plain(item)?;
        let mut read = 0;
        let tree = self.trees.of(&opened.file, opened.stamp, &mut |bytes| {
            read += bytes;
            watch(bytes)
        });
        let outboard = tree.map_err(io::Error::other)?.outboard;
        read += outboard.len() as u64;
        Ok((Reader::File(Opened { outboard, ..opened }), read))
    }
}

impl Opened {
    fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| Stamp::of_std(&metadata) == self.stamp)
    }
}

/// An item, opened.
#[derive(Debug)]
pub(super) enum Reader {
    File(Opened),
    // An item of it, its bytes, and where among parents its own begin.
    Part(Arc<Part>, u32, Arc<File>, u64),
    // Bytes and outboard.
    Memory(Arc<Vec<u8>>, Arc<Vec<u8>>),
}

impl Reader {
    /// Fills the buffer with the bytes from `offset` on.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(opened) => opened.file.read_exact_at(buffer, offset),
            Self::Part(_, _, data, _) => data.read_exact_at(buffer, offset),
            Self::Memory(bytes, _) => {
                let at = usize::try_from(offset).unwrap_or(usize::MAX);
                let found = bytes.get(at..).and_then(|rest| rest.get(..buffer.len()));
                buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// A parent.
    pub(super) fn pair(&self, slot: u64) -> io::Result<Pair> {
        let at = slot.saturating_mul(PAIR as u64);
        let outboard: &[u8] = match self {
            Self::Part(part, _, _, first) => {
                let mut pair = [0; PAIR];
                part.tree.read_exact_at(&mut pair, first.saturating_mul(PAIR as u64).saturating_add(at))?;
                return Ok(pair);
            }
            Self::File(opened) => &opened.outboard,
            Self::Memory(_, outboard) => outboard,
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let found = outboard.get(at..).and_then(|rest| rest.first_chunk::<PAIR>());
        found.copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// What its tree takes in memory, bytes.
    pub(super) fn tree_size(&self) -> usize {
        match self {
            Self::File(opened) => opened.outboard.len(),
            Self::Part(..) | Self::Memory(..) => 0,
        }
    }

    /// Whether what was read is what was hashed: asked after reading.
    pub(super) fn is_unchanged(&self) -> bool {
        match self {
            Self::File(opened) => opened.is_unchanged(),
            Self::Part(part, item, data, _) => part.is_unchanged(*item, data),
            Self::Memory(..) => true,
        }
    }
}

/// Bytes of trees that are read where files are: those of files of 64 MiB.
const QUICK_TREE: u64 = 64 << 10;
