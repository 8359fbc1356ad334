//! Three whole servers in a chain over real sockets: a client at one end has a room at the other.

use secchat::crypto::identity::{Identity, PublicKey};
use secchat::group::{CertRefused, Grant, Member, Outgoing, Received, Room, Target};
use secchat::mesh::run::{Mesh, MeshConfig, Running};
use secchat::net::link::{Dial, LinkReceiver, connect};
use secchat::net::queue::FrameSender;
use secchat::net::trust::Trust;
use secchat::server::accept::Caps;
use secchat::server::actor::MeshPort;
use secchat::server::meshed::Meshed;
use secchat::server::relay::{Relay, RelayConfig};
use secchat::server::reload::CertificateFiles;
use secchat::server::run::{Control, Server, ServerConfig};
use secchat::server::{Config, Core};
use secchat::store::{ServerStore, StoreError};
use secchat::wire::cert::NameCert;
use secchat::wire::frame::{
    Away, Login, Published, Push, Refusal, Reply, Request, ToClient, ToServer, VERSION, Welcome,
};
use secchat::wire::id::{Id, RoomId};
use secchat::wire::name::{FullName, Name};
use secchat::wire::policy::{Policy, RoomKind};
use secchat::wire::vouch::{Pass, ServerCert, ServerTrust};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);
const DEN: RoomId = Id([7; 16]);

fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn authority() -> Identity {
    identity(250)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn trust() -> ServerTrust {
    ServerTrust { authorities: vec![authority().public()], listed: Vec::new() }
}

fn trusting(cert: &NameCert) -> Result<(), CertRefused> {
    Ok(trust().check_name(cert, 0)?)
}

struct Up {
    address: SocketAddr,
    mesh_address: SocketAddr,
    mesh: Running,
    control: mpsc::Sender<Control>,
    done: JoinHandle<Result<(), StoreError>>,
    _dir: TempDir,
}

/// `s` with its seed's last digit, linked with another one.
fn start(seed: u8, link: Option<SocketAddr>) -> Up {
    let dir = tempfile::tempdir().unwrap();
    let own = identity(seed);
    let server_name = name(&format!("s{}", seed - 100));
    let vouch = Some(ServerCert::issue(&authority(), server_name.clone(), own.public(), u64::MAX));
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(ServerConfig {
        listen: vec![any],
        udp: None,
        certificate: certificate(dir.path()),
        identity: own.clone(),
        name: server_name.clone(),
        caps: Caps::default(),
        relay: secchat::server::forwarding::RelayLimits::default(),
    })
    .unwrap();
    let address = server.addresses()[0];
    let mesh = Mesh::bind(MeshConfig {
        identity: own.clone(),
        name: server_name.clone(),
        vouch: vouch.clone(),
        trust: trust(),
        listen: vec![any],
        links: link.iter().map(|address| address.to_string().parse().unwrap()).collect(),
        endpoints: vec![address.to_string()],
    })
    .unwrap();
    let mesh_address = mesh.addresses()[0];
    let config = Config {
        name: server_name.clone(),
        stun_port: 0,
        log_age: Duration::from_secs(3600),
        log_bytes: 1 << 20,
        room_ttl: Duration::from_secs(3600),
        lost_grace: Duration::from_secs(600),
        trust: trust(),
        vouch,
        decoy_phc: "decoy".into(),
    };
    let store = ServerStore::in_memory().unwrap();
    let now_ms = secchat::net::clock::wall_ms();
    let core = Core::new(config, own.clone(), store.load().unwrap(), Duration::ZERO, now_ms).unwrap();
    let authorities = trust().authorities;
    let relay = Relay::new(RelayConfig { name: server_name, identity: own, authorities, secret: [seed; 32] });
    let (handle, events, mesh) = mesh.start().unwrap();
    let (control, commands) = mpsc::channel(1);
    let server = server.linked(MeshPort { handle, events });
    let done = tokio::spawn(server.run(Meshed::new(core, relay), store, commands));
    Up { address, mesh_address, mesh, control, done, _dir: dir }
}

fn certificate(dir: &std::path::Path) -> CertificateFiles {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
    let certificate = dir.join("tls.pem");
    std::fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    CertificateFiles { certificate, key: None }
}

/// Somebody who is connected to one server, and may speak to another one through it.
struct Client {
    me: Member,
    sender: FrameSender,
    receiver: LinkReceiver,
    seen: VecDeque<ToClient>,
    access: PublicKey,
    at: Option<Name>,
    requests: u64,
}

impl Client {
    async fn connect(seed: u8, user: &str, server: &Up) -> Self {
        let dial = Dial {
            endpoint: server.address.to_string().parse().unwrap(),
            identity: identity(seed),
            name: user.into(),
            instance: Id([seed; 16]),
            authority: None,
            trust: Trust { ask: Some(Arc::new(|_| true)), ..Trust::default() },
            homes: Vec::new(),
            token: None,
        };
        let (established, sender, receiver) = timeout(DEADLINE, connect(&dial)).await.unwrap().unwrap();
        let cert = NameCert::from_bytes(&established.welcome.cert).unwrap();
        let (me, access) = (Member { identity: identity(seed), cert }, established.server_key);
        Self { me, sender, receiver, seen: VecDeque::new(), access, at: None, requests: 0 }
    }

    /// The first frame that fits; the others wait.
    async fn wait<T>(&mut self, what: &str, mut fits: impl FnMut(&ToClient) -> Option<T>) -> T {
        let waiting = async {
            let mut from = 0;
            loop {
                let found = self.seen.iter().enumerate().skip(from).find_map(|(at, frame)| Some((at, fits(frame)?)));
                if let Some((at, found)) = found {
                    self.seen.remove(at);
                    return found;
                }
                from = self.seen.len();
                let frame = self.receiver.next().await.unwrap().expect("the link stands");
                self.seen.push_back(match frame {
                    ToClient::From { server, frame } => {
                        assert_eq!(Some(server), self.at);
                        ToClient::from_bytes(&frame, 1 << 20).unwrap()
                    }
                    frame => frame,
                });
            }
        };
        timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    async fn sees(&mut self, server: &str) {
        let wanted = name(server);
        let lists = |frame: &ToClient| match frame {
            ToClient::Push(Push::Servers(servers)) => servers.iter().any(|s| s.name == wanted).then_some(()),
            _ => None,
        };
        self.wait("a server in the list", lists).await;
    }

    fn say(&self, frame: ToServer) {
        let frame = match &self.at {
            Some(server) => ToServer::At { server: server.clone(), frame: frame.to_bytes().into() },
            None => frame,
        };
        self.sender.send(frame.to_bytes().into()).unwrap();
    }

    async fn visit(&mut self, server: &str, pass_for: PublicKey) -> Result<Welcome, Refusal> {
        self.at = Some(name(server));
        let instance = Id([1; 16]);
        let pass = Pass::sign(&self.me.identity, &pass_for, instance, u64::MAX).to_bytes();
        let cert = Some(self.me.cert.to_bytes().into());
        let login = Login { version: VERSION, name: "x".into(), instance, cert, pass: Some(pass.into()), token: None };
        self.say(ToServer::Login(login));
        self.wait("a welcome", |frame| match frame {
            ToClient::Welcome(welcome) => Some(Ok(welcome.clone())),
            ToClient::Refused(refusal) => Some(Err(refusal.clone())),
            _ => None,
        })
        .await
    }

    async fn ask(&mut self, body: Request) -> Reply {
        self.requests += 1;
        let id = self.requests;
        self.say(ToServer::Request { id, body });
        let answers = |frame: &ToClient| match frame {
            ToClient::Reply { id: to, body } if *to == id => Some(body.clone()),
            _ => None,
        };
        self.wait("an answer", answers).await
    }

    async fn row(&mut self, room: &mut Room) -> Received {
        let row = |frame: &ToClient| match frame {
            ToClient::Push(Push::Row { row, .. }) => Some(row.clone()),
            _ => None,
        };
        let row = self.wait("a row", row).await;
        room.receive(&row.bytes, &trusting).unwrap()
    }
}

fn published(epoch: u64, grant: Grant) -> Published {
    let Grant { group_info, tree, vouch, .. } = grant;
    Published { epoch, group_info: group_info.into(), tree: tree.into(), vouch: vouch.map(Into::into) }
}

fn home() -> PublicKey {
    identity(101).public()
}

async fn create(owner: &mut Client) -> Room {
    let policy = Policy::new(RoomKind::Public, "den".into(), owner.me.identity.public(), None);
    let (room, grant) = Room::create(&owner.me, home(), DEN.0, policy, None).unwrap();
    let request = Request::CreateRoom { room: DEN, door: None, published: published(0, grant) };
    assert!(matches!(owner.ask(request).await, Reply::Sequenced { seq: 0, .. }));
    room
}

async fn join(client: &mut Client) -> Room {
    let entered = client.ask(Request::Enter { room: DEN, door: None }).await;
    let Reply::Entered { lease, published, .. } = entered else { panic!("{entered:?}") };
    let grant = Grant {
        group_info: published.group_info.into(),
        tree: published.tree.into(),
        vouch: None,
        proposals: Vec::new(),
    };
    let target = Target { room_id: DEN.0, kind: RoomKind::Public, label: "den".into(), server: home() };
    let (room, out) = Room::join(&client.me, &target, &grant, None, &trusting).unwrap();
    let Outgoing { bytes, published } = out;
    let published = Published {
        epoch: published.epoch,
        group_info: published.group_info.into(),
        tree: Vec::new().into(),
        vouch: None,
    };
    let commit = Request::Commit { room: DEN, lease: Some(lease), message: bytes.into(), published, door: None };
    assert!(matches!(client.ask(commit).await, Reply::Sequenced { seq: 1, .. }));
    room
}

fn text(received: Received) -> (FullName, Vec<u8>) {
    match received {
        Received::Application { sender, payload } => (sender.name, payload),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_at_one_end_of_a_chain_has_a_room_at_the_other() {
    let first = start(101, None);
    let middle = start(102, Some(first.mesh_address));
    let last = start(103, Some(middle.mesh_address));
    let (mut alice, mut bob) = (Client::connect(1, "alice", &last).await, Client::connect(2, "bob", &first).await);
    alice.sees("s1").await;
    let access = alice.access;
    let refusal = alice.visit("s1", home()).await.unwrap_err();
    assert_eq!(refusal.code.as_str(), "bad_pass", "s3 has no pass");
    let closed = |frame: &ToClient| matches!(frame, ToClient::Away { why: Away::Closed, .. }).then_some(());
    alice.wait("the end of the session", closed).await;
    alice.visit("s1", access).await.unwrap();
    let mut hers = create(&mut alice).await;
    let mut his = join(&mut bob).await;
    assert!(matches!(alice.row(&mut hers).await, Received::Commit(_)));
    for n in 0..100u8 {
        let message = hers.seal(&[n]).unwrap().into();
        assert!(matches!(alice.ask(Request::Post { room: DEN, message }).await, Reply::Sequenced { .. }));
        assert_eq!(text(bob.row(&mut his).await), (FullName::new(name("alice"), name("s3")), vec![n]));
    }
    let message = his.seal(b"back").unwrap().into();
    assert!(matches!(bob.ask(Request::Post { room: DEN, message }).await, Reply::Sequenced { .. }));
    assert_eq!(text(alice.row(&mut hers).await).1, b"back");

    first.control.send(Control::Stop).await.unwrap();
    alice.wait("the end of the session", closed).await;
    timeout(DEADLINE, first.done).await.unwrap().unwrap().unwrap();
    first.mesh.stop().await;
    alice.at = None;
    assert_eq!(alice.ask(Request::Ping).await, Reply::Done, "her own server is there");
    for server in [middle, last] {
        server.control.send(Control::Stop).await.unwrap();
        timeout(DEADLINE, server.done).await.unwrap().unwrap().unwrap();
        server.mesh.stop().await;
    }
}
