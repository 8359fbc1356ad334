//! Doors of private rooms: bounded Argon2 work, and limits on attempts by address and by key.
//!
//! A room that does not exist costs the same work and gets the same answer as a wrong password. Nothing here counts by room, so
//! nobody can lock one.

use super::attempts::{Attempts, source};
use super::core::{Answer, Core};
use super::creating::NewRoom;
use super::io::{Door, LogEvent, Output, SessionId};
use super::logs::Commit;
use super::outbox::{Outbox, too_many, wrong_room_or_password};
use super::sessions::Asker;
use crate::crypto::identity::PublicKey;
use crate::limits::{DOOR_ATTEMPTS, DOOR_WINDOW, HASHES_PER_KEY, HASHES_RUNNING, HASHES_WAITING};
use crate::wire::frame::{Code, Refusal};
use crate::wire::id::RoomId;
use crate::wire::policy::RoomKind;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What a hash is for.
#[derive(Debug)]
pub(super) enum What {
    /// Somebody wants in.
    Enter {
        room: RoomId,
        /// The room's hash, or the decoy.
        phc: Arc<str>,
    },
    /// A new private room.
    Create(Box<NewRoom>),
    /// A commit that replaces the join key.
    Rotate(Box<Commit>),
}

#[derive(Debug)]
struct Job {
    session: SessionId,
    request: u64,
    key: PublicKey,
    addr: std::net::SocketAddr,
    what: What,
}

/// The work that waits and runs, and what each source did.
#[derive(Debug)]
pub(super) struct Doors {
    next: u64,
    waiting: VecDeque<(Job, Door)>,
    running: BTreeMap<u64, Job>,
    by_source: Attempts<[u8; 16]>,
    by_key: Attempts<PublicKey>,
}

impl Default for Doors {
    fn default() -> Self {
        let (by_source, by_key) =
            (Attempts::new(DOOR_ATTEMPTS, DOOR_WINDOW), Attempts::new(DOOR_ATTEMPTS, DOOR_WINDOW));
        Self { next: 0, waiting: VecDeque::new(), running: BTreeMap::new(), by_source, by_key }
    }
}

impl Doors {
    pub(super) fn prune(&mut self, now: Duration) {
        self.by_source.prune(now);
        self.by_key.prune(now);
    }

    fn of_key(&self, key: &PublicKey) -> usize {
        self.waiting.iter().map(|(job, _)| job).chain(self.running.values()).filter(|j| j.key == *key).count()
    }

    fn of_source(&self, from: &[u8; 16]) -> usize {
        self.waiting.iter().filter(|(job, _)| source(job.addr.ip()) == *from).count()
    }

    /// Makes room for a newcomer in a full queue: the newest job of the source with the most waiting, so that a flood through many
    /// keys displaces itself. `None` if nobody has more waiting than the newcomer's own source would then have.
    fn displace(&mut self, newcomer: &[u8; 16]) -> Option<Job> {
        let sources = self.waiting.iter().map(|(job, _)| source(job.addr.ip()));
        let (most, from) = sources.map(|from| (self.of_source(&from), from)).max()?;
        if most <= self.of_source(newcomer) + 1 {
            return None;
        }
        let newest = self.waiting.iter().rposition(|(job, _)| source(job.addr.ip()) == from)?;
        self.waiting.remove(newest).map(|(job, _)| job)
    }

    /// Starts what may run. Whoever has failed least lately goes first, so that a flood from one address delays itself.
    fn pump(&mut self, out: &mut Outbox, now: Duration) {
        while self.running.len() < HASHES_RUNNING {
            let failed = |job: &Job| self.by_source.used(&source(job.addr.ip()), now);
            let next = self.waiting.iter().enumerate().min_by_key(|(_, (job, _))| failed(job)).map(|(i, _)| i);
            let Some((job, door)) = next.and_then(|i| self.waiting.remove(i)) else { return };
            self.next += 1;
            let ticket = self.next;
            out.output(match &job.what {
                What::Enter { phc, .. } => Output::CheckDoor { ticket, phc: Arc::clone(phc), door },
                What::Create(_) | What::Rotate(_) => Output::HashDoor { ticket, door },
            });
            self.running.insert(ticket, job);
        }
    }
}

