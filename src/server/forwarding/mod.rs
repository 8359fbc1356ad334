//! Files' datagrams between two clients that do not reach each other: which legs there are, where they are bound, who is charged.
//!
//! The server sees sealed datagrams, their sizes and times, and two addresses. It tells neither side the other's. Pure: whoever
//! owns the socket tells what came, and is told where it goes.

mod budget;

use super::io::SessionId;
use crate::crypto::identity::PublicKey;
use crate::limits::{
    RELAY_AWAY, RELAY_BYTES, RELAY_IDLE, RELAY_LEGS, RELAY_LEGS_PER_USER, RELAY_RATE, RELAY_UNPAIRED, RELAY_USER_BYTES,
    RELAY_USER_RATE, RELAY_USERS,
};
use crate::wire::leg::{self, BIND_LEN, LegId, LegKey};
use budget::Budget;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How much is relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Bytes a second for each user; 0 for no relay at all.
    pub user_rate: u64,
    /// Bytes a second in all.
    pub rate: u64,
    /// Bytes a day for each user.
    pub user_bytes: u64,
    /// Bytes a day in all.
    pub bytes: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self { user_rate: RELAY_USER_RATE, rate: RELAY_RATE, user_bytes: RELAY_USER_BYTES, bytes: RELAY_BYTES }
    }
}

/// Where a client's end of a leg is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At an address, reached by one of the server's sockets.
    Udp {
        /// The socket's number.
        socket: usize,
        /// The client's address.
        addr: SocketAddr,
    },
    /// At its link.
    Link(SessionId),
}

/// Whether a user's legs stay: they are no more than what a session of theirs asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// There is a session.
    Here,
    /// There is one, and nothing is relayed for it: they end, and nothing passes through us to legs elsewhere.
    Barred,
    /// The last session has ended: they stay for [`RELAY_AWAY`].
    Away,
    /// It was ended for good: so are they.
    Out,
}

/// What was done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardingCounts {
    /// Legs now.
    pub legs: u64,
    /// Bytes passed on, heads included.
    pub bytes: u64,
    /// Bytes dropped for a limit.
    pub limited: u64,
    /// Datagrams of no leg, from elsewhere than its leg, or with a false or old bind.
    pub refused: u64,
    /// Legs that were given out.
    pub tickets: u64,
    /// Those of them whose other side came too: both of a pair count.
    pub paired: u64,
    /// Those whose first passed byte came over UDP, and over a link.
    pub carried: [u64; 2],
    /// Questions after one's address that were answered.
    pub stun: u64,
}

/// Why no leg was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoLeg {
    /// The operator relays nothing.
    #[error("this server relays no files")]
    Off,
    /// The two tokens are one, or the other side is the same user.
    #[error("the two sides of a relay must be two")]
    Oneself,
    /// Somebody else has registered this token.
    #[error("another user has registered this token")]
    Taken,
    /// The day's bytes of one of the two, or of all, are used up.
    #[error("as many bytes of files as may be were passed on today")]
    Spent,
    /// Too many legs of this user, or in all.
    #[error("too many relayed transfers; try again later")]
    TooMany,
}

/// All legs. At most [`RELAY_LEGS`].
pub struct Forwarding {
    limits: RelayLimits,
    legs: HashMap<LegId, Leg>,
    // By the token that a side registered as its own.
    tokens: HashMap<[u8; 32], LegId>,
    users: HashMap<PublicKey, User>,
    // Of those who are here.
    barred: HashSet<PublicKey>,
    all: Budget,
    counts: ForwardingCounts,
}

struct Leg {
    user: PublicKey,
    key: LegKey,
    own: [u8; 32],
    peer: [u8; 32],
    // The other side's, which has this one too.
    partner: Option<LegId>,
    place: Option<Place>,
    // Where somebody was who knew the key and read our answer; and where we ask for that, under which counter.
    proven: Option<Place>,
    asked: Option<(Place, u64)>,
    // Of the newest bind.
    counter: Option<u64>,
    registered: Duration,
    heard: Duration,
    // Something of it was passed on.
    carried: bool,
}

struct User {
    legs: usize,
    // Since when without a session.
    away: Option<Duration>,
    budget: Budget,
}

impl Forwarding {
    /// No legs yet.
    pub fn new(limits: RelayLimits, now: Duration) -> Self {
        Self {
            limits,
            legs: HashMap::new(),
            tokens: HashMap::new(),
            users: HashMap::new(),
            barred: HashSet::new(),
            all: Budget::new(limits.rate, limits.bytes, now),
            counts: ForwardingCounts::default(),
        }
    }

