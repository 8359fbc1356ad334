//! Answers for people, and as JSON. Whatever others chose is shown in its harmless form.

use super::commands::AdminCommand;
use super::confirm::term;
use super::mesh;
use super::table::Table;
use crate::client::render::size;
use crate::wire::admin::{
    AllowView, Answer, AuditView, BanView, Health, MuteView, Registration, RelayView, RoleView, RoomView, SettingsView,
    UserView,
};
use crate::wire::sharing::{Limits, RuleView};
use crate::wire::text::shown;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::io::IsTerminal;

/// In which form an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One object on one line.
    Json,
    /// For people.
    Text,
    /// The mesh as a graph.
    Graph,
}

impl Form {
    /// What a command wants where JSON is not asked for.
    pub const fn of(command: &AdminCommand) -> Self {
        match command {
            AdminCommand::Mesh { dot: true } => Self::Graph,
            _ => Self::Text,
        }
    }
}

/// How lines look.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Whether heads stand out: a terminal, and NO_COLOR is not set.
    pub colour: bool,
    /// In which times are told.
    pub zone: Option<TimeZone>,
}

impl Look {
    /// As the terminal and its user want it.
    pub fn of_terminal() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { colour, zone: Some(TimeZone::system()) }
    }

    pub(super) fn strong(&self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A Unix time in milliseconds, to the minute.
    fn time(&self, ms: u64) -> String {
        let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let zone = self.zone.clone().unwrap_or(TimeZone::UTC);
        at.map_or_else(|| "?".into(), |at| at.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string())
    }

    fn until(&self, ms: Option<u64>) -> String {
        ms.map_or_else(|| "for good".into(), |ms| self.time(ms))
    }
}

/// The lines of an answer.
pub fn text(answer: &Answer, form: &Form, look: &Look) -> String {
    if *form == Form::Json {
        return serde_json::to_string(answer).unwrap_or_default() + "\n";
    }
    match answer {
        Answer::Done { what, notes, id, token } => done(what, notes, id.as_deref(), token.as_deref()),
        Answer::Failed { why, hint, .. } => {
            let hint = hint.iter().map(|hint| format!("hint: {}\n", shown(hint)));
            std::iter::once(format!("error: {}\n", shown(why))).chain(hint).collect()
        }
        Answer::Mesh(view) if *form == Form::Graph => mesh::graph(view),
        Answer::Mesh(view) => mesh::text(view, look),
        Answer::Health(health) => self::health(health, look),
        Answer::Stats(stats) => self::stats(stats),
        Answer::Settings(settings) => self::settings(settings),
        Answer::Users(page) => users(&page.rows, look),
        Answer::User(user) => self::user(user),
        Answer::Rooms(page) => rooms(&page.rows, look),
        Answer::Room(room) => self::room(room, look),
        Answer::Bans(page) => bans(&page.rows, look),
        Answer::Mutes(page) => mutes(&page.rows, look),
        Answer::Allowed(page) => allowed(&page.rows, look),
        Answer::Roles(page) => roles(&page.rows, look),
        Answer::Restrictions(page) => rules(&page.rows, look),
        Answer::Audit(page) => audit(&page.rows, look),
    }
}

fn done(what: &str, notes: &[String], id: Option<&str>, token: Option<&str>) -> String {
    let mut lines = vec![shown(what)];
    lines.extend(id.map(|id| format!("id     {}", shown(id))));
    lines.extend(token.map(|token| format!("token  {}", shown(token))));
    lines.extend(notes.iter().map(|note| format!("note: {}", shown(note))));
    lines.join("\n") + "\n"
}

/// Facts below each other, those that are there.
fn facts(facts: &[(&str, String)]) -> String {
    let there = || facts.iter().filter(|(_, fact)| !fact.is_empty());
    let width = there().map(|(name, _)| name.len()).max().unwrap_or_default();
    there().map(|(name, fact)| format!("{name:<width$}  {fact}\n")).collect()
}

fn health(health: &Health, look: &Look) -> String {
    let troubles: String = health.troubles.iter().map(|what| format!("trouble: {}\n", shown(what))).collect();
    let word = look.strong(if health.ok { "all is well" } else { "not all is well" });
    let rows = [
        ("server", shown(&health.name)),
        ("version", shown(&health.version)),
        ("up", term(health.up_s)),
        ("clients", health.clients.to_string()),
        ("database", size(health.database_bytes)),
        ("disk free", size(health.disk_free_bytes)),
        ("certificate", format!("good for {} days", health.certificate_days)),
    ];
    format!("{word}\n{troubles}{}", facts(&rows))
}

fn stats(stats: &BTreeMap<String, u64>) -> String {
    let width = stats.keys().map(|name| name.chars().count()).max().unwrap_or_default();
    stats.iter().map(|(name, count)| format!("{:<width$}  {count}\n", shown(name))).collect()
}

