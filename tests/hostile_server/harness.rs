//! The real server core behind one that lies for it, and client processes that are lied to.

use secchat::cli::drive::{Process, start_client};
use secchat::crypto::identity::Identity;
use secchat::limits::FRAME_MAX;
use secchat::server::accept::Caps;
use secchat::server::actor::wall_ms;
use secchat::server::engine::Engine;
use secchat::server::reload::CertificateFiles;
use secchat::server::run::{Server, ServerConfig};
use secchat::server::{Config, Core, Input, Output, SessionId};
use secchat::store::ServerStore;
use secchat::wire::frame::{Push, Reply, ToClient, ToServer};
use secchat::wire::id::RoomId;
use secchat::wire::invite::{Host, Invite};
use secchat::wire::log::{Row, RowKind};
use secchat::wire::name::Name;
use secchat::wire::vouch::ServerTrust;
use serde_json::Value;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

pub const WAIT: Duration = Duration::from_secs(30);

type Hear = Box<dyn FnMut(&str, ToServer) -> ToServer + Send>;
type Tell = Box<dyn FnMut(&str, ToClient) -> Vec<ToClient> + Send>;

/// What the server lies. Clients go by the name that they logged in with.
pub struct Lies {
    /// A frame of a client may become another.
    pub heard: Hear,
    /// A frame to a client may become none, another, or several.
    pub told: Tell,
    /// The last row that was pushed to anybody or that a sender was told of, and the room of the last that was pushed.
    pub last: (Option<RoomId>, u64),
    /// Told as soon as the server's task looks, out of the blue.
    pub invented: Vec<(String, ToClient)>,
}

struct Liar {
    core: Core,
    lies: Arc<Mutex<Lies>>,
    names: HashMap<SessionId, String>,
    waiting: Vec<Output>,
    now: Duration,
}

impl Liar {
    fn name(&self, session: SessionId) -> &str {
        self.names.get(&session).map_or("", String::as_str)
    }

    fn lie(&mut self, output: Output) -> Vec<Output> {
        let Output::Send { session, frame } = output else { return vec![output] };
        let frame = ToClient::from_bytes(&frame, FRAME_MAX).unwrap();
        let mut lies = self.lies.lock().unwrap();
        match &frame {
            ToClient::Push(Push::Row { room, row }) => lies.last = (Some(*room), lies.last.1.max(row.seq)),
            ToClient::Reply { body: Reply::Sequenced { seq, .. }, .. } => lies.last.1 = lies.last.1.max(*seq),
            _ => {}
        }
        let told = (lies.told)(self.name(session), frame);
        told.iter().map(|frame| Output::Send { session, frame: frame.to_bytes().into() }).collect()
    }

    fn invent(&mut self) -> Vec<Output> {
        let invented = std::mem::take(&mut self.lies.lock().unwrap().invented);
        let session = |name: &str| self.names.iter().find(|(_, n)| *n == name).map(|(session, _)| *session);
        let send = |(name, frame): (String, ToClient)| {
            session(&name).map(|session| Output::Send { session, frame: frame.to_bytes().into() })
        };
        invented.into_iter().filter_map(send).collect()
    }
}

impl Engine for Liar {
    fn handle(&mut self, now: Duration, wall_ms: u64, input: Input) {
        self.now = now;
        let input = match input {
            Input::Frame(session, frame) => {
                if let ToServer::Login(login) = &frame {
                    self.names.insert(session, login.name.clone());
                }
                let frame = (self.lies.lock().unwrap().heard)(self.name(session), frame);
                Input::Frame(session, frame)
            }
            other => other,
        };
        self.core.handle(now, wall_ms, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        while self.waiting.is_empty() {
            self.waiting = match self.core.poll_output() {
                Some(output) => self.lie(output),
                None => match self.invent() {
                    nothing if nothing.is_empty() => return None,
                    invented => invented,
                },
            };
        }
        Some(self.waiting.remove(0))
    }

    fn next_timeout(&self) -> Option<Duration> {
        let look = self.now + Duration::from_millis(20);
        Some(self.core.next_timeout().map_or(look, |due| due.min(look)))
    }
}

/// A lying server, which is honest until told otherwise.
pub struct Stage {
    dir: tempfile::TempDir,
    invite: String,
    lies: Arc<Mutex<Lies>>,
    _control: mpsc::Sender<secchat::server::run::Control>,
    _runtime: Runtime,
}

/// The server's identity, with which it certifies whom it likes.
pub fn server_identity() -> Identity {
    Identity::from_seed(&[100; 32])
}

impl Stage {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let server = {
            let _in_runtime = runtime.enter();
            Server::bind(ServerConfig {
                listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
                udp: None,
                certificate: certificate(dir.path()),
                identity: server_identity(),
                name: name(),
                caps: Caps::default(),
                relay: secchat::server::forwarding::RelayLimits::default(),
            })
            .unwrap()
        };
        let (host, port) = (Host::V4(Ipv4Addr::LOCALHOST), server.addresses()[0].port());
        let pin = server_identity().public().fingerprint();
        let invite = Invite { host, port, pin, server: name(), room: None }.to_url(false).as_str().to_owned();
        let store = ServerStore::in_memory().unwrap();
        let core = Core::new(config(), server_identity(), store.load().unwrap(), Duration::ZERO, wall_ms()).unwrap();
        let lies = Arc::new(Mutex::new(Lies {
            heard: Box::new(|_, frame| frame),
            told: Box::new(|_, frame| vec![frame]),
            last: (None, 0),
            invented: Vec::new(),
        }));
        let liar = Liar { core, lies: lies.clone(), names: HashMap::new(), waiting: Vec::new(), now: Duration::ZERO };
        let (control, commands) = mpsc::channel(1);
        runtime.spawn(server.run(liar, store, commands));
        Self { dir, invite, lies, _control: control, _runtime: runtime }
    }

