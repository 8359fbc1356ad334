//! `secchat bench`: how fast it is on this machine, and how near to what the machine can do.

mod args;
mod case;
mod ceiling;
mod child;
mod ends;
mod mesh;
mod plot;
mod runs;
mod stop;
mod sweep;
mod table;
mod usage;

use super::exit::ExitCode;
use super::report::Report;
use args::{Bench, BenchArgs};
use case::BenchError;

/// Options of `secchat bench`.
pub use args::BenchArgs as Args;

/// Runs the command; gives the exit code of the process.
pub fn run(args: BenchArgs) -> Result<ExitCode, Report> {
    if let Bench::Transfer(args) = &args.what
        && let Some(wrong) = args.wrong_points()
    {
        return Err(Report::new(ExitCode::Usage, wrong));
    }
    let ended = match args.what {
        Bench::Transfer(args) if args.sweep.is_some() => sweep::run(&args),
        Bench::Transfer(args) => table::run(&args),
        Bench::Mesh(args) => mesh::run(&args),
        Bench::End => child::run(),
    };
    ended.map(|()| ExitCode::Done).map_err(|error| match error {
        BenchError::Short { .. } => Report::new(ExitCode::Usage, error)
            .hint("--messages should be at least 14 s of --rate: 14,000 at 1,000 a second"),
        error => Report::new(ExitCode::Failed, error),
    })
}
