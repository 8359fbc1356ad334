//! How long something holds, and how that is told.

use crate::limits::TERM_MAX_S;
use crate::wire::admin::{Answer, Failure};

/// When something that begins now is over, Unix milliseconds; `None` for good.
pub(super) fn until(wall_ms: u64, for_s: Option<u64>) -> Result<Option<u64>, Answer> {
    let hint = "leave it out for something that holds for good";
    match for_s {
        None => Ok(None),
        Some(0) => Err(Answer::failed_with(Failure::BadValue, "no time at all makes no sense", hint)),
        Some(s) if s > TERM_MAX_S => {
            Err(Answer::failed_with(Failure::BadValue, "a time is at most a hundred years", hint))
        }
        Some(s) => Ok(Some(wall_ms.saturating_add(s.saturating_mul(1000)))),
    }
}

/// Whether it still holds.
pub(super) fn holds(until_ms: Option<u64>, wall_ms: u64) -> bool {
    until_ms.is_none_or(|until| wall_ms < until)
}

/// ` until 2026-11-21T19:00:00Z`, or nothing for what is for good.
pub(super) fn told(until_ms: Option<u64>) -> String {
    let at = until_ms.and_then(|ms| i64::try_from(ms / 1000).ok());
    let at = at.and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.map(|at| format!(" until {at}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_an_end_that_can_be_told() {
        assert_eq!(until(5000, None).unwrap(), None);
        assert_eq!(until(5000, Some(2)).unwrap(), Some(7000));
        for bad in [0, TERM_MAX_S + 1, u64::MAX] {
            assert!(matches!(until(5000, Some(bad)), Err(Answer::Failed { code: Failure::BadValue, .. })), "{bad}");
        }
        assert_eq!(told(Some(1_700_000_000_999)), " until 2023-11-14T22:13:20Z");
        assert_eq!((told(None), told(Some(u64::MAX))), (String::new(), String::new()));
        assert!(holds(None, u64::MAX) && holds(Some(7), 6) && !holds(Some(7), 7));
    }
}
