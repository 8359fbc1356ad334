//! Requests on their way to the server: what each is for, and until when it must be answered.

use super::core::Ticket;
use crate::wire::id::{MessageId, RoomId, TransferId};
use crate::wire::name::FullName;
use std::collections::BTreeMap;
use std::time::Duration;

/// What an answer is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// Nothing waits for it.
    Forget,
    /// Whether the server is still there; whatever it says answers that.
    Alive,
    /// A question to all servers.
    Survey {
        number: u64,
        sent: Duration,
    },
    Operator(Ticket),
    /// A question as somebody with a role.
    Admin(Ticket),
    RenewName,
    /// A leg for this session.
    Relay(TransferId),
    /// The steps into a room, by the entry's number.
    Resolve(u64),
    Create(u64),
    Enter(u64),
    Join(u64),
    /// Whether a creation came through before the link broke.
    Probe(u64),
    Take(FullName),
    CreateDirect(RoomId),
    Post(RoomId, MessageId),
    /// A commit out of this epoch.
    Commit(RoomId, u64),
    Leave(RoomId),
    Log(RoomId),
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    next: u64,
    open: BTreeMap<u64, (Purpose, Duration)>,
}

impl Requests {
    pub fn add(&mut self, purpose: Purpose, deadline: Duration) -> u64 {
        self.next += 1;
        self.open.insert(self.next, (purpose, deadline));
        self.next
    }

    pub fn take(&mut self, id: u64) -> Option<Purpose> {
        self.open.remove(&id).map(|(purpose, _)| purpose)
    }

    /// All that will not be answered: the link is gone.
    pub fn take_all(&mut self) -> Vec<Purpose> {
        std::mem::take(&mut self.open).into_values().map(|(purpose, _)| purpose).collect()
    }

    pub fn next_deadline(&self) -> Option<Duration> {
        self.open.values().map(|(_, deadline)| *deadline).min()
    }

    /// It was asked whether it is still there.
    pub fn is_doubted(&self) -> bool {
        self.open.values().any(|(p, _)| matches!(p, Purpose::Alive))
    }

    /// It is.
    pub fn trust(&mut self) {
        self.open.retain(|_, (p, _)| !matches!(p, Purpose::Alive));
    }

    /// Catch-ups under way.
    pub fn logs(&self) -> usize {
        self.open.values().filter(|(p, _)| matches!(p, Purpose::Log(_))).count()
    }

    pub fn has_log(&self, room: &RoomId) -> bool {
        self.open.values().any(|(p, _)| matches!(p, Purpose::Log(id) if id == room))
    }

    /// A room is gone, and what was asked about it no longer matters.
    pub fn drop_posts(&mut self, room: &RoomId) {
        for (purpose, _) in self.open.values_mut() {
            if matches!(purpose, Purpose::Post(id, _) | Purpose::Commit(id, _) | Purpose::Log(id) if id == room) {
                *purpose = Purpose::Forget;
            }
        }
    }
}