impl Core {
    /// Puts work into the queue; its answer comes later.
    pub(super) fn submit(&mut self, asker: &Asker, request: u64, door: Door, what: What) -> Result<(), Refusal> {
        let busy = || too_many("the server is busy with passwords");
        if self.doors.of_key(&asker.key) >= HASHES_PER_KEY {
            return Err(busy());
        }
        if self.doors.waiting.len() >= HASHES_WAITING {
            let displaced = self.doors.displace(&source(asker.addr.ip())).ok_or_else(busy)?;
            self.out.refuse(displaced.session, displaced.request, busy());
        }
        let job = Job { session: asker.session, request, key: asker.key, addr: asker.addr, what };
        self.doors.waiting.push_back((job, door));
        self.doors.pump(&mut self.out, self.now);
        Ok(())
    }

    /// Somebody is at the door of a private room, or of one that does not exist.
    pub(super) fn knock(&mut self, asker: &Asker, request: u64, room: RoomId, door: Door) -> Result<(), Refusal> {
        let exhausted = self.doors.by_source.exhausted(&source(asker.addr.ip()), self.now)
            || self.doors.by_key.exhausted(&asker.key, self.now);
        if exhausted {
            return Err(too_many("too many wrong passwords"));
        }
        let phc = self.private_door(&room).unwrap_or(&self.config.decoy_phc);
        let phc = Arc::from(phc.as_str());
        self.submit(asker, request, door, What::Enter { room, phc })
    }

    pub(super) fn door_checked(&mut self, ticket: u64, ok: bool) {
        let Some(job) = self.doors.running.remove(&ticket) else { return };
        let What::Enter { room, phc } = job.what else { return };
        // The room may have gone, or its secret may have been rotated, while the hash ran.
        let ok = ok && self.private_door(&room).is_some_and(|now| **now == *phc);
        if !ok {
            self.doors.by_source.count(source(job.addr.ip()), self.now);
            self.doors.by_key.count(job.key, self.now);
            self.out.log(LogEvent::DoorRefused { addr: job.addr });
        }
        if let Some(asker) = self.asker(job.session) {
            let answer =
                if ok { self.wait_for_lease(&asker, job.request, room) } else { Err(wrong_room_or_password()) };
            self.answer_late(&asker, job.request, answer);
        }
        self.doors.pump(&mut self.out, self.now);
    }

    pub(super) fn door_hashed(&mut self, ticket: u64, phc: Option<String>) {
        let Some(job) = self.doors.running.remove(&ticket) else { return };
        if let Some(asker) = self.asker(job.session) {
            let answer = match (job.what, phc) {
                (_, None) => Err(Refusal::new(Code::Internal, "the door key could not be hashed")),
                (What::Create(new), phc) => self.make_room(&asker, *new, phc),
                (What::Rotate(commit), phc) => self.commit_now(&asker, job.request, *commit, phc),
                (What::Enter { .. }, _) => return,
            };
            self.answer_late(&asker, job.request, answer);
        }
        self.doors.pump(&mut self.out, self.now);
    }

    fn answer_late(&mut self, asker: &Asker, request: u64, answer: Answer) {
        match answer {
            Ok(Some(reply)) => self.out.reply(asker.session, request, reply),
            Ok(None) => {}
            Err(refusal) => self.out.refuse(asker.session, request, refusal),
        }
    }

    fn private_door(&self, room: &RoomId) -> Option<&String> {
        self.rooms.get(room).filter(|r| r.kind == RoomKind::Private)?.door.as_ref()
    }
}
