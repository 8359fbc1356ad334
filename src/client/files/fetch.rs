//! One download: its sources, what is asked of whom, and its way to the disk.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::downloads::{DownloadError, Downloads};
use super::meter::Meter;
use super::part::Part;
use super::rates::Bucket;
use super::supply::{Supply, Turn};
use super::wire::Incoming;
use super::writer::{Expected, Report, Writer};
use crate::client::effects::{FilesEvent, LostReason};
use crate::transfer::exchange::{Ask, Refusal, Wanted};
use crate::transfer::planner::{PlanEvent, Planner, SourceId};
use crate::transfer::space::Space;
use crate::transfer::tree::{GROUP, Geometry, Root};
use crate::wire::datagram::CloseCode;
use crate::wire::id::TransferId;
use crate::wire::payload::FileKind;

/// A file or folder that we fetch.
#[derive(Debug)]
pub(super) struct Fetch {
    download: TransferId,
    // Among all fetches.
    serial: u64,
    // The size is the root's; others fetch with another one; so far, or for good.
    proven: bool,
    rival: bool,
    // Of the rivals it has got furthest: it shows how far.
    leads: bool,
    // Over without an end of the download; its thread is still putting things in order.
    abandoned: bool,
    clearing: bool,
    expected: Expected,
    supplies: Vec<Supply>,
    next_number: SourceId,
    stage: Stage,
    writer: Writer,
    started: Duration,
    meter: Meter,
    checked: Duration,
    // File bytes in all, once known.
    size: u64,
    // The core knows that no source is left.
    starved: bool,
    // The core knows the end; the peers may still have to hear of it.
    over: bool,
    told: VecDeque<FilesEvent>,
    // Told once the writing thread has left or removed what there was.
    farewell: Option<FilesEvent>,
}

#[derive(Debug)]
enum Stage {
    /// The writing thread opens what is left from before.
    Opening,
    /// Of a folder: the manifest comes, from the sources with these numbers, the last of whom was asked then.
    Manifest(Vec<SourceId>, Duration),
    Running(Box<Running>),
    /// Everything is there and on its way to its name, or given up.
    Ending,
}

#[derive(Debug)]
struct Running {
    space: Arc<Space>,
    plan: Planner,
    // Planned, and waiting for the rate that is allowed.
    waiting: VecDeque<(SourceId, Range<u64>)>,
    // File bytes that are there.
    bytes: u64,
    part: Option<Arc<Part>>,
}

impl Fetch {
    /// Opens what is left from before, or begins anew. `tell` passes on what the writing thread says.
    pub(super) fn new(
        now: Duration,
        (download, serial): (TransferId, u64),
        expected: Expected,
        downloads: Downloads,
        tell: impl Fn(Report) + Send + 'static,
    ) -> io::Result<Self> {
        let writer = Writer::start(downloads, expected.clone(), tell)?;
        Ok(Self {
            download,
            serial,
            proven: false,
            rival: false,
            leads: false,
            abandoned: false,
            clearing: false,
            expected,
            supplies: Vec::new(),
            next_number: 0,
            stage: Stage::Opening,
            writer,
            started: now,
            meter: Meter::default(),
            checked: Duration::ZERO,
            size: 0,
            starved: false,
            over: false,
            told: VecDeque::new(),
            farewell: None,
        })
    }

    pub(super) fn download(&self) -> TransferId {
        self.download
    }

    /// Its number among all.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// What it fetches: later sources must have the same.
    pub(super) fn root(&self) -> &Root {
        &self.expected.root
    }

    /// Whether a source that says so has the same.
    pub(super) fn expects(&self, other: &Expected) -> bool {
        self.expected.root == other.root && self.shape() == (other.kind, other.size)
    }

    /// What its sources say that it is, or what it has turned out to be.
    pub(super) fn shape(&self) -> (FileKind, u64) {
        (self.expected.kind, self.expected.size)
    }

    /// Whether the size is known to be the root's, or that of the manifest that is here. A root stands for one size only, but that shows only in the last group: who
    /// says another may bring many groups of the true file.
    pub(super) fn is_proven(&self) -> bool {
        self.proven && !self.abandoned
    }

    /// Without a source, and without a proof of its size.
    pub(super) fn is_dead(&self) -> bool {
        !self.proven && self.live_supplies().next().is_none()
    }

    /// File bytes that are there.
    pub(super) fn bytes(&self) -> u64 {
        if let Stage::Running(running) = &self.stage { running.bytes } else { 0 }
    }

