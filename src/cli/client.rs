//! `secchat client`: rooms, messages and files from a terminal or a script.

use super::exit::ExitCode;
use super::places;
use super::report::Report;
use super::secrets::{PassphraseArgs, from_file_or_descriptor};
use super::tuning::Tuning;
use crate::client::core::{CoreConfig, FileRules};
use crate::client::driver::{self, Ended, Memory, Options, Screen};
use crate::client::effects::Start;
use crate::client::event::Event;
use crate::client::files::{self, FilesConfig};
use crate::client::keyboard::Keyboard;
use crate::client::roaming::Routes;
use crate::client::screen::{JsonScreen, LineScreen};
use crate::crypto::identity::PublicKey;
use crate::crypto::secret::Secret;
use crate::net::link::Dial;
use crate::net::pem;
use crate::net::trust::{Presented, Trust};
use crate::store::client::ClientStore;
use crate::store::{identity, ledger};
use crate::transfer::slots::DEFAULT_SLOTS;
use crate::wire::endpoint::Endpoint;
use crate::wire::home::HomeCard;
use crate::wire::id::Id;
use crate::wire::invite::{INVITE_MAX, Invite, InviteError};
use crate::wire::name::{FullName, Name};
use crate::wire::pin::ServerPin;
use crate::wire::text::shown;
use crate::wire::token::Token;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Whom to reach, and as whom: shared by `client` and `fetch`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reach {
    /// Server to join, or several of one mesh with commas between them; the port is 7443 where none is given
    #[arg(long, value_name = "HOST[:PORT],…", env = "SECCHAT_SERVER", conflicts_with_all = ["invite", "invite_file"])]
    pub server: Option<String>,
    /// Invite to a server or a room; `-` reads it from standard input, which one with a secret must be
    #[arg(long, value_name = "URL|-", conflicts_with = "invite_file")]
    pub invite: Option<String>,
    /// File that holds an invite
    #[arg(long, value_name = "FILE")]
    pub invite_file: Option<PathBuf>,
    /// Stay with the server that is given, though others of its mesh may be closer, or it may go away
    #[arg(long)]
    pub no_roam: bool,
    /// Your name on this server, or the one that you have on another server of its mesh
    #[arg(long, value_name = "NAME", env = "SECCHAT_NAME")]
    pub name: Option<String>,
    /// Room to join; ROOM@SERVER where it is on another server of the mesh
    #[arg(long, value_name = "ROOM", env = "SECCHAT_ROOM")]
    pub room: Option<String>,
    /// File whose first line is the room's password
    #[arg(long, value_name = "FILE", conflicts_with = "password_fd")]
    pub password_file: Option<PathBuf>,
    /// Open file descriptor to read the room's password from
    #[arg(long, value_name = "N")]
    pub password_fd: Option<u32>,
    /// File whose first line is an invitation, for a new name on a server that wants one
    #[arg(long, value_name = "FILE", conflicts_with = "token_fd")]
    pub token_file: Option<PathBuf>,
    /// Open file descriptor to read the invitation from
    #[arg(long, value_name = "N")]
    pub token_fd: Option<u32>,
    /// Authorities that vouch for servers, PEM
    #[arg(long, value_name = "PEM", env = "SECCHAT_CA")]
    pub ca: Option<PathBuf>,
    /// Trust a server that was never met, without asking (for scripts; the key is pinned)
    #[arg(long)]
    pub trust_on_first_use: bool,
    #[command(flatten)]
    /// Opens the identity.
    pub passphrase: PassphraseArgs,
    /// Directory for identity, pins and settings; one running client each
    #[arg(long, value_name = "DIR", env = "SECCHAT_DATA")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    /// How files travel.
    pub tuning: Tuning,
}

