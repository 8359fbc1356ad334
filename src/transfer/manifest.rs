//! What is in a folder that is offered: the path, size and root of each file. A folder's root is its manifest's BLAKE3
//! hash, so who agrees to the folder has agreed to each name and each byte.

use std::collections::BTreeMap;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

use super::name::SafeName;
use super::space::Space;
use super::tree::{Root, TooLarge};
use crate::limits::{
    FILE_NAME_MAX, MANIFEST_DEPTH, MANIFEST_FILES, MANIFEST_FOLDERS, MANIFEST_MAX, MANIFEST_NAMES, MANIFEST_PATH,
};

/// One file of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    path: String,
    /// Bytes.
    pub size: u64,
    /// Its BLAKE3 root.
    pub root: Root,
}

/// The files of a folder, sorted by path (component by component): at least one, every path safe to create beneath an empty
/// folder on any common system, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
    folders: usize,
}

/// Why files are not a folder that can be sent or taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Not CBOR of this shape, or longer than [`MANIFEST_MAX`].
    #[error("the folder's list of files is malformed")]
    Malformed,
    /// No file.
    #[error("the folder has no files")]
    Empty,
    /// More than [`MANIFEST_FILES`] files, [`MANIFEST_FOLDERS`] folders or [`MANIFEST_NAMES`] bytes of paths.
    #[error("the folder has too many files or folders in it")]
    TooMany,
    /// Files too large for one transfer.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A name that cannot be created everywhere, or that could do harm. Untrusted text.
    #[error("a file's name cannot be used: {0:?}")]
    Name(String),
    /// Two paths that are one on some systems, or a file that is also a folder. Untrusted text.
    #[error("two files have names that are the same on some systems: {0:?}")]
    Collision(String),
    /// Not in the order of the paths.
    #[error("the folder's list of files is not in order")]
    Order,
}

impl Entry {
    /// A file at `path`, whose components are in order from the folder down. Fails with [`ManifestError::Name`].
    pub fn new<'a>(path: impl IntoIterator<Item = &'a str>, size: u64, root: Root) -> Result<Self, ManifestError> {
        let (mut whole, mut depth) = (String::new(), 0);
        for component in path {
            depth += 1;
            let sound = component.len() <= FILE_NAME_MAX && is_safe(component) && depth <= MANIFEST_DEPTH;
            if !sound || whole.len() + component.len() + 1 > MANIFEST_PATH {
                return Err(ManifestError::Name(component.to_owned()));
            }
            if !whole.is_empty() {
                whole.push('/');
            }
            whole.push_str(component);
        }
        if depth == 0 {
            return Err(ManifestError::Name(whole));
        }
        Ok(Self { path: whole, size, root })
    }

    /// The components of its path.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.path.split('/')
    }

    /// Its path with `/` between components.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.components().cmp(other.components())
    }
}

impl Manifest {
    /// The manifest of these files, in any order.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_unstable_by(Entry::order);
        Self::check(entries)
    }

    /// Reads a manifest that came from a peer.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_MAX {
            return Err(ManifestError::Malformed);
        }
        let mut decoder = Decoder::new(bytes);
        let count = array(&mut decoder)?;
        if count > MANIFEST_FILES as u64 {
            return Err(ManifestError::TooMany);
        }
        // The least entry takes 37 bytes, so this is no more than some three times the bytes that have come.
        let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(bytes.len() / ENTRY_MIN));
        for _ in 0..count {
            entries.push(entry(&mut decoder)?);
        }
        if decoder.position() != bytes.len() {
            return Err(ManifestError::Malformed);
        }
        Self::check(entries)
    }

    /// The bytes whose BLAKE3 hash is the folder's root: the same for the same files.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        self.write(&mut encoder).expect("memory takes what is written to it");
        encoder.into_writer()
    }

    /// The files; item i of the transfer is the one at place i - 1.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Their paths, in the same order; it lets go of the rest.
    pub fn into_paths(self) -> Vec<String> {
        self.entries.into_iter().map(|entry| entry.path).collect()
    }

    /// How many folders are made for them, the outermost one not counted.
    pub const fn folders(&self) -> usize {
        self.folders
    }

    /// The numbering of the groups of all its files.
    pub fn space(&self) -> Result<Space, TooLarge> {
        Space::folder(self.entries.iter().map(|entry| (entry.size, entry.root)))
    }

    fn check(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        let names: usize = entries.iter().map(|entry| entry.path.len()).sum();
        let encoded: usize = entries.iter().map(|e| ENTRY_MAX + e.path.len() + 2 * e.components().count()).sum();
        if entries.is_empty() {
            return Err(ManifestError::Empty);
        }
        if entries.len() > MANIFEST_FILES || names > MANIFEST_NAMES || encoded + LIST_MAX > MANIFEST_MAX {
            return Err(ManifestError::TooMany);
        }
        if let Some(twice) = entries.windows(2).find(|pair| matches!(pair, [a, b] if a.path == b.path)) {
            return Err(ManifestError::Collision(twice.first().map(|e| e.path.clone()).unwrap_or_default()));
        }
        if !entries.is_sorted_by(|a, b| a.order(b).is_lt()) {
            return Err(ManifestError::Order);
        }
        let folders = collisions(&entries)?;
        let manifest = Self { entries, folders };
        manifest.space()?;
        Ok(manifest)
    }

    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        to.array(self.entries.len() as u64)?;
        for entry in &self.entries {
            to.array(3)?.array(entry.components().count() as u64)?;
            for component in entry.components() {
                to.str(component)?;
            }
            to.u64(entry.size)?.bytes(&entry.root)?;
        }
        Ok(())
    }
}

