//! Several client cores and real server cores with their stores, in virtual time; frames can be held, lost and mangled between them.

use crate::servers::Server;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use secchat::client::core::{Core, CoreConfig, FileRules};
use secchat::client::effects::{ChannelStart, Effect, Input, LinkInfo, SplitKeyMade, Start, Wanted};
use secchat::client::event::Event;
use secchat::crypto::identity::{Identity, PublicKey};
use secchat::crypto::room::{DoorKey, RoomKeys};
use secchat::crypto::rsa_split::SplitKey;
use secchat::crypto::secret::Secret;
use secchat::limits::LINK_FRAME_MAX;
use secchat::server::{self, Config, Output, SessionId};
use secchat::transfer::restrict::Ledger;
use secchat::wire::admin::{Answer, Ask};
use secchat::wire::frame::{Login, ToClient, ToServer, VERSION};
use secchat::wire::home::HomeCard;
use secchat::wire::id::{Id, RoomId, TransferId};
use secchat::wire::invite::Host;
use secchat::wire::leg::{LegId, LegKey};
use secchat::wire::name::{FullName, Name};
use secchat::wire::payload::FileRefusal;
use secchat::wire::vouch::ServerTrust;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub const START_MS: u64 = 1_700_000_000_000;
pub const PASSWORD: &str = "correct horse battery staple";

pub fn server_identity() -> Identity {
    Identity::from_seed(&[100; 32])
}

pub fn full(text: &str) -> FullName {
    FullName::new(Name::parse(text).unwrap(), Name::parse("s1").unwrap())
}

pub fn config() -> Config {
    Config {
        name: Name::parse("s1").unwrap(),
        stun_port: 7443,
        log_age: Duration::from_secs(7 * 24 * 3600),
        log_bytes: 1 << 20,
        room_ttl: Duration::from_secs(24 * 3600),
        lost_grace: Duration::from_secs(600),
        trust: ServerTrust::default(),
        vouch: None,
        decoy_phc: "decoy".into(),
    }
}

/// What a password gives, without Argon2's price.
pub fn derive(password: &Secret, room: &RoomId) -> RoomKeys {
    let hash = |label: &[u8]| -> [u8; 32] {
        Sha256::new().chain_update(label).chain_update(room.0).chain_update(password.expose()).finalize().into()
    };
    RoomKeys { door: DoorKey::from_bytes(hash(b"door")), join: Identity::from_seed(&hash(b"join")) }
}

/// A frame from the server to a client may become none, another, or several.
pub type Mangler = Box<dyn FnMut(usize, ToClient) -> Vec<ToClient>>;

pub struct World {
    pub servers: Vec<Server>,
    /// Servers that do not hear each other.
    pub split: BTreeSet<(usize, usize)>,
    /// What they say waits.
    pub stalled: bool,
    pub now: Duration,
    pub clients: Vec<Client>,
    /// Clients whose frames to the server wait.
    pub held: BTreeSet<usize>,
    /// Clients to whom nothing comes: it is lost.
    pub deaf: BTreeSet<usize>,
    pub mangler: Mangler,
    /// Every byte that the server was sent.
    pub received: Vec<u8>,
    /// For clients that are added from now on.
    pub rules: FileRules,
    /// The same.
    pub homes: Vec<HomeCard>,
    sessions: SessionId,
}

