//! The frames inside a sealed datagram. Integers are big endian.
//!
//! ```text
//! 0x00 padding
//! 0x02 ack             largest packet u64, delay u32 µs, ce u32, cumulative u64, count u8, count * (gap u16, length u16)
//! 0x03 window          segments u32
//! 0x04 ping
//! 0x05 path challenge  8 bytes
//! 0x06 path response   8 bytes
//! 0x07 close           code u16, length u8, UTF-8
//! 0x08 handshake       length u16, bytes
//! 0x09 size probe      bytes of the whole datagram u16
//! 0x0a size confirmed  the same
//! 0x10 segment         number u64, then bytes up to the datagram's end; + 1: the stream ends here, + 2: acknowledge at once
//! ```
//!
//! A segment has no length of its own, so it stands last and takes nine bytes beside its content.

use thiserror::Error;

/// Ranges that one ack may carry.
pub const MAX_ACK_RANGES: usize = 128;
/// Bytes of a close frame's reason.
pub const MAX_CLOSE_REASON: usize = 200;
/// Bytes of a handshake frame's content.
pub const MAX_HANDSHAKE: usize = 1_024;
/// Bytes that a segment frame takes beside its content.
pub const SEGMENT_OVERHEAD: usize = 9;

/// One frame, borrowing the datagram that it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A piece of the stream; always the last frame of its datagram.
    Segment(Segment<'a>),
    /// What the other side has received.
    Ack(Ack),
    /// How many segments from the cumulative ack on (the one in the same datagram) the receiver takes.
    Window {
        /// A count of segments.
        segments: u32,
    },
    /// Asks for an ack at once.
    Ping,
    /// Asks whether datagrams sent to this address arrive at the peer.
    PathChallenge([u8; 8]),
    /// Repeats a challenge's bytes.
    PathResponse([u8; 8]),
    /// The end of the connection.
    Close(Close<'a>),
    /// Key agreement that must travel over the datagram path; opaque to the channel.
    Handshake(&'a [u8]),
    /// Asks whether a datagram of this many bytes arrives; the rest of it is padding.
    SizeProbe(u16),
    /// A probe of this size arrived.
    SizeConfirmed(u16),
}

/// A numbered piece of one side's byte stream. Its place follows from the lengths of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Counts pieces from the stream's start.
    pub number: u64,
    /// Whether the stream ends with it.
    pub fin: bool,
    /// Whether the sender waits for the ack: it should leave at once.
    pub ask: bool,
    /// Its bytes; empty only if the stream ends with it.
    pub bytes: &'a [u8],
}

/// An acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The largest packet number received.
    pub largest: u64,
    /// Microseconds between that packet's arrival and this ack.
    pub delay_micros: u32,
    /// Datagrams that came marked "congestion experienced" so far (RFC 3168), wrapping.
    pub ce: u32,
    /// Every segment below this one has arrived.
    pub cumulative: u64,
    /// Segments beyond it that have arrived: ascending, apart from each other, at most [`MAX_ACK_RANGES`].
    pub ranges: Vec<SegmentRange>,
}

/// Segments from `start` up to `end`, exclusive; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentRange {
    /// The first segment.
    pub start: u64,
    /// One above the last segment.
    pub end: u64,
}

/// Why the peer ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'a> {
    /// What for.
    pub code: CloseCode,
    /// For people; at most [`MAX_CLOSE_REASON`] bytes. Untrusted text: escape it before showing it.
    pub reason: &'a str,
}

/// A close frame's code. Unknown codes are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// Everything arrived.
    pub const DONE: Self = Self(0);
    /// Somebody stopped the transfer.
    pub const CANCELLED: Self = Self(1);
    /// The peer broke the protocol.
    pub const VIOLATION: Self = Self(2);
    /// The file could not be read, or did not match its root.
    pub const FILE: Self = Self(3);
    /// This end leaves or gives the channel up, and nobody wanted that: another channel may go on.
    pub const GONE: Self = Self(4);
    /// A rule on sharing is against it; the reason says which.
    pub const RESTRICTED: Self = Self(5);
}

/// Why a frame cannot be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The bytes end inside a frame.
    #[error("a frame is cut short")]
    Truncated,
    /// A frame type that this version does not know.
    #[error("frame type {0} is unknown")]
    UnknownType(u8),
    /// A field holds more than its cap.
    #[error("a frame is larger than its cap")]
    TooLarge,
    /// A field holds what its type never can: ranges out of order, a flag that is neither 0 nor 1, text that is not
    /// UTF-8.
    #[error("a frame holds an impossible value")]
    Invalid,
}

