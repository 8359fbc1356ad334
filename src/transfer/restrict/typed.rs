//! The flags with which rules are made, the same for operators and for owners of rooms.

use super::check::BadLimits;
use crate::limits::REASON_MAX;
use crate::wire::sharing::Limits;

/// A rule as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Typed {
    /// As typed; [`super::check`] comes after names were made full.
    pub limits: Limits,
    /// For whom, if not for everybody.
    pub users: Vec<String>,
    /// For people.
    pub reason: Option<String>,
}

/// Why flags are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFlags {
    /// No such flag.
    #[error("there is no {0} here")]
    Unknown(String),
    /// A flag without its value.
    #[error("{0} needs a value")]
    NoValue(String),
    /// Not a number.
    #[error("{0} needs a number, like 20 or, for sizes, 10M")]
    Number(String),
    /// A quote without an end.
    #[error("a quote has no end")]
    Quote,
    /// A long reason.
    #[error("a reason has at most {REASON_MAX} bytes")]
    Reason,
    /// What they say makes no sense.
    #[error(transparent)]
    Limits(#[from] BadLimits),
}

/// Reads `--off --max-size 10M --deny-name '*.exe' …`.
pub fn parse(text: &str) -> Result<Typed, BadFlags> {
    let mut typed = Typed::default();
    let limits = &mut typed.limits;
    let mut words = words(text).ok_or(BadFlags::Quote)?.into_iter();
    while let Some(flag) = words.next() {
        if flag == "--off" {
            limits.off = true;
            continue;
        }
        let (flag, value) = match flag.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag.to_owned(), Some(value.to_owned())),
            _ => (flag, None),
        };
        let mut value = || value.clone().or_else(|| words.next()).ok_or_else(|| BadFlags::NoValue(flag.clone()));
        let number = |value: String| value.parse().map_err(|_| BadFlags::Number(flag.clone()));
        let size = |value: String| bytes(&value).ok_or_else(|| BadFlags::Number(flag.clone()));
        match flag.as_str() {
            "--max-size" => limits.max_size = Some(size(value()?)?),
            "--bytes-a-day" => limits.bytes_a_day = Some(size(value()?)?),
            "--files-a-day" => limits.files_a_day = Some(number(value()?)?),
            "--at-once" => {
                let many = number(value()?)?;
                limits.at_once = Some(u32::try_from(many).map_err(|_| BadFlags::Number(flag.clone()))?);
            }
            "--deny-name" => limits.deny_names.push(value()?),
            "--allow-name" => limits.allow_names.push(value()?),
            "--deny-type" => limits.deny_types.push(value()?),
            "--allow-type" => limits.allow_types.push(value()?),
            "--deny-root" => limits.deny_roots.push(value()?),
            "--only" => limits.only.push(value()?),
            "--user" => typed.users.push(value()?),
            "--reason" => typed.reason = Some(value()?),
            _ => return Err(BadFlags::Unknown(crate::wire::text::shown(&flag))),
        }
    }
    if typed.reason.as_ref().is_some_and(|reason| reason.len() > REASON_MAX) {
        return Err(BadFlags::Reason);
    }
    Ok(typed)
}

/// Bytes: a number, with K, M, G or T (powers of 1,024; `MB` and `MiB` mean the same).
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Words, with quotes of both kinds around those that have spaces in them; `None` if one has no end.
pub fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}
