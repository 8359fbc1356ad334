//! The table itself: a row for each command.

use super::{
    Command, Deed, Needs, Spec, alone, deed, file_name, get_file, number, rate_limit, room_word, say, send_file,
    split_word, word,
};
use crate::client::effects::ShareCommand;

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
    is("create", "/create ROOM[@SERVER] [--private]", "make a room and enter it", Needs::Link, |a| {
        let (room, flag) = split_word(a);
        let room = room_word(room)?;
        matches!(flag, "" | "--private").then_some(Command::Create { room, private: !flag.is_empty() })
    }),
    is("join", "/join ROOM[@SERVER]|INVITE", "enter a room", Needs::Link, |a| {
        Some(Command::Join { room: room_word(a)? })
    }),
    is("leave", "/leave [ROOM]", "leave a room, the current one by default", Needs::Room, |a| match a {
        "" => Some(Command::Leave { room: None }),
        _ => Some(Command::Leave { room: Some(room_word(a)?) }),
    }),
    is("room", "/room ROOM", "make another of your rooms the current one", Needs::Room, |a| {
        Some(Command::Switch { room: room_word(a)? })
    }),
    is("members", "/members", "who is in the current room, its owner, moderators and topic", Needs::Room, |a| {
        alone(a, Command::Members)
    }),
    is(
        "kick",
        "/kick NAME [REASON]",
        "put somebody out of your room; a private one gets a new password (the reason is said in the room)",
        Needs::Room,
        |a| {
            let (name, reason) = split_word(a);
            let reason = (!reason.is_empty()).then(|| reason.to_owned());
            Some(Command::Govern(Deed::Kick { name: word(name)?, reason }))
        },
    ),
    is("ban", "/ban NAME", "put somebody out of your room and never let their key in again", Needs::Room, |a| {
        deed(a, |name| Deed::Ban { name })
    }),
    is("unban", "/unban NAME", "let them in again", Needs::Room, |a| deed(a, |name| Deed::Unban { name })),
    is("mute", "/mute NAME", "nothing that they say in your room is shown to anybody", Needs::Room, |a| {
        deed(a, |name| Deed::Mute { name })
    }),
    is("unmute", "/unmute NAME", "let them speak again", Needs::Room, |a| deed(a, |name| Deed::Unmute { name })),
    is("op", "/op NAME", "make somebody a moderator of your room, who may kick", Needs::Room, |a| {
        deed(a, |name| Deed::Op { name })
    }),
    is("deop", "/deop NAME", "make them a member like the others", Needs::Room, |a| {
        deed(a, |name| Deed::Deop { name })
    }),
    is("topic", "/topic TEXT, /topic --none", "what your room is about", Needs::Room, |a| match a {
        "" => None,
        "--none" => Some(Command::Govern(Deed::Topic { text: String::new() })),
        _ => Some(Command::Govern(Deed::Topic { text: a.to_owned() })),
    }),
    is(
        "password",
        "/password [--own]",
        "another password for your private room; --own asks for yours",
        Needs::Room,
        |a| matches!(a, "" | "--own").then_some(Command::Govern(Deed::Password { own: !a.is_empty() })),
    ),
    is("owner", "/owner NAME", "hand your room over to another member", Needs::Room, |a| {
        deed(a, |name| Deed::Owner { name })
    }),
    is("invite", "/invite [--with-secret]", "an invite to the current room", Needs::Room, |a| {
        matches!(a, "" | "--with-secret").then_some(Command::Invite { with_secret: !a.is_empty() })
    }),
    is(
        "restrict",
        "/restrict [--off] [--max-size N] [--deny-name GLOB] [--deny-type MIME] [--deny-root HASH] [--files-a-day N] …",
        "as a room's owner: what may not be shared here (also --allow-name, --allow-type, --bytes-a-day, --at-once, --only NAME, \
         --user NAME, --reason TEXT)",
        Needs::Room,
        |a| (!a.is_empty()).then(|| Command::Restrict { flags: a.to_owned() }),
    ),
    is("unrestrict", "/unrestrict ID", "as a room's owner: lift such a rule", Needs::Room, |a| {
        Some(Command::Unrestrict { id: a.parse().ok()? })
    }),
    is("restrictions", "/restrictions", "what may not be shared in the current room", Needs::Room, |a| {
        alone(a, Command::Restrictions)
    }),
    is("get_rooms", "@server get_rooms, /rooms", "the public rooms of all servers within reach", Needs::Link, |a| {
        alone(a, Command::Rooms)
    }),
    is("get_peers", "@server get_peers, /peers", "who is in the current room", Needs::Room, |a| {
        alone(a, Command::Peers)
    }),
    is(
        "ping",
        "@server ping, @NAME ping, /ping [NAME]",
        "a round trip; of all servers within reach",
        Needs::Link,
        |a| match a {
            "" | "server" => Some(Command::PingServer),
            _ => Some(Command::Ping { to: word(a)? }),
        },
    ),
    is("whohas", "@all whohas GLOB, /whohas GLOB", "who shares a file of that name", Needs::Room, |a| {
        Some(Command::WhoHas { pattern: file_name(a)? })
    }),
    is(
        "getfile",
        "@NAME getfile FILE, @any getfile FILE, /getfile NAME FILE",
        "fetch a file, or a folder as FOLDER/",
        Needs::Link,
        |a| {
            let (from, file) = split_word(a);
            let from = from.trim_start_matches('@');
            get_file((!from.eq_ignore_ascii_case("any")).then_some(from), file).ok()
        },
    ),
    is(
        "sendfile",
        "@NAME sendfile PATH, /sendfile NAME PATH",
        "offer a file or folder of yours to somebody",
        Needs::Link,
        |a| {
            let (to, path) = split_word(a);
            send_file(to, path)
        },
    ),
    is("accept", "@me accept ID, /accept ID", "take what somebody offers", Needs::Link, |a| {
        Some(Command::Accept { id: word(a)? })
    }),
    is("refuse", "@me refuse ID, /refuse ID", "say no to an offer", Needs::Nothing, |a| {
        Some(Command::Refuse { id: word(a)? })
    }),
    is("grant", "@me grant NAME, /grant NAME", "let somebody fetch past the limit, once", Needs::Nothing, |a| {
        Some(Command::Grant { name: word(a)? })
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
    is("stats", "@me stats, /stats", "by which ways files went, and how soon one was found", Needs::Nothing, |a| {
        alone(a, Command::Stats)
    }),
    is("cancel", "@me cancel ID|FILE, /cancel ID|FILE", "give a transfer or an offer up", Needs::Nothing, |a| {
        Some(Command::Cancel { id: file_name(a)? })
    }),
    is(
        "trust",
        "@me trust NAME, /trust NAME",
        "accept a changed key (server@SERVER: changed authorities of its mesh)",
        Needs::Nothing,
        |a| Some(Command::Trust { name: word(a)? }),
    ),
    is("ignore", "@me ignore NAME, /ignore NAME", "hear no more of somebody", Needs::Nothing, |a| {
        Some(Command::Ignore { name: word(a)? })
    }),
    is("verify", "@me verify NAME, /verify NAME", "a number to compare with somebody by voice", Needs::Nothing, |a| {
        Some(Command::Verify { name: word(a)? })
    }),
    is("setwindowsize", "@me setwindowsize N|auto", "segments in flight in new transfers", Needs::Nothing, |a| {
        Some(Command::Window(if a == "auto" { None } else { Some(number(a, 1)?) }))
    }),
    is("setmaxuploads", "@me setmaxuploads N", "uploads at once", Needs::Nothing, |a| {
        Some(Command::MaxUploads(number(a, 0)?))
    }),
    is(
        "setrate",
        "@me setrate up|down RATE|off (20mbit: bits, 2MB: bytes)",
        "most that leaves or comes in a second",
        Needs::Nothing,
        rate_limit,
    ),
    is("help", "/help [COMMAND]", "this list", Needs::Nothing, |a| {
        Some(Command::Help { about: (!a.is_empty()).then(|| a.to_owned()) })
    }),
    is("quit", "quit(), !q, exit, @server exit, /quit", "leave", Needs::Nothing, |a| alone(a, Command::Quit)),
];

/// Shorter words for some commands, after a slash.
pub(super) const ALIASES: &[(&str, &str)] =
    &[("rooms", "get_rooms"), ("peers", "get_peers"), ("get", "getfile"), ("exit", "quit"), ("say", "all")];

/// What `@me` answers to.
pub(super) const OWN: &[&str] = &[
    "setshare",
    "clrshare",
    "setglobalshare",
    "clrglobalshare",
    "getsharestatus",
    "accept",
    "refuse",
    "grant",
    "trust",
    "ignore",
    "verify",
    "stats",
    "setwindowsize",
    "setmaxuploads",
    "setrate",
    "transfers",
    "cancel",
];

const fn is(name: &'static str, usage: &'static str, help: &'static str, needs: Needs, parse: Parse) -> Spec {
    Spec { name, usage, help, needs, parse }
}

type Parse = fn(&str) -> Option<Command>;
