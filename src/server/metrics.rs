//! What a server counts, and the HTTP responder that tells it to Prometheus.
//!
//! The text format is a few lines of formatting and one kind of request is answered, so neither an exporter nor an HTTP stack is
//! brought in for it.

use super::forwarding::ForwardingCounts;
use crate::mesh::run::{MeshHandle, MeshReport};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How many there are of what, at this moment, and how many refusals there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Clients that are logged in, those of other servers included.
    pub clients: u64,
    /// Of them those that come through other servers of the mesh.
    pub guests: u64,
    /// Sessions of our clients at other servers.
    pub away: u64,
    /// Frames of other servers that made no sense.
    pub ignored: u64,
    /// Public and private rooms.
    pub rooms: u64,
    /// Direct conversations.
    pub directs: u64,
    /// Requests and logins that were refused since the start.
    pub refused: u64,
}

/// Counted since the start; whoever counts shares it.
#[derive(Debug, Default)]
pub struct Metrics {
    clients: AtomicU64,
    guests: AtomicU64,
    away: AtomicU64,
    ignored: AtomicU64,
    rooms: AtomicU64,
    directs: AtomicU64,
    refused: AtomicU64,
    relay_legs: AtomicU64,
    relay_bytes: AtomicU64,
    relay_limited: AtomicU64,
    relay_refused: AtomicU64,
    relay_tickets: AtomicU64,
    relay_paired: AtomicU64,
    relay_carried: [AtomicU64; 2],
    stun: AtomicU64,
    /// Frames handed over to clients.
    pub deliveries: AtomicU64,
    /// Connections of clients that were turned away, or broken off before their login.
    pub turned_away: AtomicU64,
}

impl Metrics {
    /// What the core says now.
    pub fn set(&self, gauges: Gauges) {
        let Gauges { clients, guests, away, ignored, rooms, directs, refused } = gauges;
        self.clients.store(clients, Ordering::Relaxed);
        self.guests.store(guests, Ordering::Relaxed);
        self.away.store(away, Ordering::Relaxed);
        self.ignored.store(ignored, Ordering::Relaxed);
        self.rooms.store(rooms, Ordering::Relaxed);
        self.directs.store(directs, Ordering::Relaxed);
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// What of files' datagrams was passed on so far.
    pub fn relayed(&self, counts: ForwardingCounts) {
        let ForwardingCounts { legs, bytes, limited, refused, tickets, paired, carried, stun } = counts;
        self.relay_legs.store(legs, Ordering::Relaxed);
        self.relay_bytes.store(bytes, Ordering::Relaxed);
        self.relay_limited.store(limited, Ordering::Relaxed);
        self.relay_refused.store(refused, Ordering::Relaxed);
        self.relay_tickets.store(tickets, Ordering::Relaxed);
        self.relay_paired.store(paired, Ordering::Relaxed);
        self.relay_carried.iter().zip(carried).for_each(|(to, count)| to.store(count, Ordering::Relaxed));
        self.stun.store(stun, Ordering::Relaxed);
    }

    /// Clients that are logged in.
    pub fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }

