//! A file and a folder from several holders at once: planner, asks, answers and trees together, in virtual time and
//! without sockets.

use secchat::transfer::exchange::{
    Answers, Assembler, Catalog, Here, Item, Lie, Part, PartSource, Refusal, VerifiedSink,
};
use secchat::transfer::partial::Partial;
use secchat::transfer::planner::{PlanEvent, Planner, SourceId};
use secchat::transfer::ranges::RangeSet;
use secchat::transfer::space::Space;
use secchat::transfer::tree::{Geometry, Pair, PairSink, PairSource, Root, TreeHasher, check};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Files with their trees, as those who have them do.
struct Shelf {
    files: BTreeMap<u32, (Vec<u8>, Pairs, Geometry, Root)>,
    space: Arc<Space>,
}

#[derive(Default, Clone)]
struct Pairs(BTreeMap<u64, Pair>);

impl PairSink for Pairs {
    type Error = Infallible;

    fn put(&mut self, slot: u64, pair: &Pair) -> Result<(), Infallible> {
        self.0.insert(slot, *pair);
        Ok(())
    }
}

impl PairSource for &Pairs {
    type Error = ();

    fn read_pair(&mut self, slot: u64) -> Result<Pair, ()> {
        self.0.get(&slot).copied().ok_or(())
    }
}

impl Shelf {
    fn new(first: u32, sizes: &[u64]) -> Self {
        let files: BTreeMap<_, _> = (first..).zip(sizes.iter().map(|size| hashed(*size))).collect();
        let space = match files.get(&0) {
            Some((.., geometry, root)) => Space::file(*geometry, *root),
            None => Space::folder(files.values().map(|(.., geometry, root)| (geometry.size(), *root))).unwrap(),
        };
        Self { files, space: Arc::new(space) }
    }

    fn read(&self, part: &Part<'_>) -> Vec<u8> {
        match part.source {
            PartSource::Bytes(bytes) => bytes.to_vec(),
            PartSource::Pair { item, slot, skip } => self.files[&item].1.0[&slot][skip..skip + part.len].to_vec(),
            PartSource::File { item, offset } => self.files[&item].0[offset as usize..][..part.len].to_vec(),
        }
    }
}

fn hashed(size: u64) -> (Vec<u8>, Pairs, Geometry, Root) {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let geometry = Geometry::new(size).unwrap();
    let (mut hasher, mut pairs) = (TreeHasher::new(geometry), Pairs::default());
    hasher.push(&bytes, &mut pairs).unwrap();
    let root = hasher.finish(&mut pairs).unwrap();
    (bytes, pairs, geometry, root)
}

/// One holder with its two streams, and how it behaves.
struct Holder {
    answers: Answers,
    assembler: Assembler,
    asked: u64,
    sent: u64,
    /// Bytes in a tick.
    rate: u64,
    has: Option<RangeSet>,
    /// Turns a bit of its stream's byte there.
    lies_at: Option<u64>,
    leaves_at: Option<u64>,
    freezes_at: Option<u64>,
}

fn holder(rate: u64) -> Holder {
    Holder {
        answers: Answers::new(1 << 30, 1 << 22),
        assembler: Assembler::new(),
        asked: 0,
        sent: 0,
        rate,
        has: None,
        lies_at: None,
        leaves_at: None,
        freezes_at: None,
    }
}

struct Stock<'a>(&'a Shelf, Option<&'a RangeSet>);

impl Catalog for Stock<'_> {
    fn item(&self, item: u32) -> Option<Item<'_>> {
        let geometry = self.0.files.get(&item)?.2;
        let base = self.0.space.base(item)?;
        Some(Item { geometry, here: self.1.map_or(Here::Whole, |ranges| Here::Part { ranges, base }) })
    }
}

/// The asker's disk.
struct Disk<'a> {
    space: &'a Space,
    files: BTreeMap<u32, (Vec<u8>, Pairs)>,
    arrived: Vec<Range<u64>>,
    refused: Vec<Range<u64>>,
    has: Option<RangeSet>,
}

