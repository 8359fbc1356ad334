//! Values of options, checked before anybody is asked.

use crate::cli::values;
use crate::crypto::identity::Fingerprint;
use crate::limits::REASON_MAX;
use std::net::IpAddr;
use std::time::Duration;

/// How long something holds: a second at least.
pub(super) fn term(text: &str) -> Result<Duration, String> {
    match values::duration(text)? {
        term if term < Duration::from_secs(1) => Err("that is less than a second; leave --for out for good".into()),
        term => Ok(term),
    }
}

/// Why, in words.
pub(super) fn reason(text: &str) -> Result<String, String> {
    match text.len() {
        0..=REASON_MAX => Ok(text.to_owned()),
        long => Err(format!("a reason has at most {REASON_MAX} bytes, this one has {long}")),
    }
}

/// A key's fingerprint, written alike.
pub(super) fn fingerprint(text: &str) -> Result<String, String> {
    let parsed: Result<Fingerprint, _> = text.trim().parse();
    parsed.map(|it| it.to_string()).map_err(|_| "a fingerprint has 64 hex digits; `show` and `users` tell them".into())
}

/// An address, or a network in CIDR form.
pub(super) fn network(text: &str) -> Result<String, String> {
    let wrong = || "write an address or a network, for example 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32".to_owned();
    let (address, bits) = text.trim().split_once('/').map_or((text.trim(), None), |(a, bits)| (a, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let Some(bits) = bits else { return Ok(address.to_string()) };
    let plain = !bits.is_empty() && bits.bytes().all(|digit| digit.is_ascii_digit());
    match bits.parse::<u8>() {
        Ok(bits) if plain && bits <= most => Ok(format!("{address}/{bits}")),
        _ if plain => Err(format!("behind the slash stand 0 to {most} bits")),
        _ => Err(wrong()),
    }
}

/// A pattern of file names.
pub(super) fn glob(text: &str) -> Result<String, String> {
    match crate::transfer::search::Pattern::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; write for example '*.exe' or 'report-[0-9]*'")),
    }
}

/// A type of content.
pub(super) fn mime(text: &str) -> Result<String, String> {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    match text.split_once('/') {
        Some((kind, sub)) if part(kind) && (sub == "*" || part(sub)) => Ok(text.to_ascii_lowercase()),
        _ => Err("write a type like application/zip, or video/* for a whole kind".into()),
    }
}

/// A path on the server's machine, absolute whatever the server's own directory is.
pub(super) fn file(text: &str) -> Result<String, String> {
    let path = std::path::absolute(text).map_err(|_| "write the path of a file that is not there yet".to_owned())?;
    path.into_os_string().into_string().map_err(|_| "the path is not UTF-8".to_owned())
}

/// The hash of a content.
pub(super) fn root(text: &str) -> Result<String, String> {
    let sound = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let wrong = "a root has 64 hex digits; `whohas` tells them";
    if sound { Ok(text.to_ascii_lowercase()) } else { Err(wrong.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_with_as_many_bits_as_there_are() {
        for good in ["203.0.113.7", "203.0.113.0/24", "0.0.0.0/0", "2001:db8::/32", "::1", "::/0", "10.0.0.0/32"] {
            assert_eq!(network(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0/8",
            "a/8",
            "10.0.0.0/8/8",
        ] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_an_example() {
        for bad in ["", "2", "h", "-1h", "0s", "1ms", "2 fortnights"] {
            assert!(term(bad).is_err(), "{bad}");
        }
        assert_eq!(term("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "zip", "a/", "/b", "*/*", "video/**", "a b/c"] {
            assert!(mime(bad).is_err(), "{bad}");
        }
        assert_eq!((mime("Video/*"), mime("application/x-msdownload").is_ok()), (Ok("video/*".into()), true));
        assert!(root(&"g".repeat(64)).is_err() && root("ab").is_err() && root(&"A".repeat(64)).is_ok());
        assert!(fingerprint("ab").is_err() && fingerprint(&"a".repeat(64)).is_ok());
        assert!(reason(&"x".repeat(REASON_MAX + 1)).is_err());
        assert!(glob("*.exe").is_ok() && glob("[").is_err());
    }
}
