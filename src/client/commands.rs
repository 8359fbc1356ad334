//! The command table, and the one parser for every form in which a command is typed.
//!
//! `@dst text`, `@dst|text|arg`, `/verb args` and bare text all end in one [`Command`]; what a command needs stands in its row of [`TABLE`]
//! and is checked once, before it runs.

use super::effects::ShareCommand;
use crate::limits::{FILE_NAME_MAX, TEXT_MAX};

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
    GetFile { from: Option<String>, file: String },
    Share(ShareCommand),
    Trust { name: String },
    Ignore { name: String },
    Verify { name: String },
    Window(u32),
    MaxUploads(u32),
    Transfers,
    Cancel { id: String },
    Create { room: String, private: bool },
    Join { room: String },
    Leave { room: Option<String> },
    Switch { room: String },
    Members,
    Invite { with_secret: bool },
    Help { about: Option<String> },
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

/// A line of a script: a command as typed, or `{"cmd":"…","tag":"…"}`. Gives the command and its tag. An object with a `cmd` that is
/// malformed otherwise is an error: sent as text, it would tell the room what was meant for us.
pub fn read_line(line: &str) -> Result<(String, Option<String>), ParseError> {
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
        Err(_) if line.contains("\"cmd\"") => Err(ParseError::Json),
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
        Command::Transfers => "transfers",
        Command::Cancel { .. } => "cancel",
        Command::Create { .. } => "create",
        Command::Join { .. } => "join",
        Command::Leave { .. } => "leave",
        Command::Switch { .. } => "room",
        Command::Members => "members",
        Command::Invite { .. } => "invite",
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
        // Else it would go to the peer as text.
        "sendfile" => Err(ParseError::Unknown("sendfile".into())),
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
    let file = file_name(args).ok_or(ParseError::Usage("@NAME getfile FILE"))?;
    Ok(Command::GetFile { from: from.map(str::to_owned), file })
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
    let quoted = ['"', '\''].iter().find_map(|q| args.strip_prefix(*q)?.strip_suffix(*q));
    let name = quoted.unwrap_or(args);
    (!name.is_empty() && name.len() <= FILE_NAME_MAX).then(|| name.to_owned())
}

fn word(args: &str) -> Option<String> {
    let name = args.trim_start_matches('@');
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| name.to_owned())
}

fn room_word(args: &str) -> Option<String> {
    word(args.trim_start_matches('#'))
}

fn alone(args: &str, command: Command) -> Option<Command> {
    args.is_empty().then_some(command)
}

fn number(args: &str, least: u32) -> Option<u32> {
    args.parse().ok().filter(|n| *n >= least)
}

const fn is(name: &'static str, usage: &'static str, help: &'static str, needs: Needs, parse: Parse) -> Spec {
    Spec { name, usage, help, needs, parse }
}

type Parse = fn(&str) -> Option<Command>;