fn entry(from: &mut Decoder<'_>) -> Result<Entry, ManifestError> {
    let malformed = |_| ManifestError::Malformed;
    if array(from)? != 3 {
        return Err(ManifestError::Malformed);
    }
    let depth = array(from)?;
    if depth > MANIFEST_DEPTH as u64 {
        return Err(ManifestError::Malformed);
    }
    let components = (0..depth).map(|_| from.str().map_err(malformed)).collect::<Result<Vec<_>, _>>()?;
    let size = from.u64().map_err(malformed)?;
    let root = from.bytes().map_err(malformed)?.try_into().map_err(|_| ManifestError::Malformed)?;
    Entry::new(components, size, root)
}

fn array(from: &mut Decoder<'_>) -> Result<u64, ManifestError> {
    match (from.datatype(), from.array()) {
        (Ok(Type::Array), Ok(Some(len))) => Ok(len),
        _ => Err(ManifestError::Malformed),
    }
}

/// What every system takes as it is: the rules of [`SafeName`] change nothing in it.
fn is_safe(component: &str) -> bool {
    SafeName::new(component).is_ok_and(|safe| safe.as_str() == component)
}

/// Looks for folders and files whose paths differ only in case or in how letters are composed. Returns how many folders there are.
fn collisions(entries: &[Entry]) -> Result<usize, ManifestError> {
    // By the hash of the folded path, so that long paths take no more room: how it is spelled, and whether it is a folder.
    let mut seen: BTreeMap<[u8; 16], (&str, bool)> = BTreeMap::new();
    let (mut before, mut folders) = ("", 0);
    for entry in entries {
        // What it shares with the file before it was looked at then.
        let shared = common_folders(before, &entry.path);
        let ends = entry.path.match_indices('/').map(|(at, _)| (at, true)).chain([(entry.path.len(), false)]);
        for (end, folder) in ends.filter(|(end, folder)| !folder || *end > shared) {
            let part = entry.path.get(..end).unwrap_or_default();
            match seen.insert(fold(part), (part, folder)) {
                Some(old) if old != (part, folder) => return Err(ManifestError::Collision(entry.path.clone())),
                None if folder => folders += 1,
                _ => {}
            }
            if folders > MANIFEST_FOLDERS {
                return Err(ManifestError::TooMany);
            }
        }
        before = &entry.path;
    }
    Ok(folders)
}

/// The same for two paths that some system takes for one, the beginning of a hash.
fn fold(path: &str) -> [u8; 16] {
    let folded: String = if path.is_ascii() {
        path.to_ascii_lowercase()
    } else {
        path.nfc().flat_map(char::to_lowercase).nfc().collect()
    };
    let hash = blake3::hash(folded.as_bytes());
    std::array::from_fn(|at| hash.as_bytes().get(at).copied().unwrap_or_default())
}

/// The length up to which both paths have the same folders.
fn common_folders(a: &str, b: &str) -> usize {
    let ends = b.match_indices('/').map(|(at, _)| at);
    ends.take_while(|at| a.get(..=*at) == b.get(..=*at)).last().unwrap_or(0)
}

