//! What a server does for who runs it, beside serving: it tells how it is, reads its settings again, copies its database.

use super::actor::{CoreHandle, Job};
use super::forwarding::RelayLimits;
use super::metrics::Metrics;
use super::reload::{Certificate, ReloadError};
use super::udp::Legs;
use super::{Retention, Task};
use crate::mesh::run::{MeshHandle, MeshReport};
use crate::net::clock::wall_ms;
use crate::store::backup::{self, Breaker};
use crate::wire::admin::{Answer, Failure, Health};
use crate::wire::name::Name;
use crate::wire::text::shown;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Reads the settings again; or why they cannot be read.
pub type Settings = Arc<dyn Fn() -> Result<Reread, String> + Send + Sync>;

/// What of the settings may change now.
#[derive(Debug, Clone)]
pub struct Reread {
    /// How long things are kept.
    pub retention: Retention,
    /// How many files' bytes are passed on.
    pub relay: RelayLimits,
    /// Words on what has changed, this and what needs a restart.
    pub notes: Vec<String>,
}

/// What the chores are done with.
#[derive(Clone)]
pub(super) struct Tools {
    pub name: Name,
    /// The data directory; tests have none.
    pub data: Option<PathBuf>,
    pub settings: Option<Settings>,
    pub certificate: Arc<Certificate>,
    pub metrics: Arc<Metrics>,
    pub mesh: Option<MeshHandle>,
    pub core: CoreHandle,
    pub legs: Legs,
}

/// Does them.
pub(super) struct Chores {
    tools: Tools,
    started: Instant,
    /// Why the settings could not be read the last time.
    trouble: Mutex<Option<String>>,
    copying: Semaphore,
    breaker: Mutex<Option<Breaker>>,
}

impl Chores {
    pub fn new(tools: Tools) -> Self {
        Self {
            tools,
            started: Instant::now(),
            trouble: Mutex::default(),
            copying: Semaphore::new(1),
            breaker: Mutex::default(),
        }
    }

    /// Does a job to its end. [`Task::Stop`] is not one of these.
    pub async fn job(self: Arc<Self>, job: Job) {
        let answer = match &job.task {
            Task::Mesh => self.mesh().await,
            Task::Health => Answer::Health(Box::new(self.health().await)),
            Task::Stats => self.stats().await,
            Task::Reload => self.reload().await,
            Task::Backup(file) => self.backup(PathBuf::from(file)).await,
            Task::Stop => Answer::failed(Failure::Failed, "the server does not stop by itself"),
        };
        job.done(answer);
    }

    /// The server stops: what takes long is broken off.
    pub fn give_up(&self) {
        self.copying.close();
        if let Some(breaker) = &*locked(&self.breaker) {
            breaker.stop();
        }
    }

    /// Certificate and settings are read, and taken into use if both are sound; if not, nothing changes.
    pub async fn reload(&self) -> Answer {
        let (settings, certificate) = (self.tools.settings.clone(), self.tools.certificate.clone());
        let read = spawn_blocking(move || -> Result<_, String> {
            let settings = settings.map(|read| read()).transpose()?;
            certificate.reload().map_err(|e: ReloadError| e.to_string())?;
            Ok(settings)
        });
        let read = read.await.unwrap_or_else(|e| Err(e.to_string()));
        *locked(&self.trouble) = read.as_ref().err().cloned();
        match read {
            Ok(settings) => {
                let mut notes = Vec::new();
                if let Some(reread) = settings {
                    let core = &self.tools.core;
                    if core.retain(reread.retention).await.is_err() || core.relays(reread.relay).await.is_err() {
                        return Answer::failed(Failure::Failed, "the server stops");
                    }
                    self.tools.legs.set_limits(reread.relay);
                    notes = reread.notes;
                }
                tracing::info!("certificate and settings were read again");
                let what = "certificate and settings are read again; nobody was dropped".into();
                Answer::Done { what, notes, id: None, token: None }
            }
            Err(error) => {
                tracing::error!(error = shown(&error), "what was read again cannot be used; nothing changes");
                Answer::failed(Failure::Failed, format!("nothing changes, for it cannot be used: {error}"))
            }
        }
    }

    async fn mesh(&self) -> Answer {
        match &self.tools.mesh {
            None => Answer::failed_with(
                Failure::Failed,
                "this server is in no mesh",
                "a server links with others by --mesh-listen or --link",
            ),
            Some(mesh) => match mesh.report().await {
                Ok(report) => Answer::Mesh(Box::new((&report).into())),
                Err(gone) => Answer::failed(Failure::Failed, gone.to_string()),
            },
        }
    }

