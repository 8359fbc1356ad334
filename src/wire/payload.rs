//! What stands inside a sealed MLS message: texts, searches, agreements on files. No server reads these.

mod files;

use super::id::{MessageId, OfferId, SearchId, TransferId};
use super::{DecodeError, decode, encode};
use crate::limits::PAYLOAD_MAX;
use minicbor::bytes::ByteArray;

pub use files::{Arq, FileAnswer, FileKind, FileOffer, FileRefusal, FileRequest, FileRow};

/// A body with what lets receivers drop repeats and notice gaps, swaps and diverging views.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Envelope {
    /// Stays the same when the message is sealed again.
    #[n(0)]
    pub id: MessageId,
    /// Random for each join of the sender, so that its counter may start anew.
    #[n(1)]
    pub session: ByteArray<8>,
    /// 1, 2, 3 … in this conversation and session.
    #[n(2)]
    pub counter: u64,
    /// The last row of the log that the sender has processed.
    #[n(3)]
    pub seen: u64,
    /// The chain at that row.
    #[n(4)]
    pub chain: ByteArray<32>,
    /// What is said.
    #[n(5)]
    pub body: Body,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Body {
    /// A line of chat.
    #[n(0)]
    Text(#[n(0)] String),
    /// In a room: who has a file whose name matches.
    #[n(1)]
    WhoHas {
        /// Named in the answers.
        #[n(0)]
        search: SearchId,
        /// A glob.
        #[n(1)]
        pattern: String,
    },
    /// Directly: what matched.
    #[n(2)]
    Holds {
        /// The search's.
        #[n(0)]
        search: SearchId,
        /// At most [`crate::limits::SEARCH_ROWS`].
        #[n(1)]
        rows: Vec<FileRow>,
        /// How many more matched.
        #[n(2)]
        more: u64,
    },
    /// Directly: please send a file.
    #[n(3)]
    FileRequest(#[n(0)] FileRequest),
    /// Directly: here it comes.
    #[n(4)]
    FileAnswer(#[n(0)] FileAnswer),
    /// Directly: no.
    #[n(5)]
    FileRefused {
        /// The request's.
        #[n(0)]
        transfer: TransferId,
        /// Why.
        #[n(1)]
        reason: FileRefusal,
        /// Which rule, for people; at most [`crate::limits::REFUSAL_DETAIL_MAX`] bytes.
        #[n(2)]
        detail: Option<String>,
    },
    /// Directly: a round trip, to be answered with [`Body::Pong`].
    #[n(6)]
    Ping {
        /// Comes back.
        #[n(0)]
        token: u64,
    },
    /// Directly: the answer.
    #[n(7)]
    Pong {
        /// The ping's.
        #[n(0)]
        token: u64,
    },
    /// In a private room, by its owner after a rotation: the new secret for who is present.
    #[n(8)]
    NewSecret {
        /// The policy version that it opens.
        #[n(0)]
        version: u64,
        /// The words.
        #[n(1)]
        secret: String,
    },
    /// Directly: would you like this?
    #[n(9)]
    FileOffer(#[n(0)] FileOffer),
    /// Directly: no, thank you. A yes is a request that names the offer.
    #[n(10)]
    OfferRefused {
        /// The offer's.
        #[n(0)]
        offer: OfferId,
        /// Not by a word of the person: too many offers wait there.
        #[n(1)]
        #[cbor(default)]
        full: bool,
        /// Which rule is against it, for people; at most [`crate::limits::REFUSAL_DETAIL_MAX`] bytes.
        #[n(2)]
        detail: Option<String>,
    },
    /// Directly: the offer stands no longer.
    #[n(11)]
    OfferWithdrawn {
        /// The offer's.
        #[n(0)]
        offer: OfferId,
    },
    /// Directly: the request stands in line; said again when the place changes.
    #[n(12)]
    FileQueued {
        /// The request's.
        #[n(0)]
        transfer: TransferId,
        /// 1 is next.
        #[n(1)]
        place: u32,
        /// Seconds until it is about to begin, if there is anything to tell it from.
        #[n(2)]
        seconds: Option<u64>,
    },
    /// Directly: the request's file is being read to learn its root.
    #[n(13)]
    FileHashing {
        /// The request's.
        #[n(0)]
        transfer: TransferId,
        /// Bytes so far.
        #[n(1)]
        bytes: u64,
        /// Bytes in all.
        #[n(2)]
        total: u64,
    },
    /// Directly: the asker does not want it any more.
    #[n(14)]
    FileGivenUp {
        /// The request's.
        #[n(0)]
        transfer: TransferId,
        /// Which rule is against it, for people; at most [`crate::limits::REFUSAL_DETAIL_MAX`] bytes.
        #[n(1)]
        detail: Option<String>,
    },
    /// In a private room: somebody who was put out knows its secret, and the owner has not changed it since.
    #[n(20)]
    RotationWanted {
        /// The policy version that is in force with that secret.
        #[n(0)]
        version: u64,
    },
    /// In a private room, to its owner: the sender has not got the secret that is in force.
    #[n(21)]
    SecretWanted {
        /// The policy version in force.
        #[n(0)]
        version: u64,
    },
}

impl Envelope {
    /// The bytes to be sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads opened bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, PAYLOAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Id;

    #[test]
    fn an_envelope_reads_back_and_truncations_are_refused() {
        let body = Body::WhoHas { search: Id([1; 16]), pattern: "*.iso".into() };
        let envelope =
            Envelope { id: Id([2; 16]), session: [3; 8].into(), counter: 4, seen: 5, chain: [6; 32].into(), body };
        let bytes = envelope.to_bytes();
        assert_eq!(Envelope::from_bytes(&bytes), Ok(envelope));
        for len in 0..bytes.len() {
            assert!(Envelope::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
    }
}
