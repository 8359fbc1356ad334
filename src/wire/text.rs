//! Text from others, and the only form in which it reaches a screen or a log.

use std::fmt;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Text that someone else chose. `Display` makes every control and format character visible, so no escape, bidi override
/// or line break of theirs acts on our screen; [`Untrusted::raw`] is for storage and comparison only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Untrusted(String);

impl Untrusted {
    /// Marks a text as someone else's.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The bytes as they came. Never print them.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if harmless(c) { fmt::Write::write_char(f, c)? } else { write!(f, "{}", c.escape_unicode())? }
        }
        Ok(())
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// The harmless form as a string.
pub fn shown(text: &str) -> String {
    Untrusted::new(text).to_string()
}

/// Whether a terminal shows this character as itself: no control, format, private or unassigned one, no line separator.
pub fn harmless(c: char) -> bool {
    !matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::Surrogate
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_or_format_character_reaches_the_screen() {
        let naughty = "a\x1b[31mb\u{9b}2J\u{202e}c\u{200b}\n\r\t\u{7f}\u{2028}\u{e0041}é日本";
        let out = shown(naughty);
        assert!(out.chars().all(harmless), "{out}");
        assert!(out.starts_with("a\\u{1b}[31mb") && out.ends_with("é日本"));
    }
}
