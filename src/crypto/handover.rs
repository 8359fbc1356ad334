//! The hand-over of a split RSA key: what travels on the sealed path between the agreement and the first file byte.
//!
//! ```text
//! asker                                              holder
//!   │  x, 32 bytes, alone in a handshake frame ──────▶ │  checks it against n, y and the hash of the request
//!   │ ◀────────── ciphertext, in a handshake frame     │  has stage two
//!   │  decrypts once, has stage two                    │
//! ```
//!
//! Both frames go under the keys of stage one. Then both sides make a *new* connection with the keys and connection ids of [`StageTwo`], and
//! only that one carries file bytes. The holder keeps the first connection alive, which repeats the ciphertext, until the second one has a
//! path; the asker closes it when it has the ciphertext. An error ends the transfer, and the peer is told nothing of its reason.

use super::rsa_split::{PathPart, PublicPart, SplitError, SplitKey, seal_secret};
use super::schedule::{DirectionKey, FileKeys};
use rand_core::CryptoRngCore;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// One side of the hand-over. Wiped on drop; never prints.
pub enum Handover {
    /// Who wants the file.
    Asker(SplitAsker),
    /// Who has it.
    Holder(SplitHolder),
}

/// The asker: has the private key.
pub struct SplitAsker {
    path: PathPart,
    // Taken by the one decryption.
    secret: Option<(FileKeys, SplitKey)>,
}

/// The holder: has the request's part of the public key.
pub struct SplitHolder {
    public: PublicPart,
    stage_one: Option<FileKeys>,
    // Once the path part has come: it, and the answer that is repeated.
    answered: Option<(PathPart, Vec<u8>)>,
}

/// What a message of the peer leads to.
pub struct Taken {
    /// To be sent from now on in place of what was sent before.
    pub reply: Option<Vec<u8>>,
    /// Stage two, given once.
    pub keys: Option<StageTwo>,
}

/// Keys and connection ids of the connection that carries the file.
pub struct StageTwo {
    /// Key and iv for what we send.
    pub send: Zeroizing<[u8; 44]>,
    /// Key and iv for what we receive.
    pub receive: Zeroizing<[u8; 44]>,
    /// Connection id on datagrams to us.
    pub our_connection: [u8; 8],
    /// Connection id on datagrams to the peer.
    pub peer_connection: [u8; 8],
}

impl Handover {
    /// The asker's side, with the keys of stage one.
    pub const fn asker(stage_one: FileKeys, key: SplitKey, path: PathPart) -> Self {
        Self::Asker(SplitAsker { path, secret: Some((stage_one, key)) })
    }

    /// The holder's side, with the keys of stage one and the part that stood in the request.
    pub const fn holder(stage_one: FileKeys, public: PublicPart) -> Self {
        Self::Holder(SplitHolder { public, stage_one: Some(stage_one), answered: None })
    }

    /// What to send as soon as there is a path; the holder waits.
    pub fn first(&self) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Asker(asker) => Some(Zeroizing::new(asker.path.as_bytes().to_vec())),
            Self::Holder(_) => None,
        }
    }

    /// Takes a message of the peer, which may be a repeat. A private operation of some ten milliseconds at the asker. After an error it
    /// must be dropped, and the transfer with it.
    pub fn take(&mut self, rng: &mut dyn CryptoRngCore, bytes: &[u8]) -> Result<Taken, SplitError> {
        match self {
            Self::Asker(asker) => asker.take(rng, bytes),
            Self::Holder(holder) => holder.take(rng, bytes),
        }
    }
}

impl SplitAsker {
    fn take(&mut self, rng: &mut dyn CryptoRngCore, ciphertext: &[u8]) -> Result<Taken, SplitError> {
        let Some((stage_one, key)) = self.secret.take() else { return Ok(Taken { reply: None, keys: None }) };
        let secret = key.open(rng, &stage_one.transcript, ciphertext)?;
        let keys = stage_one.second_stage(&secret, ciphertext);
        Ok(Taken { reply: None, keys: Some(StageTwo::of(&keys, false)) })
    }
}

impl SplitHolder {
    fn take(&mut self, rng: &mut dyn CryptoRngCore, bytes: &[u8]) -> Result<Taken, SplitError> {
        let path = PathPart::from_bytes(bytes.try_into().map_err(|_| SplitError::PathPart)?);
        if let Some((known, ciphertext)) = &self.answered {
            let same = bool::from(known.as_bytes().ct_eq(path.as_bytes()));
            return same.then(|| Taken { reply: Some(ciphertext.clone()), keys: None }).ok_or(SplitError::PathPart);
        }
        let stage_one = self.stage_one.take().ok_or(SplitError::PathPart)?;
        let (ciphertext, secret) = seal_secret(rng, &self.public, &path, &stage_one.transcript)?;
        let keys = stage_one.second_stage(&secret, &ciphertext);
        self.answered = Some((path, ciphertext.clone()));
        Ok(Taken { reply: Some(ciphertext), keys: Some(StageTwo::of(&keys, true)) })
    }
}

impl StageTwo {
    fn of(keys: &FileKeys, holder: bool) -> Self {
        let (asker, holders) = (joined(&keys.asker_to_holder), joined(&keys.holder_to_asker));
        let (to_asker, to_holder) = keys.connections();
        let (send, receive) = if holder { (holders, asker) } else { (asker, holders) };
        let (our_connection, peer_connection) = if holder { (to_holder, to_asker) } else { (to_asker, to_holder) };
        Self { send, receive, our_connection, peer_connection }
    }
}

/// Key and iv in one, as a channel takes them.
pub fn joined(key: &DirectionKey) -> Zeroizing<[u8; 44]> {
    let mut out = Zeroizing::new([0; 44]);
    let (first, last) = out.split_at_mut(32);
    first.copy_from_slice(&key.key);
    last.copy_from_slice(&key.iv);
    out
}

macro_rules! redacted {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}
redacted!(Handover SplitAsker SplitHolder Taken StageTwo);

#[cfg(test)]
mod tests;