    /// All of it by name; what ends in `_total` only grows.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let all = [
            ("clients", &self.clients),
            ("guests", &self.guests),
            ("away_sessions", &self.away),
            ("relay_ignored_total", &self.ignored),
            ("relayed_file_legs", &self.relay_legs),
            ("relayed_file_bytes_total", &self.relay_bytes),
            ("relayed_file_limited_bytes_total", &self.relay_limited),
            ("relayed_file_refused_total", &self.relay_refused),
            ("relayed_file_tickets_total", &self.relay_tickets),
            ("relayed_file_paired_total", &self.relay_paired),
            ("relayed_file_carried_udp_total", &self.relay_carried[0]),
            ("relayed_file_carried_link_total", &self.relay_carried[1]),
            ("stun_answers_total", &self.stun),
            ("rooms", &self.rooms),
            ("directs", &self.directs),
            ("deliveries_total", &self.deliveries),
            ("refusals_total", &self.refused),
            ("connections_refused_total", &self.turned_away),
        ];
        all.into_iter().map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed))).collect()
    }

    /// All of it in the text format of Prometheus, version 0.0.4.
    pub fn text(&self, mesh: Option<&MeshReport>) -> String {
        let mut out = Exposition(String::new());
        let of = |value: &AtomicU64| value.load(Ordering::Relaxed);
        out.one("secchat_clients", "gauge", "Clients that are logged in.", of(&self.clients));
        out.one("secchat_guests", "gauge", "Of those, people who are connected to other servers.", of(&self.guests));
        out.one("secchat_away_sessions", "gauge", "Sessions of clients at other servers.", of(&self.away));
        let help = "Frames of other servers that were for nobody here, or none.";
        out.one("secchat_relay_ignored_total", "counter", help, of(&self.ignored));
        out.one("secchat_rooms", "gauge", "Public and private rooms.", of(&self.rooms));
        out.one("secchat_directs", "gauge", "Direct conversations.", of(&self.directs));
        out.one("secchat_deliveries_total", "counter", "Frames handed over to clients.", of(&self.deliveries));
        out.one("secchat_refusals_total", "counter", "Requests and logins refused.", of(&self.refused));
        out.one("secchat_relayed_file_legs", "gauge", "Legs of files that pass through.", of(&self.relay_legs));
        let help = "Bytes of files' sealed datagrams passed on.";
        out.one("secchat_relayed_file_bytes_total", "counter", help, of(&self.relay_bytes));
        let help = "Bytes of them dropped for a limit on rate or amount.";
        out.one("secchat_relayed_file_limited_bytes_total", "counter", help, of(&self.relay_limited));
        let help = "Datagrams of no leg, from elsewhere than its address, or with a false bind.";
        out.one("secchat_relayed_file_refused_total", "counter", help, of(&self.relay_refused));
        let help = "Legs given out to sessions that found no direct way, or want none.";
        out.one("secchat_relayed_file_tickets_total", "counter", help, of(&self.relay_tickets));
        let help = "Legs whose other side came too.";
        out.one("secchat_relayed_file_paired_total", "counter", help, of(&self.relay_paired));
        let head = (
            "secchat_relayed_file_carried_total",
            "counter",
            "Legs that something was passed on of, by where it first came from.",
        );
        let [udp, link] = &self.relay_carried;
        out.many(head, "over", [("udp", of(udp)), ("link", of(link))].into_iter());
        let help = "Questions after one's own address (STUN) answered.";
        out.one("secchat_stun_answers_total", "counter", help, of(&self.stun));
        let help = "Connections of clients turned away, or broken off before their login.";
        out.one("secchat_connections_refused_total", "counter", help, of(&self.turned_away));
        if let Some(report) = mesh {
            out.mesh(report);
        }
        out.0
    }
}

struct Exposition(String);

impl Exposition {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    /// Values of one name, each with one label. Labels are names of servers and words of ours: nothing in them needs an escape.
    fn many<V: Display, L: Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        label: &str,
        values: impl Iterator<Item = (L, V)>,
    ) {
        self.head(name, kind, help);
        for (of, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
        }
    }

    fn mesh(&mut self, report: &MeshReport) {
        let (links, counts) = (&report.links, &report.counts);
        self.one("secchat_mesh_links", "gauge", "Links with neighbours.", links.len());
        let reachable = report.nodes.iter().filter(|node| node.info.reachable).count();
        self.one("secchat_mesh_servers", "gauge", "Other servers that are reachable.", reachable);
        let round_trips = links.iter().filter_map(|link| Some((&link.name, link.round_trip?.as_secs_f64())));
        let head = ("secchat_mesh_link_round_trip_seconds", "gauge", "The last ping of a neighbour.");
        self.many(head, "peer", round_trips);
        let head = ("secchat_mesh_link_waiting_bytes", "gauge", "What waits for a neighbour.");
        self.many(head, "peer", links.iter().map(|link| (&link.name, link.control_bytes + link.bulk_bytes)));
        let head = ("secchat_mesh_link_sent_bytes_total", "counter", "Sent to a neighbour, before TLS.");
        self.many(head, "peer", links.iter().map(|link| (&link.name, link.sent_bytes)));
        let head = ("secchat_mesh_link_received_bytes_total", "counter", "Received from a neighbour, after TLS.");
        self.many(head, "peer", links.iter().map(|link| (&link.name, link.received_bytes)));
        let head =
            ("secchat_mesh_link_parcels_dropped_total", "counter", "Batches of relayed datagrams that found no room.");
        self.many(head, "peer", links.iter().map(|link| (&link.name, link.parcels_dropped)));
        let messages = [
            ("sent", counts.sent),
            ("delivered", counts.delivered),
            ("repeated", counts.repeated),
            ("duplicate", counts.duplicates),
            ("forwarded", counts.forwarded),
            ("dropped", counts.dropped),
            ("refused", counts.refused),
            ("forged", counts.forged),
            ("parcels_sent", counts.parcels_sent),
            ("parcels", counts.parcels),
            ("parcels_again", counts.parcels_again),
        ];
        let head = ("secchat_mesh_messages_total", "counter", "Messages between servers, by what became of them.");
        self.many(head, "what", messages.into_iter());
        let head = ("secchat_mesh_refusals_total", "counter", "Connections and links of servers refused or cut.");
        self.many(head, "reason", report.refusals.iter().copied());
        self.one(
            "secchat_mesh_records_refused_total",
            "counter",
            "Link-state records refused.",
            counts.records_refused,
        );
    }
}

