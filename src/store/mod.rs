//! What is kept on disk. For a client: [`identity`], [`client`]. For a server: one SQLite database in its data directory, owned by one process at a time.
//!
//! [`ServerStore::load`] gives all that the server's core starts from, [`ServerStore::apply`] makes a batch of changes durable in one
//! transaction, [`ServerStore::page`] reads a part of a room's log. Nothing here can be read by the server in the sense of its
//! members: log rows are MLS messages.

pub mod backup;
pub mod client;
mod failpoint;
pub mod identity;
pub mod ledger;
mod lock;
mod log;
pub mod mesh;
mod migrate;
mod model;
mod names;
pub mod private;
mod register;
mod room;
mod rooms;
#[cfg(test)]
mod tests;

pub use failpoint::POINTS as FAILPOINTS;
pub use model::{Digest, Loaded, LoadedRoom, LogPage, RoomState, ServerSecret, StandingRow, Write, digest};
pub use register::{Act, Entry, List};

use crate::limits::DISK_RESERVE;
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The database of one data directory. Dropping it gives the directory free.
#[derive(Debug)]
pub struct ServerStore {
    connection: Connection,
    secret: ServerSecret,
    dir: Option<PathBuf>,
    _lock: Option<lock::DirLock>,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the directory.
    #[error("{dir} is in use by {owner}")]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// The other one, as far as it said: `process PID`.
        owner: String,
    },
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Written by a newer version of this program.
    #[error("the database has schema version {found}; this program knows {known}")]
    Newer {
        /// In the file.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// What stands in it makes no sense.
    #[error("the database is damaged: {0}")]
    Damaged(&'static str),
    /// The system gave no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

impl ServerStore {
    /// Opens the database of a data directory, making both where they are not there yet (directory 0700, files 0600).
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        make_private_dir(dir)?;
        let lock = lock::DirLock::take(dir)?;
        let path = dir.join(DATABASE);
        make_private_file(&path)?;
        let connection = Connection::open(&path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let store = Self { dir: Some(dir.to_owned()), ..Self::ready(connection, Some(lock))? };
        if store.free_bytes().is_none_or(|free| free > DISK_RESERVE) {
            // Without it all is as right, and a little slower.
            let _ = room::take(&path);
        }
        Ok(store)
    }

    /// Bytes that are free for it on its disk; `None` in memory, or where the system does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(self.dir.as_ref()?).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// The rows of all rooms in a data directory, whoever has it open: number and bytes. Changes nothing; for people who want to see
    /// what a server holds.
    pub fn peek(dir: &Path) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(dir.join(DATABASE), flags)?;
        connection.busy_timeout(BUSY)?;
        log::peek(&connection)
    }

    /// A database that lives in memory only.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::ready(Connection::open_in_memory()?, None)
    }

    fn ready(mut connection: Connection, lock: Option<lock::DirLock>) -> Result<Self, StoreError> {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        migrate::migrate(&mut connection)?;
        let secret = names::secret(&connection)?;
        Ok(Self { connection, secret, dir: None, _lock: lock })
    }

    /// Everything that the core starts from.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let db = &self.connection;
        Ok(Loaded {
            secret: self.secret.clone(),
            names: names::load(db)?,
            instances: names::load_instances(db)?,
            rooms: rooms::load(db)?,
            register: register::load(db)?,
        })
    }

    /// Makes a batch durable, all of it or nothing, before it returns.
    pub fn apply(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        failpoint::hit("begin");
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for write in writes {
            apply_one(&transaction, write)?;
        }
        failpoint::hit("commit.before");
        transaction.commit()?;
        failpoint::hit("commit.after");
        Ok(())
    }

    /// The rows of a room's log after a number, in order, at most [`crate::limits::LOG_PAGE_ROWS`] and
    /// [`crate::limits::LOG_PAGE_BYTES`] (but one row at least), and the number of the first row that is still kept.
    pub fn page(&self, room: &crate::wire::id::RoomId, after: u64) -> Result<LogPage, StoreError> {
        log::page(&self.connection, room, after)
    }

    /// What moderators did, newest first: those before a number, at most `limit`.
    pub fn acts(&self, before: u64, limit: u32) -> Result<Vec<(u64, Act)>, StoreError> {
        register::acts(&self.connection, before, limit)
    }
}

fn apply_one(db: &Connection, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::Name { name, key, since_ms } => failpoint::around("name", || names::insert(db, name, key, *since_ms)),
        Write::Instance { key, instance } => failpoint::around("instance", || names::set_instance(db, key, instance)),
        Write::ForgetInstance { key } => names::forget_instance(db, key),
        Write::NewRoom(room) => failpoint::around("room", || rooms::insert(db, room)),
        Write::Epoch { room, state, door } => {
            failpoint::around("epoch", || rooms::set_epoch(db, room, state, door.as_deref()))
        }
        Write::Append { room, row, chain } => failpoint::around("row", || log::append(db, room, row, chain)),
        Write::RemoveRoom { room } => failpoint::around("remove", || rooms::remove(db, room)),
        Write::Trim { room, before_ms, max_bytes } => {
            failpoint::around("trim", || log::trim(db, room, *before_ms, *max_bytes))
        }
        Write::Keep(entry) => failpoint::around("register", || register::keep(db, entry)),
        Write::Strike { list, key } => failpoint::around("register", || register::strike(db, *list, key)),
        Write::Note(act) => failpoint::around("act", || register::note(db, act)),
        Write::FreeName { name } => failpoint::around("name", || names::remove(db, name)),
        Write::Bound { max_bytes } => failpoint::around("trim", || log::bound(db, *max_bytes)),
    }
}

fn make_private_dir(dir: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: dir.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io)
}

/// SQLite gives its journal files the database's mode, so making this one private is enough.
fn make_private_file(path: &Path) -> Result<fs::File, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let options = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = options.map_err(io)?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(io)?;
    Ok(file)
}

/// SQLite integers are signed; numbers beyond them do not occur in practice and are capped.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn uint(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Damaged("a number is negative"))
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Damaged("a key or hash has another length"))
}

const DATABASE: &str = "server.db";
const BUSY: Duration = Duration::from_secs(5);
