//! Names of people, servers and rooms: normalised, shown as they are, unique by skeleton.

use crate::limits::NAME_MAX;
use std::fmt;
use unicode_normalization::UnicodeNormalization;
use unicode_security::{GeneralSecurityProfile, confusable_detection::skeleton};

/// Names that mean something to the commands and so belong to nobody.
pub const RESERVED: [&str; 6] = ["all", "any", "me", "server", "root", "admin"];

/// A name after NFKC and lower-casing: letters, digits and `-`, `_`, `.`; no spaces, controls or bidi marks.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is left of it.
    #[error("a name cannot be empty")]
    Empty,
    /// More than [`NAME_MAX`] bytes.
    #[error("a name has at most {NAME_MAX} bytes")]
    TooLong,
    /// A character that names do not have.
    #[error("a name is made of letters, digits and - _ . (U+{0:04X} is none of them)")]
    Character(u32),
    /// One of [`RESERVED`], or looks like one.
    #[error("this name is reserved")]
    Reserved,
}

impl Name {
    /// Normalises and checks a text.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_MAX * 4 {
            return Err(NameError::TooLong);
        }
        let name: String = text.nfkc().flat_map(char::to_lowercase).nfkc().collect();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(u32::from(bad)));
        }
        if !name.chars().any(char::is_alphanumeric) || name.starts_with(['.', '-']) {
            return Err(NameError::Character(name.chars().next().map_or(0, u32::from)));
        }
        Ok(Self(name))
    }

    /// As [`Name::parse`], and not one of the reserved names nor a look-alike of one: what a person may be called.
    pub fn parse_user(text: &str) -> Result<Self, NameError> {
        let name = Self::parse(text)?;
        let mine = name.skeleton();
        if RESERVED.iter().any(|r| skeleton(r).collect::<String>() == mine) {
            return Err(NameError::Reserved);
        }
        Ok(name)
    }

    /// The UTS 39 skeleton: two names with the same one look alike, and only one of them can be taken.
    pub fn skeleton(&self) -> String {
        skeleton(&self.0).collect()
    }

    /// The normalised text; holds no control characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn allowed(c: char) -> bool {
    matches!(c, '-' | '_' | '.')
        || (c.is_alphanumeric() && c.identifier_allowed())
        || (!c.is_ascii() && c.identifier_allowed())
}

impl<C> minicbor::Encode<C> for Name {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Name {
    /// Only the normalised form is taken, so that one name has one encoding.
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let text = d.str()?;
        let name = Self::parse(text).map_err(|_| minicbor::decode::Error::message("not a name"))?;
        if name.0 != text {
            return Err(minicbor::decode::Error::message("name is not normalised"));
        }
        Ok(name)
    }
}

/// `NAME@SERVER`: a person or a room, with the server that it belongs to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
pub struct FullName {
    /// The part before the `@`.
    #[n(0)]
    pub name: Name,
    /// The home server's name.
    #[n(1)]
    pub server: Name,
}

impl FullName {
    /// Puts the two parts together.
    pub const fn new(name: Name, server: Name) -> Self {
        Self { name, server }
    }
}

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.server)
    }
}

impl fmt::Debug for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        assert_eq!(Name::parse("Bob").unwrap().as_str(), "bob");
        assert_eq!(Name::parse("Ｂｏｂ").unwrap().as_str(), "bob");
        assert_eq!(Name::parse("józef").unwrap(), Name::parse("jo\u{301}zef").unwrap());
    }

    #[test]
    fn look_alikes_share_a_skeleton() {
        let latin = Name::parse("paypal").unwrap();
        let cyrillic = Name::parse("pаypаl").unwrap();
        assert_ne!(latin, cyrillic);
        assert_eq!(latin.skeleton(), cyrillic.skeleton());
    }

    #[test]
    fn spaces_controls_bidi_and_reserved_are_refused() {
        for bad in ["", " ", "bob ", "b ob", "bob\u{202e}", "a\x1b[31m", "bob\u{200b}", "...", "-x", "@bob", "a/b"] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
        for reserved in ["all", "ANY", "Me", "server", "root", "admin", "аdmin"] {
            assert_eq!(Name::parse_user(reserved), Err(NameError::Reserved), "{reserved}");
        }
    }
}
