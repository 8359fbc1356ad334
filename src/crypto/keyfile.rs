//! The identity file: text, plain or sealed under a passphrase.
//!
//! ```text
//! secchat identity v1            secchat identity v1
//! seed <64 hex digits>           argon2id <KiB> <passes> <lanes> <salt, 32 hex digits>
//! check <16 hex digits>          sealed <nonce, 24 hex digits> <96 hex digits>
//! ```

use super::identity::Identity;
use super::kdf::{CLIENT_COST, Cost, stretch};
use super::secret::Secret;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use std::fmt::Write;
use zeroize::Zeroizing;

/// Why an identity file gives no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not an identity file, cut short or damaged.
    #[error("the identity file is malformed")]
    Malformed,
    /// It is an identity file of a version that we do not know.
    #[error("the identity file is of another version")]
    Version,
    /// It is sealed and no passphrase was given.
    #[error("the identity file needs a passphrase")]
    NeedsPassphrase,
    /// It does not open with this passphrase (or was changed).
    #[error("wrong passphrase for the identity file")]
    WrongPassphrase,
    /// Its derivation would take more than [`COST_MAX`].
    #[error("the identity file asks for too much memory or time")]
    TooCostly,
}

/// The file for an identity without a passphrase.
pub fn write_plain(identity: &Identity) -> Zeroizing<String> {
    let mut out = text();
    out.push_str(HEAD);
    out.push_str("\nseed ");
    push_hex(&mut out, &*identity.seed());
    out.push_str("\ncheck ");
    push_hex(&mut out, &identity.public().fingerprint().0[..CHECK]);
    out.push('\n');
    out
}

/// The file for an identity under a passphrase: Argon2id at [`CLIENT_COST`], then ChaCha20-Poly1305 with version, cost and salt as
/// associated data. Salt and nonce are fresh random bytes. Takes 64 MiB and a tenth of a second or more.
pub fn write_sealed(identity: &Identity, passphrase: &Secret, salt: &[u8; 16], nonce: &[u8; 12]) -> Zeroizing<String> {
    let key = stretch(passphrase, salt, CLIENT_COST).expect("the constants are in Argon2's range");
    let head = associated_data(CLIENT_COST, salt);
    let sealed = ChaCha20Poly1305::new(Key::from_slice(&*key))
        .encrypt(Nonce::from_slice(nonce), Payload { msg: &*identity.seed(), aad: &head })
        .expect("32 bytes are within the cipher's bounds");
    let Cost { memory, passes, lanes } = CLIENT_COST;
    let mut out = text();
    write!(out, "{HEAD}\nargon2id {memory} {passes} {lanes} ").expect("writing to memory");
    push_hex(&mut out, salt);
    out.push_str("\nsealed ");
    push_hex(&mut out, nonce);
    out.push(' ');
    push_hex(&mut out, &sealed);
    out.push('\n');
    out
}

/// Whether a passphrase must be asked for; reads only the shape.
pub fn is_sealed(bytes: &[u8]) -> Result<bool, KeyFileError> {
    Ok(matches!(parse(bytes)?, Body::Sealed { .. }))
}

/// Reads either form; a passphrase for a plain file is not used. A sealed one costs what its own line says, at most [`COST_MAX`].
pub fn read(bytes: &[u8], passphrase: Option<&Secret>) -> Result<Identity, KeyFileError> {
    match parse(bytes)? {
        Body::Plain { seed, check } => {
            let identity = Identity::from_seed(&seed);
            let matches = identity.public().fingerprint().0.starts_with(&check);
            if matches { Ok(identity) } else { Err(KeyFileError::Malformed) }
        }
        Body::Sealed { cost, salt, nonce, sealed } => {
            let passphrase = passphrase.ok_or(KeyFileError::NeedsPassphrase)?;
            let key = stretch(passphrase, &salt, cost).map_err(|_| KeyFileError::Malformed)?;
            let payload = Payload { msg: &sealed, aad: &associated_data(cost, &salt) };
            let seed = ChaCha20Poly1305::new(Key::from_slice(&*key))
                .decrypt(Nonce::from_slice(&nonce), payload)
                .map(Zeroizing::new)
                .map_err(|_| KeyFileError::WrongPassphrase)?;
            let seed: Zeroizing<[u8; 32]> =
                Zeroizing::new(seed.as_slice().try_into().map_err(|_| KeyFileError::Malformed)?);
            Ok(Identity::from_seed(&seed))
        }
    }
}

