//! Downloads in virtual time from holders of any kind.

use super::*;
use crate::limits::WANTS_MAX;
use crate::transfer::tree::{GROUP, Geometry};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// A holder: answers asks in order at its rate.
#[derive(Debug, Clone)]
struct Holder {
    /// Bytes a second.
    rate: f64,
    rtt: Duration,
    has: Option<RangeSet>,
    joins: Duration,
    ends: Option<(Duration, End)>,
    /// The part of its datagrams that is lost; what comes behind one waits until it was sent again.
    loss: f64,
}

/// What a holder's line is busy with.
struct Line {
    free_at: Duration,
    delivered: Duration,
    dice: ChaCha8Rng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It says goodbye, or was caught lying.
    Leaves,
    /// Nothing comes any more.
    Freezes,
    /// Nothing comes for this long.
    Pauses(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Join(SourceId),
    Leave(SourceId),
    Arrive(SourceId, u64, u64),
}

#[derive(Debug, Default)]
struct Report {
    took: Duration,
    complete: bool,
    /// Bytes that each delivered first.
    fresh: BTreeMap<SourceId, u64>,
    wasted: u64,
    stalled: Vec<SourceId>,
    asks: usize,
    largest_ask: u64,
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn mbit(rate: f64, rtt: u64) -> Holder {
    Holder { rate: rate * 125_000.0, rtt: millis(rtt), has: None, joins: Duration::ZERO, ends: None, loss: 0.0 }
}

fn one_file(size: u64) -> Arc<Space> {
    Arc::new(Space::file(Geometry::new(size).unwrap(), [0; 32]))
}

fn download(space: &Arc<Space>, holders: &[Holder]) -> Report {
    let mut planner = Planner::new(Arc::clone(space), RangeSet::new());
    let mut heap = BinaryHeap::new();
    let line =
        |seed| Line { free_at: Duration::ZERO, delivered: Duration::ZERO, dice: ChaCha8Rng::seed_from_u64(seed) };
    let mut lines: Vec<_> = (0..).map(line).take(holders.len()).collect();
    for (id, holder) in (0..).zip(holders) {
        heap.push(Reverse((holder.joins, Happens::Join(id))));
        if let Some((at, End::Leaves)) = holder.ends {
            heap.push(Reverse((at, Happens::Leave(id))));
        }
    }
    let (mut report, mut seen) = (Report::default(), RangeSet::new());
    let mut last = Duration::ZERO;
    while !planner.is_complete() {
        let next = heap.peek().map(|Reverse((at, _))| *at);
        let due = planner.poll_timeout().filter(|due| next.is_none_or(|at| *due < at));
        let now = if let Some(due) = due {
            planner.handle_timeout(due);
            due
        } else {
            let Some(Reverse((now, happens))) = heap.pop() else { break };
            match happens {
                Happens::Join(id) => {
                    let holder = &holders[id as usize];
                    planner.add_source(now, id, Some(holder.rtt), holder.has.clone());
                }
                Happens::Leave(id) => planner.remove_source(now, id),
                Happens::Arrive(id, start, end) => {
                    let new = planner.arrived(now, id, &(start..end));
                    let bytes: u64 = new.iter().map(|part| space.bytes(&part)).sum();
                    new.iter().for_each(|part| {
                        assert_eq!(seen.insert(part.clone()), part.end - part.start, "counted once");
                    });
                    *report.fresh.entry(id).or_default() += bytes;
                    report.wasted += space.bytes(&(start..end)) - bytes;
                    last = now;
                }
            }
            now
        };
        while let Some(PlanEvent::Stalled(id)) = planner.poll_event() {
            report.stalled.push(id);
        }
        for (id, holder) in (0..).zip(holders) {
            let mut turns = 0;
            while let Some(groups) = planner.next(now, id) {
                assert!(holder.has.as_ref().is_none_or(|has| has.contains(&groups)), "only what it has");
                (turns, report.asks) = (turns + 1, report.asks + 1);
                assert!(turns < 10_000, "it never stops asking");
                report.largest_ask = report.largest_ask.max(space.bytes(&groups));
                serve(space, holder, now, &mut lines[id as usize], groups)
                    .for_each(|(at, run)| heap.push(Reverse((at, Happens::Arrive(id, run.start, run.end)))));
            }
        }
    }
    report.complete = seen == RangeSet::of(0..space.groups());
    report.took = last;
    report
}

/// When each run of an ask arrives.
fn serve<'a>(
    space: &'a Space,
    holder: &'a Holder,
    now: Duration,
    line: &'a mut Line,
    groups: Range<u64>,
) -> impl Iterator<Item = (Duration, Range<u64>)> + 'a {
    line.free_at = line.free_at.max(now + holder.rtt / 2);
    let count = if holder.loss > 0.0 { 1 } else { 16 };
    let runs = (groups.start..groups.end).step_by(count).map(move |start| start..groups.end.min(start + count as u64));
    runs.filter_map(move |run| {
        let bytes = space.bytes(&run);
        let (mut sent, mut turns) = (bytes, 0);
        if holder.loss > 0.0 {
            for _ in 0..bytes.div_ceil(DATAGRAM) {
                let mut lost = 0;
                while f64::from(line.dice.next_u32()) < holder.loss * f64::from(u32::MAX) {
                    lost += 1;
                }
                (sent, turns) = (sent + u64::from(lost) * DATAGRAM, turns.max(lost));
            }
        }
        line.free_at += Duration::from_secs_f64(sent as f64 / holder.rate);
        line.delivered = line.delivered.max(line.free_at + holder.rtt / 2 + holder.rtt * turns);
        let mut at = line.delivered;
        match holder.ends {
            Some((end, End::Pauses(time))) if at >= end && at < end + time => at = end + time + holder.rtt,
            Some((end, End::Leaves | End::Freezes)) if at >= end => return None,
            _ => {}
        }
        Some((at, run))
    })
}

