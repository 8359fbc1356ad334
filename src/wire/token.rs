//! Invitations to a server: sixteen random bytes that stand for one new name, or several.

use crate::limits::TOKEN_TEXT_MAX;
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Who has it may take a new name. Wiped on drop, never printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Token([u8; 16]);

/// Text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an invitation is 32 hex digits, with or without dashes between them")]
pub struct BadToken;

impl Token {
    /// Takes random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// What goes into a login.
    pub const fn expose(&self) -> [u8; 16] {
        self.0
    }

    /// What a server keeps of it: SHA-256 over a label of its own and the bytes.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new().chain_update(b"secchat/1 invitation\0").chain_update(self.0).finalize().into()
    }

    /// For the one who is invited: eight groups of four hex digits.
    pub fn text(&self) -> String {
        let groups = self.0.chunks(2).map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        groups.collect::<Vec<_>>().join("-")
    }

    /// Reads what [`Token::text`] gave, with space around it; dashes and capitals do not matter.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        if text.len() > TOKEN_TEXT_MAX {
            return Err(BadToken);
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        digits.parse().map(|id: super::id::Id| Self(id.0)).map_err(|_| BadToken)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_reads_back_and_nothing_else_does() {
        let token = Token::new(*b"0123456789abcdef");
        let text = token.text();
        assert_eq!(text, "3031-3233-3435-3637-3839-6162-6364-6566");
        for same in [text.clone(), text.replace('-', ""), format!("  {}\r\n", text.to_uppercase())] {
            assert_eq!(Token::parse(&same), Ok(token.clone()), "{same:?}");
        }
        for bad in ["", "3031", &text[1..], "zz31-3233-3435-3637-3839-6162-6364-6566", &"-".repeat(1000), "\x1b[31m"] {
            assert_eq!(Token::parse(bad), Err(BadToken), "{bad:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
        assert_ne!(token.digest(), Token::new([0; 16]).digest());
    }
}
