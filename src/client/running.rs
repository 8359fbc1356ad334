//! The commands that run, those that wait for their turn, and the end of the process.

use super::core::{Core, Ticket};
use super::effects::{Effect, Start};
use super::event::Event;
use super::problem::{FAILED, Problem};
use crate::wire::frame::ToServer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Running {
    count: u64,
    open: BTreeMap<u64, Option<String>>,
    starts: BTreeSet<u64>,
    waiting: VecDeque<(u64, Wish)>,
    waiting_bytes: usize,
    ended: bool,
    leaving: Option<Leaving>,
    gone: bool,
}

#[derive(Debug)]
enum Wish {
    Start(Start),
    Line(String),
}

#[derive(Debug)]
struct Leaving {
    reason: String,
    code: u8,
    deadline: Duration,
    asked: bool,
}

impl Running {
    pub fn tag(&self, ticket: Ticket) -> Option<String> {
        self.open.get(&ticket?).cloned().flatten()
    }

    pub const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub fn set_leaving(&mut self, reason: &str, code: u8, now: Duration) {
        let deadline = now + LEAVE_DEADLINE;
        self.leaving.get_or_insert(Leaving { reason: reason.to_owned(), code, deadline, asked: false });
    }

    pub fn next_timeout(&self) -> Option<Duration> {
        self.leaving.as_ref().filter(|_| !self.gone).map(|l| l.deadline)
    }

    fn open(&mut self, tag: Option<String>) -> u64 {
        self.count += 1;
        self.open.insert(self.count, tag);
        self.count
    }
}

impl Core {
    pub(super) fn start(&mut self, start: Start) {
        let number = self.running.open(None);
        self.running.starts.insert(number);
        self.running.waiting.push_back((number, Wish::Start(start)));
    }

    pub(super) fn command(&mut self, line: String, tag: Option<String>) {
        let number = self.running.open(tag);
        if self.running.waiting_bytes + line.len() > WAITING_BYTES {
            return self.fail(Some(number), Problem::full());
        }
        self.running.waiting_bytes += line.len();
        self.running.waiting.push_back((number, Wish::Line(line)));
    }

    pub(super) fn end_of_input(&mut self) {
        self.running.ended = true;
    }

    /// Only what runs is finished; nothing new begins.
    pub(super) const fn is_ending(&self) -> bool {
        self.running.ended || self.running.is_leaving()
    }

    /// Ends a command: what it caused has been told.
    pub(super) fn done(&mut self, ticket: Ticket, code: u8) {
        let Some(number) = ticket else { return };
        let Some(tag) = self.running.open.remove(&number) else { return };
        self.effect(Effect::CommandDone { number, tag, code });
        if self.running.starts.remove(&number) && code != 0 && self.config.scripted {
            self.exit("failed", code);
        }
    }

    /// Runs the commands whose turn it is, and the steps of leaving.
    pub(super) fn go_on(&mut self) {
        while self.home.is_some() && !self.running.is_leaving() && !self.is_entering() {
            let Some((number, wish)) = self.running.waiting.pop_front() else { break };
            match wish {
                Wish::Start(start) => self.enter_at_start(number, start),
                Wish::Line(line) => {
                    self.running.waiting_bytes -= line.len();
                    self.run_line(number, &line);
                }
            }
            self.pump_all();
        }
        // Without a first link it is not known yet whether there can be one, which is what the exit code says.
        let known = self.running.ended && self.home.is_some();
        let finished = known && self.running.open.is_empty() && !self.transfers.any();
        if finished && !self.running.is_leaving() {
            self.running.set_leaving("quit", 0, self.now);
        }
        self.leave_on();
    }

    /// A clean end: what waits is sent, rooms are left, then the process ends.
    pub(super) fn quit(&mut self, number: u64) {
        self.done(Some(number), 0);
        self.cancel_transfers();
        self.running.set_leaving("quit", 0, self.now);
    }

    fn leave_on(&mut self) {
        let Some(leaving) = &self.running.leaving else { return };
        if self.running.gone {
            return;
        }
        let late = self.now >= leaving.deadline || self.link.is_none();
        if !leaving.asked && !late {
            self.running.leaving.iter_mut().for_each(|l| l.asked = true);
            self.leave_all();
        }
        if late || self.rooms().is_empty() && self.conversations.values().all(|c| c.outbox.is_empty()) {
            self.exit_now();
        }
    }

    pub(super) fn exit_now(&mut self) {
        if self.running.gone {
            return;
        }
        self.running.gone = true;
        let (reason, code) =
            self.running.leaving.as_ref().map_or(("failed".to_owned(), FAILED), |l| (l.reason.clone(), l.code));
        self.cancel_transfers();
        for (number, tag) in std::mem::take(&mut self.running.open) {
            self.effect(Effect::CommandDone { number, tag, code: FAILED });
        }
        if self.link.take().is_some() {
            self.effect(Effect::Send(ToServer::Goodbye));
        }
        self.tell(None, Event::Bye { reason });
        self.effect(Effect::Exit(code));
    }

    pub(super) fn running_timeouts(&mut self) {
        self.leave_on();
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.running.gone
    }
}

/// Commands that may wait for the first link or for a room to be entered, bytes.
const WAITING_BYTES: usize = 1 << 20;
/// A clean leave is over by then.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);
