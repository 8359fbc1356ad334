//! The program's log, on standard error.

use super::exit::ExitCode;
use super::report::Report;
use tracing_subscriber::EnvFilter;

/// Starts it. `SECCHAT_LOG` says how much (`error`, `warn`, `info`, `debug`, or filters such as `secchat::net=debug`).
pub fn start(default: &str) -> Result<(), Report> {
    let wished = std::env::var("SECCHAT_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = filter(&wished).map_err(|e| Report::new(ExitCode::Usage, format!("SECCHAT_LOG: {e}")))?;
    // A second start, in tests, keeps the first one.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).try_init();
    Ok(())
}

/// What is asked for, but for the library that reads STUN, unless it is asked for by name: it warns of each datagram that it does not like,
/// and anybody may send those.
fn filter(wished: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("stun_types=off,{wished}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::{Level, enabled};
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn no_stranger_fills_the_log_by_datagrams() {
        let tells = |wished: &str| {
            let subscriber = tracing_subscriber::registry().with(filter(wished).unwrap());
            tracing::subscriber::with_default(subscriber, || {
                (enabled!(target: "stun_types::message", Level::WARN), enabled!(target: "secchat::net", Level::WARN))
            })
        };
        assert_eq!(tells("info"), (false, true));
        assert_eq!(tells("debug,secchat::net=trace"), (false, true));
        assert_eq!(tells("stun_types=warn"), (true, false));
        assert!(filter("=?").is_err());
    }
}
