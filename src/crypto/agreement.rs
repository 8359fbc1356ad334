//! The key agreement of a file transfer: X25519 with ML-KEM-768 beside it.
//!
//! Request and answer travel in the direct conversation, which authenticates them. Each side's state is consumed by its one step,
//! so an ephemeral key is never used twice.

use super::rsa_split;
use super::schedule::{Context, FileKeys, Input, schedule};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use rand_core::CryptoRngCore;
use std::fmt;
use x25519_dalek::{EphemeralSecret, PublicKey};
use zeroize::Zeroizing;

/// A way to agree. X25519 is in each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The hybrid, and on top of it the split RSA key in a second stage. Taken only if both sides ask for it.
    RsaSplit,
    /// The hybrid, the default.
    X25519MlKem768,
    /// X25519 alone.
    X25519,
}

impl Mode {
    /// The strongest first: the order in which [`choose`] tries them.
    pub const ALL: [Self; 3] = [Self::RsaSplit, Self::X25519MlKem768, Self::X25519];

    /// The name on the wire and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaSplit => "rsa-split",
            Self::X25519MlKem768 => "x25519+mlkem768",
            Self::X25519 => "x25519",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    const fn hybrid(self) -> bool {
        matches!(self, Self::RsaSplit | Self::X25519MlKem768)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The modes that one side takes: names joined by commas, kept as they came (the transcript covers them), at most [`MODES_MAX`] bytes.
/// Names that we do not know may stand among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeList(String);

impl ModeList {
    /// Our own list.
    pub fn of(modes: &[Mode]) -> Self {
        Self(modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(","))
    }

    /// The names on it, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split(',')
    }

    /// The list with these names in this order, as a peer sent them; `None` if they could not stand on one.
    pub fn from_names(names: &[String]) -> Option<Self> {
        let len: usize = names.iter().map(|name| name.len() + 1).sum();
        let plain = |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        (len <= MODES_MAX && names.iter().all(plain)).then(|| Self(names.join(",")))
    }

    /// Whether the mode is on it.
    pub fn has(&self, mode: Mode) -> bool {
        self.0.split(',').any(|name| name == mode.name())
    }
}

impl<C> minicbor::Encode<C> for ModeList {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for ModeList {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let text = d.str()?;
        if text.len() > MODES_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(minicbor::decode::Error::message("not a list of modes"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The strongest mode that both lists have.
pub fn choose(ours: &ModeList, theirs: &ModeList) -> Option<Mode> {
    Mode::ALL.into_iter().find(|mode| ours.has(*mode) && theirs.has(*mode))
}

/// The asker's half of the agreement, as it travels in the request. The root and size that it does not know yet come with the answer.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Offer {
    /// The modes that the asker takes.
    #[n(0)]
    pub modes: ModeList,
    /// Fresh random bytes.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub random: [u8; 32],
    /// A fresh X25519 public key.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub x25519: [u8; 32],
    /// A fresh ML-KEM-768 encapsulation key (1,184 bytes), if a hybrid mode is offered.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub mlkem_ek: Option<Vec<u8>>,
    /// The public part of the split RSA key, if that mode is offered.
    #[n(4)]
    pub rsa: Option<rsa_split::PublicPart>,
}

/// The holder's half of the agreement, as it travels in the answer.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Answer {
    /// The modes that the holder takes.
    #[n(0)]
    pub modes: ModeList,
    /// Fresh random bytes.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub random: [u8; 32],
    /// A fresh X25519 public key.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub x25519: [u8; 32],
    /// The ML-KEM-768 ciphertext (1,088 bytes), if the strongest common mode is a hybrid.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub mlkem_ct: Option<Vec<u8>>,
}

/// Why no keys came out. Each ends the transfer before any file byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// The two lists share no mode.
    #[error("the peer takes none of our key agreement modes")]
    NoCommonMode,
    /// The peer's X25519 key is of low order: the result would be known to everybody.
    #[error("the peer's X25519 key is weak")]
    WeakPoint,
    /// A part that the mode needs is missing, not wanted or of the wrong size.
    #[error("the peer's key agreement is malformed")]
    Malformed,
    /// Our own library failed.
    #[error("key generation failed on this device")]
    Local,
}

/// The asker between its request and the answer. Holds the private halves; wiped on drop.
pub struct Requester {
    x25519: EphemeralSecret,
    mlkem: Option<DecapsulationKey>,
    offer: Offer,
}

impl Requester {
    /// Makes fresh keys for these modes; `rsa` is the public part for [`Mode::RsaSplit`], which is offered only with it. The ML-KEM key
    /// comes from aws-lc's own generator.
    pub fn start(
        rng: &mut dyn CryptoRngCore,
        modes: &[Mode],
        rsa: Option<rsa_split::PublicPart>,
    ) -> Result<(Self, Offer), AgreementError> {
        let modes: Vec<Mode> = modes.iter().copied().filter(|mode| *mode != Mode::RsaSplit || rsa.is_some()).collect();
        let (mlkem, mlkem_ek) = if modes.iter().any(|mode| mode.hybrid()) {
            let (key, public) = new_mlkem().ok_or(AgreementError::Local)?;
            (Some(key), Some(public))
        } else {
            (None, None)
        };
        let mut random = [0; 32];
        rng.fill_bytes(&mut random);
        let x25519 = EphemeralSecret::random_from_rng(rng);
        let public = PublicKey::from(&x25519).to_bytes();
        let offer = Offer { modes: ModeList::of(&modes), random, x25519: public, mlkem_ek, rsa };
        Ok((Self { x25519, mlkem, offer: offer.clone() }, offer))
    }

