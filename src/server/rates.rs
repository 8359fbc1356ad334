//! How much of what costs the server something one key, and one address, may do in a minute; and the word before it is too much.

use super::attempts::{Allowance, Taken};
use super::core::Core;
use super::io::Output;
use super::outbox::too_many;
use super::sessions::Asker;
use crate::crypto::identity::PublicKey;
use crate::limits::{
    BY_ADDRESS, COMMITS, DOOR_WINDOW, JOINS, LOGINS, MANY_BY_ADDRESS, NEW_DIRECTS, OPERATOR_LINES, PACKAGES_TAKEN,
    QUESTIONS, RELAY_REGISTRATIONS, ROOM_LISTS,
};
use crate::wire::frame::{Push, Refusal};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doing {
    LogIn,
    Join,
    Commit,
    TakePackage,
    ListRooms,
    BeginDirect,
    TellOperator,
    Administer,
    Relay,
}

/// What of each was done lately.
#[derive(Debug)]
pub(super) struct Rates(BTreeMap<Doing, Allowance>);

impl Rates {
    pub(super) fn new() -> Self {
        let row = |doing: Doing| {
            let (of_key, keys) = doing.limits();
            (doing, Allowance::new(of_key, of_key * keys, DOOR_WINDOW))
        };
        Self(ALL.into_iter().map(row).collect())
    }

    fn take(&mut self, doing: Doing, key: PublicKey, addr: SocketAddr, cost: u32, now: Duration) -> Taken {
        self.0.get_mut(&doing).map_or(Taken::No, |allowance| allowance.take(key, addr.ip(), cost, now))
    }

    pub(super) fn prune(&mut self, now: Duration) {
        self.0.values_mut().for_each(|allowance| allowance.prune(now));
    }

    /// All but commits, without which nobody could be taken out of a room.
    fn tighten(&mut self, slower: u32) {
        let tightened = self.0.iter_mut().filter(|(doing, _)| **doing != Doing::Commit);
        tightened.for_each(|(_, allowance)| allowance.tighten(slower));
    }
}

impl Doing {
    /// Of one key in a minute, and as much as how many keys of one address.
    const fn limits(self) -> (u32, u32) {
        match self {
            Self::LogIn => (LOGINS, MANY_BY_ADDRESS),
            Self::Join => (JOINS, MANY_BY_ADDRESS),
            Self::Commit => (COMMITS, BY_ADDRESS),
            Self::TakePackage => (PACKAGES_TAKEN, BY_ADDRESS),
            Self::ListRooms => (ROOM_LISTS, BY_ADDRESS),
            Self::BeginDirect => (NEW_DIRECTS, MANY_BY_ADDRESS),
            Self::TellOperator => (OPERATOR_LINES, MANY_BY_ADDRESS),
            Self::Administer => (QUESTIONS, BY_ADDRESS),
            Self::Relay => (RELAY_REGISTRATIONS, MANY_BY_ADDRESS),
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::LogIn => "logins",
            Self::Join => "joins",
            Self::Commit => "commits",
            Self::TakePackage => "key packages asked for",
            Self::ListRooms => "lists of rooms",
            Self::BeginDirect => "new conversations",
            Self::TellOperator => "lines to the operator",
            Self::Administer => "questions of an operator",
            Self::Relay => "relayed transfers",
        }
    }
}

impl Core {
    /// Takes what something costs from the allowance of its key and address. When most of it is used its user is told, once in a
    /// window; when all is, it is refused.
    pub(super) fn spend(&mut self, asker: &Asker, doing: Doing, cost: u32) -> Result<(), Refusal> {
        match self.rates.take(doing, asker.key, asker.addr, cost, self.now) {
            Taken::Yes => Ok(()),
            Taken::Nearly => {
                self.warn(asker.session, doing);
                Ok(())
            }
            Taken::No => Err(too_many(&format!("too many {}", doing.words()))),
        }
    }

    /// An attempt to log in, before anything else of it is looked at. Whether the client is to be warned once it is in.
    pub(super) fn attempt_login(&mut self, key: PublicKey, addr: SocketAddr) -> Result<bool, Refusal> {
        match self.rates.take(Doing::LogIn, key, addr, 1, self.now) {
            Taken::No => Err(too_many("too many logins")),
            taken => Ok(taken == Taken::Nearly),
        }
    }

    pub(super) fn warn(&mut self, session: u64, doing: Doing) {
        let text = format!(
            "four fifths of what you may do in a minute are used ({}); what is more is refused until the minute is over",
            doing.words()
        );
        self.out.push(session, Push::Notice { text });
    }

    /// Whoever comes through another server is slowed down there, at that server's level. At a wary level of ours what is too fast for
    /// it is refused.
    pub(super) fn keeps_pace(&mut self, asker: &Asker, bytes: usize) -> Result<(), Refusal> {
        let slower = self.level().slower;
        let guest = self.sessions.get(&asker.session).is_some_and(|session| session.via.is_some());
        if slower > 1 && guest && self.guest_pace.post(asker.key, bytes, slower, self.now).wait > GUEST_AHEAD {
            return Err(too_many("too many lines for the server's present level"));
        }
        Ok(())
    }

    /// Goes by the present level.
    pub(super) fn tighten(&mut self) {
        let slower = self.level().slower;
        self.rates.tighten(slower);
        self.new_things.tighten(slower);
        self.new_names.tighten(slower);
        self.out.output(Output::Pace { slower });
    }
}

/// What was held up on the way comes all at once.
const GUEST_AHEAD: Duration = Duration::from_secs(2);
const ALL: [Doing; 9] = [
    Doing::LogIn,
    Doing::Join,
    Doing::Commit,
    Doing::TakePackage,
    Doing::ListRooms,
    Doing::BeginDirect,
    Doing::TellOperator,
    Doing::Administer,
    Doing::Relay,
];
