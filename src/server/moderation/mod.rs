//! Keeping a server a good place, without reading what people say.
//!
//! ```text
//! asks      a question comes in: permitted once, done, written down, answered
//! table     which role may ask what
//! roles     who has a role
//! people    looking at people and speaking to them
//! kicks     putting people out of rooms and off the server; released names
//! mutes     who has no word
//! terms     how long something holds
//! bans      bans, here and in the whole mesh
//! gate      who gets in: the list of those who may
//! settings  registration and levels
//! invitations  tokens for new names
//! rooms     looking at rooms; closing and locking them; wishes to their owners
//! sharing   rules on what may be shared
//! ```
//!
//! All lists live in the register of the store; an act is answered when it is durable.

mod asks;
mod bans;
mod gate;
mod invitations;
mod kicks;
mod mutes;
mod people;
mod roles;
mod rooms;
mod settings;
mod sharing;
mod table;
mod terms;

use super::core::{Core, LoadError};
use super::io::SessionId;
use crate::crypto::identity::PublicKey;
use crate::limits::ADMIN_LIST_BYTES;
use crate::store::{Entry, List};
use crate::wire::admin::{Answer, Page, Role};
use crate::wire::name::FullName;
use crate::wire::vouch::ServerTrust;
use asks::Waiting;
use std::collections::BTreeMap;

/// What moderators keep, and the questions under way.
#[derive(Debug)]
pub(super) struct Moderation {
    roles: roles::Roles,
    bans: bans::Bans,
    mutes: mutes::Mutes,
    allowed: gate::Allowed,
    invitations: invitations::Invitations,
    settings: settings::Settings,
    sharing: sharing::Sharing,
    waiting: BTreeMap<u64, Waiting>,
    pub(super) locks: rooms::Locks,
    wishes: rooms::Wishes,
}

impl Moderation {
    /// From what was stored.
    pub(super) fn load(register: &[Entry], trust: &ServerTrust, now_ms: u64) -> Result<Self, LoadError> {
        Ok(Self {
            roles: roles::Roles::load(register)?,
            bans: bans::Bans::load(register, trust, now_ms)?,
            mutes: mutes::Mutes::load(register)?,
            allowed: gate::Allowed::load(register)?,
            invitations: invitations::Invitations::load(register)?,
            settings: settings::Settings::load(register)?,
            sharing: sharing::Sharing::load(register)?,
            waiting: BTreeMap::new(),
            locks: rooms::Locks::load(register)?,
            wishes: rooms::Wishes::default(),
        })
    }
}

impl Core {
    /// What holds no more.
    pub(super) fn prune_lists(&mut self) {
        self.prune_mutes();
        self.prune_invitations();
        self.prune_rules();
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Officer {
    role: Role,
    /// Nobody in particular at the admin socket.
    person: Option<(FullName, PublicKey)>,
    to: To,
}

/// Where the answer goes.
#[derive(Debug, Clone, Copy)]
enum To {
    /// The admin socket: a ticket.
    Socket(u64),
    /// A session, and its request.
    Session(SessionId, u64),
}

impl Officer {
    /// Who runs the server, at its socket.
    pub(super) const fn owner(ticket: u64) -> Self {
        Self { role: Role::Owner, person: None, to: To::Socket(ticket) }
    }

    /// For lists and the audit log: `owner`, or a full name.
    fn named(&self) -> String {
        self.person.as_ref().map_or_else(|| Role::Owner.as_str().into(), |(name, _)| name.to_string())
    }
}

/// What came of a question: an answer, or nothing yet.
type Verdict = Option<Answer>;
/// What a part answers: what was done, or why nothing was.
type Told = Result<Answer, Answer>;

/// As many rows as fit into an answer over TLS too. `next` says with which one it goes on, if there are more.
fn fitting<T: serde::Serialize>(rows: impl Iterator<Item = T>, name: impl Fn(&T) -> String) -> Page<T> {
    let (mut page, mut bytes) = (Page::whole(Vec::new()), 0usize);
    for row in rows {
        bytes = bytes.saturating_add(serde_json::to_vec(&row).map_or(0, |json| json.len()));
        if bytes > ADMIN_LIST_BYTES {
            page.next = Some(name(&row));
            break;
        }
        page.rows.push(row);
    }
    page
}

/// The entries of one list, decoded; `max` bytes each.
fn entries<T: for<'b> minicbor::Decode<'b, ()>>(
    register: &[Entry],
    list: List,
    max: usize,
) -> impl Iterator<Item = Result<(Vec<u8>, T), LoadError>> {
    register.iter().filter(move |entry| entry.list == list).map(move |entry| {
        let value = crate::wire::decode(&entry.value, max).map_err(|_| LoadError::Register(list.as_str()))?;
        Ok((entry.key.clone(), value))
    })
}
