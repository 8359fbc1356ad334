//! What waits to be done: writes first, then everything else in its order.

use super::io::{LogEvent, Output, SessionId};
use crate::store::Write;
use crate::wire::frame::{Code, Push, Refusal, Reply, ToClient};
use std::collections::VecDeque;
use std::sync::Arc;

/// Outputs that were not yet taken.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    writes: Vec<Write>,
    rest: VecDeque<Output>,
    refused: u64,
}

impl Outbox {
    /// The next one; all writes so far come before anything else.
    pub(super) fn poll(&mut self) -> Option<Output> {
        if !self.writes.is_empty() {
            return Some(Output::Store(std::mem::take(&mut self.writes)));
        }
        self.rest.pop_front()
    }

    pub(super) fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    pub(super) fn output(&mut self, output: Output) {
        self.rest.push_back(output);
    }

    pub(super) fn log(&mut self, event: LogEvent) {
        self.refused += u64::from(matches!(event, LogEvent::LoginRefused { .. }));
        self.output(Output::Log(event));
    }

    pub(super) fn send(&mut self, session: SessionId, frame: &ToClient) {
        self.send_encoded(session, frame.to_bytes().into());
    }

    pub(super) fn push(&mut self, session: SessionId, push: Push) {
        self.send(session, &ToClient::Push(push));
    }

    pub(super) fn reply(&mut self, session: SessionId, id: u64, body: Reply) {
        self.send(session, &ToClient::Reply { id, body });
    }

    pub(super) fn refuse(&mut self, session: SessionId, id: u64, refusal: Refusal) {
        self.refused += 1;
        self.reply(session, id, Reply::Refused(refusal));
    }

    /// Requests and logins refused since the start.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// One encoding for all receivers.
    pub(super) fn fan_out(&mut self, receivers: impl Iterator<Item = SessionId>, push: Push) {
        let frame: Arc<[u8]> = ToClient::Push(push).to_bytes().into();
        for session in receivers {
            self.send_encoded(session, Arc::clone(&frame));
        }
    }

    fn send_encoded(&mut self, session: SessionId, frame: Arc<[u8]>) {
        self.output(Output::Send { session, frame });
    }
}

/// The refusals that are made in more than one place.
pub(super) fn too_many(what: &str) -> Refusal {
    Refusal::new(Code::TooMany, format!("{what}; try again later"))
}

pub(super) fn not_member() -> Refusal {
    Refusal::new(Code::NotMember, "you are not in this room")
}

/// Nothing more is written.
pub(super) fn disk_full() -> Refusal {
    Refusal::new(Code::DiskFull, "the server's disk is full; nothing was done").hint("tell whoever runs it")
}

/// The one answer for a room that does not exist and for a wrong password.
pub(super) fn wrong_room_or_password() -> Refusal {
    Refusal::new(Code::WrongRoomOrPassword, "there is no such room, or the password is wrong")
}
