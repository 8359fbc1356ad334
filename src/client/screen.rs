//! The two screens of a client without a full-screen interface: JSON objects, and readable lines. IO.

use super::driver::Screen;
use super::event::Event;
use super::json;
use super::keyboard::Keyboard;
use super::qr;
use super::render::{self, Style};
use crate::crypto::secret::Secret;
use crate::wire::text::shown;
use std::collections::HashMap;
use std::io::{IsTerminal, Write};

/// One JSON object a line on standard output, and nothing else there.
#[derive(Debug, Default)]
pub struct JsonScreen;

/// Readable lines: events on standard output, questions on the terminal.
#[derive(Debug)]
pub struct LineScreen {
    style: Style,
    keyboard: Keyboard,
    /// Whether invites are drawn as QR codes too: on a terminal.
    drawing: bool,
    calm: Calm,
}

/// Lets everything through but most of progress: of each transfer what is another tenth of the whole, and that not often.
#[derive(Debug, Default)]
pub struct Calm(HashMap<String, Shown>);

/// What was shown of a transfer last.
#[derive(Debug)]
struct Shown {
    at_ms: u64,
    tenths: u64,
    hashing: bool,
}

impl Calm {
    /// Whether this is to be shown now. An answer to `@me transfers` is.
    pub fn admits(&mut self, wall_ms: u64, event: &Event) -> bool {
        let (t, hashing) = match event {
            Event::TransferProgress(t) if t.sources.is_some() => (t, false),
            Event::Hashing(t) => (t, true),
            Event::TransferDone(t) | Event::TransferFailed(t) => {
                self.0.remove(&t.id);
                return true;
            }
            _ => return true,
        };
        let tenths = t.bytes.unwrap_or(0).saturating_mul(10).checked_div(t.size.unwrap_or(0)).unwrap_or(0);
        let now = Shown { at_ms: wall_ms, tenths, hashing };
        // What takes no longer than the first pause is told by its end alone.
        let due = match self.0.get(&t.id).filter(|last| last.hashing == hashing) {
            Some(last) if wall_ms.abs_diff(last.at_ms) < PROGRESS_LINES_MS || tenths == last.tenths => return false,
            last => last.is_some(),
        };
        if self.0.len() >= TRANSFERS_KNOWN {
            self.0.clear();
        }
        self.0.insert(t.id.clone(), now);
        due
    }
}

impl Screen for JsonScreen {
    fn show(&mut self, wall_ms: u64, tag: Option<&str>, event: &Event) {
        print_line(&json::to_line(event, tag, wall_ms));
    }

    fn is_for_programs(&self) -> bool {
        true
    }

    fn ask_password(&mut self, _room: &str) -> Option<Secret> {
        None
    }
}

impl LineScreen {
    /// Colours are used on a terminal, unless `NO_COLOR` is set.
    pub fn new(keyboard: Keyboard) -> Self {
        let drawing = std::io::stdout().is_terminal();
        let colour = drawing && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { style: Style { colour, ..Style::default() }, keyboard, drawing, calm: Calm::default() }
    }
}

impl Screen for LineScreen {
    fn show(&mut self, wall_ms: u64, _tag: Option<&str>, event: &Event) {
        if !self.calm.admits(wall_ms, event) {
            return;
        }
        if let Event::Connected { name, .. } = event {
            // Names and rooms of our own server are shown without it, wherever the link leads.
            self.style.home = name.rsplit_once('@').map(|(_, server)| server.to_owned()).unwrap_or_default();
        }
        render::lines(event, &self.style).iter().for_each(|line| print_line(line));
        if let Event::Notice { from, text } = event
            && from == "invite"
            && self.drawing
        {
            qr::lines(text, columns()).iter().for_each(|line| print_line(line));
        }
    }

    fn in_room(&mut self, room: Option<&str>) {
        self.style.current.clear();
        self.style.current.push_str(room.unwrap_or_default());
    }

    fn ask_password(&mut self, room: &str) -> Option<Secret> {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        let typed = self.keyboard.ask_hidden(&format!("password of {}: ", shown(room)))?;
        Secret::new(&typed).ok()
    }
}

/// Width of the terminal; nothing is known to fit where it cannot be found out.
fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col))
}

fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        // Nobody reads us any more: there is no way left to say anything.
        std::process::exit(1);
    }
}

/// How far apart lines are that say how far a transfer is.
const PROGRESS_LINES_MS: u64 = 5_000;
/// Transfers of which the last line's time is kept.
const TRANSFERS_KNOWN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::event::Transfer;

    #[test]
    fn progress_is_shown_at_tenths_that_are_seconds_apart() {
        let mut calm = Calm::default();
        let of = |id: &str, bytes| {
            let (size, bytes, sources) = (Some(1_000), Some(bytes), Some(1));
            Transfer { id: id.into(), size, bytes, sources, ..Transfer::default() }
        };
        // A tenth every 2 s.
        let told: Vec<u64> =
            (0..=1_000).filter(|n| calm.admits(n * 20, &Event::TransferProgress(of("1", *n)))).collect();
        assert_eq!(told, [250, 500, 750, 1_000]);
        // A tenth every 50 s.
        let told: Vec<u64> =
            (0..=500).filter(|n| calm.admits(n * 500, &Event::TransferProgress(of("2", *n)))).collect();
        assert_eq!(told, [100, 200, 300, 400, 500]);
        let hashing = |at, bytes, calm: &mut Calm| calm.admits(at, &Event::Hashing(of("3", bytes)));
        assert!(!hashing(0, 10, &mut calm) && !hashing(4_900, 900, &mut calm) && hashing(5_000, 900, &mut calm));
        let asked = Transfer { sources: None, ..of("2", 500) };
        assert!(calm.admits(250_000, &Event::TransferProgress(asked)), "asked for");
        assert!(calm.admits(250_000, &Event::TransferDone(of("2", 1_000))));
    }
}
