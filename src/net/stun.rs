//! STUN Binding (RFC 8489): a client asks a server's UDP port how its own address looks from there.

use std::net::{IpAddr, SocketAddr};
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite, MessageWriteExt, MessageWriteVec};

/// Longest request that is looked at, bytes; what a request may carry beyond its header does not matter here.
pub const REQUEST_MAX: usize = 1280;

/// The answer to a Binding request from `source`, at most 44 bytes and so less than 3 times any request; `None` for all else,
/// which is dropped without a word. Clients that know only classic STUN (RFC 3489) are answered in its way, as RFC 5389 §12.2 has it.
pub fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    if let Some(transaction) = classic(datagram) {
        return Some(classic_answer(transaction, source));
    }
    let request = Message::from_bytes(datagram).ok()?;
    if !request.has_method(BINDING) || !request.has_class(MessageClass::Request) {
        return None;
    }
    let mut response = Message::builder_success(&request, MessageWriteVec::new());
    response.add_attribute(&XorMappedAddress::new(source, request.transaction_id())).ok()?;
    Some(response.finish())
}

/// The transaction id, 128 bits, of a Binding request without the magic cookie.
fn classic(datagram: &[u8]) -> Option<&[u8; 16]> {
    let ([0x00, 0x01, l0, l1], rest) = datagram.split_first_chunk()? else { return None };
    let (transaction, attributes) = rest.split_first_chunk::<16>()?;
    let whole = usize::from(u16::from_be_bytes([*l0, *l1])) == attributes.len() && attributes.len().is_multiple_of(4);
    (whole && !transaction.starts_with(&MAGIC_COOKIE)).then_some(transaction)
}

/// A success response with the attribute MAPPED-ADDRESS (RFC 3489 §11.2.1).
fn classic_answer(transaction: &[u8; 16], source: SocketAddr) -> Vec<u8> {
    let (family, ip) = match source.ip() {
        IpAddr::V4(v4) => (0x01, v4.octets().to_vec()),
        IpAddr::V6(v6) => (0x02, v6.octets().to_vec()),
    };
    // 8 or 20.
    let value = if family == 0x01 { 8 } else { 20 };
    let mut answer = vec![0x01, 0x01, 0x00, value + 4];
    answer.extend_from_slice(transaction);
    answer.extend_from_slice(&[0x00, 0x01, 0x00, value, 0x00, family]);
    answer.extend_from_slice(&source.port().to_be_bytes());
    answer.extend_from_slice(&ip);
    answer
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

/// In place of the first 32 bits of a transaction id (RFC 8489 §5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

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
    fn a_client_of_classic_stun_is_answered_in_its_way() {
        let mut request = vec![0x00, 0x01, 0x00, 0x00];
        request.extend_from_slice(b"sixteen byte id!");
        let bytes = answer(&request, "192.0.2.7:4000".parse().unwrap()).unwrap();
        let mut wanted = vec![0x01, 0x01, 0x00, 0x0c];
        wanted.extend_from_slice(b"sixteen byte id!");
        wanted.extend_from_slice(&[0, 1, 0, 8, 0, 1, 0x0f, 0xa0, 192, 0, 2, 7]);
        assert_eq!(bytes, wanted);
        let bytes = answer(&request, "[2001:db8::7]:4000".parse().unwrap()).unwrap();
        assert!(bytes.len() == 44 && bytes.len() <= request.len() * 3);
        assert_eq!(answer(&bytes, "192.0.2.7:4000".parse().unwrap()), None);
        for len in 0..request.len() {
            assert_eq!(answer(&request[..len], "192.0.2.7:4000".parse().unwrap()), None);
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
