//! The peer's addresses: candidates that are probed, validation by challenge and response, the choice of one, and the
//! limit on what an unproven address is sent (RFC 9000 §8).

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Candidate addresses that a connection takes.
pub const MAX_CANDIDATES: usize = 16;
/// Challenges sent to one candidate that never answers, each 1,200 bytes; a few more whenever the path that was found falls silent, and
/// now and then while that is a detour.
/// In all it is [`MAX_IN_ALL`] that one gets which has never answered. All else that an unproven address is sent stays within three times the bytes that came from it.
pub const MAX_PROBES: u32 = 24;

#[derive(Debug)]
pub(super) struct Paths {
    // At most MAX_PATHS, addresses distinct.
    known: Vec<Path>,
    // Where the file travels; always validated.
    active: Option<SocketAddr>,
    // When something came from there last, or it was chosen.
    active_heard: Duration,
    // When it was chosen.
    chosen_at: Duration,
    // While it is silent: when all are asked once more.
    search: Option<Duration>,
    // While it is a detour: when the others are asked once more, and how often they were.
    better: Option<Duration>,
    rounds: u32,
    // When the peer looked for us on the path in use: it does not hear us there. And when we tried all for that.
    sought: Option<Duration>,
    helped: Option<Duration>,
    // Before this no candidate is probed that has not spoken: a list of addresses is no burst, and no fast scan.
    next_unprompted: Duration,
    // Where the peer's newest traffic came from, and its packet number.
    peer_uses: Option<(SocketAddr, u64)>,
    // The receiver chooses the first path that answers; the sender follows it.
    chooses: bool,
    // Where the peer's first challenge came from.
    promising: Option<SocketAddr>,
    tokens: Tokens,
}

#[derive(Debug)]
struct Path {
    addr: SocketAddr,
    candidate: bool,
    // Taken only where there is no other.
    detour: bool,
    validated: bool,
    // A challenge is not answered yet.
    checking: bool,
    // Bytes; count only while the path is not validated.
    received: u64,
    sent: u64,
    probes: u32,
    // Challenges in all.
    asked: u32,
    next_probe: Option<Duration>,
    // The challenges sent last and when, newest first: enough for a round trip of four seconds.
    challenges: [Option<([u8; 8], Duration)>; 8],
    // What the newest answer measured.
    round_trip: Option<Duration>,
    // A challenge of the peer that is not answered yet.
    owed: Option<[u8; 8]>,
}

impl Paths {
    pub(super) fn new(chooses: bool, entropy: [u8; 32]) -> Self {
        Self {
            known: Vec::new(),
            active: None,
            active_heard: Duration::ZERO,
            chosen_at: Duration::ZERO,
            search: None,
            better: None,
            rounds: 0,
            sought: None,
            helped: None,
            next_unprompted: Duration::ZERO,
            peer_uses: None,
            chooses,
            promising: None,
            tokens: Tokens { key: entropy, count: 0 },
        }
    }

    /// Adds an address to probe. Returns whether there was room.
    pub(super) fn add_candidate(&mut self, now: Duration, addr: SocketAddr) -> bool {
        let candidates = self.known.iter().filter(|path| path.candidate).count();
        if let Some(path) = self.known.iter_mut().find(|path| path.addr == addr) {
            path.candidate = true;
            return true;
        }
        if candidates >= MAX_CANDIDATES || !self.make_room() {
            return false;
        }
        let place = u32::try_from(candidates).unwrap_or(u32::MAX);
        let mut path = Path::new(addr);
        path.candidate = true;
        path.next_probe = Some(now + SPREAD * place);
        self.known.push(path);
        self.rounds = 0;
        true
    }

    /// Adds a candidate that is used only while no other answers; one that is known is probed anew. Returns whether there was room.
    pub(super) fn add_detour(&mut self, now: Duration, addr: SocketAddr) -> bool {
        let rounds = self.rounds;
        let added = self.add_candidate(now, addr);
        self.rounds = rounds;
        if let Some(path) = self.find(addr) {
            path.detour = true;
            path.probe_again(now, SEARCH_PROBES);
        }
        added
    }

