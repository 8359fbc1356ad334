//! The two screens of a client without a full-screen interface: JSON objects, and readable lines. IO.

use super::driver::{Screen, UserInput};
use super::event::Event;
use super::json;
use super::render::{self, Style};
use crate::crypto::secret::Secret;
use crate::limits::TEXT_MAX;
use crate::wire::text::shown;
use std::io::{BufRead, IsTerminal, Read, Write};
use tokio::sync::mpsc;

/// One JSON object a line on standard output, and nothing else there.
#[derive(Debug, Default)]
pub struct JsonScreen;

/// Readable lines: events on standard output, questions on the terminal.
#[derive(Debug)]
pub struct LineScreen {
    style: Style,
}

impl Screen for JsonScreen {
    fn show(&mut self, wall_ms: u64, tag: Option<&str>, event: &Event) {
        print_line(&json::to_line(event, tag, wall_ms));
    }

    fn ask_password(&mut self, _room: &str) -> Option<Secret> {
        None
    }
}

impl LineScreen {
    /// Colours are used on a terminal, unless `NO_COLOR` is set.
    pub fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { style: Style { colour, ..Style::default() } }
    }
}

impl Default for LineScreen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen for LineScreen {
    fn show(&mut self, _wall_ms: u64, _tag: Option<&str>, event: &Event) {
        if let Event::Connected { server, .. } = event {
            self.style.home.clone_from(server);
        }
        render::lines(event, &self.style).iter().for_each(|line| print_line(line));
    }

    fn ask_password(&mut self, room: &str) -> Option<Secret> {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        let typed = rpassword::prompt_password(format!("password of {}: ", shown(room))).ok()?;
        let typed = zeroize::Zeroizing::new(typed);
        Secret::new(&typed).ok()
    }
}

/// Reads standard input on a thread of its own, line by line, into the driver. A line longer than a message may be is cut off with
/// the rest of it dropped, so that nothing grows without bound.
pub fn read_standard_input() -> mpsc::Receiver<UserInput> {
    let (sender, receiver) = mpsc::channel(16);
    let lines = sender.clone();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Some(line) = read_line(&mut input) {
            if lines.blocking_send(UserInput::Line(line)).is_err() {
                return;
            }
        }
        let _ = lines.blocking_send(UserInput::End);
    });
    tokio::spawn(async move {
        while interrupted().await {
            if sender.send(UserInput::Interrupt).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else { return false };
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.is_ok(),
        result = term.recv() => result.is_some(),
    }
}

fn read_line(input: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let mut limited = input.take(LINE_MAX);
    let read = limited.read_until(b'\n', &mut line).ok()?;
    if read == 0 {
        return None;
    }
    if line.last() != Some(&b'\n') && limited.limit() == 0 {
        input.skip_until(b'\n').ok()?;
    }
    let text = String::from_utf8_lossy(&line);
    Some(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        // Nobody reads us any more: there is no way left to say anything.
        std::process::exit(1);
    }
}

/// Longest line of input, bytes: a message, in JSON escapes at the worst.
const LINE_MAX: u64 = 8 * TEXT_MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_read() {
        let mut input = vec![b'a'; usize::try_from(LINE_MAX).unwrap() + 10];
        input.extend_from_slice(b"\nnext\r\nlast");
        let mut input = std::io::Cursor::new(input);
        assert_eq!(read_line(&mut input).unwrap().len(), usize::try_from(LINE_MAX).unwrap());
        assert_eq!(read_line(&mut input).as_deref(), Some("next"));
        assert_eq!(read_line(&mut input).as_deref(), Some("last"));
        assert_eq!(read_line(&mut input), None);
    }
}
