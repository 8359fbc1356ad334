//! Events as lines for people. All that others wrote goes through [`shown`]; nothing else of the client prints.

mod files;
mod rule;
mod ways;

use super::event::{Event, RoomRow, ShareRow};
use crate::wire::text::shown;
use ways::{going, stats};

pub use self::files::by;

/// How lines look.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// Whether to use colours (a terminal, and NO_COLOR is not set).
    pub colour: bool,
    /// Our server's name, which is left out of `NAME@SERVER`.
    pub home: String,
    /// The current room (`LABEL@SERVER`), whose name is left out of its messages.
    pub current: String,
}

/// The lines of one event, without ends; none for what only programs want to know.
pub fn lines(event: &Event, style: &Style) -> Vec<String> {
    match event {
        Event::Rooms { rooms, silent } => {
            let rows = table("no public rooms", rooms, |r: &RoomRow| {
                style.line(Hue::Plain, &format!("{}  {} in it", style.short(&r.room), r.members))
            });
            let lost = silent.iter().map(|s| style.line(Hue::Warn, &format!("{} did not answer", shown(s))));
            rows.into_iter().chain(lost).collect()
        }
        Event::ShareStatus { global, files } => {
            let head = format!("files without a switch of their own are {}shared", if *global { "" } else { "not " });
            let rows = files.iter().map(|f: &ShareRow| {
                style.line(Hue::Plain, &format!("{}  {}", if f.shared { "shared" } else { "-     " }, shown(&f.file)))
            });
            std::iter::once(style.line(Hue::Dim, &head)).chain(rows).collect()
        }
        other => style.one(other).into_iter().collect(),
    }
}

/// `1.5 MiB`, `17 B`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut whole, mut rest, mut unit) = (bytes, 0, "B");
    for next in UNITS {
        if whole < 1024 {
            break;
        }
        (whole, rest, unit) = (whole / 1024, whole % 1024, next);
    }
    format!("{whole}.{} {unit}", rest * 10 / 1024)
}

#[derive(Clone, Copy)]
enum Hue {
    Plain,
    Dim,
    Good,
    Warn,
    Bad,
    Direct,
}

impl Style {
    fn one(&self, event: &Event) -> Option<String> {
        let line = |hue, text: String| Some(self.line(hue, &text));
        match event {
            Event::Connected { server, name, tls, .. } => {
                line(Hue::Dim, format!("connected to {} as {} ({})", shown(server), shown(name), shown(tls)))
            }
            Event::RoomCreated { room, private, invite, secret, .. } => {
                line(Hue::Good, created(room, *private, invite, secret.as_deref()))
            }
            Event::Joined { room, members, .. } => {
                line(Hue::Good, format!("you are in {}: {}", self.short(room), self.list(members)))
            }
            Event::Left { room, reason } => {
                line(Hue::Warn, format!("you left {} ({})", self.short(room), shown(reason)))
            }
            Event::MemberJoined { room, name } => {
                line(Hue::Dim, format!("{}{} joined", self.place(room), self.short(name)))
            }
            Event::MemberLeft { room, name, reason } => {
                line(Hue::Dim, format!("{}{} left ({})", self.place(room), self.short(name), shown(reason)))
            }
            Event::TopicChanged { .. }
            | Event::RoleChanged { .. }
            | Event::SecretChanged { .. }
            | Event::NotRotated { .. }
            | Event::Wished { .. } => self.rule(event),
            Event::Message { room, from, text, .. } => {
                Some(format!("{}{} {}", self.place(room), self.nick(from), shown(text)))
            }
            Event::Direct { from, text, .. } => {
                line(Hue::Direct, format!("{} to you: {}", self.short(from), shown(text)))
            }
            Event::Notice { from, text } => line(Hue::Warn, format!("{}: {}", self.short(from), shown(text))),
            other => self.files(other),
        }
    }

