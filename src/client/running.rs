//! The commands that run, those that wait for their turn, and the end of the process.

use super::core::{Core, Ticket};
use super::effects::{Effect, Fetch, Start};
use super::event::Event;
use super::joining::Entry;
use super::problem::{FAILED, Problem};
use crate::wire::frame::ToServer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Running {
    count: u64,
    open: BTreeMap<u64, Asker>,
    starts: BTreeSet<u64>,
    waiting: VecDeque<(u64, Wish)>,
    waiting_bytes: usize,
    /// The commands up to this one know that they wait.
    told_to_wait: u64,
    ended: bool,
    leaving: Option<Leaving>,
    gone: bool,
}

/// Who is told what a command leads to, and where they want the file that it fetches.
#[derive(Debug, Default)]
struct Asker {
    tag: Option<String>,
    into: Option<PathBuf>,
}

#[derive(Debug)]
enum Wish {
    Start(Start),
    Line(String),
    Fetch { room: String, line: String, wait: bool },
}

impl Wish {
    /// What it holds of the bytes that may wait.
    const fn size(&self) -> usize {
        match self {
            Self::Start(_) => 0,
            Self::Line(line) => line.len(),
            Self::Fetch { room, line, .. } => room.len() + line.len(),
        }
    }
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
        self.open.get(&ticket?)?.tag.clone()
    }

    pub fn folder(&self, ticket: Ticket) -> Option<PathBuf> {
        self.open.get(&ticket?)?.into.clone()
    }

    /// The commands with this tag.
    fn tagged(&self, tag: &str) -> BTreeSet<u64> {
        let tagged = self.open.iter().filter(|(_, asker)| asker.tag.as_deref() == Some(tag));
        tagged.map(|(number, _)| *number).collect()
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

    fn open(&mut self, asker: Asker) -> u64 {
        self.count += 1;
        self.open.insert(self.count, asker);
        self.count
    }
}

impl Core {
    pub(super) fn start(&mut self, start: Start) {
        let number = self.running.open(Asker::default());
        self.running.starts.insert(number);
        self.running.waiting.push_back((number, Wish::Start(start)));
    }

    pub(super) fn command(&mut self, line: String, tag: Option<String>) {
        let number = self.running.open(Asker { tag, into: None });
        self.wait(number, Wish::Line(line));
        if self.tried_in_vain {
            let text = "there is no link to a server yet; what you type waits for it (Ctrl-C leaves)";
            self.tell(Some(number), Event::Notice { from: "link".into(), text: text.into() });
        }
    }

    pub(super) fn fetch(&mut self, fetch: Fetch) {
        let Fetch { tag, room, line, into, wait } = fetch;
        let number = self.running.open(Asker { tag: Some(tag), into });
        self.wait(number, Wish::Fetch { room, line, wait });
    }

    /// Counts something as a command that waits for nothing.
    pub(super) fn counted(&mut self, tag: String) -> u64 {
        self.running.open(Asker { tag: Some(tag), into: None })
    }

    fn wait(&mut self, number: u64, wish: Wish) {
        if self.running.waiting_bytes + wish.size() > WAITING_BYTES {
            return self.fail(Some(number), Problem::full());
        }
        self.running.waiting_bytes += wish.size();
        self.running.waiting.push_back((number, wish));
    }

    /// Nobody waits for the commands with this tag: what has not begun does not begin, and transfers end.
    pub(super) fn unwanted(&mut self, tag: &str) {
        let numbers = self.running.tagged(tag);
        self.cancel_transfers_of(&numbers);
        self.forget_searches_of(&numbers);
        let waiting = std::mem::take(&mut self.running.waiting);
        let (gone, left) = waiting.into_iter().partition(|(number, _)| numbers.contains(number));
        self.running.waiting = left;
        let gone: VecDeque<(u64, Wish)> = gone;
        self.running.waiting_bytes -= gone.iter().map(|(_, wish)| wish.size()).sum::<usize>();
        numbers.iter().for_each(|number| self.done(Some(*number), FAILED));
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
        let Some(Asker { tag, .. }) = self.running.open.remove(&number) else { return };
        self.effect(Effect::CommandDone { number, tag, code });
        if self.running.starts.remove(&number) && code != 0 && self.config.scripted {
            self.exit("failed", code);
        }
    }