impl VerifiedSink for Disk<'_> {
    fn pair(&mut self, item: u32, slot: u64, pair: &Pair) {
        self.files.entry(item).or_default().1.0.insert(slot, *pair);
    }

    fn group(&mut self, item: u32, group: u64, bytes: &[u8]) {
        let groups = group..group + 1;
        let span = self.space.item(item).unwrap();
        let file = &mut self.files.entry(item).or_default().0;
        file.resize(usize::try_from(span.geometry.size()).unwrap(), 0);
        let at = span.geometry.bytes(&groups);
        file[at.start as usize..at.end as usize].copy_from_slice(bytes);
        let base = self.space.base(item).unwrap();
        self.arrived.push(base + groups.start..base + groups.end);
    }

    fn refused(&mut self, item: u32, groups: Range<u64>, _: Refusal) {
        let base = self.space.base(item).unwrap();
        self.refused.push(base + groups.start..base + groups.end);
    }

    fn has(&mut self, groups: RangeSet) {
        self.has = Some(groups);
    }
}

#[derive(Default, Debug)]
struct Report {
    liars: Vec<(SourceId, Lie)>,
    stalled: Vec<SourceId>,
    by: BTreeMap<SourceId, u64>,
}

/// Runs until all is there; the files must be right.
fn download(shelf: &Shelf, holders: Vec<Holder>, before: Option<&Partial>) -> Report {
    let space = Arc::clone(&shelf.space);
    let verified = before.map(|partial| partial.verified().clone()).unwrap_or_default();
    let (mut report, mut planner) = (Report::default(), Planner::new(Arc::clone(&space), verified.clone()));
    let (files, arrived, refused) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut disk = Disk { space: &space, files, arrived, refused, has: None };
    let mut holders: BTreeMap<SourceId, Holder> = (1..).zip(holders).collect();
    for (id, holder) in &mut holders {
        planner.add_source(Duration::ZERO, *id, Some(TICK), holder.has.as_ref().map(|_| RangeSet::new()));
        if let Some(has) = &holder.has {
            holder.answers.announce(has);
        }
    }
    for tick in 0.. {
        let now = TICK * tick;
        assert!(tick < 10_000, "it ends: {report:?}");
        if planner.is_complete() {
            break;
        }
        planner.handle_timeout(now);
        while let Some(PlanEvent::Stalled(id)) = planner.poll_event() {
            report.stalled.push(id);
        }
        for id in holders.keys().copied().collect::<Vec<_>>() {
            let holder = holders.get_mut(&id).unwrap();
            let lie = step(shelf, holder, &mut disk, u64::from(tick)).err();
            for groups in disk.arrived.drain(..) {
                *report.by.entry(id).or_default() += planner.arrived(now, id, &groups).count();
            }
            disk.refused.drain(..).for_each(|groups| planner.refused(now, id, &groups));
            if let Some(has) = disk.has.take() {
                planner.set_has(id, has);
            }
            if lie.is_some() || holder.leaves_at == Some(u64::from(tick)) {
                report.liars.extend(lie.map(|lie| (id, lie)));
                planner.remove_source(now, id);
                holders.remove(&id);
                continue;
            }
            while let Some(groups) = planner.next(now, id) {
                holder.assembler.request(&space, groups).unwrap();
            }
        }
    }
    for (item, (bytes, pairs, ..)) in &shelf.files {
        let base = space.base(*item).unwrap();
        let (own, outboard) = disk.files.get(item).cloned().unwrap_or_default();
        for group in 0..space.item(*item).unwrap().geometry.groups() {
            let at = space.item(*item).unwrap().geometry.bytes(&(group..group + 1));
            let at = at.start as usize..at.end as usize;
            let known = verified.contains(&(base + group..base + group + 1));
            assert!(known || own.get(at.clone()) == bytes.get(at), "group {group} of item {item}");
        }
        assert!(outboard.0.iter().all(|(slot, pair)| pairs.0.get(slot) == Some(pair)));
        if before.is_none() {
            let span = space.item(*item).unwrap();
            check(&span.geometry, &span.root, &mut &outboard, span.groups, &own).unwrap();
        }
    }
    report
}

