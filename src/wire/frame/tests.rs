//! Frames as bytes.

use super::*;
use crate::wire::id::Id;

fn post() -> ToServer {
    let body = Request::Post { room: Id([3; 16]), message: vec![9; 40].into() };
    ToServer::Request { id: 7, body }
}

#[test]
fn frames_read_back_and_truncations_are_refused() {
    let bytes = post().to_bytes();
    assert_eq!(ToServer::from_bytes(&bytes, 1000), Ok(post()));
    for len in 0..bytes.len() {
        assert!(ToServer::from_bytes(&bytes[..len], 1000).is_err(), "{len}");
    }
    assert_eq!(ToServer::from_bytes(&bytes, 10), Err(DecodeError::TooLong { len: bytes.len(), max: 10 }));
    let mut longer = bytes;
    longer.push(0);
    assert!(ToServer::from_bytes(&longer, 1000).is_err());
}

#[test]
fn a_claimed_length_allocates_nothing() {
    // array(2^32) of byte strings inside PublishKeyPackages: refused without trusting the count
    let bytes = [0x82, 0x01, 0x82, 0x07, 0x82, 0x01, 0x82, 0x9b, 0, 0, 0, 1, 0, 0, 0, 0];
    assert!(ToServer::from_bytes(&bytes, 1000).is_err());
}
