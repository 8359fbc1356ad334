//! Runs the pure core against the world: the link, the file side, the user's lines, the clock. IO.

use super::control::{Ask, Control, Jobs};
use super::core::{Core, CoreConfig};
use super::effects::{Effect, FilesCommand, Input, LinkInfo, SplitKeyMade, Start};
use super::event::Event;
use super::files::FilesHandle;
use super::scripts::Script;
use crate::crypto::identity::PublicKey;
use crate::crypto::room::RoomKeys;
use crate::crypto::rsa_split::SplitKey;
use crate::crypto::secret::Secret;
use crate::net::link::{self, Dial, LinkError};
use crate::net::queue::FrameSender;
use crate::wire::frame::{ToClient, ToServer};
use crate::wire::name::FullName;
use crate::wire::pin::ServerPin;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What a client is run with.
pub struct Options {
    /// The server, and as whom.
    pub dial: Dial,
    /// Of the core.
    pub core: CoreConfig,
    /// Rooms named on the command line.
    pub start: Option<Start>,
    /// `--exec` commands; when they are done the client leaves.
    pub exec: Vec<String>,
    /// Where events go.
    pub screen: Box<dyn Screen>,
    /// What is kept across runs.
    pub memory: Box<dyn Memory>,
    /// The directory in which other processes of the same user may hand over jobs; none are taken without one.
    pub control: Option<PathBuf>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("dial", &self.dial).finish_non_exhaustive()
    }
}

/// Shows events to the user.
pub trait Screen: Send {
    /// One event, and the tag of the command that it follows from.
    fn show(&mut self, wall_ms: u64, tag: Option<&str>, event: &Event);
    /// The room that bare text goes to now (`LABEL@SERVER`), if any; said before each event.
    fn in_room(&mut self, _room: Option<&str>) {}
    /// Whether a program reads it, which then writes the lines of input too.
    fn is_for_programs(&self) -> bool {
        false
    }
    /// A private room's password is missing: ask for it, or `None` where nobody can answer. May block.
    fn ask_password(&mut self, room: &str) -> Option<Secret>;
}

/// Keeps pins across runs. Both calls return once the pin is durable, or say why not.
pub trait Memory: Send {
    /// A server that was approved.
    fn pin_server(&mut self, pin: &ServerPin) -> Result<(), String>;
    /// A person's key.
    fn pin_person(&mut self, name: &FullName, key: &PublicKey) -> Result<(), String>;
}

/// What the user's side says.
#[derive(Debug)]
pub enum UserInput {
    /// A line.
    Line(String),
    /// No more lines will come.
    End,
    /// Ctrl-C, or SIGTERM.
    Interrupt,
}

/// How a client ended.
#[derive(Debug)]
pub enum Ended {
    /// With this exit code; why, was shown as events.
    Exit(u8),
    /// It never had a link, or lost its trust in the server.
    Link(Box<LinkError>),
}