    /// An authentic datagram of `len` bytes came from `addr`.
    pub(super) fn on_received(&mut self, now: Duration, addr: &SocketAddr, len: usize) {
        if self.active.as_ref() == Some(addr) {
            self.active_heard = now;
            self.search = None;
            return;
        }
        let addr = *addr;
        if let Some(path) = self.find(addr) {
            path.received = path.received.saturating_add(len as u64);
            path.next_probe = path.next_probe.or(Some(now)).filter(|_| path.checking);
        } else if self.make_room() {
            let mut path = Path::new(addr);
            path.received = len as u64;
            path.next_probe = Some(now);
            self.known.push(path);
        }
    }

    /// Packet `number` from `addr` carried more than path validation: if it is the newest, the peer wants to be there.
    /// Returns whether the active path changed.
    pub(super) fn on_traffic(&mut self, now: Duration, addr: &SocketAddr, number: u64) -> bool {
        let moved = match &mut self.peer_uses {
            Some((_, newest)) if *newest >= number => return false,
            Some((before, newest)) if before == addr => {
                *newest = number;
                false
            }
            _ => {
                self.peer_uses = Some((*addr, number));
                true
            }
        };
        let active = self.active.as_ref() == Some(addr);
        let addr = *addr;
        if active || self.leads(now) || !(moved || self.chooses) || self.stays_off(addr) {
            return false;
        }
        match self.find(addr) {
            Some(path) if path.validated => {
                self.choose(now, addr);
                true
            }
            Some(path) if moved => {
                path.next_probe = Some(now);
                false
            }
            _ => false,
        }
    }

    /// Whether we have chosen a path that works, and the sender has to follow: what comes from elsewhere left before it knew.
    fn leads(&self, now: Duration) -> bool {
        self.chooses && self.active.is_some() && now < self.active_heard + FOLLOWS
    }

    /// Whether this is a detour that we, who choose, do not need: the path in use is none, and works.
    fn stays_off(&self, addr: SocketAddr) -> bool {
        let direct = self.active.is_some_and(|active| !self.is_detour(active));
        self.chooses && direct && !self.is_silent() && self.is_detour(addr)
    }

    fn is_detour(&self, addr: SocketAddr) -> bool {
        self.known.iter().any(|path| path.addr == addr && path.detour)
    }

    /// The peer asks for an answer at `addr`. Only its newest challenge there is answered.
    pub(super) fn on_challenge(&mut self, now: Duration, addr: SocketAddr, token: [u8; 8]) {
        if self.active == Some(addr) && now >= self.chosen_at + SETTLED {
            self.sought = Some(now);
            if self.helped.is_none_or(|at| now >= at + SEARCH_AGAIN) {
                self.helped = Some(now);
                self.known.iter_mut().for_each(|path| path.probe_again(now, SEARCH_PROBES));
            }
        }
        if let Some(path) = self.find(addr) {
            path.owed = Some(token);
            self.promising = self.promising.or(Some(addr));
        }
    }

    /// Where one full datagram may go although no path is chosen: who chooses was challenged from there, so the answer
    /// and what comes with it will be heard. That saves a round trip.
    pub(super) fn promising(&mut self, len: usize) -> Option<SocketAddr> {
        let addr = self.promising.filter(|_| self.chooses && self.active.is_none())?;
        self.find(addr)?.may_spend(len).then_some(addr)
    }

    /// `len` bytes left for such an address.
    pub(super) fn spend(&mut self, addr: SocketAddr, len: usize) {
        if let Some(path) = self.find(addr) {
            path.spend(len);
        }
    }

