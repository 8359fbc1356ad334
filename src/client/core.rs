//! The client's pure core: a state machine that takes one [`Input`], then is drained of [`Effect`]s until it asks for a timeout.
//!
//! This file holds the state and the way in and out; each concern is a file beside it that adds its steps to [`Core`].

pub use super::agreeing::FileRules;
use super::attach::{Attachment, Link};
use super::conversation::Conversation;
use super::effects::{Effect, FilesCommand, Input, LinkInfo};
use super::event::Event;
use super::joining::Entry;
use super::peers::Peers;
use super::problem::{FAILED, Problem};
use super::restricting::Restrictions;
use super::room_rules::Edits;
use super::running::Running;
use super::search::Searches;
use super::servers::Servers;
use super::survey::Survey;
use super::transfers::Transfers;
use crate::crypto::identity::{Identity, PublicKey};
use crate::group::Member;
use crate::transfer::restrict::Ledger;
use crate::wire::frame::Refusal;
use crate::wire::home::HomeCard;
use crate::wire::id::{Id, InstanceId, RoomId};
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
    /// Random for each process; the same at every server.
    pub instance: InstanceId,
    /// Names that we have from earlier runs.
    pub homes: Vec<HomeCard>,
    /// Where the first server was reached, for invites.
    pub endpoint: Option<(Host, u16)>,
    /// Nobody is there to try again: a failed start, and the loss of the last room, end the process with their exit code.
    pub scripted: bool,
    /// How files are fetched and sent.
    pub files: FileRules,
    /// What was sent in earlier runs, for quotas.
    pub ledger: Ledger,
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
    /// Our sessions, by server: over the link, and through it.
    pub(super) attachments: BTreeMap<Name, Attachment>,
    pub(super) servers: Servers,
    /// The server of the first link.
    pub(super) first: Option<Name>,
    /// Questions to all servers that are under way.
    pub(super) surveys: BTreeMap<u64, Survey>,
    pub(super) conversations: BTreeMap<RoomId, Conversation>,
    /// Where bare text goes.
    pub(super) current: Option<RoomId>,
    /// Creations and joins under way.
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) next_entry: u64,
    pub(super) peers: Peers,
    pub(super) searches: Searches,
    pub(super) transfers: Transfers,
    pub(super) restrictions: Restrictions,
    pub(super) edits: Edits,
    pub(super) running: Running,
    /// There is no first link, though it was tried.
    pub(super) tried_in_vain: bool,
    effects: VecDeque<Effect>,
}

/// The server that certified our name, and who we are.
pub(super) struct Home {
    pub server: Name,
    pub key: PublicKey,
    pub me: Member,
    /// When the certificate is renewed next.
    pub renew_at_ms: u64,
}

impl Core {
    /// A client that waits for its first link. `seed` makes all ids and keys of its own; MLS draws from the system.
    pub fn new(config: CoreConfig, seed: [u8; 32]) -> Self {
        let restrictions = Restrictions::new(config.ledger.clone());
        let (peers, transfers) = (Peers::new(&config.pins), Transfers::new(config.files.uploads));
        Self {
            config,
            rng: ChaCha20Rng::from_seed(seed),
            now: Duration::ZERO,
            wall_ms: 0,
            link: None,
            home: None,
            attachments: BTreeMap::new(),
            servers: Servers::default(),
            first: None,
            surveys: BTreeMap::new(),
            conversations: BTreeMap::new(),
            current: None,
            entries: BTreeMap::new(),
            next_entry: 0,
            peers,
            searches: Searches::default(),
            transfers,
            restrictions,
            edits: Edits::default(),
            running: Running::default(),
            tried_in_vain: false,
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
            Input::Admin { tag, server, ask } => self.operate(tag, server.as_ref(), &ask),
            Input::GiveUp { tag } => self.unwanted(&tag),
            Input::Password { number, password } => self.password_given(number, password),
            Input::RoomDerived { ticket, keys } => self.room_derived(ticket, *keys),
            Input::SplitKey { transfer, made } => self.split_key_made(&transfer, made.map(|made| *made)),
            Input::EndOfInput => self.end_of_input(),
            Input::Interrupt => self.interrupted(),
            Input::Files(event) => self.files(event),
            Input::Timeout => {}
        }
        self.timeouts();
        self.pump_all();
        loop {
            self.go_on();
            // What cannot be had makes room for what was typed after it.
            if !self.attach_wanted() {
                break;
            }
        }
    }

    /// What is to be done, in order; to be called until it gives `None`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Timeout`] is wanted, on the clock of `now`.
    pub fn next_timeout(&self) -> Option<Duration> {
        [
            self.attachments_timeout(),
            self.surveys_timeout(),
            self.entries_timeout(),
            self.rooms_timeout(),
            self.rotations_timeout(),
            self.peers.next_timeout(),
            self.searches.next_timeout(),
            self.transfers.next_timeout(self.sources_max()),
            self.running.next_timeout(),
            self.edits.next_timeout(),
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
        self.link = Some(Link::new(&info));
        if let Err(problem) = self.settle_in(&info) {
            self.tell(None, problem.clone().event());
            return self.exit("failed", problem.exit);
        }
        let name = self.me().map(ToString::to_string).unwrap_or_default();
        self.tried_in_vain = false;
        self.first.get_or_insert_with(|| info.server.clone());
        let (server, fingerprint) = (info.server.to_string(), info.server_key.fingerprint().to_string());
        self.tell(None, Event::Connected { server, fingerprint, name, tls: info.tls });
        self.attached(&info.server);
    }

    fn link_down(&mut self, reason: String, fatal: Option<Refusal>) {
        let was_up = self.link.take().is_some();
        self.detach_all();
        if let Some(refusal) = fatal {
            let problem = Problem::from(refusal);
            self.tell(None, problem.clone().event());
            return self.exit(&problem.code, problem.exit);
        }
        if self.running.is_leaving() {
            return self.exit_now();
        }
        self.tried_in_vain = self.home.is_none();
        if was_up || self.tried_in_vain {
            self.tell(None, Event::Reconnecting { reason });
        }
    }

    fn timeouts(&mut self) {
        if let Some(reason) = self.attachments_timeouts() {
            self.effect(Effect::DropLink { reason: reason.clone() });
            self.link_down(reason, None);
        }
        self.entries_timeouts();
        self.surveys_timeouts();
        self.rotations_timeouts();
        self.peers_timeouts();
        self.searches_timeouts();
        self.transfers_timeouts();
        self.edits_timeouts();
        self.running_timeouts();
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
        self.tell(ticket, Event::Integrity { room, kind: kind.to_owned(), peer, server: None });
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