/// Options of `secchat client`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ClientArgs {
    /// Whom to reach.
    #[command(flatten)]
    pub reach: Reach,
    /// Create the room instead of joining it
    #[arg(long, requires = "room")]
    pub create: bool,
    /// With --create: only who has the password may join (one is generated where none is given)
    #[arg(long, requires = "create")]
    pub private: bool,
    /// Folder to share files from; nothing in it is shared until you say so
    #[arg(long, value_name = "DIR", env = "SECCHAT_SHARE", help_heading = "Files")]
    pub share: Option<PathBuf>,
    /// Where fetched files go
    #[arg(long, value_name = "DIR", env = "SECCHAT_DOWNLOADS", help_heading = "Files")]
    pub downloads: Option<PathBuf>,
    /// Uploads at once; further askers stand in line
    #[arg(short = 'p', long, value_name = "N", env = "SECCHAT_UPLOADS", help_heading = "Files")]
    pub uploads: Option<u32>,
    /// Take whatever this person offers without being asked; may be repeated
    #[arg(long, value_name = "NAME", value_parser = person, help_heading = "Files")]
    pub accept_from: Vec<String>,
    /// One JSON object a line on standard output, commands or objects on standard input
    #[arg(long)]
    pub json: bool,
    /// Run a command, wait for its result, then leave; may be repeated
    #[arg(long, value_name = "CMD")]
    pub exec: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  secchat client --server chat.example.org --name bob
        asks for what is missing
  secchat client --server chat.example.org --name alice --room lab --create --private
        makes a private room and prints its secret
  secchat client --server a.example.org,b.example.org --name carol --room lab@s1
        goes through the closest of the mesh, and on through another one if that dies
  secchat client --invite-file invite.txt --name bob
        joins what the invite names
  secchat client --server chat.example.org --name bot --room ops --exec 'build 17 is green'
        says one line and leaves
  secchat client --invite-file invite.txt --name bob --up 20mbit --accept-from alice
        sends files at 20 Mbit/s at most, and takes what alice offers without a question
Then type text for the room, @NAME text for one person, @all whohas *.iso, @NAME getfile FILE, @NAME sendfile PATH,
@me accept ID, /help, exit.";

/// Runs the command; gives the exit code of the process. With `--json` a failure is told as events too.
pub fn run(args: ClientArgs) -> Result<ExitCode, Report> {
    let json = args.json;
    run_client(args).inspect_err(|report| {
        if json {
            report.events().iter().for_each(|event| JsonScreen.show(wall_ms(), None, event));
        }
    })
}

fn run_client(args: ClientArgs) -> Result<ExitCode, Report> {
    let data = &data_dir(&args.reach)?;
    let keyboard = Keyboard::default();
    let screen: Box<dyn Screen> =
        if args.json { Box::new(JsonScreen) } else { Box::new(LineScreen::new(keyboard.clone())) };
    let interactive = !args.json && args.exec.is_empty() && std::io::stdin().is_terminal();
    let asked = Asked::complete(&args, interactive)?;
    let reached =
        Reached::new(&args.reach, asked.name.clone(), &asked.invite, data, interactive.then(|| keyboard.clone()))?;
    let mut screen = screen;
    if let Some(harm) = &args.reach.tuning.inject {
        let text = format!("--inject harms every datagram of files that leaves or comes here: {harm}");
        screen.show(wall_ms(), None, &Event::Notice { from: "inject".into(), text });
    }
    let downloads = args.downloads.clone().or_else(places::downloads_dir).unwrap_or_else(|| data.join("downloads"));
    let loopback = reached.on_this_machine();
    let files = args.reach.tuning.files(args.share.clone(), downloads, data.to_owned(), loopback);
    let rules = args.reach.tuning.rules(args.uploads.unwrap_or(DEFAULT_SLOTS), args.accept_from.clone());
    let start = asked.start(&args)?;
    let scripted = !interactive;
    reached.run(Job {
        files,
        rules,
        start,
        exec: args.exec,
        screen,
        keyboard,
        scripted,
        control: Some(data.to_owned()),
    })
}

/// What a client does once it has a link.
pub struct Job {
    /// The file side.
    pub files: FilesConfig,
    /// How files are fetched and sent.
    pub rules: FileRules,
    /// Rooms named on the command line.
    pub start: Option<Start>,
    /// Commands to run, then leave.
    pub exec: Vec<String>,
    /// Where events go.
    pub screen: Box<dyn Screen>,
    /// Where lines come from.
    pub keyboard: Keyboard,
    /// Nobody is there to try again.
    pub scripted: bool,
    /// The directory in which other processes may hand over jobs.
    pub control: Option<PathBuf>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The command line's wishes, with what was missing asked for.
struct Asked {
    name: String,
    room: Option<String>,
    create: bool,
    private: bool,
    invite: Option<Invite>,
}

impl Asked {
    fn complete(args: &ClientArgs, interactive: bool) -> Result<Self, Report> {
        let invite = read_invite(&args.reach)?;
        let name = match &args.reach.name {
            Some(name) => name.clone(),
            None if interactive => ask_for("your name: ")?,
            None => {
                return Err(Report::new(ExitCode::Usage, "no name is given").hint("say --name NAME"));
            }
        };
        let mut asked =
            Self { name, room: args.reach.room.clone(), create: args.create, private: args.private, invite };
        let invited = asked.invite.as_ref().is_some_and(|invite| invite.room.is_some());
        if asked.room.is_none() && !invited && interactive {
            asked.create = ask_either("create a room or join one? [c/j] ", 'c', 'j')?;
            asked.room = Some(ask("room: ")?).filter(|room| !room.is_empty());
            asked.private = asked.create && ask_either("private? [y/n] ", 'y', 'n')?;
        }
        Ok(asked)
    }

