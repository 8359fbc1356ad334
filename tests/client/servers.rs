//! The servers of a world: one alone, or several in a mesh that delivers at once and in order.

use crate::world::{START_MS, World, config};
use secchat::crypto::identity::{Identity, PublicKey};
use secchat::mesh::run::MeshEvent;
use secchat::mesh::{DownReason, NodeInfo};
use secchat::server::engine::Engine;
use secchat::server::forwarding::{Forwarding, RelayLimits};
use secchat::server::meshed::Meshed;
use secchat::server::relay::{Relay, RelayConfig};
use secchat::server::{Config, Core, Input, Output};
use secchat::store::ServerStore;
use secchat::wire::admin::Answer;
use secchat::wire::leg::LegKey;
use secchat::wire::name::Name;
use secchat::wire::vouch::{NodeId, ServerCert, ServerTrust};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub struct Server {
    pub engine: Box<dyn Engine>,
    pub store: ServerStore,
    pub alive: bool,
    config: Config,
    identity: Identity,
    meshed: bool,
    /// To what its owner has asked.
    pub answers: Vec<Answer>,
    /// Of files that it passes on.
    pub legs: Forwarding,
    tickets: u8,
    /// What it has said to others.
    said: VecDeque<Said>,
}

/// A head for each target, and one body.
type Said = (Vec<(NodeId, Vec<u8>)>, Arc<[u8]>);

pub fn authority() -> Identity {
    Identity::from_seed(&[99; 32])
}

pub fn identity_of(server: usize) -> Identity {
    Identity::from_seed(&[100 + u8::try_from(server).unwrap(); 32])
}

pub fn name_of(server: usize) -> Name {
    Name::parse(&format!("s{}", server + 1)).unwrap()
}

impl Server {
    pub fn alone(config: Config, identity: Identity) -> Self {
        Self::new(config, identity, false)
    }

    pub fn of_mesh(server: usize) -> Self {
        let identity = identity_of(server);
        let trust = ServerTrust { authorities: vec![authority().public()], listed: Vec::new() };
        let vouch = ServerCert::issue(&authority(), name_of(server), identity.public(), START_MS * 2);
        let config = Config { name: name_of(server), trust, vouch: Some(vouch), ..config() };
        Self::new(config, identity, true)
    }

    /// One that takes its own signature for another server's, and so lets in whom it likes under names of that one.
    pub fn liar(server: usize, about: usize) -> Self {
        let honest = Self::of_mesh(server);
        let listed = vec![(name_of(about), honest.key().fingerprint())];
        let trust = ServerTrust { listed, ..honest.config.trust.clone() };
        Self::new(Config { trust, ..honest.config }, honest.identity, true)
    }

    /// Its operator takes another authority.
    pub fn change_authority(&mut self) {
        self.config.trust.authorities = vec![identity_of(50).public()];
    }

    fn new(config: Config, identity: Identity, meshed: bool) -> Self {
        let store = ServerStore::in_memory().unwrap();
        let engine = engine(&config, &identity, meshed, &store, Duration::ZERO, START_MS);
        let legs = Forwarding::new(RelayLimits::default(), Duration::ZERO);
        Self {
            legs,
            tickets: 0,
            engine,
            store,
            alive: true,
            config,
            identity,
            meshed,
            answers: Vec::new(),
            said: VecDeque::new(),
        }
    }

    pub fn name(&self) -> Name {
        self.config.name.clone()
    }

    pub fn key(&self) -> PublicKey {
        self.identity.public()
    }

    /// Rooms and direct conversations.
    pub fn rooms(&self) -> usize {
        self.store.load().unwrap().rooms.len()
    }

    /// It is killed, and starts again from its store.
    pub fn restart(&mut self, now: Duration, wall: u64) {
        self.engine = engine(&self.config, &self.identity, self.meshed, &self.store, now, wall);
        self.said.clear();
        self.alive = true;
    }

    pub fn carry_out(&mut self, now: Duration, wall: u64, output: Output) {
        match output {
            Output::Store(writes) => self.store.apply(&writes).unwrap(),
            Output::CheckDoor { ticket, phc, door } => {
                let ok = *phc == format!("phc {:?}", door.as_bytes());
                self.engine.handle(now, wall, Input::DoorChecked { ticket, ok });
            }
            Output::HashDoor { ticket, door } => {
                let phc = Some(format!("phc {:?}", door.as_bytes()));
                self.engine.handle(now, wall, Input::DoorHashed { ticket, phc });
            }
            Output::ReadLog { ticket, room, after } => {
                let page = self.store.page(&room, after).unwrap();
                self.engine.handle(now, wall, Input::LogPage { ticket, page });
            }
            Output::RegisterLeg { session, request, user, tokens } => {
                self.tickets += 1;
                let (leg, key) = ([self.tickets; 8], LegKey::new([self.tickets; 32]));
                let made = self.legs.register(now, user, tokens, (leg, key.clone())).map(|()| (leg, key));
                self.engine.handle(now, wall, Input::LegMade { session, request, made });
            }
            Output::Answer { answer, .. } => self.answers.push(*answer),
            Output::Mesh { targets, body } => self.said.push_back((targets, body)),
            _ => {}
        }
    }

