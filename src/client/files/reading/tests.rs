use super::*;
use crate::client::files::hashing::Trees;
use crate::transfer::exchange::{Ask, Catalog, Here, Item};
use crate::transfer::tree::GROUP;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

/// A folder of files, hashed; and where its trees are kept.
struct Bench {
    folder: TempDir,
    data: TempDir,
    content: Content,
    open: OpenItems,
}

impl Catalog for Bench {
    fn item(&self, item: u32) -> Option<Item<'_>> {
        Some(Item { geometry: self.content.geometry(item)?, here: Here::Whole })
    }
}

impl Bench {
    fn new(files: u8) -> Self {
        let (folder, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        for n in 0..files {
            fs::write(folder.path().join(format!("{n:03}")), vec![n; 3 * GROUP as usize]).unwrap();
        }
        let dir = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        let trees = Arc::new(Trees::new(data.path()));
        let content = Content::of_folder(dir, &trees, &mut |_, _| true).unwrap();
        Self { folder, data, content, open: OpenItems::default() }
    }

    /// The trees are not there any more.
    fn forget(&self) {
        fs::remove_dir_all(self.data.path().join("outboards")).unwrap();
    }

    /// What is sent to who wants the first group of an item.
    fn read(&mut self, item: u32) -> Result<Vec<u8>, SourceError> {
        let (mut answers, mut ask) = (Answers::new(1 << 30, 1 << 30), Vec::new());
        Ask::Want { item, first: 0, count: 1 }.encode(&mut ask);
        answers.push(&ask).unwrap();
        let mut bytes = vec![0; answers.advance(self).unwrap() as usize];
        let mut source = UploadSource { answers: &answers, content: &self.content, open: &mut self.open };
        source.read(0, &mut bytes).map(|()| bytes)
    }
}

#[test]
fn the_lane_hashes_no_file_and_waits_for_no_hash() {
    let mut bench = Bench::new(2);
    let whole = bench.read(2).unwrap();
    bench.open = OpenItems::default();
    bench.read(1).unwrap();
    bench.forget();
    assert!(bench.read(1).is_ok(), "it is open");
    assert_eq!(bench.read(2), Err(SourceError::NotReady));
    let (item, gone) = bench.open.wanted().unwrap();
    assert_eq!(item, 2);
    assert_eq!(bench.read(2), Err(SourceError::NotReady));
    assert!(bench.open.wanted().is_none(), "it is told once");
    assert!(bench.read(1).is_ok(), "it holds up nothing else");
    assert!(bench.content.open_known(2).unwrap().is_none());
    let opened = bench.content.open_hashed(2, &mut |_| true);
    bench.open.opened(2, opened);
    assert_eq!(bench.read(2), Ok(whole));
    assert!(!gone.load(Ordering::Relaxed));
    bench.open = OpenItems::default();
    assert!(gone.load(Ordering::Relaxed));
}

#[test]
fn what_is_read_for_trees_is_accounted_for() {
    let mut bench = Bench::new(20);
    let tree = bench.content.geometry(1).unwrap().outboard_size();
    for round in 0..3 {
        for item in 1..=20 {
            bench.read(item).unwrap();
        }
        assert_eq!(bench.open.spent(), 20 * tree, "{round}: each is opened again, as more are read than stay open");
    }
    bench.read(20).unwrap();
    assert_eq!(bench.open.spent(), 0);
    bench.forget();
    assert_eq!(bench.read(1), Err(SourceError::NotReady));
    let opened = bench.content.open_hashed(1, &mut |_| true);
    bench.open.opened(1, opened);
    bench.read(1).unwrap();
    assert_eq!(bench.open.spent(), 3 * GROUP + tree);
}

#[test]
fn an_item_that_cannot_be_opened_elsewhere_fails_the_stream_and_is_named() {
    let mut bench = Bench::new(2);
    bench.forget();
    assert_eq!(bench.read(2), Err(SourceError::NotReady));
    fs::write(bench.folder.path().join("001"), "changed").unwrap();
    let opened = bench.content.open_hashed(2, &mut |_| true);
    assert!(opened.is_err());
    bench.open.opened(2, opened);
    assert_eq!(bench.read(2), Err(SourceError::Failed));
    assert_eq!(bench.open.changed, Some(2));
}
