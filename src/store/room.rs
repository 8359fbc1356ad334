//! Room for the write-ahead log, taken once.
//!
//! Where a file grows, a sync of it waits for the file system's own journal too, and with that for whatever other programs have written
//! meanwhile. The log is written over from its beginning each time that it was merged into the database, so it grows only until then.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Makes the write-ahead log of a database, which is open and of which nothing is written just now, as long as it will ever be in the
/// ordinary case. What follows the last whole transaction in it counts for nothing.
pub(super) fn take(database: &Path) -> io::Result<()> {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let mut log = OpenOptions::new().write(true).open(&name)?;
    let mut len = log.seek(SeekFrom::End(0))?;
    while len < LOG_LEN {
        len += fill(&mut log, LOG_LEN - len)?;
    }
    log.sync_all()
}

// Written and not only reserved, or the first use of each page would change the file's books after all.
fn fill(log: &mut File, missing: u64) -> io::Result<u64> {
    let zeros = [0; 64 * 1024];
    let part = usize::try_from(missing).unwrap_or(zeros.len()).min(zeros.len());
    log.write_all(zeros.get(..part).unwrap_or_default())?;
    Ok(part as u64)
}

/// SQLite merges the log after 1,000 pages of 4 KiB, each with 24 bytes before it, and the transaction that fills it may be a large one.
const LOG_LEN: u64 = 5 << 20;
