//! Jobs that another process of the same user hands to the running client, over a socket in the data directory. IO.
//!
//! One line of JSON asks for a file, or something of a server where we have a role; what follows from it comes back as the events of `--json`, one a line, closed by `{"done":CODE}`. Who closes
//! the connection before that gives the job up.

use super::effects::Fetch;
use super::event::Event;
use super::json;
use super::problem::{FAILED, NOT_FOUND, PEER_REFUSED, Problem, USAGE};
use crate::limits::{CONTROL_JOBS, CONTROL_LINES, CONTROL_REQUEST_MAX};
use crate::wire::admin;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The socket in a data directory.
pub fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// What is asked for: `@FROM getfile FILE` in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `HOST:PORT` that the client must have been told to reach; any where it is left out.
    pub server: Option<String>,
    /// A room that the client is in.
    pub room: String,
    /// The file's name.
    pub file: String,
    /// From whom; whoever has it where it is left out.
    pub from: Option<String>,
    /// The directory that it goes to, absolute; the client's own downloads directory where it is left out.
    pub output: Option<PathBuf>,
    /// Not to stand in line where all slots are taken.
    #[serde(default)]
    pub no_wait: bool,
}

/// A question to a server where we have a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminRequest {
    /// `HOST:PORT` at which the client has met the server.
    pub server: String,
    /// What is asked. What is answered comes as a line.
    pub admin: admin::Ask,
}

/// The last line of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The exit code.
    pub done: u8,
}

/// What the driver hears from other processes.
#[derive(Debug)]
pub enum Ask {
    /// A job, and where its events go.
    Fetch(Box<Fetch>, mpsc::Sender<String>),
    /// A question to a server, under a tag, and where its answer goes.
    Admin(String, Box<AdminRequest>, mpsc::Sender<String>),
    /// Nobody waits any more for the job with this tag.
    Gone(String),
}

/// The listening side.
#[derive(Debug)]
pub struct Control {
    asks: mpsc::Receiver<Ask>,
    listening: Option<Listening>,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct Listening {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        // A socket that is left behind is replaced by the next client.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Control {
    /// Listens in the data directory, which must be this process's own by its lock; nowhere without one. A client that cannot
    /// listen there does without, and says so in its log. `server` is where it was told to connect, `HOST:PORT`.
    pub fn new(data: Option<&Path>, server: String) -> Self {
        let (sender, asks) = mpsc::channel(CONTROL_JOBS);
        let places = Arc::new(Semaphore::new(CONTROL_JOBS));
        let listening = data.and_then(|data| {
            let path = socket(data);
            let listener = bind(data, &path).inspect_err(|e| tracing::warn!("no jobs are taken at {path:?}: {e}"));
            let task = tokio::spawn(accept(listener.ok()?, server, sender, Arc::clone(&places)));
            Some(Listening { path, task })
        });
        Self { asks, listening, places }
    }

    /// The next wish; waits for ever where nobody can ask.
    pub async fn next(&mut self) -> Ask {
        match self.asks.recv().await {
            Some(ask) => ask,
            None => std::future::pending().await,
        }
    }

    /// Removes the socket, and gives those who wait the time to read how it ended. The [`Jobs`] must be gone by then.
    pub async fn close(mut self) {
        self.listening = None;
        self.asks.close();
        while self.asks.try_recv().is_ok() {}
        let all = u32::try_from(CONTROL_JOBS).unwrap_or(u32::MAX);
        let _ = timeout(LAST_WORDS, self.places.acquire_many(all)).await;
    }
}

/// The jobs that others wait for, by tag.
#[derive(Debug, Default)]
pub struct Jobs(HashMap<String, mpsc::Sender<String>>);

impl Jobs {
    /// From now on events with this tag go there.
    pub fn add(&mut self, tag: String, lines: mpsc::Sender<String>) {
        self.0.insert(tag, lines);
    }

    /// Whether somebody waits, or has waited, for this tag's events.
    pub fn has(&self, tag: &str) -> bool {
        self.0.contains_key(tag)
    }

    /// Passes an event on. Who does not read loses its connection, and the job is given up by that.
    pub fn show(&mut self, wall_ms: u64, tag: &str, event: &Event) {
        let Some(lines) = self.0.get_mut(tag) else { return };
        if lines.try_send(json::to_line(event, Some(tag), wall_ms)).is_err() {
            // The channel ends, and with it the connection; the tag stays known until the job is over.
            *lines = mpsc::channel(1).0;
        }
    }

    /// What a server has answered.
    pub fn answer(&mut self, tag: &str, answer: String) {
        if let Some(lines) = self.0.get_mut(tag) {
            // Nothing came before it: there is room.
            let _ = lines.try_send(answer);
        }
    }

    /// The job has come to its end.
    pub fn done(&mut self, tag: Option<&str>, code: u8) {
        if let Some(lines) = tag.and_then(|tag| self.0.remove(tag)) {
            let _ = lines.try_send(done(code));
        }
    }

