//! Rates as people write them.

/// A text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number with a unit, like 20mbit (bits) or 2MB (bytes)")]
pub struct BadRate;

/// Bytes a second of `20mbit`, `2MB`, `500KiB/s`, `4096`.
pub fn rate(text: &str) -> Result<u64, BadRate> {
    let bad = || BadRate;
    let text = text.trim().strip_suffix("/s").unwrap_or(text.trim());
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split).ok_or_else(bad)?;
    let (numerator, denominator) = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => (1, 1),
        "k" | "kb" => (1_000, 1),
        "m" | "mb" => (1_000_000, 1),
        "g" | "gb" => (1_000_000_000, 1),
        "kib" => (1 << 10, 1),
        "mib" => (1 << 20, 1),
        "gib" => (1 << 30, 1),
        "bit" => (1, 8),
        "kbit" => (1_000, 8),
        "mbit" => (1_000_000, 8),
        "gbit" => (1_000_000_000, 8),
        _ => return Err(bad()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(part.len()).ok().filter(|digits| *digits <= 9).ok_or_else(bad)?;
    let number: u64 = format!("{whole}{part}").parse().map_err(|_| bad())?;
    let bytes = u128::from(number) * numerator / denominator / 10_u128.pow(digits);
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_bits_and_bytes() {
        for (text, bytes) in [
            ("20mbit", 2_500_000),
            ("2MB", 2_000_000),
            ("2MB/s", 2_000_000),
            ("1.5 MiB", 1_572_864),
            ("4096", 4096),
            ("1gbit", 125_000_000),
        ] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for bad in ["", "fast", "0", "-1", "1e9", "1.2.3MB", "2 parsecs", "99999999999999999999", "1.0000000001MB"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