    fn start(self, args: &ClientArgs) -> Result<Option<Start>, Report> {
        let password = password(&args.reach)?;
        Ok(match (self.room, self.invite) {
            (Some(room), _) if self.create => Some(Start::Create { room, private: self.private, password }),
            (Some(room), _) => Some(Start::Join { room, password }),
            (None, Some(invite)) if invite.room.is_some() => {
                Some(Start::Invited { invite: Box::new(invite), password })
            }
            (None, _) => None,
        })
    }
}

/// A server to reach, with the identity and the pins of the data directory.
#[derive(Debug)]
pub struct Reached {
    dial: Dial,
    routes: Routes,
    core: CoreConfig,
    store: ClientStore,
    data: PathBuf,
}

impl Reached {
    /// Opens the data directory and puts together what is known of the server. `person` is whom to ask what is not known.
    pub fn new(
        reach: &Reach,
        name: String,
        invite: &Option<Invite>,
        data: &Path,
        person: Option<Keyboard>,
    ) -> Result<Self, Report> {
        let interactive = person.is_some();
        let given = endpoints(reach, invite.as_ref(), interactive)?;
        let endpoint = given.first().cloned().ok_or_else(no_server)?;
        let store = ClientStore::open(data)?;

        let passphrase = reach.passphrase.given()?;
        let identity = identity::load_or_create(data, passphrase.as_ref())?;
        let ask = ask_for_trust(reach.trust_on_first_use, person);
        let trust = Trust {
            at_address: store.server_at(&endpoint.to_string())?,
            names: store.servers()?,
            within: None,
            invite: invite.as_ref().map(|invite| (invite.pin, invite.server.clone())),
            ask,
        };
        let authority = reach.ca.as_deref().map(pem::load_authorities).transpose()?;
        let (pins, homes) = (store.names()?, store.homes()?);
        let mut routes = Routes::new(given.clone(), !reach.no_roam);
        known_mesh(&store, &homes, &name, &given).into_iter().for_each(|card| routes.learn(card));
        let mut instance = Id::default();
        getrandom::fill(&mut instance.0).map_err(|e| Report::new(ExitCode::Failed, e.to_string()))?;
        let core = CoreConfig {
            identity: identity.clone(),
            instance,
            homes: homes.clone(),
            pins,
            endpoint: Some((endpoint.host.clone(), endpoint.port)),
            scripted: !interactive,
            files: FileRules::default(),
            ledger: ledger::load(data),
        };
        let token = token(reach)?;
        let dial = Dial { endpoint, identity, name, instance, authority, trust, homes, token };
        Ok(Self { dial, routes, core, store, data: data.to_owned() })
    }

    /// Whether the server is reached over loopback, so that peers may be on this machine.
    pub fn on_this_machine(&self) -> bool {
        self.dial.endpoint.is_loopback()
    }

    /// Runs the client to its end.
    pub fn run(self, job: Job) -> Result<ExitCode, Report> {
        let files = files::start(job.files)?;
        let options = Options {
            dial: self.dial,
            routes: self.routes,
            core: CoreConfig { scripted: job.scripted, files: job.rules, ..self.core },
            start: job.start,
            exec: job.exec,
            screen: job.screen,
            memory: Box::new(Pins(self.store, self.data)),
            control: job.control,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|e| Report::new(ExitCode::Failed, format!("no runtime: {e}")))?;
        let ended = runtime.block_on(async { driver::run(options, job.keyboard.listen(), files).await });
        // The thread that reads standard input may be blocked in a read for ever.
        runtime.shutdown_background();
        match ended {
            Ended::Exit(code) => Ok(ExitCode::from_code(code)),
            Ended::Link(error) => Err((*error).into()),
        }
    }
}

/// Pins kept in the data directory.
struct Pins(ClientStore, PathBuf);

impl Memory for Pins {
    fn pin_server(&mut self, pin: &ServerPin) -> Result<(), String> {
        self.0.remember_server(pin).map_err(|e| e.to_string())
    }