/// Runs until the user leaves, the server refuses, or a script ends.
pub async fn run(options: Options, mut user: mpsc::Receiver<UserInput>, mut files: FilesHandle) -> Ended {
    let Options { dial, core, start, exec, screen, memory, control } = options;
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        return Ended::Exit(1);
    }
    let (news, mut link_news) = mpsc::channel(LINK_NEWS);
    let (derived, mut derivations) = mpsc::channel(4);
    let file_commands = files.commands();
    let mut control = Control::new(control.as_deref(), dial.endpoint.to_string());
    let mut script = Script::new(start.is_some(), exec);
    let mut driver = Driver {
        core: Core::new(core, seed),
        origin: Instant::now(),
        screen,
        memory,
        links: Links { dial, news, sender: None, task: None, generation: 0, tries: 0, ever: false },
        files: VecDeque::new(),
        jobs: Jobs::default(),
        derived,
        ended: None,
        interrupted: false,
    };
    if let Some(start) = start {
        driver.input(Input::Start(Box::new(start)), &mut script);
    }
    driver.go_on(&mut script);
    driver.links.dial_after(Duration::ZERO);
    let mut listening = true;
    while driver.ended.is_none() {
        let timeout = driver.core.next_timeout().map(|at| tokio::time::Instant::from_std(driver.origin + at));
        let until = timeout.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            biased;
            Some((generation, change)) = link_news.recv() => {
                if let LinkChange::Up(info, ..) = &change {
                    files.set_server(&driver.links.dial.endpoint.host, info.welcome.stun_port);
                }
                driver.link_changed(generation, change, &mut script);
            }
            Some(event) = files.next() => driver.input(Input::Files(event), &mut script),
            Ok(permit) = file_commands.reserve(), if !driver.files.is_empty() => {
                if let Some(command) = driver.files.pop_front() {
                    permit.send(command);
                }
            }
            Some(derived) = derivations.recv() => driver.input(derived, &mut script),
            said = user.recv(), if listening => match said {
                Some(UserInput::Line(line)) => driver.line(&line, &mut script),
                Some(UserInput::Interrupt) => driver.interrupt(&mut script),
                Some(UserInput::End) | None => {
                    listening = false;
                    driver.end_of_input(&mut script);
                }
            },
            ask = control.next() => driver.asked(ask, &mut script),
            () = tokio::time::sleep_until(until) => driver.input(Input::Timeout, &mut script),
        }
    }
    // Who still has news for us hears that nobody listens.
    drop(link_news);
    drop(std::mem::take(&mut driver.jobs));
    tokio::join!(driver.links.close(), control.close());
    driver.ended.unwrap_or(Ended::Exit(0))
}

struct Driver {
    core: Core,
    origin: Instant,
    screen: Box<dyn Screen>,
    memory: Box<dyn Memory>,
    links: Links,
    /// Commands to the file side that wait for room there; the core bounds how many transfers it runs.
    files: VecDeque<FilesCommand>,
    /// What other processes wait for.
    jobs: Jobs,
    /// For what is computed on other threads.
    derived: mpsc::Sender<Input>,
    ended: Option<Ended>,
    interrupted: bool,
}

impl Driver {
    fn input(&mut self, input: Input, script: &mut Script) {
        self.core.handle(self.origin.elapsed(), wall_ms(), input);
        while let Some(effect) = self.core.poll_effect() {
            if let Some(answer) = self.carry_out(effect, script) {
                self.core.handle(self.origin.elapsed(), wall_ms(), answer);
            }
            if self.ended.is_some() {
                return;
            }
        }
        self.go_on(script);
    }

    /// The next `--exec` command, once the one before it is done.
    fn go_on(&mut self, script: &mut Script) {
        if let Some(line) = script.next_line() {
            self.input(Input::Command { line, tag: None }, script);
        }
    }

    fn line(&mut self, line: &str, script: &mut Script) {
        match super::commands::read_line(line, self.screen.is_for_programs()) {
            Ok((line, tag)) => {
                script.typed();
                self.input(Input::Command { line, tag }, script);
            }
            Err(error) => {
                let event = Event::Error { code: error.code().into(), message: error.to_string(), hint: None };
                self.screen.show(wall_ms(), None, &event);
            }
        }
    }

    /// Another process wants something, or no more.
    fn asked(&mut self, ask: Ask, script: &mut Script) {
        match ask {
            Ask::Fetch(fetch, lines) => {
                script.typed();
                self.jobs.add(fetch.tag.clone(), lines);
                self.input(Input::Fetch(fetch), script);
            }
            Ask::Gone(tag) => {
                self.jobs.forget(&tag);
                self.input(Input::GiveUp { tag }, script);
            }
        }
    }

    fn end_of_input(&mut self, script: &mut Script) {
        if !script.is_running() {
            self.input(Input::EndOfInput, script);
        }
    }

