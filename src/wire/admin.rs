//! What an operator asks of a server and what is answered: one protocol of JSON objects, a line each on the admin socket, and inside
//! [`super::frame::Request::Admin`] over TLS.
//!
//! Names, rooms and times are as people type and read them; the server resolves them.

use super::sharing::{Limits, RuleView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is asked. `room` is `LABEL` or `LABEL@SERVER`, `name` is `NAME` or `NAME@SERVER`; `for_s` is in seconds, for good where it is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub enum Ask {
    /// The mesh as this server knows it.
    Mesh,
    /// Whether all is well.
    Health,
    /// What was counted.
    Stats,
    /// Registration, level and other settings.
    Settings,
    /// Names that this server knows, and guests; a page after a name.
    Users { after: Option<String> },
    /// One of them.
    Show { name: String },
    /// Rooms of this server; a page after a label.
    Rooms { after: Option<String> },
    /// One of them.
    Room { room: String },
    /// Bans that hold here; a page after an id.
    Bans { after: Option<String> },
    /// Who is muted.
    Mutes,
    /// The list of those who may get in, if there is one.
    Allowed,
    /// Who has a role.
    Roles,
    /// What may not be shared.
    Restrictions,
    /// Acts, the newest first; a page before an id.
    Audit { before: Option<u64>, limit: Option<u32> },

    /// A line to somebody.
    Message { name: String, text: String },
    /// A line to everybody.
    Broadcast { text: String },
    /// Out of one room, or out of all rooms and off the server.
    Kick { name: String, room: Option<String>, reason: Option<String> },
    /// Out, and not in again.
    Ban {
        whom: Whom,
        for_s: Option<u64>,
        reason: Option<String>,
        /// On this server only, not on the others of the mesh.
        #[serde(default)]
        here: bool,
    },
    /// Lifts a ban.
    Unban { id: String },
    /// Takes the word from somebody, in one room or everywhere on this server.
    Mute { name: String, room: Option<String>, for_s: Option<u64>, reason: Option<String> },
    /// Gives it back.
    Unmute { name: String, room: Option<String> },
    /// Onto the list of those who may get in: a name or a fingerprint.
    Allow { whom: String },
    /// Off the list.
    Disallow { whom: String },
    /// Who may take a new name.
    Registration { mode: Registration },
    /// A token with which somebody may take a new name while that needs one.
    Invitation { uses: Option<u32>, for_s: Option<u64> },
    /// Frees a name whose key is lost.
    Release { name: String },
    /// Gives a role.
    Grant { name: String, role: Role },
    /// Takes it.
    Revoke { name: String },
    /// Ends a room.
    Close { room: String, reason: Option<String> },
    /// Nobody joins.
    Lock { room: String },
    /// People may join again.
    Unlock { room: String },
    /// Asks a room's owner for what only the owner can do.
    AskOwner { room: String, wish: Wish },
    /// Restricts what may be shared.
    Restrict { room: Option<String>, user: Option<String>, limits: Box<Limits>, reason: Option<String> },
    /// Lifts a restriction.
    Unrestrict { id: u64 },
    /// How wary the server is: 5 is normal, 1 lets nobody new in.
    Defcon { level: u8 },
    /// Reads certificate and configuration again; nobody is dropped.
    Reload,
    /// A copy of the database, taken while the server runs, into a file on the server's machine.
    Backup { file: String },
    /// Tells everybody, writes what waits, ends.
    Stop,
}

/// Whom a ban is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// `NAME` or `NAME@SERVER`, and the key behind it.
    Name(String),
    /// SHA-256 of a user's key, 64 hex digits.
    Fingerprint(String),
    /// An address or a network in CIDR form.
    Network(String),
}

/// What only a room's owner can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, minicbor::Encode, minicbor::Decode)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Another secret for a private room.
    #[n(0)]
    NewSecret,
    /// Another owner.
    #[n(1)]
    HandOver(#[n(0)] String),
}

/// Who may take a new name; the later, the stricter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Everybody.
    #[default]
    Open,
    /// Who has a token.
    Invite,
    /// Nobody.
    Closed,
}

impl Registration {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Invite => "invite",
            Self::Closed => "closed",
        }
    }
}

/// What somebody may do here beside what everybody may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, minicbor::Encode, minicbor::Decode,
)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum Role {
    /// Looks, kicks, bans, mutes.
    #[n(0)]
    Moderator,
    /// All but roles and what touches the server's disk.
    #[n(1)]
    Operator,
    /// Who runs the server, at its admin socket. Not to be granted.
    #[n(2)]
    Owner,
}

