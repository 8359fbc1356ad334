//! The peer's addresses: candidates that are probed, validation by challenge and response, the choice of one, and the
//! limit on what an unproven address is sent (RFC 9000 §8).

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Candidate addresses that a connection takes.
pub const MAX_CANDIDATES: usize = 16;
/// Challenges sent to one candidate that never answers, each 1,200 bytes; a few more whenever the path that was found falls silent.
/// All else that an unproven address is sent stays within three times the bytes that came from it.
pub const MAX_PROBES: u32 = 24;

#[derive(Debug)]
pub(super) struct Paths {
    // At most MAX_PATHS, addresses distinct.
    known: Vec<Path>,
    // Where the file travels; always validated.
    active: Option<SocketAddr>,
    // When something came from there last, or it was chosen.
    active_heard: Duration,
    // While it is silent: when all are asked once more.
    search: Option<Duration>,
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
    validated: bool,
    // A challenge is not answered yet.
    checking: bool,
    // Bytes; count only while the path is not validated.
    received: u64,
    sent: u64,
    probes: u32,
    next_probe: Option<Duration>,
    // The challenges sent last and when, newest first: enough for a round trip of four seconds.
    challenges: [Option<([u8; 8], Duration)>; 8],
    // A challenge of the peer that is not answered yet.
    owed: Option<[u8; 8]>,
}

