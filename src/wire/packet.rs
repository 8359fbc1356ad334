//! The header of a file datagram. All of it is associated data of the seal over the frames that follow.
//!
//! ```text
//! 0x08 | connection id, 8 bytes | packet number, 8 bytes big endian | sealed frames | tag, 16 bytes
//! ```

use thiserror::Error;

/// First byte of every datagram: type and version. STUN begins with 0 to 3 and QUIC sets bit 6, so one port can tell
/// the three apart.
pub const FIRST_BYTE: u8 = 0x08;
/// Bytes of the header.
pub const HEADER_LEN: usize = 17;
/// Bytes of the smallest datagram: a header and the tag of an empty payload.
pub const MIN_DATAGRAM: usize = HEADER_LEN + TAG_LEN;
/// Size that every path is expected to carry, and to which path challenges and responses are padded, in bytes.
pub const BASE_DATAGRAM: usize = 1_200;
/// The largest UDP payload over IPv4, in bytes.
pub const MAX_DATAGRAM: usize = 65_507;

/// Identifies a connection at the side that receives the datagram, which also chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub [u8; 8]);

/// What stands in clear before the sealed frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the receiver of the datagram, one for each direction.
    pub connection: ConnectionId,
    /// New for each transmission, also of the same content.
    pub packet_number: u64,
}

/// Why bytes are not a file datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Another protocol, or a version that we do not speak.
    #[error("not a file datagram")]
    NotOurs,
    /// Shorter than a header and a tag.
    #[error("the datagram is too short")]
    TooShort,
    /// Longer than UDP can carry.
    #[error("the datagram is too long")]
    TooLong,
}

impl Header {
    /// Reads the header of a whole datagram. The rest, from byte [`HEADER_LEN`] on, is sealed.
    pub fn decode(datagram: &[u8]) -> Result<Self, HeaderError> {
        match datagram.first() {
            None => return Err(HeaderError::TooShort),
            Some(&FIRST_BYTE) => {}
            Some(_) => return Err(HeaderError::NotOurs),
        }
        if datagram.len() < MIN_DATAGRAM {
            return Err(HeaderError::TooShort);
        }
        if datagram.len() > MAX_DATAGRAM {
            return Err(HeaderError::TooLong);
        }
        let rest = datagram.get(1..).ok_or(HeaderError::TooShort)?;
        let (connection, rest) = rest.split_first_chunk::<8>().ok_or(HeaderError::TooShort)?;
        let (number, _) = rest.split_first_chunk::<8>().ok_or(HeaderError::TooShort)?;
        Ok(Self { connection: ConnectionId(*connection), packet_number: u64::from_be_bytes(*number) })
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [FIRST_BYTE; HEADER_LEN];
        bytes[1..9].copy_from_slice(&self.connection.0);
        bytes[9..].copy_from_slice(&self.packet_number.to_be_bytes());
        bytes
    }
}

/// Bytes of the tag behind the frames; the seal's own constant is checked against it.
const TAG_LEN: usize = 16;
const _: () = assert!(TAG_LEN == crate::crypto::seal::TAG_LEN);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_bytes_are_fixed() {
        let header = Header { connection: ConnectionId(*b"abcdefgh"), packet_number: 0x0102_0304_0506_0708 };
        assert_eq!(header.encode(), *b"\x08abcdefgh\x01\x02\x03\x04\x05\x06\x07\x08");
    }

    #[test]
    fn every_truncated_length_is_refused() {
        let mut datagram = Header { connection: ConnectionId([7; 8]), packet_number: 9 }.encode().to_vec();
        datagram.resize(MIN_DATAGRAM, 0);
        assert!(Header::decode(&datagram).is_ok());
        for len in 0..MIN_DATAGRAM {
            assert_eq!(Header::decode(&datagram[..len]), Err(HeaderError::TooShort), "{len}");
        }
    }

    #[test]
    fn other_protocols_and_giants_are_refused() {
        for first in (0..=u8::MAX).filter(|b| *b != FIRST_BYTE) {
            let mut datagram = [0; 100];
            datagram[0] = first;
            assert_eq!(Header::decode(&datagram), Err(HeaderError::NotOurs));
        }
        assert_eq!(Header::decode(&vec![FIRST_BYTE; MAX_DATAGRAM + 1]), Err(HeaderError::TooLong));
    }

    proptest! {
        #[test]
        fn round_trip(connection: [u8; 8], packet_number: u64, body in 16..200usize) {
            let header = Header { connection: ConnectionId(connection), packet_number };
            let mut datagram = header.encode().to_vec();
            datagram.resize(HEADER_LEN + body, 0);
            prop_assert_eq!(Header::decode(&datagram), Ok(header));
        }

        #[test]
        fn any_bytes_are_taken_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Header::decode(&bytes);
        }
    }
}
