//! Real servers in a mesh and real clients: a server is killed, and its people go on through another one.

use secchat::client::event::Event;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};

const DEADLINE: Duration = Duration::from_secs(60);
const BACK: Duration = Duration::from_secs(5);

fn secchat(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secchat"));
    command.env_clear().env("HOME", home).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Killed when dropped.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Server {
    process: Process,
    address: String,
    mesh: String,
}

struct Mesh {
    dir: TempDir,
    servers: Vec<Server>,
}

impl Mesh {
    /// `s1`, `s2` and so on, each linked with all before it.
    fn new(count: usize) -> Self {
        let dir = tempdir().unwrap();
        let certs = dir.path().join("certs");
        let mut mesh = Self { dir, servers: Vec::new() };
        mesh.run(&["cert", "init", certs.to_str().unwrap(), "--mesh"]);
        for n in 1..=count {
            mesh.run(&["cert", "issue", certs.to_str().unwrap(), &format!("s{n}")]);
            let server = mesh.start(n);
            mesh.servers.push(server);
        }
        mesh
    }

    fn run(&self, arguments: &[&str]) {
        let output = secchat(self.dir.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, n: usize) -> Server {
        let mut command = secchat(self.dir.path());
        command.args(["server", "--listen", "127.0.0.1:0", "--mesh-listen", "127.0.0.1:0", "--name", &format!("s{n}")]);
        command.arg("--mesh-certs").arg(self.path("certs").join(format!("s{n}")));
        command.arg("--data").arg(self.path(&format!("server{n}")));
        for other in &self.servers {
            command.args(["--link", &other.mesh]);
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
        Server { process: Process(child), address, mesh }
    }

    fn client(&self, name: &str, server: usize, more: &[&str]) -> Client {
        std::fs::write(self.path("password"), "correct horse battery\n").unwrap();
        let mut command = secchat(self.dir.path());
        command.args(["client", "--json", "--trust-on-first-use", "--name", name]);
        command.args(["--server", &self.servers[server - 1].address]).args(more);
        command.arg("--data").arg(self.path(name)).arg("--password-file").arg(self.path("password"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                let Ok(told) = serde_json::from_str::<Told>(&line) else { continue };
                if sender.send(told.event).is_err() {
                    return;
                }
            }
        });
        Client { _process: Process(child), input, events, seen: Vec::new() }
    }

    /// The whole mesh is seen from every server, by clients that ask.
    fn settle(&self, client: &mut Client) {
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

#[derive(Deserialize)]
struct Told {
    #[serde(flatten)]
    event: Event,
}

struct Client {
    _process: Process,
    input: ChildStdin,
    events: Receiver<Event>,
    seen: Vec<Event>,
}

impl Client {
    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn next(&mut self, within: Duration) -> Option<Event> {
        let event = self.events.recv_timeout(within).ok()?;
        self.seen.push(event.clone());
        Some(event)
    }

    fn wait(&mut self, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.next(left).unwrap_or_else(|| panic!("never {what}: {:#?}", self.seen));
            if fits(&event) {
                return event;
            }
        }
    }

    fn hears(&mut self, text: &str) {
        self.wait(text, |event| matches!(event, Event::Message { text: said, .. } if said == text));
    }

    fn texts(&self) -> Vec<&str> {
        let text = |event: &'_ Event| matches!(event, Event::Message { .. });
        let said = self.seen.iter().filter(|event| text(event));
        said.filter_map(|event| if let Event::Message { text, .. } = event { Some(text.as_str()) } else { None })
            .collect()
    }
}

#[test]
fn who_loses_its_server_is_back_in_its_room_within_five_seconds_and_has_missed_nothing() {
    let mut mesh = Mesh::new(3);
    let mut alice = mesh.client("alice", 1, &["--room", "den", "--create", "--private"]);
    alice.wait("made", |event| matches!(event, Event::Joined { .. }));
    mesh.settle(&mut alice);
    let mut bob = mesh.client("bob", 2, &["--room", "den@s1"]);
    bob.wait("joined", |event| matches!(event, Event::Joined { .. }));
    let mut stays = mesh.client("stays", 2, &["--room", "den@s1", "--no-roam"]);
    stays.wait("joined", |event| matches!(event, Event::Joined { .. }));
    bob.say("@server ping");
    bob.wait("s3", |event| matches!(event, Event::Pong { target, .. } if target == "s3"));

    for n in 0..20 {
        alice.say(&format!("before {n}"));
    }
    bob.hears("before 10");
    mesh.servers[1].process.kill();
    let killed = Instant::now();
    for n in 0..20 {
        alice.say(&format!("after {n}"));
    }
    bob.say("still here");
    alice.hears("still here");
    assert!(killed.elapsed() < BACK, "{:?}", killed.elapsed());
    bob.hears("after 19");
    assert!(killed.elapsed() < BACK, "{:?}", killed.elapsed());
    let expected: Vec<String> =
        ["before", "after"].iter().flat_map(|word| (0..20).map(move |n| format!("{word} {n}"))).collect();
    assert_eq!(bob.texts(), expected, "all, once, in order");
    let names = |client: &Client| -> Vec<String> {
        let name = |event: &Event| matches!(event, Event::Connected { .. }).then(|| event.clone());
        let connected = client.seen.iter().filter_map(name);
        connected.filter_map(|e| if let Event::Connected { name, .. } = e { Some(name) } else { None }).collect()
    };
    assert_eq!(names(&bob), ["bob@s2", "bob@s2"]);

    // Who was told to stay waits for its own server, and is back when that is.
    while stays.next(Duration::from_millis(10)).is_some() {}
    assert_eq!(names(&stays), ["stays@s2"]);
    assert!(matches!(stays.seen.last(), Some(Event::Reconnecting { .. })), "{:?}", stays.seen.last());

    // A new process keeps the name too, though the server that gave it is gone.
    drop(bob);
    let mut bob = mesh.client("bob", 3, &["--room", "den@s1"]);
    bob.wait("joined", |event| matches!(event, Event::Joined { .. }));
    assert_eq!(names(&bob), ["bob@s2"]);
    bob.say("new process");
    alice.wait("bob", |e| matches!(e, Event::Message { from, text, .. } if from == "bob@s2" && text == "new process"));
}
