//! `secchat fetch` beside a running client that owns the data directory: the client does it, and we show it.

use super::exit::ExitCode;
use super::report::Report;
use crate::client::control::{Done, Request, socket};
use crate::client::driver::Screen;
use crate::client::event::Event;
use crate::limits::CONTROL_LINE_MAX;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Hands the job to the client that runs on this data directory, and shows what it tells until it is done. `None`, and nothing
/// done, where no client listens there. That client has settings of its own: `typed` are options that it could not honour.
pub fn to_running_client(
    data: &Path,
    request: &Request,
    typed: &[String],
    screen: &mut dyn Screen,
) -> Option<Result<ExitCode, Report>> {
    let stream = UnixStream::connect(socket(data)).ok()?;
    if !typed.is_empty() {
        let cause = format!("a client runs on {} and would fetch with its own settings", data.display());
        let hint = format!("leave out {}, or give this command another directory with --data", typed.join(", "));
        return Some(Err(Report::new(ExitCode::Usage, cause).hint(hint)));
    }
    Some(follow(stream, request, screen).map_err(|error| {
        Report::new(ExitCode::Failed, format!("the running client did not finish this: {error}"))
            .hint("look whether it still runs, and try again")
    }))
}

fn follow(mut stream: UnixStream, request: &Request, screen: &mut dyn Screen) -> io::Result<ExitCode> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reader = BufReader::new(stream);
    let began = Instant::now();
    loop {
        line.clear();
        reader.by_ref().take(CONTROL_LINE_MAX).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Ok(Done { done }) = serde_json::from_slice(&line) {
            return Ok(ExitCode::from_code(done));
        }
        // Events that we do not know are not for us.
        if let Ok(event) = serde_json::from_slice::<Event>(&line) {
            let passed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            screen.show(passed, None, &event);
        }
    }
}

/// Longer than any step of a fetch in which nothing is told.
const SILENCE: Duration = Duration::from_secs(180);
