//! The client's pure core: a state machine that takes one [`Input`], then is drained of [`Effect`]s until it asks for a timeout.
//!
//! This file holds the state and the way in and out; each concern is a file beside it that adds its steps to [`Core`].

pub use super::agreeing::FileRules;
use super::conversation::Conversation;
use super::effects::{Effect, FilesCommand, Input, LinkInfo};
use super::event::Event;
use super::joining::Entry;
use super::peers::Peers;
use super::problem::{FAILED, Problem};
use super::requests::{Purpose, Requests};
use super::running::Running;
use super::search::Searches;
use super::transfers::Transfers;
use crate::crypto::identity::{Identity, PublicKey};
use crate::group::{KeyPackages, Member};
use crate::limits::{KEEPALIVE, REQUEST_DEADLINE};
use crate::wire::frame::{Refusal, Request, ToClient, ToServer};
use crate::wire::id::{Id, RoomId};
use crate::wire::invite::Host;
use crate::wire::name::{FullName, Name};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

/// The number of a command, if something follows from one.
pub(super) type Ticket = Option<u64>;

/// What the core starts from.
#[derive(Debug)]
pub struct CoreConfig {
    /// Our key.
    pub identity: Identity,
    /// Keys that names were seen with in earlier runs.
    pub pins: Vec<(FullName, PublicKey)>,
    /// Where the server was reached, for invites.
    pub endpoint: Option<(Host, u16)>,
    /// Nobody is there to try again: a failed start, and the loss of the last room, end the process with their exit code.
    pub scripted: bool,
    /// How files are fetched and sent.
    pub files: FileRules,
}

/// The state of one client.
pub struct Core {
    pub(super) config: CoreConfig,
    pub(super) rng: ChaCha20Rng,
    pub(super) now: Duration,
    pub(super) wall_ms: u64,
    pub(super) link: Option<Link>,
    /// Known since the first link.
    pub(super) home: Option<Home>,
    pub(super) requests: Requests,
    pub(super) conversations: BTreeMap<RoomId, Conversation>,
    /// Where bare text goes.
    pub(super) current: Option<RoomId>,
    /// Creations and joins under way.
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) next_entry: u64,
    pub(super) peers: Peers,
    pub(super) searches: Searches,
    pub(super) transfers: Transfers,
    pub(super) running: Running,
    effects: VecDeque<Effect>,
}

/// A link that stands.
pub(super) struct Link {
    /// When the server was last heard.
    heard: Duration,
}

/// Our server, who we are there, and the key packages that we have published.
pub(super) struct Home {
    pub server: Name,
    pub key: PublicKey,
    pub me: Member,
    pub stock: KeyPackages,
    /// The stock before: a Welcome made with it may still be on its way.
    pub old_stock: Option<KeyPackages>,
    /// When the certificate is renewed next.
    pub renew_at_ms: u64,
}

impl Core {
    /// A client that waits for its first link. `seed` makes all ids and keys of its own; MLS draws from the system.
    pub fn new(config: CoreConfig, seed: [u8; 32]) -> Self {
        let (peers, transfers) = (Peers::new(&config.pins), Transfers::new(config.files.uploads));
        Self {
            config,
            rng: ChaCha20Rng::from_seed(seed),
            now: Duration::ZERO,
            wall_ms: 0,
            link: None,
            home: None,
            requests: Requests::default(),
            conversations: BTreeMap::new(),
            current: None,
            entries: BTreeMap::new(),
            next_entry: 0,
            peers,
            searches: Searches::default(),
            transfers,
            running: Running::default(),
            effects: VecDeque::new(),
        }
    }

    /// Takes one input. `now` counts from any origin and never goes back; `wall_ms` is the Unix clock.
    pub fn handle(&mut self, now: Duration, wall_ms: u64, input: Input) {
        if self.is_gone() {
            return;
        }
        self.now = now;
        self.wall_ms = wall_ms;
        match input {
            Input::LinkUp(info) => self.link_up(*info),
            Input::LinkDown { reason, fatal } => self.link_down(reason, fatal),
            Input::Frame(frame) => self.frame(frame),
            Input::Start(start) => self.start(*start),
            Input::Command { line, tag } => self.command(line, tag),
            Input::Fetch(fetch) => self.fetch(*fetch),
            Input::GiveUp { tag } => self.unwanted(&tag),
            Input::Password { number, password } => self.password_given(number, password),
            Input::RoomDerived { ticket, keys } => self.room_derived(ticket, *keys),
            Input::SplitKey { transfer, made } => self.split_key_made(&transfer, made.map(|made| *made)),
            Input::EndOfInput => self.end_of_input(),
            Input::Files(event) => self.files(event),
            Input::Timeout => {}
        }
        self.timeouts();
        self.pump_all();
        self.go_on();
    }

