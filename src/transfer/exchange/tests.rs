use super::*;
use crate::limits::{ASKS_WAITING, ITEMS_PER_ASK, WANTS_MAX};
use crate::transfer::space::Space;
use crate::transfer::tree::{GROUP, Geometry, PAIR, Pair, PairSink, Root, TreeHasher};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

/// A file as its holder has it.
struct File {
    bytes: Vec<u8>,
    outboard: Outboard,
    geometry: Geometry,
    root: Root,
}

#[derive(Default, PartialEq, Debug)]
struct Outboard(BTreeMap<u64, Pair>);

impl PairSink for Outboard {
    type Error = Infallible;

    fn put(&mut self, slot: u64, pair: &Pair) -> Result<(), Infallible> {
        self.0.insert(slot, *pair);
        Ok(())
    }
}

fn file(size: u64) -> File {
    let mut bytes = vec![0; size as usize];
    blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let geometry = Geometry::new(size).unwrap();
    let (mut hasher, mut outboard) = (TreeHasher::new(geometry), Outboard::default());
    hasher.push(&bytes, &mut outboard).unwrap();
    let root = hasher.finish(&mut outboard).unwrap();
    File { bytes, outboard, geometry, root }
}

/// Items from number `first` on, and what of them is here.
struct Holder {
    first: u32,
    files: Vec<File>,
    part: Option<RangeSet>,
    changed: bool,
}

impl Holder {
    fn of(first: u32, sizes: impl IntoIterator<Item = u64>) -> Self {
        Self { first, files: sizes.into_iter().map(file).collect(), part: None, changed: false }
    }

    fn file(&self, item: u32) -> Option<&File> {
        self.files.get(item.checked_sub(self.first)? as usize)
    }

    fn space(&self) -> Space {
        match self.first {
            0 => Space::file(self.files[0].geometry, self.files[0].root),
            _ => Space::folder(self.files.iter().map(|f| (f.geometry.size(), f.root))).unwrap(),
        }
    }

    fn read(&self, answers: &Answers, range: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in answers.parts(range.clone()) {
            assert_eq!(part.offset, range.start + bytes.len() as u64);
            match part.source {
                PartSource::Bytes(own) => bytes.extend_from_slice(own),
                PartSource::Pair { item, slot, skip } => {
                    bytes.extend_from_slice(&self.file(item).unwrap().outboard.0[&slot][skip..skip + part.len]);
                }
                PartSource::File { item, offset } => {
                    bytes.extend_from_slice(&self.file(item).unwrap().bytes[offset as usize..][..part.len]);
                }
            }
        }
        bytes
    }
}

impl Catalog for Holder {
    fn item(&self, item: u32) -> Option<Item<'_>> {
        let geometry = self.file(item)?.geometry;
        let here = match &self.part {
            _ if self.changed => Here::Changed,
            Some(ranges) => Here::Part { ranges, base: self.space().base(item)? },
            None => Here::Whole,
        };
        Some(Item { geometry, here })
    }
}

/// What an asker got.
#[derive(Default)]
struct Got {
    pairs: BTreeMap<u32, Outboard>,
    groups: BTreeMap<(u32, u64), Vec<u8>>,
    refused: Vec<(u32, Range<u64>, Refusal)>,
    has: Option<RangeSet>,
}

impl VerifiedSink for Got {
    fn pair(&mut self, item: u32, slot: u64, pair: &Pair) {
        self.pairs.entry(item).or_default().0.insert(slot, *pair);
    }

    fn group(&mut self, item: u32, group: u64, bytes: &[u8]) {
        self.groups.insert((item, group), bytes.to_vec());
    }

    fn refused(&mut self, item: u32, groups: Range<u64>, why: Refusal) {
        self.refused.push((item, groups, why));
    }

    fn has(&mut self, groups: RangeSet) {
        self.has = Some(groups);
    }
}

fn want(holder: &Holder, item: u32, groups: Range<u64>) -> Wanted {
    let file = holder.file(item).unwrap();
    Wanted { item, geometry: file.geometry, root: file.root, groups }
}

/// Everything that the asker has said goes to the holder, whose whole stream comes back.
fn stream(holder: &Holder, assembler: &mut Assembler) -> Vec<u8> {
    let mut answers = Answers::new(holder.space().size(), u64::MAX);
    let outbox = assembler.outbox();
    let mut asks = vec![0; outbox.end() as usize];
    assert!(outbox.read(0, &mut asks));
    asks.chunks(3).for_each(|part| answers.push(part).unwrap());
    answers.finish().unwrap();
    let end = answers.advance(holder).unwrap();
    assert!(answers.is_finished());
    holder.read(&answers, 0..end)
}

