//! `secchat admin`: an operator's questions and orders to a running server.
//!
//! ```text
//! commands   what can be asked, as it is typed; room and restrict have files of their own
//! typed      values of options
//! confirm    the question before what hurts
//! counter    where questions go: here is the seam
//! local      the admin socket of a server on this machine
//! remote     TLS as a user with a role, or the client that runs as that user
//! pages      lists that come in parts
//! show       answers for people; mesh and table beside it
//! ```

pub mod commands;
pub mod confirm;
mod counter;
mod local;
mod mesh;
mod pages;
mod remote;
mod restrict;
mod room;
pub mod show;
mod table;
mod typed;

use super::exit::ExitCode;
use super::report::Report;
use crate::limits::ADMIN_ASK_MAX;
use crate::wire::admin::{Answer, Failure};
use clap::Args;
use commands::AdminCommand;
pub(super) use counter::Counter;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Operate a running server: on this machine, or from afar as somebody with a role
#[derive(Debug, Args)]
#[command(
    after_help = "\
Without --server the running server of this machine is asked through the socket in its data directory, which only its own user and root can open: \
whoever can is the server's owner. With --server the question goes over TLS as the user of --client-data, who needs a role there (see `grant`). Where a \
client runs on that directory, it asks for you.

Examples:
  secchat admin users
  secchat admin ban bob --for 2h --reason spam
  secchat admin restrict --max-size 100M
  secchat admin --server chat.example.org --name alice mutes
  secchat admin --json --yes kick bob | jq -r .answer
Exit codes: 0 done, 1 failed or not well, 2 usage or a value that makes no sense, 3 no server, 4 not allowed, 5 no such user, room or id.",
    subcommand_help_heading = "Commands"
)]
pub struct AdminArgs {
    /// The answer as one JSON object on one line
    #[arg(long, global = true)]
    json: bool,
    /// Do it without a question
    #[arg(long, global = true)]
    yes: bool,
    #[command(flatten)]
    local: local::LocalArgs,
    #[command(flatten)]
    remote: remote::RemoteArgs,
    #[command(subcommand)]
    command: AdminCommand,
}

/// A failure of our own, told as those of a server are.
#[derive(Serialize)]
struct Told<'a> {
    answer: &'static str,
    code: &'static str,
    why: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Runs the command. With `--json` a failure of our own is told as an object too.
pub fn run(args: AdminArgs) -> Result<ExitCode, Report> {
    let json = args.json;
    run_command(args).inspect_err(|report| {
        if json {
            let Report { word, cause, hint, .. } = report;
            let told = Told { answer: "failed", code: word, why: cause, hint: hint.as_deref() };
            // Standard error and the exit code say it too.
            let _ = writeln!(io::stdout(), "{}", serde_json::to_string(&told).unwrap_or_default());
        }
    })
}

fn run_command(args: AdminArgs) -> Result<ExitCode, Report> {
    let AdminArgs { local, remote, json, yes, command } = args;
    let form = if json { show::Form::Json } else { show::Form::of(&command) };
    let ask = command.ask();
    let length = serde_json::to_string(&ask).map_err(|e| Report::new(ExitCode::Failed, e))?.len();
    if length > ADMIN_ASK_MAX {
        return Err(Report::new(
            ExitCode::Usage,
            format!("that is too long: a command has at most {ADMIN_ASK_MAX} bytes"),
        ));
    }
    if !yes && let Some(what) = confirm::hurts(&ask) {
        confirm::on_terminal(&what)?;
    }
    let mut counter = if remote.is_wanted() { remote.open()? } else { local.open()? };
    answered(&pages::all(counter.as_mut(), ask)?, &form)
}

/// Shows an answer; what came of it.
fn answered(answer: &Answer, form: &show::Form) -> Result<ExitCode, Report> {
    let look = show::Look::of_terminal();
    let out = io::stdout();
    if let (Answer::Failed { code, why, hint }, false) = (answer, *form == show::Form::Json) {
        let report = Report::new(exit_code(answer), why).word(word(*code));
        return Err(Report { hint: hint.clone(), ..report });
    }
    out.lock().write_all(show::text(answer, form, &look).as_bytes())?;
    Ok(exit_code(answer))
}

/// What scripts see.
pub fn exit_code(answer: &Answer) -> ExitCode {
    match answer {
        Answer::Failed { code, .. } => match code {
            Failure::Malformed | Failure::BadValue => ExitCode::Usage,
            Failure::NotAllowed => ExitCode::Refused,
            Failure::UnknownUser | Failure::UnknownRoom | Failure::UnknownId => ExitCode::NotFound,
            Failure::Already | Failure::Full | Failure::Failed => ExitCode::Failed,
        },
        Answer::Health(health) if !health.ok => ExitCode::Failed,
        _ => ExitCode::Done,
    }
}

/// The stable word of a failure.
const fn word(code: Failure) -> &'static str {
    match code {
        Failure::Malformed => "malformed",
        Failure::NotAllowed => "not_allowed",
        Failure::UnknownUser => "unknown_user",
        Failure::UnknownRoom => "unknown_room",
        Failure::UnknownId => "unknown_id",
        Failure::BadValue => "bad_value",
        Failure::Already => "already",
        Failure::Full => "full",
        Failure::Failed => "failed",
    }
}

/// Whether a person is there to be asked.
fn person_is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::admin::Ask;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AdminArgs,
    }

    /// Options that hold for all commands have ids of their own: else one would stand where a command's own argument was.
    #[test]
    fn whose_name_one_asks_under_is_not_whom_it_is_about() {
        let lines: [&[&str]; 3] = [
            &["admin", "--server", "h:1", "--name", "alice", "kick", "bob"],
            &["admin", "kick", "bob", "--server", "h:1", "--name", "alice"],
            &["admin", "kick", "--name", "alice", "bob"],
        ];
        for line in lines {
            let args = Line::try_parse_from(line).unwrap().args;
            assert_eq!(args.command.ask(), Ask::Kick { name: "bob".into(), room: None, reason: None });
        }
        let root = <Line as clap::CommandFactory>::command();
        let global: Vec<_> =
            root.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.get_id().clone()).collect();
        let mut below: Vec<_> = root.get_subcommands().collect();
        while let Some(command) = below.pop() {
            let own = command.get_arguments().map(|arg| arg.get_id().clone());
            assert!(own.into_iter().all(|id| !global.contains(&id)), "{}", command.get_name());
            below.extend(command.get_subcommands());
        }
    }
}
