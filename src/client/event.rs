//! Events for the user: one JSON object each, documented in docs/PROTOCOL.md and kept stable.

use serde::{Deserialize, Serialize};

/// What happened, as the user is told. Names and rooms are always full (`bob@s1`); text is as it came, JSON escapes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub enum Event {
    Connected {
        server: String,
        fingerprint: String,
        name: String,
        tls: String,
    },
    RoomCreated {
        room: String,
        id: String,
        private: bool,
        invite: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    Joined {
        room: String,
        id: String,
        members: Vec<String>,
    },
    Left {
        room: String,
        reason: String,
    },
    MemberJoined {
        room: String,
        name: String,
    },
    MemberLeft {
        room: String,
        name: String,
        reason: String,
    },
    TopicChanged {
        room: String,
        topic: String,
        by: String,
    },
    RoleChanged {
        room: String,
        name: String,
        role: String,
        by: String,
    },
    SecretChanged {
        room: String,
        version: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invite: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    NotRotated {
        room: String,
    },
    Wished {
        room: String,
        wish: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    Message {
        room: String,
        from: String,
        text: String,
        id: String,
    },
    Direct {
        from: String,
        text: String,
        id: String,
    },
    Sent {
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        id: String,
    },
    Held {
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        id: String,
        /// That is away; none while there is no link at all.
        #[serde(skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        waiting: u64,
    },
    HeldSent {
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        count: u64,
    },
    Notice {
        from: String,
        text: String,
    },
    FileFound {
        room: String,
        from: String,
        file: String,
        size: u64,
        root: Option<String>,
        state: String,
        free_slots: u32,
    },
    SearchDone {
        room: String,
        pattern: String,
        found: u64,
    },
    TransferOffered(Transfer),
    TransferStarted(Transfer),
    TransferProgress(Transfer),
    TransferPath(Transfer),
    TransferDone(Transfer),
    TransferFailed(Transfer),
    TransferWaiting(Transfer),
    SourceAdded(Transfer),
    SourceLost(Transfer),
    Hashing(Transfer),
    Queued(Transfer),
    OfferRefused(Transfer),
    Rooms {
        rooms: Vec<RoomRow>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        silent: Vec<String>,
    },
    Peers {
        room: String,
        peers: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        moderators: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        muted: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        banned: Vec<String>,
    },
    Pong {
        target: String,
        rtt_ms: f64,
        route: String,
        /// How files went between us and that peer the last time, if any did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        files_way: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        files_route: Option<String>,
    },
    Stats {
        ways: Vec<WayRow>,
        /// Sessions that found no way.
        in_vain: u64,
    },
    ShareStatus {
        global: bool,
        files: Vec<ShareRow>,
    },
    Ok {
        command: String,
    },
    KeyChanged {
        name: String,
    },
    Integrity {
        room: String,
        kind: String,
        peer: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    Gap {
        room: String,
        from: u64,
        to: u64,
    },
    RoomAway {
        room: String,
        server: String,
    },
    RoomBack {
        room: String,
        server: String,
    },
    RoomWaiting {
        room: String,
        server: String,
        lines: u64,
    },
    Reconnecting {
        reason: String,
    },
    Error {
        code: String,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    Bye {
        reason: String,
    },
}

/// The state of one transfer; fields that are not known yet are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct Transfer {
    pub id: String,
    /// `download` or `upload`.
    pub direction: String,
    pub peer: String,
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// `lan`, `direct`, `punched` (straight through routers), `relayed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_agreement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Holders that deliver now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<u32>,
    /// Files in a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// What else is in the holder's folder and cannot be sent: links, special and hidden files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u32>,
    /// The offer that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<String>,
    /// What it does now, in the rows of `transfers`: `running`, `queued`, `preparing`, `searching`, `waiting`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// In the line for a slot; 1 is next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<u32>,
    /// Seconds until its turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<u64>,
}

/// A row of `stats`: sessions of files that went one way, and how long it took to find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct WayRow {
    pub way: String,
    pub sessions: u64,
    pub mean_ms: u64,
    pub worst_ms: u64,
}

/// A row of `rooms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct RoomRow {
    pub room: String,
    pub id: String,
    pub members: u32,
}

/// A row of `share_status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "field names are the documented JSON keys; docs/PROTOCOL.md has the table")]
pub struct ShareRow {
    pub file: String,
    pub shared: bool,
}
