//! `secchat fetch`: one file from a room, in one line, for scripts.

use super::client::{Job, Reach, Reached, data_dir, password, read_invite};
use super::exit::ExitCode;
use super::report::Report;
use crate::client::driver::Screen;
use crate::client::effects::Start;
use crate::client::event::{Event, Transfer};
use crate::client::files::FilesConfig;
use crate::client::keyboard::Keyboard;
use crate::client::render::{self, Style};
use crate::crypto::secret::Secret;
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
    /// Name of the file
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Only from this member; whoever has it where none is given
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// Directory to put it in
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  secchat fetch --server chat.example.org --name bot --room lab --password-file lab.txt data.tar
  secchat fetch --invite-file invite.txt --name bot --from alice --output /srv/in 'report 7.pdf'
Exit codes: 0 the file is there, 3 no server, 4 refused, 5 nobody has it, 6 holders are busy, 7 its hash was wrong.";

/// Runs the command; gives the exit code of the process.
pub fn run(args: FetchArgs) -> Result<ExitCode, Report> {
    let data = &data_dir(&args.reach)?;
    let name = args.reach.name.clone();
    let name = name.ok_or_else(|| Report::new(ExitCode::Usage, "no name is given").hint("say --name NAME"))?;
    let invite = read_invite(&args.reach)?;
    let reached = Reached::new(&args.reach, name, &invite, data, None)?;
    let password = password(&args.reach)?;
    let start = match (args.reach.room.clone(), invite) {
        (Some(room), _) => Start::Join { room, password },
        (None, Some(invite)) if invite.room.is_some() => Start::Invited { invite: Box::new(invite), password },
        (None, _) => return Err(Report::new(ExitCode::Usage, "no room is given").hint("say --room ROOM")),
    };
    let files = FilesConfig {
        share: None,
        downloads: args.output.clone(),
        data: data.to_owned(),
        udp: args.reach.udp,
        uploads: 0,
        window: args.reach.window.unwrap_or(16),
        loopback: reached.on_this_machine(),
    };
    let holder = args.from.as_deref().unwrap_or("any");
    let exec = vec![format!("@{holder} getfile {}", args.file)];
    let screen = Box::new(Progress::new());
    reached.run(Job { files, start: Some(start), exec, screen, keyboard: Keyboard::default(), scripted: true })
}

/// A progress bar on a terminal, and the path of the file at the end; errors on standard error.
#[derive(Debug)]
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    const fn new() -> Self {
        Self { bar: None }
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
        bar.set_message(shown(&transfer.file));
        self.bar = Some(bar);
    }

    fn ended(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Screen for Progress {
    fn show(&mut self, _wall_ms: u64, _tag: Option<&str>, event: &Event) {
        match event {
            Event::TransferStarted(transfer) => self.started(transfer),
            Event::TransferProgress(transfer) => {
                if let Some(bar) = &self.bar {
                    bar.set_position(transfer.bytes.unwrap_or(0));
                }
            }
            Event::TransferDone(transfer) => {
                self.ended();
                println!("{}", shown(transfer.path.as_deref().unwrap_or_default()));
            }
            Event::TransferFailed(_) | Event::Error { .. } | Event::Integrity { .. } | Event::Reconnecting { .. } => {
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
