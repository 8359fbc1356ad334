//! One upload: asks in, a file's bytes out.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::content::{Body, Content, Costly};
use super::meter::Meter;
use super::reading::{OpenItems, UploadSource};
use super::session::{Terms, Way, WayNews, config_of, reason_of_close, reason_of_failure};
use super::tunnel::{News, Tunnel};
use super::wire::Incoming;
use crate::channel::{Batch, ConfigError, Failure, Side, StreamSink};
use crate::client::effects::{ChannelStart, FilesEvent};
use crate::transfer::exchange::{Answers, Catalog, Here, Item, Violation};
use crate::transfer::ranges::RangeSet;
use crate::wire::datagram::CloseCode;
use crate::wire::id::TransferId;
use crate::wire::name::Name;
use crate::wire::text::shown;

/// A session with one asker.
#[derive(Debug)]
pub(super) struct Upload {
    transfer: TransferId,
    tunnel: Tunnel,
    way: Way,
    answers: Answers,
    content: Arc<Content>,
    open: OpenItems,
    // An item that was found to be another when it was asked for.
    changed: Cell<Option<u32>>,
    // What was told of a part, and when, and how often.
    words: u32,
    told: Option<(RangeSet, Duration)>,
    violation: Option<Violation>,
    started: Duration,
    // The core knows of the path; the core knows the end.
    announced: bool,
    over: bool,
    meter: Meter,
    // For the core, at the next occasion.
    ended: Option<FilesEvent>,
}

impl Upload {
    /// Opens the channel; it tries the peer's candidates at once.
    pub(super) fn new(
        now: Duration,
        start: ChannelStart,
        content: Arc<Content>,
        terms: Terms,
    ) -> Result<Self, ConfigError> {
        let (transfer, config) = (start.transfer, config_of(&start, terms));
        let tunnel = Tunnel::new(now, start, Side::Holder, config, terms)?;
        let all = content.all_items();
        let mut upload = Self {
            transfer,
            tunnel,
            way: Way::default(),
            answers: Answers::new(all, LEAD),
            content,
            open: OpenItems::default(),
            changed: Cell::default(),
            words: 0,
            told: None,
            violation: None,
            started: now,
            announced: false,
            over: false,
            meter: Meter::default(),
            ended: None,
        };
        upload.tell_part(now);
        upload.advance(now);
        Ok(upload)
    }

    pub(super) fn transfer(&self) -> TransferId {
        self.transfer
    }

    /// The peer may be reached over a server too.
    pub(super) fn add_relay(&mut self, now: Duration, addr: SocketAddr, server: Name) {
        self.way.may_be_relayed(server);
        self.tunnel.add_detour(now, addr);
    }

    /// From now on that way leads somewhere: without another one it is tried at once.
    pub(super) fn relay_opened(&mut self, now: Duration, addr: SocketAddr) {
        if !self.way.is_found() {
            self.tunnel.add_detour(now, addr);
        }
    }

    /// Whether it would have use for a leg at a server.
    pub(super) fn keeps_leg(&self, now: Duration) -> bool {
        !self.way.spares_relay(now)
    }

    pub(super) fn is_ours(&self, id: &[u8; 8]) -> bool {
        self.tunnel.is_ours(id)
    }

