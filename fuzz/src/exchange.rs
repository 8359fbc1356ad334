//! What the two streams of a transfer carry, from a peer that sends what it likes.

use secchat::transfer::exchange::{
    Answers, Ask, AskDecoder, Assembler, Catalog, Here, Item, Refusal, VerifiedSink, Wanted,
};
use secchat::transfer::manifest::Manifest;
use secchat::transfer::partial::Partial;
use secchat::transfer::ranges::RangeSet;
use secchat::transfer::tree::{Geometry, Pair, PairSink, Root, TreeHasher};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::OnceLock;

/// Bytes of the file that [`answers`] asks for; its content is 0, 1, 2 … 250, 0, 1 ….
pub const SIZE: u64 = 3 * 65_536 + 10;
/// The group of it that is wanted: the last, which is short.
pub const WANTED: Range<u64> = 3..4;

/// An asker's stream, at a holder of a small file and a large one.
pub fn asks(data: &[u8]) -> bool {
    let (mut decoder, mut rest, mut written) = (AskDecoder::default(), data, Vec::new());
    let sound = loop {
        match decoder.next(&mut rest) {
            Ok(Some(ask)) => ask.encode(&mut written),
            Ok(None) => break decoder.is_between(),
            Err(_) => break false,
        }
    };
    let (mut again, mut rest) = (AskDecoder::default(), written.as_slice());
    while let Some(ask) = again.next(&mut rest).unwrap() {
        assert!(matches!(ask, Ask::Want { count: 1.., .. } | Ask::Items { count: 1.., .. }));
    }
    serve(data);
    sound
}

/// Whatever was asked, little is laid out, without gaps.
fn serve(data: &[u8]) {
    let mut answers = Answers::new(1 << 30, 1 << 20);
    let taken = data.chunks(5).all(|part| answers.push(part).is_ok());
    let mut acked = 0;
    for _ in 0..20 {
        let Ok(end) = answers.advance(&Shelf) else { return };
        assert!(end - acked <= (1 << 20) + 65_536 && answers.laid_out() <= 65_536);
        let mut at = acked;
        for part in answers.parts(acked..end) {
            assert!(part.offset == at && part.len > 0);
            at += part.len as u64;
        }
        assert_eq!(at, end);
        acked = end;
        answers.forget(acked);
    }
    assert!(taken || !answers.is_finished());
}

struct Shelf;

impl Catalog for Shelf {
    fn item(&self, item: u32) -> Option<Item<'_>> {
        let geometry = Geometry::new([1 << 30, 0, 10].get(item as usize).copied()?).unwrap();
        Some(Item { geometry, here: if item == 1 { Here::Changed } else { Here::Whole } })
    }
}

/// A holder's stream, at an asker of the last group of a file. Nothing comes out that is not of the file.
pub fn answers(data: &[u8]) -> bool {
    let geometry = Geometry::new(SIZE).unwrap();
    let root = tree().0;
    let mut assembler = Assembler::new();
    assembler.want(Wanted { item: 0, geometry, root, groups: WANTED }).unwrap();
    assembler.finish();
    let mut checked = Checked(geometry);
    let sound = data.chunks(1000).all(|part| assembler.push(part, &mut checked).is_ok());
    sound && assembler.is_finished()
}

/// The file's bytes.
pub fn content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| (0..SIZE).map(|n| (n % 251) as u8).collect())
}

/// Its root and its outboard.
pub fn tree() -> &'static (Root, Vec<Pair>) {
    static TREE: OnceLock<(Root, Vec<Pair>)> = OnceLock::new();
    TREE.get_or_init(|| {
        let (mut hasher, mut pairs) = (TreeHasher::new(Geometry::new(SIZE).unwrap()), Pairs(Vec::new()));
        hasher.push(content(), &mut pairs).unwrap();
        (hasher.finish(&mut pairs).unwrap(), pairs.0)
    })
}

struct Pairs(Vec<Pair>);

impl PairSink for Pairs {
    type Error = Infallible;

    fn put(&mut self, _: u64, pair: &Pair) -> Result<(), Infallible> {
        self.0.push(*pair);
        Ok(())
    }
}

struct Checked(Geometry);

impl VerifiedSink for Checked {
    fn pair(&mut self, _: u32, slot: u64, pair: &Pair) {
        assert_eq!(tree().1.get(slot as usize), Some(pair));
    }

    fn group(&mut self, _: u32, group: u64, bytes: &[u8]) {
        let at = self.0.bytes(&(group..group + 1));
        assert!(WANTED.contains(&group));
        assert!(content()[at.start as usize..at.end as usize] == *bytes);
    }

    fn refused(&mut self, _: u32, groups: Range<u64>, _: Refusal) {
        assert_eq!(groups, WANTED);
    }

    fn has(&mut self, groups: RangeSet) {
        assert!(groups.pieces() <= 1024);
    }
}

/// A folder's list of files.
pub fn manifest(data: &[u8]) -> bool {
    let Ok(manifest) = Manifest::decode(data) else { return false };
    assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Ok(&manifest));
    let space = manifest.space().unwrap();
    let asked: u64 = space.asks(0..space.groups()).iter().flat_map(|(_, spans)| spans).map(|s| s.groups.end).sum();
    assert_eq!(asked, space.groups());
    true
}

/// The state beside an unfinished file.
pub fn partial(data: &[u8]) -> bool {
    let Ok(partial) = Partial::decode(data) else { return false };
    assert_eq!(Partial::decode(&partial.encode()), Ok(partial));
    true
}
