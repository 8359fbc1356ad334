use super::*;
use crate::mesh::{DownReason, NodeInfo};

/// Servers `s1`, `s2` and so on in one mesh that delivers at once and in order, and their clients. A session here is a client's at
/// one server, its own or another one.
pub(super) struct Linked {
    pub(super) servers: Vec<World<Meshed>>,
    /// Servers that do not hear each other.
    cut: Vec<(usize, usize)>,
    /// By number, which of the servers, which session there, and which other server that speaks to.
    places: Vec<Place>,
    inboxes: Vec<VecDeque<ToClient>>,
    /// Every message between servers: of whom, and its targets.
    pub(super) sent: Vec<(usize, Targets)>,
    requests: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    server: usize,
    session: SessionId,
    at: Option<Name>,
}

pub(super) fn identity(server: usize) -> Identity {
    Identity::from_seed(&[100 + u8::try_from(server).unwrap(); 32])
}

pub(super) fn node(server: usize) -> NodeId {
    NodeId::of(&identity(server).public())
}

pub(super) fn server_name(server: usize) -> Name {
    name(&format!("s{}", server + 1))
}

pub(super) fn vouch(server: usize) -> ServerCert {
    ServerCert::issue(&authority(), server_name(server), identity(server).public(), START_MS * 2)
}

pub(super) fn info(server: usize) -> NodeInfo {
    NodeInfo {
        id: node(server),
        key: identity(server).public(),
        name: server_name(server),
        vouch: Some(vouch(server)),
        endpoints: vec![format!("s{}.example:7443", server + 1)],
        instance: 1,
        reachable: true,
        hops: 1,
        round_trip: Duration::from_millis(20),
        queued: 0,
    }
}

fn meshed(server: usize, store: &ServerStore) -> Meshed {
    let trust = ServerTrust { authorities: vec![authority().public()], listed: Vec::new() };
    let config = Config { name: server_name(server), trust, vouch: Some(vouch(server)), ..config() };
    let relay = Relay::new(RelayConfig {
        name: server_name(server),
        identity: identity(server),
        authorities: vec![authority().public()],
        secret: [7; 32],
    });
    let core = Core::new(config, identity(server), store.load().unwrap(), Duration::ZERO, START_MS).unwrap();
    Meshed::new(core, relay)
}

impl Linked {
    pub(super) fn new(count: usize) -> Self {
        let world = |server| {
            let store = ServerStore::in_memory().unwrap();
            World::around(meshed(server, &store), store)
        };
        let servers = (0..count).map(world).collect();
        let mut linked =
            Self { servers, cut: Vec::new(), places: Vec::new(), inboxes: Vec::new(), sent: Vec::new(), requests: 0 };
        for (one, other) in linked.pairs() {
            linked.event(one, MeshEvent::Up(info(other)));
        }
        linked
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let count = self.servers.len();
        (0..count).flat_map(|a| (0..count).map(move |b| (a, b))).filter(|(a, b)| a != b).collect()
    }

    pub(super) fn event(&mut self, server: usize, event: MeshEvent) {
        self.servers[server].feed(Input::Mesh(event));
        self.run();
    }

    /// Another server says something, honest or not.
    pub(super) fn delivered(&mut self, to: usize, from: usize, head: &Head, body: &[u8]) {
        self.event(to, MeshEvent::Delivered { from: node(from), head: head.to_bytes(), body: body.into() });
    }

    /// What two say to each other is lost from now on, and they know.
    pub(super) fn cut(&mut self, one: usize, other: usize) {
        self.cut.extend([(one, other), (other, one)]);
        self.event(one, MeshEvent::Down(node(other), DownReason::Unreachable));
        self.event(other, MeshEvent::Down(node(one), DownReason::Unreachable));
    }

    pub(super) fn mend(&mut self, one: usize, other: usize) {
        self.cut.retain(|pair| ![(one, other), (other, one)].contains(pair));
        self.event(one, MeshEvent::Up(info(other)));
        self.event(other, MeshEvent::Up(info(one)));
    }

