//! One server of a measured mesh, in a process of its own, without anything above the mesh.

use super::super::case::BenchError;
use super::super::child::tell;
use super::super::usage::{cpu_seconds, monotonic, peak_memory};
use super::tally::{Counts, Pause, Tally};
use crate::crypto::identity::{Fingerprint, Identity};
use crate::mesh::NodeId;
use crate::mesh::run::{Mesh, MeshConfig, MeshEvent, MeshEvents, MeshHandle};
use crate::wire::name::Name;
use crate::wire::vouch::ServerTrust;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// What a server is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// Its name.
    pub name: String,
    /// Of its key, which is used nowhere else.
    pub seed: [u8; 32],
    /// Names and fingerprints of all servers.
    pub trusted: Vec<(String, [u8; 32])>,
    /// Servers that it dials.
    pub links: Vec<SocketAddr>,
    /// Messages that it is to receive.
    pub expected: u64,
}

/// What it is told to do later, a line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Counts its work from now on.
    Mark,
    /// Sends; answered at once, and by [`Said::Sent`] when all is handed over.
    Send(Load),
    /// Which way leads there: [`Said::Path`].
    Path([u8; 32]),
    /// [`Said::Spent`] since [`Order::Mark`].
    Spent,
    /// [`Said::Received`].
    Tell,
}

/// Messages to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// The id of the node.
    pub to: [u8; 32],
    /// How many.
    pub messages: u64,
    /// Of each.
    pub bytes: u32,
    /// A second; as fast as it is let, where there is none.
    pub rate: Option<u64>,
}

/// What it says, a line each. Times are nanoseconds of the machine's monotonic clock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Said {
    /// It listens here.
    At(SocketAddr),
    /// From a time on it sees these others, and there is a path to each.
    Sees(u64, Vec<String>),
    /// The first message was handed over.
    Begun(u64),
    /// All were.
    Sent(u64),
    /// Names on the way to a node, that included; none if there is no way.
    Path(Vec<String>),
    /// So many have come, and at that time.
    Arrived(u64, u64),
    /// CPU seconds since the mark, and the most memory ever, bytes.
    Spent(f64, u64),
    /// What came, and when nothing did.
    Received(Counts, Vec<Pause>),
    /// It could not.
    Failed(String),
}

/// Runs until standard input ends.
pub fn run(setup: Setup) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(BenchError::io("starting"))?;
    let ended = runtime.block_on(async {
        let mesh = Mesh::bind(config(&setup)?).map_err(wrong)?;
        let addresses = mesh.addresses();
        let (handle, events, _running) = mesh.start().map_err(wrong)?;
        addresses.first().map_or(Ok(()), |address| tell(&Said::At(*address)))?;
        let tally = Tally::default();
        let full = watch::Sender::default();
        Node { handle, events, full, setup, tally, seen: None, cpu: 0.0, told: 0 }.work(orders()).await
    });
    runtime.shutdown_background();
    ended
}

struct Node {
    handle: MeshHandle,
    events: MeshEvents,
    /// Servers for which so much waits that a sender waits too.
    full: watch::Sender<BTreeSet<NodeId>>,
    setup: Setup,
    tally: Tally,
    /// Told last.
    seen: Option<Vec<String>>,
    /// At the mark.
    cpu: f64,
    /// Arrived, when that was told last.
    told: u64,
}

impl Node {
    async fn work(&mut self, mut orders: mpsc::UnboundedReceiver<Order>) -> Result<(), BenchError> {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await?,
                    None => return Ok(()),
                },
                event = self.events.next() => match event {
                    Some(event) => self.take(event)?,
                    None => return Err(BenchError::Wrong("the mesh has stopped".into())),
                },
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result<(), BenchError> {
        match order {
            Order::Mark => self.cpu = cpu_seconds(),
            Order::Send(load) => {
                tokio::spawn(send(self.handle.clone(), self.full.subscribe(), load));
            }
            Order::Path(to) => tell(&Said::Path(self.path(NodeId(to)).await?))?,
            Order::Spent => tell(&Said::Spent(cpu_seconds() - self.cpu, peak_memory()))?,
            Order::Tell => {
                let counts = self.tally.counts(self.setup.expected);
                tell(&Said::Received(counts, self.tally.pauses().to_vec()))?;
            }
        }
        Ok(())
    }

    async fn path(&self, to: NodeId) -> Result<Vec<String>, BenchError> {
        let report = self.handle.report().await.map_err(wrong)?;
        let name = |id: &NodeId| report.nodes.iter().find(|n| n.info.id == *id).map(|n| n.info.name.to_string());
        let way = report.nodes.iter().find(|node| node.info.id == to);
        Ok(way.map(|node| node.path.iter().filter_map(name).collect()).unwrap_or_default())
    }

