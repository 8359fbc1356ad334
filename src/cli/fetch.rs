//! `secchat fetch`: one file from a room, in one line, for scripts.

use super::client::{Job, Reach, Reached, data_dir, endpoint, password, read_invite};
use super::exit::ExitCode;
use super::handover::to_running_client;
use super::report::Report;
use crate::client::control::Request;
use crate::client::driver::Screen;
use crate::client::effects::Start;
use crate::client::event::{Event, Transfer};
use crate::client::keyboard::Keyboard;
use crate::client::render::{self, Style};
use crate::client::screen::Calm;
use crate::crypto::secret::Secret;
use crate::wire::invite::Invite;
use crate::wire::text::shown;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Options of `secchat fetch`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct FetchArgs {
    /// Whom to reach, and the room to look in.
    #[command(flatten)]
    pub reach: Reach,
    /// Name of the file, or of a folder with a slash behind it
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Only from this member; whoever has it where none is given
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// Directory to put it in
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// Options on how files travel that were typed.
    #[arg(skip)]
    pub typed: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  secchat fetch --server chat.example.org --name bot --room lab --password-file lab.txt data.tar
  secchat fetch --invite-file invite.txt --name bot --from alice --output /srv/in 'report 7.pdf'
  secchat fetch --invite-file invite.txt --name bot --down 50mbit photos/
Without --from the file comes from all at once who have the same content.
Where a client runs on the same data directory, it fetches the file, under its own name, for a room that it is in and with its own settings: options on how
files travel are refused then. Ctrl-C cancels that.
A folder is named with a slash behind it. What has come of a fetch that broke off is kept: the same command again goes on from there.
Exit codes: 0 the file is there, 3 no server, 4 refused, 5 nobody has it, 6 holders are busy (with --no-wait), 7 its hash was wrong.";

/// Runs the command; gives the exit code of the process.
pub fn run(args: FetchArgs) -> Result<ExitCode, Report> {
    let data = &data_dir(&args.reach)?;
    let invite = read_invite(&args.reach)?;
    if let Some(request) = request(&args, invite.as_ref())?
        && let Some(ended) = to_running_client(data, &request, &args.typed, &mut Progress::new())
    {
        return ended;
    }
    let name = args.reach.name.clone();
    let name = name.ok_or_else(|| Report::new(ExitCode::Usage, "no name is given").hint("say --name NAME"))?;
    let reached = Reached::new(&args.reach, name, &invite, data, None)?;
    let password = password(&args.reach)?;
    let start = match (args.reach.room.clone(), invite) {
        (Some(room), _) => Start::Join { room, password },
        (None, Some(invite)) if invite.room.is_some() => Start::Invited { invite: Box::new(invite), password },
        (None, _) => return Err(Report::new(ExitCode::Usage, "no room is given").hint("say --room ROOM")),
    };
    let tuning = &args.reach.tuning;
    let files = tuning.files(None, args.output.clone(), data.to_owned(), reached.on_this_machine());
    let rules = tuning.rules(0, Vec::new());
    let holder = args.from.as_deref().unwrap_or("any");
    let exec = vec![format!("@{holder} getfile \"{}\"", args.file)];
    let screen = Box::new(Progress::new());
    reached.run(Job {
        files,
        rules,
        start: Some(start),
        exec,
        screen,
        keyboard: Keyboard::default(),
        scripted: true,
        control: None,
    })
}

/// The same job for a client that runs already; `None` where no room is named.
fn request(args: &FetchArgs, invite: Option<&Invite>) -> Result<Option<Request>, Report> {
    let invited = invite.and_then(|invite| invite.room.as_ref()).map(|room| room.label.to_string());
    let Some(label) = args.reach.room.clone().or(invited) else { return Ok(None) };
    let room = match invite {
        Some(invite) if !label.contains('@') => format!("{label}@{}", invite.server),
        _ => label,
    };
    let server = match (&args.reach.server, invite) {
        (Some(_), None) => Some(endpoint(&args.reach, None, false)?.to_string()),
        _ => None,
    };
    let output = std::path::absolute(&args.output)?;
    if output.to_str().is_none() {
        return Err(Report::new(ExitCode::Usage, "the path of --output is not UTF-8"));
    }
    let (file, from, no_wait) = (args.file.clone(), args.from.clone(), args.reach.tuning.no_wait);
    Ok(Some(Request { server, room, file, from, output: Some(output), no_wait }))
}

/// A progress bar on a terminal, and the path of the file at the end; errors on standard error.
#[derive(Debug)]
struct Progress {
    bar: Option<ProgressBar>,
    calm: Calm,
}

impl Progress {
    fn new() -> Self {
        Self { bar: None, calm: Calm::default() }
    }

    /// A line beside the bar.
    fn say(&self, event: &Event) {
        for line in render::lines(event, &Style::default()) {
            match &self.bar {
                Some(bar) => bar.println(line),
                None => eprintln!("{line}"),
            }
        }
    }

    fn started(&mut self, transfer: &Transfer) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = ProgressBar::new(transfer.size.unwrap_or(0));
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        {
            bar.set_style(style);
        }
        self.bar = Some(bar);
        self.name(transfer);
    }

    /// What comes, and which way.
    fn name(&self, transfer: &Transfer) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}{}", shown(&transfer.file), render::by(transfer)));
        }
    }

    fn ended(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Screen for Progress {
    fn show(&mut self, wall_ms: u64, _tag: Option<&str>, event: &Event) {
        match event {
            Event::Hashing(_) if !self.calm.admits(wall_ms, event) => {}
            Event::Hashing(_) | Event::Queued(_) | Event::TransferWaiting(_) | Event::SourceLost(_) => self.say(event),
            Event::TransferPath(transfer) => {
                self.name(transfer);
                self.say(event);
            }
            Event::Notice { from, .. } if matches!(from.as_str(), "relay" | "key_agreement") => self.say(event),
            Event::TransferStarted(transfer) => self.started(transfer),
            Event::TransferProgress(transfer) => {
                if let Some(bar) = &self.bar {
                    bar.set_length(transfer.size.unwrap_or(0));
                    bar.set_position(transfer.bytes.unwrap_or(0));
                }
            }
            Event::TransferDone(transfer) => {
                self.ended();
                println!("{}", shown(transfer.path.as_deref().unwrap_or_default()));
            }
            Event::TransferFailed(_)
            | Event::Error { .. }
            | Event::Integrity { .. }
            | Event::Reconnecting { .. }
            | Event::RoomWaiting { .. } => {
                self.ended();
                render::lines(event, &Style::default()).iter().for_each(|line| eprintln!("{line}"));
            }
            _ => {}
        }
    }

    fn ask_password(&mut self, _room: &str) -> Option<Secret> {
        None
    }
}
