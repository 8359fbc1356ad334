//! Which role may ask what: the one table, looked up once for every question, wherever it comes from.

use crate::wire::admin::{Ask, Role};

/// The least role that may ask it.
pub(super) const fn least(ask: &Ask) -> Role {
    match ask {
        Ask::Users { .. }
        | Ask::Show { .. }
        | Ask::Rooms { .. }
        | Ask::Room { .. }
        | Ask::Bans { .. }
        | Ask::Mutes
        | Ask::Restrictions
        | Ask::Message { .. }
        | Ask::Kick { .. }
        | Ask::Ban { .. }
        | Ask::Unban { .. }
        | Ask::Mute { .. }
        | Ask::Unmute { .. } => Role::Moderator,
        Ask::Mesh
        | Ask::Health
        | Ask::Stats
        | Ask::Settings
        | Ask::Allowed
        | Ask::Roles
        | Ask::Audit { .. }
        | Ask::Broadcast { .. }
        | Ask::Allow { .. }
        | Ask::Disallow { .. }
        | Ask::Registration { .. }
        | Ask::Invitation { .. }
        | Ask::Release { .. }
        | Ask::Close { .. }
        | Ask::Lock { .. }
        | Ask::Unlock { .. }
        | Ask::AskOwner { .. }
        | Ask::Restrict { .. }
        | Ask::Unrestrict { .. }
        | Ask::Defcon { .. }
        | Ask::Reload => Role::Operator,
        Ask::Grant { .. } | Ask::Revoke { .. } | Ask::Backup { .. } | Ask::Stop => Role::Owner,
    }
}

/// The word in the audit log; `None` for questions that change nothing.
pub(super) const fn act(ask: &Ask) -> Option<&'static str> {
    Some(match ask {
        Ask::Mesh
        | Ask::Health
        | Ask::Stats
        | Ask::Settings
        | Ask::Users { .. }
        | Ask::Show { .. }
        | Ask::Rooms { .. }
        | Ask::Room { .. }
        | Ask::Bans { .. }
        | Ask::Mutes
        | Ask::Allowed
        | Ask::Roles
        | Ask::Restrictions
        | Ask::Audit { .. } => return None,
        Ask::Message { .. } => "message",
        Ask::Broadcast { .. } => "broadcast",
        Ask::Kick { .. } => "kick",
        Ask::Ban { .. } => "ban",
        Ask::Unban { .. } => "unban",
        Ask::Mute { .. } => "mute",
        Ask::Unmute { .. } => "unmute",
        Ask::Allow { .. } => "allow",
        Ask::Disallow { .. } => "disallow",
        Ask::Registration { .. } => "registration",
        Ask::Invitation { .. } => "invitation",
        Ask::Release { .. } => "release",
        Ask::Grant { .. } => "grant",
        Ask::Revoke { .. } => "revoke",
        Ask::Close { .. } => "close",
        Ask::Lock { .. } => "lock",
        Ask::Unlock { .. } => "unlock",
        Ask::AskOwner { .. } => "ask_owner",
        Ask::Restrict { .. } => "restrict",
        Ask::Unrestrict { .. } => "unrestrict",
        Ask::Defcon { .. } => "defcon",
        Ask::Reload => "reload",
        Ask::Backup { .. } => "backup",
        Ask::Stop => "stop",
    })
}

/// Whom or what it concerns, and the reason that was given, for the audit log. Never what is said to people.
pub(super) fn subject(ask: &Ask) -> (Option<String>, Option<String>) {
    use crate::transfer::restrict::summary;
    use crate::wire::admin::{Whom, Wish};
    use crate::wire::sharing::{Rule, Scope};
    let at = |name: &str, room: &Option<String>| match room {
        Some(room) => format!("{name} in {room}"),
        None => name.to_owned(),
    };
    let term = |what: String, for_s: &Option<u64>| match for_s {
        Some(seconds) => format!("{what} for {seconds} s"),
        None => what,
    };
    match ask {
        Ask::Kick { name, room, reason } => (Some(at(name, room)), reason.clone()),
        Ask::Mute { name, room, reason, for_s } => (Some(term(at(name, room), for_s)), reason.clone()),
        Ask::Invitation { uses, for_s } => (Some(term(format!("{} uses", uses.unwrap_or(1)), for_s)), None),
        Ask::Backup { file } => (Some(file.clone()), None),
        Ask::Unmute { name, room } => (Some(at(name, room)), None),
        Ask::Ban { whom: Whom::Name(whom) | Whom::Fingerprint(whom) | Whom::Network(whom), reason, for_s, here } => {
            let whom = term(whom.clone(), for_s);
            (Some(if *here { whom + ", here only" } else { whom }), reason.clone())
        }
        Ask::Message { name, .. } | Ask::Release { name } | Ask::Revoke { name } => (Some(name.clone()), None),
        Ask::Grant { name, role } => (Some(format!("{name} as {}", role.as_str())), None),
        Ask::Allow { whom } | Ask::Disallow { whom } | Ask::Unban { id: whom } => (Some(whom.clone()), None),
        Ask::Close { room, reason } => (Some(room.clone()), reason.clone()),
        Ask::Lock { room } | Ask::Unlock { room } => (Some(room.clone()), None),
        Ask::AskOwner { room, wish: Wish::NewSecret } => (Some(format!("{room}: another secret")), None),
        Ask::AskOwner { room, wish: Wish::HandOver(name) } => (Some(format!("{room}: to {name}")), None),
        Ask::Restrict { room, user, reason, limits } => {
            let rule = Rule { id: 0, scope: Scope::All, limits: *limits.clone(), reason: None };
            let scope = room.as_ref().or(user.as_ref()).map_or_else(|| "all".to_owned(), Clone::clone);
            (Some(format!("{scope}: {}", summary(&rule))), reason.clone())
        }
        Ask::Unrestrict { id } => (Some(id.to_string()), None),
        Ask::Defcon { level } => (Some(level.to_string()), None),
        Ask::Registration { mode } => (Some(format!("{mode:?}").to_lowercase()), None),
        _ => (None, None),
    }
}