impl Frame<'_> {
    /// Appends the frame to `out`. Fails, leaving `out` as it was, when a field is above its cap.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        match self {
            Self::Segment(segment) => {
                out.extend_from_slice(&segment_head(segment.number, segment.fin, segment.ask));
                out.extend_from_slice(segment.bytes);
            }
            Self::Ack(ack) => ack.encode(out)?,
            Self::Window { segments } => {
                out.push(WINDOW);
                out.extend_from_slice(&segments.to_be_bytes());
            }
            Self::Ping => out.push(PING),
            Self::PathChallenge(token) => {
                out.push(PATH_CHALLENGE);
                out.extend_from_slice(token);
            }
            Self::PathResponse(token) => {
                out.push(PATH_RESPONSE);
                out.extend_from_slice(token);
            }
            Self::Close(close) => close.encode(out)?,
            Self::Handshake(bytes) => {
                let len = capped_u16(bytes.len(), MAX_HANDSHAKE)?;
                out.push(HANDSHAKE);
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::SizeProbe(size) => {
                out.push(SIZE_PROBE);
                out.extend_from_slice(&size.to_be_bytes());
            }
            Self::SizeConfirmed(size) => {
                out.push(SIZE_CONFIRMED);
                out.extend_from_slice(&size.to_be_bytes());
            }
        }
        Ok(())
    }
}

/// What stands before a segment's bytes, which are read from the file straight into the datagram.
pub fn segment_head(number: u64, fin: bool, ask: bool) -> [u8; SEGMENT_OVERHEAD] {
    let flags = if fin { FIN } else { 0 } | if ask { ASK } else { 0 };
    let mut head = [SEGMENT | flags; SEGMENT_OVERHEAD];
    head[1..].copy_from_slice(&number.to_be_bytes());
    head
}

/// The frames of an opened payload, in order. It stops after the first error.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Reads `payload`, a whole opened datagram without its header.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let padding = self.rest.iter().take_while(|byte| **byte == PADDING).count();
        self.rest = self.rest.get(padding..)?;
        let (kind, body) = self.rest.split_first()?;
        let mut reader = Reader { rest: body };
        let frame = decode(*kind, &mut reader);
        self.rest = if frame.is_ok() { reader.rest } else { &[] };
        Some(frame)
    }
}

fn decode<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Frame<'a>, FrameError> {
    Ok(match kind {
        SEGMENT..=SEGMENT_LAST => {
            let number = reader.u64()?;
            let bytes = std::mem::take(&mut reader.rest);
            Frame::Segment(Segment { number, fin: kind & FIN != 0, ask: kind & ASK != 0, bytes })
        }
        ACK => Frame::Ack(Ack::decode(reader)?),
        WINDOW => Frame::Window { segments: u32::from_be_bytes(reader.array()?) },
        PING => Frame::Ping,
        PATH_CHALLENGE => Frame::PathChallenge(reader.array()?),
        PATH_RESPONSE => Frame::PathResponse(reader.array()?),
        CLOSE => Frame::Close(Close::decode(reader)?),
        HANDSHAKE => {
            let len = usize::from(reader.u16()?);
            if len > MAX_HANDSHAKE {
                return Err(FrameError::TooLarge);
            }
            Frame::Handshake(reader.take(len)?)
        }
        SIZE_PROBE => Frame::SizeProbe(reader.u16()?),
        SIZE_CONFIRMED => Frame::SizeConfirmed(reader.u16()?),
        unknown => return Err(FrameError::UnknownType(unknown)),
    })
}

impl Ack {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        if self.ranges.len() > MAX_ACK_RANGES {
            return Err(FrameError::TooLarge);
        }
        let count = u8::try_from(self.ranges.len()).map_err(|_| FrameError::TooLarge)?;
        let start = out.len();
        out.push(ACK);
        out.extend_from_slice(&self.largest.to_be_bytes());
        out.extend_from_slice(&self.delay_micros.to_be_bytes());
        out.extend_from_slice(&self.ce.to_be_bytes());
        out.extend_from_slice(&self.cumulative.to_be_bytes());
        out.push(count);
        let mut below = self.cumulative;
        for range in &self.ranges {
            let (Some(gap), Some(len)) = (step(below, range.start), step(range.start, range.end)) else {
                out.truncate(start);
                return Err(FrameError::Invalid);
            };
            out.extend_from_slice(&gap.to_be_bytes());
            out.extend_from_slice(&len.to_be_bytes());
            below = range.end;
        }
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let largest = reader.u64()?;
        let delay_micros = u32::from_be_bytes(reader.array()?);
        let ce = u32::from_be_bytes(reader.array()?);
        let cumulative = reader.u64()?;
        let count = usize::from(reader.u8()?);
        if count > MAX_ACK_RANGES {
            return Err(FrameError::TooLarge);
        }
        let mut ranges = Vec::with_capacity(count);
        let mut below = cumulative;
        for _ in 0..count {
            let (gap, len) = (reader.u16()?, reader.u16()?);
            if gap == 0 || len == 0 {
                return Err(FrameError::Invalid);
            }
            let start = below.checked_add(gap.into()).ok_or(FrameError::Invalid)?;
            below = start.checked_add(len.into()).ok_or(FrameError::Invalid)?;
            ranges.push(SegmentRange { start, end: below });
        }
        Ok(Self { largest, delay_micros, ce, cumulative, ranges })
    }
}