impl Role {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Moderator => "moderator",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub enum Answer {
    /// It is done, and durable.
    Done {
        /// What was done, for people.
        what: String,
        /// What else is to be known: who was away, what holds only later.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
        /// Of a new ban or restriction.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Of a new invitation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    },
    /// It is not done, and nothing of it.
    Failed {
        /// The stable word.
        code: Failure,
        /// For people.
        why: String,
        /// The way out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    Mesh(Box<MeshView>),
    Health(Box<Health>),
    Stats(BTreeMap<String, u64>),
    Settings(SettingsView),
    Users(Page<UserView>),
    User(Box<UserView>),
    Rooms(Page<RoomView>),
    Room(Box<RoomView>),
    Bans(Page<BanView>),
    Mutes(Page<MuteView>),
    Allowed(Page<AllowView>),
    Roles(Page<RoleView>),
    Restrictions(Page<RuleView>),
    Audit(Page<AuditView>),
}

impl Answer {
    /// Done, with nothing else to be known.
    pub fn done(what: impl Into<String>) -> Self {
        Self::Done { what: what.into(), notes: Vec::new(), id: None, token: None }
    }

    /// Not done.
    pub fn failed(code: Failure, why: impl Into<String>) -> Self {
        Self::Failed { code, why: why.into(), hint: None }
    }

    /// Not done, with a way out.
    pub fn failed_with(code: Failure, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { code, why: why.into(), hint: Some(hint.into()) }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Not a question that the server knows.
    Malformed,
    /// The asker has not the role for it.
    NotAllowed,
    /// No such user here.
    UnknownUser,
    /// No such room here.
    UnknownRoom,
    /// Nothing has this id.
    UnknownId,
    /// A value makes no sense.
    BadValue,
    /// It is so already.
    Already,
    /// A list is as long as it may be.
    Full,
    /// It could not be done: the disk, or another part of the server.
    Failed,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Where the next page begins, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// All there is.
    pub const fn whole(rows: Vec<T>) -> Self {
        Self { rows, next: None }
    }
}

/// Somebody. Times are Unix milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct UserView {
    pub name: String,
    pub fingerprint: String,
    pub online: bool,
    /// Whence, if connected to this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The server of the mesh that they come through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    pub muted: bool,
    pub banned: bool,
    /// In answers to `show` only: labels of the rooms of this server, private ones too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<String>,
}

/// A room of this server. A server knows who is in its rooms, not what they say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct RoomView {
    pub room: String,
    pub id: String,
    pub private: bool,
    pub locked: bool,
    pub members: u32,
    pub present: u32,
    pub epoch: u64,
    pub policy_version: u64,
    pub log_rows: u64,
    pub last_used_ms: u64,
    /// The owner's name, or the fingerprint where that is not known.
    pub owner: String,
    /// In answers to `room` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct BanView {
    /// `ID`, or `ID@SERVER` for one of another server.
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    pub reason: String,
    pub by: String,
    pub since_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Whether the other servers of the mesh hold to it.
    pub mesh: bool,
}

/// A mute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct MuteView {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    pub reason: String,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// Somebody who may get in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct AllowView {
    pub fingerprint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub by: String,
}

/// Somebody with a role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct RoleView {
    pub name: String,
    pub fingerprint: String,
    pub role: Role,
    pub by: String,
    pub since_ms: u64,
}

/// An act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct AuditView {
    pub id: u64,
    pub time_ms: u64,
    /// `owner` for the admin socket, else a name.
    pub who: String,
    pub act: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whom: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// `done`, or the word of the failure.
    pub outcome: String,
}

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct SettingsView {
    pub registration: Registration,
    pub defcon: u8,
    /// Whether only those on the list get in.
    pub allow_list: bool,
    pub invitations: u32,
    /// How much of files is passed on to those who cannot be reached directly; an older server does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayView>,
}

/// Bytes of files that are passed on at most: a second and a day, of each user and in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct RelayView {
    pub user_rate: u64,
    pub rate: u64,
    pub user_bytes: u64,
    pub bytes: u64,
}

/// Whether all is well. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct Health {
    pub ok: bool,
    pub name: String,
    pub version: String,
    pub up_s: u64,
    pub clients: u64,
    pub database_bytes: u64,
    pub disk_free_bytes: u64,
    pub certificate_days: i64,
    /// What is not well, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// A mesh, for people and programs. Durations are in milliseconds, sizes in bytes, counts since the server's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeshView {
    /// This server's name.
    pub name: String,
    /// Its id, 64 hex digits, as all ids here.
    pub id: String,
    /// The other servers, by name.
    pub nodes: Vec<NodeView>,
    /// This server's links.
    pub links: Vec<LinkView>,
    /// All links of the mesh, each once.
    pub edges: Vec<EdgeView>,
    /// Messages by what became of them, and records.
    pub counts: BTreeMap<String, u64>,
    /// Connections and links refused or cut, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// What waits for the server itself.
    pub waiting: usize,
}

/// Another server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Whether a path leads there now.
    pub reachable: bool,
    /// Links on the path.
    pub hops: u8,
    /// The sum of their round trips.
    pub round_trip_ms: f64,
    /// What waits or is under way for it.
    pub queued: usize,
    /// Names of the servers on the way there, it included.
    pub path: Vec<String>,
    /// Where clients find it.
    pub endpoints: Vec<String>,
}

/// A link of this server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkView {
    /// The neighbour's name.
    pub peer: String,
    /// Its address.
    pub address: String,
    /// Whether this server has dialled.
    pub dialled: bool,
    /// For how long it is up.
    pub up_ms: u64,
    /// The last ping, if one was answered.
    pub round_trip_ms: Option<f64>,
    /// Control that waits.
    pub control_bytes: usize,
    /// Messages that wait.
    pub bulk_bytes: usize,
    /// Frames for which there was no room.
    pub dropped: u64,
    /// Batches of relayed datagrams for which there was none.
    #[serde(default)]
    pub parcels_dropped: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// A link between any two servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeView {
    /// One's name.
    pub from: String,
    /// The other's.
    pub to: String,
    /// As they measure it.
    pub round_trip_ms: f64,
}
