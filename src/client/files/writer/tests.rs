//! A download without a network: what is told and what stands on the disk, whoever does the work.

use super::*;
use crate::client::files::downloads::Shape;
use crate::crypto::identity::Identity;
use crate::transfer::exchange::{Answers, Ask, Catalog, Here, Item, PartSource};
use crate::transfer::restrict::{Compiled, Maker, Used, check, parse};
use crate::transfer::tree::{GROUP, Geometry, Pair, PairSink, TreeHasher};
use crate::wire::id::Id;
use crate::wire::name::{FullName, Name};
use crate::wire::sharing::{Rule, Scope};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tempfile::TempDir;

const SOURCE: TransferId = Id([3; 16]);
const GROUPS: u64 = 21;
const SIZE: u64 = (GROUPS - 1) * GROUP + 77;

struct Holder {
    bytes: Vec<u8>,
    pairs: BTreeMap<u64, Pair>,
    geometry: Geometry,
    root: Root,
}

impl PairSink for Holder {
    type Error = Infallible;

    fn put(&mut self, slot: u64, pair: &Pair) -> Result<(), Infallible> {
        self.pairs.insert(slot, *pair);
        Ok(())
    }
}

impl Catalog for Holder {
    fn item(&self, _item: u32) -> Option<Item<'_>> {
        Some(Item { geometry: self.geometry, here: Here::Whole })
    }
}

impl Holder {
    fn new() -> Self {
        let bytes: Vec<u8> = (0..SIZE).map(|n| (n / 997) as u8).collect();
        let geometry = Geometry::new(SIZE).unwrap();
        let mut holder = Self { bytes: bytes.clone(), pairs: BTreeMap::new(), geometry, root: [0; 32] };
        let mut hasher = TreeHasher::new(geometry);
        hasher.push(&bytes, &mut holder).unwrap();
        holder.root = hasher.finish(&mut holder).unwrap();
        holder
    }

    /// What it sends to somebody who wants all of it.
    fn stream(&self) -> Vec<u8> {
        let mut answers = Answers::new(SIZE, u64::MAX);
        answers.announce(&RangeSet::of(0..GROUPS));
        let mut ask = Vec::new();
        Ask::Want { item: 0, first: 0, count: GROUPS }.encode(&mut ask);
        answers.push(&ask).unwrap();
        let end = answers.advance(self).unwrap();
        let mut stream = Vec::new();
        for part in answers.parts(0..end) {
            let bytes: &[u8] = match part.source {
                PartSource::Bytes(bytes) => bytes,
                PartSource::Pair { slot, skip, .. } => &self.pairs[&slot][skip..],
                PartSource::File { offset, .. } => &self.bytes[offset as usize..],
            };
            stream.extend_from_slice(&bytes[..part.len]);
        }
        stream
    }
}

fn expected(holder: &Holder) -> Expected {
    Expected {
        name: SafeName::new("film").unwrap(),
        kind: FileKind::File,
        size: SIZE,
        root: holder.root,
        offered: None,
        room: None,
        rules: Rules::default(),
        tag: [1; 8],
    }
}

/// One download, and everything that is told of it.
struct Bench {
    dir: TempDir,
    writer: Writer,
    told: Receiver<Report>,
}

impl Bench {
    /// Ready for bytes.
    fn new(holder: &Holder, in_place: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let expected = expected(holder);
        let (tell, told) = channel();
        let tell = move |report| drop(tell.send(report));
        let writer = Writer::start(Downloads::open(dir.path()).unwrap(), expected, tell).unwrap();
        let bench = Self { dir, writer, told };
        assert!(matches!(bench.next(), Report::Opened { .. }));
        while bench.writer.table.lock().unwrap().is_none() {
            std::thread::yield_now();
        }
        bench.writer.in_place.set_sensible(in_place);
        let wanted = Wanted { item: 0, geometry: holder.geometry, root: holder.root, groups: 0..GROUPS };
        bench.writer.asked(SOURCE, vec![wanted]);
        bench
    }

    /// The next that is told, but for the holder's word of what it has.
    fn next(&self) -> Report {
        match self.next_of_all() {
            Report::Has(SOURCE, _) => self.next_of_all(),
            other => other,
        }
    }

