//! Searches: a glob over the base names of shared files.

use thiserror::Error;

use super::glob::{Glob, escape};
use crate::limits::SEARCH_ROWS;
use crate::wire::payload::{FileKind, FileRow};

/// A pattern that was checked: `*`, `?`, `[a-z]`, `[!a-z]`, `{a,b}`, with `\` before a character that stands for
/// itself. Upper and lower case match each other, and so do composed and decomposed letters.
#[derive(Debug, Clone)]
pub struct Pattern(Glob);

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PatternError {
    /// No characters.
    #[error("a pattern cannot be empty")]
    Empty,
    /// More than [`PATTERN_MAX`] bytes, or too many alternatives in braces.
    #[error("a pattern has at most {PATTERN_MAX} bytes and 64 alternatives")]
    TooLong,
    /// Not a glob.
    #[error("the pattern cannot be understood")]
    Malformed,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_MAX {
            return Err(PatternError::TooLong);
        }
        Glob::parse(text).map(Self)
    }

    /// What it is read into, which braces multiply: it takes memory and time.
    pub fn tokens(&self) -> usize {
        self.0.tokens()
    }

    /// Whether a base name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }
}

/// The pattern that only `name` matches (and its other spellings in upper and lower case).
pub fn literal(name: &str) -> String {
    escape(name)
}

/// A shared file, as far as a search needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFile {
    /// Base name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3, once it is known.
    pub root: Option<[u8; 32]>,
    /// A file, or a folder with what is in it.
    pub kind: FileKind,
    /// Only a part is here.
    pub partial: bool,
}

/// The first [`SEARCH_ROWS`] of `files` that match, with `free_slots`, and how many matched beyond them.
pub fn find(pattern: &Pattern, files: impl IntoIterator<Item = SharedFile>, free_slots: u32) -> (Vec<FileRow>, u64) {
    let (mut rows, mut more) = (Vec::new(), 0);
    for file in files.into_iter().filter(|file| pattern.matches(&file.name)) {
        if rows.len() < SEARCH_ROWS {
            let (kind, partial) = (file.kind, file.partial);
            let root = file.root.map(Into::into);
            rows.push(FileRow { name: file.name, size: file.size, root, free_slots, kind, partial });
        } else {
            more += 1;
        }
    }
    (rows, more)
}

/// Longest pattern, bytes: two for each of a file name, all escaped.
pub const PATTERN_MAX: usize = 510;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> SharedFile {
        SharedFile { name: name.into(), size: 3, root: None, kind: FileKind::File, partial: false }
    }

    #[test]
    fn globs_match_base_names_in_any_script() {
        let iso = Pattern::parse("*.iso").unwrap();
        assert!(iso.matches("Debian 13.ISO") && iso.matches("дистрибутив.iso") && !iso.matches("iso.txt"));
        assert!(Pattern::parse("отчёт ?[0-9]*").unwrap().matches("отчёт №7 (final).pdf"));
        assert!(Pattern::parse("*.{jpg,png}").unwrap().matches("a.png"));
        assert!(Pattern::parse(&literal("a[1]*{b}?.txt")).unwrap().matches("a[1]*{b}?.txt"));
        assert!(!Pattern::parse(&literal("a[1].txt")).unwrap().matches("a1.txt"));
    }

    #[test]
    fn bad_and_giant_patterns_are_refused() {
        assert_eq!(Pattern::parse("").unwrap_err(), PatternError::Empty);
        assert_eq!(Pattern::parse("[a-").unwrap_err(), PatternError::Malformed);
        assert_eq!(Pattern::parse(&"*".repeat(511)).unwrap_err(), PatternError::TooLong);
        let costly = Pattern::parse(&"*a".repeat(127)).unwrap();
        assert!(!costly.matches(&"a".repeat(100)));
    }

    #[test]
    fn rows_are_capped_and_the_rest_counted() {
        let files = (0..SEARCH_ROWS + 7).map(|n| file(&format!("{n}.bin"))).chain([file("x.txt")]);
        let (rows, more) = find(&Pattern::parse("*.bin").unwrap(), files, 2);
        assert_eq!((rows.len(), more), (SEARCH_ROWS, 7));
        assert!(rows.iter().all(|row| row.free_slots == 2 && row.root.is_none()));
    }
}
