//! The frames between neighbours.
//!
//! ```text
//! records  1, then for each: age u32 (milliseconds), length u16, record
//! digest   2, then for each: node id, number u64
//! data     3, links left u8, origin id, origin instance u64, n u8, n targets, messages
//!   target   id, instance u64, epoch u64, the target's epoch u64, asks u8, base u64, acknowledged below u64,
//!            n u8, n ranges beyond that: gap varint, length varint; tag
//!   message  n u8, for each of n: index of the target u8, number less its base varint, head length varint, head;
//!            body length varint, body
//! parcel   4, ...: see [`super::parcel`]
//! ```
//! Numbers are little-endian, varints LEB128. A data frame without messages acknowledges only. First bytes from
//! [`LINK_KIND`] on are left to the link itself: hello, ping, pong.
//!
//! A target's tag, 16 bytes, is over what it believes of the frame: the frame as it would be for this target alone,
//! without the links left, the number of targets and the tag. So it holds however the frame is split on its way.

use std::ops::Range;

use super::bytes::{Malformed, Reader, put_varint};
use super::parcel::{PARCEL, Parcel};
use super::record::RECORD_MAX;
use crate::crypto::pair::{TAG_LEN, TagKey};
use crate::limits;
use crate::wire::vouch::NodeId;

/// Largest body of a message, bytes: what a server link carries, and the little that stands around it.
pub const BODY_MAX: usize = limits::FRAME_MAX + 4096;
/// Largest head of a message, bytes.
pub const HEAD_MAX: usize = 64 * 1024;
/// Largest frame on a link, bytes: the longest message for as many targets as fit.
pub const FRAME_MAX: usize = BODY_MAX + 512 * 1024;
/// First bytes from here on are the link's own frames.
pub const LINK_KIND: u8 = 0x80;
/// Ranges beyond the first gap in one acknowledgement.
pub const RANGES_MAX: usize = 16;

/// A frame, its lists still to be walked.
#[derive(Debug)]
pub enum Frame<'a> {
    /// Records, each with its age in milliseconds.
    Records(Vec<(u32, &'a [u8])>),
    /// The numbers of all records that the neighbour has.
    Digest(Vec<(NodeId, u64)>),
    /// Messages and acknowledgements.
    Data(Data<'a>),
    /// Bytes for one node that may be lost.
    Parcel(Parcel<'a>),
}

/// A data frame; every message in it is well formed.
#[derive(Debug)]
pub struct Data<'a> {
    /// Links that it may still cross.
    pub hops: u8,
    /// Who sent it first.
    pub origin: NodeId,
    /// The origin's process.
    pub instance: u64,
    /// Where it goes.
    pub targets: Vec<Target>,
    messages: &'a [u8],
}

/// One node that a data frame goes to, and what the origin tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which node.
    pub id: NodeId,
    /// Which process of it.
    pub instance: u64,
    /// The origin's epoch of the streams between the two.
    pub epoch: u64,
    /// The target's, as far as the origin knows.
    pub peer_epoch: u64,
    /// Whether the origin wants to hear that the target knows its epoch.
    pub asks: bool,
    /// Numbers in the messages count from here.
    pub base: u64,
    /// What the origin has of the target's messages.
    pub ack: Ack,
    /// Proves to the target that the origin has said all this; see the top of this file.
    pub tag: [u8; TAG_LEN],
}

/// What of a stream has arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ack {
    /// Everything below this.
    pub below: u64,
    /// And these, ascending, with gaps between; at most [`RANGES_MAX`].
    pub ranges: Vec<Range<u64>>,
}

/// One message of a data frame.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    targets: Reader<'a>,
    count: u8,
    /// What all its targets get.
    pub body: &'a [u8],
}

/// One target of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addressed<'a> {
    /// Index among the frame's targets.
    pub target: u8,
    /// The message's number less the target's base.
    pub number: u64,
    /// What only this target gets.
    pub head: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a frame to its end.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() > FRAME_MAX {
            return Err(Malformed);
        }
        let mut reader = Reader(bytes);
        match reader.u8()? {
            RECORDS => Ok(Self::Records(read_records(reader)?)),
            DIGEST => Ok(Self::Digest(read_digest(reader)?)),
            DATA => Ok(Self::Data(Data::read(reader)?)),
            PARCEL => Ok(Self::Parcel(Parcel::read(reader)?)),
            _ => Err(Malformed),
        }
    }
}

