//! The thread that sends: one session for each peer that fetches something from us.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::content::{Content, Costly};
use super::engine::{Internal, Relayed};
use super::lane::Lane;
use super::legs::Ticket;
use super::rates::Bucket;
use super::session::{Terms, patience};
use super::upload::Upload;
use super::wire::{Incoming, Wire};
use crate::client::effects::{ChannelStart, FilesEvent};
use crate::wire::datagram::CloseCode;
use crate::wire::id::TransferId;

/// What the sending thread is told.
#[derive(Debug)]
pub(super) enum UploadLetter {
    /// Run this channel.
    Start(Box<ChannelStart>, Arc<Content>),
    /// Give it up.
    Cancel(TransferId, CloseCode, String),
    /// Bytes a second for all together.
    Rate(Option<u64>),
    /// The server's addresses.
    Servers(Vec<SocketAddr>),
    /// They are to be asked how we look from there, unless that is known.
    LookOutside,
    /// A session may run over a server, if it is one of ours.
    Relay(Ticket),
    /// An item of a session's folder was opened, or cannot be.
    Opened(TransferId, u32, io::Result<Costly>),
    /// Datagrams have come over the link, if they are for a leg of ours.
    Relayed(Relayed),
    /// Peers may be on this machine.
    Loopback,
    /// Nobody listens any more.
    Leave,
}

/// All uploads.
#[derive(Debug)]
pub(super) struct Uploads {
    sessions: Vec<Upload>,
    // Whose turn it is to send first.
    turn: usize,
    bucket: Bucket,
    // The rate alone kept somebody from sending.
    held: bool,
    terms: Terms,
    events: UnboundedSender<Internal>,
}

impl Uploads {
    pub(super) fn new(events: UnboundedSender<Internal>, terms: Terms, bucket: Bucket) -> Self {
        Self { sessions: Vec::new(), turn: 0, bucket, held: false, terms, events }
    }

    fn tell(&self, event: FilesEvent) {
        // Nobody listens only when everything ends.
        let _ = self.events.send(Internal::Event(event));
    }
}

impl Lane for Uploads {
    type Letter = UploadLetter;

    fn on_letter(&mut self, now: Duration, wire: &mut Wire, letter: UploadLetter) -> ControlFlow<()> {
        match letter {
            UploadLetter::Start(start, content) => {
                let transfer = start.transfer;
                match Upload::new(now, *start, content, self.terms) {
                    Ok(upload) => self.sessions.push(upload),
                    Err(error) => {
                        self.tell(FilesEvent::Failed { transfer, reason: "protocol".into(), detail: error.to_string() })
                    }
                }
            }
            UploadLetter::Cancel(transfer, code, reason) => {
                for upload in self.sessions.iter_mut().filter(|upload| upload.transfer() == transfer) {
                    upload.cancel(now, code, &reason);
                }
            }
            UploadLetter::Rate(rate) => self.bucket.set_rate(rate, now),
            UploadLetter::Servers(servers) => wire.set_servers(now, servers),
            UploadLetter::LookOutside => wire.look_outside(now),
            UploadLetter::Relay(ticket) => {
                let upload = self.sessions.iter_mut().find(|upload| upload.transfer() == ticket.transfer);
                if let Some(upload) = upload {
                    let server = ticket.server.clone();
                    upload.add_relay(now, wire.add_leg(now, ticket), server);
                }
            }
            UploadLetter::Opened(transfer, item, result) => {
                if let Some(upload) = self.sessions.iter_mut().find(|upload| upload.transfer() == transfer) {
                    upload.opened(item, result);
                }
            }
            UploadLetter::Relayed(relayed) => {
                wire.came_by_link(&relayed.0, |datagram| self.on_datagram(now, datagram));
            }
            UploadLetter::Loopback => self.terms.loopback = true,
            UploadLetter::Leave => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn on_datagram(&mut self, now: Duration, datagram: Incoming<'_>) {
        if let Some(upload) = self.sessions.iter_mut().find(|upload| upload.is_ours(&datagram.id)) {
            upload.on_datagram(now, datagram);
        }
    }

    fn on_time(&mut self, now: Duration) {
        let events = &self.events;
        for upload in &mut self.sessions {
            upload.on_time(now, &mut |event| drop(events.send(Internal::Event(event))));
        }
        self.sessions.retain(|upload| !upload.is_gone());
    }

    fn transmit(&mut self, now: Duration, wire: &mut Wire) -> bool {
        while let Some((transfer, addr)) = wire.take_opened() {
            let theirs = self.sessions.iter_mut().filter(|upload| upload.transfer() == transfer);
            theirs.for_each(|upload| upload.relay_opened(now, addr));
        }
        wire.keep_legs(|transfer| self.sessions.iter().any(|u| u.transfer() == transfer && u.keeps_leg(now)));
        if !self.sessions.is_empty() {
            wire.look_outside(now);
        }
        let mut more = false;
        self.held = false;
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn % self.sessions.len().max(1);
        let (later, first) = self.sessions.split_at_mut(turn);
        for upload in first.iter_mut().chain(later) {
            for sent in 0.. {
                self.held = !self.bucket.is_open(now);
                if wire.is_blocked() || self.held {
                    return false;
                }
                if sent == BATCHES {
                    more = true;
                    break;
                }
                let bytes = wire.send(now, |batch| upload.poll_transmit(now, batch));
                if let Some((item, gone, content)) = upload.wants_opened() {
                    let _ = self.events.send(Internal::Open(upload.transfer(), item, gone, content));
                }
                if bytes == 0 {
                    break;
                }
                self.bucket.take(bytes as u64);
            }
        }
        more
    }

    fn deadline(&self, now: Duration) -> Option<Duration> {
        let due = self.sessions.iter().filter_map(|upload| upload.deadline()).min()?;
        // What is due cannot leave before there is room again; what is ready then has no other deadline.
        let opens = self.bucket.opens_at(now, 1);
        Some(if self.held { opens.unwrap_or(now) } else { opens.map_or(due, |opens| due.max(opens)) })
    }

    fn patience(&self) -> Duration {
        self.sessions.iter().map(|upload| patience(upload.round_trip())).min().unwrap_or_default()
    }

    fn is_hasty(&self) -> bool {
        self.sessions.iter().any(Upload::is_hasty)
    }

    fn leave(&mut self, now: Duration) {
        self.bucket.set_rate(None, now);
        self.sessions.iter_mut().for_each(|upload| upload.cancel(now, CloseCode::GONE, "the client leaves"));
    }

    fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

/// Batches of one session in a row, before acks are read and others have their turn.
const BATCHES: usize = 4;