enum Body {
    Plain { seed: Zeroizing<[u8; 32]>, check: [u8; CHECK] },
    Sealed { cost: Cost, salt: [u8; 16], nonce: [u8; 12], sealed: [u8; 48] },
}

fn parse(bytes: &[u8]) -> Result<Body, KeyFileError> {
    if bytes.len() > FILE_MAX {
        return Err(KeyFileError::Malformed);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| KeyFileError::Malformed)?;
    let mut lines = text.lines();
    match lines.next() {
        Some(HEAD) => {}
        Some(other) if other.starts_with("secchat identity v") && other != "secchat identity v" => {
            return Err(KeyFileError::Version);
        }
        _ => return Err(KeyFileError::Malformed),
    }
    let mut words = || lines.next().map(|line| line.split(' ').collect::<Vec<_>>()).unwrap_or_default();
    let (first, second, end) = (words(), words(), words());
    match (first.as_slice(), second.as_slice(), end.as_slice()) {
        (["seed", seed], ["check", check], []) => Ok(Body::Plain { seed: hex(seed)?, check: *hex(check)? }),
        (["argon2id", memory, passes, lanes, salt], ["sealed", nonce, sealed], []) => Ok(Body::Sealed {
            cost: affordable(memory, passes, lanes)?,
            salt: *hex(salt)?,
            nonce: *hex(nonce)?,
            sealed: *hex(sealed)?,
        }),
        _ => Err(KeyFileError::Malformed),
    }
}

fn affordable(memory: &str, passes: &str, lanes: &str) -> Result<Cost, KeyFileError> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| KeyFileError::Malformed);
    let cost = Cost { memory: number(memory)?, passes: number(passes)?, lanes: number(lanes)? };
    if cost.memory > COST_MAX.memory || cost.passes > COST_MAX.passes || cost.lanes > COST_MAX.lanes {
        return Err(KeyFileError::TooCostly);
    }
    Ok(cost)
}

/// The version byte, the cost (three numbers of 4 bytes, big-endian) and the salt.
fn associated_data(cost: Cost, salt: &[u8; 16]) -> Vec<u8> {
    let numbers = [cost.memory, cost.passes, cost.lanes].into_iter().flat_map(u32::to_be_bytes);
    std::iter::once(VERSION).chain(numbers).chain(*salt).collect()
}

/// Exactly `N` bytes in lower-case hex.
fn hex<const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>, KeyFileError> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(KeyFileError::Malformed),
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return Err(KeyFileError::Malformed);
    }
    let mut out = Zeroizing::new([0; N]);
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(out)
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "{byte:02x}").expect("writing to memory");
    }
}

/// Sized before it is filled: a buffer that moves would leave a copy behind.
fn text() -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(FILE_MAX))
}