/// Every command, in the order in which help shows them.
pub const TABLE: &[Spec] = &[
    is(
        "all",
        "TEXT, @all TEXT, /all TEXT",
        "a message to the current room (@#ROOM TEXT: to another)",
        Needs::Room,
        |a| say(None, a).ok(),
    ),
    is("msg", "@NAME TEXT, @NAME@SERVER TEXT, /msg NAME TEXT", "a private message", Needs::Nothing, |a| {
        let (to, text) = split_word(a);
        (!text.is_empty()).then(|| Command::Tell { to: to.trim_start_matches('@').into(), text: text.into() })
    }),
    is("operator", "@server TEXT, /operator TEXT", "a message to the server's operator", Needs::Link, |a| {
        (!a.is_empty()).then(|| Command::Operator { text: a.into() })
    }),
    is("create", "/create ROOM [--private]", "make a room and enter it", Needs::Link, |a| {
        let (room, flag) = split_word(a);
        let room = room_word(room)?;
        matches!(flag, "" | "--private").then_some(Command::Create { room, private: !flag.is_empty() })
    }),
    is("join", "/join ROOM|INVITE", "enter a room", Needs::Link, |a| Some(Command::Join { room: room_word(a)? })),
    is("leave", "/leave [ROOM]", "leave a room, the current one by default", Needs::Room, |a| match a {
        "" => Some(Command::Leave { room: None }),
        _ => Some(Command::Leave { room: Some(room_word(a)?) }),
    }),
    is("room", "/room ROOM", "make another of your rooms the current one", Needs::Room, |a| {
        Some(Command::Switch { room: room_word(a)? })
    }),
    is("members", "/members", "who is in the current room", Needs::Room, |a| alone(a, Command::Members)),
    is("invite", "/invite [--with-secret]", "an invite to the current room", Needs::Room, |a| {
        matches!(a, "" | "--with-secret").then_some(Command::Invite { with_secret: !a.is_empty() })
    }),
    is("get_rooms", "@server get_rooms, /rooms", "the server's public rooms", Needs::Link, |a| {
        alone(a, Command::Rooms)
    }),
    is("get_peers", "@server get_peers, /peers", "who is in the current room", Needs::Room, |a| {
        alone(a, Command::Peers)
    }),
    is("ping", "@server ping, @NAME ping, /ping [NAME]", "a round trip", Needs::Link, |a| match a {
        "" | "server" => Some(Command::PingServer),
        _ => Some(Command::Ping { to: word(a)? }),
    }),
    is("whohas", "@all whohas GLOB, /whohas GLOB", "who shares a file of that name", Needs::Room, |a| {
        Some(Command::WhoHas { pattern: file_name(a)? })
    }),
    is("getfile", "@NAME getfile FILE, @any getfile FILE, /getfile NAME FILE", "fetch a file", Needs::Link, |a| {
        let (from, file) = split_word(a);
        let from = from.trim_start_matches('@');
        get_file((!from.eq_ignore_ascii_case("any")).then_some(from), file).ok()
    }),
    is("setshare", "@me setshare FILE, /setshare FILE", "share a file of your shared folder", Needs::Nothing, |a| {
        Some(Command::Share(ShareCommand::Set(file_name(a)?)))
    }),
    is("clrshare", "@me clrshare FILE, /clrshare FILE", "share it no longer", Needs::Nothing, |a| {
        Some(Command::Share(ShareCommand::Clear(file_name(a)?)))
    }),
    is("setglobalshare", "@me setglobalshare", "share all files without a switch of their own", Needs::Nothing, |a| {
        alone(a, Command::Share(ShareCommand::Global(true)))
    }),
    is("clrglobalshare", "@me clrglobalshare", "share only files switched on one by one", Needs::Nothing, |a| {
        alone(a, Command::Share(ShareCommand::Global(false)))
    }),
    is("getsharestatus", "@me getsharestatus", "what you share", Needs::Nothing, |a| {
        alone(a, Command::Share(ShareCommand::Status))
    }),
    is("transfers", "@me transfers, /transfers", "your running transfers", Needs::Nothing, |a| {
        alone(a, Command::Transfers)
    }),
    is("cancel", "@me cancel ID, /cancel ID", "give a transfer up", Needs::Nothing, |a| {
        Some(Command::Cancel { id: word(a)? })
    }),
    is("trust", "@me trust NAME, /trust NAME", "accept a changed key", Needs::Nothing, |a| {
        Some(Command::Trust { name: word(a)? })
    }),
    is("ignore", "@me ignore NAME, /ignore NAME", "hear no more of somebody", Needs::Nothing, |a| {
        Some(Command::Ignore { name: word(a)? })
    }),
    is("verify", "@me verify NAME, /verify NAME", "a number to compare with somebody by voice", Needs::Nothing, |a| {
        Some(Command::Verify { name: word(a)? })
    }),
    is("setwindowsize", "@me setwindowsize N", "segments in flight in new transfers", Needs::Nothing, |a| {
        Some(Command::Window(number(a, 1)?))
    }),
    is("setmaxuploads", "@me setmaxuploads N", "uploads at once", Needs::Nothing, |a| {
        Some(Command::MaxUploads(number(a, 0)?))
    }),
    is("help", "/help [COMMAND]", "this list", Needs::Nothing, |a| {
        Some(Command::Help { about: (!a.is_empty()).then(|| a.to_owned()) })
    }),
    is("quit", "quit(), !q, exit, @server exit, /quit", "leave", Needs::Nothing, |a| alone(a, Command::Quit)),
];

/// Shorter words for some commands, after a slash.
const ALIASES: &[(&str, &str)] =
    &[("rooms", "get_rooms"), ("peers", "get_peers"), ("get", "getfile"), ("exit", "quit"), ("say", "all")];

