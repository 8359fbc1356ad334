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

/// A Binding request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// To send.
    pub bytes: Vec<u8>,
    /// Random, 96 bits; the answer bears it.
    pub transaction: u128,
}

/// Asks how our address looks.
pub fn request() -> Question {
    let request = Message::builder_request(BINDING, MessageWriteVec::new());
    let transaction = request.transaction_id().into();
    Question { bytes: request.finish(), transaction }
}

/// Our address in the answer to the request `transaction`; `None` for all else.
pub fn mapped(datagram: &[u8], transaction: u128) -> Option<SocketAddr> {
    let answer = Message::from_bytes(datagram).ok()?;
    let ours = u128::from(answer.transaction_id()) == transaction;
    if !ours || !answer.has_method(BINDING) || !answer.has_class(MessageClass::Success) {
        return None;
    }
    let seen = answer.attribute::<XorMappedAddress>().ok()?.addr(answer.transaction_id());
    Some(SocketAddr::new(seen.ip().to_canonical(), seen.port()))
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
    fn only_the_answer_to_the_question_tells_an_address() {
        let (question, other) = (request(), request());
        let source = "192.0.2.7:4000".parse().unwrap();
        let bytes = answer(&question.bytes, source).unwrap();
        assert_eq!(mapped(&bytes, question.transaction), Some(source));
        assert_eq!(mapped(&bytes, other.transaction), None);
        assert_eq!(mapped(&question.bytes, question.transaction), None);
        for len in 0..bytes.len() {
            assert_eq!(mapped(&bytes[..len], question.transaction), None);
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
