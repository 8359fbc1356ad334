//! The command line: arguments, settings, one file a command, and how an error becomes a cause, a hint and an exit code.

pub mod admin;
pub mod args;
pub mod bench;
pub mod cert;
pub mod client;
pub mod completions;
pub mod config;
pub mod console;
pub mod demo;
pub mod doctor;
pub mod drive;
pub mod exit;
pub mod fetch;
pub mod handover;
pub mod id;
pub mod logging;
pub mod man;
pub mod mesh_args;
pub mod mesh_cert;
pub mod places;
pub mod report;
pub mod reread;
pub mod secrets;
pub mod server;
pub mod tuning;
pub mod values;

use crate::wire::text::{harmless, shown};
use args::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};
use exit::ExitCode;
use report::Report;
use std::ffi::OsString;
use std::io::Write;

/// Parses, runs, reports; what `main` returns. `arguments` begins with the program's name.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let command = match config::with_defaults_from_file(Cli::command(), &arguments) {
        Ok(command) => command,
        Err(error) => return Report::from(error).print(),
    };
    let parsed = command.try_get_matches_from(&arguments).and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches)?;
        if let Command::Server(args) = &mut cli.command {
            args.typed = arguments.clone();
        }
        if let (Command::Fetch(args), Some((_, of_fetch))) = (&mut cli.command, matches.subcommand()) {
            args.typed = tuning::typed(of_fetch);
        }
        Ok(cli)
    });
    match parsed {
        Ok(cli) => dispatch(cli.command).unwrap_or_else(|report| report.print()),
        Err(error) => {
            let plain = error.to_string();
            // To a closed pipe there is nothing left to say.
            let _ = if plain.lines().flat_map(str::chars).all(harmless) {
                error.print()
            } else {
                // An argument is repeated in it.
                std::io::stderr().write_all(lines_shown(&plain).as_bytes())
            };
            if error.use_stderr() { ExitCode::Usage } else { ExitCode::Done }
        }
    }
}

fn lines_shown(text: &str) -> String {
    text.lines().map(|line| shown(line) + "\n").collect()
}

fn dispatch(command: Command) -> Result<ExitCode, Report> {
    match command {
        Command::Server(args) => server::run(args),
        Command::Client(args) => client::run(*args),
        Command::Fetch(args) => fetch::run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Cert(args) => cert::run(args),
        Command::Admin(args) => admin::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Id(args) => id::run(args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}
