//! The register: small lists that moderators keep (bans, roles, rules, settings), and the log of their acts.

use super::{StoreError, int, uint};
use crate::limits::ACTS_MAX;
use crate::wire::encode;
use rusqlite::{Connection, params};

/// Which list of the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the lists' owners in `server::moderation` say what stands in them")]
pub enum List {
    Role,
    Ban,
    Mute,
    Allowed,
    Token,
    Rule,
    Setting,
    Locked,
}

impl List {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Role, Self::Ban, Self::Mute, Self::Allowed, Self::Token, Self::Rule, Self::Setting, Self::Locked];

    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Ban => "ban",
            Self::Mute => "mute",
            Self::Allowed => "allowed",
            Self::Token => "token",
            Self::Rule => "rule",
            Self::Setting => "setting",
            Self::Locked => "locked",
        }
    }
}

/// An entry of a list: its key there, and what stands there, encoded by the list's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which list.
    pub list: List,
    /// Unique in it.
    pub key: Vec<u8>,
    /// What stands there.
    pub value: Vec<u8>,
}

/// What a moderator did, or tried to do. Never changed once it is written.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Act {
    /// Unix milliseconds.
    #[n(0)]
    pub time_ms: u64,
    /// A name, or `owner` for the admin socket.
    #[n(1)]
    pub who: String,
    /// What, in a word.
    #[n(2)]
    pub act: String,
    /// To whom or what.
    #[n(3)]
    pub whom: Option<String>,
    /// The reason that was given.
    #[n(4)]
    pub why: Option<String>,
    /// `done`, or the word of the failure.
    #[n(5)]
    pub outcome: String,
}

pub(super) fn keep(db: &Connection, entry: &Entry) -> Result<(), StoreError> {
    let sql = "INSERT INTO register (list, key, value) VALUES (?1, ?2, ?3)
               ON CONFLICT (list, key) DO UPDATE SET value = excluded.value";
    db.prepare(sql)?.execute(params![entry.list.as_str(), entry.key, entry.value])?;
    Ok(())
}

pub(super) fn strike(db: &Connection, list: List, key: &[u8]) -> Result<(), StoreError> {
    db.prepare("DELETE FROM register WHERE list = ?1 AND key = ?2")?.execute(params![list.as_str(), key])?;
    Ok(())
}

pub(super) fn load(db: &Connection) -> Result<Vec<Entry>, StoreError> {
    let mut statement = db.prepare("SELECT list, key, value FROM register ORDER BY list, key")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
    rows.map(|row| {
        let (word, key, value) = row?;
        let list = List::ALL.into_iter().find(|list| list.as_str() == word);
        Ok(Entry { list: list.ok_or(StoreError::Damaged("a list of the register is unknown"))?, key, value })
    })
    .collect()
}

pub(super) fn note(db: &Connection, act: &Act) -> Result<(), StoreError> {
    db.prepare("INSERT INTO acts (act) VALUES (?1)")?.execute(params![encode(act)])?;
    let newest = uint(db.last_insert_rowid())?;
    if let Some(oldest) = newest.checked_sub(ACTS_MAX) {
        db.prepare("DELETE FROM acts WHERE id <= ?1")?.execute([int(oldest)])?;
    }
    Ok(())
}

/// The newest before a number, newest first.
pub(super) fn acts(db: &Connection, before: u64, limit: u32) -> Result<Vec<(u64, Act)>, StoreError> {
    let mut statement = db.prepare("SELECT id, act FROM acts WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?;
    let rows = statement.query_map(params![int(before), limit], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    rows.map(|row| {
        let (id, bytes) = row?;
        let act = crate::wire::decode(&bytes, ACT_MAX).map_err(|_| StoreError::Damaged("an act cannot be read"))?;
        Ok((uint(id)?, act))
    })
    .collect()
}

/// Largest encoded [`Act`], bytes.
const ACT_MAX: usize = 8192;