    pub fn vouch(&self) -> ServerCert {
        self.config.vouch.clone().unwrap()
    }

    fn info(&self) -> NodeInfo {
        NodeInfo {
            id: NodeId::of(&self.key()),
            key: self.key(),
            name: self.name(),
            vouch: self.config.vouch.clone(),
            endpoints: vec![format!("{}.example:7443", self.name())],
            instance: 1,
            reachable: true,
            hops: 1,
            round_trip: Duration::from_millis(20),
            queued: 0,
        }
    }
}

fn engine(
    config: &Config,
    identity: &Identity,
    meshed: bool,
    store: &ServerStore,
    now: Duration,
    wall: u64,
) -> Box<dyn Engine> {
    let core = Core::new(config.clone(), identity.clone(), store.load().unwrap(), now, wall).unwrap();
    if !meshed {
        return Box::new(core);
    }
    let authorities = config.trust.authorities.clone();
    let relay = RelayConfig { name: config.name.clone(), identity: identity.clone(), authorities, secret: [7; 32] };
    Box::new(Meshed::new(core, Relay::new(relay)))
}

impl World {
    /// So many servers in one mesh: `s1`, `s2` and so on.
    pub fn mesh(count: usize) -> Self {
        Self::meshed((0..count).map(Server::of_mesh).collect())
    }

    pub fn meshed(servers: Vec<Server>) -> Self {
        let count = servers.len();
        let mut world = Self::around(servers);
        for (one, other) in (0..count).flat_map(|one| (0..count).map(move |other| (one, other))) {
            world.up(one, other);
        }
        world
    }

    /// A client of that name, connected to that server.
    pub fn person(&mut self, name: &str, at: usize) -> usize {
        let client = self.add(name, Vec::new(), false);
        self.go_to(client, at);
        client
    }

    /// Its next link leads there.
    pub fn go_to(&mut self, client: usize, at: usize) {
        self.clients[client].at = at;
        self.connect(client);
    }

    fn up(&mut self, at: usize, other: usize) {
        if at != other && self.servers[at].alive && self.servers[other].alive {
            let info = self.servers[other].info();
            self.feed_server(at, Input::Mesh(MeshEvent::Up(info)));
        }
    }

    fn down(&mut self, at: usize, other: usize) {
        if self.servers[at].alive {
            let node = NodeId::of(&self.servers[other].key());
            self.feed_server(at, Input::Mesh(MeshEvent::Down(node, DownReason::Unreachable)));
        }
    }

    /// A server is killed. Links to it break; the others notice.
    pub fn kill(&mut self, server: usize) {
        self.servers[server].alive = false;
        for client in (0..self.clients.len()).filter(|c| self.clients[*c].at == server).collect::<Vec<_>>() {
            self.unplug(client);
        }
        for at in (0..self.servers.len()).filter(|at| *at != server).collect::<Vec<_>>() {
            self.down(at, server);
        }
        self.run();
    }

    /// It starts again from its store.
    pub fn revive(&mut self, server: usize) {
        let (now, wall) = (self.now, self.wall());
        self.servers[server].restart(now, wall);
        for other in 0..self.servers.len() {
            self.up(server, other);
            self.up(other, server);
        }
        self.run();
    }

    /// Two servers no longer hear each other, and know.
    pub fn split(&mut self, one: usize, other: usize) {
        self.split.extend([(one, other), (other, one)]);
        self.down(one, other);
        self.down(other, one);
        self.run();
    }

    pub fn mend(&mut self, one: usize, other: usize) {
        self.split.retain(|pair| ![(one, other), (other, one)].contains(pair));
        self.up(one, other);
        self.up(other, one);
        self.run();
    }

    /// What servers have said to each other arrives.
    pub fn between_servers(&mut self) -> bool {
        let mut moved = false;
        if self.stalled {
            return false;
        }
        while let Some(from) = self.servers.iter().position(|s| !s.said.is_empty()) {
            moved = true;
            let (targets, body) = self.servers[from].said.pop_front().unwrap();
            let node = NodeId::of(&self.servers[from].key());
            for (to, head) in targets {
                let to = self.servers.iter().position(|s| NodeId::of(&s.key()) == to).unwrap();
                if self.servers[from].alive && self.servers[to].alive && !self.split.contains(&(from, to)) {
                    let event = MeshEvent::Delivered { from: node, head, body: Arc::clone(&body) };
                    self.feed_server(to, Input::Mesh(event));
                }
            }
        }
        moved
    }
}