    /// Whether others fetch the same with another size, and whether it shows how far they are.
    pub(super) fn set_rival(&mut self, rival: bool, leads: bool) {
        self.leads = leads;
        if self.rival && !rival && self.starved {
            self.told.push_back(FilesEvent::Starved { download: self.download });
        }
        self.rival = rival;
    }

    /// The download has come to its end, or is about to: no source is wanted any more.
    pub(super) fn has_ended(&self) -> bool {
        !self.abandoned && (self.over || matches!(self.stage, Stage::Ending))
    }

    /// Its size was false: nothing of it stays, and its sources have lied. The download goes on without it.
    pub(super) fn abandon(&mut self, now: Duration, why: &str) {
        self.lose_all(now, LostReason::Lied, why);
        if self.expected.kind == FileKind::File {
            self.writer.remove();
        } else {
            // It may have found files there that were right.
            self.writer.leave();
        }
        (self.abandoned, self.clearing, self.over, self.stage) = (true, true, true, Stage::Ending);
    }

    /// Another one has begun with what this one's sources have too: they may come to that.
    pub(super) fn give_way(&mut self, now: Duration) {
        self.lose_all(now, LostReason::Stalled, "what it was asked for was here already");
        self.retire();
    }

    /// Nobody brings anything for it, and others go on: what is there stays for another time.
    pub(super) fn retire(&mut self) {
        self.writer.leave();
        (self.abandoned, self.clearing, self.over, self.stage) = (true, true, true, Stage::Ending);
    }

    fn lose_all(&mut self, now: Duration, reason: LostReason, why: &str) {
        let live: Vec<_> = self.live_supplies().map(Supply::transfer).collect();
        self.close_all(now, CloseCode::FILE, why);
        let (download, detail) = (self.download, why.to_owned());
        let lost = |transfer| FilesEvent::SourceLost { download, transfer, reason, detail: detail.clone() };
        self.told.extend(live.into_iter().map(lost));
    }

    /// The number for the next source.
    pub(super) fn number(&mut self) -> SourceId {
        self.next_number += 1;
        self.next_number
    }

    /// A source has come.
    pub(super) fn add(&mut self, now: Duration, supply: Supply) {
        self.starved = false;
        if let Stage::Running(running) = &mut self.stage {
            running.add(now, &supply);
        }
        self.supplies.push(supply);
    }

    /// The core knows its end; only peers may still have to hear of it.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Nothing is left to do or to tell.
    pub(super) fn is_gone(&self) -> bool {
        let told = self.told.is_empty() && self.farewell.is_none();
        self.over && told && !self.clearing && self.supplies.is_empty()
    }

    /// What others may have of it.
    pub(super) fn part(&self) -> Option<Arc<Part>> {
        match &self.stage {
            // With a false size it would be a lie of ours.
            Stage::Running(running) if !self.over && self.proven => running.part.clone(),
            _ => None,
        }
    }

    /// When [`Self::on_time`] wants to be called.
    pub(super) fn deadline(&self, now: Duration, bucket: &Bucket) -> Option<Duration> {
        let told = (!self.told.is_empty()).then_some(now);
        let plan = match &self.stage {
            Stage::Running(running) if running.waiting.is_empty() => running.plan.poll_timeout(),
            Stage::Running(running) => {
                [bucket.opens_at(now, 1), running.plan.poll_timeout()].into_iter().flatten().min()
            }
            Stage::Manifest(asked, at) if asked.len() < MANIFEST_SOURCES => {
                self.live_supplies().any(|supply| !asked.contains(&supply.number)).then_some(*at + MANIFEST_STALL)
            }
            _ => None,
        };
        self.supplies.iter().filter_map(|supply| supply.deadline(now)).chain(plan).chain(told).min()
    }

    /// Which of our sources has this connection id.
    pub(super) fn find(&self, id: &[u8; 8]) -> Option<usize> {
        self.supplies.iter().position(|supply| supply.is_ours(id))
    }

    /// A datagram for the source at this place.
    pub(super) fn on_datagram(&mut self, now: Duration, at: usize, datagram: Incoming<'_>) {
        if let Some(supply) = self.supplies.get_mut(at) {
            supply.on_datagram(now, datagram, &self.writer);
        }
    }

    /// Sources that deliver, or may yet.
    pub(super) fn live_supplies(&self) -> impl Iterator<Item = &Supply> {
        self.supplies.iter().filter(|supply| supply.is_live())
    }

    /// Sources that may have something to send.
    pub(super) fn supplies(&mut self) -> impl Iterator<Item = &mut Supply> {
        self.supplies.iter_mut()
    }

    /// Whether nothing else is fetched.
    pub(super) fn set_alone(&self, alone: bool) {
        self.writer.set_alone(alone);
    }