    /// This event, and all that wait behind it.
    fn take(&mut self, first: MeshEvent) -> Result<(), BenchError> {
        let (mut next, mut changed, mut came) = (Some(first), false, false);
        while let Some(event) = next {
            match event {
                MeshEvent::Delivered { head, .. } => {
                    let number = head.first_chunk().map_or(u64::MAX - 1, |bytes| u64::from_be_bytes(*bytes));
                    self.tally.count(number);
                    came = true;
                }
                MeshEvent::Up(_) | MeshEvent::Changed(_) | MeshEvent::Down(..) => changed = true,
                MeshEvent::Full(node, true) => _ = self.full.send_if_modified(|full| full.insert(node)),
                MeshEvent::Full(node, false) => _ = self.full.send_if_modified(|full| full.remove(&node)),
            }
            next = self.events.try_next();
        }
        if changed {
            self.look()?;
        }
        if came {
            self.tally.at(monotonic());
            self.progress()?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), BenchError> {
        let reachable = |node: &&crate::mesh::NodeInfo| node.reachable;
        let mut seen: Vec<_> = self.handle.nodes().iter().filter(reachable).map(|node| node.name.to_string()).collect();
        seen.sort();
        if self.seen.as_ref() != Some(&seen) {
            tell(&Said::Sees(monotonic(), seen.clone()))?;
            self.seen = Some(seen);
        }
        Ok(())
    }

    fn progress(&mut self) -> Result<(), BenchError> {
        let (arrived, expected) = (self.tally.arrived(), self.setup.expected);
        if arrived >= self.told + expected / STEPS || arrived == expected {
            self.told = arrived;
            tell(&Said::Arrived(arrived, self.tally.last()))?;
        }
        Ok(())
    }
}

/// Servers for which so much waits that a sender waits too.
type Full = watch::Receiver<BTreeSet<NodeId>>;

async fn send(handle: MeshHandle, full: Full, load: Load) {
    let ended = match load.rate {
        Some(rate) => send_steadily(&handle, &load, rate).await,
        None => send_all(&handle, full, &load).await,
    };
    let said = ended.map_or_else(|error| Said::Failed(error.to_string()), |()| Said::Sent(monotonic()));
    // Without anybody who listens the process ends by itself.
    _ = tell(&said);
}

async fn send_all(handle: &MeshHandle, mut full: Full, load: &Load) -> Result<(), BenchError> {
    let to = NodeId(load.to);
    tell(&Said::Begun(monotonic()))?;
    for number in 0..load.messages {
        if number % LOOK_EVERY == 0 {
            full.wait_for(|full| !full.contains(&to)).await.map_err(wrong)?;
        }
        send_one(handle, load, number).await?;
    }
    Ok(())
}

async fn send_steadily(handle: &MeshHandle, load: &Load, rate: u64) -> Result<(), BenchError> {
    let (start, mut sent) = (Instant::now(), 0);
    let mut ticks = tokio::time::interval(TICK);
    tell(&Said::Begun(monotonic()))?;
    while sent < load.messages {
        ticks.tick().await;
        let due = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_mul(rate) / 1_000_000;
        while sent < due.min(load.messages) {
            send_one(handle, load, sent).await?;
            sent += 1;
        }
    }
    Ok(())
}

async fn send_one(handle: &MeshHandle, load: &Load, number: u64) -> Result<(), BenchError> {
    let bytes = usize::try_from(load.bytes).unwrap_or_default();
    let body: Arc<[u8]> = std::iter::repeat_n(0x5a, bytes).collect();
    handle.send(vec![(NodeId(load.to), number.to_be_bytes().to_vec())], body).await.map_err(wrong)
}

fn config(setup: &Setup) -> Result<MeshConfig, BenchError> {
    let listed = setup.trusted.iter().map(|(server, print)| Ok((name(server)?, Fingerprint(*print))));
    let links = setup.links.iter().map(|address| address.to_string().parse().map_err(wrong));
    Ok(MeshConfig {
        identity: Identity::from_seed(&setup.seed),
        name: name(&setup.name)?,
        vouch: None,
        trust: ServerTrust { authorities: Vec::new(), listed: listed.collect::<Result<_, BenchError>>()? },
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        links: links.collect::<Result<_, _>>()?,
        endpoints: Vec::new(),
    })
}

fn name(text: &str) -> Result<Name, BenchError> {
    Name::parse(text).map_err(wrong)
}

/// Lines of standard input, read by a thread that ends with the process.
fn orders() -> mpsc::UnboundedReceiver<Order> {
    let (said, heard) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if serde_json::from_str(&line).is_ok_and(|order| said.send(order).is_err()) {
                break;
            }
        }
    });
    heard
}

fn wrong(error: impl std::fmt::Display) -> BenchError {
    BenchError::Wrong(error.to_string())
}

/// How often progress is told in a run.
const STEPS: u64 = 20;
/// Messages between two looks at how much is under way.
const LOOK_EVERY: u64 = 64;
const TICK: Duration = Duration::from_millis(1);