impl Paths {
    pub(super) fn new(chooses: bool, entropy: [u8; 32]) -> Self {
        Self {
            known: Vec::new(),
            active: None,
            active_heard: Duration::ZERO,
            search: None,
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
        true
    }

    /// An authentic datagram of `len` bytes came from `addr`.
    pub(super) fn on_received(&mut self, now: Duration, addr: SocketAddr, len: usize) {
        if self.active == Some(addr) {
            self.active_heard = now;
            self.search = None;
            return;
        }
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
    pub(super) fn on_traffic(&mut self, now: Duration, addr: SocketAddr, number: u64) -> bool {
        if self.peer_uses.is_some_and(|(_, newest)| newest >= number) {
            return false;
        }
        let moved = self.peer_uses.is_none_or(|(before, _)| before != addr);
        self.peer_uses = Some((addr, number));
        if self.active == Some(addr) || self.leads(now) || !(moved || self.chooses) {
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

    /// The peer asks for an answer at `addr`. Only its newest challenge there is answered.
    pub(super) fn on_challenge(&mut self, addr: SocketAddr, token: [u8; 8]) {
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
        path.validated = true;
        path.checking = false;
        path.next_probe = None;
        let addr = path.addr;
        let leads = self.leads(now);
        let wanted = match self.peer_uses {
            Some((used, _)) => used == addr && !leads,
            None => self.chooses,
        };
        // The first that answers, at the beginning and where the one before has gone silent.
        let first = self.chooses && (self.active.is_none() || self.search.is_some());
        let changed = (wanted || first) && self.active != Some(addr);
        if changed {
            self.choose(now, addr);
        }
        Some((now.saturating_sub(left), changed))
    }

    /// When the path in use has been silent for so long that all are tried again.
    pub(super) fn search_at(&self) -> Option<Duration> {
        self.active.map(|_| self.search.unwrap_or(self.active_heard + SEARCH_AFTER))
    }

    /// The path in use is silent: every address that we know is challenged anew, so that ways through routers open again, and who
    /// chooses takes the first that answers.
    pub(super) fn search(&mut self, now: Duration) {
        if self.search_at().is_none_or(|at| at > now) {
            return;
        }
        self.search = Some(now + SEARCH_AGAIN);
        for path in &mut self.known {
            path.checking = true;
            path.next_probe = Some(now);
            // The last few of what it may have.
            path.probes = MAX_PROBES - SEARCH_PROBES;
        }
    }

    fn choose(&mut self, now: Duration, addr: SocketAddr) {
        self.active = Some(addr);
        self.active_heard = now;
        self.search = None;
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
        let (all, peer_uses) = (self.tries_all(), self.peer_uses);
        let first = if self.chooses { FIRST_INTERVAL } else { FIRST_INTERVAL_EARLY };
        for path in &mut self.known {
            if !path.wants_probe(all, peer_uses) || path.next_probe.is_none_or(|at| at > now) {
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
        let all = self.tries_all();
        self.known.iter().filter(|path| path.wants_probe(all, self.peer_uses)).filter_map(|path| path.next_probe).min()
    }

    fn tries_all(&self) -> bool {
        self.active.is_none() || self.search.is_some()
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
            validated: false,
            checking: true,
            received: 0,
            sent: 0,
            probes: 0,
            next_probe: None,
            challenges: [None; 8],
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

    /// Until a path is chosen and while it is silent every address is probed, else only the one that the peer uses.
    fn wants_probe(&self, all: bool, peer_uses: Option<(SocketAddr, u64)>) -> bool {
        let used = peer_uses.is_some_and(|(addr, _)| addr == self.addr);
        self.checking && (used || all)
    }

    /// Sets the next probe and returns whether this one may be sent.
    fn probe(&mut self, now: Duration, len: usize, first: Duration) -> bool {
        let interval = (first * (1 << self.probes.min(8))).min(LAST_INTERVAL);
        self.probes += 1;
        let unprompted = self.candidate && self.probes <= MAX_PROBES;
        // In the end there is nothing to wait for but bytes from there, which set the timer anew.
        self.next_probe = (self.probes < 2 * MAX_PROBES).then_some(now + interval);
        unprompted || self.spend(len)
    }
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
/// How long the path that was chosen may be silent before we go to where the sender is.
const FOLLOWS: Duration = Duration::from_millis(250);
const LAST_INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn addr(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn strangers_by_the_thousand_take_no_more_memory_and_push_no_candidate_out() {
        let mut paths = Paths::new(true, [1; 32]);
        let taken = (1..100).filter(|port| paths.add_candidate(NOW, addr(*port))).count();
        assert_eq!(taken, MAX_CANDIDATES);
        paths.on_received(NOW, addr(500), 1200);
        paths.on_traffic(NOW, addr(500), 1);
        for port in 1000..5000 {
            paths.on_received(NOW, addr(port), 1200);
        }
        assert!(paths.known.len() <= MAX_PATHS);
        assert_eq!(paths.known.iter().filter(|path| path.candidate).count(), MAX_CANDIDATES);
        assert!(paths.find(addr(500)).is_some(), "the address in use stays");
    }

    #[test]
    fn only_a_true_answer_validates_and_only_once() {
        let mut paths = Paths::new(true, [1; 32]);
        paths.add_candidate(NOW, addr(1));
        let (to, token) = paths.next_challenge(NOW, 1200).unwrap();
        assert_eq!(to, addr(1));
        assert_eq!(paths.next_challenge(NOW, 1200), None);
        let mut wrong = token;
        wrong[7] ^= 1;
        assert_eq!(paths.on_response(NOW, wrong), None);
        assert_eq!(paths.active(), None);
        let later = NOW + Duration::from_millis(30);
        assert_eq!(paths.on_response(later, token), Some((Duration::from_millis(30), true)));
        assert_eq!(paths.on_response(later, token), None);
        assert_eq!(paths.active(), Some(addr(1)));
        assert_eq!(paths.next_probe_at(), None);
    }

    #[test]
    fn the_sender_waits_for_the_receivers_choice() {
        let mut paths = Paths::new(false, [1; 32]);
        let mut tokens = Vec::new();
        for port in [1, 2] {
            paths.add_candidate(NOW, addr(port));
            tokens.extend(paths.next_challenge(NOW + SPREAD * u32::from(port), 1200));
        }
        for (_, token) in tokens {
            assert_eq!(paths.on_response(NOW, token).map(|(_, changed)| changed), Some(false));
        }
        assert!(paths.on_traffic(NOW, addr(2), 7));
        assert_eq!(paths.active(), Some(addr(2)));
        assert!(!paths.on_traffic(NOW, addr(1), 6), "an older packet moves nothing");
        assert_eq!(paths.active(), Some(addr(2)));
    }

    #[test]
    fn who_challenges_the_asker_is_told_something_early_within_the_limit() {
        for chooses in [true, false] {
            let mut paths = Paths::new(chooses, [1; 32]);
            paths.on_received(NOW, addr(1), 1_200);
            assert_eq!(paths.promising(1_200), None, "it has not asked for anything");
            paths.on_challenge(addr(1), [7; 8]);
            let mut sent = 0;
            while let Some(to) = paths.promising(1_200) {
                assert_eq!(to, addr(1));
                paths.spend(to, 1_200);
                sent += 1_200;
            }
            assert_eq!(sent, if chooses { 3 * 1_200 } else { 0 });
            assert_eq!(paths.active(), None);
        }
    }

    #[test]
    fn who_chose_a_path_leaves_it_only_when_it_is_silent() {
        let mut paths = Paths::new(true, [1; 32]);
        let (chosen, other) = (addr(1), addr(2));
        paths.add_candidate(NOW, chosen);
        paths.add_candidate(NOW, other);
        let challenges = [NOW, NOW + SPREAD].map(|at| paths.next_challenge(at, 1_200).unwrap());
        assert_eq!(challenges.map(|(to, _)| to), [chosen, other]);
        // The sender does not know yet that the first to answer was chosen.
        paths.on_traffic(NOW, other, 1);
        let changes = challenges.map(|(_, token)| paths.on_response(NOW + SPREAD, token).unwrap().1);
        assert_eq!((changes, paths.active()), ([true, false], Some(chosen)));
        assert!(!paths.on_traffic(NOW + SPREAD, other, 2));
        paths.on_received(NOW + FOLLOWS, chosen, 1_200);
        assert!(!paths.on_traffic(NOW + FOLLOWS * 2 - SPREAD, other, 3));
        assert!(paths.on_traffic(NOW + FOLLOWS * 2, other, 4), "it has gone there for good");
        assert_eq!(paths.active(), Some(other));
    }

    #[test]
    fn a_path_that_falls_silent_is_looked_for_at_every_address_and_the_first_that_answers_is_taken() {
        let mut paths = Paths::new(true, [1; 32]);
        let (chosen, other) = (addr(1), addr(2));
        paths.add_candidate(NOW, chosen);
        paths.add_candidate(NOW, other);
        let (_, token) = paths.next_challenge(NOW, 1_200).unwrap();
        assert_eq!(paths.on_response(NOW, token), Some((Duration::ZERO, true)));
        paths.search(NOW + SEARCH_AFTER / 2);
        assert_eq!(paths.next_challenge(NOW + SEARCH_AFTER / 2, 1_200), None, "it may yet speak");
        let later = paths.search_at().unwrap();
        paths.search(later);
        let (to, _) = paths.next_challenge(later, 1_200).unwrap();
        let (next, token) = paths.next_challenge(later + PACE, 1_200).unwrap();
        assert_eq!([to, next], [chosen, other]);
        assert!(paths.on_response(later + PACE, token).unwrap().1);
        assert_eq!(paths.active(), Some(other));
        assert_eq!(paths.next_challenge(later + PACE * 2, 1_200), None);
    }

    #[test]
    fn who_follows_opens_its_way_but_does_not_choose() {
        let mut paths = Paths::new(false, [1; 32]);
        paths.add_candidate(NOW, addr(1));
        paths.add_candidate(NOW, addr(2));
        let (_, token) = paths.next_challenge(NOW, 1_200).unwrap();
        paths.on_response(NOW, token);
        assert!(paths.on_traffic(NOW, addr(1), 1));
        let later = paths.search_at().unwrap();
        paths.search(later);
        let (mut now, mut sent) = (later, 0);
        while now < later + SEARCH_AGAIN {
            let Some((to, token)) = paths.next_challenge(now, 1_200) else {
                now += PACE;
                continue;
            };
            sent += 1;
            if to == addr(2) {
                assert!(!paths.on_response(now, token).unwrap().1);
            }
        }
        assert!(sent <= 2 * SEARCH_PROBES, "{sent}");
        assert_eq!(paths.active(), Some(addr(1)));
        assert!(paths.on_traffic(now, addr(2), 2), "it goes where the peer is");
    }

    #[test]
    fn challenges_cannot_be_foretold_from_each_other() {
        let (mut ours, mut other) = (Tokens { key: [1; 32], count: 0 }, Tokens { key: [2; 32], count: 0 });
        assert_ne!(ours.next(), other.next());
        assert_ne!(ours.next(), ours.next());
    }
}