    /// The modes that were offered.
    pub const fn modes(&self) -> &ModeList {
        &self.offer.modes
    }

    /// Takes the holder's answer. The mode is computed from both lists, never read from the peer, so it cannot be talked down.
    pub fn finish(self, answer: &Answer, context: &Context<'_>) -> Result<FileKeys, AgreementError> {
        let mode = choose(&self.offer.modes, &answer.modes).ok_or(AgreementError::NoCommonMode)?;
        let shared = contributory(self.x25519, answer.x25519)?;
        let kem = match (&answer.mlkem_ct, &self.mlkem, mode.hybrid()) {
            (Some(ct), Some(key), true) => Some(decapsulate(key, ct)?),
            (None, _, false) => None,
            _ => return Err(AgreementError::Malformed),
        };
        Ok(derive(&self.offer, answer, context, &shared, kem.as_deref()))
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requester(..)")
    }
}

/// The holder's one step: the answer to an offer, and the keys. The context's root and size go with the answer.
pub fn respond(
    rng: &mut dyn CryptoRngCore,
    offer: &Offer,
    modes: &[Mode],
    context: &Context<'_>,
) -> Result<(Answer, FileKeys), AgreementError> {
    let modes = ModeList::of(modes);
    let mode = choose(&modes, &offer.modes).ok_or(AgreementError::NoCommonMode)?;
    if mode == Mode::RsaSplit && offer.rsa.is_none() {
        return Err(AgreementError::Malformed);
    }
    let mut random = [0; 32];
    rng.fill_bytes(&mut random);
    let secret = EphemeralSecret::random_from_rng(rng);
    let x25519 = PublicKey::from(&secret).to_bytes();
    let shared = contributory(secret, offer.x25519)?;
    let (mlkem_ct, kem) = if mode.hybrid() {
        let (ct, kem) = encapsulate(offer.mlkem_ek.as_deref().ok_or(AgreementError::Malformed)?)?;
        (Some(ct), Some(kem))
    } else {
        (None, None)
    };
    let answer = Answer { modes, random, x25519, mlkem_ct };
    let keys = derive(offer, &answer, context, &shared, kem.as_deref());
    Ok((answer, keys))
}

fn derive(
    offer: &Offer,
    answer: &Answer,
    context: &Context<'_>,
    x25519: &[u8; 32],
    mlkem: Option<&[u8; 32]>,
) -> FileKeys {
    let mut transcript = context.transcript();
    transcript
        .field(offer.modes.0.as_bytes())
        .field(answer.modes.0.as_bytes())
        .field(&offer.random)
        .field(&offer.x25519)
        .field(offer.mlkem_ek.as_deref().unwrap_or_default())
        .field(&answer.random)
        .field(&answer.x25519)
        .field(answer.mlkem_ct.as_deref().unwrap_or_default());
    match &offer.rsa {
        Some(rsa) => transcript.field(&rsa.n).field(&rsa.y).field(&rsa.x_hash),
        None => transcript.field(&[]).field(&[]).field(&[]),
    };
    let mut inputs =
        vec![Input::AskerRandom(&offer.random), Input::HolderRandom(&answer.random), Input::X25519(x25519)];
    inputs.extend(mlkem.map(Input::MlKem));
    schedule(&transcript.hash(), &inputs)
}

/// X25519 (RFC 7748) with the all-zero result refused, which every low-order point gives.
fn contributory(ours: EphemeralSecret, theirs: [u8; 32]) -> Result<Zeroizing<[u8; 32]>, AgreementError> {
    let shared = ours.diffie_hellman(&PublicKey::from(theirs));
    if !shared.was_contributory() {
        return Err(AgreementError::WeakPoint);
    }
    Ok(Zeroizing::new(shared.to_bytes()))
}

fn new_mlkem() -> Option<(DecapsulationKey, Vec<u8>)> {
    let key = DecapsulationKey::generate(&ML_KEM_768).ok()?;
    let public = key.encapsulation_key().ok()?.key_bytes().ok()?.as_ref().to_vec();
    Some((key, public))
}

fn encapsulate(ek: &[u8]) -> Result<(Vec<u8>, Zeroizing<[u8; 32]>), AgreementError> {
    let key = EncapsulationKey::new(&ML_KEM_768, ek).map_err(|_| AgreementError::Malformed)?;
    let (ct, shared) = key.encapsulate().map_err(|_| AgreementError::Malformed)?;
    let shared = shared.as_ref().try_into().map_err(|_| AgreementError::Local)?;
    Ok((ct.as_ref().to_vec(), Zeroizing::new(shared)))
}

fn decapsulate(key: &DecapsulationKey, ct: &[u8]) -> Result<Zeroizing<[u8; 32]>, AgreementError> {
    let shared = key.decapsulate(Ciphertext::from(ct)).map_err(|_| AgreementError::Malformed)?;
    Ok(Zeroizing::new(shared.as_ref().try_into().map_err(|_| AgreementError::Local)?))
}

/// Longest list of modes on the wire, bytes.
pub const MODES_MAX: usize = 128;

#[cfg(test)]
mod tests;