/// Asks go over, as much of the answers as one tick carries comes back.
fn step(shelf: &Shelf, holder: &mut Holder, disk: &mut Disk<'_>, tick: u64) -> Result<(), Lie> {
    let end = holder.assembler.outbox().end();
    let mut asks = vec![0; usize::try_from(end - holder.asked).unwrap()];
    assert!(holder.assembler.outbox().read(holder.asked, &mut asks));
    holder.assembler.outbox().forget(end);
    holder.asked = end;
    holder.answers.push(&asks).unwrap();
    let end = holder.answers.advance(&Stock(shelf, holder.has.as_ref())).unwrap();
    if holder.freezes_at.is_some_and(|at| tick >= at) {
        return Ok(());
    }
    let to = end.min(holder.sent + holder.rate);
    let parts: Vec<Vec<u8>> = holder.answers.parts(holder.sent..to).map(|part| shelf.read(&part)).collect();
    let mut bytes = parts.concat();
    if let Some(at) = holder.lies_at.and_then(|at| usize::try_from(at.checked_sub(holder.sent)?).ok()) {
        bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 4);
    }
    holder.sent = to;
    holder.answers.forget(to);
    bytes.chunks(1411).try_for_each(|part| holder.assembler.push(part, disk))
}

const TICK: Duration = Duration::from_millis(20);
const MIB: u64 = 1 << 20;

#[test]
fn a_liar_among_three_is_found_and_named_and_the_file_is_whole() {
    let shelf = Shelf::new(0, &[24 * MIB + 77]);
    for lies_at in [1, 40, 70, 300_000, 2_500_000, 3_999_999] {
        let liar = Holder { lies_at: Some(lies_at), ..holder(100_000) };
        let report = download(&shelf, vec![holder(100_000), liar, holder(100_000)], None);
        assert!(matches!(report.liars.as_slice(), [(2, Lie::Group { .. } | Lie::Tree { .. })]), "{report:?}");
        assert!(report.stalled.is_empty());
    }
}

#[test]
fn equal_holders_share_the_work_and_a_leaver_or_a_frozen_one_is_replaced() {
    let shelf = Shelf::new(0, &[48 * MIB]);
    let report = download(&shelf, vec![holder(100_000), holder(100_000), holder(100_000)], None);
    assert!(report.by.values().all(|groups| (230..285).contains(groups)), "{report:?}");
    let leaver = Holder { leaves_at: Some(50), ..holder(100_000) };
    let frozen = Holder { freezes_at: Some(30), ..holder(100_000) };
    let report = download(&shelf, vec![holder(100_000), leaver, frozen], None);
    assert!(report.stalled == [3] && report.liars.is_empty(), "{report:?}");
}

#[test]
fn a_folder_comes_from_holders_of_parts() {
    let sizes: Vec<u64> = (0..300).map(|n| [0, 1, 10_000, 65_536, 200_001, 3 * MIB][n % 6]).collect();
    let shelf = Shelf::new(1, &sizes);
    let half = shelf.space.groups() / 2;
    let part = |range| Holder { has: Some(RangeSet::of(range)), ..holder(400_000) };
    let report = download(&shelf, vec![part(0..half + 9), part(half - 9..shelf.space.groups())], None);
    assert!(report.by.values().all(|groups| *groups > half - 20), "{report:?}");
    let report = download(&shelf, vec![holder(400_000), part(0..half)], None);
    assert!(report.by.len() == 2 && report.liars.is_empty(), "{report:?}");
}

#[test]
fn what_was_there_before_a_restart_is_not_fetched_again() {
    let shelf = Shelf::new(0, &[20 * MIB]);
    let (root, groups) = (shelf.files[&0].3, shelf.space.groups());
    let mut partial = Partial::new("film.mkv", root, 20 * MIB, groups);
    partial.mark(0..100);
    partial.mark(150..200);
    let partial = Partial::decode(&partial.encode()).unwrap();
    let report = download(&shelf, vec![holder(300_000)], Some(&partial));
    assert_eq!(report.by[&1], groups - 150);
}
