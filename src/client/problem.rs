//! What the user is told when something does not work, and the exit code that it means for a script.

use super::event::Event;
use crate::wire::frame::{Code, Refusal};
use crate::wire::payload::FileRefusal;

/// A cause, perhaps a way out, and an exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
    pub exit: u8,
}

pub(super) const FAILED: u8 = 1;
pub(super) const USAGE: u8 = 2;
pub(super) const NO_LINK: u8 = 3;
pub(super) const REFUSED: u8 = 4;
pub(super) const NOT_FOUND: u8 = 5;
pub(super) const PEER_REFUSED: u8 = 6;
pub(super) const UNVERIFIED: u8 = 7;

impl Problem {
    pub fn new(code: &str, exit: u8, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: None, exit }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn no_link() -> Self {
        Self::new("not_connected", NO_LINK, "there is no link to the server now").hint("it is tried again by itself")
    }

    pub fn timeout(who: &str) -> Self {
        Self::new("timeout", FAILED, format!("{who} did not answer in time"))
    }

    pub fn full() -> Self {
        Self::new("too_many", FAILED, "too much waits to be sent already").hint("try again in a while")
    }

    pub fn event(self) -> Event {
        Event::Error { code: self.code, message: self.message, hint: self.hint }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let exit = match refusal.code {
            Code::WrongRoomOrPassword | Code::Banned | Code::NameTaken | Code::BadName => REFUSED,
            Code::LabelTaken
            | Code::NotAllowed
            | Code::NotMember
            | Code::NoCertificate
            | Code::BadCertificate
            | Code::BadPass
            | Code::Muted
            | Code::Locked
            | Code::Closed
            | Code::NotListed => REFUSED,
            Code::NotFound | Code::NotHere => NOT_FOUND,
            Code::Version | Code::Draining => NO_LINK,
            _ => FAILED,
        };
        Self { code: refusal.code.as_str().into(), message: refusal.message, hint: refusal.hint, exit }
    }
}

impl From<FileRefusal> for Problem {
    fn from(reason: FileRefusal) -> Self {
        let message = match reason {
            FileRefusal::Busy => "the peer has no upload slot free",
            FileRefusal::NotShared => "the peer has no such file, or does not share it",
            FileRefusal::Changed => "the file is no longer the one that was found",
            FileRefusal::BadRequest => "the peer did not take the request",
            FileRefusal::Unreadable => "the peer could not read the file",
            FileRefusal::Restricted => "a rule is against it",
        };
        Self::new(reason.as_str(), PEER_REFUSED, message)
    }
}