/// The dearest derivation that a file may ask for: 256 MiB, ten passes, four lanes.
pub const COST_MAX: Cost = Cost { memory: 256 * 1024, passes: 10, lanes: 4 };
/// Longest file, bytes.
pub const FILE_MAX: usize = 1024;
const HEAD: &str = "secchat identity v1";
const VERSION: u8 = 1;
/// Bytes of the fingerprint that a plain file carries, so that damage shows instead of making another identity.
const CHECK: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::from_seed(&[0xa7; 32])
    }

    fn passphrase(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    fn sealed() -> Zeroizing<String> {
        write_sealed(&identity(), &passphrase("open sesame"), &[1; 16], &[2; 12])
    }

    #[test]
    fn a_plain_file_reads_back_with_or_without_a_passphrase() {
        let file = write_plain(&identity());
        assert_eq!(is_sealed(file.as_bytes()), Ok(false));
        for given in [None, Some(passphrase("unused"))] {
            assert_eq!(read(file.as_bytes(), given.as_ref()).unwrap().public(), identity().public());
        }
        assert!(read(file.replace('\n', "\r\n").as_bytes(), None).is_ok(), "line ends of another system");
    }

    #[test]
    fn a_sealed_file_opens_with_its_passphrase_only() {
        let file = sealed();
        assert_eq!(is_sealed(file.as_bytes()), Ok(true));
        let open = |given: Option<&str>| read(file.as_bytes(), given.map(passphrase).as_ref()).map(|id| id.public());
        assert_eq!(open(Some("open sesame")), Ok(identity().public()));
        assert_eq!(open(Some("open sesam")), Err(KeyFileError::WrongPassphrase));
        assert_eq!(open(None), Err(KeyFileError::NeedsPassphrase));
        assert!(!file.contains("a7a7a7"));
    }

    #[test]
    fn a_changed_sealed_file_does_not_open() {
        let file = sealed();
        let salt = "01".repeat(16);
        for (from, to) in [(" 3 1 ", " 2 1 "), (salt.as_str(), &"03".repeat(16)), ("sealed 02", "sealed 03")] {
            let changed = file.replace(from, to);
            assert_ne!(changed, *file);
            let refused = read(changed.as_bytes(), Some(&passphrase("open sesame"))).unwrap_err();
            assert_eq!(refused, KeyFileError::WrongPassphrase, "{to}");
        }
    }

    #[test]
    fn every_truncation_is_malformed() {
        for file in [write_plain(&identity()), sealed()] {
            for len in 0..file.len() - 1 {
                let refused = read(&file.as_bytes()[..len], Some(&passphrase("open sesame"))).unwrap_err();
                assert_eq!(refused, KeyFileError::Malformed, "{len}");
            }
        }
    }

    #[test]
    fn damage_other_versions_and_trailing_lines_are_named() {
        let file = write_plain(&identity());
        let refused = |text: &str| read(text.as_bytes(), None).unwrap_err();
        assert_eq!(refused(&file.replacen("a7", "a8", 1)), KeyFileError::Malformed);
        assert_eq!(refused(&file.replace("a7", "A7")), KeyFileError::Malformed);
        assert_eq!(refused(&format!("{}x\n", *file)), KeyFileError::Malformed);
        assert_eq!(refused(&file.replace(" v1", " v2")), KeyFileError::Version);
        assert_eq!(refused(&"x".repeat(FILE_MAX + 1)), KeyFileError::Malformed);
        assert_eq!(read(&[0xff; 64], None).unwrap_err(), KeyFileError::Malformed);
    }

    #[test]
    fn a_costly_file_is_refused_before_anything_is_allocated() {
        let file = sealed();
        for cost in ["4294967295 3 1", "65536 4294967295 1", "65536 3 16777215", "262145 3 1"] {
            let changed = file.replace("65536 3 1", cost);
            let refused = read(changed.as_bytes(), Some(&passphrase("open sesame"))).unwrap_err();
            assert_eq!(refused, KeyFileError::TooCostly, "{cost}");
        }
        for cost in ["0 3 1", "65536 0 1", "65536 3 0", "-1 3 1", "99999999999 3 1"] {
            let changed = file.replace("65536 3 1", cost);
            let refused = read(changed.as_bytes(), Some(&passphrase("open sesame"))).unwrap_err();
            assert_eq!(refused, KeyFileError::Malformed, "{cost}");
        }
    }
}