    /// The round trip, once it is known.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.tunnel.stats().round_trip
    }

    /// Its window is so small and its path so short that it waits for each ack.
    pub(super) fn is_hasty(&self) -> bool {
        !self.over && self.tunnel.is_hasty()
    }

    /// Nothing is left to do or to tell.
    pub(super) fn is_gone(&self) -> bool {
        self.over && self.ended.is_none() && self.tunnel.is_drained()
    }

    /// When [`Self::on_time`] and [`Self::poll_transmit`] want to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let ended = self.ended.is_some().then_some(Duration::ZERO);
        let told = self
            .told
            .as_ref()
            .filter(|_| !self.over && !self.knows_all())
            .map(|(_, at)| *at + tell_interval(self.words));
        let way = self.way.due().filter(|_| !self.over);
        self.tunnel.poll_timeout().into_iter().chain(ended).chain(told).chain(way).min()
    }

    pub(super) fn on_datagram(&mut self, now: Duration, datagram: Incoming<'_>) {
        let Incoming { id, from, bytes, ce, linked } = datagram;
        self.way.came(from, linked);
        let mut asks = Asks { answers: &mut self.answers, violation: &mut self.violation };
        self.tunnel.handle_datagram(now, &id, from, bytes, ce, &mut asks);
    }

    pub(super) fn poll_transmit(&mut self, now: Duration, batch: &mut Batch) -> Option<SocketAddr> {
        let mut source = UploadSource { answers: &self.answers, content: &self.content, open: &mut self.open };
        self.tunnel.poll_transmit(now, &mut source, batch)
    }

    /// An item that the next bytes wait for, to be opened away from here; and whether nobody waits for it any more.
    pub(super) fn wants_opened(&mut self) -> Option<(u32, Arc<AtomicBool>, Arc<Content>)> {
        let (item, gone) = self.open.wanted()?;
        Some((item, gone, Arc::clone(&self.content)))
    }

    /// It was opened, or cannot be.
    pub(super) fn opened(&mut self, item: u32, result: io::Result<Costly>) {
        self.open.opened(item, result);
    }

    /// Everything that had come was taken: answers it, and tells the core.
    pub(super) fn on_time(&mut self, now: Duration, tell: &mut dyn FnMut(FilesEvent)) {
        self.tunnel.end_of_batch(now);
        self.tunnel.handle_timeout(now);
        while let Some(news) = self.tunnel.poll_news(now) {
            if let Some(event) = self.on_news(now, news) {
                tell(event);
            }
        }
        if !self.over {
            while let Some(news) = self.way.news(now, self.tunnel.is_silent()) {
                tell(self.on_way(news));
            }
            self.tell_part(now);
            self.advance(now);
            let bytes = self.tunnel.acked().min(self.content.total);
            if self.announced
                && let Some(rate) = self.meter.sample(now, bytes)
            {
                let total = self.content.total;
                tell(FilesEvent::Progress { transfer: self.transfer, bytes, total, rate, sources: 1 });
            }
        }
        if let Some(event) = self.ended.take() {
            tell(event);
        }
    }

    /// The user gives it up, or leaves, as `code` tells the peer.
    pub(super) fn cancel(&mut self, now: Duration, code: CloseCode, reason: &str) {
        if !self.over {
            self.tunnel.close(now, code, reason);
            self.ended = self.failed("cancelled", reason.to_owned());
        }
    }

    /// Lays out more of our stream.
    fn advance(&mut self, now: Duration) {
        self.answers.forget(self.tunnel.acked());
        let part = self.told.as_ref().map(|(have, _)| have);
        let shelf = Shelf { content: &self.content, part, changed: &self.changed };
        let laid = match self.violation.take() {
            Some(violation) => Err(violation),
            None => self.answers.charge(self.open.spent()).and_then(|()| self.answers.advance(&shelf)),
        };
        match laid {
            Ok(end) => {
                self.tunnel.set_stream_end(now, end);
                if self.answers.is_finished() {
                    self.tunnel.finish_stream(now);
                }
            }
            Err(violation) => {
                self.tunnel.close(now, CloseCode::VIOLATION, "the asks make no sense");
                self.ended = self.failed("protocol", violation.to_string());
            }
        }
    }

    /// Of a part, says what is here: at first and when it has grown, ever more seldom, as the peer takes only so many words.
    fn tell_part(&mut self, now: Duration) {
        let Body::Part(part) = &self.content.body else { return };
        let due = match &self.told {
            None => true,
            Some((_, at)) => now.saturating_sub(*at) >= tell_interval(self.words) && !self.knows_all(),
        };
        if due {
            let have = part.have();
            if self.told.as_ref().is_none_or(|(told, _)| *told != have) {
                self.answers.announce(&have);
                self.words += 1;
            }
            self.told = Some((have, now));
        }
    }

    /// The peer was told that everything is here.
    fn knows_all(&self) -> bool {
        let Body::Part(part) = &self.content.body else { return true };
        let groups = part.groups();
        self.told.as_ref().is_some_and(|(told, _)| told.contains(&(0..groups)))
    }

    fn on_news(&mut self, now: Duration, news: News) -> Option<FilesEvent> {
        match news {
            News::Path(addr) => {
                // Told at once: what comes next may be its end.
                self.way.leads_to(now, addr);
                self.way.news(now, false).map(|news| self.on_way(news))
            }
            News::PeerFinished => {
                self.violation = self.answers.finish().err();
                None
            }
            News::Finished => self.done(now),
            News::Closed(CloseCode::DONE, _) => self.done(now),
            News::Closed(CloseCode::FILE, _) if self.changed.get().is_some() => {
                let (reason, detail) = self.content.failure(self.changed.get().unwrap_or(0));
                self.failed(reason, detail)
            }
            News::Closed(code, reason) => self.failed(reason_of_close(code), shown(&reason)),
            News::Failed(Failure::Source) => {
                let (reason, detail) = self.content.failure(self.open.changed.unwrap_or(0));
                self.failed(reason, detail)
            }
            News::Failed(failure) => self.failed(reason_of_failure(failure), failure.to_string()),
            News::KeyAgreement => self.failed("key_agreement", "the hand-over of keys failed".into()),
        }
    }

    fn on_way(&mut self, news: WayNews) -> FilesEvent {
        let transfer = self.transfer;
        match news {
            WayNews::Silent => FilesEvent::Silent { transfer },
            WayNews::Route(route) if std::mem::replace(&mut self.announced, true) => {
                FilesEvent::Rerouted { transfer, route }
            }
            WayNews::Route(route) => FilesEvent::Started { transfer, route },
        }
    }

    fn done(&mut self, now: Duration) -> Option<FilesEvent> {
        if std::mem::replace(&mut self.over, true) {
            return None;
        }
        let seconds = now.saturating_sub(self.started).as_secs_f64();
        let bytes = self.tunnel.acked().min(self.content.total);
        Some(FilesEvent::Done { transfer: self.transfer, bytes, seconds, path: None })
    }

    fn failed(&mut self, reason: &str, detail: String) -> Option<FilesEvent> {
        if std::mem::replace(&mut self.over, true) {
            return None;
        }
        Some(FilesEvent::Failed { transfer: self.transfer, reason: reason.to_owned(), detail })
    }
}

