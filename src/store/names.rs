//! Names, the keys that they belong to, the runs of clients, and the server's secret.

use super::{ServerSecret, StoreError, array, int};
use crate::crypto::identity::PublicKey;
use crate::wire::id::{Id, InstanceId};
use crate::wire::name::Name;
use rusqlite::{Connection, OptionalExtension, params};

/// The server's secret, made when the database is new.
pub(super) fn secret(db: &Connection) -> Result<ServerSecret, StoreError> {
    let found: Option<Vec<u8>> = db.query_row("SELECT value FROM secret", [], |row| row.get(0)).optional()?;
    if let Some(bytes) = found {
        return Ok(ServerSecret::new(array(&bytes)?));
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::Random)?;
    let secret = ServerSecret::new(bytes);
    db.execute("INSERT INTO secret (value) VALUES (?1)", [secret.bytes().as_slice()])?;
    Ok(secret)
}

pub(super) fn insert(db: &Connection, name: &Name, key: &PublicKey, since_ms: u64) -> Result<(), StoreError> {
    let sql = "INSERT INTO names (name, skeleton, key, since_ms) VALUES (?1, ?2, ?3, ?4)";
    let values = params![name.as_str(), name.skeleton(), key.as_bytes(), int(since_ms)];
    db.prepare(sql)?.execute(values)?;
    Ok(())
}

pub(super) fn remove(db: &Connection, name: &Name) -> Result<(), StoreError> {
    db.prepare("DELETE FROM names WHERE name = ?1")?.execute([name.as_str()])?;
    Ok(())
}

pub(super) fn set_instance(db: &Connection, key: &PublicKey, instance: &InstanceId) -> Result<(), StoreError> {
    let sql = "INSERT INTO instances (key, instance) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET instance = excluded.instance";
    db.prepare(sql)?.execute(params![key.as_bytes(), instance.0])?;
    Ok(())
}

pub(super) fn forget_instance(db: &Connection, key: &PublicKey) -> Result<(), StoreError> {
    db.prepare("DELETE FROM instances WHERE key = ?1")?.execute(params![key.as_bytes()])?;
    Ok(())
}

pub(super) fn load(db: &Connection) -> Result<Vec<(Name, PublicKey)>, StoreError> {
    let mut statement = db.prepare("SELECT name, key FROM names")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    rows.map(|row| {
        let (name, key) = row?;
        let name = Name::parse(&name).map_err(|_| StoreError::Damaged("a name is none"))?;
        Ok((name, PublicKey::from_bytes(array(&key)?)))
    })
    .collect()
}

pub(super) fn load_instances(db: &Connection) -> Result<Vec<(PublicKey, InstanceId)>, StoreError> {
    let mut statement = db.prepare("SELECT key, instance FROM instances")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    rows.map(|row| {
        let (key, instance) = row?;
        Ok((PublicKey::from_bytes(array(&key)?), Id(array(&instance)?)))
    })
    .collect()
}