pub struct Client {
    pub core: Core,
    pub name: String,
    pub identity: Identity,
    pub events: Vec<(Option<String>, Event)>,
    /// Exit code of each finished command, by number.
    pub done: BTreeMap<u64, u8>,
    pub exit: Option<u8>,
    pub pins: Vec<(FullName, PublicKey)>,
    /// What it keeps of what was sent.
    pub ledger: Ledger,
    /// What is answered when a password is asked for.
    pub password: Option<Secret>,
    /// Files that it shares.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Files that it does not share. A name that ends with a slash is a folder's.
    pub disk: BTreeMap<String, Vec<u8>>,
    /// Channels that were started, and whether they send.
    pub channels: BTreeMap<TransferId, (ChannelStart, bool)>,
    /// The download of each source.
    pub downloads: BTreeMap<TransferId, TransferId>,
    /// What the file side was told to end, and whether what has come is kept.
    pub ended: Vec<(TransferId, bool)>,
    /// Whatever is asked for is hashed without end.
    pub hashing: bool,
    /// What others have asked its file side for, and the rooms of their searches.
    pub wanted: Vec<Wanted>,
    pub searched: Vec<RoomId>,
    /// For whom what it fetches is.
    pub serves: Vec<Option<RoomId>>,
    /// It answers with a file of so many bytes more than it is.
    pub more: u64,
    /// Nothing is sent, for this reason.
    pub refusal: Option<FileRefusal>,
    /// What servers have answered to another process of the user.
    pub answers: Vec<(String, Answer)>,
    pub dropped_links: usize,
    /// Channels start and then stand still.
    pub stall: bool,
    /// No channel finds a path by itself; the legs that servers gave.
    pub cut_off: bool,
    pub legs: Vec<(LegId, LegKey)>,
    instance: u8,
    /// Which of the servers its link leads to.
    pub at: usize,
    /// What it keeps of its home.
    pub home: Option<HomeCard>,
    pub session: Option<SessionId>,
    to_server: VecDeque<ToServer>,
    from_server: VecDeque<ToClient>,
    commands: u64,
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: Config) -> Self {
        Self::around(vec![Server::alone(config, server_identity())])
    }

    pub fn around(servers: Vec<Server>) -> Self {
        Self {
            servers,
            split: BTreeSet::new(),
            stalled: false,
            now: Duration::ZERO,
            clients: Vec::new(),
            held: BTreeSet::new(),
            deaf: BTreeSet::new(),
            mangler: Box::new(|_, frame| vec![frame]),
            received: Vec::new(),
            rules: FileRules::default(),
            homes: Vec::new(),
            sessions: 0,
        }
    }

    /// Clients of these names, connected.
    pub fn of(names: &[&str]) -> Self {
        let mut world = Self::new();
        for name in names {
            world.join_mesh(name);
        }
        world
    }

    /// Alice makes a private room `den`, the others join it.
    pub fn den(names: &[&str]) -> Self {
        let mut world = Self::of(names);
        world.start(0, Start::Create { room: "den".into(), private: true, password: Some(password()) });
        for client in 1..names.len() {
            world.enter(client);
        }
        world.clients.iter_mut().for_each(|c| c.events.clear());
        world
    }

    pub fn enter(&mut self, client: usize) {
        self.start(client, Start::Join { room: "den".into(), password: Some(password()) });
        assert!(matches!(self.clients[client].last(), Some(Event::Joined { .. })), "{:?}", self.clients[client].events);
    }

    /// A client that connects at once.
    pub fn join_mesh(&mut self, name: &str) -> usize {
        let client = self.add(name, Vec::new(), false);
        self.connect(client);
        client
    }

    pub fn add(&mut self, name: &str, pins: Vec<(FullName, PublicKey)>, scripted: bool) -> usize {
        let seed = u8::try_from(self.clients.len() + 1).unwrap();
        let identity = Identity::from_seed(&[seed; 32]);
        self.add_as(name, identity, seed, pins, scripted)
    }

    pub fn add_as(
        &mut self,
        name: &str,
        identity: Identity,
        instance: u8,
        pins: Vec<(FullName, PublicKey)>,
        scripted: bool,
    ) -> usize {
        let endpoint = Some((Host::Name("chat.example".into()), 4433));
        let files = self.rules.clone();
        let (process, homes) = (Id([instance; 16]), self.homes.clone());
        let config = CoreConfig {
            identity: identity.clone(),
            instance: process,
            homes,
            pins,
            endpoint,
            scripted,
            files,
            ledger: Ledger::default(),
        };
        self.clients.push(Client {
            core: Core::new(config, [instance; 32]),
            name: name.into(),
            identity,
            events: Vec::new(),
            done: BTreeMap::new(),
            exit: None,
            pins: Vec::new(),
            ledger: Ledger::default(),
            password: None,
            files: BTreeMap::new(),
            disk: BTreeMap::new(),
            channels: BTreeMap::new(),
            downloads: BTreeMap::new(),
            ended: Vec::new(),
            hashing: false,
            wanted: Vec::new(),
            searched: Vec::new(),
            serves: Vec::new(),
            more: 0,
            refusal: None,
            answers: Vec::new(),
            dropped_links: 0,
            stall: false,
            cut_off: false,
            legs: Vec::new(),
            instance,
            at: 0,
            home: self.homes.first().cloned(),
            session: None,
            to_server: VecDeque::new(),
            from_server: VecDeque::new(),
            commands: 0,
        });
        self.clients.len() - 1
    }

    pub fn wall(&self) -> u64 {
        START_MS + u64::try_from(self.now.as_millis()).unwrap()
    }

    pub fn connect(&mut self, client: usize) {
        self.sessions += 1;
        let session = self.sessions;
        let c = &mut self.clients[client];
        c.session = Some(session);
        let (key, addr) = (c.identity.public(), format!("192.0.2.{}:1", client % 200 + 1).parse().unwrap());
        let (name, key_there) = (self.servers[c.at].name(), self.servers[c.at].key());
        let home = c.home.as_ref().filter(|card| *card.server() != name && card.leads_to(&name, &key_there));
        let cert = home.map(|card| card.cert.to_bytes().into());
        let login = Login {
            version: VERSION,
            name: c.name.clone(),
            instance: Id([c.instance; 16]),
            cert,
            pass: None,
            token: None,
        };
        let at = c.at;
        self.feed_server(at, server::Input::Connected { session, key, addr, via: None });
        self.feed_server(at, server::Input::Frame(session, ToServer::Login(login)));
        self.run();
    }

    /// The link breaks; what was on its way in either direction is lost.
    pub fn cut(&mut self, client: usize) {
        if let Some(session) = self.clients[client].session.take() {
            self.feed_server(self.clients[client].at, server::Input::Disconnected(session));
        }
        self.unplug(client);
    }

    pub fn unplug(&mut self, client: usize) {
        let c = &mut self.clients[client];
        c.to_server.clear();
        c.from_server.clear();
        c.session = None;
        self.feed(client, Input::LinkDown { reason: "link lost".into(), fatal: None });
    }

    /// The server hears what waits, but its answers do not come.
    pub fn cut_answers(&mut self, client: usize) {
        self.hear_from(client);
        self.cut(client);
    }

    /// The server's process is killed and starts again from its store; all links break.
    pub fn restart_server(&mut self) {
        let (now, wall) = (self.now, self.wall());
        self.servers[0].restart(now, wall);
        (0..self.clients.len()).for_each(|client| self.unplug(client));
    }

    /// The client's process is killed and starts again, with a new state but its old key.
    pub fn restart_client(&mut self, client: usize) {
        self.cut(client);
        let c = &mut self.clients[client];
        c.instance = c.instance.checked_add(20).unwrap();
        let config = CoreConfig {
            identity: c.identity.clone(),
            instance: Id([c.instance; 16]),
            homes: c.home.iter().cloned().collect(),
            pins: c.pins.clone(),
            endpoint: Some((Host::Name("chat.example".into()), 4433)),
            scripted: false,
            files: self.rules.clone(),
            ledger: c.ledger.clone(),
        };
        c.core = Core::new(config, [c.instance; 32]);
        c.commands = 0;
        c.done.clear();
        self.connect(client);
    }

    pub fn start(&mut self, client: usize, start: Start) -> u64 {
        self.feed(client, Input::Start(Box::new(start)));
        self.clients[client].commands += 1;
        self.run();
        self.clients[client].commands
    }

    /// A line, and all that follows from it at once. Gives the command's number.
    pub fn say(&mut self, client: usize, line: &str) -> u64 {
        let number = self.type_line(client, line);
        self.run();
        number
    }

    /// A line that is typed while nothing else happens yet.
    pub fn type_line(&mut self, client: usize, line: &str) -> u64 {
        self.feed(client, Input::Command { line: line.into(), tag: None });
        self.clients[client].commands += 1;
        self.clients[client].commands
    }

    pub fn feed(&mut self, client: usize, input: Input) {
        let wall = self.wall();
        self.clients[client].core.handle(self.now, wall, input);
        self.effects(client);
    }

    fn effects(&mut self, client: usize) {
        while let Some(effect) = self.clients[client].core.poll_effect() {
            let c = &mut self.clients[client];
            match effect {
                Effect::Send(frame) => c.to_server.push_back(frame),
                Effect::Event { tag, event } => c.events.push((tag, *event)),
                Effect::Files(command) => self.files(client, command),
                Effect::DeriveRoom { ticket, password, room } => {
                    let keys = Box::new(derive(&password, &room));
                    self.feed(client, Input::RoomDerived { ticket, keys });
                }
                Effect::AskPassword { number, .. } => {
                    let password = c.password.clone();
                    self.feed(client, Input::Password { number, password });
                }
                Effect::Pin { name, key } => c.pins.push((name, key)),
                Effect::CommandDone { number, code, .. } => {
                    assert_eq!(c.done.insert(number, code), None, "a command ends once");
                }
                Effect::MakeSplitKey { transfer, seed } => {
                    let made = SplitKey::generate(&mut ChaCha20Rng::from_seed(*seed)).unwrap();
                    let (key, public, path) = made;
                    let made = Some(Box::new(SplitKeyMade { key, public, path }));
                    self.feed(client, Input::SplitKey { transfer, made });
                }
                Effect::Answer { tag, answer } => c.answers.push((tag, *answer)),
                Effect::DropLink { .. } => {
                    c.dropped_links += 1;
                    c.to_server.clear();
                    c.from_server.clear();
                    let at = c.at;
                    if let Some(session) = c.session.take() {
                        self.feed_server(at, server::Input::Disconnected(session));
                    }
                }
                Effect::KeepHome(card) => c.home = Some(*card),
                Effect::KeepLedger(bytes) => c.ledger = Ledger::from_bytes(&bytes).unwrap(),
                Effect::Exit(code) => c.exit = Some(code),
            }
        }
    }

    pub fn feed_server(&mut self, at: usize, input: server::Input) {
        let wall = self.wall();
        self.servers[at].engine.handle(self.now, wall, input);
        self.outputs(at);
    }

    /// A question at the admin socket of the first server, and its answer.
    pub fn owner_asks(&mut self, ask: Ask) -> Answer {
        self.feed_server(0, server::Input::Asked { ticket: 1, ask: Box::new(ask) });
        let answer = self.servers[0].answers.pop().unwrap();
        self.run();
        answer
    }

    fn outputs(&mut self, at: usize) {
        let wall = self.wall();
        while let Some(output) = self.servers[at].engine.poll_output() {
            match output {
                Output::Send { session, frame } | Output::SendFrom { session, frame, .. } => {
                    let frame = ToClient::from_bytes(&frame, LINK_FRAME_MAX).unwrap();
                    if let Some(c) = self.clients.iter_mut().find(|c| c.session == Some(session)) {
                        c.from_server.push_back(frame);
                    }
                }
                Output::Close { session } => {
                    if let Some(client) = self.clients.iter().position(|c| c.session == Some(session)) {
                        self.speak_to(client);
                        self.unplug(client);
                    }
                }
                output => self.servers[at].carry_out(self.now, wall, output),
            }
        }
    }

    fn hear_from(&mut self, client: usize) -> bool {
        let mut moved = false;
        while let (Some(session), Some(frame)) =
            (self.clients[client].session, self.clients[client].to_server.pop_front())
        {
            moved = true;
            self.received.extend(frame.to_bytes());
            self.feed_server(self.clients[client].at, server::Input::Frame(session, frame));
        }
        moved
    }

    fn speak_to(&mut self, client: usize) -> bool {
        let mut moved = false;
        while let Some(frame) = self.clients[client].from_server.pop_front() {
            moved = true;
            if self.deaf.contains(&client) {
                continue;
            }
            if let ToClient::Welcome(welcome) = frame {
                let server = &self.servers[self.clients[client].at];
                let info = LinkInfo { server: server.name(), server_key: server.key(), tls: "TLS 1.3".into(), welcome };
                self.feed(client, Input::LinkUp(Box::new(info)));
                continue;
            }
            for frame in (self.mangler)(client, frame) {
                self.feed(client, Input::Frame(frame));
            }
        }
        moved
    }

    /// Frames go to and fro until nobody has anything more to say. Everybody speaks before anybody hears.
    pub fn run(&mut self) {
        loop {
            let mut moved = false;
            for client in 0..self.clients.len() {
                moved |= !self.held.contains(&client) && self.hear_from(client);
            }
            moved |= self.between_servers();
            for client in 0..self.clients.len() {
                moved |= self.speak_to(client);
            }
            if !moved {
                return;
            }
        }
    }

    /// A join whose commit is ready but waits to be sent.
    pub fn hold_after_entered(&mut self, client: usize, start: Start) {
        self.feed(client, Input::Start(Box::new(start)));
        self.clients[client].commands += 1;
        // Resolve, then Enter; the commit is the third.
        for _ in 0..2 {
            self.hear_from(client);
            self.speak_to(client);
        }
        self.held.insert(client);
    }

    /// Time passes; what is due happens at its time.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let clients = self.clients.iter().filter(|c| c.exit.is_none()).filter_map(|c| c.core.next_timeout());
            let servers = self.servers.iter().filter(|s| s.alive).filter_map(|s| s.engine.next_timeout());
            let Some(due) = clients.chain(servers).min().filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            for at in (0..self.servers.len()).filter(|at| self.servers[*at].alive).collect::<Vec<_>>() {
                self.feed_server(at, server::Input::Timeout);
            }
            (0..self.clients.len()).for_each(|client| self.feed(client, Input::Timeout));
            self.run();
        }
        self.now = end;
    }

    pub fn clear(&mut self) {
        self.clients.iter_mut().for_each(|c| c.events.clear());
    }
}