    /// Everything that had come was taken.
    pub(super) fn on_time(&mut self, now: Duration, bucket: &mut Bucket, tell: &mut dyn FnMut(FilesEvent)) {
        let mut turns = Vec::new();
        for supply in &mut self.supplies {
            let (transfer, number) = (supply.transfer(), supply.number);
            supply.on_time(now, &self.writer, &mut |turn| turns.push((transfer, number, turn)));
        }
        for (transfer, groups) in self.writer.found() {
            self.on_report(now, Report::Got(transfer, groups));
        }
        for (transfer, number, turn) in turns {
            match turn {
                Turn::Started(route) => self.told.push_back(FilesEvent::Started { transfer, route }),
                Turn::Rerouted(route) => self.told.push_back(FilesEvent::Rerouted { transfer, route }),
                Turn::Silent => self.told.push_back(FilesEvent::Silent { transfer }),
                Turn::Lost(reason, detail) => self.lost(now, transfer, number, reason, detail),
            }
        }
        self.supplies.retain(|supply| !supply.is_gone());
        self.pump(now, bucket);
        while let Some(event) = self.told.pop_front() {
            // As long as there are rivals none of them speaks for the download.
            if !self.rival || !matches!(event, FilesEvent::Starved { .. }) {
                tell(event);
            }
        }
        if let Stage::Running(running) = &self.stage
            && (!self.rival || self.leads)
            && let Some(rate) = self.meter.sample(now, running.bytes)
        {
            let (bytes, total) = (running.bytes, running.space.size());
            let sources = u32::try_from(running.plan.active()).unwrap_or(u32::MAX);
            tell(FilesEvent::Progress { transfer: self.download, bytes, total, rate, sources });
        }
    }

    /// What the writing thread says.
    pub(super) fn on_report(&mut self, now: Duration, report: Report) {
        if self.over {
            if matches!(report, Report::Ended | Report::Failed(_) | Report::Done(_)) {
                self.clearing = false;
                // How it ends is known, and now it has.
                self.told.extend(self.farewell.take());
            }
            return;
        }
        match report {
            Report::Ended => {}
            Report::NeedsManifest => self.stage = Stage::Manifest(Vec::new(), now),
            Report::ListKnown(bytes) => {
                // Whatever a source said of it.
                self.expected.size = bytes;
                self.proven = true;
            }
            Report::Checking(bytes, total) => {
                if bytes == total || now.saturating_sub(self.checked) >= CHECK_INTERVAL {
                    self.checked = now;
                    self.told.push_back(FilesEvent::Hashing { transfer: self.download, bytes, total });
                }
            }
            Report::Opened { space, have, entries, part } => {
                let bytes = have.iter().map(|range| space.bytes(&range)).sum();
                self.size = space.size();
                if self.expected.kind == FileKind::Folder {
                    let (download, bytes) = (self.download, space.size());
                    self.told.push_back(FilesEvent::Listed { download, entries, bytes });
                }
                if matches!(&self.stage, Stage::Manifest(asked, _) if asked.len() <= 1) {
                    // What was asked for has come; of several who were asked, the others still send it.
                    self.supplies.iter_mut().for_each(|supply| supply.brought(u64::MAX));
                }
                let last = space.groups().saturating_sub(1);
                self.proven |= have.contains(&(last..last + 1));
                let mut plan = Planner::new(Arc::clone(&space), have);
                if !self.proven {
                    plan.begin_with(last..last + 1);
                }
                let mut running = Running { space, plan, waiting: VecDeque::new(), bytes, part };
                self.supplies.iter().filter(|supply| supply.is_live()).for_each(|supply| running.add(now, supply));
                self.stage = Stage::Running(Box::new(running));
                self.look_for_the_end(now);
            }
            Report::Got(transfer, groups) => self.got(now, transfer, &groups),
            Report::Refused(transfer, groups, why, path) => {
                let number = self.number_of(transfer);
                match (&mut self.stage, why, number) {
                    (Stage::Running(running), Refusal::NotHere, Some(number)) => {
                        running.plan.refused(now, number, &groups);
                    }
                    (_, _, Some(_)) => {
                        let what = path.map_or("its file".to_owned(), |path| format!("\"{path}\" in its folder"));
                        self.end(now, transfer, LostReason::Changed, &format!("{what} is no longer what it was"));
                    }
                    _ => {}
                }
            }
            Report::Has(transfer, groups) => {
                let source = self.supplies.iter_mut().find(|supply| supply.transfer() == transfer);
                match (&mut self.stage, source) {
                    (Stage::Running(running), Some(source)) => running.plan.set_has(source.number, groups),
                    // Of a folder it may be said before the manifest has come.
                    (_, Some(source)) => source.has = groups,
                    (_, None) => {}
                }
            }
            Report::Lied(transfer, lie) => self.end(now, transfer, LostReason::Lied, &lie.to_string()),
            Report::Done(path) => self.done(now, path.to_string_lossy().into_owned()),
            Report::Failed(error) => {
                let detail = error.to_string();
                let (reason, code, told) = match error {
                    DownloadError::Restricted(_) => ("restricted", CloseCode::RESTRICTED, detail.as_str()),
                    DownloadError::Folder(_) => ("verification", CloseCode::CANCELLED, NOT_TAKEN),
                    _ => ("disk", CloseCode::CANCELLED, NOT_TAKEN),
                };
                if self.rival {
                    // What ails this one is nothing to the others.
                    self.lose_all(now, LostReason::Stalled, told);
                    (self.abandoned, self.over, self.stage) = (true, true, Stage::Ending);
                    return;
                }
                self.close_all(now, code, told);
                self.failed(reason, detail);
            }
        }
    }

