//! Values of options that have a form of their own.

use std::time::Duration;

/// `30s`, `10min`, `7d`, `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write for example 30s, 10min or 7d"))
}

/// Bytes: a number, with K, M, G or T (powers of 1,024; `MB` and `MiB` mean the same).
pub fn bytes(text: &str) -> Result<u64, String> {
    crate::transfer::restrict::bytes(text).ok_or_else(|| "write for example 1000000, 512K, 64M or 2G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_with_units() {
        for (text, value) in [("0", 0), ("12", 12), ("512K", 512 << 10), ("64 MiB", 64 << 20), ("2g", 2 << 30)] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for bad in ["", "K", "-1", "1.5G", "1X", "99999999999T", "ü"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
