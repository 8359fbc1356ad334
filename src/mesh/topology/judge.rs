//! Which records are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_core::RngCore;

use super::super::NODES_MAX;
use super::super::event::{LinkId, MeshLog, Refused, Violation};
use super::super::packet::write_records;
use super::super::record::{MAX_AGE, Record};
use super::{CHUNK, Event, Flood, Known, NodeId, Topology, age};
use crate::crypto::pair::{LowOrder, Pair};
use crate::wire::name::Name;

impl Topology {
    /// Takes a record or drops it. An error is the neighbour's fault: it must have checked before it passed this on.
    pub(super) fn judge(
        &mut self,
        now: Duration,
        link: LinkId,
        record: Record,
        aged: Duration,
    ) -> Result<(), Violation> {
        let (id, number) = (record.id(), record.said().number);
        if id == self.id {
            return self.judge_own(now, &record, aged);
        }
        let known = self.said(id).map(|known| (known.said().instance, known.said().number));
        if known == Some((record.said().instance, number)) {
            // It came from two sides: neither needs it.
            self.flood.get_mut(&id).map(|flood| flood.except.insert(link));
            return Ok(());
        }
        let old = match known {
            // A newer process may have a clock that is behind.
            Some((instance, last)) => number <= last && record.said().instance <= instance,
            None => self.gone.get(&id).is_some_and(|gone| number <= gone.record.said().number),
        };
        if old && self.peer_of(link) == Some(id) {
            self.answer(now, link, id);
        }
        if old || aged >= MAX_AGE {
            return Ok(());
        }
        if !record.is_plausible(self.wall_ms(now)) {
            self.refuse(now, MeshLog::AbsurdRecord { node: id, number });
            return Ok(());
        }
        record.verify().map_err(|_| {
            self.refused += 1;
            Violation::Forged(id)
        })?;
        if self.is_former(now, link, &record) {
            return Ok(());
        }
        if self.is_wanted(now, &record) {
            match self.fresh_pair(&record) {
                Ok(pair) => self.take(now, link, record, pair, aged),
                Err(LowOrder) => self.refuse(now, MeshLog::WeakKey(id)),
            }
        }
        Ok(())
    }

    /// A record of ours that we have not sent: by an earlier process, or by somebody who has our key.
    fn judge_own(&mut self, now: Duration, record: &Record, aged: Duration) -> Result<(), Violation> {
        let said = record.said();
        let (number, newer) = (said.number, said.instance > self.config.instance);
        let old = number < self.own.number().unwrap_or(0) && !newer;
        if old || self.own.record().is_some_and(|own| own.bytes() == record.bytes()) {
            return Ok(());
        }
        record.verify().map_err(|_| Violation::Forged(self.id))?;
        if !record.is_plausible(self.wall_ms(now)) {
            return Ok(());
        }
        let since = now.saturating_sub(aged) > self.began + SAME_TIME;
        if newer && (since || self.successions >= SUCCESSIONS) {
            // Somebody has begun after us with our key, or with us, and lives.
            self.events.push(Event::Ousted);
            return Ok(());
        }
        self.own.go_beyond(now, number);
        if newer {
            // It was said before we began: by whom we follow, whose clock was ahead. Without this nobody would hear us.
            let more = u64::from(self.rng.next_u32() % (1 << 16)) + 1;
            self.config.instance = said.instance.saturating_add(more);
            self.successions += 1;
            self.events.push(Event::Renumbered);
            self.log(now, MeshLog::ClockSetBack);
        } else if since || said.instance == self.config.instance {
            self.log(now, MeshLog::OurselvesElsewhere);
        }
        Ok(())
    }

    /// Whether a newer process of the same node is known. Of two that use one identity so the newer stays.
    fn is_former(&mut self, now: Duration, link: LinkId, record: &Record) -> bool {
        let id = record.id();
        let former = self.said(id).is_some_and(|known| known.said().instance > record.said().instance);
        if former {
            self.answer(now, link, id);
            self.refuse(now, MeshLog::FormerProcess(id));
        }
        former
    }

    /// The neighbour has a record that is older than what is known: it gets that. If it is its own, it goes beyond it, or
    /// sees who took its place.
    fn answer(&mut self, now: Duration, link: LinkId, id: NodeId) {
        let known = self.known.get(&id).map(|known| (&known.record, known.since));
        let gone = || self.gone.get(&id).map(|gone| (&gone.record, gone.since));
        let newer = known.or_else(gone).map(|(record, since)| (age(now, since), &**record.bytes()));
        let frames = write_records(newer.into_iter(), CHUNK);
        self.frames.extend(frames.into_iter().map(|frame| (link, frame)));
    }

    fn refuse(&mut self, now: Duration, log: MeshLog) {
        self.refused += 1;
        self.log(now, log);
    }

    fn is_wanted(&mut self, now: Duration, record: &Record) -> bool {
        let (id, said) = (record.id(), record.said());
        let wall_ms = self.wall_ms(now);
        let same = self
            .known
            .get(&id)
            .is_some_and(|known| known.record.said().name == said.name && known.record.said().vouch == said.vouch);
        // The signature on the same certificate needs no second look, its time does.
        let expired = said.vouch.as_ref().is_some_and(|vouch| wall_ms > vouch.not_after);
        let trust = &self.config.trust;
        let doubt = (!same || expired)
            .then(|| trust.check_server(&said.name, &said.key(), said.vouch.as_ref(), wall_ms).err())
            .flatten();
        if let Some(why) = doubt {
            self.refuse(now, MeshLog::Doubted { node: id, why });
            return false;
        }
        if !self.has_allowance(now, id) {
            self.refuse(now, MeshLog::TooManyRecords(id));
            return false;
        }
        if !self.may_have_name(now, record) {
            return false;
        }
        if self.known.len() + 1 >= NODES_MAX && !self.known.contains_key(&id) {
            self.refuse(now, MeshLog::TooManyNodes(id));
            return false;
        }
        true
    }