    /// The user gives it up. What has come whole is kept, and its end told as usual.
    pub(super) fn cancel(&mut self, now: Duration, reason: &str, keep: bool) {
        if self.over || self.writer.is_finishing() {
            return;
        }
        self.close_all(now, CloseCode::CANCELLED, reason);
        if keep {
            self.writer.leave();
        } else {
            self.writer.remove();
        }
        self.failed("cancelled", reason.to_owned());
        self.farewell = self.told.pop_back();
    }

    /// One source is given up by the user.
    pub(super) fn drop_source(&mut self, now: Duration, transfer: TransferId, reason: &str) {
        let Some(supply) = self.supplies.iter_mut().find(|supply| supply.transfer() == transfer) else { return };
        let number = supply.number;
        if supply.is_live() {
            supply.close(now, CloseCode::CANCELLED, reason, &self.writer);
            self.without(now, number);
        }
    }

    /// A source ends by what it did.
    fn end(&mut self, now: Duration, transfer: TransferId, reason: LostReason, detail: &str) {
        let live = |supply: &&mut Supply| supply.transfer() == transfer && supply.is_live();
        let Some(supply) = self.supplies.iter_mut().find(live) else { return };
        let number = supply.number;
        supply.close(now, CloseCode::FILE, "what was sent does not fit the root", &self.writer);
        self.lost(now, transfer, number, reason, detail.to_owned());
    }

    fn lost(&mut self, now: Duration, transfer: TransferId, number: SourceId, reason: LostReason, detail: String) {
        if !self.over {
            self.told.push_back(FilesEvent::SourceLost { download: self.download, transfer, reason, detail });
        }
        self.without(now, number);
    }

    /// What this source had to bring is for others.
    fn without(&mut self, now: Duration, number: SourceId) {
        match &mut self.stage {
            Stage::Running(running) => {
                running.plan.remove_source(now, number);
                running.waiting.retain(|(of, _)| *of != number);
            }
            Stage::Manifest(asked, _) => asked.retain(|of| *of != number),
            _ => {}
        }
        let waits = !self.over && !matches!(self.stage, Stage::Ending);
        if waits && !self.starved && !self.supplies.iter().any(Supply::is_live) {
            self.starved = true;
            self.told.push_back(FilesEvent::Starved { download: self.download });
        }
    }

    /// Asks for as much as is sensible now.
    fn pump(&mut self, now: Duration, bucket: &mut Bucket) {
        match &mut self.stage {
            Stage::Running(running) => running.pump(now, bucket, &mut self.supplies, &self.writer),
            Stage::Manifest(asked, at)
                if asked.is_empty() || asked.len() < MANIFEST_SOURCES && now >= *at + MANIFEST_STALL =>
            {
                let other = |supply: &&mut Supply| supply.is_live() && !asked.contains(&supply.number);
                let first = self.supplies.iter_mut().find(other);
                let geometry = Geometry::new(self.expected.size).ok();
                if let (Some(supply), Some(geometry)) = (first, geometry) {
                    let (count, root) = (geometry.groups(), self.expected.root);
                    let wanted = Wanted { item: 0, geometry, root, groups: 0..count };
                    supply.ask(&Ask::Want { item: 0, first: 0, count }, vec![wanted], &self.writer);
                    supply.send_asks(now);
                    asked.push(supply.number);
                    *at = now;
                }
            }
            Stage::Opening | Stage::Manifest(..) | Stage::Ending => {}
        }
    }