/// Takes the asker's stream.
struct Asks<'a> {
    answers: &'a mut Answers,
    violation: &'a mut Option<Violation>,
}

impl StreamSink for Asks<'_> {
    fn deliver(&mut self, _offset: u64, bytes: &[u8]) {
        if self.violation.is_none() {
            *self.violation = self.answers.push(bytes).err();
        }
    }
}

/// What is here, item by item.
struct Shelf<'a> {
    content: &'a Content,
    part: Option<&'a RangeSet>,
    changed: &'a Cell<Option<u32>>,
}

impl Catalog for Shelf<'_> {
    fn item(&self, item: u32) -> Option<Item<'_>> {
        let geometry = self.content.geometry(item)?;
        let here = match self.part {
            Some(ranges) => match self.content.base(item) {
                Some(base) => Here::Part { ranges, base },
                None => Here::Whole,
            },
            None if self.content.is_unchanged(item) => Here::Whole,
            None => {
                self.changed.set(Some(item));
                Here::Changed
            }
        };
        Some(Item { geometry, here })
    }
}

/// How far answers are laid out beyond what is acknowledged, bytes: what is under way at 10 Gbit/s over 200 ms.
const LEAD: u64 = 256 << 20;
/// How often the holder of a part says that it has more.
const TELL_INTERVAL: Duration = Duration::from_millis(250);

