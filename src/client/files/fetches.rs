//! The thread that receives: every download, with one session for each of its sources.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::downloads::Downloads;
use super::engine::{Internal, Relayed};
use super::fetch::Fetch;
use super::lane::Lane;
use super::legs::Ticket;
use super::mailbox::Address;
use super::part::Part;
use super::rates::Bucket;
use super::session::{Terms, patience};
use super::supply::Supply;
use super::wire::{Incoming, Wire};
use super::writer::{Expected, Report};
use crate::client::effects::{ChannelStart, FilesEvent, LostReason};
use crate::limits::{FILE_SIZE_MAX, MANIFEST_MAX};
use crate::transfer::tree::Root;
use crate::wire::id::TransferId;
use crate::wire::payload::FileKind;

/// What the receiving thread is told.
#[derive(Debug)]
pub(super) enum FetchLetter {
    /// Run the channel of a source.
    Start { channel: Box<ChannelStart>, download: TransferId, expected: Box<Expected>, downloads: Downloads },
    /// End a source.
    Drop(TransferId, String),
    /// Give a download up; what is there may stay.
    Cancel { download: TransferId, reason: String, keep: bool },
    /// Bytes a second for all together.
    Rate(Option<u64>),
    /// The server's addresses.
    Servers(Vec<SocketAddr>),
    /// They are to be asked how we look from there, unless that is known.
    LookOutside,
    /// A session may run over a server, if it is one of ours.
    Relay(Ticket),
    /// Datagrams have come over the link, if they are for a leg of ours.
    Relayed(Relayed),
    /// Peers may be on this machine.
    Loopback,
    /// The writing thread of a fetch, by its number, has something to say.
    Report(u64, Report),
    /// Nobody listens any more.
    Leave,
}

/// What is being fetched, for who serves parts of it.
pub(super) type Parts = Arc<Mutex<HashMap<Root, Arc<Part>>>>;

/// All downloads.
#[derive(Debug)]
pub(super) struct Fetches {
    // Several of one download are rivals: their sources say different sizes, and none has proven its own.
    fetches: Vec<Fetch>,
    next_number: u64,
    // Downloads of which the core knows the end, latest last: who comes too late for one is not begun with.
    ended: VecDeque<TransferId>,
    // How many are served to others while they come.
    serving: usize,
    // Whose turn it is to ask first, while the rate is limited.
    turn: usize,
    bucket: Bucket,
    terms: Terms,
    parts: Parts,
    events: UnboundedSender<Internal>,
    // To ourselves, for writing threads.
    address: Address<FetchLetter>,
}

impl Fetches {
    pub(super) fn new(
        events: UnboundedSender<Internal>,
        parts: Parts,
        address: Address<FetchLetter>,
        terms: Terms,
        bucket: Bucket,
    ) -> Self {
        let (fetches, ended) = Default::default();
        Self { fetches, next_number: 0, ended, serving: 0, turn: 0, bucket, terms, parts, events, address }
    }

    fn start(
        &mut self,
        now: Duration,
        channel: ChannelStart,
        download: TransferId,
        expected: Expected,
        downloads: Downloads,
    ) -> Result<(), String> {
        let ours = || self.fetches.iter().filter(|fetch| fetch.download() == download);
        if self.ended.contains(&download) || ours().any(Fetch::has_ended) {
            return Ok(());
        }
        let lied = |transfer| {
            let (reason, detail) = (LostReason::Lied, FALSE_SIZE.to_owned());
            Internal::Event(FilesEvent::SourceLost { download, transfer, reason, detail })
        };
        let most = if expected.kind == FileKind::File { FILE_SIZE_MAX } else { MANIFEST_MAX as u64 };
        if expected.size > most {
            let _ = self.events.send(lied(channel.transfer));
            return Ok(());
        }
        if expected.root != channel.root || ours().any(|fetch| *fetch.root() != channel.root) {
            return Err("this source has something else".into());
        }
        let fits = |fetch: &Fetch| fetch.download() == download && !fetch.is_over() && fetch.expects(&expected);
        let at = match self.fetches.iter().position(fits) {
            Some(at) => at,
            None if ours().any(Fetch::is_proven) => {
                let _ = self.events.send(lied(channel.transfer));
                return Ok(());
            }
            None if ours().count() >= RIVALS_MAX => return Err("too many say different sizes of it".into()),
            None => {
                let (number, address) = (self.next_number, self.address.clone());
                self.next_number += 1;
                let tell = move |report| address.send(FetchLetter::Report(number, report));
                let fetch = Fetch::new(now, (download, number), expected, downloads, tell)
                    .map_err(|error| error.to_string())?;
                self.fetches.push(fetch);
                self.fetches.len() - 1
            }
        };
        let fetch = self.fetches.get_mut(at).ok_or_else(String::new)?;
        let number = fetch.number();
        let supply = Supply::new(now, channel, number, self.terms).map_err(|error| error.to_string())?;
        fetch.add(now, supply);
        self.compare(now);
        Ok(())
    }