    /// A server is killed, starts again from its store, and links up.
    pub(super) fn restart(&mut self, server: usize) {
        let others: Vec<usize> = (0..self.servers.len()).filter(|other| *other != server).collect();
        let old = &mut self.servers[server];
        let store = std::mem::replace(&mut old.store, ServerStore::in_memory().unwrap());
        let (now, sessions) = (old.now, old.sessions);
        let world = World { now, sessions, ..World::around(meshed(server, &store), store) };
        self.servers[server] = world;
        for other in others {
            self.event(other, MeshEvent::Down(node(server), DownReason::Restarted));
            self.event(other, MeshEvent::Up(info(server)));
            self.event(server, MeshEvent::Up(info(other)));
        }
    }

    /// Everything that is on its way arrives.
    pub(super) fn run(&mut self) {
        while let Some(from) = self.servers.iter().position(|s| !s.mesh.is_empty()) {
            let (targets, body) = self.servers[from].mesh.pop_front().unwrap();
            for (to, head) in &targets {
                let to = (0..self.servers.len()).find(|n| node(*n) == *to).expect("it knows whom it speaks to");
                if !self.cut.contains(&(from, to)) {
                    let event = MeshEvent::Delivered { from: node(from), head: head.clone(), body: Arc::clone(&body) };
                    self.servers[to].feed(Input::Mesh(event));
                }
            }
            self.sent.push((from, targets));
        }
        for server in 0..self.servers.len() {
            for (session, frames) in std::mem::take(&mut self.servers[server].inbox) {
                frames.into_iter().for_each(|frame| self.sort(server, session, frame));
            }
        }
    }

    fn sort(&mut self, server: usize, session: SessionId, frame: ToClient) {
        let (at, frame) = match frame {
            ToClient::From { server, frame } => (Some(server), ToClient::from_bytes(&frame, 1 << 20).unwrap()),
            ToClient::Away { server, why } => (Some(server.clone()), ToClient::Away { server, why }),
            // In tests that look at the list it is asked for.
            frame => (None, frame),
        };
        let place = self.place(server, session, at);
        self.inboxes[usize::try_from(place).unwrap()].push_back(frame);
    }

    fn place(&mut self, server: usize, session: SessionId, at: Option<Name>) -> SessionId {
        let place = Place { server, session, at };
        let known = self.places.iter().position(|known| *known == place);
        let number = known.unwrap_or_else(|| {
            self.places.push(place);
            self.inboxes.push(VecDeque::new());
            self.places.len() - 1
        });
        u64::try_from(number).unwrap()
    }

    /// Somebody who has a name at a server and is connected to it.
    pub(super) fn client(&mut self, server: usize, seed: u8, name: &str) -> Client {
        let identity = user(seed);
        let session = self.connect(server, &identity);
        let welcome = self.login(session, login(&identity, server, name, seed, None)).unwrap();
        let cert = NameCert::from_bytes(&welcome.cert).unwrap();
        Client { session, me: Member { identity, cert }, room: None, seen: 0, texts: Vec::new() }
    }

    pub(super) fn connect(&mut self, server: usize, identity: &Identity) -> SessionId {
        self.connect_from(server, identity, "192.0.2.1:1")
    }

    pub(super) fn connect_from(&mut self, server: usize, identity: &Identity, addr: &str) -> SessionId {
        let session = self.servers[server].connect_from(identity, addr);
        self.place(server, session, None)
    }

    /// The list of servers that comes with a welcome is left to tests of its own.
    pub(super) fn login(&mut self, session: SessionId, login: Login) -> Result<Welcome, Refusal> {
        self.hear(session, ToServer::Login(login));
        let answer = match self.take(session) {
            ToClient::Welcome(welcome) => Ok(welcome),
            ToClient::Refused(refusal) => Err(refusal),
            ToClient::Away { why, .. } => Err(Refusal::new(Code::NotHere, format!("{why:?}"))),
            other => panic!("{other:?}"),
        };
        self.inbox(session).retain(|frame| !matches!(frame, ToClient::Push(Push::Servers(_))));
        answer
    }

    /// The client's session at another server than the one that it is connected to.
    pub(super) fn at(&mut self, client: &Client, server: usize) -> SessionId {
        self.elsewhere(client.session, server)
    }