    /// Nobody waits; what is still told goes nowhere.
    pub fn forget(&mut self, tag: &str) {
        if let Some(lines) = self.0.get_mut(tag) {
            *lines = mpsc::channel(1).0;
        }
    }
}

/// The socket is made where nobody else can reach it, closed to others, and then takes the place of a stale one in one step.
fn bind(data: &Path, path: &Path) -> io::Result<UnixListener> {
    let nest = tempfile::Builder::new().prefix(".c").rand_bytes(4).tempdir_in(data)?;
    let hidden = nest.path().join("s");
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, path)?;
    Ok(listener)
}

async fn accept(listener: UnixListener, server: String, asks: mpsc::Sender<Ask>, places: Arc<Semaphore>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw());
        if !ours {
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            let busy = Problem::new("busy", PEER_REFUSED, "the running client has enough to do");
            let _ = stream.try_write(refusal(busy).as_bytes());
            continue;
        };
        let (server, asks) = (server.clone(), asks.clone());
        tokio::spawn(async move {
            serve(stream, &server, &asks).await;
            drop(place);
        });
    }
}

/// One connection, from its request to its last line.
async fn serve(stream: UnixStream, server: &str, asks: &mpsc::Sender<Ask>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let Ok(Some(line)) = timeout(REQUEST_DEADLINE, read_request(&mut reader)).await else { return };
    let (sender, lines) = mpsc::channel(CONTROL_LINES);
    let (tag, ask) = match to_ask(&line, server, sender) {
        Ok(job) => job,
        Err(problem) => {
            write(&mut writer, &refusal(problem)).await;
            return;
        }
    };
    if asks.send(ask).await.is_err() {
        return;
    }
    let mut more = [0];
    let whole = tokio::select! {
        whole = pass_on(lines, &mut writer) => whole,
        // Nothing more is to be said from there: this is its end.
        _ = reader.read(&mut more) => false,
    };
    if !whole {
        // A client that ends has given up everything already.
        let _ = asks.send(Ask::Gone(tag)).await;
    }
}

/// Returns whether the last line was read, too.
async fn pass_on(mut lines: mpsc::Receiver<String>, writer: &mut OwnedWriteHalf) -> bool {
    let mut last = false;
    while let Some(line) = lines.recv().await {
        last = line.starts_with(DONE);
        if !write(writer, &(line + "\n")).await {
            return false;
        }
    }
    last
}

/// The line, cut where it is too long to be a request; `None` where the connection ends before its line does.
async fn read_request(reader: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let max = u64::try_from(CONTROL_REQUEST_MAX).unwrap_or(u64::MAX);
    reader.take(max).read_until(b'\n', &mut line).await.ok()?;
    (line.last() == Some(&b'\n') || line.len() >= CONTROL_REQUEST_MAX).then_some(line)
}

/// The job of a line, under a tag of its own.
fn to_ask(line: &[u8], server: &str, lines: mpsc::Sender<String>) -> Result<(String, Ask), Problem> {
    if let Ok(request) = serde_json::from_slice::<AdminRequest>(line) {
        let tag = tag("admin")?;
        return Ok((tag.clone(), Ask::Admin(tag, Box::new(request), lines)));
    }
    let fetch = to_fetch(line, server)?;
    Ok((fetch.tag.clone(), Ask::Fetch(Box::new(fetch), lines)))
}

fn tag(kind: &str) -> Result<String, Problem> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| Problem::new("failed", FAILED, e.to_string()))?;
    Ok(format!("{kind}-{:016x}", u64::from_be_bytes(random)))
}

fn to_fetch(line: &[u8], server: &str) -> Result<Fetch, Problem> {
    let Request { server: wanted, room, file, from, output, no_wait } = serde_json::from_slice(line)
        .map_err(|e| Problem::new("bad_json", USAGE, format!("this is no request: {e}")))?;
    if wanted.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(server)) {
        return Err(Problem::new("other_server", NOT_FOUND, format!("the running client is at {server}"))
            .hint("name the server as it is named there, or give this command another directory with --data"));
    }
    if output.as_ref().is_some_and(|output| !output.is_absolute()) {
        return Err(Problem::new("usage", USAGE, "the directory is not an absolute path"));
    }
    let tag = tag("fetch")?;
    let line = format!("@{} getfile \"{file}\"", from.as_deref().unwrap_or("any"));
    Ok(Fetch { tag, room, line, into: output, wait: !no_wait })
}

async fn write(writer: &mut OwnedWriteHalf, text: &str) -> bool {
    matches!(timeout(WRITE_DEADLINE, writer.write_all(text.as_bytes())).await, Ok(Ok(())))
}

fn refusal(problem: Problem) -> String {
    let code = problem.exit;
    format!("{}\n{}\n", serde_json::to_string(&problem.event()).unwrap_or_default(), done(code))
}

fn done(code: u8) -> String {
    format!("{DONE}{code}}}")
}

/// How the last line begins; no event does.
const DONE: &str = r#"{"done":"#;
/// How long a request may take to come.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// How long one line may take to be read.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// At the end, for all.
const LAST_WORDS: Duration = Duration::from_millis(500);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
