//! The stream of a link between servers: a kind, three bytes of length (big-endian), then that many bytes.

use crate::mesh::packet::FRAME_MAX;

/// What stands in a frame of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// [`crate::wire::mesh_hello::MeshHello`].
    Hello,
    /// [`crate::wire::mesh_hello::MeshRefusal`]; nothing follows it.
    Refusal,
    /// The one that dialled agrees; both may speak. Empty.
    Ready,
    /// To be sent back as [`Kind::Pong`] at once: eight bytes.
    Ping,
    /// See [`Kind::Ping`].
    Pong,
    /// A frame of the node.
    Node,
}

/// The peer does not keep to the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No such kind.
    #[error("a frame of an unknown kind")]
    Kind,
    /// Longer than such a frame may be.
    #[error("too long a frame")]
    Length,
}

/// A frame's kind, the frame, and what follows it.
pub(super) type Next<'b> = (Kind, &'b [u8], &'b [u8]);

/// Bytes before each frame.
pub(super) const HEAD: usize = 4;

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Hello => 0,
            Self::Refusal => 1,
            Self::Ready => 2,
            Self::Ping => 3,
            Self::Pong => 4,
            Self::Node => 5,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Hello,
            1 => Self::Refusal,
            2 => Self::Ready,
            3 => Self::Ping,
            4 => Self::Pong,
            5 => Self::Node,
            _ => return None,
        })
    }

    /// The longest that is taken, bytes.
    const fn max(self) -> usize {
        match self {
            Self::Hello => crate::wire::mesh_hello::MESH_HELLO_MAX,
            Self::Refusal => crate::wire::mesh_hello::MESH_REFUSAL_MAX,
            Self::Ready => 0,
            Self::Ping | Self::Pong => 8,
            Self::Node => FRAME_MAX,
        }
    }
}

/// Puts a frame into a batch. Ours are within the caps; a longer one would be cut off by the peer with the link.
pub(super) fn push(out: &mut Vec<u8>, kind: Kind, frame: &[u8]) {
    let [_, length @ ..] = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.push(kind.byte());
    out.extend_from_slice(&length);
    out.extend_from_slice(frame);
}

/// The frame at the front of `bytes`, and what follows it; `None` while it is not there in full. The length is checked as soon as
/// it is known.
pub(super) fn next(bytes: &[u8]) -> Result<Option<Next<'_>>, Malformed> {
    let Some(([kind, length @ ..], rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
    let kind = Kind::of(*kind).ok_or(Malformed::Kind)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    if length > kind.max() {
        return Err(Malformed::Length);
    }
    Ok(rest.split_at_checked(length).map(|(frame, rest)| (kind, frame, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_parts_of_them_wait() {
        let mut bytes = Vec::new();
        push(&mut bytes, Kind::Node, &[7; 70_000]);
        push(&mut bytes, Kind::Ready, &[]);
        for end in [0, 3, 4, 70_003] {
            assert_eq!(next(&bytes[..end]), Ok(None));
        }
        let (kind, frame, rest) = next(&bytes).unwrap().unwrap();
        assert_eq!((kind, frame.len(), rest.len()), (Kind::Node, 70_000, HEAD));
        assert_eq!(next(rest), Ok(Some((Kind::Ready, &[][..], &[][..]))));
    }

    #[test]
    fn what_is_announced_too_long_or_unknown_is_refused_before_it_comes() {
        assert_eq!(next(&[6, 0, 0, 0]), Err(Malformed::Kind));
        assert_eq!(next(&[5, 0xff, 0xff, 0xff]), Err(Malformed::Length));
        assert_eq!(next(&[3, 0, 0, 9]), Err(Malformed::Length));
        assert_eq!(next(b"GET / HTTP/1.1"), Err(Malformed::Kind));
    }
}
