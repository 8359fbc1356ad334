//! Runs the pure core against the world: the link, the file side, the user's lines, the clock. IO.

use super::control::{Ask, Control, Jobs};
use super::core::{Core, CoreConfig};
use super::dialling::{FIRST_PAUSE, LinkChange, Links};
use super::effects::{Effect, FilesCommand, Input, SplitKeyMade, Start};
use super::event::Event;
use super::files::FilesHandle;
use super::roaming::Routes;
use super::scripts::Script;
use crate::crypto::identity::PublicKey;
use crate::crypto::room::RoomKeys;
use crate::crypto::rsa_split::SplitKey;
use crate::crypto::secret::Secret;
use crate::limits::RELAY_BATCHES;
use crate::net::link::{Dial, LinkError};
use crate::wire::endpoint::Endpoint;
use crate::wire::frame::Code;
use crate::wire::frame::ToServer;
use crate::wire::home::HomeCard;
use crate::wire::name::FullName;
use crate::wire::pin::ServerPin;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// What a client is run with.
pub struct Options {
    /// The server, and as whom.
    pub dial: Dial,
    /// The ways to a server; the dial's own endpoint is the first.
    pub routes: Routes,
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

/// Keeps pins across runs. Calls that keep something return once it is durable, or say why not.
pub trait Memory: Send {
    /// A server that was approved.
    fn pin_server(&mut self, pin: &ServerPin) -> Result<(), String>;
    /// A person's key.
    fn pin_person(&mut self, name: &FullName, key: &PublicKey) -> Result<(), String>;
    /// Our name, and the mesh in which it counts.
    fn keep_home(&mut self, card: &HomeCard) -> Result<(), String>;
    /// What was sent lately.
    fn keep_ledger(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// The server that was approved at an address.
    fn server_at(&self, address: &str) -> Option<ServerPin>;
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
    let Options { dial, routes, core, start, exec, screen, memory, control } = options;
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        return Ended::Exit(1);
    }
    let given = dial.endpoint.to_string();
    let (links, mut link_news) = Links::new(dial, routes);
    let (derived, mut derivations) = mpsc::channel(4);
    let file_commands = files.commands();
    let mut control = Control::new(control.as_deref(), given);
    let mut script = Script::new(start.is_some(), exec);
    let mut driver = Driver {
        core: Core::new(core, seed),
        origin: Instant::now(),
        screen,
        memory,
        links,
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
    if driver.links.choose() {
        driver.dial(Duration::ZERO);
    }
    let mut listening = true;
    while driver.ended.is_none() {
        let timeout = driver.core.next_timeout().map(|at| tokio::time::Instant::from_std(driver.origin + at));
        let until = timeout.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            biased;
            Some((generation, change)) = link_news.recv() => {
                if let LinkChange::Up(info, ..) = &change {
                    files.set_server(driver.links.host(), info.welcome.stun_port);
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
                // Signals come the same way, and still count.
                Some(UserInput::End) => driver.end_of_input(&mut script),
                None => listening = false,
            },
            ask = control.next() => driver.asked(ask, &mut script),
            () = tokio::time::sleep_until(until) => driver.input(Input::Timeout, &mut script),
        }
    }
    // Who still has news for us hears that nobody listens.
    drop(link_news);
    drop(std::mem::take(&mut driver.jobs));
    let goodbye = if driver.interrupted { HASTY_GOODBYE } else { GOODBYE };
    tokio::join!(driver.links.close(goodbye), control.close());
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
            Ask::Admin(tag, request, lines) => {
                script.typed();
                self.jobs.add(tag.clone(), lines);
                let server = self.memory.server_at(&request.server).map(|pin| pin.server);
                self.input(Input::Admin { tag, server, ask: Box::new(request.admin) }, script);
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
        self.input(Input::Interrupt, script);
    }

    /// Does what the core wants; some wishes are answered at once.
    fn carry_out(&mut self, effect: Effect, script: &mut Script) -> Option<Input> {
        match effect {
            // What is relayed is dropped rather than put before what people say.
            Effect::Send(frame @ ToServer::RelayData(_)) => self.links.send_behind(&frame),
            Effect::Files(FilesCommand::RelayIn(_)) if self.files.len() >= RELAY_BATCHES => {}
            Effect::Send(frame) => self.links.send(&frame),
            Effect::Event { tag: Some(tag), event } if self.jobs.has(&tag) => self.jobs.show(wall_ms(), &tag, &event),
            Effect::Event { tag, event } => {
                self.screen.in_room(self.core.rooms().first().map(String::as_str));
                self.screen.show(wall_ms(), tag.as_deref(), &event);
            }
            Effect::Files(FilesCommand::PrepareOffer { offer, path, rules }) => {
                self.files.push_back(FilesCommand::PrepareOffer { offer, path: at_home(path), rules });
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
            Effect::KeepHome(card) => {
                if let Err(reason) = self.memory.keep_home(&card) {
                    self.disk_trouble(reason);
                }
                self.links.learn(*card);
            }
            Effect::KeepLedger(bytes) => {
                if let Err(reason) = self.memory.keep_ledger(&bytes) {
                    self.disk_trouble(reason);
                }
            }
            Effect::CommandDone { number, code, tag } => {
                self.jobs.done(tag.as_deref(), code);
                if let Some(code) = script.done(number, code) {
                    script.finish(code);
                }
            }
            Effect::Answer { tag, answer } => {
                self.jobs.answer(&tag, serde_json::to_string(&answer).unwrap_or_default())
            }
            Effect::DropLink { reason } => {
                tracing::debug!(reason, "link dropped");
                self.links.drop_link();
                self.dial_again();
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
                self.links.up(sender);
                self.input(Input::LinkUp(info), script);
            }
            LinkChange::Frame(frame) => self.input(Input::Frame(frame), script),
            LinkChange::Down(error) => self.link_down(error, script),
            LinkChange::Measured(times) => self.measured(&times, script),
        }
    }

    /// Before the first link the closest is dialled; later the client moves if another one is much closer.
    fn measured(&mut self, times: &[(Endpoint, Option<Duration>)], script: &mut Script) {
        let moves = self.links.routes.measured(times);
        if !self.links.ever {
            return self.dial(Duration::ZERO);
        }
        if moves {
            self.links.drop_link();
            self.input(Input::LinkDown { reason: "another server is closer".into(), fatal: None }, script);
            self.dial(Duration::ZERO);
        }
    }

    fn link_down(&mut self, error: LinkError, script: &mut Script) {
        let was_up = self.links.is_up();
        self.links.drop_link();
        let (reason, others, ever) = (error.to_string(), self.links.routes.has_more(), self.links.ever);
        match error {
            LinkError::Refused(refusal) if !others && (!ever || refusal.code != Code::TooMany) => {
                self.input(Input::LinkDown { reason, fatal: Some(refusal) }, script);
            }
            error if !others && (!ever || !passes(&error)) => self.ended = Some(Ended::Link(Box::new(error))),
            error => {
                self.input(Input::LinkDown { reason, fatal: None }, script);
                if was_up {
                    // It may have been the line only.
                    self.dial(FIRST_PAUSE);
                } else if !passes(&error) && self.links.routes.drop_present() {
                    self.dial(Duration::ZERO);
                } else {
                    self.dial_again();
                }
            }
        }
    }

    /// The next way at once; after the last one with a back-off.
    fn dial_again(&mut self) {
        let pause = if self.links.routes.next_one() { Duration::ZERO } else { self.links.back_off() };
        self.dial(pause);
    }

    fn dial(&mut self, pause: Duration) {
        if self.ended.is_none() {
            let address = self.links.routes.present().map(|route| route.endpoint.to_string());
            let pin = address.and_then(|address| self.memory.server_at(&address));
            self.links.dial_after(pause, pin);
        }
    }
}

/// Whether trying again may help: the way there failed, or the server is not in the mood, not its identity.
const fn passes(error: &LinkError) -> bool {
    use LinkError::{Broken, Refused, Silent, Tls, Unreachable};
    matches!(error, Unreachable { .. } | Tls { .. } | Silent | Broken(_) | Refused(_))
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

/// Until the server has closed its side too.
const GOODBYE: Duration = Duration::from_secs(2);
/// The same where somebody waits for the prompt, or the machine for its shutdown.
const HASTY_GOODBYE: Duration = Duration::from_millis(500);
/// The exit code of an interrupted process.
const INTERRUPTED: u8 = 130;
