//! Limits as somebody typed them: what makes no sense is refused with its cause, so that no rule is weaker than it looks.

use super::media::MediaPattern;
use crate::limits::{RULE_LIST_MAX, RULE_TOKENS_MAX};
use crate::transfer::search::{Pattern, PatternError};
use crate::wire::name::{FullName, Name};
use crate::wire::sharing::Limits;
use crate::wire::text::shown;

/// Why limits are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLimits {
    /// Nothing is restricted.
    #[error("this restricts nothing: say for example --off, --max-size or --deny-type")]
    Empty,
    /// A list is too long.
    #[error("{0} may be given {RULE_LIST_MAX} times in one rule; make another rule for the rest")]
    TooMany(&'static str),
    /// Not a glob.
    #[error("the name {0} is not understood: {1}; write for example *.exe")]
    Name(String, PatternError),
    /// A name has no folder in it.
    #[error("the name {0} has a slash in it: rules are about the names of files, in whatever folder")]
    Path(String),
    /// Not a MIME type.
    #[error("{0} is not a type; write for example application/x-executable, or video/* for all of a kind")]
    Type(String),
    /// No file is ever found to be of it.
    #[error(
        "no file is ever recognised as {0}: programs are application/x-executable (Linux), \
         application/vnd.microsoft.portable-executable (Windows), application/x-mach-binary (macOS), text/x-shellscript; \
         PROTOCOL.md lists all"
    )]
    UnknownType(String),
    /// Not a root.
    #[error("{0} is not a BLAKE3 root, which has 64 hex digits")]
    Root(String),
    /// Not a full name.
    #[error("{0} is not a name; write NAME@SERVER")]
    Person(String),
}

/// The limits in their one form: types, roots and names in lower case, without repeats. `only` holds full names.
pub fn check(limits: &Limits) -> Result<Limits, BadLimits> {
    let Limits { off, max_size, files_a_day, bytes_a_day, at_once, .. } = *limits;
    let checked = Limits {
        off,
        max_size,
        deny_names: each("--deny-name", &limits.deny_names, glob)?,
        allow_names: each("--allow-name", &limits.allow_names, glob)?,
        deny_types: each("--deny-type", &limits.deny_types, media)?,
        allow_types: each("--allow-type", &limits.allow_types, media)?,
        deny_roots: each("--deny-root", &limits.deny_roots, |text| {
            root(text).map(|root| hex(&root)).ok_or_else(|| BadLimits::Root(shown(text)))
        })?,
        files_a_day,
        bytes_a_day,
        at_once,
        only: each("--only", &limits.only, |text| {
            person(text).map(|name| name.to_string()).ok_or_else(|| BadLimits::Person(shown(text)))
        })?,
    };
    if checked == Limits::default() { Err(BadLimits::Empty) } else { Ok(checked) }
}

/// Whether the patterns of all rules of a server or a room are not too much together; who made them is told so.
pub fn fits<'l>(all: impl IntoIterator<Item = &'l Limits>) -> bool {
    let names = all.into_iter().flat_map(|limits| limits.deny_names.iter().chain(&limits.allow_names));
    let tokens = names.filter_map(|text| Pattern::parse(text).ok()).map(|pattern| pattern.tokens());
    tokens.fold(0, usize::saturating_add) <= RULE_TOKENS_MAX
}

/// `NAME@SERVER`.
pub fn person(text: &str) -> Option<FullName> {
    let (name, server) = text.trim_start_matches('@').split_once('@')?;
    Some(FullName::new(Name::parse(name).ok()?, Name::parse(server).ok()?))
}

/// 64 hex digits.
pub(super) fn root(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).filter_map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to memory cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn each(
    flag: &'static str,
    given: &[String],
    check: impl Fn(&str) -> Result<String, BadLimits>,
) -> Result<Vec<String>, BadLimits> {
    if given.len() > RULE_LIST_MAX {
        return Err(BadLimits::TooMany(flag));
    }
    let mut checked: Vec<String> = Vec::new();
    for text in given {
        let text = check(text)?;
        if !checked.contains(&text) {
            checked.push(text);
        }
    }
    Ok(checked)
}

fn glob(text: &str) -> Result<String, BadLimits> {
    if text.contains('/') {
        return Err(BadLimits::Path(shown(text)));
    }
    Pattern::parse(text).map(|_| text.to_owned()).map_err(|error| BadLimits::Name(shown(text), error))
}

fn media(text: &str) -> Result<String, BadLimits> {
    let pattern = MediaPattern::parse(text).ok_or_else(|| BadLimits::Type(shown(text)))?;
    if pattern.is_known() { Ok(pattern.to_string()) } else { Err(BadLimits::UnknownType(shown(text))) }
}
