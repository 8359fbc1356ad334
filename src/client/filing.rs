//! Shapes of a file agreement, between wire, crypto and the file side.

use crate::crypto::agreement::{ModeList, Offer};
use crate::crypto::schedule::{DirectionKey, FileKeys};
use crate::limits::CANDIDATES_MAX;
use crate::wire::payload::FileRequest;
use std::net::SocketAddr;
use zeroize::Zeroizing;

pub(super) const fn direction(upload: bool) -> &'static str {
    if upload { "upload" } else { "download" }
}

/// The asker's offer as the key agreement takes it; `None` if its modes are none.
pub(super) fn offer_of(request: &FileRequest) -> Option<Offer> {
    Some(Offer {
        modes: ModeList::from_names(&request.modes)?,
        random: *request.random,
        x25519: *request.x25519,
        mlkem_ek: request.ml_kem.as_ref().map(|ek| ek.to_vec()),
        rsa: None,
    })
}

/// Key and iv for what one side sends, and for what it receives.
pub(super) fn directions(keys: &FileKeys, holder: bool) -> (Zeroizing<[u8; 44]>, Zeroizing<[u8; 44]>) {
    let (asker, holders) = (joined(&keys.asker_to_holder), joined(&keys.holder_to_asker));
    if holder { (holders, asker) } else { (asker, holders) }
}

fn joined(key: &DirectionKey) -> Zeroizing<[u8; 44]> {
    let mut out = Zeroizing::new([0; 44]);
    out[..32].copy_from_slice(&key.key);
    out[32..].copy_from_slice(&key.iv);
    out
}

/// At most [`CANDIDATES_MAX`], as they travel.
pub(super) fn texts(candidates: &[SocketAddr]) -> Vec<String> {
    candidates.iter().take(CANDIDATES_MAX).map(SocketAddr::to_string).collect()
}

/// Those that are addresses.
pub(super) fn addresses(candidates: &[String]) -> Vec<SocketAddr> {
    candidates.iter().take(CANDIDATES_MAX).filter_map(|text| text.parse().ok()).collect()
}
