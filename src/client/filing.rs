//! Shapes of a file agreement, between wire, crypto and the file side.

use super::transfers::Terms;
use crate::crypto::agreement::{ModeList, Offer};
use crate::crypto::handover::joined;
use crate::crypto::schedule::FileKeys;
use crate::limits::CANDIDATES_MAX;
use crate::wire::packet::BASE_DATAGRAM;
use crate::wire::payload::{Arq, FileAnswer, FileKind, FileRequest};
use std::net::SocketAddr;
use zeroize::Zeroizing;

/// The asker's offer as the key agreement takes it; `None` if its modes are none.
pub(super) fn offer_of(request: &FileRequest) -> Option<Offer> {
    Some(Offer {
        modes: ModeList::from_names(&request.modes)?,
        random: *request.random,
        x25519: *request.x25519,
        mlkem_ek: request.ml_kem.as_ref().map(|ek| ek.to_vec()),
        rsa: request.rsa.as_deref().cloned(),
    })
}

/// Key and iv for what one side sends, and for what it receives.
pub(super) fn directions(keys: &FileKeys, holder: bool) -> (Zeroizing<[u8; 44]>, Zeroizing<[u8; 44]>) {
    let (asker, holders) = (joined(&keys.asker_to_holder), joined(&keys.holder_to_asker));
    if holder { (holders, asker) } else { (asker, holders) }
}

/// What both sides go by apart from keys: computed alike from what each said, and bound into the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    pub kind: FileKind,
    pub partial: bool,
    pub arq: Arq,
    pub window: Option<u32>,
    pub max_datagram: u16,
}

impl Agreed {
    /// At the holder, with its own ARQ policy, window and datagram size.
    pub fn of(request: &FileRequest, ours: (Arq, Option<u32>, u16), partial: bool) -> Self {
        let asker = (request.arq, request.window, request.max_datagram);
        Self::between(request.kind, partial, asker, ours)
    }

    /// At the asker.
    pub fn by(terms: &Terms, answer: &FileAnswer) -> Self {
        let asker = (terms.arq, terms.window, datagram(terms.max_datagram));
        Self::between(answer.kind, answer.partial, asker, (answer.arq, answer.window, answer.max_datagram))
    }

    fn between(kind: FileKind, partial: bool, asker: (Arq, Option<u32>, u16), holder: (Arq, Option<u32>, u16)) -> Self {
        let window = asker.1.into_iter().chain(holder.1).min().map(|window| window.max(1));
        // What is smaller than every path takes is no limit.
        let max_datagram = asker.2.min(holder.2).max(datagram(BASE_DATAGRAM));
        Self { kind, partial, arq: Arq::agreed(asker.0, holder.0), window, max_datagram }
    }

    /// As the transcript has it: kind, partial, ARQ policy (1 byte each), window (4, 0 for none), largest datagram (2), big-endian.
    pub fn to_bytes(self) -> [u8; 9] {
        let mut out = [0; 9];
        let (window, max) = (self.window.unwrap_or(0).to_be_bytes(), self.max_datagram.to_be_bytes());
        let first = [u8::from(self.kind == FileKind::Folder), u8::from(self.partial), arq_byte(self.arq)];
        out.iter_mut().zip(first.iter().chain(&window).chain(&max)).for_each(|(to, from)| *to = *from);
        out
    }
}

const fn arq_byte(arq: Arq) -> u8 {
    match arq {
        Arq::Auto => 0,
        Arq::GoBackN => 1,
        Arq::SelectiveRepeat => 2,
    }
}

/// A datagram's size as it travels.
pub(super) fn datagram(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// At most [`CANDIDATES_MAX`], as they travel.
pub(super) fn texts(candidates: &[SocketAddr]) -> Vec<String> {
    candidates.iter().take(CANDIDATES_MAX).map(SocketAddr::to_string).collect()
}

/// Those that are addresses.
pub(super) fn addresses(candidates: &[String]) -> Vec<SocketAddr> {
    candidates.iter().take(CANDIDATES_MAX).filter_map(|text| text.parse().ok()).collect()
}