    /// The peer repeats a challenge, over any path (RFC 9000 §8.2.3). Returns the round trip that this measures and
    /// whether the active path changed; `None` for a challenge that is not ours or was answered.
    pub(super) fn on_response(&mut self, now: Duration, token: [u8; 8]) -> Option<(Duration, bool)> {
        let (path, left) = self.known.iter_mut().filter(|path| path.checking).find_map(|path| {
            let (_, left) = *path.challenges.iter().flatten().find(|(sent, _)| *sent == token)?;
            Some((path, left))
        })?;
        let round_trip = now.saturating_sub(left);
        path.validated = true;
        path.checking = false;
        path.next_probe = None;
        path.round_trip = Some(round_trip);
        let (addr, detour) = (path.addr, path.detour);
        let leads = self.leads(now);
        let wanted = match self.peer_uses {
            Some((used, _)) => used == addr && !leads,
            None => self.chooses,
        };
        // The first that answers, at the beginning, where the one before has gone silent, and where that was a detour.
        let better = !detour && self.takes_detour();
        let first = self.chooses && (self.active.is_none() || self.is_silent() || better);
        let changed = (wanted && !self.stays_off(addr) || first) && self.active != Some(addr);
        if changed {
            self.choose(now, addr);
        }
        Some((round_trip, changed))
    }

    fn takes_detour(&self) -> bool {
        self.active.is_some_and(|active| self.is_detour(active))
    }