fn ideal(space: &Space, rate: f64) -> Duration {
    Duration::from_secs_f64(space.size() as f64 / rate)
}

const MIB: u64 = 1 << 20;
/// Bytes of a datagram.
const DATAGRAM: u64 = 1400;

#[test]
fn three_equal_holders_do_a_third_each() {
    let space = one_file(256 * MIB);
    for rtt in [2, 50, 200] {
        let report = download(&space, &[mbit(50.0, rtt), mbit(50.0, rtt), mbit(50.0, rtt)]);
        assert!(report.complete && report.fresh.len() == 3);
        for fresh in report.fresh.values() {
            assert!((0.31..0.36).contains(&(*fresh as f64 / space.size() as f64)), "{report:?}");
        }
        assert!(report.took < ideal(&space, 150.0 * 125_000.0).mul_f64(1.05), "{report:?}");
        assert!(report.wasted < 4 * MIB, "{report:?}");
    }
}

/// What waited behind a lost datagram comes all at once.
#[test]
fn a_burst_after_a_gap_is_not_taken_for_speed() {
    let space = one_file(256 * MIB);
    for at in (500..14_000).step_by(250) {
        let gap = Holder { ends: Some((millis(at), End::Pauses(millis(300)))), ..mbit(50.0, 50) };
        let report = download(&space, &[mbit(50.0, 50), gap, mbit(50.0, 50)]);
        let most = ideal(&space, 150.0 * 125_000.0).mul_f64(1.03);
        assert!(report.complete && report.took < most, "{at} {:?} {most:?}", report.took);
        assert!(report.wasted < 4 * MIB, "{at} {report:?}");
    }
}

#[test]
fn the_faster_does_more() {
    let space = one_file(256 * MIB);
    let report = download(&space, &[mbit(10.0, 80), mbit(200.0, 50), mbit(50.0, 20)]);
    assert!(report.complete && report.took < ideal(&space, 260.0 * 125_000.0).mul_f64(1.05), "{report:?}");
    assert!(report.fresh[&0] < report.fresh[&2] && report.fresh[&2] < report.fresh[&1]);
    assert!(report.wasted < 8 * MIB, "{report:?}");
}

#[test]
fn a_lone_holder_is_asked_in_order_and_never_idle() {
    for (rate, rtt) in [(10_000.0, 0), (1000.0, 100), (200.0, 50), (50.0, 200), (2.0, 300)] {
        let space = one_file((rate * 125_000.0 * 3.0) as u64);
        let report = download(&space, &[mbit(rate, rtt)]);
        // A holder that is fast from its first byte on is not there at once.
        let most = ideal(&space, rate * 125_000.0) + millis(rtt * 5 / 2 + 5);
        assert!(report.complete && report.wasted == 0 && report.took < most, "{rate} {rtt} {report:?} {most:?}");
        assert!(report.asks < 300, "{report:?}");
    }
}