    /// Which of them are rivals. Once one has proven its size, the others are over, and their sources have lied. One without
    /// sources gives way to those that have some.
    fn compare(&mut self, now: Duration) {
        let several = |fetch: &Fetch| self.fetches.iter().filter(|f| f.download() == fetch.download()).count() > 1;
        let crowded: Vec<_> = self.fetches.iter().filter(|f| several(f)).map(Fetch::download).collect();
        if crowded.is_empty() {
            return self.fetches.iter_mut().for_each(|fetch| fetch.set_rival(false, false));
        }
        let proven: Vec<_> = self.fetches.iter().filter(|f| f.is_proven()).map(|f| (f.download(), f.shape())).collect();
        let unproven = |fetch: &&mut Fetch| !fetch.is_over() && !fetch.is_proven();
        for fetch in self.fetches.iter_mut().filter(unproven) {
            match proven.iter().find(|(download, _)| *download == fetch.download()) {
                // The other one found the list here, whatever its sources had said.
                Some((_, shape)) if *shape == fetch.shape() => fetch.give_way(now),
                Some(_) => fetch.abandon(now, FALSE_SIZE),
                None => {}
            }
        }
        for download in crowded {
            let ours = |fetch: &&mut Fetch| fetch.download() == download && !fetch.is_over();
            let alive = self.fetches.iter_mut().filter(ours).any(|fetch| !fetch.is_dead());
            let dead = self.fetches.iter_mut().filter(ours).filter(|fetch| fetch.is_dead());
            dead.skip(usize::from(!alive)).for_each(Fetch::retire);
            let rivals: Vec<_> = self.fetches.iter_mut().filter(ours).map(|f| (f.bytes(), f.serial())).collect();
            let leads = rivals.iter().max().map(|(_, serial)| *serial);
            for fetch in self.fetches.iter_mut().filter(ours) {
                fetch.set_rival(rivals.len() > 1, leads == Some(fetch.serial()));
            }
        }
    }

    /// Tells who serves parts what there is.
    fn share(&self) {
        let parts = self.fetches.iter().filter_map(|fetch| Some((*fetch.root(), fetch.part()?)));
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = parts.collect();
    }
}

impl Lane for Fetches {
    type Letter = FetchLetter;

