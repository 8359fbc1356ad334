//! What one must be to ask what: looked up once, before a request is dispatched.

use super::core::Core;
use super::outbox::not_member;
use super::sessions::Asker;
use crate::limits::SEALED_MAX;
use crate::wire::frame::{Code, Refusal, Request};
use crate::wire::id::RoomId;

enum Needs {
    /// To be logged in, which whoever comes here is.
    Login,
    /// To be in the room, with no removal under way.
    Member(RoomId),
    /// To be in the room, or to hold this lease of it.
    MemberOrLease(RoomId, Option<u64>),
}

impl Core {
    /// The one permission check. What only the MLS state can tell (who may remove, who made a commit) is asked of the room's directory.
    pub(super) fn permit(&self, asker: &Asker, request: &Request) -> Result<(), Refusal> {
        if let Request::Post { message, .. } = request
            && message.len() > SEALED_MAX
        {
            return Err(Refusal::new(Code::TooLarge, "the message is too long"));
        }
        match needs(request) {
            Needs::Login => Ok(()),
            Needs::Member(room) => self.member(asker, &room),
            Needs::MemberOrLease(room, None) => self.member(asker, &room),
            Needs::MemberOrLease(room, Some(lease)) => {
                let held = self.rooms.get(&room).is_some_and(|r| r.holds_lease(asker.session, lease));
                if held { Ok(()) } else { Err(Refusal::new(Code::Stale, "the join took too long")) }
            }
        }
    }

    fn member(&self, asker: &Asker, room: &RoomId) -> Result<(), Refusal> {
        let leaving = || self.rooms.get(room).is_none_or(|r| r.wanted.contains_key(&asker.key));
        if !self.rooms.is_member(&asker.key, room) || leaving() { Err(not_member()) } else { Ok(()) }
    }
}

const fn needs(request: &Request) -> Needs {
    match request {
        Request::Ping
        | Request::PublishKeyPackages { .. }
        | Request::TakeKeyPackage { .. }
        | Request::CreateRoom { .. }
        | Request::CreateDirect { .. }
        | Request::Resolve { .. }
        | Request::Enter { .. }
        | Request::Rooms
        | Request::Operator { .. }
        | Request::RenewName
        | Request::Admin { .. }
        | Request::RelayRegister(_) => Needs::Login,
        Request::Leave { room, .. }
        | Request::Post { room, .. }
        | Request::Log { room, .. }
        | Request::NoState { room } => Needs::Member(*room),
        Request::Commit { room, lease, .. } => Needs::MemberOrLease(*room, *lease),
    }
}
