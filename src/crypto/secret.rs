//! Passwords and passphrases: wiped on drop, never shown.

use std::fmt;
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// A password or passphrase: 1 to [`SECRET_MAX`] bytes of UTF-8 in NFC, so that the same text typed on two systems is the
/// same secret. Wiped on drop; has no `Display`, and `Debug` says nothing.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// Why a text cannot be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing in it.
    #[error("a password cannot be empty")]
    Empty,
    /// More than [`SECRET_MAX`] bytes.
    #[error("a password has at most {SECRET_MAX} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("a password is text in UTF-8")]
    NotText,
}

impl Secret {
    /// Normalises and checks a text; the caller's own copy stays the caller's to wipe.
    pub fn new(text: &str) -> Result<Self, SecretError> {
        if text.len() > SECRET_MAX {
            return Err(SecretError::TooLong);
        }
        // Room for the worst growth by NFC (3 times in UTF-8): a buffer that moves would leave a copy behind.
        let mut normal = Zeroizing::new(String::with_capacity(SECRET_MAX * 3));
        normal.extend(text.nfc());
        match normal.len() {
            0 => Err(SecretError::Empty),
            len if len > SECRET_MAX => Err(SecretError::TooLong),
            _ => Ok(Self(normal)),
        }
    }

    /// What a password file holds: all of it but one newline (`\n` or `\r\n`) at its end, which editors add.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |rest| rest.strip_suffix(b"\r").unwrap_or(rest));
        Self::new(std::str::from_utf8(bytes).map_err(|_| SecretError::NotText)?)
    }

    /// The text, for key derivation and for sealing it to members. Never print it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    /// Takes the same time wherever two secrets of one length differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// Longest secret, bytes of UTF-8.
pub const SECRET_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_loses_one_newline_only() {
        for (file, text) in [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a \n", " a ")] {
            assert_eq!(Secret::from_file_bytes(file.as_bytes()).unwrap().expose(), text);
        }
        assert_eq!(Secret::from_file_bytes(b"\n"), Err(SecretError::Empty));
        assert_eq!(Secret::from_file_bytes(&[0xff, b'\n']), Err(SecretError::NotText));
        assert_eq!(Secret::new(&"x".repeat(SECRET_MAX + 1)), Err(SecretError::TooLong));
    }

    #[test]
    fn composed_and_decomposed_letters_are_one_secret_and_nothing_prints() {
        let secret = Secret::new("zażółć").unwrap();
        assert_eq!(secret, Secret::new(&"zażółć".nfd().collect::<String>()).unwrap());
        assert_ne!(secret, Secret::new("zazolc").unwrap());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
