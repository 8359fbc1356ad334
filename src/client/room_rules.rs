//! A room's own rules on sharing: its owner makes and lifts them, everybody may look.

use super::core::{Core, Ticket};
use super::dispatch::no_room;
use super::event::Event;
use super::problem::{FAILED, NOT_FOUND, Problem, REFUSED, USAGE};
use crate::crypto::identity::PublicKey;
use crate::limits::RULE_LIST_MAX;
use crate::transfer::restrict::{check, fits, parse, summary};
use crate::wire::id::RoomId;
use crate::wire::policy::{Policy, ROOM_RULES_MAX};
use crate::wire::sharing::{Limits, Rule, Scope};
use std::collections::BTreeMap;
use std::time::Duration;

/// Changes of policies that are on their way, one for each room.
#[derive(Debug, Default)]
pub(super) struct Edits {
    open: BTreeMap<RoomId, Edit>,
    /// The rules of each room when its policy was last changed.
    known: BTreeMap<RoomId, Vec<u64>>,
}

#[derive(Debug)]
struct Edit {
    ticket: Ticket,
    change: Change,
    /// The epoch that was to end with it: where another commit won, it is made anew in the next one.
    tried: Option<u64>,
    until: Duration,
}

#[derive(Debug)]
enum Change {
    /// One rule for each scope.
    Add {
        scopes: Vec<Scope>,
        limits: Box<Limits>,
        reason: Option<String>,
    },
    Lift(u64),
}

impl Edits {
    pub fn next_timeout(&self) -> Option<Duration> {
        self.open.values().map(|edit| edit.until).min()
    }
}

impl Core {
    /// `/restrict FLAGS`: ends when the room's log has it.
    pub(super) fn restrict_room(&mut self, number: u64, flags: &str) -> Result<(), Problem> {
        let room = self.own_room()?;
        let mut typed = parse(flags).map_err(|e| Problem::new("usage", USAGE, e.to_string()).hint("/help restrict"))?;
        if typed.limits.only.len() > RULE_LIST_MAX || typed.users.len() > ROOM_RULES_MAX {
            return Err(Problem::new("usage", USAGE, "too many names in one rule"));
        }
        for name in &mut typed.limits.only {
            *name = self.full_name(name)?.to_string();
        }
        let limits = check(&typed.limits).map_err(|e| Problem::new("bad_value", USAGE, e.to_string()))?;
        let limits = Box::new(limits);
        let scopes = typed.users.iter().map(|name| self.scope_of(name)).collect::<Result<Vec<_>, _>>()?;
        let scopes = if scopes.is_empty() { vec![Scope::All] } else { scopes };
        self.edit(number, room, Change::Add { scopes, limits, reason: typed.reason })
    }

    /// `/unrestrict ID`.
    pub(super) fn unrestrict_room(&mut self, number: u64, id: u64) -> Result<(), Problem> {
        let room = self.own_room()?;
        self.edit(number, room, Change::Lift(id))
    }

    /// `/restrictions`: those of the room, and those of the servers that hold there.
    pub(super) fn show_restrictions(&mut self, number: u64) -> Result<(), Problem> {
        let room = self.room_named(None)?;
        let rules = self.rules_here(room);
        let lines: Vec<String> = rules
            .iter()
            .map(|rule| {
                let whom = match &rule.rule().scope {
                    Scope::User(key) => format!(" for {}", self.name_of(&PublicKey::from_bytes(**key))),
                    Scope::All | Scope::Room(_) => String::new(),
                };
                format!("rule {} of {}{whom}: {}", rule.rule().id, rule.maker(), summary(rule.rule()))
            })
            .collect();
        let none = lines.is_empty().then(|| "nothing is restricted in what is shared here".to_owned());
        for text in lines.into_iter().chain(none) {
            self.tell(Some(number), Event::Notice { from: "restrictions".into(), text });
        }
        self.done(Some(number), 0);
        Ok(())
    }

    /// The current room, if it is ours.
    fn own_room(&self) -> Result<RoomId, Problem> {
        let room = self.room_named(None)?;
        let conversation = self.conversations.get(&room).ok_or_else(no_room)?;
        if conversation.room.policy().owner() == self.config.identity.public() {
            return Ok(room);
        }
        let text = format!("only the owner of {} does that", conversation.title());
        Err(Problem::new("not_owner", REFUSED, text).hint("/restrictions shows what holds"))
    }

    fn scope_of(&self, name: &str) -> Result<Scope, Problem> {
        let name = self.full_name(name)?;
        let key = self.known_key(&name);
        let key = key.ok_or_else(|| Problem::new("not_found", NOT_FOUND, format!("no key of {name} is known yet")))?;
        Ok(Scope::user(&key))
    }

    /// For people.
    fn name_of(&self, key: &PublicKey) -> String {
        let mut members = self.conversations.values().flat_map(|c| c.room.members());
        let known = members.find(|member| member.key == *key).map(|member| member.name.to_string());
        known.unwrap_or_else(|| format!("the key {}", key.fingerprint()))
    }

