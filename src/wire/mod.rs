//! Every message and packet, its codec and its cap. Pure.
//!
//! Structures are CBOR (`minicbor`, explicit indices, so fields can be added); [`encode`] and [`decode`] are the only way in and out.

pub mod admin;
pub mod ban;
pub mod cert;
pub mod datagram;
pub mod endpoint;
pub mod frame;
pub mod home;
pub mod id;
pub mod invite;
pub mod leg;
pub mod log;
pub mod mesh_hello;
pub mod name;
pub mod packet;
pub mod payload;
pub mod pin;
pub mod policy;
pub mod refusal;
pub mod relay;
pub mod sharing;
pub mod text;
pub mod token;
pub mod vouch;

/// Bytes from outside are not a well-formed message of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the cap for this type.
    #[error("{len} bytes are more than the {max} allowed here")]
    TooLong {
        /// What came, bytes.
        len: usize,
        /// The cap, bytes.
        max: usize,
    },
    /// Not CBOR of the expected shape, or something follows it.
    #[error("malformed message")]
    Malformed,
}

/// Encodes a structure. Writing to memory cannot fail.
pub fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("our own structures encode to memory")
}

/// Decodes one structure that fills `bytes` wholly and is at most `max` bytes long.
pub fn decode<'b, T: minicbor::Decode<'b, ()>>(bytes: &'b [u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLong { len: bytes.len(), max });
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|_| DecodeError::Malformed)?;
    if decoder.position() != bytes.len() {
        return Err(DecodeError::Malformed);
    }
    Ok(value)
}
