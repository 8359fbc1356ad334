//! The split RSA key: an opt-in second stage in which an ephemeral RSA public key is handed over in two parts on two paths.
//!
//! e = 65537 is public, so publishing y = e·x hides nothing by itself; what protects the file is stage one, whose chaining secret always goes
//! into stage two. x is random and unrelated to the private key, and the product is taken over the integers, so the parts tell nothing of it.

use rand_core::CryptoRngCore;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, Oaep, RsaPrivateKey, RsaPublicKey};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The part that the request carries.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct PublicPart {
    /// The modulus, 3,072 bits, big-endian.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub n: [u8; N_BYTES],
    /// y = 65537 · x over the integers, big-endian.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub y: [u8; Y_BYTES],
    /// SHA-256 of the other part.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub x_hash: [u8; 32],
}

/// x, the part that goes alone over the UDP path in a sealed frame: a random odd number of exactly 256 bits. Wiped on drop; never prints.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PathPart([u8; 32]);

impl PathPart {
    /// Takes the bytes as they came over the path; [`seal_secret`] checks them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, big-endian, for the sealed frame only.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PathPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PathPart(..)")
    }
}

/// Why the second stage ended. It ends the transfer; the peer is told nothing of the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The part from the path is not the one that the request named, or not of the right form.
    #[error("the peer's path part does not belong to its request")]
    PathPart,
    /// y is not 65537 · x.
    #[error("the peer's RSA exponent is not 65537")]
    Exponent,
    /// The modulus is not an odd number of 3,072 bits.
    #[error("the peer's RSA modulus is malformed")]
    Modulus,
    /// The ciphertext does not open.
    #[error("the peer's RSA answer does not open")]
    Ciphertext,
    /// Our own library failed.
    #[error("RSA failed on this device")]
    Local,
}

/// The requester's private key. Decrypts once: the step consumes it, and it is wiped on drop.
pub struct SplitKey(RsaPrivateKey);

impl SplitKey {
    /// A fresh 3,072-bit key with its two public parts. Takes seconds: not for an async thread.
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Result<(Self, PublicPart, PathPart), SplitError> {
        let key = RsaPrivateKey::new_with_exp(rng, N_BITS, &BigUint::from(E)).map_err(|_| SplitError::Local)?;
        Self::split(rng, key).ok_or(SplitError::Local)
    }

    /// A given key, split anew. `None` if its modulus does not have 3,072 bits.
    pub(super) fn split(rng: &mut dyn CryptoRngCore, key: RsaPrivateKey) -> Option<(Self, PublicPart, PathPart)> {
        let (public, path) = split(rng, &key)?;
        Some((Self(key), public, path))
    }

    /// Opens the holder's ciphertext, once. `transcript` is the hash of stage one; `rng` blinds the private operation.
    pub fn open(
        self,
        rng: &mut dyn CryptoRngCore,
        transcript: &[u8; 32],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, SplitError> {
        let mut rng = rng;
        let plain =
            self.0.decrypt_blinded(&mut rng, oaep(transcript), ciphertext).map_err(|_| SplitError::Ciphertext)?;
        let plain = Zeroizing::new(plain);
        Ok(Zeroizing::new(plain.as_slice().try_into().map_err(|_| SplitError::Ciphertext)?))
    }
}

impl fmt::Debug for SplitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SplitKey(..)")
    }
}

/// The holder's step: checks that both parts are those of the request, then seals 32 fresh bytes to the key. Gives the ciphertext, which is
/// kept for repeats, and those bytes.
pub fn seal_secret(
    rng: &mut dyn CryptoRngCore,
    public: &PublicPart,
    path: &PathPart,
    transcript: &[u8; 32],
) -> Result<(Vec<u8>, Zeroizing<[u8; 32]>), SplitError> {
    let key = join(public, path)?;
    let mut secret = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *secret);
    let mut rng = rng;
    let ciphertext = key.encrypt(&mut rng, oaep(transcript), &*secret).map_err(|_| SplitError::Modulus)?;
    Ok((ciphertext, secret))
}

/// The public key that the two parts make, if they belong together.
fn join(public: &PublicPart, path: &PathPart) -> Result<RsaPublicKey, SplitError> {
    let hash: [u8; 32] = Sha256::digest(path.0).into();
    let well_formed = path.0[0] & 0x80 != 0 && path.0[31] & 1 == 1;
    if !bool::from(hash.ct_eq(&public.x_hash)) || !well_formed {
        return Err(SplitError::PathPart);
    }
    if BigUint::from_bytes_be(&public.y) != BigUint::from_bytes_be(&path.0) * BigUint::from(E) {
        return Err(SplitError::Exponent);
    }
    if public.n[0] & 0x80 == 0 || public.n[N_BYTES - 1] & 1 == 0 {
        return Err(SplitError::Modulus);
    }
    RsaPublicKey::new(BigUint::from_bytes_be(&public.n), BigUint::from(E)).map_err(|_| SplitError::Modulus)
}

