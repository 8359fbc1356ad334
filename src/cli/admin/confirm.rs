//! The question before what hurts.

use super::person_is_there;
use crate::cli::exit::ExitCode;
use crate::cli::report::Report;
use crate::wire::admin::{Ask, Whom};
use crate::wire::text::shown;
use std::io::{self, Write};
use std::time::Duration;

/// What will happen, for who is to say yes to it; `None` for what needs no question.
pub fn hurts(ask: &Ask) -> Option<String> {
    Some(match ask {
        Ask::Kick { name, room: Some(room), .. } => format!("{} is put out of {}.", shown(name), shown(room)),
        Ask::Kick { name, room: None, .. } => format!("{} is put out of all rooms and off the server.", shown(name)),
        Ask::Ban { whom, for_s, here, .. } => {
            let whom = match whom {
                Whom::Name(name) => format!("{}, with the key behind the name,", shown(name)),
                Whom::Fingerprint(key) => format!("Who has the key {}", shown(key)),
                Whom::Network(network) => format!("Everybody at {}", shown(network)),
            };
            let term = for_s.map_or_else(|| "until the ban is lifted".into(), |s| format!("for {}", term(s)));
            let place = if *here { "on this server only" } else { "on all servers of the mesh" };
            format!("{whom} is put out and kept out {term}, {place}.")
        }
        Ask::Revoke { name } => format!("{} has no role any more.", shown(name)),
        Ask::Close { room, .. } => format!("{} ends for everybody in it, and its log is deleted.", shown(room)),
        Ask::Release { name } => {
            format!("Whoever asks first for the name {} has it then; who knew its key is alarmed.", shown(name))
        }
        Ask::Restrict { room, user, limits, .. } if limits.off => match (room, user) {
            (Some(room), _) => format!("Nothing is shared in {} any more.", shown(room)),
            (None, Some(user)) => format!("{} shares nothing any more.", shown(user)),
            (None, None) => "Nothing is shared on this server any more.".into(),
        },
        Ask::Defcon { level: 2 } => "No new names and no new rooms; all rates are a tenth.".into(),
        Ask::Defcon { level: 1 } => "Only those get in who have a role or are on the allow list.".into(),
        Ask::Stop => "The server stops, and everybody is off.".into(),
        _ => return None,
    })
}

/// Asks on the terminal; an error if it is not a yes.
pub(super) fn on_terminal(what: &str) -> Result<(), Report> {
    if !person_is_there() {
        return Err(Report::new(ExitCode::Usage, format!("this needs a yes, and nobody is there to be asked: {what}"))
            .hint("say --yes if it is meant so")
            .word("not_confirmed"));
    }
    let mut err = io::stderr().lock();
    write!(err, "{what}\n{QUESTION}")?;
    err.flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    if is_yes(&line) {
        return Ok(());
    }
    Err(Report::new(ExitCode::Failed, "nothing was done").word("not_confirmed"))
}

/// Whether that is a yes.
pub fn is_yes(line: &str) -> bool {
    ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str())
}

/// `2h`, `1day 12h`.
pub(super) fn term(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// What is asked below it.
pub const QUESTION: &str = "go on? [yes/no] ";