    /// Runs the commands whose turn it is, and the steps of leaving.
    pub(super) fn go_on(&mut self) {
        while self.home.is_some() && !self.running.is_leaving() && !self.is_entering() {
            let Some((number, wish)) = self.running.waiting.pop_front() else { break };
            self.running.waiting_bytes -= wish.size();
            match wish {
                Wish::Start(start) => self.enter_at_start(number, start),
                Wish::Line(line) => self.run_line(number, &line),
                Wish::Fetch { room, line, wait } => self.run_fetch(number, &room, &line, wait),
            }
            self.pump_all();
        }
        self.tell_waiting();
        // Without a first link it is not known yet whether there can be one, which is what the exit code says.
        let known = self.running.ended && self.home.is_some();
        let finished = known && self.running.open.is_empty() && !self.transfers.any();
        if finished && !self.running.is_leaving() {
            self.running.set_leaving("quit", 0, self.now);
        }
        self.leave_on();
    }

    /// Whoever types while a room is being entered hears what that waits for.
    fn tell_waiting(&mut self) {
        let late = |e: &Entry| self.now >= e.tells_at();
        let Some((entry, first)) = self.entries.values_mut().find(|e| late(e)).map(|e| {
            let first = !std::mem::replace(&mut e.told, true);
            ((e.name.to_string(), e.name.server.to_string()), first)
        }) else {
            return;
        };
        let (told, waiting) = (self.running.told_to_wait, &self.running.waiting);
        let lines = waiting.len() as u64;
        let mut askers: Vec<Ticket> = waiting.iter().map(|(n, _)| *n).filter(|n| *n > told).map(Some).collect();
        self.running.told_to_wait = self.running.count;
        if first {
            askers = vec![None];
        }
        for asker in askers {
            let (room, server) = entry.clone();
            self.tell(asker, Event::RoomWaiting { room, server, lines });
        }
    }

    /// A clean end: what waits is sent, rooms are left, then the process ends.
    pub(super) fn quit(&mut self, number: u64) {
        self.done(Some(number), 0);
        self.cancel_transfers();
        self.running.set_leaving("quit", 0, self.now);
    }

    /// The same in haste, and what is being entered is not waited for.
    pub(super) fn interrupted(&mut self) {
        self.cancel_transfers();
        self.entries.clear();
        self.surveys.clear();
        self.running.set_leaving("quit", 0, self.now);
        let hasty = self.now + HASTY_DEADLINE;
        self.running.leaving.iter_mut().for_each(|leaving| leaving.deadline = leaving.deadline.min(hasty));
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
        // What waits for a server that is away waits no longer.
        let mut reached = self.conversations.values().filter(|c| self.is_up(&c.server));
        if late || reached.all(|c| !c.is_room() && c.outbox.is_empty()) {
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
        for (number, Asker { tag, .. }) in std::mem::take(&mut self.running.open) {
            self.effect(Effect::CommandDone { number, tag, code: FAILED });
        }
        if self.link.take().is_some() {
            self.effect(Effect::Send(ToServer::Goodbye));
        }
        self.tell_unsent();
        self.tell(None, Event::Bye { reason });
        self.effect(Effect::Exit(code));
    }

    /// Lines that wait for a server that is away end with us.
    fn tell_unsent(&mut self) {
        let held = self.conversations.values().filter(|c| c.outbox.held() > 0);
        let lost: Vec<(usize, String)> = held.map(|c| (c.outbox.held(), c.title())).collect();
        for (count, place) in lost {
            let lines = if count == 1 { "1 held line" } else { &format!("{count} held lines") };
            self.tell(None, Problem::new("not_sent", FAILED, format!("{lines} for {place} not sent")).event());
        }
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
/// One that was interrupted.
const HASTY_DEADLINE: Duration = Duration::from_secs(1);
/// What takes longer to be entered is told of, and what is typed meanwhile is answered.
pub(super) const ENTRY_PATIENCE: Duration = Duration::from_secs(2);
