//! The state machine as a whole: one input in, outputs out, and which part answers which request.

use super::attempts::Attempts;
use super::doors::Doors;
use super::forwarding::RelayLimits;
use super::io::{Config, Input, Output, SessionId, Space};
use super::logs::Read;
use super::metrics::Gauges;
use super::moderation::{Moderation, Officer};
use super::names::Names;
use super::outbox::{Outbox, disk_full};
use super::pace::Pace;
use super::rates::Rates;
use super::room::Room;
use super::rooms::Rooms;
use super::sessions::{Asker, Session};
use super::timers::{Timer, Timers};
use crate::crypto::identity::{Identity, PublicKey};
use crate::group::{CertRefused, DirectoryError};
use crate::limits::{DIRECTS_MAX, DOOR_WINDOW, LOGS_BYTES, NAMES_MAX, NAMES_WINDOW, NEW_NAMES, NEW_THINGS, ROOMS_MAX};
use crate::store::{Loaded, ServerSecret};
use crate::wire::cert::NameCert;
use crate::wire::frame::{Refusal, Reply, Request};
use crate::wire::id::{InstanceId, RoomId};
use crate::wire::name::FullName;
use crate::wire::vouch::ServerTrust;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One server.
pub struct Core {
    pub(super) config: Config,
    /// The configured one, and this server itself.
    pub(super) trust: Arc<ServerTrust>,
    pub(super) identity: Identity,
    pub(super) secret: ServerSecret,
    pub(super) now: Duration,
    pub(super) wall_ms: u64,
    pub(super) names: Names,
    pub(super) instances: BTreeMap<PublicKey, InstanceId>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// The one session of each key that is logged in.
    pub(super) online: BTreeMap<PublicKey, SessionId>,
    /// Sessions of people whose names are other servers'.
    pub(super) guests: BTreeMap<FullName, SessionId>,
    pub(super) rooms: Rooms,
    pub(super) doors: Doors,
    pub(super) reads: BTreeMap<u64, Read>,
    /// Leases and log reads are numbered by it.
    pub(super) numbers: u64,
    pub(super) new_things: Attempts<[u8; 16]>,
    pub(super) new_names: Attempts<[u8; 16]>,
    pub(super) rates: Rates,
    /// Of those who come through other servers.
    pub(super) guest_pace: Pace,
    /// Leases that nobody used, by the source of who had them.
    pub(super) wasted_leases: Attempts<[u8; 16]>,
    pub(super) moderation: Moderation,
    pub(super) space: Space,
    /// As operators are told.
    pub(super) relays: RelayLimits,
    pub(super) timers: Timers,
    pub(super) rounds: u64,
    pub(super) out: Outbox,
    pub(super) draining: bool,
    pub(super) bounds: Bounds,
    /// Bytes logged in all rooms since all logs were held against their common bound.
    pub(super) unbounded: u64,
}

/// How much the server keeps in all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) names: usize,
    /// Public and private ones.
    pub(super) rooms: usize,
    pub(super) directs: usize,
    /// Of messages in all logs.
    pub(super) logs_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { names: NAMES_MAX, rooms: ROOMS_MAX, directs: DIRECTS_MAX, logs_bytes: LOGS_BYTES }
    }
}

/// Why a server does not start from what its store holds.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A room makes no sense.
    #[error("room {room} cannot be taken up: {source}")]
    Room {
        /// Which room.
        room: RoomId,
        /// Why not.
        source: DirectoryError,
    },
    /// An entry of the register makes no sense. Not starting is better than forgetting a ban.
    #[error("an entry of the {0} list cannot be read; a newer secchat may have written it")]
    Register(&'static str),
}

/// A handler's answer: now, later (or given already, at its place among the rows), or a refusal.
pub(super) type Answer = Result<Option<Reply>, Refusal>;

