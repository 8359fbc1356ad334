//! The log of each room: numbered rows without holes, bounded by age and bytes.

use super::rooms::changed_one;
use super::{Digest, LogPage, StandingRow, StoreError, array, digest, int, uint};
use crate::limits::{LOG_PAGE_BYTES, LOG_PAGE_ROWS, REPEATS_KNOWN};
use crate::wire::id::{Id, RoomId};
use crate::wire::log::{RemoveReason, Row, RowKind};
use rusqlite::{Connection, OptionalExtension, params};

/// Adds a row; its number must follow the room's last one.
pub(super) fn append(db: &Connection, room: &RoomId, row: &Row, chain: &[u8; 32]) -> Result<(), StoreError> {
    let sql = "INSERT INTO log (room, seq, time_ms, kind, bytes, reason, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let bytes: &[u8] = &row.bytes;
    let reason = row.reason.map(reason_number);
    let values = params![room.0, int(row.seq), int(row.time_ms), kind_number(row.kind), bytes, reason, digest(bytes)];
    db.prepare(sql)?.execute(values)?;
    let sql = "INSERT INTO log_sizes (room, bytes) VALUES (?1, ?2)
               ON CONFLICT (room) DO UPDATE SET bytes = bytes + excluded.bytes";
    db.prepare(sql)?.execute(params![room.0, int(bytes.len() as u64)])?;
    let sql = "UPDATE rooms SET head = ?2, chain = ?3, last_used_ms = ?4 WHERE id = ?1 AND head = ?2 - 1";
    changed_one(db.prepare(sql)?.execute(params![room.0, int(row.seq), chain, int(row.time_ms)])?)
}

pub(super) fn page(db: &Connection, room: &RoomId, after: u64) -> Result<LogPage, StoreError> {
    let first: Option<i64> =
        db.prepare("SELECT first FROM rooms WHERE id = ?1")?.query_row([room.0], |r| r.get(0)).optional()?;
    let first = uint(first.unwrap_or(0))?;
    if after.saturating_add(1) < first {
        return Ok(LogPage { rows: Vec::new(), first });
    }
    let sql = "SELECT seq, time_ms, kind, bytes, reason FROM log WHERE room = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let mut statement = db.prepare(sql)?;
    let limit = i64::try_from(LOG_PAGE_ROWS).unwrap_or(i64::MAX);
    let mut found = statement.query(params![room.0, int(after), limit])?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let row = read(row)?;
        bytes += row.bytes.len();
        if bytes > LOG_PAGE_BYTES && !rows.is_empty() {
            break;
        }
        rows.push(row);
    }
    Ok(LogPage { rows, first })
}

pub(super) fn peek(db: &Connection) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let mut statement = db.prepare("SELECT seq, bytes FROM log ORDER BY room, seq")?;
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push((uint(row.get(0)?)?, row.get(1)?));
    }
    Ok(rows)
}

/// Gives up old rows. A standing proposal is spared, and the log begins after the last row that was given up.
pub(super) fn trim(db: &Connection, room: &RoomId, before_ms: u64, max_bytes: u64) -> Result<(), StoreError> {
    let by_age: Option<i64> = db
        .prepare("SELECT MAX(seq) FROM log WHERE room = ?1 AND time_ms < ?2")?
        .query_row(params![room.0, int(before_ms)], |row| row.get(0))?;
    let by_bytes = last_beyond(db, room, max_bytes)?;
    let Some(last) = by_age.max(by_bytes) else { return Ok(()) };
    let given_up = "FROM log WHERE room = ?1 AND seq <= ?2 AND NOT (kind = ?3
                    AND seq > (SELECT epoch_since FROM rooms WHERE id = ?1))";
    let values = params![room.0, last, kind_number(RowKind::Proposal)];
    let sql = format!(
        "UPDATE log_sizes SET bytes = bytes - (SELECT COALESCE(SUM(LENGTH(bytes)), 0) {given_up}) WHERE room = ?1"
    );
    db.prepare(&sql)?.execute(values)?;
    db.prepare(&format!("DELETE {given_up}"))?.execute(values)?;
    let sql = "UPDATE rooms SET first = MAX(first, ?2 + 1) WHERE id = ?1";
    db.prepare(sql)?.execute(params![room.0, last])?;
    Ok(())
}

