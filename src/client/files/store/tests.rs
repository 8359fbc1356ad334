use super::*;
use crate::client::files::downloads::{Downloads, Shape};
use crate::client::files::intake::Target;
use crate::transfer::manifest::Entry;
use crate::transfer::tree::{Geometry, PairSink, Step, TreeHasher};
use std::convert::Infallible;
use std::fs;
use tempfile::TempDir;

#[derive(Default)]
struct Pairs(Vec<Pair>);

impl PairSink for Pairs {
    type Error = Infallible;

    fn put(&mut self, _slot: u64, pair: &Pair) -> Result<(), Infallible> {
        self.0.push(*pair);
        Ok(())
    }
}

fn open(dir: &TempDir, geometry: Geometry, root: Root) -> Store {
    let shape = Shape::File(geometry.size());
    let place = Downloads::open(dir.path()).unwrap().workplace(&root, shape, [1; 8]).unwrap();
    Store::file(place, &SafeName::new("film").unwrap(), Space::file(geometry, root), root).unwrap()
}

/// A download of 40 groups, all of which are there, let go of.
fn left(dir: &TempDir) -> (Geometry, Root, PathBuf) {
    let bytes: Vec<u8> = (0..40 * GROUP - 7).map(|n| (n / 1_000) as u8).collect();
    let geometry = Geometry::new(bytes.len() as u64).unwrap();
    let (mut hasher, mut pairs) = (TreeHasher::new(geometry), Pairs::default());
    hasher.push(&bytes, &mut pairs).unwrap();
    let root = hasher.finish(&mut pairs).unwrap();
    let mut store = open(dir, geometry, root);
    for (slot, pair) in (0..).zip(&pairs.0) {
        store.write_pair(0, slot, pair).unwrap();
    }
    (0..)
        .zip(bytes.chunks(GROUP as usize))
        .for_each(|(group, bytes)| assert_eq!(store.write(0, group, bytes).unwrap(), group));
    store.save().unwrap();
    assert!(store.is_whole());
    drop(store);
    let place = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    (geometry, root, place)
}

/// The groups that are not believed.
fn missing(dir: &TempDir, geometry: Geometry, root: Root) -> Vec<u64> {
    let mut store = open(dir, geometry, root);
    store.resume(&mut |_, _| true).unwrap();
    store.have().gaps(0..40).iter().flatten().collect()
}

fn damage(path: &std::path::Path, at: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"evil", at).unwrap();
}

