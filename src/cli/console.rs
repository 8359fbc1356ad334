//! The terminal of `secchat server`: lines to people, and every command of `secchat admin`.
//!
//! Lines come from a terminal or a pipe. The end of standard input means nothing: a server that was started without one runs on. A terminal that
//! the server is not in the foreground of is left alone, since reading from it would stop the process.

use super::admin::commands::AdminCommand;
use super::admin::{confirm, show};
use crate::limits::ADMIN_ASK_MAX;
use crate::server::operations::{Console, Told};
use crate::wire::admin::Ask;
use crate::wire::text::shown;
use clap::Parser;
use std::io::{IsTerminal, Write};
use tokio::sync::{mpsc, oneshot};

/// A line, taken apart.
#[derive(Debug, Parser)]
#[command(
    name = "console",
    no_binary_name = true,
    disable_version_flag = true,
    override_usage = "COMMAND, @NAME TEXT, @all TEXT, @server TEXT, exit",
    after_help = "@NAME TEXT writes to somebody, @all TEXT to everybody, @server TEXT is shown here; exit stops the server."
)]
struct Line {
    /// The answer as one JSON object on one line
    #[arg(long, global = true)]
    json: bool,
    /// Do it without a question
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: AdminCommand,
}

/// What a line comes to.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nothing but words.
    Say(String),
    /// To be asked.
    Ask(Box<Ask>, show::Form),
    /// To be asked when the next line says yes.
    Confirm(String, Box<Ask>, show::Form),
}

/// Begins to read, where standard input is a terminal or a pipe; gives the server's side.
pub fn start() -> Option<Console> {
    let somebody = std::io::stdin().is_terminal();
    if !somebody && !is_pipe() {
        return None;
    }
    let (asks, questions) = mpsc::channel(1);
    let (heard, told) = mpsc::channel(HEARD_WAITING);
    let (typed, lines) = mpsc::channel(1);
    std::thread::spawn(move || read_lines(&typed));
    tokio::spawn(run(lines, told, asks, somebody));
    Some(Console { asks: questions, heard })
}

/// Until the server ends.
async fn run(
    mut lines: mpsc::Receiver<String>,
    mut heard: mpsc::Receiver<String>,
    asks: mpsc::Sender<(Ask, oneshot::Sender<Told>)>,
    somebody: bool,
) {
    let mut waiting: Option<(Box<Ask>, show::Form)> = None;
    loop {
        tokio::select! {
            Some(line) = heard.recv() => print(&(line + "\n")),
            Some(line) = lines.recv() => {
                let step = match waiting.take() {
                    Some((ask, form)) if confirm::is_yes(&line) => Step::Ask(ask, form),
                    Some(_) => Step::Say("nothing was done\n".into()),
                    None => step(&line, somebody),
                };
                match step {
                    Step::Say(text) => print(&text),
                    Step::Ask(ask, form) => ask_server(&asks, *ask, form).await,
                    Step::Confirm(what, ask, form) => {
                        print(&format!("{what}\n{}", confirm::QUESTION));
                        waiting = Some((ask, form));
                    }
                }
            }
            else => return,
        }
    }
}

async fn ask_server(asks: &mpsc::Sender<(Ask, oneshot::Sender<Told>)>, ask: Ask, form: show::Form) {
    let (answered, answer) = oneshot::channel();
    if asks.send((ask, answered)).await.is_err() {
        return;
    }
    if let Ok(told) = answer.await {
        print(&show::text(&told.answer, &form, &show::Look::of_terminal()));
    }
}

fn step(line: &str, somebody: bool) -> Step {
    let line = line.trim();
    if let Some(told) = line.strip_prefix('@') {
        return speak(told);
    }
    match line {
        "" => return Step::Say(String::new()),
        "exit" => return Step::Ask(Box::new(Ask::Stop), show::Form::Text),
        _ => {}
    }
    let Some(words) = words(line) else { return Step::Say("error: a quotation mark is missing\n".into()) };
    match Line::try_parse_from(words) {
        Err(error) => Step::Say(error.to_string().lines().map(|line| shown(line) + "\n").collect()),
        Ok(Line { json, yes, command }) => {
            let form = if json { show::Form::Json } else { show::Form::of(&command) };
            let ask = Box::new(command.ask());
            match confirm::hurts(&ask).filter(|_| !yes) {
                Some(what) if somebody => Step::Confirm(what, ask, form),
                Some(what) => {
                    Step::Say(format!("error: this needs a yes: {what}\nhint: say --yes if it is meant so\n"))
                }
                None => Step::Ask(ask, form),
            }
        }
    }
}