    /// What is to be done, in order; to be called until it gives `None`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Timeout`] is wanted, on the clock of `now`.
    pub fn next_timeout(&self) -> Option<Duration> {
        let idle = self.link.as_ref().map(|link| link.heard + KEEPALIVE * 3);
        [
            idle,
            self.link.as_ref().and_then(|_| self.requests.next_deadline()),
            self.entries_timeout(),
            self.rooms_timeout(),
            self.peers.next_timeout(),
            self.searches.next_timeout(),
            self.transfers.next_timeout(self.sources_max()),
            self.running.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The rooms that we are in, the current one first: `LABEL@SERVER`. For prompts.
    pub fn rooms(&self) -> Vec<String> {
        let mut rooms: Vec<_> = self.conversations.values().filter(|c| c.is_room()).collect();
        rooms.sort_by_key(|c| Some(c.id) != self.current);
        rooms.into_iter().map(Conversation::title).collect()
    }

    fn link_up(&mut self, info: LinkInfo) {
        self.link = Some(Link { heard: self.now });
        if let Err(problem) = self.settle_in(&info) {
            self.tell(None, problem.clone().event());
            return self.exit("failed", problem.exit);
        }
        let name = self.home.as_ref().map(|h| h.me.cert.subject.to_string()).unwrap_or_default();
        let (server, fingerprint) = (info.server.to_string(), info.server_key.fingerprint().to_string());
        self.tell(None, Event::Connected { server, fingerprint, name, tls: info.tls });
        self.publish_key_packages();
        self.resume_rooms();
        self.resume_entries();
        self.resume_peers();
        self.resume_downloads();
    }

    fn link_down(&mut self, reason: String, fatal: Option<Refusal>) {
        let was_up = self.link.take().is_some();
        for purpose in self.requests.take_all() {
            self.unanswered(purpose);
        }
        self.conversations.values_mut().for_each(|c| c.outbox.ground());
        if let Some(refusal) = fatal {
            let problem = Problem::from(refusal);
            self.tell(None, problem.clone().event());
            return self.exit(&problem.code, problem.exit);
        }
        if self.running.is_leaving() {
            return self.exit_now();
        }
        if was_up || self.home.is_none() {
            self.tell(None, Event::Reconnecting { reason });
        }
    }

    fn frame(&mut self, frame: ToClient) {
        if let Some(link) = &mut self.link {
            link.heard = self.now;
        } else {
            return;
        }
        match frame {
            ToClient::Reply { id, body } => {
                if let Some(purpose) = self.requests.take(id) {
                    self.reply(purpose, body);
                }
            }
            ToClient::Push(push) => self.push(push),
            // The driver has dealt with these before the link stood.
            ToClient::Hello(_) | ToClient::Welcome(_) | ToClient::Refused(_) => {}
        }
    }

    fn timeouts(&mut self) {
        let now = self.now;
        if let Some(link) = &self.link {
            let silent = now >= link.heard + KEEPALIVE * 3;
            if silent || self.requests.next_deadline().is_some_and(|deadline| now >= deadline) {
                let reason = "the server does not answer".to_owned();
                self.effect(Effect::DropLink { reason: reason.clone() });
                self.link_down(reason, None);
            }
        }
        self.entries_timeouts();
        self.peers_timeouts();
        self.searches_timeouts();
        self.transfers_timeouts();
        self.running_timeouts();
    }

    /// Sends a request; false, and nothing done, without a link.
    pub(super) fn request(&mut self, body: Request, purpose: Purpose) -> bool {
        self.request_for(body, purpose, REQUEST_DEADLINE)
    }

    pub(super) fn request_for(&mut self, body: Request, purpose: Purpose, within: Duration) -> bool {
        if self.link.is_none() {
            return false;
        }
        let id = self.requests.add(purpose, self.now + within);
        self.effect(Effect::Send(ToServer::Request { id, body }));
        true
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(super) fn tell_files(&mut self, command: FilesCommand) {
        self.effect(Effect::Files(command));
    }

    pub(super) fn tell(&mut self, ticket: Ticket, event: Event) {
        let tag = self.running.tag(ticket);
        self.effect(Effect::Event { tag, event: Box::new(event) });
    }

    /// Tells what went wrong, and ends the command with it.
    pub(super) fn fail(&mut self, ticket: Ticket, problem: Problem) {
        let exit = problem.exit;
        self.tell(ticket, problem.event());
        self.done(ticket, exit);
    }

    pub(super) fn integrity(&mut self, ticket: Ticket, room: String, kind: &str, peer: Option<String>) {
        self.tell(ticket, Event::Integrity { room, kind: kind.to_owned(), peer });
    }

    /// 16 fresh random bytes.
    pub(super) fn new_id(&mut self) -> Id {
        let mut id = Id::default();
        self.rng.fill_bytes(&mut id.0);
        id
    }

    pub(super) fn me(&self) -> Option<&FullName> {
        self.home.as_ref().map(|home| &home.me.cert.subject)
    }

    /// Ends everything at once.
    pub(super) fn exit(&mut self, reason: &str, code: u8) {
        self.running.set_leaving(reason, code, self.now);
        self.exit_now();
    }

    pub(super) fn internal(what: &impl fmt::Display) -> Problem {
        Problem::new("internal", FAILED, what.to_string())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("me", &self.me()).field("rooms", &self.rooms()).finish_non_exhaustive()
    }
}
