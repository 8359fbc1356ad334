use super::*;

/// The server with its driver: Argon2 is a plain comparison that waits until the test lets it run.
pub(super) struct World {
    pub(super) core: Core,
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
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(config(), ServerStore::in_memory().unwrap())
    }

    pub(super) fn with(config: Config, store: ServerStore) -> Self {
        let core = Core::new(config, server(), store.load().unwrap(), Duration::ZERO, START_MS).unwrap();
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
        }
    }

    /// The process is killed and starts again from its store.
    pub(super) fn restart(self) -> Self {
        Self { sessions: self.sessions, requests: self.requests, ..Self::with(config(), self.store) }
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
            let Some(answer) = (!self.hold_hashes).then(|| self.hashes.pop_front()).flatten() else { return };
            let wall = self.wall();
            self.core.handle(self.now, wall, answer);
        }
    }

    pub(super) fn perform(&mut self, output: Output) {
        match output {
            Output::Store(writes) => self.store.apply(&writes).unwrap(),
            Output::Send { session, frame } => {
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
            Output::Relay { .. } | Output::SendFrom { .. } | Output::Mesh { .. } => {}
            Output::Log(event) => self.log.push(event),
        }
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
        let login = Login { version: VERSION, name: name.into(), instance: Id([instance; 16]), cert: None, pass: None };
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

    pub(super) fn take(&mut self, session: SessionId) -> ToClient {
        self.inbox.get_mut(&session).and_then(VecDeque::pop_front).expect("a frame")
    }

    pub(super) fn nothing_for(&self, session: SessionId) -> bool {
        self.inbox.get(&session).is_none_or(VecDeque::is_empty)
    }

    /// Asks without waiting for the answer; the request's number.
    pub(super) fn ask(&mut self, session: SessionId, body: Request) -> u64 {
        self.requests += 1;
        let id = self.requests;
        self.feed(Input::Frame(session, ToServer::Request { id, body }));
        id
    }

    /// Takes the answer to a request out of the inbox, leaving everything else there.
    pub(super) fn answer(&mut self, session: SessionId, id: u64) -> Option<Reply> {
        let inbox = self.inbox.get_mut(&session)?;
        let place = inbox.iter().position(|f| matches!(f, ToClient::Reply { id: i, .. } if *i == id))?;
        match inbox.remove(place)? {
            ToClient::Reply { body, .. } => Some(body),
            _ => None,
        }
    }

    pub(super) fn request(&mut self, session: SessionId, body: Request) -> Reply {
        let id = self.ask(session, body);
        self.answer(session, id).expect("an answer")
    }

    pub(super) fn refused(&mut self, session: SessionId, body: Request) -> Code {
        match self.request(session, body) {
            Reply::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn pushes(&mut self, session: SessionId) -> Vec<Push> {
        let inbox = self.inbox.entry(session).or_default();
        let (pushes, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(inbox).into_iter().partition(|f| matches!(f, ToClient::Push(_)));
        *inbox = rest;
        pushes.into_iter().filter_map(|f| if let ToClient::Push(push) = f { Some(push) } else { None }).collect()
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

    pub(super) fn create(&mut self, owner: &mut Client, kind: RoomKind) {
        let reply = self.try_create(owner, DEN, "den", kind);
        assert!(matches!(reply, Reply::Sequenced { seq: 0, .. }), "{reply:?}");
    }

    pub(super) fn try_create(&mut self, owner: &mut Client, id: RoomId, label: &str, kind: RoomKind) -> Reply {
        let join = (kind == RoomKind::Private).then(secret);
        let me = owner.me.identity.public();
        let policy = Policy::new(kind, label.into(), me, join.as_ref().map(Identity::public));
        let (room, grant) = Room::create(&owner.me, server().public(), id.0, policy, join).unwrap();
        owner.room = Some(room);
        owner.seen = 0;
        let door = (kind == RoomKind::Private).then(|| door(1));
        self.request(owner.session, Request::CreateRoom { room: id, door, published: published(0, &grant) })
    }

    /// A member's way in, from the door to the commit.
    pub(super) fn join(&mut self, client: &mut Client, kind: RoomKind) {
        let door = (kind == RoomKind::Private).then(|| door(1));
        let reply = self.request(client.session, Request::Enter { room: DEN, door });
        let reply = self.finish_join(client, kind, reply);
        assert!(matches!(reply, Reply::Sequenced { .. }), "{reply:?}");
    }

    pub(super) fn finish_join(&mut self, client: &mut Client, kind: RoomKind, entered: Reply) -> Reply {
        let (lease, commit, room) = client.prepare_join(kind, entered);
        let reply = self.request(client.session, with_lease(commit, lease));
        if let Reply::Sequenced { seq, .. } = reply {
            client.room = Some(room);
            client.seen = seq;
        }
        reply
    }

    pub(super) fn say(&mut self, client: &mut Client, text: &str) -> Reply {
        let message = client.room.as_mut().unwrap().seal(text.as_bytes()).unwrap();
        self.post(client, message)
    }

    pub(super) fn post(&mut self, client: &mut Client, message: Vec<u8>) -> Reply {
        let reply = self.request(client.session, Request::Post { room: DEN, message: message.into() });
        if let Reply::Sequenced { seq, .. } = reply {
            client.seen = client.seen.max(seq);
        }
        reply
    }

    /// The client takes in all rows that were pushed to it.
    pub(super) fn catch(&mut self, client: &mut Client) -> Vec<Push> {
        let mut rest = Vec::new();
        for push in self.pushes(client.session) {
            match push {
                Push::Row { room: DEN, row } => client.receive(&row),
                other => rest.push(other),
            }
        }
        rest
    }

    /// Everything that the client has missed, page by page.
    pub(super) fn catch_up(&mut self, client: &mut Client) {
        self.try_catch_up(client).unwrap();
    }

    pub(super) fn try_catch_up(&mut self, client: &mut Client) -> Result<(), Code> {
        loop {
            match self.request(client.session, Request::Log { room: DEN, after: client.seen }) {
                Reply::Log { rows, live } => {
                    rows.iter().for_each(|row| client.receive(row));
                    if live {
                        return Ok(());
                    }
                }
                Reply::Refused(refusal) => return Err(refusal.code),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The client commits what stands.
    pub(super) fn commit_pending(&mut self, client: &mut Client) -> Reply {
        let out = client.room.as_mut().unwrap().commit_pending().unwrap();
        let reply = self.request(client.session, commit(out));
        match reply {
            Reply::Sequenced { seq, .. } => {
                self.receive_below(client, seq);
                client.room.as_mut().unwrap().own_commit_accepted().unwrap();
                client.seen = seq;
            }
            _ => client.room.as_mut().unwrap().own_commit_lost().unwrap(),
        }
        reply
    }

    /// Rows that were pushed before the answer to an own commit come before it.
    pub(super) fn receive_below(&mut self, client: &mut Client, seq: u64) {
        let pushes = self.pushes(client.session);
        let inbox = self.inbox.entry(client.session).or_default();
        for push in pushes {
            match push {
                Push::Row { room: DEN, row } if row.seq < seq => client.receive(&row),
                other => inbox.push_back(ToClient::Push(other)),
            }
        }
    }

    pub(super) fn leave(&mut self, client: &mut Client) -> Reply {
        let message = client.room.as_mut().unwrap().leave().unwrap();
        self.request(client.session, Request::Leave { room: DEN, message: message.into() })
    }
}