fn settings(settings: &SettingsView) -> String {
    let registration = match settings.registration {
        Registration::Open => "open: everybody may take a new name",
        Registration::Invite => "invite: who has a token may take a new name",
        Registration::Closed => "closed: nobody may take a new name",
    };
    let level = match settings.defcon {
        5 => "5: normal".into(),
        4 => "4: half of all rates".into(),
        3 => "3: a quarter of all rates, new names by invitation only".into(),
        2 => "2: a tenth of all rates, no new names, no new rooms".into(),
        1 => "1: as 2, and only those get in who have a role or are on the allow list".into(),
        other => other.to_string(),
    };
    let list = if settings.allow_list { "only those on it get in" } else { "nobody is on it: everybody gets in" };
    facts(&[
        ("registration", registration.into()),
        ("level", level),
        ("allow list", list.into()),
        ("invitations", settings.invitations.to_string()),
        ("relayed files", settings.relay.as_ref().map(relay).unwrap_or_default()),
    ])
}

fn relay(limits: &RelayView) -> String {
    let RelayView { user_rate, rate, user_bytes, bytes } = *limits;
    if [user_rate, rate, user_bytes, bytes].contains(&0) {
        return "none is passed on".into();
    }
    let [user_rate, rate, user_bytes, bytes] = [user_rate, rate, user_bytes, bytes].map(size);
    format!("at most {user_rate}/s and {user_bytes} a day of each user, {rate}/s and {bytes} a day in all")
}

fn users(users: &[UserView], look: &Look) -> String {
    let rows = users.iter().map(|user| {
        let whence = user.via.as_ref().map(|via| format!("through {}", shown(via)));
        let whence = whence.or_else(|| user.address.as_deref().map(shown)).unwrap_or_default();
        let here = if user.online { "here" } else { "away" };
        [shown(&user.name), here.into(), marks(user), whence, short(&user.fingerprint)]
    });
    Table::new(["NAME", "NOW", "", "FROM", "FINGERPRINT"], rows).text("nobody has a name here", look)
}