    fn pin_person(&mut self, name: &FullName, key: &PublicKey) -> Result<(), String> {
        self.0.pin_name(name, key).map_err(|e| e.to_string())
    }

    fn keep_home(&mut self, card: &HomeCard) -> Result<(), String> {
        self.0.keep_home(card).map_err(|e| e.to_string())
    }

    fn keep_ledger(&mut self, bytes: &[u8]) -> Result<(), String> {
        ledger::keep(&self.1, bytes).map_err(|e| e.to_string())
    }

    fn server_at(&self, address: &str) -> Option<ServerPin> {
        // What cannot be read is as good as unknown: the server's name and key are pinned beside it.
        self.0.server_at(address).ok().flatten()
    }
}

/// The mesh of our name that a given server is in, as far as is known: who goes there may go through another one.
fn known_mesh<'a>(store: &ClientStore, homes: &'a [HomeCard], name: &str, given: &[Endpoint]) -> Option<&'a HomeCard> {
    let wished = Name::parse_user(name).ok()?;
    let pins: Vec<_> = given.iter().filter_map(|at| store.server_at(&at.to_string()).ok().flatten()).collect();
    let mut named = homes.iter().filter(|card| card.cert.subject.name == wished);
    let at_home = named.clone().find(|card| pins.iter().any(|pin| pin.server == *card.server()));
    at_home.or_else(|| named.find(|card| pins.iter().any(|pin| card.leads_to(&pin.server, &pin.key))))
}

/// `NAME` or `NAME@SERVER`, as typed.
fn person(text: &str) -> Result<String, String> {
    let mut parts = text.trim_start_matches('@').splitn(2, '@');
    let sound = parts.try_for_each(|part| Name::parse(part).map(drop));
    sound.map(|()| text.trim_start_matches('@').to_owned()).map_err(|e| format!("{e} (for example alice, or alice@s1)"))
}

/// The data directory of the client.
pub fn data_dir(reach: &Reach) -> Result<PathBuf, Report> {
    let known = reach.data.clone().or_else(|| places::data_dir("client"));
    known.ok_or_else(|| Report::new(ExitCode::Usage, "there is no home directory").hint("say --data DIR"))
}

/// The room's password, if one was given.
pub fn password(reach: &Reach) -> Result<Option<Secret>, Report> {
    Ok(from_file_or_descriptor("password", reach.password_file.as_deref(), reach.password_fd)?)
}

/// The invitation to a new name, if one was given.
pub fn token(reach: &Reach) -> Result<Option<Token>, Report> {
    let given = from_file_or_descriptor("invitation", reach.token_file.as_deref(), reach.token_fd)?;
    let read = |secret: Secret| Token::parse(secret.expose());
    given
        .map(read)
        .transpose()
        .map_err(|bad| Report::new(ExitCode::Usage, bad).hint("give it as the operator gave it to you"))
}

/// The invite, if one was given. One that holds a secret must not have come by the arguments, which other users can see.
pub fn read_invite(reach: &Reach) -> Result<Option<Invite>, Report> {
    if let Some(path) = &reach.invite_file {
        let file = File::open(path).and_then(read_invite_text);
        let text =
            file.map_err(|e| Report::new(ExitCode::Failed, format!("{}: {e}", path.display())).hint("check the path"))?;
        return parse_invite(&text).map(Some);
    }
    match reach.invite.as_deref() {
        None => Ok(None),
        Some("-") => parse_invite(&read_invite_text(std::io::stdin().lock())?).map(Some),
        Some(url) => {
            let invite = parse_invite(url.as_bytes())?;
            if invite.has_secret() {
                return Err(Report::new(
                    ExitCode::Usage,
                    "an invite with a secret was given as an argument, where others can see it",
                )
                .hint("use --invite-file FILE or --invite -"));
            }
            Ok(Some(invite))
        }
    }
}