    /// From now on so much is relayed. What was used of the day counts, and legs stay: with nothing allowed they carry nothing.
    pub fn set_limits(&mut self, now: Duration, limits: RelayLimits) {
        self.limits = limits;
        self.all.set(limits.rate, limits.bytes, now);
        self.users.values_mut().for_each(|user| user.budget.set(limits.user_rate, limits.user_bytes, now));
    }

    /// How much is relayed.
    pub const fn limits(&self) -> RelayLimits {
        self.limits
    }

    /// Makes a leg for one side of a transfer; `id` and `key` are random. Registering the same tokens again replaces it.
    pub fn register(
        &mut self,
        now: Duration,
        user: PublicKey,
        (own, peer): ([u8; 32], [u8; 32]),
        (id, key): (LegId, LegKey),
    ) -> Result<(), NoLeg> {
        if self.is_off() {
            return Err(NoLeg::Off);
        }
        let partner = self.tokens.get(&peer).copied().filter(|id| self.legs.get(id).is_some_and(|leg| leg.peer == own));
        let same = partner.and_then(|id| self.legs.get(&id)).is_some_and(|leg| leg.user == user);
        if own == peer || same {
            return Err(NoLeg::Oneself);
        }
        let sides = [Some(user), partner.and_then(|id| self.legs.get(&id)).map(|leg| leg.user)];
        let spent = |side: &PublicKey| self.users.get(side).is_some_and(|user| user.budget.is_spent(now));
        if self.all.is_spent(now) || sides.iter().flatten().any(spent) {
            return Err(NoLeg::Spent);
        }
        if let Some(old) = self.tokens.get(&own).copied() {
            if self.legs.get(&old).is_some_and(|leg| leg.user != user) {
                return Err(NoLeg::Taken);
            }
            self.end(&old);
        }
        let has = self.users.get(&user).map_or(0, |user| user.legs);
        let strangers = self.users.len() >= RELAY_USERS && !self.users.contains_key(&user);
        if strangers || self.legs.len() >= RELAY_LEGS || has >= RELAY_LEGS_PER_USER || self.legs.contains_key(&id) {
            return Err(NoLeg::TooMany);
        }
        let entry = self.user(now, user);
        (entry.legs, entry.away) = (entry.legs + 1, None);
        self.counts.tickets += 1;
        if let Some(other) = partner.and_then(|id| self.legs.get_mut(&id)) {
            // One that is registered again finds its other side paired already.
            self.counts.paired += 1 + u64::from(other.partner.is_none());
            other.partner = Some(id);
        }
        self.tokens.insert(own, id);
        let (registered, heard) = (now, now);
        let (place, proven, asked, counter) = (None, None, None, None);
        let leg =
            Leg { user, key, own, peer, partner, place, proven, asked, counter, registered, heard, carried: false };
        self.legs.insert(id, leg);
        Ok(())
    }

    /// A bind of `id` came: where it came from is the leg's address from now on, if it is proven that who binds is there. Gives the
    /// answer, which goes back there; that to a bind from elsewhere asks for another bind, under a counter that `random` makes. Otherwise
    /// one datagram with a false source would have a third party flooded.
    pub fn bind(
        &mut self,
        now: Duration,
        id: LegId,
        counter: u64,
        datagram: &[u8],
        place: Place,
        random: u64,
    ) -> Option<[u8; BIND_LEN]> {
        let leg = self.legs.get_mut(&id);
        let fits =
            |leg: &&mut Leg| leg.counter.is_none_or(|newest| counter > newest) && leg::is_genuine(datagram, &leg.key);
        let Some(leg) = leg.filter(fits) else {
            self.counts.refused += 1;
            return None;
        };
        leg.counter = Some(counter);
        if leg.proven == Some(place) || leg.asked == Some((place, counter)) {
            (leg.place, leg.proven, leg.asked, leg.heard) = (Some(place), Some(place), None, now);
            return Some(leg::bound(id, counter, &leg.key));
        }
        // Binds that left before our answer came get the same one.
        let same = leg.asked.filter(|(at, wanted)| *at == place && *wanted > counter).map(|(_, wanted)| wanted);
        let wanted = same.or_else(|| counter.checked_add(1 + (random >> UNGUESSED)))?;
        leg.asked = Some((place, wanted));
        Some(leg::prove(id, wanted, &leg.key))
    }