impl Core {
    /// A server that goes on from what was stored. `now` counts from any origin, `wall_ms` is Unix time.
    pub fn new(
        config: Config,
        identity: Identity,
        loaded: Loaded,
        now: Duration,
        wall_ms: u64,
    ) -> Result<Self, LoadError> {
        let mut trust = config.trust.clone();
        trust.listed.insert(0, (config.name.clone(), identity.public().fingerprint()));
        let mut rooms = Rooms::default();
        for room in loaded.rooms {
            rooms.insert(Room::load(room, &identity.public(), &config.name, now, wall_ms)?);
        }
        let mut core = Self {
            config,
            identity,
            secret: loaded.secret,
            now,
            wall_ms,
            names: Names::new(loaded.names),
            instances: loaded.instances.into_iter().collect(),
            sessions: BTreeMap::new(),
            online: BTreeMap::new(),
            guests: BTreeMap::new(),
            rooms,
            doors: Doors::default(),
            reads: BTreeMap::new(),
            numbers: 0,
            new_things: Attempts::new(NEW_THINGS, DOOR_WINDOW),
            new_names: Attempts::new(NEW_NAMES, NAMES_WINDOW),
            rates: Rates::new(),
            guest_pace: Pace::default(),
            wasted_leases: Attempts::new(u32::MAX, DOOR_WINDOW),
            moderation: Moderation::load(&loaded.register, &trust, wall_ms)?,
            trust: Arc::new(trust),
            space: Space::default(),
            relays: RelayLimits::default(),
            timers: Timers::default(),
            rounds: 0,
            out: Outbox::default(),
            draining: false,
            bounds: Bounds::default(),
            // What an earlier run left may be too much: the first row is a reason to look.
            unbounded: LOGS_BYTES,
        };
        core.timers.set(now + HOUSEKEEPING, Timer::Housekeeping);
        core.tighten();
        core.banned_members(BTreeSet::new());
        for id in core.rooms.ids() {
            core.arm(id);
        }
        Ok(core)
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Duration, wall_ms: u64, input: Input) {
        self.now = self.now.max(now);
        self.wall_ms = wall_ms;
        match input {
            Input::Connected { session, key, addr, via } => self.connected(session, key, addr, via),
            Input::Frame(session, frame) => self.frame(session, frame),
            Input::Disconnected(session) => {
                let reason = if self.is_direct(session) { "link lost" } else { "its own server says so" };
                self.forget(session, reason);
            }
            Input::DoorChecked { ticket, ok } => self.door_checked(ticket, ok),
            Input::DoorHashed { ticket, phc } => self.door_hashed(ticket, phc),
            Input::LogPage { ticket, page } => self.log_page(ticket, page),
            // For who stands between this and the mesh.
            Input::Mesh(_) | Input::TooSlow { .. } => {}
            Input::ServerUp(info) => self.server_up(&info),
            Input::BansKnown { from, server, body } => self.bans_known(from, &server, &body),
            Input::Bans { from, server, body } => self.bans_told(from, &server, &body),
            Input::Timeout => self.timeout(),
            Input::Drain => self.drain(),
            Input::Disk(space) => self.space = space,
            Input::Retain(retention) => self.retain(retention),
            Input::Relays(limits) => self.relays = limits,
            Input::Asked { ticket, ask } => self.asked(Officer::owner(ticket), *ask),
            Input::Operated { ticket, answer } => self.operated(ticket, *answer),
            Input::Drawn { ticket, token } => self.drawn(ticket, token),
            Input::LegMade { session, request, made } => self.leg_made(session, request, made),
            Input::Acts { ticket, acts } => self.acts_read(ticket, acts),
        }
    }

