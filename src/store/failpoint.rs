//! Named points at which a test can kill the process, around every durable write.
//!
//! With the cargo feature `failpoints`, `SECCHAT_FAILPOINT=NAME` aborts at that point, `NAME:3` at its third passing. Without
//! the feature nothing is read and nothing happens.

/// All points, in no particular order.
pub const POINTS: &[&str] = &[
    "begin",
    "name.before",
    "name.after",
    "instance.before",
    "instance.after",
    "room.before",
    "room.after",
    "epoch.before",
    "epoch.after",
    "row.before",
    "row.after",
    "remove.before",
    "remove.after",
    "trim.before",
    "trim.after",
    "register.before",
    "register.after",
    "act.before",
    "act.after",
    "commit.before",
    "commit.after",
];

/// A write between its two points.
pub(super) fn around<T, E>(name: &str, write: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    hit_part(name, "before");
    let done = write()?;
    hit_part(name, "after");
    Ok(done)
}

/// A point.
pub(super) fn hit(name: &str) {
    let mut parts = name.splitn(2, '.');
    hit_part(parts.next().unwrap_or(name), parts.next().unwrap_or(""));
}

#[cfg(not(feature = "failpoints"))]
fn hit_part(_: &str, _: &str) {}

#[cfg(feature = "failpoints")]
fn hit_part(name: &str, part: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("SECCHAT_FAILPOINT").ok()?;
        match text.split_once(':') {
            Some((name, nth)) => Some((name.to_owned(), nth.parse().unwrap_or(1))),
            None => Some((text, 1)),
        }
    });
    let Some((point, nth)) = wanted else { return };
    let full = if part.is_empty() { name.to_owned() } else { format!("{name}.{part}") };
    if *point == full && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        std::process::abort();
    }
}
