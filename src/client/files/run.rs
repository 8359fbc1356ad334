//! One running transfer: its channel, its file, and what the core is told of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::downloads::DownloadError;
use super::upload::FileSource;
use super::writer::Writer;
use crate::channel::{
    Batch, ChannelKeys, ClosedBy, Config, ConfigError, Connection, ConnectionIds, Event, Failure, NoSink, NoSource,
    Side as End,
};
use crate::client::effects::{ChannelStart, FilesEvent, LostReason};
use crate::crypto::seal::SealKey;
use crate::net::udp::{canonical, is_candidate};
use crate::wire::datagram::CloseCode;
use crate::wire::id::TransferId;
use crate::wire::packet::ConnectionId;
use crate::wire::text::shown;

/// A channel with the file at our end.
#[derive(Debug)]
pub(super) struct Run {
    transfer: TransferId,
    // What its progress and its end are told of: the download that it is a source of, or itself.
    subject: TransferId,
    connection: Connection,
    batch: Batch,
    side: Side,
    // Bytes of the file.
    size: u64,
    // Segments; what we offer while the disk keeps up.
    window: u32,
    paused: bool,
    started: Duration,
    // The core knows of the path; the core knows the end.
    announced: bool,
    over: bool,
    meter: Meter,
    // Of the newest datagram, before anything is announced.
    heard_from: Option<SocketAddr>,
}

/// Our end of the file.
#[derive(Debug)]
pub(super) enum Side {
    /// We have it.
    Up(FileSource),
    /// It comes; without a writer it was given up.
    Down(Option<Writer>),
}

/// What the engine lends to each new channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) window: u32,
    /// The download, for a source.
    pub(super) subject: TransferId,
    /// The peer may live on this machine.
    pub(super) loopback: bool,
    /// Fresh random bytes.
    pub(super) entropy: [u8; 32],
}

impl Run {
    /// Opens the channel; it tries the peer's candidates at once.
    pub(super) fn new(now: Duration, start: &ChannelStart, side: Side, terms: Terms) -> Result<Self, ConfigError> {
        let config = Config { window: Some(terms.window), ..Config::default() };
        let keys = ChannelKeys { send: seal_key(&start.send), recv: seal_key(&start.receive) };
        let ids =
            ConnectionIds { local: ConnectionId(start.our_connection), remote: ConnectionId(start.peer_connection) };
        let end = if matches!(side, Side::Up(_)) { End::Holder } else { End::Asker };
        let mut connection = Connection::new(config, keys, ids, end, terms.entropy, now)?;
        if end == End::Holder {
            connection.set_stream_end(now, start.size);
        }
        connection.finish_stream(now);
        connection.set_receive_window(now, terms.window);
        for addr in start.peer_candidates.iter().filter(|addr| is_candidate(**addr, terms.loopback)) {
            connection.add_candidate(now, canonical(*addr));
        }
        Ok(Self {
            transfer: start.transfer,
            subject: terms.subject,
            connection,
            batch: Batch::new(1),
            side,
            size: start.size,
            window: terms.window,
            paused: false,
            started: now,
            announced: false,
            over: false,
            meter: Meter::default(),
            heard_from: None,
        })
    }

    /// Whether this is a session, or a source of a download, of that id.
    pub(super) fn is_of(&self, id: TransferId) -> bool {
        self.transfer == id || self.subject == id
    }

    /// The core knows how it ended; only the peer may still have to hear of it.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Nothing is left to do.
    pub(super) fn is_gone(&self) -> bool {
        self.over && self.connection.is_drained()
    }