/// From one bound up to the next: at least 1, since each range lies beyond the one before with a gap between, so a set
/// of segments has one encoding.
fn step(from: u64, to: u64) -> Option<u16> {
    to.checked_sub(from).and_then(|step| u16::try_from(step).ok()).filter(|step| *step > 0)
}

impl<'a> Close<'a> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        if self.reason.len() > MAX_CLOSE_REASON {
            return Err(FrameError::TooLarge);
        }
        let len = u8::try_from(self.reason.len()).map_err(|_| FrameError::TooLarge)?;
        out.push(CLOSE);
        out.extend_from_slice(&self.code.0.to_be_bytes());
        out.push(len);
        out.extend_from_slice(self.reason.as_bytes());
        Ok(())
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, FrameError> {
        let code = CloseCode(reader.u16()?);
        let len = usize::from(reader.u8()?);
        if len > MAX_CLOSE_REASON {
            return Err(FrameError::TooLarge);
        }
        let reason = std::str::from_utf8(reader.take(len)?).map_err(|_| FrameError::Invalid)?;
        Ok(Self { code, reason })
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_be_bytes)
    }
}

fn capped_u16(len: usize, cap: usize) -> Result<u16, FrameError> {
    if len > cap {
        return Err(FrameError::TooLarge);
    }
    u16::try_from(len).map_err(|_| FrameError::TooLarge)
}