    fn rest(&self, event: &Event) -> Option<String> {
        let line = |hue, text: String| Some(self.line(hue, &text));
        match event {
            Event::Peers { .. } => line(Hue::Plain, self.peers(event)),
            Event::Pong { target, rtt_ms, route, files_way, files_route } => {
                let files = match (files_way, files_route) {
                    (Some(way), Some(route)) => format!("; files go {}", going(way, route)),
                    _ if route == "server" => "; no file has gone between you yet".to_owned(),
                    _ => String::new(),
                };
                let target = self.short(target);
                line(Hue::Plain, format!("{target} answers in {rtt_ms:.1} ms (by {}){files}", shown(route)))
            }
            Event::Stats { ways, in_vain } => line(Hue::Plain, stats(ways, *in_vain)),
            // After the rows, if there are any.
            Event::Ok { command } if command == "transfers" => line(Hue::Dim, "that is all".into()),
            Event::Ok { command } if command == "operator" => line(Hue::Dim, "the operator has it".into()),
            Event::Ok { command } => line(Hue::Dim, format!("{}: done", shown(command))),
            Event::KeyChanged { name } => {
                let name = self.short(name);
                line(Hue::Bad, format!("the key of {name} has changed: nothing is sent there until @me trust {name}"))
            }
            Event::Integrity { room, kind, peer, server } => {
                let peer = peer.as_ref().map(|p| format!(", about {}", self.short(p))).unwrap_or_default();
                let server = server.as_ref().map(|s| format!(", by the server {}", shown(s))).unwrap_or_default();
                line(Hue::Bad, format!("{}: {}{peer}{server}", self.short(room), meaning(kind)))
            }
            Event::RoomAway { room, server } => {
                let text = format!("{}: its server {} is away; what you write waits", self.short(room), shown(server));
                line(Hue::Warn, text)
            }
            Event::RoomBack { room, server } => {
                line(Hue::Good, format!("{}: its server {} is back", self.short(room), shown(server)))
            }
            Event::RoomWaiting { room, server, lines } => {
                let typed = if *lines > 0 { format!("{} until then; ", wait(*lines)) } else { String::new() };
                let (room, server) = (self.short(room), shown(server));
                line(Hue::Warn, format!("waiting for the server {server} to let us into {room} ({typed}Ctrl-C leaves)"))
            }
            Event::Held { room, to, server, waiting, .. } => {
                let place = self.whither(room.as_deref(), to.as_deref());
                let until = server.as_ref().map_or("there is a link".into(), |s| format!("{} is back", shown(s)));
                line(Hue::Warn, format!("{place}held until {until} ({})", wait(*waiting)))
            }
            Event::HeldSent { room, to, count } => {
                let place = self.whither(room.as_deref(), to.as_deref());
                line(Hue::Good, format!("{place}{count} held line{} sent", if *count == 1 { "" } else { "s" }))
            }
            Event::Gap { room, from, to } => {
                line(Hue::Warn, format!("{}: messages {from} to {to} are no longer kept", self.short(room)))
            }
            Event::Reconnecting { reason } => line(Hue::Warn, format!("no link ({}); trying again", shown(reason))),
            // The hint of a taken name is a free one.
            Event::Error { code, message, hint: Some(free) } if code == "name_taken" => {
                line(Hue::Bad, format!("{} ({} is free)", shown(message), shown(free)))
            }
            Event::Error { message, hint, .. } => {
                let hint = hint.as_ref().map(|h| format!(" ({})", shown(h))).unwrap_or_default();
                line(Hue::Bad, format!("{}{hint}", shown(message)))
            }
            Event::Bye { reason } => line(Hue::Dim, format!("bye ({})", shown(reason))),
            _ => None,
        }
    }

    /// A name without our own server's.
    fn short(&self, full: &str) -> String {
        let local = full.strip_suffix(&self.home).and_then(|rest| rest.strip_suffix('@'));
        shown(local.filter(|_| !self.home.is_empty()).unwrap_or(full))
    }

    /// The room, where it is not the current one.
    fn place(&self, room: &str) -> String {
        if room == self.current { String::new() } else { format!("[{}] ", self.short(room)) }
    }

    /// Where a line of ours goes, where that is not the current room.
    fn whither(&self, room: Option<&str>, to: Option<&str>) -> String {
        match (room, to) {
            (Some(room), _) => self.place(room),
            (None, Some(to)) => format!("[{}] ", self.short(to)),
            (None, None) => String::new(),
        }
    }

    fn list(&self, names: &[String]) -> String {
        names.iter().map(|n| self.short(n)).collect::<Vec<_>>().join(", ")
    }

    /// A name in a colour of its own, which is the same everywhere.
    fn nick(&self, from: &str) -> String {
        let name = self.short(from);
        if !self.colour {
            return format!("<{name}>");
        }
        let hash = from.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        format!("\x1b[1;3{}m{name}\x1b[0m", 1 + hash % 6)
    }

