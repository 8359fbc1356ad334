//! The schema, and how an older file becomes a newer one: forward only, each step in a transaction.

use super::StoreError;
use rusqlite::Connection;

pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    db.execute_batch("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")?;
    let found: i64 = db.query_row("SELECT COALESCE(MAX(version), 0) FROM schema_version", [], |row| row.get(0))?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known || found < 0 {
        return Err(StoreError::Newer { found, known });
    }
    for (version, step) in (1..).zip(STEPS) {
        if version > found {
            let transaction = db.transaction()?;
            transaction.execute_batch(step)?;
            transaction.execute("DELETE FROM schema_version", [])?;
            transaction.execute("INSERT INTO schema_version (version) VALUES (?1)", [version])?;
            transaction.commit()?;
        }
    }
    Ok(())
}

const STEPS: &[&str] = &[
    "
    CREATE TABLE secret (value BLOB NOT NULL);
    CREATE TABLE names (
        name     TEXT PRIMARY KEY,
        skeleton TEXT NOT NULL UNIQUE,
        key      BLOB NOT NULL,
        since_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE instances (
        key      BLOB PRIMARY KEY,
        instance BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE rooms (
        id           BLOB PRIMARY KEY,
        label        TEXT,
        skeleton     TEXT UNIQUE,
        kind         INTEGER NOT NULL,
        door         TEXT,
        epoch        INTEGER NOT NULL,
        epoch_since  INTEGER NOT NULL,
        group_info   BLOB NOT NULL,
        tree         BLOB NOT NULL,
        vouch        BLOB,
        head         INTEGER NOT NULL,
        first        INTEGER NOT NULL,
        chain        BLOB NOT NULL,
        last_used_ms INTEGER NOT NULL
    );
    CREATE TABLE log (
        room    BLOB NOT NULL REFERENCES rooms (id) ON DELETE CASCADE,
        seq     INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        kind    INTEGER NOT NULL,
        bytes   BLOB NOT NULL,
        reason  INTEGER,
        digest  BLOB NOT NULL,
        PRIMARY KEY (room, seq)
    ) WITHOUT ROWID;
",
    "
    CREATE TABLE log_sizes (
        room  BLOB PRIMARY KEY REFERENCES rooms (id) ON DELETE CASCADE,
        bytes INTEGER NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO log_sizes (room, bytes) SELECT room, SUM(LENGTH(bytes)) FROM log GROUP BY room;
",
    "
    CREATE TABLE register (
        list  TEXT NOT NULL,
        key   BLOB NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (list, key)
    ) WITHOUT ROWID;
    CREATE TABLE acts (
        id  INTEGER PRIMARY KEY AUTOINCREMENT,
        act BLOB NOT NULL
    );
",
];
