//! Rooms: what they are, and the state of their present epoch.

use super::{LoadedRoom, RoomState, StoreError, array, int, log, uint};
use crate::wire::id::{Id, RoomId};
use crate::wire::name::Name;
use crate::wire::policy::RoomKind;
use rusqlite::{Connection, Row, params};

pub(super) fn insert(db: &Connection, room: &LoadedRoom) -> Result<(), StoreError> {
    let sql = "INSERT INTO rooms (id, label, skeleton, kind, door, epoch, epoch_since, group_info, tree, vouch,
                                  head, first, chain, last_used_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    let state = &room.state;
    db.prepare(sql)?.execute(params![
        room.id.0,
        room.label.as_ref().map(Name::as_str),
        room.label.as_ref().map(Name::skeleton),
        kind_number(room.kind),
        room.door,
        int(state.epoch),
        int(state.since),
        state.group_info,
        state.tree,
        state.vouch.as_ref().map(<[u8; 64]>::as_slice),
        int(room.head),
        int(room.head.saturating_add(1)),
        room.chain,
        int(room.last_used_ms),
    ])?;
    Ok(())
}

pub(super) fn set_epoch(
    db: &Connection,
    room: &RoomId,
    state: &RoomState,
    door: Option<&str>,
) -> Result<(), StoreError> {
    let sql = "UPDATE rooms SET epoch = ?2, epoch_since = ?3, group_info = ?4, tree = ?5, vouch = ?6,
                                door = COALESCE(?7, door) WHERE id = ?1";
    let vouch = state.vouch.as_ref().map(<[u8; 64]>::as_slice);
    let values = params![room.0, int(state.epoch), int(state.since), state.group_info, state.tree, vouch, door];
    changed_one(db.prepare(sql)?.execute(values)?)
}

pub(super) fn remove(db: &Connection, room: &RoomId) -> Result<(), StoreError> {
    changed_one(db.prepare("DELETE FROM rooms WHERE id = ?1")?.execute([room.0])?)
}

pub(super) fn load(db: &Connection) -> Result<Vec<LoadedRoom>, StoreError> {
    let sql = "SELECT id, label, kind, door, epoch, epoch_since, group_info, tree, vouch, head, chain, last_used_ms
               FROM rooms ORDER BY id";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let mut room = read(row)?;
        room.standing = log::standing(db, &room.id, room.state.since)?;
        room.recent = log::recent(db, &room.id)?;
        out.push(room);
    }
    Ok(out)
}

pub(super) fn changed_one(rows: usize) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Damaged("a room that should be there is not")) }
}

fn read(row: &Row) -> Result<LoadedRoom, StoreError> {
    let label: Option<String> = row.get(1)?;
    let label = label.map(|l| Name::parse(&l)).transpose().map_err(|_| StoreError::Damaged("a label is no name"))?;
    let vouch: Option<Vec<u8>> = row.get(8)?;
    let state = RoomState {
        epoch: uint(row.get(4)?)?,
        since: uint(row.get(5)?)?,
        group_info: row.get(6)?,
        tree: row.get(7)?,
        vouch: vouch.map(|v| array(&v)).transpose()?,
    };
    Ok(LoadedRoom {
        id: Id(array(&row.get::<_, Vec<u8>>(0)?)?),
        label,
        kind: kind_of(row.get(2)?)?,
        door: row.get(3)?,
        state,
        head: uint(row.get(9)?)?,
        chain: array(&row.get::<_, Vec<u8>>(10)?)?,
        last_used_ms: uint(row.get(11)?)?,
        standing: Vec::new(),
        recent: Vec::new(),
    })
}

const fn kind_number(kind: RoomKind) -> i64 {
    match kind {
        RoomKind::Public => 0,
        RoomKind::Private => 1,
        RoomKind::Direct => 2,
    }
}

const fn kind_of(number: i64) -> Result<RoomKind, StoreError> {
    match number {
        0 => Ok(RoomKind::Public),
        1 => Ok(RoomKind::Private),
        2 => Ok(RoomKind::Direct),
        _ => Err(StoreError::Damaged("a room of an unknown kind")),
    }
}
