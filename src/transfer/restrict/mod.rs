//! Rules on what may be shared, as both ends of a transfer hold to them.
//!
//! ```text
//! check    limits as somebody typed them -> limits that make sense
//! compiled one rule, ready to be held against files
//! media    what a file is by its first bytes
//! ledger   who has sent how much in a day
//! summary  a rule in one line
//! typed    the flags of the commands that make rules
//! ```

mod check;
mod compiled;
mod ledger;
mod media;
mod summary;
mod typed;

use std::fmt;
use std::sync::Arc;

use crate::crypto::identity::PublicKey;
use crate::limits::REFUSAL_DETAIL_MAX;
use crate::wire::id::RoomId;
use crate::wire::name::{FullName, Name};
use crate::wire::sharing::Scope;
use crate::wire::text::shown;
pub use check::{BadLimits, check, fits, person};
pub use compiled::Compiled;
pub use ledger::{LEDGER_MAX, Ledger, What};
pub use media::{HEAD, media_of};
pub use summary::summary;
pub use typed::{Typed, bytes, parse, words};

/// Whose rule it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maker {
    /// A server's operators.
    Server(Name),
    /// A room's owner.
    Room(FullName),
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(name) => write!(f, "the server {name}"),
            Self::Room(name) => write!(f, "the room {name}"),
        }
    }
}

/// A rule says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub rule: u64,
    /// Whose.
    pub maker: Maker,
    /// What is against it, for people.
    pub why: String,
    /// The reason that the rule's maker gave.
    pub reason: Option<String>,
}

impl fmt::Display for Verdict {
    /// For people, harmless on a screen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} of {}: {}", self.rule, self.maker, shown(&self.why))?;
        self.reason.iter().try_for_each(|reason| write!(f, " ({})", shown(reason)))
    }
}

impl Verdict {
    /// The same in at most [`REFUSAL_DETAIL_MAX`] bytes.
    pub fn detail(&self) -> String {
        cut(self.to_string(), REFUSAL_DETAIL_MAX)
    }
}

/// The beginning of a text, at most so many bytes.
pub fn cut(mut text: String, max: usize) -> String {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.truncate(end);
    text
}

/// What is known of a file or a folder; what is not known yet is not held against it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Item<'i> {
    /// Its name; of a file in a folder, its path there.
    pub name: &'i str,
    /// It is a folder: a name that is not allowed is about its files.
    pub folder: bool,
    /// Bytes; of a folder, of all its files.
    pub size: Option<u64>,
    /// BLAKE3; of a folder, of its list of files.
    pub root: Option<&'i [u8; 32]>,
}

/// What a person has sent, as far as is known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Files in a day.
    pub files: u64,
    /// Bytes in a day.
    pub bytes: u64,
    /// Other transfers that run now.
    pub at_once: u32,
    /// This very transfer is among the files and bytes already.
    pub counted: bool,
}

/// The rules for what one person sends to another through some rooms. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    list: Vec<Arc<Compiled>>,
    sharer: Option<(FullName, PublicKey)>,
    used: Used,
}

impl Rules {
    /// Of these rules those that concern somebody who sends, somebody who fetches, and these rooms.
    pub fn among(
        all: impl IntoIterator<Item = Arc<Compiled>>,
        rooms: &[RoomId],
        sharer: (FullName, PublicKey),
        fetcher: &PublicKey,
        used: Used,
    ) -> Self {
        let concerns = |rule: &Arc<Compiled>| match &rule.rule().scope {
            Scope::All => true,
            Scope::Room(room) => rooms.contains(room),
            Scope::User(key) => **key == *sharer.1.as_bytes() || **key == *fetcher.as_bytes(),
        };
        let list = all.into_iter().filter(concerns).collect();
        Self { list, sharer: Some(sharer), used }
    }

    /// The same with another state of what was sent.
    #[must_use]
    pub fn with_used(mut self, used: Used) -> Self {
        self.used = used;
        self
    }

    /// Nothing is against anything.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the sharer may share nothing at all.
    pub fn judge_sharer(&self) -> Result<(), Verdict> {
        self.list.iter().try_for_each(|rule| rule.sharer(self.sharer.as_ref().map(|(name, _)| name)))
    }

    /// Whether what a file is by its first bytes matters.
    pub fn ask_types(&self) -> bool {
        self.list.iter().any(|rule| rule.asks_type())
    }

    /// Whether what was sent in a day matters.
    pub fn ask_amounts(&self) -> bool {
        self.counting().any(|rule| rule.limits().files_a_day.is_some() || rule.limits().bytes_a_day.is_some())
    }

    /// Whether the sharer may share at all, and what is known of the file may be.
    pub fn judge(&self, item: &Item<'_>) -> Result<(), Verdict> {
        self.judge_sharer()?;
        self.list.iter().try_for_each(|rule| rule.item(item))
    }

    /// The same for a file of which the first [`HEAD`] bytes, or all, are here too.
    pub fn judge_head(&self, name: &str, head: &[u8]) -> Result<(), Verdict> {
        if !self.ask_types() {
            return Ok(());
        }
        let media = media_of(head);
        self.list.iter().try_for_each(|rule| rule.media(name, media))
    }

    /// The same for a file whose beginning is not here.
    pub fn judge_unseen(&self, name: &str) -> Result<(), Verdict> {
        let asking = self.list.iter().find(|rule| rule.asks_type());
        asking.map_or(Ok(()), |rule| Err(rule.unseen(name)))
    }

    /// Whether so much more may be sent.
    pub fn judge_amount(&self, files: u64, bytes: u64) -> Result<(), Verdict> {
        let Used { files: before, bytes: bytes_before, at_once, counted } = self.used;
        let (files, bytes) = if counted { (0, 0) } else { (files, bytes) };
        let (files, bytes) = (before.saturating_add(files), bytes_before.saturating_add(bytes));
        self.counting().try_for_each(|rule| rule.amount(files, bytes, at_once.saturating_add(1)))
    }

    /// A rule for one person counts what that person sends, not what others send there.
    fn counting(&self) -> impl Iterator<Item = &Arc<Compiled>> {
        let own = |rule: &&Arc<Compiled>| match (&rule.rule().scope, &self.sharer) {
            (Scope::User(key), Some((_, sharer))) => **key == *sharer.as_bytes(),
            _ => true,
        };
        self.list.iter().filter(own)
    }
}

#[cfg(test)]
mod tests;
