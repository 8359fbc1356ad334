//! Processes: servers that link with each other, clients whose events are read.

use secchat::client::event::Event;
use secchat::wire::admin::{Answer, Ask};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};

pub const DEADLINE: Duration = Duration::from_secs(60);
pub const ANYWHERE: &str = "127.0.0.1:0";

pub fn secchat(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secchat"));
    command.env_clear().env("HOME", home).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn send(process: &Process, signal: &str) {
    let id = process.0.id().to_string();
    let kill = |signal: &str| assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    kill(signal);
    // Its threads stop one after another, and until then one may still answer.
    let threads = || std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let stopped = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
    let runs =
        || threads().any(|thread| std::fs::read_to_string(thread.path().join("stat")).is_ok_and(|s| !stopped(s)));
    let until = Instant::now() + DEADLINE;
    while signal == "STOP" && runs() {
        assert!(Instant::now() < until, "it does not stop");
        kill("STOP");
    }
}

pub struct Server {
    pub process: Process,
    pub address: String,
    pub mesh: String,
    links: Vec<String>,
}

pub struct Mesh {
    dir: TempDir,
    pub servers: Vec<Server>,
}

impl Mesh {
    /// `s1`, `s2` and so on, each linked with all before it.
    pub fn new(count: usize) -> Self {
        Self::shaped(count, |n| (1..n).collect())
    }

    /// Each linked with the one before it.
    pub fn chain(count: usize) -> Self {
        Self::shaped(count, |n| if n > 1 { vec![n - 1] } else { Vec::new() })
    }

    /// A chain, and its ends linked.
    pub fn ring(count: usize) -> Self {
        Self::shaped(count, |n| if n == count { vec![n - 1, 1] } else { (n - 1..n).filter(|n| *n > 0).collect() })
    }

    pub fn shaped(count: usize, links: impl Fn(usize) -> Vec<usize>) -> Self {
        Self::shaped_with(count, links, &[])
    }

    /// With options for all.
    pub fn shaped_with(count: usize, links: impl Fn(usize) -> Vec<usize>, more: &[&str]) -> Self {
        let mut mesh = Self { dir: tempdir().unwrap(), servers: Vec::new() };
        let certs = mesh.path("certs");
        mesh.run(&["cert", "init", certs.to_str().unwrap(), "--mesh"]);
        for n in 1..=count {
            mesh.issue(&format!("s{n}"));
            let with: Vec<_> = links(n).iter().map(|other| mesh.servers[other - 1].mesh.clone()).collect();
            let server = mesh.start(n, ANYWHERE, ANYWHERE, with, more);
            mesh.servers.push(server);
        }
        mesh
    }

    pub fn run(&self, arguments: &[&str]) {
        let output = secchat(self.dir.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    pub fn issue(&self, server: &str) {
        self.run(&["cert", "issue", self.path("certs").to_str().unwrap(), server]);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn start(&self, n: usize, listen: &str, mesh: &str, links: Vec<String>, more: &[&str]) -> Server {
        let mut command = secchat(self.dir.path());
        command.args(["server", "--listen", listen, "--mesh-listen", mesh, "--name", &format!("s{n}")]).args(more);
        command.arg("--mesh-certs").arg(self.path("certs").join(format!("s{n}")));
        command.arg("--data").arg(self.path(&format!("server{n}")));
        for link in &links {
            command.args(["--link", link]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut facts = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let (word, rest) = line.unwrap().split_once(' ').map(|(w, r)| (w.to_owned(), r.trim().to_owned())).unwrap();
            let last = word == "invite";
            facts.push((word, rest));
            if last {
                break;
            }
        }
        let fact = |word: &str| facts.iter().find(|(first, _)| first == word).unwrap_or_else(|| panic!("{facts:?}"));
        let (address, mesh) = (fact("listening").1.clone(), fact("mesh").1.clone());
        Server { process: Process(child), address, mesh, links }
    }

    /// What is asked at the admin socket of a server, and its answer.
    pub fn ask(&self, n: usize, ask: &Ask) -> Answer {
        let mut socket = UnixStream::connect(self.path(&format!("server{n}")).join("admin.sock")).unwrap();
        socket.write_all((serde_json::to_string(ask).unwrap() + "\n").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    pub fn kill(&mut self, n: usize) {
        self.servers[n - 1].process.kill();
    }

    /// Sends a signal to a server.
    pub fn signal(&self, n: usize, signal: &str) {
        send(&self.servers[n - 1].process, signal);
    }

    /// A killed server starts again where it was.
    pub fn revive(&mut self, n: usize) {
        let Server { address, mesh, links, .. } = &self.servers[n - 1];
        self.servers[n - 1] = self.start(n, address, mesh, links.clone(), &[]);
    }

    pub fn client(&self, name: &str, server: usize, more: &[&str]) -> Client {
        self.client_with(name, name, server, more)
    }

    /// One whose data is kept elsewhere.
    pub fn client_with(&self, name: &str, data: &str, server: usize, more: &[&str]) -> Client {
        std::fs::write(self.path("password"), "correct horse battery\n").unwrap();
        let mut command = secchat(self.dir.path());
        command.args(["client", "--json", "--trust-on-first-use", "--name", name]);
        command.args(["--server", &self.servers[server - 1].address]).args(more);
        command.arg("--data").arg(self.path(data));
        if !more.contains(&"--password-file") {
            command.arg("--password-file").arg(self.path("password"));
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                let Ok(told) = serde_json::from_str::<Value>(&line) else { continue };
                if sender.send(told).is_err() {
                    return;
                }
            }
        });
        Client { process: Process(child), input, events, seen: Vec::new(), transcript: Vec::new() }
    }

    /// The whole mesh is seen from every server, by clients that ask.
    pub fn settle(&self, client: &mut Client) {
        let until = Instant::now() + DEADLINE;
        loop {
            client.say("@server ping");
            let mut answered = 0;
            while answered < self.servers.len() {
                match client.next(Duration::from_secs(2)) {
                    Some(Event::Pong { .. }) => answered += 1,
                    Some(_) => {}
                    None => break,
                }
            }
            if answered == self.servers.len() {
                return;
            }
            assert!(Instant::now() < until, "{:?}", client.seen);
        }
    }
}

pub struct Client {
    process: Process,
    input: ChildStdin,
    events: Receiver<Value>,
    pub seen: Vec<Event>,
    /// The same as it was printed.
    pub transcript: Vec<Value>,
}

impl Client {
    pub fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub fn next(&mut self, within: Duration) -> Option<Event> {
        let until = Instant::now() + within;
        loop {
            let told = self.events.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
            self.transcript.push(told.clone());
            if let Ok(event) = serde_json::from_value::<Event>(told) {
                self.seen.push(event.clone());
                return Some(event);
            }
        }
    }

    pub fn wait(&mut self, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.next(left).unwrap_or_else(|| panic!("never {what}: {:#?}", self.seen));
            if fits(&event) {
                return event;
            }
        }
    }

    pub fn joined(&mut self) {
        self.wait("joined", |event| matches!(event, Event::Joined { .. }));
    }

    pub fn hears(&mut self, text: &str) {
        self.wait(text, |event| matches!(event, Event::Message { text: said, .. } if said == text));
    }

    /// Everything that was said to it in rooms.
    pub fn texts(&self) -> Vec<&str> {
        let text = |event: &'_ Event| matches!(event, Event::Message { .. });
        let said = self.seen.iter().filter(|event| text(event));
        said.filter_map(|event| if let Event::Message { text, .. } = event { Some(text.as_str()) } else { None })
            .collect()
    }

    /// The values of these keys in all events of these kinds, after the kind.
    pub fn told(&self, kinds: &[&str], keys: &[&str]) -> Vec<String> {
        let word = |event: &Value, key: &str| match event.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(value) => Some(value.to_string()),
            None => None,
        };
        let events = self.transcript.iter().filter(|event| kinds.contains(&event["event"].as_str().unwrap_or("")));
        events
            .map(|event| {
                let words = std::iter::once(&"event").chain(keys).filter_map(|key| word(event, key));
                words.collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    /// Ends it by a signal; its exit code.
    pub fn interrupt(mut self, signal: &str) -> Option<i32> {
        send(&self.process, signal);
        self.process.0.wait().unwrap().code()
    }

    /// Its exit code when it ends by itself, and all that it told.
    pub fn ended(mut self) -> (Option<i32>, Vec<Event>) {
        self.wait("the end", |event| matches!(event, Event::Bye { .. }));
        (self.process.0.wait().unwrap().code(), self.seen)
    }

    /// Ends it as a user does; its exit code.
    pub fn exit(mut self) -> Option<i32> {
        self.say("exit");
        self.wait("the end", |event| matches!(event, Event::Bye { .. }));
        self.process.0.wait().unwrap().code()
    }
}