    async fn stats(&self) -> Answer {
        let mut counts = self.tools.metrics.counts();
        counts.insert("up_s".into(), self.started.elapsed().as_secs());
        if let Some(report) = self.report().await {
            let reachable = report.nodes.iter().filter(|node| node.info.reachable).count();
            counts.insert("mesh_links".into(), report.links.len() as u64);
            counts.insert("mesh_servers".into(), reachable as u64);
        }
        Answer::Stats(counts)
    }

    async fn report(&self) -> Option<MeshReport> {
        self.tools.mesh.as_ref()?.report().await.ok()
    }

    async fn health(&self) -> Health {
        let data = self.tools.data.clone();
        let disk = spawn_blocking(move || data.map(|data| (backup::size(&data), free(&data)))).await.ok().flatten();
        let (database_bytes, free) = disk.unwrap_or_default();
        let days =
            self.tools.certificate.ends_at_s().saturating_sub(i64::try_from(wall_ms() / 1000).unwrap_or(i64::MAX));
        let certificate_days = days.div_euclid(24 * 3600);
        let mut troubles: Vec<String> =
            locked(&self.trouble).iter().map(|why| format!("the last reload failed: {why}")).collect();
        if let Some(free) = free.filter(|free| *free < DISK_LOW) {
            troubles.push(format!("only {} MiB are free on the disk of the data directory", free >> 20));
        }
        match certificate_days {
            ..0 => troubles.push("the certificate has ended".into()),
            0..CERTIFICATE_LOW => troubles.push(format!("the certificate ends in {certificate_days} days")),
            _ => {}
        }
        if let Some(report) = self.report().await {
            let away = report.nodes.iter().filter(|node| !node.info.reachable).take(TROUBLES_MAX);
            troubles.extend(away.map(|node| format!("the server {} of the mesh is away", node.info.name)));
        }
        Health {
            ok: troubles.is_empty(),
            name: self.tools.name.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            up_s: self.started.elapsed().as_secs(),
            clients: self.tools.metrics.clients(),
            database_bytes,
            disk_free_bytes: free.unwrap_or_default(),
            certificate_days,
            troubles,
        }
    }

    async fn backup(self: &Arc<Self>, file: PathBuf) -> Answer {
        let Some(data) = self.tools.data.clone() else {
            return Answer::failed(Failure::Failed, "this server keeps its database in memory only");
        };
        let Ok(_place) = self.copying.try_acquire() else {
            return Answer::failed(Failure::Already, "a copy is being made, or the server stops");
        };
        let (chores, target) = (self.clone(), file.clone());
        let copied =
            spawn_blocking(move || backup::backup(&data, &target, |breaker| *locked(&chores.breaker) = Some(breaker)));
        let copied = copied.await;
        *locked(&self.breaker) = None;
        match copied {
            Ok(Ok(bytes)) => Answer::Done {
                what: format!("the database was copied into {}, {bytes} bytes", file.display()),
                notes: vec![format!(
                    "to restore it, put it as {} into an empty data directory, with copies of {}",
                    backup::RESTORED_AS,
                    backup::BESIDE
                )],
                id: None,
                token: None,
            },
            Ok(Err(error)) => Answer::failed(failure(&error), error.to_string()),
            Err(error) => Answer::failed(Failure::Failed, error.to_string()),
        }
    }
}

const fn failure(error: &backup::BackupError) -> Failure {
    match error {
        backup::BackupError::Taken(_) => Failure::Already,
        backup::BackupError::Path(_) => Failure::BadValue,
        backup::BackupError::Io { .. } | backup::BackupError::Copy(_) => Failure::Failed,
    }
}

/// Bytes that are free for us on the disk of a directory.
#[cfg(unix)]
fn free(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").field("name", &self.name).field("data", &self.data).finish_non_exhaustive()
    }
}

impl fmt::Debug for Chores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chores").field("tools", &self.tools).finish_non_exhaustive()
    }
}

/// Less free than this is a trouble, bytes: a day's worth of a busy server's logs.
const DISK_LOW: u64 = 512 << 20;
/// A certificate that ends in fewer days is a trouble.
const CERTIFICATE_LOW: i64 = 14;
/// So many servers that are away are named.
const TROUBLES_MAX: usize = 8;
