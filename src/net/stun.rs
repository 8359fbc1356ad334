//! STUN Binding (RFC 8489): a client asks a server's UDP port how its own address looks from there.

use std::net::SocketAddr;
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite, MessageWriteExt, MessageWriteVec};

/// Longest request that is looked at, bytes; what a request may carry beyond its header does not matter here.
pub const REQUEST_MAX: usize = 1280;

/// The answer to a Binding request from `source`, at most 44 bytes and so less than 3 times any request; `None` for all else,
/// which is dropped without a word.
pub fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let request = Message::from_bytes(datagram).ok()?;
    if !request.has_method(BINDING) || !request.has_class(MessageClass::Request) {
        return None;
    }
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    let mut response = Message::builder_success(&request, MessageWriteVec::new());
    response.add_attribute(&XorMappedAddress::new(source, request.transaction_id())).ok()?;
    Some(response.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_request_is_answered_with_the_source() {
        let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
        for (source, shown) in [
            ("192.0.2.7:4000", "192.0.2.7:4000"),
            ("[2001:db8::7]:4000", "[2001:db8::7]:4000"),
            ("[::ffff:192.0.2.7]:9", "192.0.2.7:9"),
        ] {
            let bytes = answer(&request, source.parse().unwrap()).unwrap();
            assert!(bytes.len() <= request.len() * 3);
            let message = Message::from_bytes(&bytes).unwrap();
            let address = message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id());
            assert_eq!(address, shown.parse().unwrap());
        }
    }

    #[test]
    fn garbage_and_answers_are_not_answered() {
        let source = "192.0.2.7:4000".parse().unwrap();
        let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
        let response = answer(&request, source).unwrap();
        assert_eq!(answer(&response, source), None, "two servers would talk for ever");
        assert_eq!(answer(&[0x08; 100], source), None);
        for len in 0..request.len() {
            assert_eq!(answer(&request[..len], source), None);
        }
    }
}