impl<'a> Data<'a> {
    fn read(mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let hops = reader.u8()?;
        let origin = NodeId(reader.id()?);
        let instance = reader.u64()?;
        let count = reader.u8()?;
        if count == 0 {
            return Err(Malformed);
        }
        // At most 255, each far more bytes on the wire than here.
        let targets = (0..count).map(|_| Target::read(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let data = Self { hops, origin, instance, targets, messages: reader.0 };
        let mut rest = reader;
        while !rest.is_empty() {
            check_message(&mut rest, &data.targets)?;
        }
        Ok(data)
    }

    /// Whether it only acknowledges.
    pub fn is_ack(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages, in order.
    pub fn messages(&self) -> impl Iterator<Item = Message<'a>> + use<'a> {
        let mut rest = Reader(self.messages);
        // It was walked whole when it was read.
        std::iter::from_fn(move || if rest.is_empty() { None } else { Message::read(&mut rest).ok() })
    }

    /// Whether the tag of a target, which stands at this place, is what the key of the origin and that target makes.
    /// `scratch` is emptied and used.
    pub(super) fn holds(&self, target: &Target, place: u8, key: &TagKey, scratch: &mut Vec<u8>) -> bool {
        key.holds(&self.tagged(target, place, scratch), &target.tag)
    }

    /// What a tag is over.
    fn tagged<'s>(&'s self, target: &Target, place: u8, scratch: &'s mut Vec<u8>) -> [&'s [u8]; 2] {
        scratch.clear();
        scratch.push(DATA);
        put_origin(scratch, self.origin, self.instance);
        target.write_untagged(scratch);
        if self.targets.len() == 1 {
            return [scratch, self.messages];
        }
        let mut places = [None; 256];
        if let Some(only) = places.get_mut(usize::from(place)) {
            *only = Some(0);
        }
        self.write_messages(scratch, &places);
        [scratch, &[]]
    }

    /// Writes the frame anew for some of its targets only, with one link less to cross.
    pub fn write_part(&self, out: &mut Vec<u8>, wanted: &[bool]) {
        let mut places = [None; 256];
        let mut next = 0u8;
        for (place, wanted) in places.iter_mut().zip(wanted) {
            if *wanted {
                *place = Some(next);
                next = next.wrapping_add(1);
            }
        }
        begin_data(out, self.hops.saturating_sub(1), self.origin, self.instance, next);
        let chosen = self.targets.iter().zip(wanted).filter(|(_, wanted)| **wanted);
        chosen.for_each(|(target, _)| target.write(out));
        self.write_messages(out, &places);
    }

    /// The messages for those targets that have a place, which is the new one.
    fn write_messages(&self, out: &mut Vec<u8>, places: &[Option<u8>; 256]) {
        for message in self.messages() {
            let place = |to: &Addressed<'_>| places.get(usize::from(to.target)).copied().flatten();
            let count = message.targets().filter(|to| place(to).is_some()).count();
            if count > 0 {
                begin_message(out, u8::try_from(count).unwrap_or(u8::MAX));
                message.targets().for_each(|to| {
                    if let Some(place) = place(&to) {
                        put_target(out, place, to.number, to.head);
                    }
                });
                put_body(out, message.body);
            }
        }
    }
}

impl Target {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let id = NodeId(reader.id()?);
        let instance = reader.u64()?;
        let epoch = reader.u64()?;
        let peer_epoch = reader.u64()?;
        let asks = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed),
        };
        let base = reader.u64()?;
        let below = reader.u64()?;
        let count = reader.u8()?;
        if usize::from(count) > RANGES_MAX {
            return Err(Malformed);
        }
        let (mut ranges, mut at) = (Vec::new(), below);
        for _ in 0..count {
            let start = at.checked_add(reader.varint()?).ok_or(Malformed)?;
            let end = start.checked_add(reader.varint()?).ok_or(Malformed)?;
            if start == at || end == start {
                return Err(Malformed);
            }
            ranges.push(start..end);
            at = end;
        }
        let tag = reader.array()?.to_owned();
        Ok(Self { id, instance, epoch, peer_epoch, asks, base, ack: Ack { below, ranges }, tag })
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_untagged(out);
        out.extend_from_slice(&self.tag);
    }

    fn write_untagged(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.instance.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.peer_epoch.to_le_bytes());
        out.push(u8::from(self.asks));
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&self.ack.below.to_le_bytes());
        let ranges = self.ack.ranges.iter().take(RANGES_MAX);
        out.push(u8::try_from(ranges.len()).unwrap_or(0));
        let mut at = self.ack.below;
        for range in ranges {
            put_varint(out, range.start.saturating_sub(at));
            put_varint(out, range.end.saturating_sub(range.start));
            at = range.end;
        }
    }
}

impl<'a> Message<'a> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = reader.u8()?;
        let targets = *reader;
        for _ in 0..count {
            Addressed::read(reader)?;
        }
        let len = reader.len(BODY_MAX)?;
        let body = reader.take(len)?;
        Ok(Self { targets, count, body })
    }

    /// Who gets it.
    #[inline]
    pub fn targets(&self) -> impl Iterator<Item = Addressed<'a>> + use<'a> {
        let (mut reader, count) = (self.targets, self.count);
        (0..count).map_while(move |_| Addressed::read(&mut reader).ok())
    }
}

impl<'a> Addressed<'a> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let target = reader.u8()?;
        let number = reader.varint()?;
        let len = reader.len(HEAD_MAX)?;
        Ok(Self { target, number, head: reader.take(len)? })
    }
}