    fn got(&mut self, now: Duration, transfer: TransferId, groups: &Range<u64>) {
        let number = self.number_of(transfer);
        let Stage::Running(running) = &mut self.stage else { return };
        // What a source brought before it went counts too.
        let new = running.plan.arrived(now, number.unwrap_or(SourceId::MAX), groups);
        self.proven |= groups.end >= running.space.groups();
        running.bytes += new.iter().map(|range| running.space.bytes(&range)).sum::<u64>();
        if let Some(supply) = self.supplies.iter_mut().find(|supply| supply.transfer() == transfer) {
            supply.brought(groups.end - groups.start);
        }
        self.look_for_the_end(now);
    }

    fn look_for_the_end(&mut self, now: Duration) {
        if let Stage::Running(running) = &self.stage
            && running.plan.is_complete()
        {
            self.stage = Stage::Ending;
            self.writer.finish();
            for supply in self.supplies.iter_mut().filter(|supply| supply.is_live()) {
                supply.finish(now);
            }
        }
    }

    fn number_of(&self, transfer: TransferId) -> Option<SourceId> {
        self.supplies.iter().find(|supply| supply.transfer() == transfer).map(|supply| supply.number)
    }

    fn close_all(&mut self, now: Duration, code: CloseCode, reason: &str) {
        for supply in self.supplies.iter_mut().filter(|supply| supply.is_live()) {
            supply.close(now, code, reason, &self.writer);
        }
    }

    fn done(&mut self, now: Duration, path: String) {
        self.over = true;
        let seconds = now.saturating_sub(self.started).as_secs_f64();
        let (transfer, bytes) = (self.download, self.size);
        self.told.push_back(FilesEvent::Done { transfer, bytes, seconds, path: Some(path) });
    }

    fn failed(&mut self, reason: &str, detail: String) {
        self.over = true;
        self.stage = Stage::Ending;
        self.told.push_back(FilesEvent::Failed { transfer: self.download, reason: reason.to_owned(), detail });
    }
}

impl Running {
    fn add(&mut self, now: Duration, supply: &Supply) {
        let has = supply.partial.then(|| supply.has.clone());
        self.plan.add_source(now, supply.number, supply.round_trip(), has);
    }

    fn pump(&mut self, now: Duration, bucket: &mut Bucket, supplies: &mut [Supply], writer: &Writer) {
        self.plan.handle_timeout(now);
        // A holder that has stalled is asked for nothing, and gives no cause for it as long as its channel lives.
        while let Some(PlanEvent::Stalled(_)) = self.plan.poll_event() {}
        if self.waiting.is_empty() {
            for supply in supplies.iter().filter(|supply| supply.is_live()) {
                if let Some(round_trip) = supply.round_trip() {
                    self.plan.set_rtt(supply.number, round_trip);
                }
                while let Some(groups) = self.plan.next(now, supply.number) {
                    self.waiting.push_back((supply.number, groups));
                }
            }
        }
        while let Some((number, groups)) = self.waiting.pop_front() {
            let Some(supply) = supplies.iter_mut().find(|supply| supply.number == number) else { continue };
            let now_allowed = self.allowed(now, bucket, &groups);
            if now_allowed < groups.end {
                self.waiting.push_front((number, now_allowed..groups.end));
            }
            if now_allowed == groups.start {
                break;
            }
            let groups = groups.start..now_allowed;
            bucket.take(self.space.bytes(&groups));
            for (ask, spans) in self.space.asks(groups) {
                let wanted = spans.into_iter().map(|span| Wanted {
                    item: span.item,
                    geometry: span.geometry,
                    root: span.root,
                    groups: span.groups,
                });
                supply.ask(&ask, wanted.collect(), writer);
            }
        }
        supplies.iter_mut().for_each(|supply| supply.send_asks(now));
    }

    /// The end of what may be asked for now.
    fn allowed(&self, now: Duration, bucket: &mut Bucket, groups: &Range<u64>) -> u64 {
        let room = bucket.room(now);
        if room == u64::MAX {
            return groups.end;
        }
        // At least one group, and what it takes too much is made good by a longer pause.
        let count = if room == 0 { 0 } else { room.div_ceil(GROUP) };
        groups.end.min(groups.start.saturating_add(count))
    }
}

/// What holders are told of our own troubles.
const NOT_TAKEN: &str = "the file was not taken";
/// How long a source has for a folder's manifest before another is asked for it too, and how many are at once.
const MANIFEST_STALL: Duration = Duration::from_secs(2);
const MANIFEST_SOURCES: usize = 3;
/// How often the core is told of a check.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