fn marks(user: &UserView) -> String {
    let marks = [user.role.map(|role| role.as_str()), user.muted.then_some("muted"), user.banned.then_some("banned")];
    marks.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn user(user: &UserView) -> String {
    facts(&[
        ("name", shown(&user.name)),
        ("fingerprint", shown(&user.fingerprint)),
        ("now", if user.online { "here" } else { "away" }.into()),
        ("from", user.address.as_deref().map(shown).unwrap_or_default()),
        ("through", user.via.as_deref().map(shown).unwrap_or_default()),
        ("is", marks(user)),
        ("rooms", user.rooms.iter().map(|room| shown(room)).collect::<Vec<_>>().join(", ")),
    ])
}

fn rooms(rooms: &[RoomView], look: &Look) -> String {
    let rows = rooms.iter().map(|room| {
        let (here, of) = (room.present, room.members);
        let used = look.time(room.last_used_ms);
        [shown(&room.room), kind(room), format!("{here}/{of}"), room.log_rows.to_string(), used, shown(&room.owner)]
    });
    Table::new(["ROOM", "", "HERE/MEMBERS", "ROWS", "LAST USED", "OWNER"], rows).text("there are no rooms", look)
}

fn kind(room: &RoomView) -> String {
    let kind = if room.private { "private" } else { "public" };
    if room.locked { format!("{kind}, locked") } else { kind.into() }
}

fn room(room: &RoomView, look: &Look) -> String {
    facts(&[
        ("room", shown(&room.room)),
        ("id", shown(&room.id)),
        ("is", kind(room)),
        ("owner", shown(&room.owner)),
        ("members", format!("{}, {} of them here", room.members, room.present)),
        ("epoch", room.epoch.to_string()),
        ("policy", format!("version {}", room.policy_version)),
        ("log", format!("{} rows", room.log_rows)),
        ("last used", look.time(room.last_used_ms)),
        ("names", room.names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ")),
    ])
}

fn bans(bans: &[BanView], look: &Look) -> String {
    let rows = bans.iter().map(|ban| {
        let key = ban.fingerprint.as_deref().map(short);
        let whom = ban.name.as_deref().map(shown).or_else(|| ban.network.as_deref().map(shown)).or(key);
        let place = if ban.mesh { "mesh" } else { "here" };
        let (whom, until) = (whom.unwrap_or_default(), look.until(ban.until_ms));
        [shown(&ban.id), whom, until, place.into(), shown(&ban.by), shown(&ban.reason)]
    });
    Table::new(["ID", "WHOM", "UNTIL", "WHERE", "BY", "REASON"], rows).text("nobody is banned", look)
}

fn mutes(mutes: &[MuteView], look: &Look) -> String {
    let rows = mutes.iter().map(|mute| {
        let place = mute.room.as_deref().map_or_else(|| "everywhere".into(), shown);
        [shown(&mute.name), place, look.until(mute.until_ms), shown(&mute.by), shown(&mute.reason)]
    });
    Table::new(["NAME", "WHERE", "UNTIL", "BY", "REASON"], rows).text("nobody is muted", look)
}

fn allowed(list: &[AllowView], look: &Look) -> String {
    let rows = list
        .iter()
        .map(|it| [it.name.as_deref().map(shown).unwrap_or_default(), shown(&it.fingerprint), shown(&it.by)]);
    Table::new(["NAME", "FINGERPRINT", "BY"], rows).text("nobody is on the list: everybody gets in", look)
}

fn roles(roles: &[RoleView], look: &Look) -> String {
    let rows = roles.iter().map(|it| {
        let (since, role) = (look.time(it.since_ms), it.role.as_str().into());
        [shown(&it.name), role, shown(&it.by), since, short(&it.fingerprint)]
    });
    Table::new(["NAME", "ROLE", "BY", "SINCE", "FINGERPRINT"], rows).text("nobody has a role", look)
}

fn rules(rules: &[RuleView], look: &Look) -> String {
    let rows = rules.iter().map(|rule| {
        let room = rule.room.as_deref().map(shown);
        let scope = room.or_else(|| rule.user.as_deref().map(shown)).unwrap_or_else(|| "everywhere".into());
        [rule.id.to_string(), scope, limits(&rule.limits), rule.reason.as_deref().map(shown).unwrap_or_default()]
    });
    Table::new(["ID", "FOR", "WHAT", "REASON"], rows).text("everything may be shared", look)
}

fn limits(limits: &Limits) -> String {
    let list = |word: &str, of: &[String]| {
        (!of.is_empty()).then(|| format!("{word} {}", of.iter().map(|it| shown(it)).collect::<Vec<_>>().join(" ")))
    };
    let roots: Vec<String> = limits.deny_roots.iter().map(|root| short(root)).collect();
    let parts = [
        limits.off.then(|| "off".to_owned()),
        limits.max_size.map(|bytes| format!("at most {}", size(bytes))),
        list("no", &limits.deny_names),
        list("only", &limits.allow_names),
        list("no", &limits.deny_types),
        list("only", &limits.allow_types),
        list("not", &roots),
        limits.files_a_day.map(|n| format!("{n} files a day")),
        limits.bytes_a_day.map(|n| format!("{} a day", size(n))),
        limits.at_once.map(|n| format!("{n} at once")),
        list("by", &limits.only),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn audit(acts: &[AuditView], look: &Look) -> String {
    let rows = acts.iter().map(|act| {
        let text = |text: &Option<String>| text.as_deref().map(shown).unwrap_or_default();
        let (time, outcome) = (look.time(act.time_ms), shown(&act.outcome));
        [act.id.to_string(), time, shown(&act.who), shown(&act.act), text(&act.whom), outcome, text(&act.why)]
    });
    Table::new(["ID", "TIME", "WHO", "ACT", "WHOM", "OUTCOME", "REASON"], rows).text("nothing was done yet", look)
}

/// The beginning of a long number; `show` and `--json` have all of it.
pub(super) fn short(digits: &str) -> String {
    shown(digits.get(..16).unwrap_or(digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::admin::Page;
    use crate::wire::text::harmless;

    #[test]
    fn nothing_that_others_chose_steers_the_terminal() {
        let naughty = || "a\x1b]0;x\x07\u{9b}2J\u{202e}\r\nb".to_owned();
        let ban = BanView {
            id: naughty(),
            name: Some(naughty()),
            fingerprint: None,
            network: None,
            reason: naughty(),
            by: naughty(),
            since_ms: 0,
            until_ms: Some(u64::MAX),
            mesh: true,
        };
        let act = AuditView {
            id: 1,
            time_ms: 0,
            who: naughty(),
            act: naughty(),
            whom: Some(naughty()),
            why: Some(naughty()),
            outcome: naughty(),
        };
        let user =
            UserView { name: naughty(), address: Some(naughty()), rooms: vec![naughty()], ..UserView::default() };
        let room = RoomView { room: naughty(), owner: naughty(), names: vec![naughty()], ..RoomView::default() };
        let answers = [
            Answer::Bans(Page::whole(vec![ban])),
            Answer::Audit(Page::whole(vec![act])),
            Answer::Users(Page::whole(vec![user.clone()])),
            Answer::User(Box::new(user)),
            Answer::Rooms(Page::whole(vec![room.clone()])),
            Answer::Room(Box::new(room)),
            Answer::failed_with(crate::wire::admin::Failure::Failed, naughty(), naughty()),
            Answer::Done { what: naughty(), notes: vec![naughty()], id: Some(naughty()), token: Some(naughty()) },
            Answer::Stats(BTreeMap::from([(naughty(), 1)])),
        ];
        for answer in answers {
            let text = text(&answer, &Form::Text, &Look::default());
            assert!(text.lines().flat_map(str::chars).all(harmless), "{text:?}");
            assert!(text.lines().count() <= 12, "{text:?}");
            let json = self::text(&answer, &Form::Json, &Look::default());
            assert_eq!(json.lines().count(), 1);
            assert_eq!(serde_json::from_str::<Answer>(&json).unwrap(), answer);
        }
    }

    #[test]
    fn times_are_told_to_the_minute_and_limits_in_a_few_words() {
        assert_eq!(Look::default().time(1_700_000_000_000), "2023-11-14 22:13");
        let told = limits(&Limits { max_size: Some(1 << 20), deny_names: vec!["*.exe".into()], ..Limits::default() });
        assert_eq!(told, "at most 1.0 MiB; no *.exe");
    }
}