    /// What is to be done next; to be asked until it is `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.poll()
    }

    /// How many there are of what.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            clients: self.online.len() as u64,
            guests: 0,
            away: 0,
            ignored: 0,
            rooms: self.rooms.labelled() as u64,
            directs: self.rooms.directs() as u64,
            refused: self.out.refused() + self.bans_refused(),
        }
    }

    /// When [`Input::Timeout`] is wanted.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Connections that are logged in.
    pub fn logged_in(&self) -> usize {
        self.online.len()
    }

    /// Rooms and direct conversations.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// A request of somebody who is logged in.
    pub(super) fn request(&mut self, asker: &Asker, id: u64, body: Request) {
        let permitted = self.has_space(&body).and_then(|()| self.permit(asker, &body));
        let answer = match permitted {
            Ok(()) => self.dispatch(asker, id, body),
            Err(refusal) => Err(refusal),
        };
        match answer {
            Ok(Some(reply)) => self.out.reply(asker.session, id, reply),
            Ok(None) => {}
            Err(refusal) => self.out.refuse(asker.session, id, refusal),
        }
    }

    fn dispatch(&mut self, asker: &Asker, id: u64, body: Request) -> Answer {
        match body {
            Request::Ping => Ok(Some(Reply::Done)),
            Request::PublishKeyPackages { single, last_resort } => {
                self.publish_key_packages(asker, single, last_resort)
            }
            Request::TakeKeyPackage { peer } => self.take_key_package(asker, &peer),
            Request::CreateRoom { room, door, published } => self.create_room(asker, id, room, door, published),
            Request::CreateDirect { room, peer, welcome, published } => {
                self.create_direct(asker, room, &peer, welcome, published)
            }
            Request::Resolve { label } => self.resolve(&label),
            Request::Enter { room, door } => self.enter(asker, id, room, door),
            Request::Commit { room, lease, message, published, door } => {
                self.commit(asker, id, super::logs::Commit { room, lease, message, published }, door)
            }
            Request::Leave { room, message } => self.leave(asker, id, room, message.into()),
            Request::Post { room, message } => self.post(asker, room, message.into()),
            Request::Log { room, after } => self.read_log(asker, id, room, after),
            Request::NoState { room } => self.no_state(asker, room),
            Request::Rooms => self.list_rooms(asker),
            Request::Operator { text } => self.operator(asker, text),
            Request::RenewName => self.renew_name(asker),
            Request::Admin { ask } => self.asked_by(asker, id, &ask),
            Request::RelayRegister(tokens) => self.register_leg(asker, id, &tokens),
        }
    }

    fn timeout(&mut self) {
        while let Some(timer) = self.timers.pop(self.now) {
            match timer {
                Timer::Session(session) => self.session_due(session),
                Timer::Room(room) => self.room_due(room),
                Timer::Housekeeping => self.housekeeping(),
            }
        }
    }

    fn housekeeping(&mut self) {
        self.timers.set(self.now + HOUSEKEEPING, Timer::Housekeeping);
        self.rounds += 1;
        self.doors.prune(self.now);
        self.new_things.prune(self.now);
        self.new_names.prune(self.now);
        self.rates.prune(self.now);
        self.wasted_leases.prune(self.now);
        if self.space == Space::None {
            return;
        }
        self.expire_rooms();
        self.forget_locks();
        self.prune_lists();
        self.ban_housekeeping();
        if self.rounds.is_multiple_of(ALL_LOGS) {
            self.trim_logs();
        }
    }

    /// Whether the disk has room for what somebody asks for.
    fn has_space(&self, body: &Request) -> Result<(), Refusal> {
        let writes = matches!(
            body,
            Request::Post { .. }
                | Request::Commit { .. }
                | Request::Leave { .. }
                | Request::CreateRoom { .. }
                | Request::CreateDirect { .. }
        );
        if writes && self.space != Space::Plenty { Err(disk_full()) } else { Ok(()) }
    }

    /// A number that was not used before.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Judges certificates: our own hold here, and those of servers that are vouched for.
    pub(super) fn certs(&self) -> impl Fn(&NameCert) -> Result<(), CertRefused> + use<> {
        let (trust, now_ms) = (Arc::clone(&self.trust), self.wall_ms);
        move |cert| Ok(trust.check_name(cert, now_ms)?)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("name", &self.config.name)
            .field("sessions", &self.sessions.len())
            .field("rooms", &self.rooms.len())
            .finish_non_exhaustive()
    }
}

const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// All logs are looked through in every so many rounds of housekeeping, for rows that have become too old.
const ALL_LOGS: u64 = 60;
