//! What another server of the mesh says about clients, to a server with a client of its own that is at home there, and with one of
//! that server's.

use secchat::crypto::identity::Identity;
use secchat::mesh::run::MeshEvent;
use secchat::mesh::{NodeId, NodeInfo};
use secchat::server::engine::Engine;
use secchat::server::meshed::Meshed;
use secchat::server::relay::{Relay, RelayConfig};
use secchat::server::{Config, Core, Input, Output, SessionId};
use secchat::store::ServerStore;
use secchat::wire::cert::NameCert;
use secchat::wire::frame::{Login, Reply, Request, ToClient, ToServer, VERSION};
use secchat::wire::id::Id;
use secchat::wire::name::{FullName, Name};
use secchat::wire::relay::Head;
use secchat::wire::vouch::{Pass, ServerTrust};
use std::time::Duration;

/// The other server's seed. It is listed at ours, whose seed is 1.
const OTHER: u8 = 2;

/// Messages one after another: the lengths of head and body, two bytes each, and both. Whether all heads were well formed.
pub fn relay(data: &[u8]) -> bool {
    let mut server = server();
    let (mut rest, mut fine) = (data, true);
    while let Some((head, body, after)) = message(rest) {
        fine &= Head::from_bytes(head).is_ok();
        said(&mut server, head.to_vec(), body);
        rest = after;
    }
    let pong = ToClient::Reply { id: 9, body: Reply::Done };
    let answers = hear(&mut server, ToServer::Request { id: 9, body: Request::Ping });
    assert!(answers.contains(&pong), "our own client does not suffer");
    fine && rest.is_empty()
}

/// A whole message, as [`relay`] reads it.
pub fn packed(head: &Head, body: &[u8]) -> Vec<u8> {
    let head = head.to_bytes();
    let lengths = [head.len(), body.len()].map(|len| u16::try_from(len).unwrap().to_be_bytes());
    [&lengths.concat()[..], &head, body].concat()
}

/// The login of a client of the other server, with all that it needs.
pub fn guest(seed: u8) -> ToServer {
    let (me, at) = (identity(seed), identity(OTHER));
    let subject = FullName::new(name(&format!("guest{seed}")), name("s2"));
    let cert = NameCert::issue(&at, subject, me.public(), u64::MAX);
    login(&me, "x", &at, Some(cert))
}

fn message(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (lengths, rest) = data.split_first_chunk::<4>()?;
    let [a, b, c, d] = *lengths;
    let (head, rest) = rest.split_at_checked(u16::from_be_bytes([a, b]).into())?;
    let (body, rest) = rest.split_at_checked(u16::from_be_bytes([c, d]).into())?;
    Some((head, body, rest))
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn login(me: &Identity, name: &str, through: &Identity, cert: Option<NameCert>) -> ToServer {
    let instance = Id([1; 16]);
    let pass = Pass::sign(me, &through.public(), instance, u64::MAX).to_bytes();
    ToServer::Login(Login {
        version: VERSION,
        name: name.into(),
        instance,
        cert: cert.map(|cert| cert.to_bytes().into()),
        pass: Some(pass.into()),
        token: None,
    })
}

/// Our client has session 1 here and number 1 at the other server, whose client has number 1 here.
fn server() -> Meshed {
    let (own, other) = (identity(1), identity(OTHER));
    let config = Config {
        name: name("s1"),
        stun_port: 0,
        log_age: Duration::from_secs(3600),
        log_bytes: 1 << 20,
        room_ttl: Duration::from_secs(3600),
        lost_grace: Duration::from_secs(600),
        trust: ServerTrust { authorities: Vec::new(), listed: vec![(name("s2"), other.public().fingerprint())] },
        vouch: None,
        decoy_phc: "decoy".into(),
    };
    let loaded = ServerStore::in_memory().unwrap().load().unwrap();
    let core = Core::new(config, own.clone(), loaded, Duration::ZERO, 0).unwrap();
    let relay = RelayConfig { name: name("s1"), identity: own.clone(), authorities: Vec::new(), secret: [3; 32] };
    let mut server = Meshed::new(core, Relay::new(relay));
    let info = NodeInfo {
        id: NodeId::of(&other.public()),
        key: other.public(),
        name: name("s2"),
        vouch: None,
        endpoints: Vec::new(),
        instance: 1,
        reachable: true,
        hops: 1,
        round_trip: Duration::ZERO,
        queued: 0,
    };
    take(&mut server, Input::Mesh(MeshEvent::Up(info)));
    let addr = "192.0.2.1:1".parse().unwrap();
    take(&mut server, Input::Connected { session: 1, key: identity(5).public(), addr, via: None });
    hear(&mut server, login(&identity(5), "alice", &own, None));
    let there = login(&identity(5), "alice", &own, None).to_bytes();
    hear(&mut server, ToServer::At { server: name("s2"), frame: there.into() });
    said(&mut server, Head::Open { client: 1, source: [1; 16].into() }.to_bytes(), &guest(6).to_bytes());
    server
}

fn said(server: &mut Meshed, head: Vec<u8>, body: &[u8]) {
    let from = NodeId::of(&identity(OTHER).public());
    take(server, Input::Mesh(MeshEvent::Delivered { from, head, body: body.into() }));
}

fn hear(server: &mut Meshed, frame: ToServer) -> Vec<ToClient> {
    take(server, Input::Frame(1, frame))
}

/// What our client is told upon it.
fn take(server: &mut Meshed, input: Input) -> Vec<ToClient> {
    const OURS: SessionId = 1;
    server.handle(Duration::ZERO, 0, input);
    let mut told = Vec::new();
    while let Some(output) = server.poll_output() {
        match output {
            Output::Send { session: OURS, frame } | Output::SendFrom { session: OURS, frame, .. } => {
                told.extend(ToClient::from_bytes(&frame, usize::MAX));
            }
            _ => {}
        }
    }
    told
}