    fn edit(&mut self, number: u64, room: RoomId, change: Change) -> Result<(), Problem> {
        let conversation = self.conversations.get(&room).ok_or_else(no_room)?;
        if self.edits.open.contains_key(&room) {
            return Err(
                Problem::new("busy", FAILED, "a change of this room is on its way").hint("try again in a moment")
            );
        }
        // What can never be is said at once.
        change.applied(conversation.room.policy())?;
        let until = self.now + EDIT_DEADLINE;
        self.edits.open.insert(room, Edit { ticket: Some(number), change, tried: None, until });
        Ok(())
    }

    /// Commits what is to be changed in this room, as soon as it can be.
    pub(super) fn edit_on_time(&mut self, id: RoomId) {
        let (Some(edit), Some(conversation)) = (self.edits.open.get_mut(&id), self.conversations.get_mut(&id)) else {
            return;
        };
        let epoch = conversation.room.epoch();
        if !conversation.may_commit() || edit.tried == Some(epoch) {
            return;
        }
        edit.tried = Some(epoch);
        let made = edit.change.applied(conversation.room.policy()).and_then(|policy| {
            conversation.room.set_policy(policy).map_err(|e| Problem::new("refused", FAILED, e.to_string()))
        });
        match made {
            Ok(out) => self.send_commit(id, out, None),
            Err(problem) => self.edit_failed(&id, problem),
        }
    }

    /// The policy of a room is another one now. Whether that is our change shows in what it says.
    pub(super) fn policy_changed(&mut self, id: RoomId, by_us: bool) {
        self.hold_transfers();
        let Some(conversation) = self.conversations.get(&id) else { return };
        let policy = conversation.room.policy();
        let (version, room) = (policy.version, conversation.title());
        let ids: Vec<u64> = policy.rules.iter().map(|rule| rule.id).collect();
        let done = by_us && self.edits.open.get(&id).is_some_and(|edit| edit.change.holds(policy));
        let other = self.edits.known.insert(id, ids.clone()).unwrap_or_default() != ids;
        self.edits.known.retain(|room, _| self.conversations.contains_key(room));
        if done && let Some(edit) = self.edits.open.remove(&id) {
            let text = match &edit.change {
                Change::Add { scopes, .. } => {
                    let ids: Vec<String> = (0..scopes.len()).map(|n| rule_id(version, n).to_string()).collect();
                    format!("rule {} holds in {room} now", ids.join(", "))
                }
                Change::Lift(rule) => format!("rule {rule} holds no longer in {room}"),
            };
            self.tell(edit.ticket, Event::Notice { from: "restrict".into(), text });
            self.done(edit.ticket, 0);
        } else if other && !by_us {
            let text = format!("what may be shared in {room} has changed: /restrictions shows the rules");
            self.tell(None, Event::Notice { from: "restrictions".into(), text });
        }
    }

    fn edit_failed(&mut self, id: &RoomId, problem: Problem) {
        if let Some(edit) = self.edits.open.remove(id) {
            self.fail(edit.ticket, problem);
        }
    }

    pub(super) fn edits_timeouts(&mut self) {
        let late = self.edits.open.iter().filter(|(_, edit)| self.now >= edit.until).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            let problem = Problem::new("timeout", FAILED, "the room did not take the change in time");
            self.edit_failed(&id, problem.hint("try again in a moment"));
        }
    }
}

impl Change {
    /// Whether a policy says it.
    fn holds(&self, policy: &Policy) -> bool {
        let has = |id: u64| policy.rules.iter().any(|rule| rule.id == id);
        match self {
            Self::Add { .. } => has(rule_id(policy.version, 0)),
            Self::Lift(id) => !has(*id),
        }
    }

    /// The next policy.
    fn applied(&self, policy: &Policy) -> Result<Policy, Problem> {
        let (mut rules, version) = (policy.rules.clone(), policy.version.saturating_add(1));
        match self {
            Self::Add { scopes, limits, reason } => {
                let rule = |(n, scope): (usize, &Scope)| Rule {
                    id: rule_id(version, n),
                    scope: scope.clone(),
                    limits: (**limits).clone(),
                    reason: reason.clone(),
                };
                rules.extend(scopes.iter().enumerate().map(rule));
            }
            Self::Lift(id) => {
                rules.retain(|rule| rule.id != *id);
                if rules.len() == policy.rules.len() {
                    let text = format!("this room has no rule {id}");
                    return Err(Problem::new("not_found", NOT_FOUND, text).hint("/restrictions shows them"));
                }
            }
        }
        if rules.len() > ROOM_RULES_MAX {
            let text = format!("a room has at most {ROOM_RULES_MAX} rules");
            return Err(Problem::new("full", FAILED, text).hint("/unrestrict ID lifts one"));
        }
        // As every member will read it.
        let next = policy.with_rules(rules);
        let fits = Policy::from_bytes(&next.to_bytes()).is_ok() && fits(next.rules.iter().map(|rule| &rule.limits));
        if fits {
            Ok(next)
        } else {
            Err(Problem::new("too_large", FAILED, "the rules of the room would be too long").hint("make lists shorter"))
        }
    }
}

/// Versions are never used twice, so neither are these.
const fn rule_id(version: u64, n: usize) -> u64 {
    version.saturating_mul(10).saturating_add(n as u64)
}

const EDIT_DEADLINE: Duration = Duration::from_secs(30);
