//! What a person or a script types: lines for the driver, and answers to questions. IO.

use super::driver::UserInput;
use crate::limits::TEXT_MAX;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, Read, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// Standard input has one reader, the thread of [`Keyboard::listen`]. A question therefore does not read by itself: it asks
/// that thread for the next line.
#[derive(Debug, Clone, Default)]
pub struct Keyboard(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Who waits for the next line instead of the driver.
    question: Option<SyncSender<Zeroizing<String>>>,
    /// No more lines will come.
    ended: bool,
}

impl Keyboard {
    /// Asks, and blocks until there is an answer; `None` at the end of input and on Ctrl-C. Only while [`Keyboard::listen`] runs.
    pub fn ask(&self, question: &str) -> Option<Zeroizing<String>> {
        let (sender, answer) = sync_channel(1);
        {
            let mut state = self.state();
            if state.ended {
                return None;
            }
            state.question = Some(sender);
        }
        print(question);
        answer.recv().ok()
    }

    /// The same, without showing what is typed.
    pub fn ask_hidden(&self, question: &str) -> Option<Zeroizing<String>> {
        let _hidden = Hidden::new();
        let answer = self.ask(question);
        // The end of the line was hidden too.
        print("\n");
        answer
    }

    /// Reads standard input on a thread of its own, line by line, into the driver. A line longer than a message may be is cut off
    /// with the rest of it dropped, so that nothing grows without bound.
    pub fn listen(&self) -> mpsc::Receiver<UserInput> {
        let (sender, receiver) = mpsc::channel(16);
        let (keyboard, lines) = (self.clone(), sender.clone());
        std::thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            while let Some(line) = read_line(&mut input) {
                let Some(line) = keyboard.answer(line) else { continue };
                if lines.blocking_send(UserInput::Line(line)).is_err() {
                    return;
                }
            }
            keyboard.end();
            let _ = lines.blocking_send(UserInput::End);
        });
        let keyboard = self.clone();
        // Caught from here on, not from when that task runs first.
        let Some(mut signals) = Signals::new() else { return receiver };
        tokio::spawn(async move {
            while signals.next().await {
                keyboard.state().question = None;
                if sender.send(UserInput::Interrupt).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }

    /// Gives a line to the question that waits; gives it back if there is none.
    fn answer(&self, line: String) -> Option<String> {
        match self.state().question.take() {
            Some(question) => {
                // Who asked may have gone since.
                let _ = question.send(Zeroizing::new(line));
                None
            }
            None => Some(line),
        }
    }

    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.question = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives the terminal does not show what is typed.
struct Hidden(Option<Termios>);

impl Hidden {
    fn new() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &silent);
        }
        Self(before)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Ctrl-C and SIGTERM; none is lost between two waits.
struct Signals {
    ctrl_c: Signal,
    term: Signal,
}

impl Signals {
    fn new() -> Option<Self> {
        let (ctrl_c, term) = (signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?);
        Some(Self { ctrl_c, term })
    }

    async fn next(&mut self) -> bool {
        let got = tokio::select! {
            got = self.ctrl_c.recv() => got,
            got = self.term.recv() => got,
        };
        got.is_some()
    }
}

fn read_line(input: &mut impl BufRead) -> Option<String> {
    let mut line = Zeroizing::new(Vec::new());
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

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // Where nobody sees the question, the answer is the end of input.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
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

    #[test]
    fn a_question_takes_one_line_and_the_end_of_input_answers_none() {
        let keyboard = Keyboard::default();
        let (sender, answer) = sync_channel(1);
        keyboard.state().question = Some(sender);
        assert_eq!(keyboard.answer("yes".into()), None);
        assert_eq!(answer.recv().unwrap().as_str(), "yes");
        assert_eq!(keyboard.answer("hello".into()).as_deref(), Some("hello"), "what follows is for the room");
        keyboard.end();
        assert!(keyboard.ask("").is_none());
    }
}