    /// A datagram with our connection id; it is opened in place.
    pub(super) fn on_datagram(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8]) {
        if !self.announced {
            self.heard_from = Some(from);
        }
        match &mut self.side {
            Side::Down(Some(writer)) => self.connection.handle_datagram(now, from, datagram, false, writer),
            _ => self.connection.handle_datagram(now, from, datagram, false, &mut NoSink),
        }
        self.connection.end_of_batch(now);
    }

    /// Puts the next datagram into `out` and returns where it goes.
    pub(super) fn poll_transmit(&mut self, now: Duration, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let to = match &mut self.side {
            Side::Up(source) => self.connection.poll_transmit(now, source, &mut self.batch),
            Side::Down(_) => self.connection.poll_transmit(now, &mut NoSource, &mut self.batch),
        };
        out.clear();
        out.extend_from_slice(self.batch.bytes());
        to
    }

    /// Acts on passed deadlines.
    pub(super) fn on_time(&mut self, now: Duration) {
        self.connection.handle_timeout(now);
        let Side::Down(Some(writer)) = &self.side else { return };
        if writer.is_congested() != self.paused {
            self.paused = !self.paused;
            self.connection.set_receive_window(now, if self.paused { 0 } else { self.window });
        }
    }

    /// When [`Self::on_time`] wants to be called.
    pub(super) fn deadline(&self, now: Duration) -> Option<Duration> {
        let look_at_disk = self.paused.then_some(now + DISK_INTERVAL);
        self.connection.poll_timeout().into_iter().chain(look_at_disk).min()
    }

    /// Puts what the core should know behind `events`; `progress` says whether that includes progress.
    pub(super) fn report(&mut self, now: Duration, progress: bool, events: &mut VecDeque<FilesEvent>) {
        while let Some(event) = self.connection.poll_event() {
            if let (Event::Finished, false, Some(from)) = (&event, self.announced, self.heard_from) {
                // An empty file is acknowledged before the path is proven to the sender.
                events.extend(self.on_event(now, Event::PathValidated(from)));
            }
            events.extend(self.on_event(now, event));
        }
        let stats = self.connection.stats();
        let bytes = stats.bytes_acked.max(stats.bytes_delivered);
        if progress
            && self.announced
            && !self.over
            && let Some(rate) = self.meter.sample(now, bytes)
        {
            events.push_back(FilesEvent::Progress {
                transfer: self.subject,
                bytes,
                total: self.size,
                rate,
                sources: 1,
            });
        }
    }

    fn on_event(&mut self, now: Duration, event: Event) -> Vec<FilesEvent> {
        match event {
            Event::PathValidated(addr) if !self.announced => {
                self.announced = true;
                vec![FilesEvent::Started { transfer: self.transfer, route: addr.to_string() }]
            }
            Event::Finished => match &mut self.side {
                Side::Up(_) => self.done(now, None),
                Side::Down(writer) => {
                    if let Some(writer) = writer {
                        writer.finish();
                    }
                    Vec::new()
                }
            },
            Event::Closed { by: ClosedBy::Peer, code, reason } => self.failed(reason_of_close(code), shown(&reason)),
            Event::Failed(failure) => self.failed(reason_of_failure(failure), failure.to_string()),
            _ => Vec::new(),
        }
    }

    /// The writer has come to its end.
    pub(super) fn on_written(&mut self, now: Duration, result: Result<PathBuf, DownloadError>) -> Vec<FilesEvent> {
        match result {
            Ok(path) => self.done(now, Some(path.to_string_lossy().into_owned())),
            Err(error) => {
                let reason = match error {
                    DownloadError::Verification => "verification",
                    DownloadError::Disk(_) | DownloadError::NamesTaken => "disk",
                };
                self.connection.close(now, CloseCode::FILE, "the file was not taken");
                self.failed(reason, error.to_string())
            }
        }
    }

    /// The user gives it up. A file that has come whole is kept, and its end told as usual.
    pub(super) fn cancel(&mut self, now: Duration, reason: &str) -> Vec<FilesEvent> {
        if matches!(&self.side, Side::Down(Some(writer)) if writer.is_finishing()) {
            return Vec::new();
        }
        self.connection.close(now, CloseCode::CANCELLED, reason);
        self.failed("cancelled", reason.to_owned())
    }

    fn done(&mut self, now: Duration, path: Option<String>) -> Vec<FilesEvent> {
        if std::mem::replace(&mut self.over, true) {
            return Vec::new();
        }
        let seconds = now.saturating_sub(self.started).as_secs_f64();
        vec![FilesEvent::Done { transfer: self.subject, bytes: self.size, seconds, path }]
    }

    fn failed(&mut self, reason: &str, detail: String) -> Vec<FilesEvent> {
        if let Side::Down(writer) = &mut self.side {
            *writer = None;
        }
        if std::mem::replace(&mut self.over, true) {
            return Vec::new();
        }
        let lost = match reason {
            _ if matches!(self.side, Side::Up(_)) => None,
            "verification" => Some(LostReason::Lied),
            "no_path" => Some(LostReason::NoPath),
            "timeout" => Some(LostReason::Stalled),
            "peer_closed" | "protocol" => Some(LostReason::Left),
            _ => None,
        };
        match lost {
            Some(reason) => {
                let (download, transfer) = (self.subject, self.transfer);
                vec![FilesEvent::SourceLost { download, transfer, reason, detail }, FilesEvent::Starved { download }]
            }
            None => vec![FilesEvent::Failed { transfer: self.subject, reason: reason.to_owned(), detail }],
        }
    }
}

