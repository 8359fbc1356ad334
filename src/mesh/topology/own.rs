//! Our own record: when it is told again.

use std::time::Duration;

use super::super::NEIGHBOURS_MAX;
use super::super::event::NodeConfig;
use super::super::record::{Neighbour, Record, Statement, number_at};
use super::NodeId;

/// What we say of ourselves.
#[derive(Debug)]
pub(super) struct Own {
    record: Option<Record>,
    number: u64,
    signed_at: Duration,
    // Not later than this it is told again.
    due: Duration,
    // So long after the last one the next may follow; doubled each time until it was quiet for a while.
    interval: Duration,
}

impl Own {
    pub(super) fn new(config: &NodeConfig, now: Duration, wall_ms: u64) -> Self {
        let number = number_at(wall_ms).max(config.instance);
        Self { record: None, number, signed_at: now, due: now, interval: SHORTEST }
    }

    pub(super) const fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    pub(super) fn number(&self) -> Option<u64> {
        self.record.as_ref().map(|record| record.said().number)
    }

    pub(super) const fn signed_at(&self) -> Duration {
        self.signed_at
    }

    pub(super) const fn due(&self) -> Duration {
        self.due
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.due
    }

    /// There is news: it leaves at once, or soon after the last.
    pub(super) fn changed(&mut self, now: Duration) {
        if self.record.is_some() && now >= self.signed_at + QUIET {
            self.interval = SHORTEST;
        }
        let soon = self.record.as_ref().map_or(now, |_| now.max(self.signed_at + self.interval));
        self.due = self.due.min(soon);
    }

    /// Somebody has a record of ours with this number: the next goes beyond it.
    pub(super) fn go_beyond(&mut self, now: Duration, number: u64) {
        self.number = self.number.max(number);
        self.changed(now);
    }

    pub(super) fn sign(
        &mut self,
        config: &NodeConfig,
        now: Duration,
        wall_ms: u64,
        links: impl Iterator<Item = (NodeId, u32)>,
        random: u32,
    ) {
        let news = self.due < self.signed_at + SOONEST_REFRESH || self.record.is_none();
        // With the clock, so that somebody who has our key cannot get ahead of us for good.
        self.number = self.number.saturating_add(1).max(number_at(wall_ms));
        let mut said = Statement::new(&config.identity, config.name.clone(), config.vouch.clone(), config.instance);
        said.number = self.number;
        said.issued_ms = wall_ms;
        said.endpoints = config.endpoints.clone();
        said.neighbours = links.take(NEIGHBOURS_MAX).map(|(id, rtt)| Neighbour::new(id, rtt)).collect();
        self.record = Some(Record::sign(&config.identity, said));
        self.signed_at = now;
        // Spread, so that a mesh that was started at once does not speak at once for ever.
        self.due = now + SOONEST_REFRESH + Duration::from_millis(u64::from(random % 10_000));
        self.interval = if news { (self.interval * 2).min(LONGEST) } else { SHORTEST };
    }
}

const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(5);
/// A record is told again after this time and up to ten seconds more: three times in its life.
const SOONEST_REFRESH: Duration = Duration::from_secs(25);