    fn next_of_all(&self) -> Report {
        self.told.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    /// Hands over a stream as a channel does: gathered to what is worth it.
    fn feed(&self, mut stream: &[u8]) {
        let mut goal = CHUNK;
        while !stream.is_empty() {
            let (now, later) = stream.split_at(goal.min(stream.len()));
            let mut gathered = now.to_vec();
            goal = self.writer.take(SOURCE, &mut gathered);
            assert!(gathered.is_empty() && goal > 0);
            stream = later;
        }
    }
}

fn got_of((source, groups): (TransferId, Range<u64>)) -> Report {
    Report::Got(source, groups)
}

#[test]
fn a_file_comes_whole_whoever_does_the_work() {
    let holder = Holder::new();
    for in_place in [true, false] {
        let mut bench = Bench::new(&holder, in_place);
        bench.feed(&holder.stream());
        let (mut got, found) = (RangeSet::default(), bench.writer.found());
        assert_eq!(found.is_empty(), !in_place, "the thread tells by itself");
        let mut found = found.into_iter().map(got_of);
        while !got.contains(&(0..GROUPS)) {
            match found.next().unwrap_or_else(|| bench.next()) {
                Report::Got(SOURCE, groups) => _ = got.insert(groups),
                other => panic!("{other:?}"),
            }
        }
        bench.writer.finish();
        let Report::Done(path) = bench.next() else { panic!("it is not done") };
        assert!(path.starts_with(bench.dir.path()) && std::fs::read(path).unwrap() == holder.bytes);
    }
}

#[test]
fn a_lie_is_found_and_nothing_of_it_counts_whoever_does_the_work() {
    let holder = Holder::new();
    let mut stream = holder.stream();
    let middle = stream.len() / 2;
    stream[middle] ^= 1;
    for in_place in [true, false] {
        let bench = Bench::new(&holder, in_place);
        bench.feed(&stream);
        let (mut found, mut got) = (bench.writer.found().into_iter().map(got_of), RangeSet::default());
        let lie = loop {
            match found.next().unwrap_or_else(|| bench.next()) {
                Report::Got(SOURCE, groups) => _ = got.insert(groups),
                Report::Lied(SOURCE, lie) => break lie,
                other => panic!("{other:?}"),
            }
        };
        let Lie::Group { item: 0, group } = lie else { panic!("{lie}") };
        assert!(got.iter().eq(std::iter::once(0..group)), "in place: {in_place}, {got:?}");
    }
}

#[test]
fn what_goes_wrong_in_place_ends_the_download_as_it_does_on_the_thread() {
    let holder = Holder::new();
    for in_place in [true, false] {
        let bench = Bench::new(&holder, in_place);
        let broken = || DownloadError::Disk(io::ErrorKind::StorageFull.into());
        match bench.writer.do_in_place(|_| Err::<(), _>(broken())) {
            Some(result) => assert!(in_place && result.is_err()),
            None => bench.writer.hand_over(Work::Failed(broken())),
        }
        // What comes after it changes nothing.
        bench.feed(&holder.stream());
        let error = loop {
            match bench.next() {
                Report::Failed(error) => break error.to_string(),
                Report::Got(..) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(error.contains(&*bench.dir.path().to_string_lossy()), "{error}");
        assert!(bench.writer.found().is_empty(), "in place: {in_place}");
    }
}

/// What the thread has told may be older than that: a word that overtakes it would be forgotten for it.
#[test]
fn what_a_holder_says_of_itself_is_told_in_order_whoever_does_the_work() {
    let holder = Holder::new();
    for in_place in [true, false] {
        let bench = Bench::new(&holder, in_place);
        bench.feed(&holder.stream());
        let Report::Has(SOURCE, groups) = bench.next_of_all() else { panic!("it comes first, in place: {in_place}") };
        assert_eq!(groups, RangeSet::of(0..GROUPS));
    }
}

#[test]
fn a_beginning_that_cannot_be_read_costs_no_partial() {
    let holder = Holder::new();
    let mut bench = Bench::new(&holder, false);
    bench.feed(&holder.stream());
    let mut got = RangeSet::new();
    while !got.contains(&(0..GROUPS)) {
        if let Report::Got(_, groups) = bench.next() {
            got.insert(groups);
        }
    }
    bench.writer.leave();
    while !matches!(bench.next(), Report::Ended) {}
    let place = std::fs::read_dir(bench.dir.path()).unwrap().next().unwrap().unwrap().path();
    let limits = check(&parse("--deny-type application/x-executable").unwrap().limits).unwrap();
    let rule = Rule { id: 3, scope: Scope::All, limits, reason: None };
    let key = Identity::from_seed(&[1; 32]).public();
    let person = (FullName::new(Name::parse("bob").unwrap(), Name::parse("s1").unwrap()), key);
    let maker = Maker::Server(Name::parse("s1").unwrap());
    let rules = Rules::among([Compiled::new(maker, rule).into()], &[], person, &key, Used::default());
    assert!(rules.ask_types());
    let (tell, told) = channel();
    let data = place.join("data");
    let tell = move |report| match report {
        // Between the check and the look at the beginning.
        Report::Checking(..) => std::fs::File::create(&data).map(drop).unwrap(),
        other => drop(tell.send(other)),
    };
    let expected = Expected { rules, ..expected(&holder) };
    let writer = Writer::start(Downloads::open(bench.dir.path()).unwrap(), expected, tell).unwrap();
    let found = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(found, Report::Failed(_)), "{found:?}");
    drop(writer);
    assert!(place.join("state").exists());
}

#[test]
fn a_folder_whose_list_is_lost_is_not_given_up_for_it() {
    let holder = Holder::new();
    for wanted in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let expected = Expected { kind: FileKind::Folder, ..expected(&holder) };
        let place = Downloads::open(dir.path()).unwrap();
        place.workplace(&holder.root, Shape::Folder, [1; 8]).unwrap().file("state").unwrap();
        let (tell, told) = channel();
        let mut writer = Writer::start(place, expected, move |report| drop(tell.send(report))).unwrap();
        let next = || told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(next(), Report::NeedsManifest));
        if wanted {
            writer.leave()
        } else {
            writer.remove()
        }
        assert!(matches!(next(), Report::Ended));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), usize::from(wanted));
    }
}