    pub fn client(&self, name: &str, more: &[&str]) -> Process {
        start_client(Path::new(env!("CARGO_BIN_EXE_secchat")), self.dir.path(), name, &self.invite, more).unwrap()
    }

    /// Alice with a private room `den`.
    pub fn alice(&self) -> Process {
        let mut alice = self.client("alice", &["--room", "den", "--create", "--private"]);
        let created = alice.wait_event("room_created", WAIT, |_| true).unwrap();
        self.keep_secret("secret", field(&created, "secret"));
        alice.wait_event("joined", WAIT, |_| true).unwrap();
        alice
    }

    /// Somebody on the way into `den` with the right secret.
    pub fn newcomer(&self, name: &str) -> Process {
        self.comer(name, &self.dir.path().join("secret").display().to_string())
    }

    /// Keeps a secret, for who is to come in with it; the file's path.
    pub fn keep_secret(&self, name: &str, secret: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// Somebody on the way into `den` with a secret of choice.
    pub fn comer(&self, name: &str, secret_file: &str) -> Process {
        self.client(name, &["--room", "den", "--password-file", secret_file])
    }

    /// Somebody in `den`, whom `others` have seen come.
    pub fn member(&self, name: &str, others: &mut [&mut Process]) -> Process {
        let mut process = self.newcomer(name);
        process.wait_event("joined", WAIT, |_| true).unwrap();
        for other in others {
            other.wait_event("member_joined", WAIT, |e| field(e, "name") == format!("{name}@s1")).unwrap();
        }
        process
    }

    /// Alice and bob in `den`.
    pub fn pair(&self) -> (Process, Process) {
        let mut alice = self.alice();
        let bob = self.member("bob", &mut [&mut alice]);
        (alice, bob)
    }

    pub fn tell(&self, told: impl FnMut(&str, ToClient) -> Vec<ToClient> + Send + 'static) {
        self.lies.lock().unwrap().told = Box::new(told);
    }

    pub fn hear(&self, heard: impl FnMut(&str, ToServer) -> ToServer + Send + 'static) {
        self.lies.lock().unwrap().heard = Box::new(heard);
    }

    /// Pushes a row that the log does not have under the number that comes next.
    pub fn invent(&self, name: &str, kind: RowKind, bytes: &[u8]) {
        let seq = self.lies.lock().unwrap().last.1 + 1;
        self.invent_at(name, seq, kind, bytes);
    }

    pub fn invent_at(&self, name: &str, seq: u64, kind: RowKind, bytes: &[u8]) {
        let row = Row { seq, time_ms: 0, kind, bytes: bytes.to_vec().into(), reason: None };
        let mut lies = self.lies.lock().unwrap();
        let room = lies.last.0.unwrap();
        lies.invented.push((name.to_owned(), ToClient::Push(Push::Row { room, row })));
    }

    /// Lies about the messages that are pushed to alice.
    pub fn tell_alice(&self, mut lie: impl FnMut(RoomId, Row) -> Vec<(RoomId, Row)> + Send + 'static) {
        self.tell(move |name, frame| match frame {
            ToClient::Push(Push::Row { room, row }) if name == "alice" && row.kind == RowKind::Message => {
                lie(room, row).into_iter().map(|(room, row)| ToClient::Push(Push::Row { room, row })).collect()
            }
            other => vec![other],
        });
    }
}

pub fn name() -> Name {
    Name::parse("s1").unwrap()
}

fn config() -> Config {
    Config {
        name: name(),
        stun_port: 0,
        log_age: Duration::from_secs(3600),
        log_bytes: 1 << 20,
        room_ttl: Duration::from_secs(3600),
        lost_grace: Duration::from_secs(600),
        trust: ServerTrust::default(),
        vouch: None,
        decoy_phc: "decoy".into(),
    }
}

fn certificate(dir: &Path) -> CertificateFiles {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
    let certificate = dir.join("tls.pem");
    std::fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    CertificateFiles { certificate, key: None }
}

pub fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Says these one after the other, each when the one before is in the log.
pub fn say(who: &mut Process, texts: &[&str]) {
    for text in texts {
        who.say(text).unwrap();
        who.wait_event("sent", WAIT, |_| true).unwrap();
    }
}

/// Waits until the client has seen all that the server told it so far.
pub fn settle(who: &mut Process) {
    who.say("/rooms").unwrap();
    who.wait_event("rooms", WAIT, |_| true).unwrap();
}

pub fn wait_integrity(who: &mut Process, kind: &str) {
    who.wait_event("integrity", WAIT, |e| field(e, "kind") == kind).unwrap();
}

pub fn wait_message(who: &mut Process, text: &str) {
    who.wait_event("message", WAIT, |e| field(e, "text") == text).unwrap();
}

/// One field of all events of a kind that the client has shown.
pub fn shown(who: &Process, event: &str, name: &str) -> Vec<String> {
    let values = who.said().iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values.filter(|v| field(v, "event") == event).map(|v| field(&v, name).to_owned()).collect()
}

pub fn heard(who: &Process) -> Vec<String> {
    shown(who, "message", "text")
}

pub fn integrity(who: &Process) -> Vec<String> {
    shown(who, "integrity", "kind")
}
