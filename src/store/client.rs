//! What a client keeps beside its identity: pins of servers and names, settings, sharing switches. One process for each directory.

use super::StoreError;
use super::lock::DirLock;
use super::private::{self, PrivateError};
use crate::crypto::identity::PublicKey;
use crate::wire::home::HomeCard;
use crate::wire::name::{FullName, Name};
use crate::wire::pin::ServerPin;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::Path;

/// A client's small database. Each change is durable when its call returns.
#[derive(Debug)]
pub struct ClientStore {
    db: Connection,
    _lock: DirLock,
}

/// Why something is not kept or not found again.
#[derive(Debug, thiserror::Error)]
pub enum ClientStoreError {
    /// The directory or its files.
    #[error(transparent)]
    Dir(#[from] PrivateError),
    /// The directory is in use by another process, or cannot be locked.
    #[error(transparent)]
    Lock(#[from] StoreError),
    /// SQLite failed.
    #[error("the client's database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Written by a newer version of this program.
    #[error("the client's database was written by a newer version of this program")]
    Newer,
}

impl ClientStore {
    /// Opens the database of a data directory, making both where they are not there yet, and takes the directory for this process.
    pub fn open(dir: &Path) -> Result<Self, ClientStoreError> {
        private::make_dir(dir)?;
        let lock = DirLock::take(dir)?;
        let path = dir.join("client.db");
        match private::write_new(&path, b"") {
            Err(error) if !error.is_taken() => return Err(error.into()),
            _ => {}
        }
        let db = Connection::open(&path)?;
        db.pragma_update(None, "synchronous", "FULL")?;
        match db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
            0 => db.execute_batch(&format!("BEGIN; {SCHEMA} {HOMES} PRAGMA user_version = {VERSION}; COMMIT;"))?,
            1 => db.execute_batch(&format!("BEGIN; {HOMES} PRAGMA user_version = {VERSION}; COMMIT;"))?,
            VERSION => {}
            _ => return Err(ClientStoreError::Newer),
        }
        Ok(Self { db, _lock: lock })
    }

    /// The server that was approved at an address.
    pub fn server_at(&self, address: &str) -> Result<Option<ServerPin>, ClientStoreError> {
        let sql = "SELECT a.address, a.server, s.key, a.tls_key FROM addresses a JOIN servers s USING (server) WHERE a.address = ?";
        Ok(self.db.query_row(sql, [address], server_pin).optional()?)
    }

    /// The keys pinned for servers, by name.
    pub fn servers(&self) -> Result<Vec<(Name, PublicKey)>, ClientStoreError> {
        let mut statement = self.db.prepare("SELECT server, key FROM servers ORDER BY server")?;
        let rows = statement.query_map([], |row| Ok((name(row, 0)?, key(row, 1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Remembers an approved server. Its key, once pinned, is never replaced by this.
    pub fn remember_server(&mut self, pin: &ServerPin) -> Result<(), ClientStoreError> {
        let ServerPin { address, server, key, tls_key } = pin;
        let transaction = self.db.transaction()?;
        transaction.execute(
            "INSERT INTO servers (server, key) VALUES (?, ?) ON CONFLICT DO NOTHING",
            params![server.as_str(), key.as_bytes()],
        )?;
        transaction.execute(
            "INSERT INTO addresses (address, server, tls_key) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET server = excluded.server, tls_key = excluded.tls_key",
            params![address, server.as_str(), tls_key],
        )?;
        Ok(transaction.commit()?)
    }

    /// The keys pinned for people.
    pub fn names(&self) -> Result<Vec<(FullName, PublicKey)>, ClientStoreError> {
        let mut statement = self.db.prepare("SELECT name, server, key FROM names ORDER BY server, name")?;
        let rows = statement.query_map([], |row| Ok((FullName::new(name(row, 0)?, name(row, 1)?), key(row, 2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Pins a person's key, in place of an earlier one: whether that may be, the caller decides.
    pub fn pin_name(&self, who: &FullName, pinned: &PublicKey) -> Result<(), ClientStoreError> {
        self.db.execute(
            "INSERT INTO names (name, server, key) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET key = excluded.key",
            params![who.name.as_str(), who.server.as_str(), pinned.as_bytes()],
        )?;
        Ok(())
    }

    /// The names that we have, each with the mesh in which it counts. What cannot be read is left out: it is got anew.
    pub fn homes(&self) -> Result<Vec<HomeCard>, ClientStoreError> {
        let mut statement = self.db.prepare("SELECT card FROM homes ORDER BY server, name")?;
        let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let cards: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
        Ok(cards.iter().filter_map(|card| HomeCard::from_bytes(card).ok()).collect())
    }

    /// Keeps a name and its mesh, in place of what was kept of them.
    pub fn keep_home(&self, card: &HomeCard) -> Result<(), ClientStoreError> {
        let subject = &card.cert.subject;
        self.db.execute(
            "INSERT INTO homes (server, name, card) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET card = excluded.card",
            params![subject.server.as_str(), subject.name.as_str(), card.to_bytes()],
        )?;
        Ok(())
    }

    /// A setting's value.
    pub fn setting(&self, setting: &str) -> Result<Option<String>, ClientStoreError> {
        let sql = "SELECT value FROM settings WHERE setting = ?";
        Ok(self.db.query_row(sql, [setting], |row| row.get(0)).optional()?)
    }

    /// Keeps a setting.
    pub fn set_setting(&self, setting: &str, value: &str) -> Result<(), ClientStoreError> {
        self.db.execute(
            "INSERT INTO settings (setting, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            [setting, value],
        )?;
        Ok(())
    }

    /// The files that have a sharing switch of their own, and how it stands; it wins over the global one.
    pub fn share_switches(&self) -> Result<Vec<(String, bool)>, ClientStoreError> {
        let mut statement = self.db.prepare("SELECT file, shared FROM shares ORDER BY file")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Sets a file's own switch.
    pub fn set_share_switch(&self, file: &str, shared: bool) -> Result<(), ClientStoreError> {
        self.db.execute(
            "INSERT INTO shares (file, shared) VALUES (?, ?) ON CONFLICT DO UPDATE SET shared = excluded.shared",
            params![file, shared],
        )?;
        Ok(())
    }

    /// The global sharing switch; off at first.
    pub fn global_share(&self) -> Result<bool, ClientStoreError> {
        Ok(self.setting(GLOBAL_SHARE)?.as_deref() == Some("on"))
    }

    /// Sets the global sharing switch.
    pub fn set_global_share(&self, shared: bool) -> Result<(), ClientStoreError> {
        self.set_setting(GLOBAL_SHARE, if shared { "on" } else { "off" })
    }
}

fn server_pin(row: &Row<'_>) -> rusqlite::Result<ServerPin> {
    Ok(ServerPin { address: row.get(0)?, server: name(row, 1)?, key: key(row, 2)?, tls_key: row.get(3)? })
}

fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<Name> {
    let text: String = row.get(column)?;
    Name::parse(&text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}

fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<PublicKey> {
    Ok(PublicKey::from_bytes(row.get(column)?))
}

const GLOBAL_SHARE: &str = "share";
const VERSION: i64 = 2;
const HOMES: &str = "
    CREATE TABLE homes (server TEXT, name TEXT, card BLOB NOT NULL, PRIMARY KEY (server, name)) STRICT;
";
const SCHEMA: &str = "
    CREATE TABLE servers (server TEXT PRIMARY KEY, key BLOB NOT NULL) STRICT;
    CREATE TABLE addresses (
        address TEXT PRIMARY KEY,
        server TEXT NOT NULL REFERENCES servers (server),
        tls_key BLOB NOT NULL
    ) STRICT;
    CREATE TABLE names (name TEXT, server TEXT, key BLOB NOT NULL, PRIMARY KEY (name, server)) STRICT;
    CREATE TABLE settings (setting TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE shares (file TEXT PRIMARY KEY, shared INTEGER NOT NULL) STRICT;
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::Identity;

    fn pin(seed: u8) -> ServerPin {
        let key = Identity::from_seed(&[seed; 32]).public();
        ServerPin { address: "host:7443".into(), server: Name::parse("s1").unwrap(), key, tls_key: [seed; 32] }
    }

    #[test]
    fn a_directory_of_an_earlier_version_takes_homes_and_keeps_one_card_for_each_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = ClientStore::open(dir.path()).unwrap();
        store.remember_server(&pin(1)).unwrap();
        store.db.execute_batch("DROP TABLE homes; PRAGMA user_version = 1;").unwrap();
        drop(store);
        let store = ClientStore::open(dir.path()).unwrap();
        assert_eq!(store.server_at("host:7443").unwrap(), Some(pin(1)));
        let home = Identity::from_seed(&[1; 32]);
        let card = |name: &str, not_after| {
            let who = FullName::new(Name::parse(name).unwrap(), Name::parse("s1").unwrap());
            let cert = crate::wire::cert::NameCert::issue(&home, who, home.public(), not_after);
            HomeCard { cert, authorities: Vec::new(), servers: Vec::new(), sharing: None }
        };
        for card in [card("alice", 1), card("bob", 2), card("alice", 3)] {
            store.keep_home(&card).unwrap();
        }
        drop(store);
        assert_eq!(ClientStore::open(dir.path()).unwrap().homes().unwrap(), [card("alice", 3), card("bob", 2)]);
    }

    #[test]
    fn all_of_it_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let who = FullName::new(Name::parse("bob").unwrap(), Name::parse("s1").unwrap());
        let mut store = ClientStore::open(dir.path()).unwrap();
        assert_eq!(store.server_at("host:7443").unwrap(), None);
        assert!(!store.global_share().unwrap());
        store.remember_server(&pin(1)).unwrap();
        store.pin_name(&who, &pin(2).key).unwrap();
        store.set_global_share(true).unwrap();
        store.set_share_switch("a b.txt", false).unwrap();
        store.set_setting("window", "32").unwrap();
        drop(store);
        let store = ClientStore::open(dir.path()).unwrap();
        assert_eq!(store.server_at("host:7443").unwrap(), Some(pin(1)));
        assert_eq!(store.servers().unwrap(), [(pin(1).server, pin(1).key)]);
        assert_eq!(store.names().unwrap(), [(who, pin(2).key)]);
        assert!(store.global_share().unwrap());
        assert_eq!(store.share_switches().unwrap(), [("a b.txt".to_owned(), false)]);
        assert_eq!(store.setting("window").unwrap().as_deref(), Some("32"));
    }

    #[test]
    fn a_renewed_tls_key_is_remembered_and_a_pinned_identity_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = ClientStore::open(dir.path()).unwrap();
        store.remember_server(&pin(1)).unwrap();
        store.remember_server(&pin(2)).unwrap();
        let kept = store.server_at("host:7443").unwrap().unwrap();
        assert_eq!((kept.key, kept.tls_key), (pin(1).key, [2; 32]));
    }

    #[test]
    fn a_second_process_is_told_that_the_directory_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let _store = ClientStore::open(dir.path()).unwrap();
        let refused = ClientStore::open(dir.path()).unwrap_err();
        assert!(matches!(refused, ClientStoreError::Lock(StoreError::Locked { .. })));
    }
}