    /// Who has logged in with the key of the leg wants it at its link. Returns whether it is there now.
    pub fn bind_link(&mut self, now: Duration, id: LegId, user: PublicKey, session: SessionId) -> bool {
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.user == user) else {
            self.counts.refused += 1;
            return false;
        };
        (leg.place, leg.heard) = (Some(Place::Link(session)), now);
        true
    }

    /// What becomes of the legs of a user.
    pub fn stay(&mut self, now: Duration, user: PublicKey, stay: Stay) {
        match stay {
            Stay::Barred => _ = self.barred.insert(user),
            Stay::Here | Stay::Away | Stay::Out => _ = self.barred.remove(&user),
        }
        let Some(known) = self.users.get_mut(&user) else { return };
        match stay {
            Stay::Here => known.away = None,
            Stay::Away => known.away = Some(now),
            Stay::Barred | Stay::Out => self.end_where(|leg, _| leg.user == user),
        }
    }

    fn end_where(&mut self, over: impl Fn(&Leg, &HashMap<PublicKey, User>) -> bool) {
        let over: Vec<LegId> = self.legs.iter().filter(|(_, leg)| over(leg, &self.users)).map(|(id, _)| *id).collect();
        over.iter().for_each(|id| self.end(id));
    }

    /// Whether there is such a leg.
    pub fn has(&self, id: &LegId) -> bool {
        self.legs.contains_key(id)
    }

    /// `len` bytes of datagrams of leg `id` came. Gives where they go, and the leg to name on them there.
    pub fn forward(&mut self, now: Duration, id: LegId, len: usize, place: Place) -> Option<(Place, LegId)> {
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.place == Some(place)) else {
            self.counts.refused += 1;
            return None;
        };
        leg.heard = now;
        let (user, partner) = (leg.user, leg.partner?);
        let to = self.legs.get(&partner)?.place?;
        if !self.charge(now, user, len as u64) {
            return None;
        }
        if let Some(leg) = self.legs.get_mut(&id).filter(|leg| !leg.carried) {
            leg.carried = true;
            self.counts.carried[usize::from(matches!(place, Place::Link(_)))] += 1;
        }
        Some((to, partner))
    }

    /// `len` bytes of datagrams pass between a client of ours and its leg at another server. Gives whether they may.
    pub fn transit(&mut self, now: Duration, user: PublicKey, len: usize) -> bool {
        let stranger = self.users.len() >= RELAY_USERS && !self.users.contains_key(&user);
        if self.is_off() || stranger || self.barred.contains(&user) {
            self.counts.limited += len as u64;
            return false;
        }
        self.user(now, user);
        self.charge(now, user, len as u64)
    }

    /// Something came that has no leg or is not its user's.
    pub const fn refuse(&mut self) {
        self.counts.refused += 1;
    }

    fn charge(&mut self, now: Duration, user: PublicKey, len: u64) -> bool {
        let Some(user) = self.users.get_mut(&user) else { return false };
        if !user.budget.has(now) || !self.all.has(now) {
            self.counts.limited += len;
            return false;
        }
        user.budget.take(len);
        self.all.take(len);
        self.counts.bytes += len;
        true
    }

    fn user(&mut self, now: Duration, user: PublicKey) -> &mut User {
        let RelayLimits { user_rate, user_bytes, .. } = self.limits;
        self.users.entry(user).or_insert_with(|| User {
            legs: 0,
            away: None,
            budget: Budget::new(user_rate, user_bytes, now),
        })
    }

    const fn is_off(&self) -> bool {
        let RelayLimits { user_rate, rate, user_bytes, bytes } = self.limits;
        user_rate == 0 || rate == 0 || user_bytes == 0 || bytes == 0
    }

    /// Ends what is idle, unpaired, or left behind. To be called every second or so.
    pub fn tidy(&mut self, now: Duration) {
        self.end_where(|leg, users| {
            now >= leg.heard + RELAY_IDLE && (leg.place.is_some() || now >= leg.registered + RELAY_UNPAIRED)
                || leg.partner.is_none() && now >= leg.registered + RELAY_UNPAIRED
                || users.get(&leg.user).and_then(|user| user.away).is_some_and(|away| now >= away + RELAY_AWAY)
        });
        // What somebody used today counts although nothing runs.
        self.users.retain(|_, user| user.legs > 0 || !user.budget.is_fresh(now));
    }

    /// Somebody was told how their address looks from here.
    pub fn told_address(&mut self) {
        self.counts.stun += 1;
    }

    /// What was done.
    pub fn counts(&self) -> ForwardingCounts {
        ForwardingCounts { legs: self.legs.len() as u64, ..self.counts }
    }

    fn end(&mut self, id: &LegId) {
        let Some(leg) = self.legs.remove(id) else { return };
        self.tokens.remove(&leg.own);
        if let Some(user) = self.users.get_mut(&leg.user) {
            user.legs = user.legs.saturating_sub(1);
        }
        if let Some(partner) = leg.partner.and_then(|id| self.legs.get_mut(&id)) {
            partner.partner = None;
        }
    }
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// Bits of a random number that are left out of what a counter is raised by: a leg that moves tens of thousands of times still finds
/// higher ones, and nobody guesses the others.
const UNGUESSED: u32 = 16;

#[cfg(test)]
mod tests;
