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

/// Lets progress through once a second for each transfer, and everything else.
#[derive(Debug, Default)]
pub struct Calm(HashMap<String, u64>);

impl Calm {
    /// Whether this is to be shown now. An answer to `@me transfers` is.
    pub fn admits(&mut self, wall_ms: u64, event: &Event) -> bool {
        let id = match event {
            Event::TransferProgress(t) if t.sources.is_some() => &t.id,
            Event::Hashing(t) => &t.id,
            Event::TransferDone(t) | Event::TransferFailed(t) => {
                self.0.remove(&t.id);
                return true;
            }
            _ => return true,
        };
        if self.0.get(id).is_some_and(|last| wall_ms.abs_diff(*last) < PROGRESS_LINES_MS) {
            return false;
        }
        if self.0.len() >= TRANSFERS_KNOWN {
            self.0.clear();
        }
        self.0.insert(id.clone(), wall_ms);
        true
    }
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

/// How often a line says how far a transfer is.
const PROGRESS_LINES_MS: u64 = 1_000;
/// Transfers of which the last line's time is kept.
const TRANSFERS_KNOWN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::event::Transfer;

    #[test]
    fn progress_is_shown_once_a_second_for_each_transfer() {
        let mut calm = Calm::default();
        let of = |id: &str, sources| Transfer { id: id.into(), sources, ..Transfer::default() };
        let (one, two) = (Event::TransferProgress(of("1", Some(1))), Event::Hashing(of("2", None)));
        let told: Vec<_> = (0..25).map(|n| calm.admits(n * 100, &one)).collect();
        assert_eq!(told.iter().filter(|shown| **shown).count(), 3);
        assert!(calm.admits(2_450, &two) && !calm.admits(2_460, &two));
        assert!(calm.admits(2_470, &Event::TransferProgress(of("1", None))), "asked for");
        assert!(calm.admits(2_480, &Event::TransferDone(of("1", None))) && calm.admits(2_490, &one));
    }
}