#[test]
fn a_folder_of_nothing_but_names_needs_room_too_and_without_it_nothing_is_made() {
    let dir = TempDir::new().unwrap();
    let (root, name) = ([3; 32], SafeName::new("trip").unwrap());
    let place = || Downloads::open(dir.path()).unwrap().workplace(&root, Shape::Folder, [1; 8]).unwrap();
    let entry = |path: &str, size| Entry::new(path.split('/'), size, [7; 32]).unwrap();
    let manifest = Manifest::new(vec![entry("a/b/c/x", 0), entry("a/b/y", 0), entry("z", 1 << 49)]).unwrap();
    let refused = Store::folder(place(), &name, manifest, Vec::new(), root);
    let Err(DownloadError::Full { needed, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(needed, (1 << 49) + 6 * BLOCK);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let small = Manifest::new(vec![entry("a/b/c/x", 0)]).unwrap();
    assert!(Store::folder(place(), &name, small, Vec::new(), root).is_ok());
}

#[test]
fn what_a_state_claims_and_the_disk_does_not_hold_is_fetched_again() {
    let dir = TempDir::new().unwrap();
    let (geometry, root, place) = left(&dir);
    assert_eq!(missing(&dir, geometry, root), [0; 0]);
    damage(&place.join("data"), 5 * GROUP + 100);
    damage(&place.join("data"), 39 * GROUP);
    assert_eq!(missing(&dir, geometry, root), [5, 39]);
    // Parents that do not lead to the root prove nothing.
    damage(&place.join("tree"), 10);
    assert!(missing(&dir, geometry, root).contains(&0));
    // A state of another file, or none at all, claims nothing.
    damage(&place.join("state"), 20);
    assert_eq!(missing(&dir, geometry, root).len(), 40);
}

/// A power loss may keep the bytes and not the parents: neither is synced. Whoever gets a wrong one calls us a liar.
#[test]
fn every_parent_of_what_is_believed_is_right() {
    let dir = TempDir::new().unwrap();
    let (geometry, root, place) = left(&dir);
    let whole = fs::read(place.join("tree")).unwrap();
    for slot in 0..geometry.outboard_size() / PAIR as u64 {
        damage(&place.join("tree"), slot * PAIR as u64 + 40);
        let missing = missing(&dir, geometry, root);
        let now = fs::read(place.join("tree")).unwrap();
        for group in (0..geometry.groups()).filter(|group| !missing.contains(group)) {
            for step in geometry.layout(group..group + 1) {
                let Step::Parent { slot: above, .. } = step else { continue };
                let at = above as usize * PAIR..(above as usize + 1) * PAIR;
                assert_eq!(now[at.clone()], whole[at], "{above}, above {group}, after damage to {slot}");
            }
        }
        fs::write(place.join("tree"), &whole).unwrap();
    }
}

#[test]
fn a_check_that_is_broken_off_takes_nothing_from_what_is_claimed() {
    let dir = TempDir::new().unwrap();
    let (geometry, root, place) = left(&dir);
    let whole = fs::read(place.join("tree")).unwrap();
    let cut_short = || {
        // Beneath another top nothing fits.
        damage(&place.join("tree"), geometry.outboard_size() - 10);
        let mut store = open(&dir, geometry, root);
        store.resume(&mut |_, _| false).unwrap();
        assert!(store.have().is_empty());
        store
    };
    Target::Store(Box::new(cut_short()), None).leave().unwrap();
    fs::write(place.join("tree"), &whole).unwrap();
    assert_eq!(missing(&dir, geometry, root), [0; 0]);
    let mut store = cut_short();
    let group = fs::read(place.join("data")).unwrap()[..GROUP as usize].to_vec();
    store.write(0, 0, &group).unwrap();
    Target::Store(Box::new(store), None).leave().unwrap();
    fs::write(place.join("tree"), &whole).unwrap();
    assert!(missing(&dir, geometry, root).into_iter().eq(1..RUN_GROUPS), "those that were checked and did not fit");
}

#[test]
fn a_state_that_cannot_be_read_now_is_no_empty_one() {
    let dir = TempDir::new().unwrap();
    let (geometry, root, place) = left(&dir);
    fs::rename(place.join("state"), place.join("aside")).unwrap();
    fs::create_dir(place.join("state")).unwrap();
    let shape = Shape::File(geometry.size());
    let workplace = Downloads::open(dir.path()).unwrap().workplace(&root, shape, [1; 8]).unwrap();
    let name = SafeName::new("film").unwrap();
    let mut store = Store::file(workplace, &name, Space::file(geometry, root), root).unwrap();
    assert!(store.resume(&mut |_, _| true).is_err());
    drop(store);
    fs::remove_dir(place.join("state")).unwrap();
    fs::rename(place.join("aside"), place.join("state")).unwrap();
    assert_eq!(missing(&dir, geometry, root), [0; 0]);
}

#[test]
fn a_file_takes_room_once_its_size_is_known_and_not_before() {
    let dir = TempDir::new().unwrap();
    let geometry = Geometry::new(1 << 45).unwrap();
    let mut store = open(&dir, geometry, [3; 32]);
    assert_eq!(store.write(0, 0, &[1; 65_536]).unwrap(), 0, "nobody knows yet");
    let refused = store.write(0, geometry.groups() - 1, &[1; 65_536]);
    let Err(DownloadError::Full { needed, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((needed, store.have().clone()), (1 << 45, RangeSet::of(0..1)));
}