    /// The round trip of the path in use, as its newest challenge measured it.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let active = self.active?;
        self.known.iter().find(|path| path.addr == active)?.round_trip
    }

    /// Whether nothing comes over the path in use, or the peer has to look for us there.
    pub(super) fn is_silent(&self) -> bool {
        self.search.is_some() || self.sought.is_some()
    }

    /// When [`Self::look_around`] has something to do.
    pub(super) fn look_at(&self) -> Option<Duration> {
        let others = || self.known.iter().any(|path| !path.detour);
        let sought = self.sought.map(|at| at + SOUGHT);
        self.search_at().into_iter().chain(self.better.filter(|_| others())).chain(sought).min()
    }

    /// When the path in use has been silent for so long that all are tried again.
    fn search_at(&self) -> Option<Duration> {
        self.active.map(|_| self.search.unwrap_or(self.active_heard + SEARCH_AFTER))
    }

    /// The path in use is silent: every address that we know is challenged anew, so that ways through routers open again, and who
    /// chooses takes the first that answers. Or it is a detour: the others are challenged anew, a few times and then seldom.
    pub(super) fn look_around(&mut self, now: Duration) {
        self.sought = self.sought.filter(|at| now < *at + SOUGHT);
        if self.search_at().is_some_and(|at| at <= now) {
            self.search = Some(now + SEARCH_AGAIN);
            self.known.iter_mut().for_each(|path| path.probe_again(now, SEARCH_PROBES));
        }
        if self.better.is_some_and(|at| at <= now) {
            self.rounds += 1;
            self.better = self.next_round(now);
            let others = self.known.iter_mut().filter(|path| !path.detour && (!path.checking || path.is_tired()));
            others.for_each(|path| path.probe_again(now, BETTER_PROBES));
        }
    }

    fn next_round(&self, now: Duration) -> Option<Duration> {
        let pause = (BETTER_AFTER * (1 << self.rounds.min(8))).min(BETTER_SELDOM);
        (self.rounds < BETTER_ROUNDS).then_some(now + pause)
    }

    fn choose(&mut self, now: Duration, addr: SocketAddr) {
        if self.active.is_some() && !self.takes_detour() && now >= self.chosen_at + STEADY {
            // It was no flicker: what worked for long is looked for with new zeal.
            self.rounds = 0;
        }
        self.active = Some(addr);
        self.active_heard = now;
        self.chosen_at = now;
        self.search = None;
        self.sought = None;
        self.better = if self.is_detour(addr) { self.next_round(now) } else { None };
    }

    /// Where the file travels.
    pub(super) fn active(&self) -> Option<SocketAddr> {
        self.active
    }

    /// Where `len` bytes of farewell may go: the active path, or else where the peer was heard, as far as its limit
    /// allows.
    pub(super) fn farewell(&mut self, len: usize) -> Option<SocketAddr> {
        if self.active.is_some() {
            return self.active;
        }
        // Who has only probed us so far waits for us all the same.
        let used = self.peer_uses.map(|(addr, _)| addr);
        let heard = self.known.iter_mut().filter(|path| used.is_none_or(|used| used == path.addr) && path.received > 0);
        heard.into_iter().find_map(|path| path.spend(len).then_some(path.addr))
    }

    /// An answer of `len` bytes that is owed and allowed.
    pub(super) fn next_response(&mut self, len: usize) -> Option<(SocketAddr, [u8; 8])> {
        self.known.iter_mut().find_map(|path| {
            let token = path.owed.take()?;
            path.spend(len).then_some((path.addr, token))
        })
    }

    /// A challenge of `len` bytes that is due and allowed.
    pub(super) fn next_challenge(&mut self, now: Duration, len: usize) -> Option<(SocketAddr, [u8; 8])> {
        let (tried, peer_uses) = (self.tried(), self.peer_uses);
        let first = if self.chooses { FIRST_INTERVAL } else { FIRST_INTERVAL_EARLY };
        for path in &mut self.known {
            if !path.wants_probe(tried, peer_uses) || path.next_probe.is_none_or(|at| at > now) {
                continue;
            }
            let unprompted = path.received == 0;
            if unprompted && self.next_unprompted > now {
                path.next_probe = Some(self.next_unprompted);
                continue;
            }
            if path.probe(now, len, first) {
                if unprompted {
                    self.next_unprompted = now + PACE;
                }
                let token = self.tokens.next();
                path.challenges.rotate_right(1);
                path.challenges[0] = Some((token, now));
                return Some((path.addr, token));
            }
        }
        None
    }

    /// When the next challenge is due.
    pub(super) fn next_probe_at(&self) -> Option<Duration> {
        let tried = self.tried();
        self.known
            .iter()
            .filter(|path| path.wants_probe(tried, self.peer_uses))
            .filter_map(|path| path.next_probe)
            .min()
    }

    fn tried(&self) -> Tried {
        match self.active {
            None => Tried::All,
            Some(_) if self.is_silent() => Tried::All,
            Some(_) if self.takes_detour() => Tried::Direct,
            Some(_) => Tried::Used,
        }
    }

    fn find(&mut self, addr: SocketAddr) -> Option<&mut Path> {
        self.known.iter_mut().find(|path| path.addr == addr)
    }

    /// Forgets the oldest address that nobody vouches for, if there is no room.
    fn make_room(&mut self) -> bool {
        if self.known.len() < MAX_PATHS {
            return true;
        }
        let used = self.peer_uses.map(|(addr, _)| addr);
        let active = self.active;
        let stale =
            self.known.iter().position(|path| !path.candidate && Some(path.addr) != active && Some(path.addr) != used);
        stale.map(|index| self.known.remove(index)).is_some()
    }
}