    pub(super) fn elsewhere(&mut self, session: SessionId, server: usize) -> SessionId {
        let Place { server: access, session, .. } = self.places[usize::try_from(session).unwrap()].clone();
        self.place(access, session, Some(server_name(server)))
    }

    /// A fresh certificate of somebody's name.
    pub(super) fn renewed(&mut self, session: SessionId) -> NameCert {
        let Reply::Name(cert) = self.request(session, Request::RenewName) else {
            panic!("it is a name of that server")
        };
        NameCert::from_bytes(&cert).unwrap()
    }

    /// The client says one thing more, and its link is gone before anybody has looked at it.
    pub(super) fn at_once(&mut self, client: &Client, frame: ToServer) {
        let Place { server, session, at } = self.places[usize::try_from(client.session).unwrap()].clone();
        let frame = ToServer::At { server: at.unwrap(), frame: frame.to_bytes().into() };
        let access = &mut self.servers[server];
        let (now, wall) = (access.now, access.wall());
        access.core.handle(now, wall, Input::Frame(session, frame));
        access.feed(Input::Disconnected(session));
        self.run();
    }

    /// The client's session at the server that it is connected to.
    pub(super) fn direct(&mut self, client: &Client) -> SessionId {
        let Place { server, session, .. } = self.places[usize::try_from(client.session).unwrap()].clone();
        self.place(server, session, None)
    }

    /// Logs in at another server; from now on the client speaks there.
    pub(super) fn visit(&mut self, client: &mut Client, server: usize) -> Result<Welcome, Refusal> {
        let session = self.at(client, server);
        let access = self.places[usize::try_from(session).unwrap()].server;
        let seed = client.me.identity.seed()[0];
        let login = login(&client.me.identity, access, "x", seed, Some(&client.me.cert));
        let welcome = self.login(session, login)?;
        client.session = session;
        Ok(welcome)
    }

    /// A visitor that has nothing there yet.
    pub(super) fn visitor(&mut self, access: usize, home: usize, seed: u8, name: &str) -> Client {
        let mut client = self.client(access, seed, name);
        let welcome = self.visit(&mut client, home).unwrap();
        assert_eq!(welcome.cert.to_vec(), client.me.cert.to_bytes());
        client
    }

    /// The client's link to its own server is gone.
    pub(super) fn hang_up(&mut self, client: &Client) {
        let Place { server, session, .. } = self.places[usize::try_from(client.session).unwrap()].clone();
        self.servers[server].feed(Input::Disconnected(session));
        self.run();
    }

    pub(super) fn away(&mut self, session: SessionId) -> Option<Away> {
        let inbox = self.inbox(session);
        let place = inbox.iter().position(|frame| matches!(frame, ToClient::Away { .. }))?;
        match inbox.remove(place)? {
            ToClient::Away { why, .. } => Some(why),
            _ => None,
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.servers[0].now + time;
        while let Some(due) = self.servers.iter().filter_map(|s| s.core.next_timeout()).filter(|due| *due <= end).min()
        {
            for server in &mut self.servers {
                let now = server.now;
                server.pass(due.saturating_sub(now));
            }
            self.run();
        }
        self.servers.iter_mut().for_each(|server| server.now = end);
    }
}

pub(super) fn login(me: &Identity, access: usize, name: &str, instance: u8, cert: Option<&NameCert>) -> Login {
    let pass = Pass::sign(me, &identity(access).public(), Id([instance; 16]), START_MS + 3_600_000);
    Login {
        version: VERSION,
        name: name.into(),
        instance: Id([instance; 16]),
        cert: cert.map(|cert| cert.to_bytes().into()),
        pass: Some(pass.to_bytes().into()),
        token: None,
    }
}

impl Hall for Linked {
    fn hear(&mut self, session: SessionId, frame: ToServer) {
        let Place { server, session, at } = self.places[usize::try_from(session).unwrap()].clone();
        let frame = match at {
            Some(server) => ToServer::At { server, frame: frame.to_bytes().into() },
            None => frame,
        };
        self.servers[server].feed(Input::Frame(session, frame));
        self.run();
    }

    fn inbox(&mut self, session: SessionId) -> &mut VecDeque<ToClient> {
        &mut self.inboxes[usize::try_from(session).unwrap()]
    }

    fn number(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }
}
