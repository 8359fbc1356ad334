//! The operator's socket: a line of JSON asks, a line of JSON answers. Only the server's own user and root get in.

use crate::mesh::NodeId;
use crate::mesh::run::{MeshHandle, MeshReport};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// The mesh as this server knows it.
    Mesh,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Ask::Mesh`].
    Mesh(MeshView),
    /// It cannot be done, and why.
    Failed {
        /// For people.
        why: String,
    },
}

/// A mesh, for people and programs. Durations are in milliseconds, sizes in bytes, counts since the server's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeshView {
    /// This server's name.
    pub name: String,
    /// Its id, 64 hex digits, as all ids here.
    pub id: String,
    /// The other servers, by name.
    pub nodes: Vec<NodeView>,
    /// This server's links.
    pub links: Vec<LinkView>,
    /// All links of the mesh, each once.
    pub edges: Vec<EdgeView>,
    /// Messages by what became of them, and records.
    pub counts: BTreeMap<String, u64>,
    /// Connections and links refused or cut, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// What waits for the server itself.
    pub waiting: usize,
}

/// Another server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Whether a path leads there now.
    pub reachable: bool,
    /// Links on the path.
    pub hops: u8,
    /// The sum of their round trips.
    pub round_trip_ms: f64,
    /// What waits or is under way for it.
    pub queued: usize,
    /// Names of the servers on the way there, it included.
    pub path: Vec<String>,
    /// Where clients find it.
    pub endpoints: Vec<String>,
}

/// A link of this server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkView {
    /// The neighbour's name.
    pub peer: String,
    /// Its address.
    pub address: String,
    /// Whether this server has dialled.
    pub dialled: bool,
    /// For how long it is up.
    pub up_ms: u64,
    /// The last ping, if one was answered.
    pub round_trip_ms: Option<f64>,
    /// Control that waits.
    pub control_bytes: usize,
    /// Messages that wait.
    pub bulk_bytes: usize,
    /// Frames for which there was no room.
    pub dropped: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// A link between any two servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeView {
    /// One's name.
    pub from: String,
    /// The other's.
    pub to: String,
    /// As they measure it.
    pub round_trip_ms: f64,
}

impl From<&MeshReport> for MeshView {
    fn from(report: &MeshReport) -> Self {
        let mut names: BTreeMap<NodeId, String> =
            report.nodes.iter().map(|node| (node.info.id, node.info.name.to_string())).collect();
        names.insert(report.id, report.name.to_string());
        let name = |id: &NodeId| names.get(id).cloned().unwrap_or_else(|| id.to_string());
        let nodes = report.nodes.iter().map(|node| NodeView {
            name: node.info.name.to_string(),
            id: hex(&node.info.id),
            reachable: node.info.reachable,
            hops: node.info.hops,
            round_trip_ms: ms(node.info.round_trip),
            queued: node.info.queued,
            path: node.path.iter().map(name).collect(),
            endpoints: node.info.endpoints.clone(),
        });
        let links = report.links.iter().map(|link| LinkView {
            peer: link.name.to_string(),
            address: link.address.to_string(),
            dialled: link.dialled,
            up_ms: u64::try_from(link.up.as_millis()).unwrap_or(u64::MAX),
            round_trip_ms: link.round_trip.map(ms),
            control_bytes: link.control_bytes,
            bulk_bytes: link.bulk_bytes,
            dropped: link.dropped,
            sent_frames: link.sent_frames,
            sent_bytes: link.sent_bytes,
            received_bytes: link.received_bytes,
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let edge = |(a, b, rtt): &(NodeId, NodeId, Duration)| {
            let (a, b) = (name(a), name(b));
            let (from, to) = if a < b { (a, b) } else { (b, a) };
            EdgeView { from, to, round_trip_ms: ms(*rtt) }
        };
        let mut edges: Vec<_> = report.edges.iter().map(edge).collect();
        edges.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        Self {
            name: report.name.to_string(),
            id: hex(&report.id),
            nodes,
            links: links.collect(),
            edges,
            counts: counts(report),
            refusals: report.refusals.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            waiting: report.waiting,
        }
    }
}

fn counts(report: &MeshReport) -> BTreeMap<String, u64> {
    let of = &report.counts;
    let counts = [
        ("sent", of.sent),
        ("delivered", of.delivered),
        ("repeated", of.repeated),
        ("duplicates", of.duplicates),
        ("forwarded", of.forwarded),
        ("dropped", of.dropped),
        ("refused", of.refused),
        ("forged", of.forged),
        ("records", of.records),
        ("records_refused", of.records_refused),
    ];
    counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

fn hex(id: &NodeId) -> String {
    crate::crypto::identity::Fingerprint(id.0).to_string()
}

fn ms(duration: Duration) -> f64 {
    // Microseconds are as exact as it is measured.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// What answers need.
#[derive(Debug, Clone)]
pub struct Desk {
    /// If the server is in a mesh.
    pub mesh: Option<MeshHandle>,
}

impl Desk {
    /// Does what was asked.
    pub async fn answer(&self, ask: Ask) -> Answer {
        match (ask, &self.mesh) {
            (Ask::Mesh, None) => Answer::Failed { why: "this server is in no mesh".into() },
            (Ask::Mesh, Some(mesh)) => match mesh.report().await {
                Ok(report) => Answer::Mesh((&report).into()),
                Err(gone) => Answer::Failed { why: gone.to_string() },
            },
        }
    }
}

/// Where the socket of a data directory stands.
pub fn socket_in(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

#[cfg(unix)]
pub use unix::{bind, serve};

#[cfg(unix)]
mod unix {
    use super::{ANSWER_DEADLINE, Answer, Ask, CONNECTIONS, Desk, REQUEST_MAX, socket_in};
    use std::fs::{self, Permissions};
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::sync::Arc;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    /// Binds the socket of a data directory that we hold the lock of: one that stands there was left behind.
    pub fn bind(data: &Path) -> io::Result<UnixListener> {
        let path = socket_in(data);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Answers until it is dropped; a few at a time, each within a deadline.
    pub async fn serve(listener: UnixListener, desk: Desk) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) if is_ours(&stream) => {
                    let desk = desk.clone();
                    tokio::spawn(async move {
                        // Whoever asked sees for himself that no answer came.
                        let _ = timeout(ANSWER_DEADLINE, answer(stream, &desk)).await;
                        drop(place);
                    });
                }
                Ok(_) => tracing::warn!("another user was turned away from the admin socket"),
                Err(error) => {
                    tracing::warn!(%error, "a connection at the admin socket could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// The file's mode says the same, but for the moment between its birth and the change of its mode.
    fn is_ours(stream: &UnixStream) -> bool {
        let own = rustix::process::geteuid().as_raw();
        stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
    }

    async fn answer(stream: UnixStream, desk: &Desk) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        BufReader::new(read).take(REQUEST_MAX).read_line(&mut line).await?;
        let answer = match serde_json::from_str::<Ask>(&line) {
            Ok(ask) => desk.answer(ask).await,
            Err(error) => Answer::Failed { why: format!("the server does not understand this: {error}") },
        };
        let mut text = serde_json::to_string(&answer).map_err(io::Error::other)?;
        text.push('\n');
        write.write_all(text.as_bytes()).await?;
        write.shutdown().await
    }
}

/// Longest question, bytes.
pub const REQUEST_MAX: u64 = 4096;
/// Longest answer, bytes: the largest mesh with all its links.
pub const ANSWER_MAX: u64 = 8 << 20;
/// An answer is complete by then.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 8;