fn sound(holder: &Holder, got: &Got) {
    for ((item, group), bytes) in &got.groups {
        let file = holder.file(*item).unwrap();
        let at = file.geometry.bytes(&(*group..group + 1));
        assert!(*bytes == file.bytes[at.start as usize..at.end as usize], "group {group} of item {item}");
    }
    for (item, outboard) in &got.pairs {
        let own = &holder.file(*item).unwrap().outboard.0;
        assert!(outboard.0.iter().all(|(slot, pair)| own.get(slot) == Some(pair)));
    }
}

const G: u64 = GROUP;

#[test]
fn an_answer_is_the_librarys_encoding() {
    use bao_tree::io::outboard::PostOrderMemOutboard;
    use bao_tree::{BlockSize, ChunkNum, ChunkRanges};
    for size in [0, 1, G, G + 1, 5 * G - 3, 37 * G + 100] {
        let holder = Holder::of(0, [size]);
        let bytes = &holder.files[0].bytes;
        let outboard = PostOrderMemOutboard::create(bytes, BlockSize::from_chunk_log(6));
        let groups = holder.files[0].geometry.groups();
        for (first, end) in [(0, groups), (groups - 1, groups), (0, 1), (groups / 3, groups / 2 + 1)] {
            let mut assembler = Assembler::new();
            assembler.want(want(&holder, 0, first..end)).unwrap();
            let ours = stream(&holder, &mut assembler);
            let chunks = ChunkRanges::from(ChunkNum(first * 64)..ChunkNum(end * 64));
            let mut theirs = vec![DATA];
            bao_tree::io::sync::encode_ranges_validated(bytes, &outboard, &chunks, &mut theirs).unwrap();
            assert!(ours == theirs, "{size} {first}..{end}");
        }
    }
}

