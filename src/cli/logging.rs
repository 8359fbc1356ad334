//! The program's log, on standard error.

use super::exit::ExitCode;
use super::report::Report;
use tracing_subscriber::EnvFilter;

/// Starts it. `SECCHAT_LOG` says how much (`error`, `warn`, `info`, `debug`, or filters such as `secchat::net=debug`).
pub fn start(default: &str) -> Result<(), Report> {
    let wished = std::env::var("SECCHAT_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&wished).map_err(|e| Report::new(ExitCode::Usage, format!("SECCHAT_LOG: {e}")))?;
    // A second start, in tests, keeps the first one.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).try_init();
    Ok(())
}
