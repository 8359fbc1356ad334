use super::*;
use crate::wire::leg::LegKey;
use crate::wire::token::Token;

/// Servers, and a head for each.
pub(super) type Targets = Vec<(NodeId, Vec<u8>)>;

/// The server with its driver: Argon2 is a plain comparison that waits until the test lets it run.
pub(super) struct World<E = Core> {
    pub(super) core: E,
    pub(super) store: ServerStore,
    pub(super) now: Duration,
    pub(super) inbox: BTreeMap<SessionId, VecDeque<ToClient>>,
    pub(super) admitted: Vec<SessionId>,
    pub(super) closed: Vec<SessionId>,
    pub(super) log: Vec<LogEvent>,
    /// Hash work that was asked for: the ticket, and the answer to it.
    pub(super) hashes: VecDeque<Input>,
    /// The hashes that doors were checked against.
    pub(super) checked: Vec<String>,
    pub(super) hold_hashes: bool,
    pub(super) sessions: SessionId,
    pub(super) requests: u64,
    /// What went to other servers.
    pub(super) mesh: VecDeque<(Targets, Arc<[u8]>)>,
    /// Answers at the admin socket.
    pub(super) answers: Vec<Answer>,
    /// What is to be done beside the core, with its ticket.
    pub(super) tasks: Vec<(u64, Task)>,
    /// At what part of the normal pace posts are to be taken.
    pub(super) slower: u32,
    /// Random bytes that were drawn; not very random ones.
    pub(super) draws: u8,
    pub(super) legs: Forwarding,
    /// Ways of relayed datagrams that are open: in by server and number, out by number.
    pub(super) ways_in: BTreeSet<(NodeId, u64)>,
    pub(super) ways_out: BTreeSet<u64>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(config(), ServerStore::in_memory().unwrap())
    }

    pub(super) fn with(config: Config, store: ServerStore) -> Self {
        let core = Core::new(config, server(), store.load().unwrap(), Duration::ZERO, START_MS).unwrap();
        Self::around(core, store)
    }

    /// The process is killed and starts again from its store.
    pub(super) fn restart(self) -> Self {
        Self { sessions: self.sessions, requests: self.requests, ..Self::with(config(), self.store) }
    }
}

impl<E: Engine> World<E> {
    pub(super) fn around(core: E, store: ServerStore) -> Self {
        Self {
            core,
            store,
            now: Duration::ZERO,
            inbox: BTreeMap::new(),
            admitted: Vec::new(),
            closed: Vec::new(),
            log: Vec::new(),
            hashes: VecDeque::new(),
            checked: Vec::new(),
            hold_hashes: false,
            sessions: 0,
            requests: 0,
            mesh: VecDeque::new(),
            answers: Vec::new(),
            tasks: Vec::new(),
            slower: 0,
            draws: 0,
            legs: Forwarding::new(RelayLimits::default(), Duration::ZERO),
            ways_in: BTreeSet::new(),
            ways_out: BTreeSet::new(),
        }
    }

    pub(super) fn wall(&self) -> u64 {
        START_MS + u64::try_from(self.now.as_millis()).unwrap()
    }

    pub(super) fn feed(&mut self, input: Input) {
        let wall = self.wall();
        self.core.handle(self.now, wall, input);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        loop {
            while let Some(output) = self.core.poll_output() {
                self.perform(output);
            }
            // Each session at another server, or of one, has a way as long as it lasts, and none is left behind.
            let Gauges { guests, away, .. } = self.core.gauges();
            assert_eq!((self.ways_in.len() as u64, self.ways_out.len() as u64), (guests, away));
            let Some(answer) = (!self.hold_hashes).then(|| self.hashes.pop_front()).flatten() else { return };
            let wall = self.wall();
            self.core.handle(self.now, wall, answer);
        }
    }

    pub(super) fn perform(&mut self, output: Output) {
        match output {
            Output::Store(writes) => self.store.apply(&writes).unwrap(),
            Output::Send { session, frame } | Output::SendFrom { session, frame, .. } => {
                let frame = ToClient::from_bytes(&frame, 1 << 20).unwrap();
                self.inbox.entry(session).or_default().push_back(frame);
            }
            Output::Admitted { session } => self.admitted.push(session),
            Output::Close { session } => self.closed.push(session),
            Output::CheckDoor { ticket, phc, door } => {
                let ok = *phc == format!("phc {:?}", door.as_bytes());
                self.checked.push(phc.to_string());
                self.hashes.push_back(Input::DoorChecked { ticket, ok });
            }
            Output::HashDoor { ticket, door } => {
                self.hashes.push_back(Input::DoorHashed { ticket, phc: Some(format!("phc {:?}", door.as_bytes())) });
            }
            Output::ReadLog { ticket, room, after } => {
                let page = self.store.page(&room, after).unwrap();
                let wall = self.wall();
                self.core.handle(self.now, wall, Input::LogPage { ticket, page });
            }
            Output::ReadActs { ticket, before, limit } => {
                let acts = self.store.acts(before, limit).unwrap();
                let wall = self.wall();
                self.core.handle(self.now, wall, Input::Acts { ticket, acts });
            }
            Output::RegisterLeg { session, request, user, tokens } => {
                self.draws += 1;
                let (leg, key) = ([self.draws; 8], LegKey::new([self.draws; 32]));
                let made = self.legs.register(self.now, user, tokens, (leg, key.clone())).map(|()| (leg, key));
                let wall = self.wall();
                self.core.handle(self.now, wall, Input::LegMade { session, request, made });
            }
            Output::Legs { user, stay } => self.legs.stay(self.now, user, stay),
            Output::Answer { answer, .. } => self.answers.push(*answer),
            Output::Operate { ticket, task } => self.tasks.push((ticket, task)),
            Output::Draw { ticket } => {
                self.draws += 1;
                let token = Some(Token::new([self.draws; 16]));
                let wall = self.wall();
                self.core.handle(self.now, wall, Input::Drawn { ticket, token });
            }
            Output::Pace { slower } => self.slower = slower,
            Output::Way(Way::In { node, client, .. }) => assert!(self.ways_in.insert((node, client))),
            Output::Way(Way::NotIn { node, client }) => assert!(self.ways_in.remove(&(node, client))),
            Output::Way(Way::Out { client, .. }) => assert!(self.ways_out.insert(client)),
            Output::Way(Way::NotOut { client }) => assert!(self.ways_out.remove(&client)),
            Output::Relay { .. } | Output::Gossip { .. } => {}
            Output::Mesh { targets, body } => self.mesh.push_back((targets, body)),
            Output::Log(event) => self.log.push(event),
        }
    }