/// Halves the largest log until all together fit, so that many small ones outlive a few large ones.
pub(super) fn bound(db: &Connection, max_bytes: u64) -> Result<(), StoreError> {
    let total = |db: &Connection| db.query_row("SELECT COALESCE(SUM(bytes), 0) FROM log_sizes", [], |row| row.get(0));
    let mut all = uint(total(db)?)?;
    while all > max_bytes {
        let sql = "SELECT room, bytes FROM log_sizes ORDER BY bytes DESC LIMIT 1";
        let (room, bytes): (Vec<u8>, i64) = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        trim(db, &Id(array(&room)?), 0, uint(bytes)? / 2)?;
        let before = std::mem::replace(&mut all, uint(total(db)?)?);
        if all >= before {
            // Nothing but standing proposals, which are spared.
            break;
        }
    }
    Ok(())
}

/// The number of the newest row that does not fit into `max_bytes` counted from the end.
fn last_beyond(db: &Connection, room: &RoomId, max_bytes: u64) -> Result<Option<i64>, StoreError> {
    let mut statement = db.prepare("SELECT seq, LENGTH(bytes) FROM log WHERE room = ?1 ORDER BY seq DESC")?;
    let mut rows = statement.query([room.0])?;
    let mut bytes = 0u64;
    while let Some(row) = rows.next()? {
        bytes = bytes.saturating_add(uint(row.get(1)?)?);
        if bytes > max_bytes {
            return Ok(Some(row.get(0)?));
        }
    }
    Ok(None)
}

/// Proposals after the row that began the present epoch.
pub(super) fn standing(db: &Connection, room: &RoomId, since: u64) -> Result<Vec<StandingRow>, StoreError> {
    let sql = "SELECT bytes, reason FROM log WHERE room = ?1 AND seq > ?2 AND kind = ?3 ORDER BY seq";
    let mut statement = db.prepare(sql)?;
    let values = params![room.0, int(since), kind_number(RowKind::Proposal)];
    let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?;
    rows.map(|row| {
        let (bytes, reason) = row?;
        Ok(StandingRow { bytes, reason: reason.map(reason_of).transpose()? })
    })
    .collect()
}

/// Number, time and digest of the last [`REPEATS_KNOWN`] rows, oldest first.
pub(super) fn recent(db: &Connection, room: &RoomId) -> Result<Vec<(u64, u64, Digest)>, StoreError> {
    let sql = "SELECT seq, time_ms, digest FROM log WHERE room = ?1 ORDER BY seq DESC LIMIT ?2";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query(params![room.0, i64::try_from(REPEATS_KNOWN).unwrap_or(i64::MAX)])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push((uint(row.get(0)?)?, uint(row.get(1)?)?, array(&row.get::<_, Vec<u8>>(2)?)?));
    }
    out.reverse();
    Ok(out)
}

fn read(row: &rusqlite::Row) -> Result<Row, StoreError> {
    let reason: Option<i64> = row.get(4)?;
    Ok(Row {
        seq: uint(row.get(0)?)?,
        time_ms: uint(row.get(1)?)?,
        kind: kind_of(row.get(2)?)?,
        bytes: row.get::<_, Vec<u8>>(3)?.into(),
        reason: reason.map(reason_of).transpose()?,
    })
}

const fn kind_number(kind: RowKind) -> i64 {
    match kind {
        RowKind::Commit => 0,
        RowKind::Proposal => 1,
        RowKind::Message => 2,
    }
}

const fn kind_of(number: i64) -> Result<RowKind, StoreError> {
    match number {
        0 => Ok(RowKind::Commit),
        1 => Ok(RowKind::Proposal),
        2 => Ok(RowKind::Message),
        _ => Err(StoreError::Damaged("a row of an unknown kind")),
    }
}

const fn reason_number(reason: RemoveReason) -> i64 {
    match reason {
        RemoveReason::Lost => 0,
        RemoveReason::Kicked => 1,
        RemoveReason::Banned => 2,
        RemoveReason::Released => 3,
    }
}

const fn reason_of(number: i64) -> Result<RemoveReason, StoreError> {
    match number {
        0 => Ok(RemoveReason::Lost),
        1 => Ok(RemoveReason::Kicked),
        2 => Ok(RemoveReason::Banned),
        3 => Ok(RemoveReason::Released),
        _ => Err(StoreError::Damaged("an unknown reason")),
    }
}
