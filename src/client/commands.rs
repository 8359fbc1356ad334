//! The command table, and the one parser for every form in which a command is typed.
//!
//! `@dst text`, `@dst|text|arg`, `/verb args` and bare text all end in one [`Command`]; what a command needs stands in its row of [`TABLE`]
//! and is checked once, before it runs.

mod rate;
mod table;

use super::effects::ShareCommand;
use crate::limits::{FILE_NAME_MAX, TEXT_MAX};
use crate::wire::payload::FileKind;
pub use rate::{BadRate, rate};
pub use table::TABLE;
use table::{ALIASES, OWN};

/// A command, parsed. Names are as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table describes each command")]
pub enum Command {
    Say { room: Option<String>, text: String },
    Tell { to: String, text: String },
    Operator { text: String },
    Rooms,
    Peers,
    PingServer,
    Quit,
    WhoHas { pattern: String },
    Ping { to: String },
    GetFile { from: Option<String>, file: String, kind: FileKind },
    SendFile { to: String, path: String },
    Accept { id: String },
    Refuse { id: String },
    Grant { name: String },
    Share(ShareCommand),
    Trust { name: String },
    Ignore { name: String },
    Verify { name: String },
    Window(Option<u32>),
    MaxUploads(u32),
    Rate { way: Way, limit: Option<u64> },
    Transfers,
    Stats,
    Cancel { id: String },
    Create { room: String, private: bool },
    Join { room: String },
    Leave { room: Option<String> },
    Switch { room: String },
    Members,
    Invite { with_secret: bool },
    Restrict { flags: String },
    Unrestrict { id: u64 },
    Restrictions,
    Govern(Deed),
    Help { about: Option<String> },
}

/// What a room's owner does, and its moderators in part. Names are as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table describes each command")]
pub enum Deed {
    Kick { name: String, reason: Option<String> },
    Ban { name: String },
    Unban { name: String },
    Mute { name: String },
    Unmute { name: String },
    Op { name: String },
    Deop { name: String },
    Topic { text: String },
    Password { own: bool },
    Owner { name: String },
}

/// Which of the two rates is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What leaves.
    Up,
    /// What comes.
    Down,
}

/// Where a command may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anywhere, connected or not.
    Nothing,
    /// A server link that stands.
    Link,
    /// To be in a room; what it sends waits for the link.
    Room,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// What stands after the `@dst`, or after the slash.
    pub name: &'static str,
    /// The forms, as help shows them.
    pub usage: &'static str,
    /// One line.
    pub help: &'static str,
    /// Where it may run.
    pub needs: Needs,
    parse: fn(&str) -> Option<Command>,
}

/// Why a line is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing to say.
    #[error("an empty message is not sent")]
    Empty,
    /// No such command.
    #[error("there is no command {0}")]
    Unknown(String),
    /// It lacks something, or has something odd.
    #[error("usage: {0}")]
    Usage(&'static str),
    /// Looks like an object with a command, and is none.
    #[error(r#"a command as JSON is {{"cmd":"TEXT","tag":"TEXT"}}, the tag may be left out"#)]
    Json,
    /// More than [`TEXT_MAX`] bytes.
    #[error("a message has at most {TEXT_MAX} bytes")]
    TooLong,
}

impl ParseError {
    /// The stable word for JSON.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Unknown(_) => "unknown_command",
            Self::Usage(_) => "usage",
            Self::Json => "bad_json",
            Self::TooLong => "too_large",
        }
    }
}

/// Reads one line.
pub fn parse(line: &str) -> Result<Command, ParseError> {
    let line = line.trim();
    if line.len() > TEXT_MAX {
        return Err(ParseError::TooLong);
    }
    if matches!(line, "quit()" | "!q" | "exit") {
        return Ok(Command::Quit);
    }
    if let Some(rest) = line.strip_prefix('@') {
        return addressed(rest);
    }
    match line.strip_prefix('/') {
        // `//text` says `/text`.
        Some(text) if text.starts_with('/') => say(None, text),
        Some(rest) => slash(rest),
        None => say(None, line),
    }
}