/// The first line that is not empty, read one byte at a time: what follows it on standard input is the client's own. An endless line is
/// cut where it is too long to be an invite.
fn read_invite_text(mut input: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Sized before it is filled: a buffer that moves would leave a copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(INVITE_MAX + 1));
    let mut byte = [0];
    while text.len() <= INVITE_MAX && input.read(&mut byte)? == 1 {
        match byte[0] {
            b'\n' if text.is_empty() => {}
            b'\n' => break,
            byte => text.push(byte),
        }
    }
    Ok(text)
}

fn parse_invite(text: &[u8]) -> Result<Invite, Report> {
    let text = std::str::from_utf8(text).map_err(|_| InviteError::Encoding);
    text.and_then(Invite::parse).map_err(|e| Report::new(ExitCode::Usage, format!("the invite: {e}")))
}

/// The server to reach: the invite's, or the one that is named, which `interactive` may ask for.
pub fn endpoint(reach: &Reach, invite: Option<&Invite>, interactive: bool) -> Result<Endpoint, Report> {
    endpoints(reach, invite, interactive)?.into_iter().next().ok_or_else(no_server)
}

fn endpoints(reach: &Reach, invite: Option<&Invite>, interactive: bool) -> Result<Vec<Endpoint>, Report> {
    if let Some(invite) = invite {
        return Ok(vec![Endpoint { host: invite.host.clone(), port: invite.port }]);
    }
    let text = match &reach.server {
        Some(server) => server.clone(),
        None if interactive => ask_for("server: ")?,
        None => {
            return Err(no_server());
        }
    };
    let wrong = |e| Report::new(ExitCode::Usage, format!("--server {}: {e}", shown(&text)));
    text.split(',').map(|one| one.trim().parse().map_err(wrong)).collect()
}

fn no_server() -> Report {
    Report::new(ExitCode::Usage, "no server is given").hint("say --server HOST:PORT, or --invite URL")
}

fn ask_for_trust(always: bool, person: Option<Keyboard>) -> Option<crate::net::trust::Ask> {
    if always {
        return Some(Arc::new(|_: &Presented| true));
    }
    let keyboard = person?;
    Some(Arc::new(move |presented: &Presented| {
        let Presented { server, address, key, .. } = presented;
        println!("{} at {} was never met before. Its key is", shown(server.as_str()), shown(&address.to_string()));
        println!("  {}", key.fingerprint());
        keyboard.ask("is that right? [yes/no] ").is_some_and(|answer| answer.trim().eq_ignore_ascii_case("yes"))
    }))
}

/// Asks until the answer begins with one of two letters; whether it was the first.
fn ask_either(question: &str, first: char, second: char) -> Result<bool, Report> {
    loop {
        match ask(question)?.chars().next().map(|c| c.to_ascii_lowercase()) {
            Some(c) if c == first => return Ok(true),
            Some(c) if c == second => return Ok(false),
            _ => {}
        }
    }
}

fn ask(question: &str) -> Result<String, Report> {
    let io = |e: std::io::Error| Report::new(ExitCode::Failed, e.to_string());
    print!("{question}");
    std::io::stdout().flush().map_err(io)?;
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).map_err(io)? == 0 {
        println!();
        return Err(Report::new(ExitCode::Interrupted, "the question was left unanswered"));
    }
    Ok(line.trim().to_owned())
}

/// Asks until something is said.
fn ask_for(question: &str) -> Result<String, Report> {
    loop {
        let answer = ask(question)?;
        if !answer.is_empty() {
            return Ok(answer);
        }
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_accept_from_is_a_name() {
        assert_eq!(person("@alice"), Ok("alice".to_owned()));
        assert_eq!(person("alice@s1"), Ok("alice@s1".to_owned()));
        for bad in ["", "a b", "alice@", "a@b@c"] {
            assert!(person(bad).unwrap_err().contains("alice@s1"), "{bad}");
        }
    }

    #[test]
    fn an_invite_is_one_line_of_bounded_length_and_the_rest_is_left_unread() {
        let mut input = std::io::Cursor::new(b"\nsecchat://x\nhello".to_vec());
        assert_eq!(read_invite_text(&mut input).unwrap().as_slice(), b"secchat://x");
        assert_eq!(input.position(), 13);
        assert_eq!(read_invite_text(std::io::repeat(b'a')).unwrap().len(), INVITE_MAX + 1);
        let report = parse_invite(&[b'a'; INVITE_MAX + 1]).unwrap_err();
        assert_eq!(report.code, ExitCode::Usage);
        assert!(parse_invite(&[0xff]).is_err());
    }
}