impl Path {
    fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            candidate: false,
            detour: false,
            validated: false,
            checking: true,
            received: 0,
            sent: 0,
            probes: 0,
            asked: 0,
            next_probe: None,
            challenges: [None; 8],
            round_trip: None,
            owed: None,
        }
    }

    /// Whether `len` bytes may be sent; if so they are counted.
    fn spend(&mut self, len: usize) -> bool {
        let allowed = self.may_spend(len);
        if allowed {
            self.sent = self.sent.saturating_add(len as u64);
        }
        allowed
    }

    fn may_spend(&self, len: usize) -> bool {
        self.validated || self.sent.saturating_add(len as u64) <= self.received.saturating_mul(AMPLIFICATION)
    }

    /// From now on it is challenged again, `times` of what it may have.
    fn probe_again(&mut self, now: Duration, times: u32) {
        self.checking = true;
        self.next_probe = Some(now);
        self.probes = MAX_PROBES - times;
    }

    /// No more is sent there of its own accord.
    fn is_tired(&self) -> bool {
        self.probes >= MAX_PROBES
    }

    fn wants_probe(&self, tried: Tried, peer_uses: Option<(SocketAddr, u64)>) -> bool {
        let used = || peer_uses.is_some_and(|(addr, _)| addr == self.addr);
        self.checking && (tried == Tried::All || tried == Tried::Direct && !self.detour || used())
    }

    /// Sets the next probe and returns whether this one may be sent.
    fn probe(&mut self, now: Duration, len: usize, first: Duration) -> bool {
        let interval = (first * (1 << self.probes.min(8))).min(LAST_INTERVAL);
        self.probes += 1;
        self.asked = self.asked.saturating_add(1);
        let unprompted = self.candidate && self.probes <= MAX_PROBES && (self.validated || self.asked <= MAX_IN_ALL);
        // In the end there is nothing to wait for but bytes from there, which set the timer anew.
        let last = if self.validated { MAX_PROBES } else { 2 * MAX_PROBES };
        self.next_probe = (self.probes < last).then_some(now + interval);
        unprompted || self.spend(len)
    }
}

/// Which addresses are challenged beside the one that the peer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// No path is chosen, or it is silent.
    All,
    /// A detour is in use.
    Direct,
    /// All is well.
    Used,
}

/// Unpredictable to the peer: it could otherwise claim to live at an address where it cannot hear.
struct Tokens {
    key: [u8; 32],
    count: u64,
}

impl Tokens {
    fn next(&mut self) -> [u8; 8] {
        self.count += 1;
        let hash = blake3::keyed_hash(&self.key, &self.count.to_be_bytes());
        let mut token = [0; 8];
        token.copy_from_slice(&hash.as_bytes()[..8]);
        token
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

/// Challenges to a candidate that never answers, whatever happens: who names an address scans it with our help that often at most.
const MAX_IN_ALL: u32 = 240;
/// Candidates, and addresses that the peer was seen at beside them.
const MAX_PATHS: usize = MAX_CANDIDATES + 8;
const AMPLIFICATION: u64 = 3;
/// Between the first probes of two candidates.
const SPREAD: Duration = Duration::from_millis(10);
/// Between the first probes: the sender of the stream is there earlier than the one who chooses, who may not hear the first.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);
const FIRST_INTERVAL_EARLY: Duration = Duration::from_millis(25);
/// Between two challenges to addresses from which nothing has come.
const PACE: Duration = Duration::from_millis(4);
/// How long the path in use may be silent before all are tried again, and how often. Signs of life come once a second at least.
const SEARCH_AFTER: Duration = Duration::from_millis(2_500);
const SEARCH_AGAIN: Duration = Duration::from_secs(5);
/// Challenges to each address each time.
const SEARCH_PROBES: u32 = 6;
/// While a detour is in use: the pause before the others are challenged, doubled each time up to one that is shorter than routers keep
/// a way open, so that both ends' rounds meet; how often that is done in all, and challenges to each address each time.
const BETTER_AFTER: Duration = Duration::from_secs(2);
const BETTER_SELDOM: Duration = Duration::from_secs(20);
const BETTER_ROUNDS: u32 = 90;
const BETTER_PROBES: u32 = 3;
/// A path that has carried the file for so long is worth looking for anew when it is lost.
const STEADY: Duration = Duration::from_secs(30);
/// Challenges over the path in use belong to its choice for so long after it, and mean trouble for so long later.
const SETTLED: Duration = Duration::from_secs(2);
const SOUGHT: Duration = Duration::from_secs(1);
/// How long the path that was chosen may be silent before we go to where the sender is.
const FOLLOWS: Duration = Duration::from_millis(250);
const LAST_INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
