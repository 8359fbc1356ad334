//! What kind of router stands before us: several servers are asked, from one port, how it looks from there (RFC 5780 §4.3).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::stun;
use super::udp::canonical;

/// What one server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where it was asked.
    pub server: SocketAddr,
    /// Our address as it looks from there, and after how long it was known; `None` where no answer came.
    pub seen: Option<(SocketAddr, Duration)>,
}

/// How our datagrams of one address family leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No server answers: UDP does not get out, or back in.
    Blocked,
    /// Nobody changes our address.
    Open,
    /// A router gives us one port, whomever we speak to.
    SamePort,
    /// A router gives us another port for each we speak to.
    PortForEach,
    /// A router changes our address; one answer does not tell how.
    Translated,
}

impl Kind {
    /// The stable word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Open => "open",
            Self::SamePort => "same_port",
            Self::PortForEach => "port_for_each",
            Self::Translated => "translated",
        }
    }
}

/// Asks each of `servers`, all of one address family, from one new port, and waits for [`WAIT`] at most. Gives that port's number and
/// what they said, in their order.
pub fn ask(servers: &[SocketAddr]) -> io::Result<(u16, Vec<Answer>)> {
    let any = match servers.first() {
        Some(SocketAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    let port = socket.local_addr()?.port();
    let mut asked: Vec<_> =
        servers.iter().map(|server| (stun::request(), Answer { server: *server, seen: None })).collect();
    let (began, mut sent) = (Instant::now(), 0);
    let mut buffer = [0; stun::REQUEST_MAX];
    while began.elapsed() < WAIT && asked.iter().any(|(_, answer)| answer.seen.is_none()) {
        if began.elapsed() >= AGAIN * sent {
            for (question, answer) in asked.iter().filter(|(_, answer)| answer.seen.is_none()) {
                // A network that refuses it is like one that loses it.
                let _ = socket.send_to(&question.bytes, answer.server);
            }
            sent += 1;
        }
        let next = (AGAIN * sent).min(WAIT).saturating_sub(began.elapsed()).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(next))?;
        // An error concerns something that we sent, or is the timeout.
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        let datagram = buffer.get(..len).unwrap_or_default();
        for (question, answer) in asked.iter_mut().filter(|(_, answer)| answer.server == canonical(from)) {
            let seen = stun::mapped(datagram, question.transaction).map(|seen| (seen, began.elapsed()));
            answer.seen = answer.seen.or(seen);
        }
    }
    Ok((port, asked.into_iter().map(|(_, answer)| answer).collect()))
}

/// What follows from the answers to questions that left from `port` of a host with these addresses.
pub fn judge(own: &[IpAddr], port: u16, answers: &[Answer]) -> Kind {
    let seen: BTreeSet<SocketAddr> = answers.iter().filter_map(|answer| answer.seen.map(|(seen, _)| seen)).collect();
    let heard = answers.iter().filter(|answer| answer.seen.is_some()).count();
    let unchanged = |seen: &SocketAddr| seen.port() == port && own.contains(&seen.ip());
    match (seen.len(), heard) {
        (0, _) => Kind::Blocked,
        _ if seen.iter().all(unchanged) => Kind::Open,
        (1, 1) => Kind::Translated,
        (1, _) => Kind::SamePort,
        _ => Kind::PortForEach,
    }
}

/// How long answers are waited for.
pub const WAIT: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(seen: &[&str]) -> Vec<Answer> {
        let seen = seen.iter().map(|text| text.parse().ok().map(|seen| (seen, Duration::ZERO)));
        seen.map(|seen| Answer { server: "192.0.2.1:7443".parse().unwrap(), seen }).collect()
    }

    #[test]
    fn the_kind_of_router_follows_from_what_servers_see() {
        let own = ["10.0.0.2".parse().unwrap(), "198.51.100.7".parse().unwrap()];
        for (seen, kind) in [
            (&["-", "-"][..], Kind::Blocked),
            (&[], Kind::Blocked),
            (&["198.51.100.7:500"], Kind::Open),
            (&["198.51.100.7:501", "198.51.100.7:501"], Kind::SamePort),
            (&["203.0.113.9:500", "203.0.113.9:500"], Kind::SamePort),
            (&["203.0.113.9:500", "203.0.113.9:777"], Kind::PortForEach),
            (&["203.0.113.9:500", "203.0.113.8:500"], Kind::PortForEach),
            (&["203.0.113.9:500", "-"], Kind::Translated),
        ] {
            assert_eq!(judge(&own, 500, &answers(seen)), kind, "{seen:?}");
        }
    }

    #[test]
    fn who_answers_is_heard_and_who_does_not_is_waited_for_in_vain() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = [server.local_addr().unwrap(), silent.local_addr().unwrap()];
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; stun::REQUEST_MAX];
            let (len, from) = server.recv_from(&mut buffer).unwrap();
            // From somebody else, and to something else: neither counts.
            silent.send_to(&stun::answer(&buffer[..len], "203.0.113.1:1".parse().unwrap()).unwrap(), from).unwrap();
            server.send_to(&stun::answer(&stun::request().bytes, from).unwrap(), from).unwrap();
            server.send_to(&stun::answer(&buffer[..len], from).unwrap(), from).unwrap();
            silent
        });
        let (port, said) = ask(&at).unwrap();
        drop(answering.join().unwrap());
        assert_eq!(said[0].seen.map(|(seen, _)| seen), Some(SocketAddr::from(([127, 0, 0, 1], port))));
        assert_eq!(said[1].seen, None);
        assert_eq!(judge(&["127.0.0.1".parse().unwrap()], port, &said), Kind::Open);
    }
}
