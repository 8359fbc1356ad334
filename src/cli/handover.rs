//! `secchat fetch` and `secchat admin` beside a running client that owns the data directory: the client does it, and we show it.

use super::admin::Counter;
use super::exit::ExitCode;
use super::report::Report;
use crate::client::control::{AdminRequest, Done, Request, socket};
use crate::client::driver::Screen;
use crate::client::event::Event;
use crate::limits::{CONTROL_LINE_MAX, REQUEST_DEADLINE};
use crate::server::desk::ANSWER_MAX;
use crate::wire::admin::{Answer, Ask};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
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

/// A client that runs on a data directory and asks servers for us.
#[derive(Debug)]
pub struct Running {
    socket: PathBuf,
    server: String,
}

impl Running {
    /// The one on this directory, if there is one; `server` is the address at which it knows the server.
    pub fn find(data: &Path, server: &str) -> Option<Self> {
        let socket = socket(data);
        UnixStream::connect(&socket).is_ok().then(|| Self { socket, server: server.to_owned() })
    }

    fn exchange(&self, ask: &Ask) -> io::Result<Result<Answer, Report>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(2 * REQUEST_DEADLINE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let request = AdminRequest { server: self.server.clone(), admin: ask.clone() };
        stream.write_all((serde_json::to_string(&request)? + "\n").as_bytes())?;
        let mut reader = BufReader::new(stream);
        let (mut line, mut trouble) = (Vec::new(), None);
        loop {
            line.clear();
            reader.by_ref().take(ANSWER_MAX).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Ok(answer) = serde_json::from_slice::<Answer>(&line) {
                return Ok(Ok(answer));
            }
            if let Ok(Event::Error { message, hint, .. }) = serde_json::from_slice(&line) {
                trouble = Some((message, hint));
            }
            if let Ok(Done { done }) = serde_json::from_slice(&line) {
                let (cause, hint) = trouble.unwrap_or_else(|| ("the running client did not ask".into(), None));
                return Ok(Err(Report { hint, ..Report::new(ExitCode::from_code(done), cause) }));
            }
        }
    }
}

impl Counter for Running {
    fn ask(&mut self, ask: &Ask) -> Result<Answer, Report> {
        self.exchange(ask).unwrap_or_else(|error| {
            Err(Report::new(ExitCode::Unreachable, format!("the running client did not finish this: {error}"))
                .hint("look whether it still runs, and what became of it"))
        })
    }
}

/// Longer than any step of a fetch in which nothing is told.
const SILENCE: Duration = Duration::from_secs(180);