/// Answers `GET /metrics` until it is dropped; a few at a time, each within a deadline.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, mesh: Option<MeshHandle>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Who finds no place waits in the listener's queue.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, _)) => {
                let (metrics, mesh) = (metrics.clone(), mesh.clone());
                tokio::spawn(async move {
                    // Nobody is there to be told that a scrape failed, but the one who made it.
                    let _ = timeout(DEADLINE, answer(tcp, &metrics, mesh.as_ref())).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut tcp: TcpStream, metrics: &Metrics, mesh: Option<&MeshHandle>) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_MAX || tcp.read_buf(&mut request).await? == 0 {
            return respond(&mut tcp, "400 Bad Request", "").await;
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics" | b"/")) => {
            let report = match mesh {
                Some(mesh) => mesh.report().await.ok(),
                None => None,
            };
            respond(&mut tcp, "200 OK", &metrics.text(report.as_ref())).await
        }
        (Some(b"GET"), _) => respond(&mut tcp, "404 Not Found", "metrics are at /metrics\n").await,
        _ => respond(&mut tcp, "405 Method Not Allowed", "").await,
    }
}

async fn respond(tcp: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let (kind, length) = ("text/plain; version=0.0.4; charset=utf-8", body.len());
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    tcp.write_all(head.as_bytes()).await?;
    tcp.write_all(body.as_bytes()).await?;
    tcp.shutdown().await
}

/// Where metrics are served: a port of loopback, or the address that was told.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = |_| "write a port, which is then served on loopback, or ADDR:PORT".to_owned();
    match text.trim_start_matches(':').parse::<u16>() {
        Ok(port) => Ok((std::net::Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => text.parse().map_err(wrong),
    }
}

const REQUEST_MAX: usize = 4096;
const CONNECTIONS: usize = 8;
const DEADLINE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::default());
        metrics.set(Gauges { clients: 3, rooms: 2, directs: 1, refused: 7, ..Gauges::default() });
        metrics.deliveries.fetch_add(5, Ordering::Relaxed);
        let serving = tokio::spawn(serve(listener, metrics, None));
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(request).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(20), tcp.read_to_string(&mut answer)).await.unwrap().unwrap();
        serving.abort();
        answer
    }

    #[tokio::test]
    async fn a_scrape_gets_the_numbers_and_anything_else_a_short_answer() {
        let answer = ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let numbers =
            ["secchat_clients 3\n", "secchat_rooms 2\n", "secchat_deliveries_total 5\n", "secchat_refusals_total 7\n"];
        for line in numbers {
            assert!(answer.contains(line), "{line} in {answer}");
        }
        assert!(ask(b"GET /etc/passwd HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(ask(b"POST /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405"));
        assert!(ask(&[b'a'; 6000]).await.starts_with("HTTP/1.1 400"));
        assert!(ask(b"GET /metr").await.starts_with("HTTP/1.1 400"));
    }

    #[test]
    fn a_port_alone_is_served_on_loopback() {
        assert_eq!(parse_address("9090"), Ok("127.0.0.1:9090".parse().unwrap()));
        assert_eq!(parse_address(":9090"), Ok("127.0.0.1:9090".parse().unwrap()));
        assert_eq!(parse_address("0.0.0.0:1"), Ok("0.0.0.0:1".parse().unwrap()));
        assert!(parse_address("localhost").is_err());
    }
}
