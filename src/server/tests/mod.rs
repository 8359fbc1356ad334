//! The core with a real store, real MLS clients and a clock of its own; no network.

mod directs;
mod doors;
mod joins;
mod leaving;
mod login;
mod restart;
mod rooms;

use super::*;
use crate::crypto::identity::{Identity, PublicKey};
use crate::group::{CertRefused, Grant, Member, Received, Room, Target};
use crate::store::{ServerStore, Write};
use crate::wire::cert::NameCert;
use crate::wire::frame::{Code, Login, Published, Push, Refusal, Reply, Request, ToClient, ToServer, VERSION, Welcome};
use crate::wire::id::{Id, RoomId};
use crate::wire::log::{Row, RowKind};
use crate::wire::name::{FullName, Name};
use crate::wire::policy::{Policy, RoomKind};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

const DEN: RoomId = Id([7; 16]);
const START_MS: u64 = 1_700_000_000_000;

fn server() -> Identity {
    Identity::from_seed(&[100; 32])
}

fn user(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn secret() -> Identity {
    Identity::from_seed(&[200; 32])
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn full(text: &str) -> FullName {
    FullName::new(name(text), name("s1"))
}

fn config() -> Config {
    Config {
        name: name("s1"),
        stun_port: 3478,
        log_age: Duration::from_secs(7 * 24 * 3600),
        log_bytes: 1 << 20,
        room_ttl: Duration::from_secs(3600),
        lost_grace: Duration::from_secs(600),
        decoy_phc: "decoy".into(),
    }
}

fn trusting(cert: &NameCert) -> Result<(), CertRefused> {
    Ok(cert.check(&server().public(), START_MS)?)
}

/// The server with its driver: Argon2 is a plain comparison that waits until the test lets it run.
struct World {
    core: Core,
    store: ServerStore,
    now: Duration,
    inbox: BTreeMap<SessionId, VecDeque<ToClient>>,
    closed: Vec<SessionId>,
    log: Vec<LogEvent>,
    /// Hash work that was asked for: the ticket, and the answer to it.
    hashes: VecDeque<Input>,
    /// The hashes that doors were checked against.
    checked: Vec<String>,
    hold_hashes: bool,
    sessions: SessionId,
    requests: u64,
}

impl World {
    fn new() -> Self {
        Self::with(config(), ServerStore::in_memory().unwrap())
    }

    fn with(config: Config, store: ServerStore) -> Self {
        let core = Core::new(config, server(), store.load().unwrap(), Duration::ZERO, START_MS).unwrap();
        Self {
            core,
            store,
            now: Duration::ZERO,
            inbox: BTreeMap::new(),
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
    fn restart(self) -> Self {
        Self { sessions: self.sessions, requests: self.requests, ..Self::with(config(), self.store) }
    }

    fn wall(&self) -> u64 {
        START_MS + u64::try_from(self.now.as_millis()).unwrap()
    }

    fn feed(&mut self, input: Input) {
        let wall = self.wall();
        self.core.handle(self.now, wall, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            while let Some(output) = self.core.poll_output() {
                self.perform(output);
            }
            let Some(answer) = (!self.hold_hashes).then(|| self.hashes.pop_front()).flatten() else { return };
            let wall = self.wall();
            self.core.handle(self.now, wall, answer);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Store(writes) => self.store.apply(&writes).unwrap(),
            Output::Send { session, frame } => {
                let frame = ToClient::from_bytes(&frame, 1 << 20).unwrap();
                self.inbox.entry(session).or_default().push_back(frame);
            }
            Output::Close { session } => self.closed.push(session),
            Output::CheckDoor { ticket, phc, door } => {
                let ok = *phc == format!("phc {:?}", *door);
                self.checked.push(phc.to_string());
                self.hashes.push_back(Input::DoorChecked { ticket, ok });
            }
            Output::HashDoor { ticket, door } => {
                self.hashes.push_back(Input::DoorHashed { ticket, phc: Some(format!("phc {:?}", *door)) });
            }
            Output::ReadLog { ticket, room, after } => {
                let page = self.store.page(&room, after).unwrap();
                let wall = self.wall();
                self.core.handle(self.now, wall, Input::LogPage { ticket, page });
            }
            Output::Log(event) => self.log.push(event),
        }
    }

    /// Time passes; what is due happens at its time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.core.next_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.feed(Input::Timeout);
        }
        self.now = end;
    }

    fn connect_from(&mut self, identity: &Identity, addr: &str) -> SessionId {
        self.sessions += 1;
        let addr: SocketAddr = addr.parse().unwrap();
        self.feed(Input::Connected { session: self.sessions, key: identity.public(), addr });
        self.sessions
    }

    fn connect(&mut self, identity: &Identity) -> SessionId {
        self.connect_from(identity, "192.0.2.1:1")
    }

    fn login_as(&mut self, session: SessionId, name: &str, instance: u8) -> Result<Welcome, Refusal> {
        let login = Login { version: VERSION, name: name.into(), instance: Id([instance; 16]) };
        self.feed(Input::Frame(session, ToServer::Login(login)));
        match self.take(session) {
            ToClient::Welcome(welcome) => Ok(welcome),
            ToClient::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn client(&mut self, seed: u8, name: &str) -> Client {
        let identity = user(seed);
        let session = self.connect(&identity);
        let welcome = self.login_as(session, name, seed).unwrap();
        let cert = NameCert::from_bytes(&welcome.cert).unwrap();
        Client { session, me: Member { identity, cert }, room: None, seen: 0, texts: Vec::new() }
    }

    fn take(&mut self, session: SessionId) -> ToClient {
        self.inbox.get_mut(&session).and_then(VecDeque::pop_front).expect("a frame")
    }

    fn nothing_for(&self, session: SessionId) -> bool {
        self.inbox.get(&session).is_none_or(VecDeque::is_empty)
    }

    /// Asks without waiting for the answer; the request's number.
    fn ask(&mut self, session: SessionId, body: Request) -> u64 {
        self.requests += 1;
        let id = self.requests;
        self.feed(Input::Frame(session, ToServer::Request { id, body }));
        id
    }

    /// Takes the answer to a request out of the inbox, leaving everything else there.
    fn answer(&mut self, session: SessionId, id: u64) -> Option<Reply> {
        let inbox = self.inbox.get_mut(&session)?;
        let place = inbox.iter().position(|f| matches!(f, ToClient::Reply { id: i, .. } if *i == id))?;
        match inbox.remove(place)? {
            ToClient::Reply { body, .. } => Some(body),
            _ => None,
        }
    }

    fn request(&mut self, session: SessionId, body: Request) -> Reply {
        let id = self.ask(session, body);
        self.answer(session, id).expect("an answer")
    }

    fn refused(&mut self, session: SessionId, body: Request) -> Code {
        match self.request(session, body) {
            Reply::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    fn pushes(&mut self, session: SessionId) -> Vec<Push> {
        let inbox = self.inbox.entry(session).or_default();
        let frames = std::mem::take(inbox);
        frames.into_iter().filter_map(|f| if let ToClient::Push(push) = f { Some(push) } else { None }).collect()
    }

    fn disconnect(&mut self, client: &Client) {
        self.feed(Input::Disconnected(client.session));
    }

    /// The client's link is made anew, in the same process or in another one.
    fn reconnect(&mut self, client: &mut Client, instance: u8) {
        client.session = self.connect(&client.me.identity);
        let label = client.me.cert.subject.name.to_string();
        self.login_as(client.session, &label, instance).unwrap();
    }

    fn create(&mut self, owner: &mut Client, kind: RoomKind) {
        let reply = self.try_create(owner, DEN, "den", kind);
        assert!(matches!(reply, Reply::Sequenced { seq: 0, .. }), "{reply:?}");
    }

    fn try_create(&mut self, owner: &mut Client, id: RoomId, label: &str, kind: RoomKind) -> Reply {
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
    fn join(&mut self, client: &mut Client, kind: RoomKind) {
        let door = (kind == RoomKind::Private).then(|| door(1));
        let reply = self.request(client.session, Request::Enter { room: DEN, door });
        let reply = self.finish_join(client, kind, reply);
        assert!(matches!(reply, Reply::Sequenced { .. }), "{reply:?}");
    }

    fn finish_join(&mut self, client: &mut Client, kind: RoomKind, entered: Reply) -> Reply {
        let (lease, commit, room) = client.prepare_join(kind, entered);
        let reply = self.request(client.session, with_lease(commit, lease));
        if let Reply::Sequenced { seq, .. } = reply {
            client.room = Some(room);
            client.seen = seq;
        }
        reply
    }

    fn say(&mut self, client: &mut Client, text: &str) -> Reply {
        let message = client.room.as_mut().unwrap().seal(text.as_bytes()).unwrap();
        self.post(client, message)
    }

    fn post(&mut self, client: &mut Client, message: Vec<u8>) -> Reply {
        let reply = self.request(client.session, Request::Post { room: DEN, message: message.into() });
        if let Reply::Sequenced { seq, .. } = reply {
            client.seen = client.seen.max(seq);
        }
        reply
    }

    /// The client takes in all rows that were pushed to it.
    fn catch(&mut self, client: &mut Client) -> Vec<Push> {
        let mut rest = Vec::new();
        for push in self.pushes(client.session) {
            match push {
                Push::Row { room: DEN, row } => client.receive(&row),
                other => rest.push(other),
            }
        }
        rest
    }

    /// Everything after a number, page by page.
    fn catch_up(&mut self, client: &mut Client) {
        loop {
            match self.request(client.session, Request::Log { room: DEN, after: client.seen }) {
                Reply::Log { rows, live } => {
                    rows.iter().for_each(|row| client.receive(row));
                    if live {
                        return;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The client commits what stands.
    fn commit_pending(&mut self, client: &mut Client) -> Reply {
        let out = client.room.as_mut().unwrap().commit_pending().unwrap();
        let reply = self.request(client.session, commit(out));
        match reply {
            Reply::Sequenced { seq, .. } => {
                client.room.as_mut().unwrap().own_commit_accepted().unwrap();
                client.seen = seq;
            }
            _ => client.room.as_mut().unwrap().own_commit_lost().unwrap(),
        }
        reply
    }

    fn leave(&mut self, client: &mut Client) -> Reply {
        let message = client.room.as_mut().unwrap().leave().unwrap();
        self.request(client.session, Request::Leave { room: DEN, message: message.into() })
    }
}

/// A client with at most one room.
struct Client {
    session: SessionId,
    me: Member,
    room: Option<Room>,
    seen: u64,
    texts: Vec<String>,
}

impl Client {
    fn key(&self) -> PublicKey {
        self.me.identity.public()
    }

    /// Rows come in order and without holes, or the test fails.
    fn receive(&mut self, row: &Row) {
        assert_eq!(row.seq, self.seen + 1, "rows come in order");
        self.seen = row.seq;
        let room = self.room.as_mut().unwrap();
        if let Received::Application { payload, .. } = room.receive(&row.bytes, &trusting).unwrap() {
            self.texts.push(String::from_utf8(payload).unwrap());
        }
    }

    fn members(&self) -> Vec<String> {
        self.room.as_ref().unwrap().members().map(|m| m.name.name.to_string()).collect()
    }

    fn prepare_join(&self, kind: RoomKind, entered: Reply) -> (u64, Request, Room) {
        let Reply::Entered { lease, published, proposals, .. } = entered else { panic!("{entered:?}") };
        let grant = Grant {
            group_info: published.group_info.into(),
            tree: published.tree.into(),
            vouch: published.vouch.map(|v| *v),
            proposals: proposals.into_iter().map(Into::into).collect(),
        };
        let target = Target { room_id: DEN.0, kind, label: "den".into(), server: server().public() };
        let join = (kind == RoomKind::Private).then(secret);
        let (room, out) = Room::join(&self.me, &target, &grant, join, &trusting).unwrap();
        (lease, commit(out), room)
    }
}

fn commit(out: crate::group::Outgoing) -> Request {
    let published = Published {
        epoch: out.published.epoch,
        group_info: out.published.group_info.into(),
        tree: Vec::new().into(),
        vouch: out.published.vouch.map(Into::into),
    };
    Request::Commit { room: DEN, lease: None, message: out.bytes.into(), published, door: None }
}

fn with_lease(request: Request, number: u64) -> Request {
    match request {
        Request::Commit { room, message, published, door, .. } => {
            Request::Commit { room, lease: Some(number), message, published, door }
        }
        other => other,
    }
}

fn published(epoch: u64, grant: &Grant) -> Published {
    Published {
        epoch,
        group_info: grant.group_info.clone().into(),
        tree: grant.tree.clone().into(),
        vouch: grant.vouch.map(Into::into),
    }
}

fn door(byte: u8) -> minicbor::bytes::ByteArray<32> {
    [byte; 32].into()
}

fn enter(byte: u8) -> Request {
    Request::Enter { room: DEN, door: Some(door(byte)) }
}

fn code(reply: &Reply) -> Option<Code> {
    if let Reply::Refused(refusal) = reply { Some(refusal.code) } else { None }
}