    fn line(&self, hue: Hue, text: &str) -> String {
        let code = match hue {
            Hue::Plain => return text.to_owned(),
            _ if !self.colour => return text.to_owned(),
            Hue::Dim => "2",
            Hue::Good => "32",
            Hue::Warn => "33",
            Hue::Bad => "1;31",
            Hue::Direct => "35",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn wait(lines: u64) -> String {
    if lines == 1 { "1 line waits".into() } else { format!("{lines} lines wait") }
}

fn created(room: &str, private: bool, invite: &str, secret: Option<&str>) -> String {
    let kind = if private { "private" } else { "public" };
    let mut text = format!("{kind} room {} is made", shown(room));
    if let Some(secret) = secret {
        text.push_str(&format!("; its password is {}", shown(secret)));
    }
    if !invite.is_empty() {
        text.push_str(&format!("; invite: {}", shown(invite)));
    }
    text
}

/// What an `integrity` kind says to people.
fn meaning(kind: &str) -> String {
    let text = match kind {
        "gap" => "messages are missing",
        "diverged" => "others see another history than we do",
        "replay" => "an old message came again, and is not shown",
        "unauthorised_commit" => "a change that its maker may not make, or that does not hold together, was refused",
        "forged_sender" => "a message is not from whom it says, and is not shown",
        "bad_state" => "the server hands out a state of the room that its members do not vouch for",
        "wrong_room" => "the server hands out another room than the one asked for",
        "false_name" => "somebody came under a name that another server certified than its own, and is not believed",
        "false_server" => "a server of the mesh is not the one that its name belongs to",
        "authorities_changed" => {
            "the server now names other authorities for its mesh; the ones before are kept until @me trust server@SERVER"
        }
        "sharing_forged" => "the server shows rules on sharing that it has not signed; those before go on holding",
        "sharing_rolled_back" => "the server shows older rules on sharing than before; the newer ones go on holding",
        "muted" => "somebody who is muted speaks with the server's help; it is not shown",
        "bad_secret" => "the owner's new secret is not the room's",
        "malformed" => "something that makes no sense was refused",
        other => return shown(other),
    };
    text.to_owned()
}

fn table<T>(none: &str, rows: &[T], row: impl Fn(&T) -> String) -> Vec<String> {
    if rows.is_empty() { vec![none.to_owned()] } else { rows.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::event::{Transfer, WayRow};
    use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

    fn bad(c: char) -> bool {
        use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
        matches!(c.general_category(), Control | Format | LineSeparator | ParagraphSeparator)
    }

    /// Every control and format character, every line separator, and sequences that terminals obey.
    fn naughty() -> String {
        let all: String = ('\0'..=char::MAX).filter(|c| bad(*c)).collect();
        assert!(all.len() > 200 && "\x1b\u{9b}\u{202e}\u{200b}\u{2028}".chars().all(|c| all.contains(c)));
        format!("a\x1b]0;x\x07\u{9b}31m\r\n{all}z")
    }

    fn events() -> Vec<Event> {
        let naughty = naughty();
        let n = || naughty.clone();
        let some = || Some(n());
        let t = Transfer {
            id: n(),
            direction: n(),
            peer: n(),
            file: n(),
            route: some(),
            way: some(),
            key_agreement: some(),
            path: some(),
            root: some(),
            reason: some(),
            detail: some(),
            ..Transfer::default()
        };
        vec![
            Event::Connected { server: n(), fingerprint: n(), name: n(), tls: n() },
            Event::RoomCreated { room: n(), id: n(), private: true, invite: n(), secret: Some(n()) },
            Event::Joined { room: n(), id: n(), members: vec![n()] },
            Event::Left { room: n(), reason: n() },
            Event::MemberJoined { room: n(), name: n() },
            Event::MemberLeft { room: n(), name: n(), reason: n() },
            Event::Message { room: n(), from: n(), text: n(), id: n() },
            Event::Direct { from: n(), text: n(), id: n() },
            Event::Held { room: Some(n()), to: None, id: n(), server: some(), waiting: 2 },
            Event::Held { room: None, to: some(), id: n(), server: None, waiting: 1 },
            Event::HeldSent { room: some(), to: None, count: 1 },
            Event::RoomWaiting { room: n(), server: n(), lines: 1 },
            Event::Notice { from: n(), text: n() },
            Event::FileFound { room: n(), from: n(), file: n(), size: 1, root: None, state: n(), free_slots: 0 },
            Event::SearchDone { room: n(), pattern: n(), found: 0 },
            Event::TransferOffered(t.clone()),
            Event::TransferStarted(t.clone()),
            Event::TransferProgress(t.clone()),
            Event::TransferPath(t.clone()),
            Event::TransferDone(t.clone()),
            Event::TransferFailed(t.clone()),
            Event::TransferWaiting(t.clone()),
            Event::SourceAdded(t.clone()),
            Event::SourceLost(t.clone()),
            Event::Hashing(t.clone()),
            Event::Queued(t.clone()),
            Event::OfferRefused(t),
            Event::Rooms { rooms: vec![RoomRow { room: n(), id: n(), members: 1 }], silent: vec![n()] },
            Event::Peers {
                room: n(),
                peers: vec![n()],
                topic: some(),
                owner: some(),
                moderators: vec![n()],
                muted: vec![n()],
                banned: vec![n()],
            },
            Event::TopicChanged { room: n(), topic: n(), by: n() },
            Event::RoleChanged { room: n(), name: n(), role: n(), by: n() },
            Event::SecretChanged { room: n(), version: 2, invite: some(), secret: some() },
            Event::NotRotated { room: n() },
            Event::Wished { room: n(), wish: n(), name: some() },
            Event::Pong { target: n(), rtt_ms: 1.0, route: n(), files_way: some(), files_route: some() },
            Event::Stats { ways: vec![WayRow { way: n(), sessions: 1, mean_ms: 1, worst_ms: 2 }], in_vain: 1 },
            Event::ShareStatus { global: true, files: vec![ShareRow { file: n(), shared: true }] },
            Event::Ok { command: n() },
            Event::KeyChanged { name: n() },
            Event::Integrity { room: n(), kind: n(), peer: Some(n()), server: Some(n()) },
            Event::RoomAway { room: n(), server: n() },
            Event::RoomBack { room: n(), server: n() },
            Event::Gap { room: n(), from: 1, to: 2 },
            Event::Reconnecting { reason: n() },
            Event::Error { code: n(), message: n(), hint: Some(n()) },
            Event::Bye { reason: n() },
        ]
    }

    #[test]
    fn no_field_of_any_event_brings_a_control_character_to_the_screen() {
        let naughty = naughty();
        let styles = [false, true].map(|colour| Style { colour, home: naughty.clone(), current: naughty.clone() });
        for event in events() {
            for style in styles.iter().chain([&Style::default()]) {
                let lines = lines(&event, style);
                assert!(!lines.is_empty(), "{event:?}");
                for line in lines {
                    // Colours are ours: one before the text or the name, one after it.
                    let ours = if style.colour { 2 } else { 0 };
                    assert!(line.matches("\x1b[").count() <= ours, "{line:?}");
                    assert!(!line.chars().any(|c| bad(c) && (c != '\x1b' || ours == 0)), "{line:?}");
                    assert!(line.matches('\x1b').count() <= ours, "{line:?}");
                }
            }
        }
    }

    #[test]
    fn names_are_short_at_home_and_rooms_are_named_when_elsewhere() {
        let style = Style { colour: false, home: "s1".into(), current: "den@s1".into() };
        let say = |room: &str, from: &str| {
            let event = Event::Message { room: room.into(), from: from.into(), text: "hi".into(), id: String::new() };
            lines(&event, &style).remove(0)
        };
        assert_eq!(say("den@s1", "bob@s1"), "<bob> hi");
        assert_eq!(say("lab@s1", "bob@s2"), "[lab] <bob@s2> hi");
    }

    #[test]
    fn commands_that_show_nothing_else_say_that_they_are_done() {
        let said = |command: &str| lines(&Event::Ok { command: command.into() }, &Style::default());
        assert_eq!(said("transfers"), ["that is all"]);
        assert_eq!(said("operator"), ["the operator has it"]);
    }

    #[test]
    fn what_waits_says_what_for() {
        let style = Style { colour: false, home: "s2".into(), current: "den@s1".into() };
        let said = |event: &Event| lines(event, &style).remove(0);
        let held = |room: &str, server: Option<&str>, waiting| {
            let (room, server) = (Some(room.to_owned()), server.map(str::to_owned));
            said(&Event::Held { room, to: None, id: String::new(), server, waiting })
        };
        assert_eq!(held("den@s1", Some("s1"), 1), "held until s1 is back (1 line waits)");
        assert_eq!(held("own@s2", None, 3), "[own] held until there is a link (3 lines wait)");
        assert_eq!(said(&Event::HeldSent { room: Some("den@s1".into()), to: None, count: 2 }), "2 held lines sent");
        assert_eq!(
            said(&Event::RoomWaiting { room: "den@s1".into(), server: "s1".into(), lines: 2 }),
            "waiting for the server s1 to let us into den@s1 (2 lines wait until then; Ctrl-C leaves)"
        );
    }

    #[test]
    fn a_taken_name_comes_with_a_free_one() {
        let (message, hint) = ("the name bob is taken".to_owned(), Some("bob2".to_owned()));
        let event = Event::Error { code: "name_taken".into(), message, hint };
        assert_eq!(lines(&event, &Style::default()), ["the name bob is taken (bob2 is free)"]);
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (u64::MAX, "16383.9 PiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