/// What `@me` answers to.
const OWN: &[&str] = &[
    "setshare",
    "clrshare",
    "setglobalshare",
    "clrglobalshare",
    "getsharestatus",
    "trust",
    "ignore",
    "verify",
    "setwindowsize",
    "setmaxuploads",
    "transfers",
    "cancel",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(to: &str, text: &str) -> Command {
        Command::Tell { to: to.into(), text: text.into() }
    }

    fn get(from: Option<&str>, file: &str) -> Command {
        Command::GetFile { from: from.map(Into::into), file: file.into() }
    }

    fn say_to(room: Option<&str>, text: &str) -> Command {
        Command::Say { room: room.map(Into::into), text: text.into() }
    }

    #[test]
    fn each_form_of_a_command_is_the_same_command() {
        let same: &[(&[&str], Command)] = &[
            (&["hello all", "@all hello all", "@all|hello all", "/all hello all"], say_to(None, "hello all")),
            (&["@#den hi", "@#den|hi"], say_to(Some("den"), "hi")),
            (&["@bob hi there", "@bob|hi there", "/msg bob hi there", "/msg @bob hi there"], tell("bob", "hi there")),
            (&["@bob@s2 hi"], tell("bob@s2", "hi")),
            (
                &["@bob getfile a b.txt", "@bob|getfile|a b.txt", "/getfile bob a b.txt", "@bob getfile \"a b.txt\""],
                get(Some("bob"), "a b.txt"),
            ),
            (&["@any getfile x", "@any|getfile|x", "/get any x", "/getfile @any 'x'"], get(None, "x")),
            (&["@all whohas *.iso", "@all|whohas|*.iso", "/whohas *.iso"], Command::WhoHas { pattern: "*.iso".into() }),
            (&["@server ping", "@server|ping", "/ping"], Command::PingServer),
            (&["@bob ping", "/ping bob"], Command::Ping { to: "bob".into() }),
            (&["@server get_rooms", "/rooms", "/get_rooms"], Command::Rooms),
            (&["@server exit", "quit()", "!q", "exit", "/quit", "/exit"], Command::Quit),
            (&["@me setmaxuploads 3", "@me|setmaxuploads|3", "/setmaxuploads 3"], Command::MaxUploads(3)),
            (&["/join #den", "/join den"], Command::Join { room: "den".into() }),
        ];
        for (lines, command) in same {
            for line in *lines {
                assert_eq!(parse(line).as_ref(), Ok(command), "{line}");
            }
        }
    }

    #[test]
    fn text_that_looks_like_a_command_stays_text() {
        assert_eq!(parse("@bob ping me later"), Ok(tell("bob", "ping me later")));
        assert_eq!(parse("@bob a|b"), Ok(tell("bob", "a|b")));
        assert_eq!(parse("@bob|hi|there"), Ok(tell("bob", "hi|there")));
        assert_eq!(parse("//shrug"), Ok(say_to(None, "/shrug")));
        assert_eq!(parse("@server please help"), Ok(Command::Operator { text: "please help".into() }));
    }

    #[test]
    fn empty_and_unknown_lines_are_refused() {
        for empty in ["", "   ", "@all", "@all|", "@bob", "@bob|  ", "@#den", "@server"] {
            assert_eq!(parse(empty), Err(ParseError::Empty), "{empty:?}");
        }
        for unknown in ["/nonsense", "@me accept 3", "@bob sendfile x"] {
            assert!(matches!(parse(unknown), Err(ParseError::Unknown(_))), "{unknown}");
        }
        for usage in
            ["@", "@any hello", "@bob getfile", "/create", "/create den --hidden", "@me setwindowsize 0", "/help_"]
        {
            assert!(parse(usage).is_err(), "{usage}");
        }
        assert_eq!(parse(&"x".repeat(TEXT_MAX + 1)), Err(ParseError::TooLong));
    }

    #[test]
    fn each_row_is_reached_by_its_slash() {
        for spec in TABLE {
            let line = ["", " x", " 1", " x y"].iter().find_map(|args| parse(&format!("/{}{args}", spec.name)).ok());
            let found = super::spec(&line.unwrap_or_else(|| panic!("{}", spec.name))).unwrap();
            assert_eq!(found.name, spec.name);
        }
    }

    #[test]
    fn a_script_line_may_be_an_object() {
        assert_eq!(read_line(r#"{"cmd":"@all hi","tag":"7"}"#), Ok(("@all hi".into(), Some("7".into()))));
        assert_eq!(read_line("{not json"), Ok(("{not json".into(), None)));
        assert_eq!(read_line(r#"{"cmd":"@bob secret""#), Err(ParseError::Json), "it is not said to the room");
    }
}