/// A line: a command as typed, or `{"cmd":"…","tag":"…"}`. Gives the command and its tag. An object that is malformed is an error
/// where a `program` writes the lines, and so is one with a `cmd` that a person typed: sent as text, it would tell the room what was
/// meant for us.
pub fn read_line(line: &str, program: bool) -> Result<(String, Option<String>), ParseError> {
    #[derive(serde::Deserialize)]
    struct Object {
        cmd: String,
        tag: Option<String>,
    }
    if !line.trim_start().starts_with('{') {
        return Ok((line.to_owned(), None));
    }
    match serde_json::from_str::<Object>(line) {
        Ok(object) => Ok((object.cmd, object.tag)),
        Err(_) if program || line.contains("\"cmd\"") => Err(ParseError::Json),
        Err(_) => Ok((line.to_owned(), None)),
    }
}

/// The row of a command.
pub fn spec(command: &Command) -> Option<&'static Spec> {
    let name = match command {
        Command::Say { .. } => "all",
        Command::Tell { .. } => "msg",
        Command::Operator { .. } => "operator",
        Command::Rooms => "get_rooms",
        Command::Peers => "get_peers",
        Command::PingServer | Command::Ping { .. } => "ping",
        Command::Quit => "quit",
        Command::WhoHas { .. } => "whohas",
        Command::GetFile { .. } => "getfile",
        Command::SendFile { .. } => "sendfile",
        Command::Accept { .. } => "accept",
        Command::Refuse { .. } => "refuse",
        Command::Grant { .. } => "grant",
        Command::Share(ShareCommand::Set(_)) => "setshare",
        Command::Share(ShareCommand::Clear(_)) => "clrshare",
        Command::Share(ShareCommand::Global(true)) => "setglobalshare",
        Command::Share(ShareCommand::Global(false)) => "clrglobalshare",
        Command::Share(ShareCommand::Status) => "getsharestatus",
        Command::Trust { .. } => "trust",
        Command::Ignore { .. } => "ignore",
        Command::Verify { .. } => "verify",
        Command::Window(_) => "setwindowsize",
        Command::MaxUploads(_) => "setmaxuploads",
        Command::Rate { .. } => "setrate",
        Command::Transfers => "transfers",
        Command::Stats => "stats",
        Command::Cancel { .. } => "cancel",
        Command::Create { .. } => "create",
        Command::Join { .. } => "join",
        Command::Leave { .. } => "leave",
        Command::Switch { .. } => "room",
        Command::Members => "members",
        Command::Invite { .. } => "invite",
        Command::Restrict { .. } => "restrict",
        Command::Unrestrict { .. } => "unrestrict",
        Command::Restrictions => "restrictions",
        Command::Govern(deed) => match deed {
            Deed::Kick { .. } => "kick",
            Deed::Ban { .. } => "ban",
            Deed::Unban { .. } => "unban",
            Deed::Mute { .. } => "mute",
            Deed::Unmute { .. } => "unmute",
            Deed::Op { .. } => "op",
            Deed::Deop { .. } => "deop",
            Deed::Topic { .. } => "topic",
            Deed::Password { .. } => "password",
            Deed::Owner { .. } => "owner",
        },
        Command::Help { .. } => "help",
    };
    row(name)
}

/// The row of a command's name, with or without its slash.
pub fn row(name: &str) -> Option<&'static Spec> {
    let name = name.trim_start_matches(['/', '@']);
    TABLE.iter().find(|spec| spec.name == name)
}

fn slash(rest: &str) -> Result<Command, ParseError> {
    let (name, args) = split_word(rest);
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    let spec = row(name).ok_or_else(|| ParseError::Unknown(format!("/{name}")))?;
    (spec.parse)(args).ok_or(ParseError::Usage(spec.usage))
}