/// How long after so many words the next one may follow.
fn tell_interval(words: u32) -> Duration {
    TELL_INTERVAL * (1 + words / 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelKeys, Config, Connection, ConnectionIds, Event, StreamSource};
    use crate::client::effects::{Congestion, Reach};
    use crate::client::files::hashing::Trees;
    use crate::client::files::stamp::Stamp;
    use crate::crypto::seal::SealKey;
    use crate::limits::HAVES_MAX;
    use crate::transfer::exchange::Ask;
    use crate::wire::id::Id;
    use crate::wire::name::FullName;
    use crate::wire::packet::ConnectionId;
    use crate::wire::payload::{Arq, FileKind};
    use cap_std::ambient_authority;
    use cap_std::fs::Dir;
    use std::fs;
    use tempfile::TempDir;
    use zeroize::Zeroizing;

    const MIB: u64 = 1 << 20;
    const NOW: Duration = Duration::from_secs(100);
    const STALL: Duration = Duration::from_secs(120);
    const TERMS: Terms =
        Terms { loopback: true, congestion: Congestion::Bbr, reach: Reach::Any, receive_buffer: 1 << 20 };

    fn addr(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    /// A file of a MiB, or a folder with that file in it, and where it is.
    fn content(folder: bool) -> (Arc<Content>, TempDir) {
        let place = TempDir::new().unwrap();
        let dir = place.path().join("dir");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("a"), vec![7; 1 << 20]).unwrap();
        let trees = Arc::new(Trees::new(place.path()));
        let made = if folder {
            let dir = Dir::open_ambient_dir(dir, ambient_authority()).unwrap();
            Content::of_folder(dir, &trees, &mut |_, _| true)
        } else {
            let file = fs::File::open(dir.join("a")).unwrap();
            let stamp = Stamp::of_std(&file.metadata().unwrap());
            Content::of_file(file, stamp, &trees, &mut |_| true)
        };
        (Arc::new(made.unwrap()), place)
    }

    fn upload(content: &Arc<Content>) -> Upload {
        let name = Name::parse("mallory").unwrap();
        let start = ChannelStart {
            transfer: Id([1; 16]),
            peer: FullName::new(name.clone(), name),
            send: Zeroizing::new([1; 44]),
            receive: Zeroizing::new([2; 44]),
            our_connection: [1; 8],
            peer_connection: [2; 8],
            peer_candidates: Vec::new(),
            kind: FileKind::File,
            size: content.size,
            root: content.root,
            partial: false,
            arq: Arq::Auto,
            window: None,
            max_datagram: 1_452,
            mode: String::new(),
            handover: None,
        };
        Upload::new(NOW, start, Arc::clone(content), TERMS).unwrap()
    }

    /// An asker that gives nothing up by itself.
    fn asker() -> Connection {
        let key = |which: u8| SealKey::new([which; 32], [which; 12]);
        let config = Config { stall_timeout: STALL * 1_000, max_datagram: 1_452, ..Config::default() };
        let ids = ConnectionIds { local: ConnectionId([2; 8]), remote: ConnectionId([1; 8]) };
        let keys = ChannelKeys { send: key(2), recv: key(1) };
        let mut asker = Connection::new(config, keys, ids, Side::Asker, [9; 32], NOW).unwrap();
        asker.add_candidate(NOW, addr(1));
        asker
    }

    /// One pass of both: what is under way arrives, what is due is done.
    fn pass(now: Duration, upload: &mut Upload, asker: &mut Connection, mut asks: &[u8], told: &mut Vec<FilesEvent>) {
        let (mut batch, mut got) = (Batch::new(16), Vec::new());
        for _ in 0..8 {
            asker.handle_timeout(now);
            while asker.poll_transmit(now, &mut asks as &mut dyn StreamSource, &mut batch).is_some() {
                for bytes in batch.datagrams_mut() {
                    upload.on_datagram(now, Incoming { id: [1; 8], from: addr(2), bytes, ce: false, linked: false });
                }
            }
            upload.on_time(now, &mut |event| told.push(event));
            while upload.poll_transmit(now, &mut batch).is_some() {
                batch.datagrams_mut().for_each(|bytes| asker.handle_datagram(now, addr(1), bytes, false, &mut got));
            }
            asker.end_of_batch(now);
        }
    }

    #[test]
    fn who_asks_for_nothing_or_takes_nothing_is_given_up_though_it_gives_signs_of_life() {
        let mut asks = Vec::new();
        Ask::Want { item: 0, first: 0, count: 16 }.encode(&mut asks);
        // Nothing; the file without a window for it; the same, and its own stream has ended.
        for (takes, ends) in [(None, false), (Some(0), false), (Some(0), true), (Some(3), false)] {
            let (content, _place) = content(false);
            let (mut upload, mut asker, mut told) = (upload(&content), asker(), Vec::new());
            let mut asked = false;
            let ended = (0..2_000).map(|n| NOW + Duration::from_millis(100) * n).find(|now| {
                if let Some(window) = takes.filter(|_| asker.path().is_some() && !asked) {
                    asked = true;
                    asker.set_receive_window(*now, window);
                    asker.set_stream_end(*now, asks.len() as u64);
                    if ends {
                        asker.finish_stream(*now);
                    }
                }
                pass(*now, &mut upload, &mut asker, &asks, &mut told);
                upload.over
            });
            let ended = ended.expect("given up") - NOW;
            assert!((STALL..STALL + Duration::from_secs(20)).contains(&ended), "{takes:?} {ended:?}");
            let stands_still = |detail: &str| detail.contains("stands still");
            assert!(
                matches!(told.last(), Some(FilesEvent::Failed { reason, detail, .. }) if reason == "timeout" && stands_still(detail)),
                "{told:?}"
            );
            let events: Vec<_> = std::iter::from_fn(|| asker.poll_event()).collect();
            assert!(
                matches!(events.last(), Some(Event::Closed { code: CloseCode::GONE, reason, .. }) if stands_still(reason)),
                "{events:?}"
            );
            assert_eq!(upload.tunnel.acked() >= MIB, takes == Some(3), "{takes:?}");
        }
    }

    #[test]
    fn four_times_what_there_is_may_be_asked_for_and_64_mib() {
        // A folder's list of files is asked for beside these.
        for (folder, item, most) in [(false, 0, 68), (true, 1, 68)] {
            let (content, _place) = content(folder);
            let mut upload = upload(&content);
            let mut asks = Vec::new();
            Ask::Want { item, first: 0, count: 16 }.encode(&mut asks);
            for n in 1..=most + 1 {
                upload.answers.push(&asks).unwrap();
                upload.advance(NOW);
                assert_eq!(upload.over, n > most, "{n}");
            }
            assert!(matches!(&upload.ended, Some(FilesEvent::Failed { reason, .. }) if reason == "protocol"));
        }
    }

    #[test]
    fn the_peer_takes_all_that_is_said_of_a_part_in_a_day() {
        let time: Duration = (0..HAVES_MAX).map(tell_interval).sum();
        assert!(time > Duration::from_secs(24 * 60 * 60), "{time:?}");
        assert_eq!(tell_interval(15), TELL_INTERVAL, "the first are quick");
    }
}