    /// What we share with a node by a record of it; none if the one that we have stands.
    fn fresh_pair(&self, record: &Record) -> Result<Option<Pair>, LowOrder> {
        let (id, standing) = (record.id(), record.said().standing);
        if self.said(id).is_some_and(|known| known.said().standing == standing) {
            return Ok(None);
        }
        self.standing.pair(&standing, &self.id.0, &id.0).map(Some)
    }

    fn has_allowance(&mut self, now: Duration, id: NodeId) -> bool {
        let Some(known) = self.known.get_mut(&id) else { return true };
        let passed = now.saturating_sub(known.refilled).as_millis();
        let more = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(RECORDS_PER_SECOND);
        known.allowance = known.allowance.saturating_add(more).min(RECORD_BURST * 1000);
        known.refilled = now;
        let left = known.allowance.checked_sub(1000);
        known.allowance = left.unwrap_or(known.allowance);
        left.is_some()
    }

    pub(super) fn holder_of(&self, name: &Name) -> Option<NodeId> {
        if *name == self.config.name {
            return Some(self.id);
        }
        self.known.values().find(|known| known.record.said().name == *name).map(|known| known.record.id())
    }

    /// Of two keys with one name the older process's stays, and all nodes see it so.
    fn may_have_name(&mut self, now: Duration, record: &Record) -> bool {
        let (id, said) = (record.id(), record.said());
        let Some(holder) = self.holder_of(&said.name).filter(|holder| *holder != id) else { return true };
        let since = self.said(holder).map_or(self.config.instance, |record| record.said().instance);
        let older = (said.instance, id) < (since, holder);
        let (keeps, leaves) = if older { (id, holder) } else { (holder, id) };
        self.refuse(now, MeshLog::NameTaken { name: said.name.clone(), holder: keeps, refused: leaves });
        let why = Refused::NameTaken { name: said.name.clone(), holder: keeps };
        if leaves == self.id {
            // Ours is the name that goes: the others will cut us off.
            return false;
        }
        if let Some(link) = self.by_peer.get(&leaves).copied() {
            self.cut(now, link, why);
        }
        if older {
            self.forget(now, holder);
            self.events.push(Event::Evicted(holder));
        }
        older
    }

    fn take(&mut self, now: Duration, link: LinkId, record: Record, pair: Option<Pair>, aged: Duration) {
        let id = record.id();
        self.taken += 1;
        self.gone.remove(&id);
        let since = now.saturating_sub(aged);
        let old = self.known.remove(&id);
        let before = old.as_ref().map(|known| known.record.said());
        let same_links = before.is_some_and(|before| before.neighbours == record.said().neighbours);
        let same_self = before
            .is_some_and(|before| before.endpoints == record.said().endpoints && before.vouch == record.said().vouch);
        let same_process = before.is_none_or(|before| before.instance == record.said().instance);
        if !same_process {
            self.events.push(Event::Restarted(id));
        }
        if !(same_self && same_process) {
            self.events.push(Event::Known(id));
        }
        self.stale |= !same_links;
        // What changes nothing has time, and meanwhile may come from other sides too.
        let wait =
            if same_links && same_self && same_process { u64::from(self.rng.next_u32() % LAZY_MILLIS) } else { 0 };
        let due = now + Duration::from_millis(wait);
        self.flood.insert(id, Flood { due, except: BTreeSet::from([link]) });
        let (allowance, refilled) =
            old.as_ref().map_or((RECORD_BURST * 1000, now), |known| (known.allowance, known.refilled));
        // There is one or the other.
        if let Some(pair) = pair.or_else(|| old.map(|known| known.pair)) {
            self.known.insert(id, Known { record, pair, since, allowance, refilled });
        }
    }
}

/// What the log has been told lately: a hostile node must not fill it.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<(u8, NodeId), Duration>);

impl Told {
    pub(super) fn is_news(&mut self, now: Duration, log: &MeshLog) -> bool {
        let key = match log {
            MeshLog::Doubted { node, .. } => (0, *node),
            MeshLog::AbsurdRecord { node, .. } => (1, *node),
            MeshLog::NameTaken { refused, .. } => (2, *refused),
            MeshLog::OurselvesElsewhere => (3, NodeId([0; 32])),
            MeshLog::TooManyNodes(node) => (4, *node),
            MeshLog::TooManyRecords(node) => (5, *node),
            MeshLog::ForgedOrigin(node) => (6, *node),
            MeshLog::ForgedPacket { origin, .. } => (7, *origin),
            MeshLog::WeakKey(node) => (8, *node),
            MeshLog::ClockSetBack => (9, NodeId([0; 32])),
            MeshLog::FormerProcess(node) => (10, *node),
        };
        if self.0.len() >= TOLD_MAX {
            self.0.retain(|_, at| now < *at + TELL_AGAIN);
        }
        if self.0.len() >= TOLD_MAX || self.0.get(&key).is_some_and(|at| now < *at + TELL_AGAIN) {
            return false;
        }
        self.0.insert(key, now);
        true
    }
}

const TOLD_MAX: usize = 512;
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// An honest node sends no more: see how our own record is paced.
const RECORD_BURST: u64 = 20;
const RECORDS_PER_SECOND: u64 = 2;
const LAZY_MILLIS: u32 = 300;
/// What was signed less than this after our start may have been signed before it: records are on their way for a while.
const SAME_TIME: Duration = Duration::from_secs(5);
/// So often a process takes a greater number than a former one; two that were started at once do not go on so.
const SUCCESSIONS: u32 = 3;