/// `dst text` or `dst|text|arg`.
fn addressed(rest: &str) -> Result<Command, ParseError> {
    let end = rest.find(|c: char| c == '|' || c.is_whitespace()).unwrap_or(rest.len());
    let (to, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let (verb, args, text) = match tail.strip_prefix('|') {
        Some(parts) => {
            let (verb, args) = parts.split_once('|').unwrap_or((parts, ""));
            (verb.trim(), args.trim(), parts.trim())
        }
        None => {
            let (verb, args) = split_word(tail.trim());
            (verb, args, tail.trim())
        }
    };
    match to.to_lowercase().as_str() {
        "" => Err(ParseError::Usage("@NAME text")),
        "all" if verb == "whohas" => of("whohas", args),
        "all" => say(None, text),
        "server" => to_server(verb, args, text),
        "me" => to_me(verb, args),
        "any" if verb == "getfile" => get_file(None, args),
        "any" => Err(ParseError::Usage("@any getfile FILE")),
        _ => match to.strip_prefix('#') {
            Some("") => Err(ParseError::Usage("@#ROOM text")),
            Some(room) => say(Some(room), text),
            None => to_peer(to, verb, args, text),
        },
    }
}

fn to_server(verb: &str, args: &str, text: &str) -> Result<Command, ParseError> {
    match (verb, args) {
        ("get_rooms", "") => Ok(Command::Rooms),
        ("get_peers", "") => Ok(Command::Peers),
        ("ping", "") => Ok(Command::PingServer),
        ("exit", "") => Ok(Command::Quit),
        _ => of("operator", text),
    }
}

fn to_me(verb: &str, args: &str) -> Result<Command, ParseError> {
    if !OWN.contains(&verb) {
        return Err(ParseError::Unknown(format!("@me {verb}")));
    }
    of(verb, args)
}

fn to_peer(to: &str, verb: &str, args: &str, text: &str) -> Result<Command, ParseError> {
    match verb {
        "ping" if args.is_empty() => Ok(Command::Ping { to: to.to_owned() }),
        "getfile" => get_file(Some(to), args),
        "sendfile" => send_file(to, args).ok_or(ParseError::Usage("@NAME sendfile PATH")),
        _ if text.is_empty() => Err(ParseError::Empty),
        _ => Ok(Command::Tell { to: to.to_owned(), text: text.to_owned() }),
    }
}

fn say(room: Option<&str>, text: &str) -> Result<Command, ParseError> {
    if text.trim().is_empty() {
        return Err(ParseError::Empty);
    }
    Ok(Command::Say { room: room.map(str::to_owned), text: text.to_owned() })
}

fn get_file(from: Option<&str>, args: &str) -> Result<Command, ParseError> {
    let usage = ParseError::Usage("@NAME getfile FILE, or FOLDER/ for a folder");
    let name = unquoted(args);
    let (file, kind) = match name.strip_suffix('/') {
        Some(folder) => (folder, FileKind::Folder),
        None => (name, FileKind::File),
    };
    if file.is_empty() || file.len() > FILE_NAME_MAX {
        return Err(usage);
    }
    Ok(Command::GetFile { from: from.map(str::to_owned), file: file.to_owned(), kind })
}

/// A path, of the file system here; quotes around it are dropped.
fn send_file(to: &str, args: &str) -> Option<Command> {
    let (to, path) = (word(to)?, unquoted(args));
    (!path.is_empty()).then(|| Command::SendFile { to, path: path.to_owned() })
}

fn of(name: &str, args: &str) -> Result<Command, ParseError> {
    let spec = row(name).ok_or_else(|| ParseError::Unknown(name.to_owned()))?;
    match (spec.parse)(args) {
        None if args.is_empty() && name == "operator" => Err(ParseError::Empty),
        parsed => parsed.ok_or(ParseError::Usage(spec.usage)),
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

/// The rest of the line, so names may have spaces; quotes around it are dropped.
fn file_name(args: &str) -> Option<String> {
    let name = unquoted(args);
    (!name.is_empty() && name.len() <= FILE_NAME_MAX).then(|| name.to_owned())
}

fn unquoted(args: &str) -> &str {
    let quoted = ['"', '\''].iter().find_map(|q| args.strip_prefix(*q)?.strip_suffix(*q));
    quoted.unwrap_or(args)
}

fn word(args: &str) -> Option<String> {
    let name = args.trim_start_matches('@');
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| name.to_owned())
}

fn deed(args: &str, of: fn(String) -> Deed) -> Option<Command> {
    Some(Command::Govern(of(word(args)?)))
}

fn room_word(args: &str) -> Option<String> {
    word(args.trim_start_matches('#'))
}

fn alone(args: &str, command: Command) -> Option<Command> {
    args.is_empty().then_some(command)
}

fn rate_limit(args: &str) -> Option<Command> {
    let (way, limit) = split_word(args);
    let way = match way {
        "up" => Way::Up,
        "down" => Way::Down,
        _ => return None,
    };
    let limit = if limit == "off" { None } else { Some(rate(limit).ok()?) };
    Some(Command::Rate { way, limit })
}

fn number(args: &str, least: u32) -> Option<u32> {
    args.parse().ok().filter(|n| *n >= least)
}

#[cfg(test)]
mod tests;
