//! Our address as the server sees it: behind a NAT, the one that peers outside can reach.

use std::net::SocketAddr;
use std::time::Duration;

use crate::net::stun;
use crate::net::udp::is_candidate;

/// Asks the STUN ports of the server while somebody wants to know, and asks again so that a NAT keeps our port open as long.
#[derive(Debug, Default)]
pub(super) struct Reflexive {
    // At most SERVERS_MAX.
    servers: Vec<Server>,
    // Until then somebody wants to know.
    awake: Duration,
}

#[derive(Debug)]
struct Server {
    addr: SocketAddr,
    // The question under way.
    transaction: Option<u128>,
    // Questions since the last answer.
    asked: u32,
    ask_at: Duration,
    seen: Option<SocketAddr>,
    answered: Option<Duration>,
}

impl Reflexive {
    /// From now on asks these, one for each of its addresses, and at once; answers of servers that stay are kept.
    pub(super) fn set_servers(&mut self, now: Duration, addrs: Vec<SocketAddr>) {
        self.awake = now + AWAKE;
        let mut before = std::mem::take(&mut self.servers);
        self.servers = addrs
            .into_iter()
            .filter(|addr| addr.port() != 0)
            .take(SERVERS_MAX)
            .map(|addr| {
                let known = before.iter().position(|server| server.addr == addr).map(|at| before.swap_remove(at));
                let (seen, answered) = known.map(|server| (server.seen, server.answered)).unwrap_or_default();
                Server { addr, transaction: None, asked: 0, ask_at: now, seen, answered }
            })
            .collect();
    }

    /// Somebody wants to know: what is not fresh is asked for now, and kept fresh for a while.
    pub(super) fn wake(&mut self, now: Duration) {
        self.awake = now + AWAKE;
        for server in self.servers.iter_mut().filter(|server| server.asked == 0) {
            if server.answered.is_none_or(|at| now >= at + FRESH) {
                server.ask_at = now;
            }
        }
    }

    /// A question that is due, and where it goes.
    pub(super) fn poll(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        if self.awake <= now {
            return None;
        }
        let server = self.servers.iter_mut().find(|server| server.ask_at <= now)?;
        if server.asked >= TRIES {
            // Whatever we knew may be gone by now.
            server.seen = None;
        }
        let question = stun::request();
        server.transaction = Some(question.transaction);
        server.asked = server.asked.saturating_add(1);
        server.ask_at = now + if server.asked < TRIES { RETRY } else { REFRESH };
        Some((server.addr, question.bytes))
    }

    /// When the next question is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.servers.iter().map(|server| server.ask_at).min().filter(|at| *at < self.awake)
    }

    /// A datagram that is not a channel's. Only the answer to our own question, from where we asked, counts; returns whether it was that.
    pub(super) fn on_datagram(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some(server) = self.servers.iter_mut().find(|server| server.addr == from) else { return false };
        let answer = server.transaction.and_then(|transaction| stun::mapped(datagram, transaction));
        if let Some(seen) = answer {
            server.transaction = None;
            server.asked = 0;
            server.ask_at = now + REFRESH;
            server.seen = Some(seen);
            server.answered = Some(now);
        }
        answer.is_some()
    }

    /// Whether servers were asked, and none has answered several times: there is no way for UDP to any, as it seems.
    pub(super) fn is_in_vain(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| server.asked >= TRIES)
    }

    /// How we look from outside, as far as is known.
    pub(super) fn candidates(&self, loopback: bool) -> impl Iterator<Item = SocketAddr> {
        self.servers.iter().filter_map(|server| server.seen).filter(move |addr| is_candidate(*addr, loopback))
    }
}

