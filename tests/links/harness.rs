//! Servers' meshes without their servers, peers that keep to no rules, and the log.

use rustls::pki_types::ServerName;
use secchat::crypto::identity::Identity;
use secchat::mesh::NodeId;
use secchat::mesh::run::{LinkReport, Mesh, MeshConfig, MeshEvent, MeshEvents, MeshHandle, MeshReport, Running};
use secchat::net::tls;
use secchat::wire::mesh_hello::{MESH_VERSION, MeshHello};
use secchat::wire::name::Name;
use secchat::wire::vouch::{ServerCert, ServerTrust};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::subscriber::DefaultGuard;

/// Every wait of these tests ends by then.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// The seed of the authority that all believe.
pub const AUTHORITY: u8 = 100;

pub fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

pub fn id(seed: u8) -> NodeId {
    NodeId::of(&identity(seed).public())
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// What an authority says of a server, good until the end of time.
pub fn vouch(authority: u8, server: &str, seed: u8) -> ServerCert {
    ServerCert::issue(&identity(authority), name(server), identity(seed).public(), u64::MAX)
}

/// A server that believes [`AUTHORITY`], with its certificate.
pub fn config(seed: u8, server: &str) -> MeshConfig {
    MeshConfig {
        identity: identity(seed),
        name: name(server),
        vouch: Some(vouch(AUTHORITY, server, seed)),
        trust: ServerTrust { authorities: vec![identity(AUTHORITY).public()], listed: Vec::new() },
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        links: Vec::new(),
        endpoints: vec![format!("{server}.example.org:7443")],
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub handle: MeshHandle,
    pub events: MeshEvents,
    pub running: Running,
}

pub fn start(config: MeshConfig) -> Server {
    let mesh = Mesh::bind(config).unwrap();
    let address = mesh.addresses()[0];
    let (handle, events, running) = mesh.start().unwrap();
    Server { address, handle, events, running }
}

/// A server that dials these.
pub fn start_linked(mut config: MeshConfig, with: &[SocketAddr]) -> Server {
    config.links = with.iter().map(|address| address.to_string().parse().unwrap()).collect();
    start(config)
}

impl Server {
    /// The first event that fits; those before it are forgotten.
    pub async fn wait<T>(&mut self, what: &str, mut fits: impl FnMut(MeshEvent) -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(found) = fits(self.events.next().await.expect("the mesh runs")) {
                    return found;
                }
            }
        };
        timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("no event: {what}"))
    }

    pub async fn sees(&mut self, seed: u8) {
        let wanted = id(seed);
        self.wait("up", |event| matches!(event, MeshEvent::Up(info) if info.id == wanted).then_some(())).await;
    }

    pub async fn loses(&mut self, seed: u8) {
        let wanted = id(seed);
        self.wait("down", |event| matches!(event, MeshEvent::Down(id, _) if id == wanted).then_some(())).await;
    }

    pub async fn hears(&mut self, seed: u8) -> (Vec<u8>, Vec<u8>) {
        let wanted = id(seed);
        self.wait("a message", |event| match event {
            MeshEvent::Delivered { from, head, body } if from == wanted => Some((head, body.to_vec())),
            _ => None,
        })
        .await
    }

    pub async fn says(&self, to: u8, text: &[u8]) {
        self.handle.send(vec![(id(to), b"head".to_vec())], text.into()).await.unwrap();
    }

    pub async fn report(&self) -> MeshReport {
        timeout(DEADLINE, self.handle.report()).await.unwrap().unwrap()
    }

    /// Asks again and again until the report fits.
    pub async fn until<T>(&self, what: &str, fits: impl Fn(&MeshReport) -> Option<T>) -> T {
        let asking = async {
            loop {
                if let Some(found) = fits(&self.report().await) {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    pub async fn refused(&self, reason: &str) -> u64 {
        let count = |report: &MeshReport| report.refusals.iter().find(|(word, _)| *word == reason).unwrap().1;
        self.until(reason, |report| Some(count(report)).filter(|count| *count > 0)).await
    }

    pub async fn links(&self) -> Vec<LinkReport> {
        self.report().await.links
    }
}

/// What is logged on this thread, and so by all tasks of a test.
pub struct Log {
    lines: Lines,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<String>, Notify)>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        self.0.1.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub fn start() -> Self {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub fn text(&self) -> String {
        self.lines.0.0.lock().unwrap().clone()
    }

    /// Waits for a line with all of these.
    pub async fn says(&self, parts: &[&str]) {
        let waiting = async {
            while !self.text().lines().any(|line| parts.iter().all(|part| line.contains(part))) {
                self.lines.0.1.notified().await;
            }
        };
        timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{parts:?} not in:\n{}", self.text()));
    }
}

/// A peer that has a good key and does with it what the test wants.
pub struct Peer {
    pub stream: TlsStream<TcpStream>,
}

pub const HELLO: u8 = 0;
pub const REFUSAL: u8 = 1;
pub const READY: u8 = 2;
pub const PING: u8 = 3;
pub const NODE: u8 = 5;

impl Peer {
    /// As far as TLS.
    pub async fn connect(address: SocketAddr, seed: u8) -> io::Result<Self> {
        let (_, client) = tls::mesh_configs(&identity(seed)).unwrap();
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Self { stream: TlsConnector::from(client).connect(name, tcp).await? })
    }

    /// As far as the link.
    pub async fn link(address: SocketAddr, seed: u8, server: &str) -> Self {
        let mut peer = Self::connect(address, seed).await.unwrap();
        peer.say(HELLO, &hello(seed, server, 7).to_bytes()).await;
        assert_eq!(peer.hear().await.unwrap().0, HELLO);
        peer.say(READY, &[]).await;
        peer
    }

    pub async fn say(&mut self, kind: u8, frame: &[u8]) {
        let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes();
        bytes[0] = kind;
        self.stream.write_all(&[&bytes, frame].concat()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn hear(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let read = async {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).await?;
            let kind = std::mem::take(&mut length[0]);
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut frame).await?;
            Ok((kind, frame))
        };
        timeout(DEADLINE, read).await.expect("something is said, or the connection ends")
    }
}

pub fn hello(seed: u8, server: &str, instance: u64) -> MeshHello {
    MeshHello {
        version: MESH_VERSION,
        name: name(server),
        vouch: Some(vouch(AUTHORITY, server, seed)),
        instance: instance << 16,
        parcels: None,
    }
}
