use super::*;
use bao_tree::io::outboard::PostOrderMemOutboard;
use std::collections::BTreeSet;
use std::convert::Infallible;

impl PairSink for Vec<u8> {
    type Error = Infallible;

    fn put(&mut self, slot: u64, pair: &Pair) -> Result<(), Infallible> {
        assert_eq!(self.len() as u64, slot * PAIR as u64, "the outboard is written from its beginning to its end");
        self.extend_from_slice(pair);
        Ok(())
    }
}

impl PairSource for &[u8] {
    type Error = Infallible;

    fn read_pair(&mut self, slot: u64) -> Result<Pair, Infallible> {
        Ok(self[slot as usize * PAIR..][..PAIR].try_into().unwrap())
    }
}

/// Notes which parents are read.
struct Noting<'n> {
    from: &'n [u8],
    read: BTreeSet<u64>,
}

impl PairSource for Noting<'_> {
    type Error = Infallible;

    fn read_pair(&mut self, slot: u64) -> Result<Pair, Infallible> {
        self.read.insert(slot);
        self.from.read_pair(slot)
    }
}

fn file(size: u64) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn hash(bytes: &[u8], piece: usize) -> (Root, Vec<u8>) {
    let mut outboard = Vec::new();
    let mut hasher = TreeHasher::new(Geometry::new(bytes.len() as u64).unwrap());
    bytes.chunks(piece).for_each(|part| hasher.push(part, &mut outboard).unwrap());
    (hasher.finish(&mut outboard).unwrap(), outboard)
}

const G: u64 = GROUP;
const SIZES: [u64; 15] =
    [0, 1, 1024, 1025, G - 1, G, G + 1, 2 * G, 2 * G + 7, 3 * G, 5 * G - 1, 16 * G, 17 * G, 33 * G + 5, 64 * G - 100];

/// Sizes by counting parents, apart from the walk that lays an encoding out.
impl Geometry {
    /// Bytes of the encoding of `groups`, which are in the file.
    fn encoded_len(&self, groups: &Range<u64>) -> u64 {
        let bytes = self.bytes(groups);
        (bytes.end - bytes.start) + self.parents_over(0..self.groups(), groups) * PAIR as u64
    }

    /// Parents above and between `wanted` in the subtree over the groups `node`.
    fn parents_over(&self, node: Range<u64>, wanted: &Range<u64>) -> u64 {
        let count = node.end - node.start;
        let inside = wanted.start.max(node.start)..wanted.end.min(node.end);
        if inside.is_empty() || count <= 1 {
            return 0;
        }
        if inside == node {
            return count - 1;
        }
        // The left subtree is the largest power of two below the count.
        let mid = node.start + (1 << (count - 1).ilog2());
        1 + self.parents_over(node.start..mid, wanted) + self.parents_over(mid..node.end, wanted)
    }
}

#[test]
fn the_root_is_the_plain_hash_and_the_outboard_the_librarys() {
    for size in SIZES {
        let bytes = file(size);
        let reference = PostOrderMemOutboard::create(&bytes, BlockSize::from_chunk_log(6));
        for piece in [usize::MAX, 65536, 100_003] {
            let (root, outboard) = hash(&bytes, piece);
            assert_eq!(root, *blake3::hash(&bytes).as_bytes(), "{size}");
            assert_eq!(outboard, reference.data, "{size}");
            assert_eq!(outboard.len() as u64, Geometry::new(size).unwrap().outboard_size());
        }
    }
}

#[test]
fn a_size_that_is_not_the_files_is_noticed() {
    let short = TreeHasher::new(Geometry::new(10).unwrap());
    assert_eq!(short.finish(&mut Vec::new()), Err(HashError::Size(10)));
    let mut long = TreeHasher::new(Geometry::new(GROUP).unwrap());
    assert_eq!(long.push(&file(GROUP + 1), &mut Vec::new()), Err(HashError::Size(GROUP)));
}

#[test]
fn a_layout_is_as_long_as_it_says() {
    for size in SIZES {
        let geometry = Geometry::new(size).unwrap();
        for first in 0..geometry.groups() {
            for end in first + 1..=geometry.groups() {
                let steps = geometry.layout(first..end).map(|step| match step {
                    Step::Parent { .. } => PAIR,
                    Step::Group { len, .. } => len,
                });
                assert_eq!(steps.sum::<usize>() as u64, geometry.encoded_len(&(first..end)), "{size} {first} {end}");
            }
        }
        assert_eq!(geometry.layout(0..geometry.groups() + 1).count(), 0);
        assert_eq!(geometry.layout(3..3).count(), 0);
        assert_eq!(geometry.layout(u64::MAX - 1..u64::MAX).count(), 0);
    }
}

#[test]
fn huge_files_cost_no_more_to_lay_out() {
    assert_eq!(Geometry::new(u64::MAX), Err(TooLarge(u64::MAX)));
    let geometry = Geometry::new(FILE_SIZE_MAX).unwrap();
    let last = geometry.groups() - 1;
    for group in [0, last / 3, last] {
        let steps: Vec<Step> = geometry.layout(group..group + 1).collect();
        assert_eq!(steps.last(), Some(&Step::Group { group, len: GROUP as usize }));
        assert_eq!(steps.len() as u64, u64::from(geometry.groups().ilog2()) + 1);
        assert_eq!(geometry.encoded_len(&(group..group + 1)), GROUP + (steps.len() as u64 - 1) * 64);
    }
}

#[test]
fn every_range_is_checked_and_one_wrong_byte_is_found() {
    for size in SIZES {
        let bytes = file(size);
        let geometry = Geometry::new(size).unwrap();
        let (root, outboard) = hash(&bytes, usize::MAX);
        for first in (0..geometry.groups()).step_by(3) {
            for end in (first + 1..=geometry.groups()).step_by(5) {
                let at = geometry.bytes(&(first..end));
                let mut part = bytes[at.start as usize..at.end as usize].to_vec();
                let mut pairs = Noting { from: &outboard, read: BTreeSet::new() };
                let made = check(&geometry, &root, &mut pairs, first..end, &part).unwrap();
                let Noting { mut from, mut read } = pairs;
                for (slot, pair) in made {
                    assert_eq!(from.read_pair(slot), Ok(pair), "{size} {first} {end} {slot}");
                    assert!(read.insert(slot), "{slot} is read and made");
                }
                let above = geometry.layout(first..end).filter_map(|step| match step {
                    Step::Parent { slot, .. } => Some(slot),
                    Step::Group { .. } => None,
                });
                assert_eq!(read, above.collect(), "each is read and checked, or made");
                if let Some(byte) = part.last_mut() {
                    *byte ^= 1;
                    let found = check(&geometry, &root, &mut outboard.as_slice(), first..end, &part);
                    assert!(matches!(found, Err(CheckError::Group(g)) if (first..end).contains(&g)), "{found:?}");
                    part.pop();
                    assert!(check(&geometry, &root, &mut outboard.as_slice(), first..end, &part).is_err());
                }
            }
        }
    }
}

#[test]
fn a_damaged_outboard_is_told_from_a_damaged_file() {
    let bytes = file(40 * G);
    let geometry = Geometry::new(40 * G).unwrap();
    let (root, mut outboard) = hash(&bytes, usize::MAX);
    let last = outboard.len() - 1;
    outboard[last] ^= 1;
    let found = check(&geometry, &root, &mut outboard.as_slice(), 3..5, &bytes[3 * G as usize..5 * G as usize]);
    assert_eq!(found, Err(CheckError::Tree));
}