    fn interrupt(&mut self, script: &mut Script) {
        // Before the first link there is nothing to leave.
        if self.interrupted || !self.links.ever {
            self.ended = Some(Ended::Exit(INTERRUPTED));
            return;
        }
        self.interrupted = true;
        script.typed();
        self.input(Input::Command { line: "exit".into(), tag: None }, script);
    }

    /// Does what the core wants; some wishes are answered at once.
    fn carry_out(&mut self, effect: Effect, script: &mut Script) -> Option<Input> {
        match effect {
            Effect::Send(frame) => self.links.send(&frame),
            Effect::Event { tag: Some(tag), event } if self.jobs.has(&tag) => self.jobs.show(wall_ms(), &tag, &event),
            Effect::Event { tag, event } => {
                self.screen.in_room(self.core.rooms().first().map(String::as_str));
                self.screen.show(wall_ms(), tag.as_deref(), &event);
            }
            Effect::Files(FilesCommand::PrepareOffer { offer, path }) => {
                self.files.push_back(FilesCommand::PrepareOffer { offer, path: at_home(path) });
            }
            Effect::Files(command) => self.files.push_back(command),
            Effect::DeriveRoom { ticket, password, room } => {
                let derived = self.derived.clone();
                tokio::task::spawn_blocking(move || {
                    let keys = RoomKeys::derive(&password, &room.0);
                    let _ = derived.blocking_send(Input::RoomDerived { ticket, keys: Box::new(keys) });
                });
            }
            Effect::MakeSplitKey { transfer, seed } => {
                let derived = self.derived.clone();
                tokio::task::spawn_blocking(move || {
                    let made = SplitKey::generate(&mut ChaCha20Rng::from_seed(*seed)).ok();
                    let made = made.map(|(key, public, path)| Box::new(SplitKeyMade { key, public, path }));
                    let _ = derived.blocking_send(Input::SplitKey { transfer, made });
                });
            }
            Effect::AskPassword { number, room } => {
                let password = tokio::task::block_in_place(|| self.screen.ask_password(&room));
                return Some(Input::Password { number, password });
            }
            Effect::Pin { name, key } => {
                if let Err(reason) = self.memory.pin_person(&name, &key) {
                    self.disk_trouble(reason);
                }
            }
            Effect::CommandDone { number, code, tag } => {
                self.jobs.done(tag.as_deref(), code);
                if let Some(code) = script.done(number, code) {
                    script.finish(code);
                }
            }
            Effect::DropLink { reason } => {
                tracing::debug!(reason, "link dropped");
                self.links.drop_link();
                self.links.dial_again();
            }
            Effect::Exit(code) => {
                let code = if code != 0 {
                    code
                } else if self.interrupted {
                    INTERRUPTED
                } else {
                    script.exit_code()
                };
                self.ended = Some(Ended::Exit(code));
            }
        }
        None
    }

    fn disk_trouble(&mut self, reason: String) {
        let hint = Some("check the data directory's space and permissions".to_owned());
        let event = Event::Error { code: "disk".into(), message: reason, hint };
        self.screen.show(wall_ms(), None, &event);
    }

    fn link_changed(&mut self, generation: u64, change: LinkChange, script: &mut Script) {
        if generation != self.links.generation {
            return;
        }
        match change {
            LinkChange::Up(info, pin, sender) => {
                if let Err(reason) = self.memory.pin_server(&pin) {
                    self.disk_trouble(reason);
                }
                self.links.up(*pin, sender);
                self.input(Input::LinkUp(info), script);
            }
            LinkChange::Frame(frame) => self.input(Input::Frame(frame), script),
            LinkChange::Down(error) => self.link_down(error, script),
        }
    }