/// `NAME text`, `all text`, `server text`.
fn speak(line: &str) -> Step {
    let (name, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let text = text.trim().to_owned();
    match name {
        _ if name.is_empty() || text.is_empty() => Step::Say("error: write @NAME TEXT\n".into()),
        "all" => Step::Ask(Box::new(Ask::Broadcast { text }), show::Form::Text),
        "server" => Step::Say(format!("the operator to the server: {}\n", shown(&text))),
        name => Step::Ask(Box::new(Ask::Message { name: name.to_owned(), text }), show::Form::Text),
    }
}

/// Words as a shell takes them apart: by spaces, but for what stands in quotation marks or behind a backslash. `None` where one mark is missing.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut mark, mut chars) = (Vec::new(), None::<String>, None, line.chars());
    while let Some(c) = chars.next() {
        match (mark, c) {
            (Some(open), c) if c == open => mark = None,
            (None, '\'' | '"') => {
                mark = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    mark.is_none().then_some(words)
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: the server does not mind.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What is typed, a line at a time, until there is no more or nobody listens. A line that is too long is left out as a whole.
fn read_lines(typed: &mpsc::Sender<String>) {
    let (mut line, mut cut) = (Vec::new(), false);
    let mut bytes = [0; 4096];
    while let Some(read) = read_some(&mut bytes) {
        for byte in bytes.iter().take(read) {
            match byte {
                b'\n' => {
                    let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
                    if !std::mem::take(&mut cut) && typed.blocking_send(text).is_err() {
                        return;
                    }
                }
                _ if line.len() >= ADMIN_ASK_MAX => cut = true,
                byte => line.push(*byte),
            }
        }
    }
}

#[cfg(unix)]
fn is_pipe() -> bool {
    use rustix::fs::{FileType, fstat};
    let kind = fstat(std::io::stdin()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

#[cfg(not(unix))]
const fn is_pipe() -> bool {
    true
}

/// `None` at the end of the input; on a terminal somebody may type on behind it.
#[cfg(unix)]
fn read_some(bytes: &mut [u8]) -> Option<usize> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    use rustix::process::getpgrp;
    use rustix::termios::tcgetpgrp;
    let stdin = std::io::stdin();
    loop {
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        }
        let [ready] = ready;
        let hung_up = ready.revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        let terminal = stdin.is_terminal();
        // No answer means that it is not the terminal that controls us.
        if terminal && tcgetpgrp(&stdin).is_ok_and(|front| front != getpgrp()) {
            std::thread::sleep(BACKGROUND_PAUSE);
            continue;
        }
        match rustix::io::read(&stdin, &mut *bytes) {
            Ok(0) if terminal && !hung_up => {}
            Ok(0) => return None,
            Ok(read) => return Some(read),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(not(unix))]
fn read_some(bytes: &mut [u8]) -> Option<usize> {
    use std::io::Read;
    std::io::stdin().lock().read(bytes).ok().filter(|read| *read > 0)
}

/// Lines of users that may wait to be shown; what finds no room goes into the log.
const HEARD_WAITING: usize = 64;
/// How often it is looked whether the server is in the foreground again.
#[cfg(unix)]
const BACKGROUND_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str) -> Ask {
        match step(line, true) {
            Step::Ask(ask, _) | Step::Confirm(_, ask, _) => *ask,
            Step::Say(text) => panic!("{line}: {text}"),
        }
    }

    #[test]
    fn a_line_is_a_word_to_somebody_or_a_command() {
        assert_eq!(ask("@bob  hello there"), Ask::Message { name: "bob".into(), text: "hello there".into() });
        assert_eq!(ask("@bob@s2 hi"), Ask::Message { name: "bob@s2".into(), text: "hi".into() });
        assert_eq!(ask("@all hi"), Ask::Broadcast { text: "hi".into() });
        assert_eq!(ask("exit"), Ask::Stop);
        let reason = Some("he said \"no\"".to_owned());
        assert_eq!(
            ask(r#"kick bob --reason "he said \"no\"""#),
            Ask::Kick { name: "bob".into(), room: None, reason: reason.clone() }
        );
        assert_eq!(
            ask(r#"mute bob --reason 'he said "no"'"#),
            Ask::Mute { name: "bob".into(), room: None, for_s: None, reason }
        );
        assert_eq!(ask("defcon 3"), Ask::Defcon { level: 3 });
    }

    #[test]
    fn what_hurts_is_asked_for_first_and_needs_a_yes_where_nobody_is() {
        assert!(matches!(step("kick bob", true), Step::Confirm(what, ..) if what.contains("bob")));
        assert!(matches!(step("kick bob", false), Step::Say(text) if text.contains("--yes")));
        assert!(matches!(step("kick bob --yes", false), Step::Ask(..)));
        assert!(matches!(step("users --json", false), Step::Ask(_, show::Form::Json)));
    }

    #[test]
    fn what_makes_no_sense_is_answered_in_harmless_words() {
        for line in [
            "kick",
            "frobnicate",
            "kick 'bob",
            "@bob",
            "@ hi",
            "\x1b]0;x\x07",
            "ban bob --for never",
            "help",
            "kick --help",
        ] {
            let Step::Say(text) = step(line, true) else { panic!("{line}") };
            assert!(text.len() > 10 && text.lines().flat_map(str::chars).all(crate::wire::text::harmless), "{text:?}");
        }
        assert_eq!(step("  ", true), Step::Say(String::new()));
    }
}
