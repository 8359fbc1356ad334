//! secchat processes driven over pipes, as a script would: a server that prints its invite, clients that speak JSON.
//!
//! The demo runs on this, and so do the tests of the whole binary.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What went wrong with a driven process.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// It could not be started, or its pipe broke.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// It did not say what was waited for.
    #[error("{who} did not report {wanted} within {seconds} s; its last words: {last}")]
    Deadline {
        /// Which process.
        who: String,
        /// What was waited for.
        wanted: String,
        /// How long.
        seconds: u64,
        /// What it said last.
        last: String,
    },
    /// It ended before it said what was waited for.
    #[error("{who} ended before it reported {wanted}; its last words: {last}")]
    Ended {
        /// Which process.
        who: String,
        /// What was waited for.
        wanted: String,
        /// What it said last.
        last: String,
    },
}

/// A child process whose standard output is read line by line. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    who: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Process {
    /// Starts `binary` with these arguments; standard error goes to `log`.
    pub fn start(binary: &Path, who: &str, args: &[String], log: &Path) -> Result<Self, DriveError> {
        let io = |what: &str| {
            let what = format!("{what} {who}");
            move |source| DriveError::Io { what, source }
        };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(io("opening the log of"))?;
        let mut child = Command::new(binary)
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(io("starting"))?;
        let stdin = child.stdin.take();
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { who: who.to_owned(), child, stdin, lines, said: Vec::new() })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to its standard input.
    pub fn say(&mut self, line: &str) -> Result<(), DriveError> {
        let what = format!("writing to {}", self.who);
        let Some(stdin) = self.stdin.as_mut() else { return Ok(()) };
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).map_err(|source| DriveError::Io { what, source })
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// The first line from now on for which `pick` gives something.
    pub fn wait_line<T>(
        &mut self,
        wanted: &str,
        within: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, DriveError> {
        let end = Instant::now() + within;
        loop {
            let line = match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(cause) => return Err(self.silent(cause, wanted, within)),
            };
            let found = pick(&line);
            self.said.push(line);
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// The first JSON event of this kind from now on that `accept` takes.
    pub fn wait_event(
        &mut self,
        kind: &str,
        within: Duration,
        mut accept: impl FnMut(&Value) -> bool,
    ) -> Result<Value, DriveError> {
        self.wait_line(kind, within, |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value.get("event").and_then(Value::as_str) == Some(kind) && accept(&value)).then_some(value)
        })
    }

    /// Every line that was read so far.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// Reads what it says for a while, and tells whether it has ended.
    pub fn listen(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.said.push(line);
        }
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// The events that it has reported so far.
    pub fn events(&self) -> impl Iterator<Item = Value> + '_ {
        self.said.iter().filter_map(|line| serde_json::from_str(line).ok())
    }

    /// Waits for its end and gives the exit code, `None` if a signal ended it.
    pub fn wait_exit(&mut self, within: Duration) -> Result<Option<i32>, DriveError> {
        let end = Instant::now() + within;
        loop {
            let what = format!("waiting for {}", self.who);
            match self.child.try_wait().map_err(|source| DriveError::Io { what, source })? {
                Some(status) => {
                    // Its last words may still be on their way through the thread that reads them.
                    while let Ok(line) = self.lines.recv_timeout(LAST_WORDS) {
                        self.said.push(line);
                    }
                    return Ok(status.code());
                }
                None if Instant::now() >= end => {
                    return Err(self.silent(RecvTimeoutError::Timeout, "its end", within));
                }
                // Reading what it says both waits without spinning and keeps its pipe from filling.
                None => {
                    let line = self.lines.recv_timeout(Duration::from_millis(20));
                    if line == Err(RecvTimeoutError::Disconnected) {
                        std::thread::park_timeout(Duration::from_millis(5));
                    }
                    self.said.extend(line);
                }
            }
        }
    }

    /// Asks it to stop, as an operator would (SIGTERM).
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.child.wait().ok();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, signal).ok();
        }
    }

    fn silent(&self, cause: RecvTimeoutError, wanted: &str, within: Duration) -> DriveError {
        let (who, wanted) = (self.who.clone(), wanted.to_owned());
        let last = self.said.iter().rev().take(4).rev().cloned().collect::<Vec<_>>().join(" | ");
        match cause {
            RecvTimeoutError::Timeout => DriveError::Deadline { who, wanted, seconds: within.as_secs(), last },
            RecvTimeoutError::Disconnected => DriveError::Ended { who, wanted, last },
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A server on a loopback port of its own choice, and the invite that it printed.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub process: Process,
    /// `secchat://HOST:PORT/?pin=…`.
    pub invite: String,
    /// Its data directory.
    pub data: PathBuf,
}

impl Server {
    /// Starts it on `listen` (a port of 0 lets the system choose) and waits for its invite.
    pub fn start(binary: &Path, dir: &Path, name: &str, listen: &str, more: &[&str]) -> Result<Self, DriveError> {
        let data = dir.join(name);
        let mut args: Vec<String> =
            ["server", "--listen", listen, "--name", name, "--data"].map(str::to_owned).to_vec();
        args.push(data.display().to_string());
        args.extend(more.iter().map(|&a| a.to_owned()));
        let mut process = Process::start(binary, name, &args, &dir.join(format!("{name}.log")))?;
        let invite = process.wait_line("its invite", Duration::from_secs(20), |line| {
            line.split_whitespace().find(|word| word.starts_with("secchat://")).map(str::to_owned)
        })?;
        Ok(Self { process, invite, data })
    }
}

/// The arguments of a JSON client that trusts the server by its invite, with a data directory of its own beneath `dir`.
pub fn client_args(dir: &Path, name: &str, invite: &str, more: &[&str]) -> Vec<String> {
    let data = dir.join(format!("client-{name}"));
    let mut args: Vec<String> =
        ["client", "--json", "--invite", invite, "--name", name, "--data"].map(str::to_owned).to_vec();
    args.push(data.display().to_string());
    args.extend(more.iter().map(|&a| a.to_owned()));
    args
}

/// Starts a JSON client and waits until it is connected.
pub fn start_client(binary: &Path, dir: &Path, name: &str, invite: &str, more: &[&str]) -> Result<Process, DriveError> {
    let args = client_args(dir, name, invite, more);
    let mut process = Process::start(binary, name, &args, &dir.join(format!("{name}.log")))?;
    process.wait_event("connected", Duration::from_secs(20), |_| true)?;
    Ok(process)
}

/// How long the pipe of a process that has ended may stay open: what it started may hold it.
const LAST_WORDS: Duration = Duration::from_secs(1);