/// What comes behind a lost datagram waits for round trips: that is no reason to ask for less.
#[test]
fn a_lone_holder_behind_a_lossy_line_is_never_idle() {
    for (rate, rtt, loss) in [(100.0, 100, 0.05), (200.0, 50, 0.2), (50.0, 200, 0.01), (1000.0, 20, 0.05)] {
        let space = one_file((rate * 125_000.0 * 30.0) as u64);
        let report = download(&space, &[Holder { loss, ..mbit(rate, rtt) }]);
        let most = ideal(&space, rate * 125_000.0 * (1.0 - loss)).mul_f64(1.005) + millis(rtt * 12 + 500);
        assert!(report.complete && report.took < most, "{rate} {rtt} {loss} {report:?} {most:?}");
    }
}

#[test]
fn lossy_holders_end_together() {
    let space = one_file(256 * MIB);
    let lossy = Holder { loss: 0.05, ..mbit(50.0, 50) };
    let report = download(&space, &[lossy.clone(), lossy.clone(), lossy]);
    let most = ideal(&space, 150.0 * 125_000.0 * 0.95).mul_f64(1.03);
    assert!(report.complete && report.took < most, "{report:?} {most:?}");
    assert!(report.wasted < 4 * MIB, "{report:?}");
}

#[test]
fn wants_are_small_where_it_is_slow_and_large_where_it_is_fast() {
    let space = one_file(1024 * MIB);
    assert_eq!(download(&space, &[mbit(10_000.0, 1)]).largest_ask, 16 * MIB);
    assert!(download(&space, &[mbit(50.0, 20), mbit(50.0, 20)]).largest_ask <= 4 * MIB);
    let mut planner = Planner::new(space, RangeSet::new());
    planner.add_source(Duration::ZERO, 7, None, None);
    let first: Vec<_> = std::iter::from_fn(|| planner.next(Duration::ZERO, 7)).collect();
    assert_eq!(first[0], 0..4, "an answer comes soon");
    assert!(first.windows(2).all(|pair| pair[0].end == pair[1].start), "in order");
    assert_eq!(planner.next(Duration::ZERO, 8), None);
}

#[test]
fn who_freezes_is_named_and_replaced() {
    let space = one_file(64 * MIB);
    let frozen = Holder { ends: Some((millis(1500), End::Freezes)), ..mbit(50.0, 50) };
    let report = download(&space, &[mbit(50.0, 50), frozen.clone(), mbit(50.0, 50)]);
    assert!(report.complete && report.stalled == [1], "{report:?}");
    let most = millis(1500) + ideal(&one_file(64 * MIB - 3 * 9_000_000), 100.0 * 125_000.0).mul_f64(1.1);
    assert!(report.took < most.max(millis(3700)), "{report:?}");
    let alone = download(&space, &[frozen]);
    assert!(!alone.complete && alone.stalled.is_empty(), "nobody could do its work");
}

#[test]
fn who_leaves_is_replaced_and_who_comes_late_helps() {
    let space = one_file(64 * MIB);
    let leaver = Holder { ends: Some((millis(1000), End::Leaves)), ..mbit(100.0, 50) };
    let late = Holder { joins: millis(1500), ..mbit(100.0, 50) };
    let report = download(&space, &[leaver, late]);
    assert!(report.complete && report.fresh.len() == 2, "{report:?}");
    let both = ideal(&space, 100.0 * 125_000.0) + millis(500 + 150);
    assert!(report.took < both, "{report:?} {both:?}");
}

#[test]
fn a_pause_of_everyone_ends_nothing() {
    let space = one_file(64 * MIB);
    let paused = Holder { ends: Some((millis(1000), End::Pauses(millis(30_000)))), ..mbit(100.0, 50) };
    let alone = download(&space, std::slice::from_ref(&paused));
    assert!(alone.complete && alone.stalled.is_empty());
    let both = download(&space, &[paused.clone(), paused]);
    assert!(both.complete && both.stalled.len() == 1, "{both:?}");
}

#[test]
fn holders_of_parts_do_what_they_can() {
    let space = one_file(128 * MIB);
    let (all, half) = (mbit(50.0, 50), space.groups() / 2);
    let part = Holder { has: Some(RangeSet::of(0..half)), ..mbit(50.0, 50) };
    let report = download(&space, &[all, part.clone()]);
    assert!(report.complete && report.took < ideal(&space, 100.0 * 125_000.0).mul_f64(1.1), "{report:?}");
    let other = Holder { has: Some(RangeSet::of(half..space.groups())), ..mbit(50.0, 50) };
    assert!(download(&space, &[part.clone(), other]).complete);
    assert!(!download(&space, &[part]).complete, "nobody has the rest");
}

