//! The admin socket: a line of JSON asks, a line of JSON answers. Only the server's own user and root get in, and they own the server.

use super::actor::CoreHandle;
use crate::wire::admin::{Answer, Ask, Failure};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Where questions go.
#[derive(Debug, Clone)]
pub struct Desk {
    /// It knows who may do what and writes every act down.
    core: CoreHandle,
    places: Arc<Semaphore>,
}

impl Desk {
    /// Before this core.
    pub fn new(core: CoreHandle) -> Self {
        Self { core, places: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// Held until an answer is with who has asked; `None` when the server has stopped.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().acquire_owned().await.ok()
    }

    /// For the end.
    pub fn parting(&self) -> Parting {
        Parting(self.places.clone())
    }

    /// Does what was asked.
    pub async fn answer(&self, ask: Ask) -> Answer {
        match self.core.ask(ask).await {
            Ok(answer) => answer,
            Err(gone) => Answer::failed(Failure::Failed, gone.to_string()),
        }
    }
}

/// Those who wait for their last answer, such as who has asked for the stop.
#[derive(Debug)]
pub struct Parting(Arc<Semaphore>);

impl Parting {
    /// Gives them the time to read it. Nobody new may come any more.
    pub async fn over(self) {
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        let _ = timeout(LAST_WORDS, self.0.acquire_many(all)).await;
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
    use super::{ASK_DEADLINE, Answer, Ask, Desk, Failure, REQUEST_MAX, answer_deadline, socket_in};
    use std::fs::{self, Permissions};
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{UnixListener, UnixStream};
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
        loop {
            let Some(place) = desk.place().await else { return };
            match listener.accept().await {
                Ok((stream, _)) if is_ours(&stream) => {
                    let desk = desk.clone();
                    tokio::spawn(async move {
                        // Whoever asked sees for himself that no answer came.
                        let _ = answer(stream, &desk).await;
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
        timeout(ASK_DEADLINE, BufReader::new(read).take(REQUEST_MAX).read_line(&mut line)).await??;
        let answer = match serde_json::from_str::<Ask>(&line) {
            Ok(ask) => timeout(answer_deadline(&ask), desk.answer(ask)).await?,
            Err(error) => Answer::failed(Failure::Malformed, format!("the server does not understand this: {error}")),
        };
        let mut text = serde_json::to_string(&answer).map_err(io::Error::other)?;
        text.push('\n');
        timeout(ASK_DEADLINE, write.write_all(text.as_bytes())).await??;
        write.shutdown().await
    }
}

/// Longest question, bytes.
pub const REQUEST_MAX: u64 = crate::limits::ADMIN_ASK_MAX as u64;
/// Longest answer, bytes: the largest mesh with all its links.
pub const ANSWER_MAX: u64 = 8 << 20;
/// A question is complete, and an answer taken, by then.
const ASK_DEADLINE: Duration = Duration::from_secs(5);

/// An answer is complete by then.
pub const fn answer_deadline(ask: &Ask) -> Duration {
    match ask {
        // As large a database as there may be, on a slow disk.
        Ask::Backup { .. } => Duration::from_secs(3600),
        _ => Duration::from_secs(5),
    }
}

const CONNECTIONS: usize = 8;
const LAST_WORDS: Duration = Duration::from_millis(500);