/// Every index and number must make sense, so that whoever passes the frame on is answerable for it.
#[inline]
fn check_message(reader: &mut Reader<'_>, targets: &[Target]) -> Result<(), Malformed> {
    let count = reader.u8()?;
    if count == 0 {
        return Err(Malformed);
    }
    for _ in 0..count {
        let to = Addressed::read(reader)?;
        let target = targets.get(usize::from(to.target)).ok_or(Malformed)?;
        target.base.checked_add(to.number).ok_or(Malformed)?;
    }
    let len = reader.len(BODY_MAX)?;
    reader.take(len)?;
    Ok(())
}

/// Begins a data frame; as many targets follow as said.
pub(super) fn begin_data(out: &mut Vec<u8>, hops: u8, origin: NodeId, instance: u64, targets: u8) {
    out.extend_from_slice(&[DATA, hops]);
    put_origin(out, origin, instance);
    out.push(targets);
}

fn put_origin(out: &mut Vec<u8>, origin: NodeId, instance: u64) {
    out.extend_from_slice(&origin.0);
    out.extend_from_slice(&instance.to_le_bytes());
}

/// Gives a whole data frame of ours its tags, by the key for each target.
pub fn put_tags<'k>(frame: &mut [u8], key: impl Fn(NodeId) -> Option<&'k TagKey>, scratch: &mut Vec<u8>) {
    let Ok(Frame::Data(data)) = Frame::read(frame) else { return };
    let (mut tags, mut at) = (Vec::with_capacity(data.targets.len()), TARGETS_AT);
    for (target, place) in data.targets.iter().zip(0u8..) {
        scratch.clear();
        target.write_untagged(scratch);
        at += scratch.len();
        let tag = key(target.id).map(|key| key.tag(&data.tagged(target, place, scratch)));
        tags.push((at, tag));
        at += TAG_LEN;
    }
    for (at, tag) in tags {
        if let (Some(tag), Some(to)) = (tag, frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut())) {
            *to = tag;
        }
    }
}

/// Begins a message; as many targets follow as said, then its body.
#[inline]
pub(super) fn begin_message(out: &mut Vec<u8>, targets: u8) {
    out.push(targets);
}

/// One target of a message.
#[inline]
pub(super) fn put_target(out: &mut Vec<u8>, target: u8, number: u64, head: &[u8]) {
    out.push(target);
    put_varint(out, number);
    put_varint(out, head.len() as u64);
    out.extend_from_slice(head);
}

/// Ends a message.
#[inline]
pub(super) fn put_body(out: &mut Vec<u8>, body: &[u8]) {
    put_varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// Where in a data frame, and in a parcel, the links that it may still cross stand.
pub(super) const HOPS_AT: usize = 1;
/// Where in a data frame its targets begin.
const TARGETS_AT: usize = 2 + 32 + 8 + 1;

/// Records in frames of about `chunk` bytes.
pub fn write_records<'r>(records: impl Iterator<Item = (u32, &'r [u8])>, chunk: usize) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for (age, record) in records {
        let Ok(len) = u16::try_from(record.len()) else { continue };
        if frames.last().is_none_or(|frame| frame.len() + record.len() > chunk) {
            frames.push(vec![RECORDS]);
        }
        if let Some(frame) = frames.last_mut() {
            frame.extend_from_slice(&age.to_le_bytes());
            frame.extend_from_slice(&len.to_le_bytes());
            frame.extend_from_slice(record);
        }
    }
    frames
}

/// The numbers of records.
pub fn write_digest(records: impl Iterator<Item = (NodeId, u64)>) -> Vec<u8> {
    let mut frame = vec![DIGEST];
    for (id, number) in records {
        frame.extend_from_slice(&id.0);
        frame.extend_from_slice(&number.to_le_bytes());
    }
    frame
}

fn read_records(mut reader: Reader<'_>) -> Result<Vec<(u32, &[u8])>, Malformed> {
    let mut records = Vec::new();
    while !reader.is_empty() {
        let age = reader.u32()?;
        let len = usize::from(reader.u16()?);
        if len > RECORD_MAX || records.len() >= RECORDS_MAX {
            return Err(Malformed);
        }
        records.push((age, reader.take(len)?));
    }
    Ok(records)
}

fn read_digest(mut reader: Reader<'_>) -> Result<Vec<(NodeId, u64)>, Malformed> {
    let mut numbers = Vec::new();
    while !reader.is_empty() {
        if numbers.len() >= RECORDS_MAX {
            return Err(Malformed);
        }
        numbers.push((NodeId(reader.id()?), reader.u64()?));
    }
    Ok(numbers)
}

const RECORDS: u8 = 1;
const DIGEST: u8 = 2;
const DATA: u8 = 3;
/// Records, or numbers of records, in one frame: twice what a mesh has.
const RECORDS_MAX: usize = 512;

#[cfg(test)]
mod tests;
