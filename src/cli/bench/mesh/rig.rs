//! The processes of a measured mesh: started, linked, told what to do, and killed.

use super::super::case::BenchError;
use super::super::child::Role;
use super::node::{Order, Said, Setup};
use super::views::Views;
use crate::cli::drive::Process;
use crate::crypto::identity::Identity;
use crate::mesh::NodeId;
use rustix::process::{Pid, Signal};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Servers that all may link with each other.
pub struct Rig {
    binary: PathBuf,
    dir: tempfile::TempDir,
    seeds: Vec<[u8; 32]>,
    /// By number; those that live or are frozen.
    servers: Vec<Option<Server>>,
    /// What all have told of the others.
    pub views: Views,
    /// The last server is to receive so many.
    expected: u64,
}

struct Server {
    process: Process,
    at: SocketAddr,
    /// Lines that have been read.
    read: usize,
}

impl Rig {
    /// Keys for so many servers, none of which runs yet; the last receives messages.
    pub fn new(servers: u32, expected: u64) -> Result<Self, BenchError> {
        let dir = tempfile::Builder::new().prefix("secchat-bench-").tempdir();
        let dir = dir.map_err(BenchError::io("making a directory"))?;
        let binary = std::env::current_exe().map_err(BenchError::io("finding this program"))?;
        let seed = |_| {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map(|()| seed).map_err(|error| BenchError::Wrong(error.to_string()))
        };
        let seeds = (0..servers).map(seed).collect::<Result<Vec<_>, _>>()?;
        let servers = seeds.iter().map(|_| None).collect();
        Ok(Self { binary, dir, seeds, servers, views: Views::default(), expected })
    }

    /// Starts a server that dials those.
    pub fn start(&mut self, number: usize, with: &[usize]) -> Result<(), BenchError> {
        let print = |seed: &[u8; 32]| Identity::from_seed(seed).public().fingerprint().0;
        let links = with.iter().filter_map(|other| Some(self.servers.get(*other)?.as_ref()?.at)).collect();
        let setup = Setup {
            name: name(number),
            seed: self.seeds.get(number).copied().ok_or_else(nobody)?,
            trusted: self.seeds.iter().enumerate().map(|(other, seed)| (name(other), print(seed))).collect(),
            links,
            expected: if number + 1 == self.seeds.len() { self.expected } else { 0 },
        };
        let args = ["bench", "end"].map(str::to_owned);
        let log = self.dir.path().join("log");
        let mut process = Process::start(&self.binary, &name(number), &args, &log)?;
        process.say(&line(&Role::MeshNode(setup))?)?;
        let at = process.wait_line("its address", START, |line| match serde_json::from_str(line) {
            Ok(Said::At(at)) => Some(Ok(at)),
            Ok(Said::Failed(cause)) => Some(Err(BenchError::Wrong(cause))),
            _ => None,
        })??;
        *self.servers.get_mut(number).ok_or_else(nobody)? = Some(Server { process, at, read: 0 });
        Ok(())
    }

    /// Waits until all that live see each other.
    pub fn settle(&mut self, within: Duration) -> Result<(), BenchError> {
        let living: BTreeSet<String> = self.numbers().into_iter().map(name).collect();
        let end = std::time::Instant::now() + within;
        while self.views.right_after(&living, 0, u64::MAX).is_none() {
            if std::time::Instant::now() > end {
                return Err(BenchError::Wrong("the servers do not find each other".into()));
            }
            self.listen(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Those that live or are frozen.
    pub fn numbers(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|at| self.servers.get(*at).is_some_and(Option::is_some)).collect()
    }

    /// The mesh's id of a server.
    pub fn id(&self, number: usize) -> Result<[u8; 32], BenchError> {
        let seed = self.seeds.get(number).ok_or_else(nobody)?;
        Ok(NodeId::of(&Identity::from_seed(seed).public()).0)
    }

    /// Tells a server what to do.
    pub fn order(&mut self, number: usize, order: &Order) -> Result<(), BenchError> {
        let line = line(order)?;
        Ok(self.server(number)?.process.say(&line)?)
    }

    /// What `pick` takes of what a server says from now on.
    pub fn wait<T>(
        &mut self,
        number: usize,
        wanted: &str,
        within: Duration,
        mut pick: impl FnMut(&Said) -> Option<T>,
    ) -> Result<T, BenchError> {
        let server = self.server(number)?;
        server.process.wait_line(wanted, within, |line| match serde_json::from_str(line).ok()? {
            Said::Failed(cause) => Some(Err(BenchError::Wrong(cause))),
            said => pick(&said).map(Ok),
        })?
    }

    /// What `pick` takes of what a server has said so far.
    pub fn said<T>(&self, number: usize, mut pick: impl FnMut(&Said) -> Option<T>) -> Option<T> {
        let said = self.servers.get(number)?.as_ref()?.process.said();
        said.iter().find_map(|line| pick(&serde_json::from_str(line).ok()?))
    }

    /// Takes in for some time what all say of each other.
    pub fn listen(&mut self, time: Duration) {
        let mut wait = time;
        for (number, server) in self.servers.iter_mut().enumerate() {
            let Some(server) = server else { continue };
            // All of the time with one of them: the others' lines carry their times.
            server.process.listen(std::mem::take(&mut wait));
            server.note(number, &mut self.views);
        }
    }

    /// Ends a server without warning.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut server) = self.servers.get_mut(number).and_then(Option::take) {
            server.process.kill();
            server.process.listen(Duration::ZERO);
            server.note(number, &mut self.views);
        }
    }

    /// Freezes a server, or thaws it.
    pub fn freeze(&mut self, number: usize, frozen: bool) -> Result<(), BenchError> {
        let pid = i32::try_from(self.server(number)?.process.pid()).ok().and_then(Pid::from_raw).ok_or_else(nobody)?;
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        rustix::process::kill_process(pid, signal).map_err(BenchError::io("stopping a server"))
    }

    fn server(&mut self, number: usize) -> Result<&mut Server, BenchError> {
        self.servers.get_mut(number).and_then(Option::as_mut).ok_or_else(nobody)
    }
}

impl Server {
    fn note(&mut self, number: usize, views: &mut Views) {
        for line in self.process.said().get(self.read..).unwrap_or_default() {
            if let Ok(Said::Sees(at, sees)) = serde_json::from_str(line) {
                views.tell(&name(number), at, sees);
            }
        }
        self.read = self.process.said().len();
    }
}

/// What a server is called.
pub fn name(number: usize) -> String {
    format!("s{}", number + 1)
}

fn line(what: &impl Serialize) -> Result<String, BenchError> {
    serde_json::to_string(what).map_err(|error| BenchError::Wrong(error.to_string()))
}

fn nobody() -> BenchError {
    BenchError::Wrong("there is no such server".into())
}

/// A process that has not started by then will not.
const START: Duration = Duration::from_secs(20);