#[test]
fn a_whole_file_arrives_with_its_outboard() {
    for size in [0, 1, G, G + 1, 15 * G, 16 * G, 17 * G, 37 * G + 100] {
        let holder = Holder::of(0, [size]);
        let mut assembler = Assembler::new();
        let groups = holder.files[0].geometry.groups();
        assembler.want(want(&holder, 0, 0..groups)).unwrap();
        let bytes = stream(&holder, &mut assembler);
        for piece in [1400, 65_000, usize::MAX] {
            let (mut assembler, mut got) = (Assembler::new(), Got::default());
            assembler.want(want(&holder, 0, 0..groups)).unwrap();
            assembler.finish();
            bytes.chunks(piece).for_each(|part| assembler.push(part, &mut got).unwrap());
            assert!(assembler.is_finished());
            sound(&holder, &got);
            assert_eq!(got.groups.len() as u64, groups);
            assert_eq!(got.pairs.remove(&0).unwrap_or_default(), holder.files[0].outboard);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_asked_for_arrives_however_the_stream_is_cut(
        sizes in proptest::collection::vec(prop_oneof![0..3u64, G - 1..G + 2, 0..20 * G], 1..5),
        asks in proptest::collection::vec((0..4u32, 0..20u64, 1..20u64), 1..6),
        cuts in proptest::collection::vec(1..100_000usize, 1..20),
    ) {
        let holder = Holder::of(1, sizes);
        let (mut assembler, mut expected) = (Assembler::new(), BTreeMap::new());
        for (item, first, count) in asks {
            let item = 1 + item % holder.files.len() as u32;
            let groups = holder.file(item).unwrap().geometry.groups();
            let range = first % groups..(first % groups + count).min(groups);
            range.clone().for_each(|group| { expected.insert((item, group), ()); });
            assembler.want(want(&holder, item, range)).unwrap();
        }
        let bytes = stream(&holder, &mut assembler);
        assembler.finish();
        let (mut got, mut rest, mut turn) = (Got::default(), bytes.as_slice(), 0);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
            assembler.push(part, &mut got).unwrap();
            (rest, turn) = (after, turn + 1);
        }
        prop_assert!(assembler.is_finished());
        sound(&holder, &got);
        prop_assert!(got.groups.keys().eq(expected.keys()));
    }

    #[test]
    fn one_wrong_byte_is_a_lie_and_nothing_wrong_is_given_out(
        size in 1..40 * G, first in 0..40u64, count in 1..40u64, at in any::<prop::sample::Index>(), bit in 0..8u32,
    ) {
        let holder = Holder::of(0, [size]);
        let groups = holder.files[0].geometry.groups();
        let range = first % groups..(first % groups + count).min(groups);
        let mut assembler = Assembler::new();
        assembler.want(want(&holder, 0, range.clone())).unwrap();
        let mut bytes = stream(&holder, &mut assembler);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut got = Got::default();
        let result = bytes.chunks(9000).try_for_each(|part| assembler.push(part, &mut got));
        sound(&holder, &got);
        // The first byte is the kind: another kind may be well formed, and then nothing is given out.
        let caught = if at == 0 { got.groups.is_empty() } else { result.is_err() };
        prop_assert!(caught);
        if at > 0 && let Err(Lie::Group { group, .. }) = result {
            prop_assert!(range.contains(&group) && !got.groups.contains_key(&(0, group)));
            prop_assert!((range.start..group).all(|g| got.groups.contains_key(&(0, g))), "sound groups are kept");
        }
    }

    #[test]
    fn noise_is_no_answer_and_no_ask(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let holder = Holder::of(1, [10, 3 * G]);
        let (mut assembler, mut got) = (Assembler::new(), Got::default());
        assembler.want(want(&holder, 2, 0..3)).unwrap();
        assembler.push(&noise, &mut got).ok();
        prop_assert!(got.groups.is_empty());
        let mut answers = Answers::new(holder.space().size(), 1 << 20);
        if answers.push(&noise).is_ok() {
            answers.advance(&holder).ok();
        }
    }
}

#[test]
fn a_thousand_small_files_take_one_ask() {
    let holder = Holder::of(1, (0..1000).map(|n| 10_000 + n));
    let mut assembler = Assembler::new();
    assembler.request(&holder.space(), 0..1000).unwrap();
    assert!(assembler.outbox().len() < 16);
    assembler.finish();
    let (bytes, mut got) = (stream(&holder, &mut assembler), Got::default());
    assert_eq!(bytes.len() as u64, holder.space().size() + 1000, "a byte beside each file");
    assembler.push(&bytes, &mut got).unwrap();
    sound(&holder, &got);
    assert!(assembler.is_finished() && got.groups.len() == 1000);
}

#[test]
fn a_holder_of_a_part_says_so_and_refuses_the_rest() {
    let mut holder = Holder::of(1, [G, 5 * G, 1]);
    let mut part = RangeSet::of(1..4);
    part.insert(6..7);
    holder.part = Some(part.clone());
    let (mut assembler, mut got) = (Assembler::new(), Got::default());
    let space = holder.space();
    assembler.want(want(&holder, 2, 0..3)).unwrap();
    assembler.want(want(&holder, 2, 2..4)).unwrap();
    assembler.items(3, &[space.item(3).map(|s| (s.geometry, s.root)).unwrap()]).unwrap();
    assembler.items(1, &[space.item(1).map(|s| (s.geometry, s.root)).unwrap()]).unwrap();
    let mut answers = Answers::new(space.size(), u64::MAX);
    answers.announce(&RangeSet::of(0..1));
    answers.announce(&part);
    let mut asks = vec![0; assembler.outbox().len()];
    assert!(assembler.outbox().read(0, &mut asks));
    answers.push(&asks).unwrap();
    let end = answers.advance(&holder).unwrap();
    let bytes = holder.read(&answers, 0..end);
    bytes.chunks(7).for_each(|piece| assembler.push(piece, &mut got).unwrap());
    assert_eq!(got.has, Some(part));
    assert_eq!(got.groups.keys().copied().collect::<Vec<_>>(), [(2, 0), (2, 1), (2, 2), (3, 0)]);
    assert_eq!(got.refused, [(2, 2..4, Refusal::NotHere), (1, 0..1, Refusal::NotHere)]);
}

#[test]
fn a_file_that_changed_is_refused() {
    let mut holder = Holder::of(0, [3 * G]);
    holder.changed = true;
    let (mut assembler, mut got) = (Assembler::new(), Got::default());
    assembler.want(want(&holder, 0, 0..3)).unwrap();
    let bytes = stream(&holder, &mut assembler);
    assembler.push(&bytes, &mut got).unwrap();
    assert_eq!((bytes.len(), got.refused), (1, vec![(0, 0..3, Refusal::Changed)]));
}

#[test]
fn a_word_about_many_ranges_is_cut_to_the_longest() {
    let mut ranges = RangeSet::new();
    (0..5000).for_each(|n| {
        ranges.insert(n * 100..n * 100 + 1 + n % 50);
    });
    let have = encode_have(&ranges);
    let told = decode_have(&have[3..]).unwrap();
    assert!(have.len() < 1 << 16 && told.pieces() == HAVE_RANGES_MAX);
    assert!(told.difference(&ranges).is_empty() && told.iter().all(|range| range.end - range.start > 30));
}

#[test]
fn who_gathers_a_word_is_told_how_much_is_missing() {
    let mut ranges = RangeSet::new();
    (0..500).for_each(|n| {
        ranges.insert(n * 7..n * 7 + 3);
    });
    let have = encode_have(&ranges);
    let (mut assembler, mut got) = (Assembler::new(), Got::default());
    let (mut at, mut pieces) = (0, Vec::new());
    while at < have.len() {
        let end = at + assembler.needs();
        assembler.push(&have[at..end], &mut got).unwrap();
        pieces.push(end - at);
        at = end;
    }
    assert_eq!((pieces, got.has), (vec![1, 2, have.len() - 3], Some(ranges)));
}

fn sent(asks: &[Ask]) -> Vec<u8> {
    let mut bytes = Vec::new();
    asks.iter().for_each(|ask| ask.encode(&mut bytes));
    bytes
}

fn served(asks: &[Ask]) -> Result<u64, Violation> {
    let holder = Holder::of(1, [10, 3 * G]);
    let mut answers = Answers::new(holder.space().size(), u64::MAX);
    answers.push(&sent(asks))?;
    answers.advance(&holder)
}

#[test]
fn asks_for_what_cannot_be_end_the_transfer() {
    let want = |item, first, count| Ask::Want { item, first, count };
    assert_eq!(served(&[want(2, 0, 3)]), Ok(1 + 3 * G + 2 * PAIR as u64));
    assert_eq!(served(&[want(2, 0, 4)]), Err(Violation::Range));
    assert_eq!(served(&[want(2, 3, 1)]), Err(Violation::Range));
    assert_eq!(served(&[want(1, 0, 0)]), Err(Violation::Malformed(BadAsk)));
    assert_eq!(served(&[want(1, u64::MAX, 2)]), Err(Violation::Malformed(BadAsk)));
    assert_eq!(served(&[want(1, 0, u64::MAX)]), Err(Violation::Malformed(BadAsk)));
    assert_eq!(served(&[want(3, 0, 1)]), Err(Violation::Item));
    assert_eq!(served(&[want(0, 0, 1)]), Err(Violation::Item));
    assert_eq!(served(&[Ask::Items { first: 1, count: 3 }]), Err(Violation::Item));
    assert_eq!(served(&[Ask::Items { first: 1, count: 0 }]), Err(Violation::Malformed(BadAsk)));
    assert_eq!(served(&[Ask::Items { first: 1, count: ITEMS_PER_ASK + 1 }]), Err(Violation::Malformed(BadAsk)));
    assert_eq!(served(&[Ask::Items { first: u32::MAX, count: 1 }]), Err(Violation::Malformed(BadAsk)));
    assert_eq!(served(&vec![want(1, 0, 1); ASKS_WAITING + 1]), Err(Violation::TooMany));
    let mut long = Answers::new(1, 1);
    assert_eq!(long.push(&[0xff, 0xff]), Err(Violation::Malformed(BadAsk)));
    let mut cut = Answers::new(1, 1);
    cut.push(&[0]).unwrap();
    assert_eq!(cut.finish(), Err(Violation::End));
    assert_eq!(cut.push(&[0]), Err(Violation::End));
}

#[test]
fn who_asks_for_the_same_for_ever_is_stopped_and_takes_no_memory() {
    let holder = Holder::of(1, [10, 3 * G]);
    let mut answers = Answers::new(holder.space().size(), G);
    let ask = sent(&[Ask::Want { item: 2, first: 0, count: 3 }]);
    let mut served = 0;
    let violation = loop {
        if let Err(violation) = answers.push(&ask) {
            break violation;
        }
        match answers.advance(&holder) {
            Ok(end) => answers.forget(end),
            Err(violation) => break violation,
        }
        assert!(answers.laid_out() < 10);
        served += 1;
    };
    // It never reads more than a window, so asks pile up and not bytes.
    assert!(matches!(violation, Violation::TooMany | Violation::Greedy), "{violation:?}");
    assert!(served < 2000);
}

#[test]
fn what_was_read_to_answer_counts_as_asked_for() {
    let holder = Holder::of(1, [10, 3 * G]);
    let mut answers = Answers::new(holder.space().size(), G);
    let ask = sent(&[Ask::Want { item: 2, first: 0, count: 1 }]);
    let mut answer = |read| {
        answers.push(&ask).unwrap();
        answers.charge(read).and_then(|()| answers.advance(&holder)).map(|end| answers.forget(end))
    };
    assert_eq!((0..50).try_for_each(|_| answer(1 << 20)), Ok(()));
    assert_eq!((0..50).try_for_each(|_| answer(1 << 20)), Err(Violation::Greedy));
}

#[test]
fn what_is_laid_out_follows_the_acknowledgements() {
    let holder = Holder::of(0, [100 * G]);
    let mut answers = Answers::new(100 * G, 10 * G);
    answers.push(&sent(&[Ask::Want { item: 0, first: 0, count: 100 }])).unwrap();
    answers.finish().unwrap();
    let (mut acked, mut bytes) = (0, Vec::new());
    while !answers.is_finished() {
        let end = answers.advance(&holder).unwrap();
        assert!(end - acked < 12 * G && answers.laid_out() < 32);
        let next = end - (end - acked) / 3;
        bytes.extend(holder.read(&answers, acked..next));
        acked = next;
        answers.forget(acked);
        assert_eq!(holder.read(&answers, acked..end).len() as u64, end - acked);
    }
    let end = answers.advance(&holder).unwrap();
    bytes.extend(holder.read(&answers, acked..end));
    answers.forget(u64::MAX);
    assert!(answers.laid_out() == 0);
    assert_eq!(answers.parts(0..10).count(), 0);
    let (mut assembler, mut got) = (Assembler::new(), Got::default());
    assembler.want(want(&holder, 0, 0..100)).unwrap();
    assembler.push(&bytes, &mut got).unwrap();
    assert_eq!(got.groups.len(), 100);
}

#[test]
fn what_was_not_asked_for_is_a_lie() {
    let mut got = Got::default();
    for (bytes, lie) in [
        (vec![DATA], Lie::Unasked),
        (vec![NOT_HERE], Lie::Unasked),
        (vec![CHANGED], Lie::Unasked),
        (vec![9], Lie::Malformed),
        (vec![HAVE, 0, 1, 0xff], Lie::Malformed),
        (vec![HAVE, 0, 0], Lie::Malformed),
    ] {
        assert_eq!(Assembler::new().push(&bytes, &mut got), Err(lie));
    }
    let endless = [HAVE, 0, 2, 0x81, 0x40].repeat(10_000);
    assert_eq!(Assembler::new().push(&endless, &mut got), Err(Lie::Malformed));
}

#[test]
fn an_asker_does_not_ask_for_more_than_it_can_hold() {
    let holder = Holder::of(1, [10]);
    let mut assembler = Assembler::new();
    assert_eq!(assembler.want(want(&holder, 1, 0..2)), Err(WantError::Range));
    assert_eq!(assembler.want(want(&holder, 1, 0..0)), Err(WantError::Range));
    assert_eq!(assembler.items(1, &[]), Err(WantError::Range));
    let one = (holder.files[0].geometry, holder.files[0].root);
    assert_eq!(assembler.items(u32::MAX, &[one, one]), Err(WantError::Range));
    assert_eq!(assembler.items(1, &[one; ITEMS_PER_ASK as usize + 1]), Err(WantError::Range));
    assert_eq!(assembler.request(&holder.space(), 1..2), Err(WantError::Range));
    assert_eq!(assembler.room(), WANTS_MAX);
    (0..WANTS_MAX).for_each(|_| assembler.want(want(&holder, 1, 0..1)).unwrap());
    assert_eq!(assembler.want(want(&holder, 1, 0..1)), Err(WantError::Full));
    assert_eq!((assembler.request(&holder.space(), 0..1), assembler.room()), (Err(WantError::Full), 0));
    let end = assembler.outbox().end();
    assembler.outbox().forget(end);
    assert!(assembler.outbox().is_empty() && !assembler.outbox().read(0, &mut [0]));
    assembler.finish();
    assert_eq!(assembler.want(want(&holder, 1, 0..1)), Err(WantError::Finished));
}
