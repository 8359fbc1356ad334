//! What a file is by its first bytes, whatever it is called.

use std::fmt;

/// So much of a file's beginning is looked at, bytes: both ends look at the same.
pub const HEAD: usize = 8192;

/// The MIME type of a file that begins with `head`, its first [`HEAD`] bytes or all of it. What is not recognised is `text/plain` or
/// `application/octet-stream`.
pub fn media_of(head: &[u8]) -> &'static str {
    let head = head.get(..HEAD).unwrap_or(head);
    match infer::get(head) {
        Some(found) => found.mime_type(),
        None if is_text(head) => TEXT,
        None => BINARY,
    }
}

/// `image/png`, or `image/*` for a whole kind; in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MediaPattern {
    kind: String,
    subtype: Option<String>,
}

impl MediaPattern {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let (kind, subtype) = lower.split_once('/')?;
        let subtype = (subtype != "*").then(|| subtype.to_owned());
        let sound = is_word(kind) && subtype.as_deref().is_none_or(is_word);
        sound.then(|| Self { kind: kind.to_owned(), subtype })
    }

    /// Whether any file can ever be found to be of it.
    pub(super) fn is_known(&self) -> bool {
        match &self.subtype {
            None => KINDS.contains(&self.kind.as_str()),
            Some(_) => {
                let whole = self.to_string();
                whole == TEXT || whole == BINARY || infer::is_mime_supported(&whole)
            }
        }
    }

    pub(super) fn matches(&self, media: &str) -> bool {
        let (kind, subtype) = media.split_once('/').unwrap_or((media, ""));
        self.kind == kind && self.subtype.as_deref().is_none_or(|own| own == subtype)
    }
}

impl fmt::Display for MediaPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.subtype.as_deref().unwrap_or("*"))
    }
}

/// A restricted name of RFC 6838 §4.2.
fn is_word(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
    (1..=127).contains(&text.len()) && text.bytes().all(fits)
}

/// UTF-8 without control characters; its end may be cut within a character.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            head.get(..error.valid_up_to()).and_then(|sound| std::str::from_utf8(sound).ok()).unwrap_or("\0")
        }
        Err(_) => return false,
    };
    !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}'))
}

const TEXT: &str = "text/plain";
const BINARY: &str = "application/octet-stream";
const KINDS: [&str; 5] = ["application", "audio", "image", "text", "video"];
