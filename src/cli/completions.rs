//! `secchat completions`.

use super::args::Cli;
use super::exit::ExitCode;
use super::report::Report;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::{self, Write};

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secchat completions bash > ~/.local/share/bash-completion/completions/secchat
  secchat completions zsh  > ~/.zfunc/_secchat
  secchat completions fish > ~/.config/fish/completions/secchat.fish")]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints them to standard output.
pub fn run(args: &CompletionsArgs) -> Result<ExitCode, Report> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "secchat", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::Done)
}
