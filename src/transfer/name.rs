//! Names of files that others chose, made safe to give to a file of ours.

use std::fmt;

use thiserror::Error;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::limits::FILE_NAME_MAX;

/// The base name of a file beneath the downloads directory: one path component, 1 to [`FILE_NAME_MAX`] bytes, not
/// hidden, without control or format characters, and taken by Windows too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SafeName(String);

/// A text holds no file name at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is not the name of a file")]
pub struct NoName;

impl SafeName {
    /// Takes the last component of `untrusted` (after `/` or `\`). What could act on a terminal, a shell, or a file
    /// system is replaced by `_`; what is too long is cut, and keeps its extension.
    pub fn new(untrusted: &str) -> Result<Self, NoName> {
        let base = untrusted.rsplit(['/', '\\']).next().unwrap_or_default();
        let replaced: String = base.chars().map(|c| if harmless(c) { c } else { '_' }).collect();
        let trimmed = replaced.trim_start().trim_end_matches(is_end_dropped_by_windows);
        let visible = trimmed.trim_start_matches('.');
        let hidden_by = trimmed.len() - visible.len();
        if visible.is_empty() {
            return Err(NoName);
        }
        let mut name = "_".repeat(hidden_by.min(FILE_NAME_MAX));
        if is_device(visible) {
            name.push('_');
        }
        name.push_str(visible);
        Ok(Self(fit(&name, "", FILE_NAME_MAX)))
    }

    /// The name to try when the plain one and those before are taken: `name (1).ext` for 1. `n` counts from 1.
    pub fn numbered(&self, n: u32) -> Self {
        Self(fit(&self.0, &format!(" ({n})"), FILE_NAME_MAX))
    }

    /// The name of the unfinished file: hidden, and told apart from others by `tag`, which is plain ASCII of at most 32
    /// bytes.
    pub fn partial(&self, tag: &str) -> String {
        let suffix = format!("{PARTIAL_MARK}{tag}");
        let room = FILE_NAME_MAX.saturating_sub(suffix.len() + 1);
        format!(".{}{suffix}", cut(&self.0, room))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for SafeName {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

/// Whether `name` can name a file directly inside a folder: what may be asked for, and what may be shared. Hidden files
/// (and so our own unfinished ones) are never shared.
pub fn is_shareable(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() <= FILE_NAME_MAX;
    fits && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// `stem`, `mark`, extension: at most `max` bytes, cut in the stem first.
fn fit(name: &str, mark: &str, max: usize) -> String {
    let dot = name.rfind('.').filter(|at| *at > 0 && name.len() - at <= EXTENSION_MAX);
    let (stem, extension) = name.split_at_checked(dot.unwrap_or(name.len())).unwrap_or((name, ""));
    let room = max.saturating_sub(mark.len() + extension.len());
    let whole = format!("{}{mark}{extension}", cut(stem, room));
    // A cut can bring a dot or a space to the end.
    whole.trim_end_matches(is_end_dropped_by_windows).to_owned()
}

/// `text` cut at a character's start, to `max` bytes at most.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or("")
}

fn harmless(c: char) -> bool {
    let category = !matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::Surrogate
    );
    category && !matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '/' | '\\')
}

fn is_end_dropped_by_windows(c: char) -> bool {
    c == '.' || c.is_whitespace()
}

/// Windows opens a device under these names, whatever the extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let numbered = |port: &str| {
        let digit = stem.strip_prefix(port).unwrap_or_default();
        matches!(digit, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") || numbered("COM") || numbered("LPT")
}

/// Stands in the name of every unfinished file.
const PARTIAL_MARK: &str = ".secchat-part-";
/// A longer tail than this, dot included and in bytes, is part of the name.
const EXTENSION_MAX: usize = 33;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn safe(text: &str) -> String {
        SafeName::new(text).unwrap().0
    }

    #[test]
    fn paths_are_stripped_and_hidden_names_shown() {
        assert_eq!(safe("report.pdf"), "report.pdf");
        assert_eq!(safe("../../etc/passwd"), "passwd");
        assert_eq!(safe("C:\\Windows\\system32\\evil.dll"), "evil.dll");
        assert_eq!(safe("/.ssh/.bashrc"), "_bashrc");
        assert_eq!(safe("..a"), "__a");
        assert_eq!(safe("Übung Nr 7 — 日本語 файл.tar.gz"), "Übung Nr 7 — 日本語 файл.tar.gz");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", ".", "..", "...", "a/", "a/..", "/", "\\", " ", " . ", "a/. ."] {
            assert!(SafeName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn escapes_devices_and_streams_do_not_survive() {
        assert_eq!(safe("a\x1b[31m\n\u{202e}gpj.exe"), "a_[31m__gpj.exe");
        assert_eq!(safe("a\0b"), "a_b");
        assert_eq!(safe("file.txt:stream"), "file.txt_stream");
        assert_eq!(safe("nul"), "_nul");
        assert_eq!(safe("Com1.txt"), "_Com1.txt");
        assert_eq!(safe("lpt¹"), "_lpt¹");
        assert_eq!(safe("con .txt"), "_con .txt");
        assert_eq!(safe("comet.txt"), "comet.txt");
        assert_eq!(safe("a.txt. . "), "a.txt");
    }

    #[test]
    fn numbers_stand_before_the_extension() {
        let name = SafeName::new("photo.jpeg").unwrap();
        assert_eq!(name.numbered(1).as_str(), "photo (1).jpeg");
        assert_eq!(SafeName::new("Makefile").unwrap().numbered(12).as_str(), "Makefile (12)");
        let long = SafeName::new(&format!("{}.mkv", "長".repeat(200))).unwrap();
        assert!(long.as_str().len() <= FILE_NAME_MAX && long.as_str().ends_with("長.mkv"));
        assert!(long.numbered(9999).as_str().len() <= FILE_NAME_MAX);
        assert!(long.numbered(9999).as_str().ends_with("長 (9999).mkv"));
        assert!(long.partial("0123456789abcdef").len() <= FILE_NAME_MAX);
    }

    fn check(name: &str) {
        assert!(!name.is_empty() && name.len() <= FILE_NAME_MAX, "{name:?}");
        assert!(!name.starts_with('.') && !name.ends_with(['.', ' ']), "{name:?}");
        assert!(name.chars().all(harmless), "{name:?}");
        assert!(!is_device(name), "{name:?}");
        assert_eq!(std::path::Path::new(name).components().count(), 1, "{name:?}");
    }

    proptest! {
        #[test]
        fn every_name_that_passes_is_safe(
            text in r"(\PC|[./\\ :\x00-\x1f]|\.\.|NUL|com1|\u{202e}){0,300}",
            n in 1..100_000u32,
        ) {
            if let Ok(name) = SafeName::new(&text) {
                check(name.as_str());
                check(name.numbered(n).as_str());
                prop_assert!(name.partial("0011223344556677").len() <= FILE_NAME_MAX);
                prop_assert_eq!(SafeName::new(name.as_str()), Ok(name));
            }
        }
    }
}