/// The least that an entry can take, bytes.
const ENTRY_MIN: usize = 37;
/// The most that an entry takes beside its path, where `/` stands for one byte of a component's head, bytes: lists of 1
/// and 2, size 9, root 34, and the first component's head.
const ENTRY_MAX: usize = 47;
/// The most that the head of the list takes, bytes.
const LIST_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &str) -> Result<Entry, ManifestError> {
        Entry::new(path.split('/'), 3, [7; 32])
    }

    fn manifest(paths: &[&str]) -> Result<Manifest, ManifestError> {
        Manifest::new(paths.iter().map(|path| file(path)).collect::<Result<_, _>>()?)
    }

    #[test]
    fn the_order_of_files_does_not_matter() {
        let one = manifest(&["b/x", "a.txt", "b/a/c", "a/z", "a b"]).unwrap();
        let two = manifest(&["a b", "a/z", "b/a/c", "a.txt", "b/x"]).unwrap();
        assert_eq!(one.encode(), two.encode());
        assert_eq!(one.entries().iter().map(Entry::path).collect::<Vec<_>>(), ["a/z", "a b", "a.txt", "b/a/c", "b/x"]);
        assert_eq!(Manifest::decode(&one.encode()), Ok(one));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "a\\b",
            "C:",
            "a:b",
            "nul",
            "a/COM1.txt",
            "a.",
            "a ",
            " a",
            ".git",
            "a\0",
            "a\x1b[2J",
            "\u{202e}a",
            "a\u{2028}",
            "x?",
            "a*",
        ] {
            assert!(matches!(file(bad), Err(ManifestError::Name(_))), "{bad:?}");
        }
        assert!(file(&"a".repeat(256)).is_err() && file(&"a/".repeat(40)).is_err());
        assert!(file(&[&*"a".repeat(255); 17].join("/")).is_err());
        assert!(Entry::new([], 1, [0; 32]).is_err() && Entry::new(["a/b"], 1, [0; 32]).is_err());
    }

    #[test]
    fn names_that_are_one_on_some_systems_are_refused() {
        let pairs: [&[&str]; 6] = [
            &["a", "A"],
            &["a", "a"],
            &["a", "a/b"],
            &["dir/x", "Dir/y"],
            &["e\u{301}", "é"],
            &["a/b/c", "a/x", "A/b"],
        ];
        for paths in pairs {
            assert!(matches!(manifest(paths), Err(ManifestError::Collision(_))), "{paths:?}");
        }
        manifest(&["a/b/c", "a/b/d", "a/c", "ab/c", "b/a"]).unwrap();
    }

    #[test]
    fn nonsense_is_refused_before_it_is_allocated() {
        assert_eq!(manifest(&[]), Err(ManifestError::Empty));
        assert_eq!(Manifest::decode(&[0x80]), Err(ManifestError::Empty));
        assert_eq!(Manifest::decode(&[0x9b, 0, 0, 0, 0, 0, 1, 0x86, 0xa0]), Err(ManifestError::Malformed));
        assert_eq!(Manifest::decode(&[0x9b, 255, 255, 255, 255, 255, 255, 255, 255]), Err(ManifestError::TooMany));
        let good = manifest(&["a", "b/c"]).unwrap().encode();
        (0..good.len()).for_each(|len| assert!(Manifest::decode(&good[..len]).is_err()));
        assert!(Manifest::decode(&[good.as_slice(), &[0]].concat()).is_err());
        let mut swapped = Manifest::new(vec![file("a").unwrap(), file("b").unwrap()]).unwrap();
        swapped.entries.reverse();
        assert_eq!(Manifest::decode(&swapped.encode()), Err(ManifestError::Order));
        let huge = Entry::new(["a"], u64::MAX, [0; 32]).unwrap();
        assert!(matches!(Manifest::new(vec![huge]), Err(ManifestError::TooLarge(_))));
    }

    #[test]
    fn a_full_folder_is_taken_and_one_more_file_is_not() {
        let name = |n: usize| format!("folder {}/{n}", n % 300);
        let mut files: Vec<_> = (0..=MANIFEST_FILES).map(|n| file(&name(n)).unwrap()).collect();
        assert_eq!(Manifest::new(files.clone()), Err(ManifestError::TooMany));
        files.pop();
        let full = Manifest::new(files).unwrap();
        assert_eq!(Manifest::decode(&full.encode()), Ok(full));
    }

    #[test]
    fn more_folders_than_may_be_are_refused_however_few_the_files() {
        // Some 30 folders for each file, and not a byte in any.
        let deep = |n: usize| Entry::new(format!("{n:x}{}/f", "/a".repeat(29)).split('/'), 0, [0; 32]).unwrap();
        let few = MANIFEST_FOLDERS / 30;
        let full = Manifest::new((0..few).map(deep).collect()).unwrap();
        assert_eq!((full.folders(), full.entries().len()), (few * 30, few));
        assert_eq!(Manifest::new((0..few + 1 + few / 100).map(deep).collect()), Err(ManifestError::TooMany));
        assert_eq!(manifest(&["a/b/x", "a/b/y", "a/z", "w"]).unwrap().folders(), 2);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_safe_and_reads_back(paths in proptest::collection::vec(r"(\PC|[/.a]){1,12}", 1..8)) {
            let entries: Result<Vec<_>, _> = paths.iter().map(|path| file(path)).collect();
            if let Ok(manifest) = entries.and_then(Manifest::new) {
                for entry in manifest.entries() {
                    prop_assert!(std::path::Path::new(entry.path()).components()
                        .all(|c| matches!(c, std::path::Component::Normal(_))));
                }
                prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
            }
        }
    }
}