const PADDING: u8 = 0x00;
const ACK: u8 = 0x02;
const WINDOW: u8 = 0x03;
const PING: u8 = 0x04;
const PATH_CHALLENGE: u8 = 0x05;
const PATH_RESPONSE: u8 = 0x06;
const CLOSE: u8 = 0x07;
const HANDSHAKE: u8 = 0x08;
const SIZE_PROBE: u8 = 0x09;
const SIZE_CONFIRMED: u8 = 0x0a;
const SEGMENT: u8 = 0x10;
const SEGMENT_LAST: u8 = SEGMENT | FIN | ASK;
const FIN: u8 = 1;
const ASK: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(frame: &Frame<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        frame.encode(&mut out).unwrap();
        out
    }

    fn samples() -> Vec<Frame<'static>> {
        let ranges = vec![SegmentRange { start: 7, end: 9 }, SegmentRange { start: 10, end: 11 }];
        vec![
            Frame::Ack(Ack { largest: 3, delay_micros: 4, ce: 9, cumulative: 5, ranges }),
            Frame::Window { segments: 9 },
            Frame::Ping,
            Frame::PathChallenge([1; 8]),
            Frame::PathResponse([2; 8]),
            Frame::Close(Close { code: CloseCode::CANCELLED, reason: "größer" }),
            Frame::Handshake(b"opaque"),
            Frame::SizeProbe(8_900),
            Frame::SizeConfirmed(65_507),
            Frame::Segment(Segment { number: u64::MAX, fin: true, ask: false, bytes: b"bytes" }),
        ]
    }

    #[test]
    fn each_frame_is_refused_at_every_truncated_length() {
        for frame in samples() {
            let bytes = encoded(&frame);
            assert_eq!(Frames::new(&bytes).collect::<Vec<_>>(), vec![Ok(frame.clone())]);
            let whole = if matches!(frame, Frame::Segment(_)) { SEGMENT_OVERHEAD } else { bytes.len() };
            for len in 1..whole {
                assert_eq!(Frames::new(&bytes[..len]).next(), Some(Err(FrameError::Truncated)), "{frame:?} at {len}");
            }
        }
        assert_eq!(Frames::new(&[]).next(), None);
    }

    #[test]
    fn frames_follow_one_another_with_padding_between() {
        let mut bytes = vec![0; 3];
        for frame in samples() {
            bytes.extend_from_slice(&[0; 5]);
            frame.encode(&mut bytes).unwrap();
        }
        assert_eq!(Frames::new(&bytes).collect::<Result<Vec<_>, _>>().unwrap(), samples());
    }

    #[test]
    fn caps_hold_in_both_directions() {
        let many = (0..=MAX_ACK_RANGES as u64).map(|i| SegmentRange { start: 10 + 2 * i, end: 11 + 2 * i }).collect();
        let too_large = [
            Frame::Ack(Ack { largest: 0, delay_micros: 0, ce: 0, cumulative: 0, ranges: many }),
            Frame::Close(Close { code: CloseCode::DONE, reason: &"x".repeat(MAX_CLOSE_REASON + 1) }),
            Frame::Handshake(&[0; MAX_HANDSHAKE + 1]),
        ];
        for frame in too_large {
            let mut out = Vec::new();
            assert_eq!(frame.encode(&mut out), Err(FrameError::TooLarge));
            assert!(out.is_empty());
        }
        let mut ack = encoded(&samples()[0]);
        ack[25] = 255;
        ack.resize(10_000, 1);
        assert_eq!(Frames::new(&ack).next(), Some(Err(FrameError::TooLarge)));
        let close = [&[CLOSE, 0, 0, 201][..], &[b'x'; 201]].concat();
        assert_eq!(Frames::new(&close).next(), Some(Err(FrameError::TooLarge)));
        let handshake = [&[HANDSHAKE, 0xff, 0xff][..], &[0; 65_535]].concat();
        assert_eq!(Frames::new(&handshake).next(), Some(Err(FrameError::TooLarge)));
    }

    #[test]
    fn impossible_values_are_refused() {
        for (start, end) in [(4, 9), (5, 9), (7, 7), (8, 7), (7, 100_000), (100_000, 100_001)] {
            let ranges = vec![SegmentRange { start, end }];
            let (mut out, ack) = (vec![1], Ack { largest: 0, delay_micros: 0, ce: 0, cumulative: 5, ranges });
            assert_eq!(Frame::Ack(ack).encode(&mut out), Err(FrameError::Invalid));
            assert_eq!(out, [1]);
        }
        for zeroed in [27, 29] {
            let mut adjacent = encoded(&samples()[0]);
            adjacent[zeroed] = 0;
            assert_eq!(Frames::new(&adjacent).next(), Some(Err(FrameError::Invalid)));
        }
        let mut beyond = encoded(&samples()[0]);
        beyond[17..25].fill(0xff);
        assert_eq!(Frames::new(&beyond).next(), Some(Err(FrameError::Invalid)));
        assert_eq!(Frames::new(&[CLOSE, 0, 0, 1, 0xff]).next(), Some(Err(FrameError::Invalid)));
        assert_eq!(Frames::new(&[0x7f]).next(), Some(Err(FrameError::UnknownType(0x7f))));
    }

    #[test]
    fn reading_stops_at_the_first_error() {
        let mut frames = Frames::new(&[0x7f, PING, PING]);
        assert!(frames.next().unwrap().is_err());
        assert_eq!(frames.next(), None);
    }

    proptest! {
        #[test]
        fn round_trip(
            number: u64, fin: bool, ask: bool, bytes in proptest::collection::vec(any::<u8>(), 0..1500),
            largest: u64, delay_micros: u32, ce: u32, cumulative in 0..1u64 << 50,
            steps in proptest::collection::vec((1..1000u64, 1..1000u64), 0..=MAX_ACK_RANGES),
            code: u16, reason in "\\PC{0,50}", segments: u32,
        ) {
            let mut at = cumulative;
            let ranges = steps.iter().map(|(gap, len)| {
                let start = at + gap;
                at = start + len;
                SegmentRange { start, end: at }
            }).collect();
            let frames = vec![
                Frame::Ack(Ack { largest, delay_micros, ce, cumulative, ranges }),
                Frame::Window { segments },
                Frame::Close(Close { code: CloseCode(code), reason: &reason }),
                Frame::Segment(Segment { number, fin, ask, bytes: &bytes }),
            ];
            let mut out = Vec::new();
            for frame in &frames {
                frame.encode(&mut out).unwrap();
            }
            prop_assert_eq!(Frames::new(&out).collect::<Result<Vec<_>, _>>().unwrap(), frames);
        }

        #[test]
        fn any_bytes_are_taken_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut total = 0;
            for frame in Frames::new(&bytes).flatten() {
                let mut out = Vec::new();
                frame.encode(&mut out).unwrap();
                total += out.len();
            }
            prop_assert!(total <= bytes.len());
        }
    }
}