fn reason_of_failure(failure: Failure) -> &'static str {
    match failure {
        Failure::NoPath => "no_path",
        Failure::PathShrunk => "path_shrunk",
        Failure::Silent | Failure::Stalled => "timeout",
        Failure::Source => "disk",
        Failure::Peer(_) | Failure::PacketNumbers => "protocol",
    }
}

fn reason_of_close(code: CloseCode) -> &'static str {
    if code == CloseCode::VIOLATION { "protocol" } else { "peer_closed" }
}

/// The first 32 bytes are the key, the rest the iv.
fn seal_key(bytes: &[u8; 44]) -> SealKey {
    let (mut key, mut iv) = ([0; 32], [0; 12]);
    key.iter_mut().chain(&mut iv).zip(bytes).for_each(|(to, from)| *to = *from);
    SealKey::new(std::mem::take(&mut key), iv)
}

/// The rate over the last second, at most ten times a second.
#[derive(Debug, Default)]
struct Meter {
    // Times and bytes of the last second's samples, oldest first.
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// Bytes a second lately, if it is time to say so and something has moved.
    fn sample(&mut self, now: Duration, bytes: u64) -> Option<u64> {
        if let Some((last, before)) = self.samples.back()
            && (*before == bytes || now.saturating_sub(*last) < PROGRESS_INTERVAL)
        {
            return None;
        }
        while self.samples.len() > 1 && self.samples.front().is_some_and(|(at, _)| *at + RATE_WINDOW < now) {
            self.samples.pop_front();
        }
        let first = self.samples.front().copied();
        self.samples.push_back((now, bytes));
        let (at, before) = first?;
        let micros = now.saturating_sub(at).as_micros().max(1);
        let rate = u128::from(bytes.saturating_sub(before)) * 1_000_000 / micros;
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// While the sender is paused for our disk.
const DISK_INTERVAL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_ten_times_a_second_with_the_rate_of_the_last_one() {
        let mut meter = Meter::default();
        let told: Vec<u64> =
            (0..3_000).filter_map(|ms| meter.sample(Duration::from_millis(ms), (ms + 1) * 1_000)).collect();
        assert!((25..=30).contains(&told.len()), "{}", told.len());
        assert!(told.iter().all(|rate| rate.abs_diff(1_000_000) < 20_000), "{told:?}");
        assert!(meter.sample(Duration::from_secs(9), 3_000_001).is_some());
        assert_eq!(meter.sample(Duration::from_secs(10), 3_000_001), None, "nothing moved");
        assert!(meter.samples.len() <= 12);
    }
}
