//! The wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix time, milliseconds; 0 on a machine whose clock stands before 1970.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