fn split(rng: &mut dyn CryptoRngCore, key: &RsaPrivateKey) -> Option<(PublicPart, PathPart)> {
    let mut path = PathPart([0; 32]);
    rng.fill_bytes(&mut path.0);
    path.0[0] |= 0x80;
    path.0[31] |= 1;
    let y = BigUint::from_bytes_be(&path.0) * BigUint::from(E);
    let n = key.n().to_bytes_be().try_into().ok()?;
    let y = padded(&y.to_bytes_be())?;
    let x_hash = Sha256::digest(path.0).into();
    Some((PublicPart { n, y, x_hash }, path))
}

fn padded(bytes: &[u8]) -> Option<[u8; Y_BYTES]> {
    let mut out = [0; Y_BYTES];
    out.get_mut(Y_BYTES.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(out)
}

/// OAEP (RFC 8017) with SHA-256 for hash and mask; the label is the transcript hash in lower-case hex.
fn oaep(transcript: &[u8; 32]) -> Oaep {
    let label: String = transcript.iter().map(|byte| format!("{byte:02x}")).collect();
    Oaep::new_with_label::<Sha256, _>(label)
}

/// The public exponent.
const E: u32 = 65537;
const N_BITS: usize = 3072;
const N_BYTES: usize = N_BITS / 8;
/// x has exactly 256 bits and e has 17, so the product has 272 or 273.
const Y_BYTES: usize = 35;

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use std::sync::OnceLock;

    fn rng() -> ChaCha20Rng {
        ChaCha20Rng::seed_from_u64(5)
    }

    /// One key for all tests, split anew for each: making one takes seconds.
    fn made() -> (SplitKey, PublicPart, PathPart) {
        static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
        let key = KEY.get_or_init(|| SplitKey::generate(&mut rng()).unwrap().0.0).clone();
        let (public, path) = split(&mut rng(), &key).unwrap();
        (SplitKey(key), public, path)
    }

    #[test]
    fn the_holders_secret_arrives_and_nothing_prints() {
        let (key, public, path) = made();
        assert!(path.as_bytes()[0] >= 0x80 && path.as_bytes()[31] % 2 == 1 && public.n[0] >= 0x80);
        assert_eq!(format!("{key:?} {path:?}"), "SplitKey(..) PathPart(..)");
        let (ciphertext, secret) = seal_secret(&mut rng(), &public, &path, &[7; 32]).unwrap();
        assert_eq!(ciphertext.len(), N_BYTES);
        assert_eq!(key.open(&mut rng(), &[7; 32], &ciphertext).unwrap(), secret);
    }

    #[test]
    fn a_ciphertext_of_another_transcript_or_a_changed_one_does_not_open() {
        let (key, public, path) = made();
        let (mut ciphertext, _) = seal_secret(&mut rng(), &public, &path, &[7; 32]).unwrap();
        assert_eq!(key.open(&mut rng(), &[8; 32], &ciphertext), Err(SplitError::Ciphertext));
        ciphertext[100] ^= 1;
        assert_eq!(made().0.open(&mut rng(), &[7; 32], &ciphertext), Err(SplitError::Ciphertext));
        assert_eq!(made().0.open(&mut rng(), &[7; 32], &ciphertext[1..]), Err(SplitError::Ciphertext));
        assert_eq!(made().0.open(&mut rng(), &[7; 32], &[]), Err(SplitError::Ciphertext));
    }

    #[test]
    fn a_swapped_path_part_is_refused() {
        let (_, public, path) = made();
        let mut bytes = *path.as_bytes();
        bytes[9] ^= 1;
        let refused = seal_secret(&mut rng(), &public, &PathPart::from_bytes(bytes), &[7; 32]).unwrap_err();
        assert_eq!(refused, SplitError::PathPart);
        // Even and short numbers are refused also when the request names them.
        for bytes in [[0x80; 32], [0x01; 32]] {
            let public = PublicPart { x_hash: Sha256::digest(bytes).into(), ..public.clone() };
            let refused = seal_secret(&mut rng(), &public, &PathPart::from_bytes(bytes), &[7; 32]).unwrap_err();
            assert_eq!(refused, SplitError::PathPart);
        }
    }

    #[test]
    fn another_exponent_or_a_malformed_modulus_is_refused() {
        let (_, public, path) = made();
        let refused = |public: &PublicPart| seal_secret(&mut rng(), public, &path, &[7; 32]).unwrap_err();
        let x = BigUint::from_bytes_be(path.as_bytes());
        for e in [1_u32, 3, 65536, 65539] {
            let y = padded(&(&x * BigUint::from(e)).to_bytes_be()).unwrap();
            assert_eq!(refused(&PublicPart { y, ..public.clone() }), SplitError::Exponent);
        }
        let mut short = public.clone();
        short.n[0] &= 0x7f;
        let mut even = public.clone();
        even.n[N_BYTES - 1] &= 0xfe;
        assert_eq!((refused(&short), refused(&even)), (SplitError::Modulus, SplitError::Modulus));
    }
}
