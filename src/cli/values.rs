//! Values of options that have a form of their own.

use std::time::Duration;

/// `30s`, `10min`, `7d`, `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write for example 30s, 10min or 7d"))
}

/// Bytes: a number, with K, M, G or T (powers of 1,024; `MB` and `MiB` mean the same).
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "write for example 1000000, 512K, 64M or 2G".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
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