    /// A question at the admin socket, and its answer.
    pub(super) fn owner_asks(&mut self, ask: Ask) -> Answer {
        self.feed(Input::Asked { ticket: 1, ask: Box::new(ask) });
        self.answers.pop().unwrap()
    }

    /// Time passes; what is due happens at its time.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.core.next_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.feed(Input::Timeout);
        }
        self.now = end;
    }

    pub(super) fn connect_from(&mut self, identity: &Identity, addr: &str) -> SessionId {
        self.sessions += 1;
        let addr: SocketAddr = addr.parse().unwrap();
        self.feed(Input::Connected { session: self.sessions, key: identity.public(), addr, via: None });
        self.sessions
    }

    pub(super) fn connect(&mut self, identity: &Identity) -> SessionId {
        self.connect_from(identity, "192.0.2.1:1")
    }

    pub(super) fn login_as(&mut self, session: SessionId, name: &str, instance: u8) -> Result<Welcome, Refusal> {
        self.login_with_token(session, name, instance, None)
    }

    pub(super) fn login_with_token(
        &mut self,
        session: SessionId,
        name: &str,
        instance: u8,
        token: Option<Token>,
    ) -> Result<Welcome, Refusal> {
        let (instance, token) = (Id([instance; 16]), token.map(|token| token.expose().into()));
        self.log_in(session, Login { version: VERSION, name: name.into(), instance, cert: None, pass: None, token })
    }

    /// A client comes again and shows the certificate that it has.
    pub(super) fn login_with_cert(&mut self, client: &Client) -> Result<Welcome, Refusal> {
        let session = self.connect(&client.me.identity);
        let (name, cert) = (client.me.cert.subject.to_string(), Some(client.me.cert.to_bytes().into()));
        self.log_in(session, Login { version: VERSION, name, instance: Id([1; 16]), cert, pass: None, token: None })
    }

    /// Somebody of many, each with a key, an address and a name of its own.
    pub(super) fn connect_as_many(&mut self, n: usize) -> SessionId {
        let mut seed = [99; 32];
        seed[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let addr = format!("198.51.{}.{}:1", n / 200, n % 200);
        let session = self.connect_from(&Identity::from_seed(&seed), &addr);
        self.login_as(session, &format!("p{n:05}"), 1).unwrap();
        session
    }

    fn log_in(&mut self, session: SessionId, login: Login) -> Result<Welcome, Refusal> {
        self.feed(Input::Frame(session, ToServer::Login(login)));
        match self.take(session) {
            ToClient::Welcome(welcome) => Ok(welcome),
            ToClient::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn client(&mut self, seed: u8, name: &str) -> Client {
        let identity = user(seed);
        let session = self.connect(&identity);
        let welcome = self.login_as(session, name, seed).unwrap();
        let cert = NameCert::from_bytes(&welcome.cert).unwrap();
        Client { session, me: Member { identity, cert }, room: None, seen: 0, texts: Vec::new() }
    }

    pub(super) fn nothing_for(&self, session: SessionId) -> bool {
        self.inbox.get(&session).is_none_or(VecDeque::is_empty)
    }

    pub(super) fn disconnect(&mut self, client: &Client) {
        self.feed(Input::Disconnected(client.session));
    }

    /// The client's link is made anew, in the same process or in another one.
    pub(super) fn reconnect(&mut self, client: &mut Client, instance: u8) {
        client.session = self.connect(&client.me.identity);
        let label = client.me.cert.subject.name.to_string();
        self.login_as(client.session, &label, instance).unwrap();
    }
}

impl<E: Engine> Hall for World<E> {
    fn hear(&mut self, session: SessionId, frame: ToServer) {
        self.feed(Input::Frame(session, frame));
    }

    fn inbox(&mut self, session: SessionId) -> &mut VecDeque<ToClient> {
        self.inbox.entry(session).or_default()
    }

    fn number(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }
}