    fn on_letter(&mut self, now: Duration, wire: &mut Wire, letter: FetchLetter) -> ControlFlow<()> {
        match letter {
            FetchLetter::Start { channel, download, expected, downloads } => {
                let transfer = channel.transfer;
                if let Err(detail) = self.start(now, *channel, download, *expected, downloads) {
                    let reason = "disk".to_owned();
                    let _ = self.events.send(Internal::Event(FilesEvent::Failed { transfer, reason, detail }));
                }
            }
            FetchLetter::Drop(transfer, reason) => {
                self.fetches.iter_mut().for_each(|fetch| fetch.drop_source(now, transfer, &reason));
            }
            FetchLetter::Cancel { download, reason, keep } => {
                let fetches = self.fetches.iter_mut().filter(|fetch| fetch.download() == download);
                fetches.for_each(|fetch| fetch.cancel(now, &reason, keep));
            }
            FetchLetter::Rate(rate) => self.bucket.set_rate(rate, now),
            FetchLetter::Servers(servers) => wire.set_servers(now, servers),
            FetchLetter::LookOutside => wire.look_outside(now),
            FetchLetter::Relay(ticket) => {
                let mut supplies = self.fetches.iter_mut().flat_map(Fetch::supplies);
                if let Some(supply) = supplies.find(|supply| supply.transfer() == ticket.transfer) {
                    let server = ticket.server.clone();
                    supply.add_relay(now, wire.add_leg(now, ticket), server);
                }
            }
            FetchLetter::Relayed(relayed) => {
                wire.came_by_link(&relayed.0, |datagram| self.on_datagram(now, datagram));
            }
            FetchLetter::Loopback => self.terms.loopback = true,
            FetchLetter::Report(number, report) => {
                // What one does may depend on whether there are others.
                self.compare(now);
                let fetch = self.fetches.iter_mut().find(|fetch| fetch.serial() == number);
                if let Some(fetch) = fetch {
                    fetch.on_report(now, report);
                }
            }
            FetchLetter::Leave => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn on_datagram(&mut self, now: Duration, datagram: Incoming<'_>) {
        for fetch in &mut self.fetches {
            if let Some(at) = fetch.find(&datagram.id) {
                return fetch.on_datagram(now, at, datagram);
            }
        }
    }

    fn on_time(&mut self, now: Duration) {
        self.compare(now);
        let events = &self.events;
        let (count, first) = (self.fetches.len(), self.turn);
        for at in (0..count).map(|n| first.wrapping_add(n) % count) {
            let Some(fetch) = self.fetches.get_mut(at) else { continue };
            let room = self.bucket.room(now);
            fetch.set_alone(count == 1);
            fetch.on_time(now, &mut self.bucket, &mut |event| drop(events.send(Internal::Event(event))));
            if self.bucket.room(now) < room {
                // Whoever took of the rate is last the next time.
                self.turn = at + 1;
            }
        }
        let before = self.fetches.len();
        for gone in self.fetches.iter().filter(|fetch| fetch.is_gone() && fetch.has_ended()) {
            if self.ended.len() >= ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(gone.download());
        }
        self.fetches.retain(|fetch| !fetch.is_gone());
        let serving = self.fetches.iter().filter(|fetch| fetch.part().is_some()).count();
        if self.fetches.len() != before || self.serving != serving {
            self.serving = serving;
            self.share();
        }
    }

    fn transmit(&mut self, now: Duration, wire: &mut Wire) -> bool {
        if self.fetches.iter().any(|fetch| fetch.live_supplies().next().is_some()) {
            wire.look_outside(now);
        }
        let fetches = &mut self.fetches;
        while let Some((transfer, addr)) = wire.take_opened() {
            let theirs = fetches.iter_mut().flat_map(Fetch::supplies).filter(|supply| supply.transfer() == transfer);
            theirs.for_each(|supply| supply.relay_opened(now, addr));
        }
        wire.keep_legs(|transfer| {
            fetches.iter_mut().flat_map(Fetch::supplies).any(|s| s.transfer() == transfer && s.keeps_leg(now))
        });
        for supply in self.fetches.iter_mut().flat_map(Fetch::supplies) {
            // Asks and acks are few.
            while !wire.is_blocked() && wire.send(now, |batch| supply.poll_transmit(now, batch)) > 0 {}
        }
        false
    }

    fn deadline(&self, now: Duration) -> Option<Duration> {
        self.fetches.iter().filter_map(|fetch| fetch.deadline(now, &self.bucket)).min()
    }

    fn patience(&self) -> Duration {
        let supplies = self.fetches.iter().flat_map(Fetch::live_supplies);
        supplies.map(|supply| patience(supply.round_trip())).min().unwrap_or_default()
    }

    fn is_hasty(&self) -> bool {
        self.fetches.iter().flat_map(Fetch::live_supplies).any(Supply::is_hasty)
    }

    fn leave(&mut self, now: Duration) {
        self.fetches.iter_mut().for_each(|fetch| fetch.cancel(now, "the client leaves", true));
    }

    fn is_empty(&self) -> bool {
        self.fetches.is_empty()
    }
}

/// What a source is told to have done.
const FALSE_SIZE: &str = "it says another size than the root has";
/// Different sizes that sources of one download may say before one is proven.
const RIVALS_MAX: usize = 8;
/// Downloads whose end is remembered: more do not end within the moment in which a source may still come.
const ENDED_MAX: usize = 256;
