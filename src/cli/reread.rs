//! The settings of a running server, read again.

use super::args::{Cli, Command};
use super::config::with_defaults_from_file;
use crate::server::{Reread, Settings};
use crate::wire::text::shown;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

/// Reads the command line again with what the settings file says now, so that the same option wins as at the start.
pub fn settings(arguments: Vec<OsString>) -> Settings {
    // What cannot be read now could be a moment ago: there is nothing to compare with then, and all the same the server runs.
    let before = Mutex::new(read(&arguments).ok().map(|(_, said)| said));
    Arc::new(move || {
        let (mut reread, said) = read(&arguments)?;
        let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
        reread.notes = before.as_ref().map(|before| changed(before, &said)).unwrap_or_default();
        *before = Some(said);
        Ok(reread)
    })
}

/// What each option says, by its name.
type Said = Vec<(String, Vec<OsString>)>;

fn read(arguments: &[OsString]) -> Result<(Reread, Said), String> {
    let command = with_defaults_from_file(Cli::command(), arguments).map_err(|e| e.to_string())?;
    let first_line = |e: clap::Error| e.to_string().lines().next().map(shown).unwrap_or_default();
    let matches = command.try_get_matches_from(arguments).map_err(first_line)?;
    let Command::Server(args) = Cli::from_arg_matches(&matches).map_err(first_line)?.command else {
        return Err("this is no server's command line".into());
    };
    let said = matches.subcommand().map(|(_, of_server)| said(of_server)).unwrap_or_default();
    Ok((Reread { retention: args.retention(), relay: args.relay_limits(), notes: Vec::new() }, said))
}

fn said(matches: &ArgMatches) -> Said {
    let raw = |id: &clap::Id| {
        let values = matches.try_get_raw(id.as_str()).ok().flatten();
        values.map(|values| (id.as_str().replace('_', "-"), values.map(OsString::from).collect()))
    };
    matches.ids().filter_map(raw).collect()
}

fn changed(before: &Said, now: &Said) -> Vec<String> {
    let differs =
        |one: &Said, (id, value): &(String, Vec<OsString>)| !one.iter().any(|(of, is)| of == id && is == value);
    let mut ids: Vec<&String> = now.iter().filter(|it| differs(before, it)).map(|(id, _)| id).collect();
    ids.extend(before.iter().filter(|(id, _)| !now.iter().any(|(of, _)| of == id)).map(|(id, _)| id));
    let note = |id: &&String| match id.as_str() {
        "log-age" | "log-bytes" | "room-ttl" | "relay-user-rate" | "relay-rate" | "relay-user-bytes"
        | "relay-bytes" => format!("{id} has changed, and holds from now on"),
        _ => format!("{id} has changed, which needs a restart"),
    };
    ids.iter().map(note).collect()
}