/// How old an answer may be that is told to a peer: nearly as old as the answers between which a NAT is known to keep our port.
pub(super) const FRESH: Duration = Duration::from_secs(20);
/// How long after it was wanted an answer is kept fresh: sessions and lines for a slot want it again and again.
pub(super) const AWAKE: Duration = Duration::from_secs(40);
/// A server has an address of each family, seldom more.
const SERVERS_MAX: usize = 4;
const TRIES: u32 = 4;
const RETRY: Duration = Duration::from_millis(500);
/// Shorter than a NAT forgets a silent UDP port (RFC 4787 asks for two minutes; many take thirty seconds).
const REFRESH: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(9);

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_answer_to_our_question_from_the_server_asked_counts() {
        let (server, outside) = (addr("192.0.2.1:3478"), addr("198.51.100.7:4000"));
        let mut reflexive = Reflexive::default();
        reflexive.set_servers(NOW, vec![server]);
        let (to, question) = reflexive.poll(NOW).unwrap();
        assert_eq!((to, reflexive.poll(NOW)), (server, None));
        let answer = stun::answer(&question, outside).unwrap();
        let other = stun::answer(&stun::request().bytes, addr("203.0.113.9:9")).unwrap();
        reflexive.on_datagram(NOW, addr("203.0.113.5:3478"), &answer);
        reflexive.on_datagram(NOW, server, &other);
        reflexive.on_datagram(NOW, server, &[0; 20]);
        assert_eq!(reflexive.candidates(true).count(), 0);
        reflexive.on_datagram(NOW, server, &answer);
        assert_eq!(reflexive.candidates(false).collect::<Vec<_>>(), [outside]);
        assert_eq!(reflexive.deadline(), Some(NOW + REFRESH));
        let lie = stun::answer(&reflexive.poll(NOW + REFRESH).unwrap().1, addr("127.0.0.1:22")).unwrap();
        reflexive.on_datagram(NOW, server, &lie);
        assert_eq!(reflexive.candidates(false).count(), 0);
    }

    #[test]
    fn a_silent_server_is_asked_a_few_times_and_then_seldom_and_forgotten() {
        let (server, outside) = (addr("192.0.2.1:3478"), addr("198.51.100.7:4000"));
        let mut reflexive = Reflexive::default();
        reflexive.set_servers(NOW, vec![server]);
        let (_, question) = reflexive.poll(NOW).unwrap();
        reflexive.on_datagram(NOW, server, &stun::answer(&question, outside).unwrap());
        assert!(!reflexive.is_in_vain());
        let mut now = NOW;
        let mut asked = 0;
        while now < NOW + REFRESH * 4 {
            reflexive.wake(now);
            now = reflexive.deadline().unwrap();
            asked += u32::from(reflexive.poll(now).is_some());
        }
        assert!(asked <= TRIES + 4, "{asked}");
        assert_eq!(reflexive.candidates(true).count(), 0);
    }

    #[test]
    fn nobody_is_asked_while_nobody_wants_to_know_and_at_once_when_somebody_does() {
        let (server, outside) = (addr("192.0.2.1:3478"), addr("198.51.100.7:4000"));
        let mut reflexive = Reflexive::default();
        reflexive.set_servers(NOW, vec![server]);
        let answer = |reflexive: &mut Reflexive, now| {
            let (_, question) = reflexive.poll(now).unwrap();
            assert!(reflexive.on_datagram(now, server, &stun::answer(&question, outside).unwrap()));
        };
        answer(&mut reflexive, NOW);
        let mut asked = 0;
        for n in 1..36_000 {
            asked += usize::from(reflexive.poll(NOW + Duration::from_millis(n * 100)).is_some());
        }
        assert!(asked <= 5 && reflexive.deadline().is_none(), "{asked}");
        let hour = NOW + Duration::from_secs(3_600);
        reflexive.wake(hour);
        answer(&mut reflexive, hour);
        reflexive.wake(hour + FRESH / 2);
        assert_eq!(reflexive.poll(hour + FRESH / 2), None, "that is fresh");
        for n in 1..=10 {
            reflexive.wake(hour + FRESH * n);
            answer(&mut reflexive, hour + FRESH * n);
        }
    }
}
