//! The two derivations behind every other: Argon2id from what people remember, HKDF-SHA256 from what is already a key.

use super::secret::Secret;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The price of one Argon2id derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory, KiB.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// What this protocol version asks of people's own devices: 64 MiB, three passes, one lane.
pub const CLIENT_COST: Cost = Cost { memory: 64 * 1024, passes: 3, lanes: 1 };

/// A cost is outside what Argon2 defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Argon2 parameters out of range")]
pub struct BadCost;

/// Argon2id v1.3 (RFC 9106): 32 bytes from a secret and a salt. Its working memory is wiped. Takes `cost.memory` KiB; whoever reads a
/// cost from outside checks it first.
pub fn stretch(secret: &Secret, salt: &[u8], cost: Cost) -> Result<Zeroizing<[u8; 32]>, BadCost> {
    let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(32)).map_err(|_| BadCost)?;
    let mut blocks = Zeroizing::new(vec![Block::default(); params.block_count()]);
    let mut out = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(secret.expose().as_bytes(), salt, &mut *out, &mut *blocks)
        .map_err(|_| BadCost)?;
    Ok(out)
}

/// HKDF-SHA256 (RFC 5869): `N` bytes of `key` under `salt` for one label and its fields (joined; all but the last of fixed length).
pub fn expand<const N: usize>(salt: &[u8], key: &[u8], label: &str, fields: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32) };
    let mut out = Zeroizing::new([0; N]);
    let info: Vec<&[u8]> = std::iter::once(label.as_bytes()).chain(fields.iter().copied()).collect();
    Hkdf::<Sha256>::new(Some(salt), key)
        .expand_multi_info(&info, &mut *out)
        .expect("the length is checked when this is compiled");
    out
}
