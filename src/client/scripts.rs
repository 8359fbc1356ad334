//! `--exec`: commands one after another, and the exit code of the whole.

use std::collections::VecDeque;

/// A script of commands that follows the command line's own wishes (create, join). Commands are counted as the core counts
/// them: from 1, in the order in which they were given to it.
#[derive(Debug)]
pub struct Script {
    lines: VecDeque<String>,
    scripted: bool,
    given: u64,
    waiting: Option<u64>,
    code: u8,
    left: bool,
}

impl Script {
    /// `starts` if the command line names a room, which counts as the first command; `lines` are the `--exec` commands.
    pub fn new(starts: bool, lines: Vec<String>) -> Self {
        let scripted = !lines.is_empty();
        let given = u64::from(starts);
        Self { lines: lines.into(), scripted, given, waiting: starts.then_some(1), code: 0, left: false }
    }

    /// A command was given to the core from elsewhere.
    pub const fn typed(&mut self) {
        self.given += 1;
    }

    /// Whether `--exec` was given and its leaving is still to come.
    pub const fn is_running(&self) -> bool {
        self.scripted && !self.left
    }

    /// The command to give now, if it is its turn; after the last one, the wish to leave.
    pub fn next_line(&mut self) -> Option<String> {
        if !self.is_running() || self.waiting.is_some() {
            return None;
        }
        let line = self.lines.pop_front().unwrap_or_else(|| {
            self.left = true;
            "exit".into()
        });
        self.given += 1;
        self.waiting = Some(self.given);
        Some(line)
    }

    /// A command has come to its end. Gives the code to leave with, if this ends the script.
    pub fn done(&mut self, number: u64, code: u8) -> Option<u8> {
        if self.waiting != Some(number) {
            return None;
        }
        self.waiting = None;
        (self.scripted && code != 0).then_some(code)
    }

    /// Gives up what is left, and remembers the code.
    pub fn finish(&mut self, code: u8) {
        self.code = code;
        self.lines.clear();
    }

    /// The first failure's code, or 0.
    pub const fn exit_code(&self) -> u8 {
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_wait_for_the_one_before_and_then_leave() {
        let mut script = Script::new(true, vec!["a".into(), "b".into()]);
        assert_eq!(script.next_line(), None, "the join is not done");
        assert_eq!(script.done(1, 0), None);
        assert_eq!(script.next_line().as_deref(), Some("a"));
        assert_eq!(script.next_line(), None);
        assert_eq!(script.done(2, 0), None);
        assert_eq!(script.next_line().as_deref(), Some("b"));
        assert_eq!(script.done(3, 0), None);
        assert_eq!(script.next_line().as_deref(), Some("exit"));
        assert_eq!(script.exit_code(), 0);
    }

    #[test]
    fn the_first_failure_ends_it_with_its_code() {
        let mut script = Script::new(false, vec!["a".into(), "b".into()]);
        assert_eq!(script.next_line().as_deref(), Some("a"));
        let code = script.done(1, 5).unwrap();
        script.finish(code);
        assert_eq!(script.next_line().as_deref(), Some("exit"));
        assert_eq!(script.exit_code(), 5);
    }

    #[test]
    fn without_commands_nothing_is_ever_given() {
        let mut script = Script::new(true, Vec::new());
        assert_eq!(script.done(1, 4), None);
        assert_eq!(script.next_line(), None);
        assert!(!script.is_running());
    }
}
