//! One request of somebody for a file of ours: how far it is, and how it comes along.

use super::effects::Wanted;
use super::event;
use super::transfers::shown_name;
use super::ways::Way;
use crate::crypto::identity::PublicKey;
use crate::transfer::queue::Claim;
use crate::transfer::restrict::{Item, What};
use crate::wire::id::{OfferId, RoomId, TransferId};
use crate::wire::name::FullName;
use crate::wire::payload::{FileKind, FileRequest};
use std::time::Duration;

/// A request of somebody, from its arrival to the end of its channel.
#[derive(Debug)]
pub(super) struct Upload {
    pub peer: FullName,
    pub key: PublicKey,
    /// The room through which it was found, whose rules hold.
    pub room: Option<RoomId>,
    /// Files and bytes that a quota counts once it begins.
    pub amount: Option<(u64, u64)>,
    pub file: String,
    pub kind: FileKind,
    /// It takes this offer of ours.
    pub offer: Option<OfferId>,
    pub size: Option<u64>,
    pub root: Option<[u8; 32]>,
    pub bytes: u64,
    pub rate: u64,
    pub pace: Pace,
    pub route: Option<String>,
    pub way: Option<Way>,
    pub mode: Option<String>,
    /// Things in the folder that cannot be sent.
    pub left_out: u32,
    pub stage: Stage,
}

/// How it comes along.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since it has its slot.
    pub since: Duration,
    /// Of the newest word of progress.
    heard: Duration,
    /// When the present minute began, and how far it was then.
    minute: (Duration, u64),
    /// Whether it was below the floor in the minute before.
    slow: bool,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The file side looks how much it is.
    Measuring { asked: Box<Opening>, deadline: Duration },
    /// In line for a slot; what the asker was told last, and when it is told again.
    Waiting { asked: Box<Opening>, told: Option<u32>, again: Duration },
    /// The file side opens it, and hashes it where it must; when the asker is told of that again.
    Opening { asked: Box<Opening>, deadline: Duration, again: Duration },
    /// The channel runs.
    Running,
}

/// The request, and the conversation in which it came.
#[derive(Debug)]
pub(super) struct Opening {
    pub group: RoomId,
    pub key: PublicKey,
    pub request: FileRequest,
}

impl Upload {
    /// The asker's key, and the room through which it was found.
    pub const fn whom(&self) -> (PublicKey, Option<RoomId>) {
        (self.key, self.room)
    }

    /// What a quota counts once it begins.
    pub fn promised(&self) -> Option<(What, (u64, u64))> {
        Some((What::new(&self.key, self.root.as_ref()?), self.amount?))
    }

    /// As rules see it.
    pub fn item(&self) -> Item<'_> {
        Item { name: &self.file, folder: self.kind == FileKind::Folder, size: self.size, root: self.root.as_ref() }
    }

    pub fn told(&self, id: &TransferId) -> event::Transfer {
        event::Transfer {
            id: id.to_string(),
            direction: "upload".into(),
            peer: self.peer.to_string(),
            file: shown_name(&self.file, self.kind),
            size: self.size,
            root: self.root.as_ref().map(|root| super::search::hex(root)),
            route: self.route.clone(),
            way: self.way.map(|way| way.word().to_owned()),
            key_agreement: self.mode.clone(),
            left_out: Some(self.left_out).filter(|n| *n > 0),
            offer: self.offer.map(|offer| offer.to_string()),
            ..event::Transfer::default()
        }
    }

    /// It has a slot from now on.
    pub fn begin(&mut self, now: Duration) {
        self.pace = Pace { since: now, heard: now, minute: (now, self.bytes), slow: false };
    }

    /// The peer has so much of it now.
    pub fn delivers(&mut self, now: Duration, bytes: u64, rate: u64, floor: u64) {
        (self.bytes, self.rate, self.pace.heard) = (bytes, rate, now);
        self.look(now, floor);
    }

    /// Bytes a second; it falls off while nothing moves.
    pub fn rate(&self, now: Duration) -> u64 {
        self.rate / now.saturating_sub(self.pace.heard).as_secs().max(1)
    }

    /// Compares each minute with the floor, bytes a second. Of a minute without a byte the time before counts for nothing.
    pub fn look(&mut self, now: Duration, floor: u64) {
        let (began, before) = self.pace.minute;
        let passed = now.saturating_sub(began);
        if passed >= TURN {
            let rate = self.bytes.saturating_sub(before) / passed.as_secs().max(1);
            (self.pace.slow, self.pace.minute) = (rate < floor, (now, self.bytes));
        }
        self.pace.slow |= floor > 0 && now.saturating_sub(self.pace.heard) >= TURN;
    }

    /// When its slot is to go on to somebody with this claim, or it is looked at again.
    pub fn turn_ends(&self, claim: Claim) -> Option<Duration> {
        let next = self.pace.minute.0 + TURN;
        let ends = match claim {
            Claim::Second => next.min(self.pace.since + TURN),
            Claim::First => next,
        };
        matches!(self.stage, Stage::Running).then_some(ends)
    }

    /// Whether it gives way to somebody with this claim.
    pub fn gives_way(&self, now: Duration, claim: Claim) -> bool {
        self.pace.slow || claim == Claim::Second && now >= self.pace.since + TURN
    }

    pub const fn next_timeout(&self) -> Option<Duration> {
        match self.stage {
            Stage::Measuring { deadline, .. } | Stage::Opening { deadline, .. } => Some(deadline),
            Stage::Waiting { again, .. } => Some(again),
            Stage::Running => None,
        }
    }

    /// What it does now, and its place in the line.
    pub const fn state(&self) -> (&'static str, Option<u32>) {
        match self.stage {
            Stage::Waiting { told, .. } => ("queued", told),
            Stage::Running if self.route.is_some() => ("running", None),
            Stage::Measuring { .. } | Stage::Opening { .. } | Stage::Running => ("preparing", None),
        }
    }

    /// Only in line: no reason to stay for.
    pub const fn waits(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. })
    }

    pub fn wanted(&self, request: &FileRequest, rooms: Vec<RoomId>) -> Wanted {
        let root = request.root.as_ref().map(|root| **root);
        Wanted { file: self.file.clone(), kind: self.kind, root, offer: self.offer, rooms }
    }
}

/// How long a slot is had at least while others wait, and the time over which the floor counts.
const TURN: Duration = Duration::from_secs(60);
