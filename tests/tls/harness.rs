//! A real server around a core that knows logins and pings only, and the pieces to dial it with.

use secchat::crypto::identity::Identity;
use secchat::net::link::Dial;
use secchat::net::trust::{Ask, Trust};
use secchat::server::accept::Caps;
use secchat::server::engine::Engine;
use secchat::server::reload::CertificateFiles;
use secchat::server::run::{Control, Server, ServerConfig};
use secchat::server::{Input, Output, SessionId};
use secchat::store::{ServerStore, StoreError};
use secchat::wire::frame::{Code, Push, Refusal, Reply, Request, ToClient, ToServer, Welcome};
use secchat::wire::id::Id;
use secchat::wire::name::Name;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Every wait of these tests ends by then.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Logs in whoever asks (but `taken`), answers pings, and answers an operator text with 64 KiB of notices for each of its bytes.
#[derive(Default)]
pub struct Parrot(VecDeque<Output>);

impl Parrot {
    fn send(&mut self, session: SessionId, frame: ToClient) {
        self.0.push_back(Output::Send { session, frame: frame.to_bytes().into() });
    }

    fn frame(&mut self, session: SessionId, frame: ToServer) {
        match frame {
            ToServer::Login(login) if login.name == "taken" => {
                let refusal = Refusal::new(Code::NameTaken, "the name taken is taken").hint("taken2");
                self.send(session, ToClient::Refused(refusal));
                self.0.push_back(Output::Close { session });
            }
            ToServer::Login(_) => {
                let seen_as = "127.0.0.1:1".into();
                let welcome = Welcome { cert: vec![].into(), seen_as, stun_port: 0, now_ms: 0, mesh: None };
                self.send(session, ToClient::Welcome(welcome));
                self.0.push_back(Output::Admitted { session });
            }
            ToServer::Request { id, body: Request::Operator { text } } => {
                for _ in 0..text.len() {
                    self.send(session, ToClient::Push(Push::Notice { text: "x".repeat(64 * 1024) }));
                }
                self.send(session, ToClient::Reply { id, body: Reply::Done });
            }
            ToServer::Request { id, .. } => self.send(session, ToClient::Reply { id, body: Reply::Done }),
            ToServer::Goodbye | ToServer::Alive | ToServer::RelayData(_) | ToServer::At { .. } => {}
        }
    }
}

impl Engine for Parrot {
    fn handle(&mut self, _: Duration, _: u64, input: Input) {
        if let Input::Frame(session, frame) = input {
            self.frame(session, frame);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.0.pop_front()
    }

    fn next_timeout(&self) -> Option<Duration> {
        None
    }
}

pub struct Running {
    pub stun: u16,
    pub address: SocketAddr,
    pub control: mpsc::Sender<Control>,
    pub done: JoinHandle<Result<(), StoreError>>,
    pub files: CertificateFiles,
    _dir: TempDir,
}

pub fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

pub fn write_certificate(dir: &Path) -> CertificateFiles {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
    let certificate = dir.join("tls.pem");
    std::fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    CertificateFiles { certificate, key: None }
}

pub fn start(seed: u8) -> Running {
    start_at((Ipv4Addr::LOCALHOST, 0).into(), seed, Caps::default())
}

pub fn start_at(address: SocketAddr, seed: u8, caps: Caps) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let files = write_certificate(dir.path());
    let server = Server::bind(ServerConfig {
        listen: vec![address],
        udp: None,
        certificate: files.clone(),
        identity: identity(seed),
        name: Name::parse("s1").unwrap(),
        caps,
        relay: secchat::server::forwarding::RelayLimits::default(),
    })
    .unwrap();
    let (address, stun) = (server.addresses()[0], server.stun_port());
    let (control, commands) = mpsc::channel(1);
    let done = tokio::spawn(server.run(Parrot::default(), ServerStore::in_memory().unwrap(), commands));
    Running { stun, address, control, done, files, _dir: dir }
}

impl Running {
    pub async fn stop(self) -> SocketAddr {
        self.control.send(Control::Stop).await.unwrap();
        tokio::time::timeout(DEADLINE, self.done).await.unwrap().unwrap().unwrap();
        self.address
    }

    /// Dials with trust on first use.
    pub fn dial(&self, seed: u8) -> Dial {
        dial(self.address, seed, Trust { ask: Some(yes()), ..Trust::default() })
    }
}

pub fn dial(address: SocketAddr, seed: u8, trust: Trust) -> Dial {
    Dial {
        endpoint: address.to_string().parse().unwrap(),
        identity: identity(seed),
        name: format!("user{seed}"),
        instance: Id([seed; 16]),
        authority: None,
        trust,
        homes: Vec::new(),
        token: None,
    }
}

pub fn yes() -> Ask {
    Arc::new(|_| true)
}
