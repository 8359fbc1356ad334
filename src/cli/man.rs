//! `secchat man`.

use super::args::Cli;
use super::exit::ExitCode;
use super::report::Report;
use clap::{Args, CommandFactory};
use std::path::PathBuf;

/// Write manual pages
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  secchat man ~/.local/share/man/man1 && man secchat-server")]
pub struct ManArgs {
    /// Directory for the pages; it is made if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// One page for the program and one for each command.
pub fn run(args: &ManArgs) -> Result<ExitCode, Report> {
    let failed = |e: std::io::Error| Report::new(ExitCode::Failed, format!("{}: {e}", args.dir.display()));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).map_err(failed)?;
    Ok(ExitCode::Done)
}