#[test]
fn what_is_refused_is_asked_of_others_only() {
    let mut planner = Planner::new(one_file(8 * GROUP), RangeSet::new());
    let now = Duration::ZERO;
    planner.add_source(now, 1, None, None);
    let first = planner.next(now, 1).unwrap();
    planner.refused(now, 1, &first);
    assert_eq!(planner.unobtainable().iter().collect::<Vec<_>>(), vec![first.clone()]);
    assert!(std::iter::from_fn(|| planner.next(now, 1)).all(|more| more.start >= first.end));
    planner.add_source(now, 2, None, None);
    assert_eq!(planner.next(now, 2).map(|groups| groups.start), Some(first.start));
    assert!(planner.unobtainable().is_empty());
}

#[test]
fn what_was_here_before_is_not_asked_for() {
    let mut verified = RangeSet::of(0..5);
    verified.insert(7..1000);
    let mut planner = Planner::new(one_file(1001 * GROUP), verified);
    planner.add_source(Duration::ZERO, 1, None, None);
    let asks: Vec<_> = std::iter::from_fn(|| planner.next(Duration::ZERO, 1)).collect();
    assert_eq!(asks.concat_ranges(), [5, 6, 1000]);
    planner.arrived(Duration::ZERO, 1, &(5..7));
    assert!(!planner.is_complete());
    planner.arrived(Duration::ZERO, 1, &(1000..1001));
    assert!(planner.is_complete());
    planner.lost(&(3..4));
    assert_eq!(planner.next(Duration::ZERO, 1), Some(3..4));
}

trait Concat {
    fn concat_ranges(&self) -> Vec<u64>;
}

impl Concat for Vec<Range<u64>> {
    fn concat_ranges(&self) -> Vec<u64> {
        self.iter().cloned().flatten().collect()
    }
}

#[test]
fn a_thousand_small_files_take_a_few_asks() {
    let space = Arc::new(Space::folder((0..1000).map(|_| (10_240, [0; 32]))).unwrap());
    let report = download(&space, &[mbit(200.0, 50)]);
    assert!(report.complete && report.asks < 20, "{report:?}");
    assert!(report.took < ideal(&space, 200.0 * 125_000.0) + millis(60), "{report:?}");
}

fn any_holder() -> impl Strategy<Value = Holder> {
    let end = prop_oneof![
        3 => Just(None),
        1 => (0..20_000u64).prop_map(|at| Some((millis(at), End::Leaves))),
        1 => (0..20_000u64).prop_map(|at| Some((millis(at), End::Freezes))),
        1 => (0..20_000u64, 0..9000u64).prop_map(|(at, ms)| Some((millis(at), End::Pauses(millis(ms))))),
    ];
    let has = proptest::option::of(proptest::collection::vec((0..1024u64, 1..400u64), 0..4));
    (1.0..3.0f64, 0..300u64, 0..10_000u64, end, has).prop_map(|(rate, rtt, joins, ends, has)| {
        let mut holder = mbit(10f64.powf(rate), rtt);
        holder.has = has.map(|parts| {
            let mut set = RangeSet::new();
            parts.into_iter().for_each(|(start, len)| {
                set.insert(start..start + len);
            });
            set
        });
        (holder.joins, holder.ends) = (millis(joins), ends);
        holder
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_group_comes_once_from_whoever_there_is(
        holders in proptest::collection::vec(any_holder(), 0..6),
        rescuer in any_holder(),
        size in 1..64 * MIB,
    ) {
        // One that comes to stay makes any mixture end; the checks are in the model.
        let stays = Holder { has: None, ends: None, ..rescuer };
        let rate = stays.rate;
        let joins = stays.joins;
        let space = one_file(size);
        let report = download(&space, &[holders, vec![stays]].concat());
        prop_assert!(report.complete, "{:?}", report);
        let alone = ideal(&space, rate) + joins + millis(10_000);
        prop_assert!(report.took < alone.mul_f64(1.5), "{:?} {:?}", report, alone);
    }
}

#[test]
fn of_tiny_files_no_more_are_awaited_than_an_asker_keeps() {
    let space = Arc::new(Space::folder((0..50_000).map(|_| (5, [0; 32]))).unwrap());
    let mut planner = Planner::new(space, RangeSet::new());
    planner.add_source(Duration::ZERO, 1, None, None);
    let mut awaited = VecDeque::new();
    let mut most = 0;
    loop {
        while let Some(groups) = planner.next(Duration::ZERO, 1) {
            awaited.push_back(groups);
        }
        most = most.max(awaited.iter().map(|groups| groups.end - groups.start).sum::<u64>());
        let Some(groups) = awaited.pop_front() else { break };
        planner.arrived(Duration::ZERO, 1, &groups);
    }
    assert!((8_192..=WANTS_MAX as u64).contains(&most), "{most}");
    assert!(planner.is_complete());
}