impl Client {
    pub fn last(&self) -> Option<&Event> {
        self.events.last().map(|(_, event)| event)
    }

    pub const fn link_is_down(&self) -> bool {
        self.session.is_none()
    }

    /// Each start takes a number of its own.
    pub const fn can_restart(&self) -> bool {
        self.instance < 230
    }

    /// Texts of rooms, as they were shown.
    pub fn heard(&self) -> Vec<(String, String)> {
        self.pick(|event| match event {
            Event::Message { from, text, .. } => Some((from.clone(), text.clone())),
            _ => None,
        })
    }

    /// Private texts, as they were shown.
    pub fn told(&self) -> Vec<(String, String)> {
        self.pick(|event| match event {
            Event::Direct { from, text, .. } => Some((from.clone(), text.clone())),
            _ => None,
        })
    }

    pub fn integrity(&self) -> Vec<String> {
        self.pick(|event| match event {
            Event::Integrity { kind, .. } => Some(kind.clone()),
            _ => None,
        })
    }

    pub fn errors(&self) -> Vec<String> {
        self.pick(|event| match event {
            Event::Error { code, .. } => Some(code.clone()),
            _ => None,
        })
    }

    pub fn sent(&self) -> usize {
        self.pick(|event| matches!(event, Event::Sent { .. }).then_some(())).len()
    }

    pub fn pick<T>(&self, mut f: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        self.events.iter().filter_map(|(_, event)| f(event)).collect()
    }

    pub fn has(&self, event: &Event) -> bool {
        self.events.iter().any(|(_, e)| e == event)
    }
}

pub fn password() -> Secret {
    Secret::new(PASSWORD).unwrap()
}

pub fn root_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn line(from: &str, text: &str) -> (String, String) {
    (format!("{from}@s1"), text.to_owned())
}