    fn link_down(&mut self, error: LinkError, script: &mut Script) {
        self.links.drop_link();
        let reason = error.to_string();
        match error {
            LinkError::Refused(refusal) => self.input(Input::LinkDown { reason, fatal: Some(refusal) }, script),
            error if !self.links.ever || !passes(&error) => self.ended = Some(Ended::Link(Box::new(error))),
            _ => {
                self.input(Input::LinkDown { reason, fatal: None }, script);
                self.links.dial_again();
            }
        }
    }
}

/// Whether trying again may help: the way there failed, not the server's identity.
const fn passes(error: &LinkError) -> bool {
    matches!(error, LinkError::Unreachable { .. } | LinkError::Tls { .. } | LinkError::Silent | LinkError::Broken(_))
}

enum LinkChange {
    Up(Box<LinkInfo>, Box<ServerPin>, FrameSender),
    Frame(ToClient),
    Down(LinkError),
}

/// The present link and the attempts at the next one.
struct Links {
    dial: Dial,
    news: mpsc::Sender<(u64, LinkChange)>,
    sender: Option<FrameSender>,
    task: Option<JoinHandle<()>>,
    /// Counts attempts, so that news of an earlier one is ignored.
    generation: u64,
    tries: u32,
    /// Whether there ever was a link.
    ever: bool,
}

impl Links {
    fn dial_after(&mut self, pause: Duration) {
        self.generation += 1;
        let (generation, dial, news) = (self.generation, self.dial.clone(), self.news.clone());
        let dialling = async move {
            tokio::time::sleep(pause).await;
            hold_link(generation, dial, news).await;
        };
        self.task = Some(tokio::spawn(dialling));
    }

    /// Back-off: 50 ms at first, doubled up to 5 s.
    fn dial_again(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.tries.min(7)).min(LAST_PAUSE);
        self.tries += 1;
        self.dial_after(pause);
    }

    fn up(&mut self, pin: ServerPin, sender: FrameSender) {
        self.dial.trust.at_address = Some(pin);
        self.ever = true;
        self.tries = 0;
        self.sender = Some(sender);
    }

    fn send(&self, frame: &ToServer) {
        if let Some(sender) = &self.sender {
            // A full queue or a closed link shows as the end of the link.
            let _ = sender.send(frame.to_bytes().into());
        }
    }

    fn drop_link(&mut self) {
        self.generation += 1;
        self.sender = None;
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    async fn close(&mut self) {
        let (Some(sender), Some(task)) = (self.sender.take(), self.task.take()) else { return };
        let _ = sender.send(ToServer::Goodbye.to_bytes().into());
        sender.close();
        // It ends when all is written and the server has closed its side too.
        let _ = tokio::time::timeout(GOODBYE, task).await;
    }
}

/// One link, from the dialling to its end.
async fn hold_link(generation: u64, dial: Dial, news: mpsc::Sender<(u64, LinkChange)>) {
    let tell = async |change| news.send((generation, change)).await.is_ok();
    let (established, sender, mut receiver) = match link::connect(&dial).await {
        Ok(parts) => parts,
        Err(error) => {
            tell(LinkChange::Down(error)).await;
            return;
        }
    };
    let info = LinkInfo {
        server: established.server,
        server_key: established.server_key,
        tls: established.tls,
        welcome: established.welcome,
    };
    if !tell(LinkChange::Up(Box::new(info), Box::new(established.pin), sender)).await {
        return;
    }
    let end = loop {
        match receiver.next().await {
            Ok(Some(frame)) => {
                if !tell(LinkChange::Frame(frame)).await {
                    receiver.finish().await;
                    return;
                }
            }
            Ok(None) => break LinkError::Broken("the server closed it".into()),
            Err(error) => break error,
        }
    };
    tell(LinkChange::Down(end)).await;
}

/// `~/…` as a shell would have it.
fn at_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Frames that may wait between the link and the core; more wait in the socket, which slows the server down.
const LINK_NEWS: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
const GOODBYE: Duration = Duration::from_secs(2);
/// The exit code of an interrupted process.
const INTERRUPTED: u8 = 130;
