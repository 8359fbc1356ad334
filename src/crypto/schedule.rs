//! The key schedule of a file transfer: transcript and shared secrets in, keys for each direction and proofs out.

use super::identity::PublicKey;
use super::kdf::expand;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// SHA-256 over length-prefixed fields (8 bytes big-endian, then the bytes), begun by a label. Public, not a secret.
#[derive(Debug, Clone)]
pub struct Transcript(Sha256);

impl Transcript {
    /// Begins with the label as first field.
    pub fn new(label: &str) -> Self {
        let mut transcript = Self(Sha256::new());
        transcript.field(label.as_bytes());
        transcript
    }

    /// Adds a field; an absent one is added empty, so that each has its place.
    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// The hash of all fields so far.
    pub fn hash(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

/// One side of a transfer.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    /// `NAME@SERVER`.
    pub name: &'a str,
    /// The identity key that its name certificate holds.
    pub key: PublicKey,
}

/// What both sides know of a transfer apart from the agreement itself. Both must have it equal, or their keys differ.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The transfer's id, chosen by the asker.
    pub transfer: &'a [u8; 16],
    /// Who wants the file.
    pub asker: Party<'a>,
    /// Who has it.
    pub holder: Party<'a>,
    /// The MLS group of the direct conversation that carries request and answer.
    pub group: &'a [u8],
    /// The file's BLAKE3 root, from the answer.
    pub root: &'a [u8; 32],
    /// The file's size in bytes, from the answer.
    pub size: u64,
    /// What else both go by (what travels, the ARQ policy, windows and sizes), as bytes that they encode alike.
    pub terms: &'a [u8],
}

impl Context<'_> {
    /// The transcript with these fields in it; the agreement adds its own.
    pub fn transcript(&self) -> Transcript {
        let mut transcript = Transcript::new("secchat/1 file transcript");
        transcript
            .field(self.transfer)
            .field(b"asker")
            .field(self.asker.name.as_bytes())
            .field(self.asker.key.as_bytes())
            .field(b"holder")
            .field(self.holder.name.as_bytes())
            .field(self.holder.key.as_bytes())
            .field(self.group)
            .field(self.root)
            .field(&self.size.to_be_bytes())
            .field(self.terms);
        transcript
    }
}

/// One input of the schedule. The order of the variants is the order in which they are hashed.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// The asker's 32 random bytes.
    AskerRandom(&'a [u8; 32]),
    /// The holder's 32 random bytes.
    HolderRandom(&'a [u8; 32]),
    /// The X25519 result.
    X25519(&'a [u8; 32]),
    /// The ML-KEM-768 shared secret.
    MlKem(&'a [u8; 32]),
    /// The chaining secret of a first stage.
    Stage(&'a [u8; 32]),
    /// The 32 bytes that went under the split RSA key.
    Rsa(&'a [u8; 32]),
}

impl Input<'_> {
    const fn parts(&self) -> (u8, &[u8; 32]) {
        match self {
            Self::AskerRandom(bytes) => (1, bytes),
            Self::HolderRandom(bytes) => (2, bytes),
            Self::X25519(bytes) => (3, bytes),
            Self::MlKem(bytes) => (4, bytes),
            Self::Stage(bytes) => (5, bytes),
            Self::Rsa(bytes) => (6, bytes),
        }
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({})", self.parts().0)
    }
}

/// Key and nonce base of one direction, as ChaCha20-Poly1305 takes them. Wiped on drop; never prints.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DirectionKey {
    /// The key.
    pub key: [u8; 32],
    /// What packet numbers are XORed into.
    pub iv: [u8; 12],
}

/// What one side sends, sealed, to show that it has the keys; the other compares before any file byte.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Confirm([u8; 32]);

impl Confirm {
    /// The bytes to send.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether the other side sent this value; constant time.
    pub fn matches(&self, received: &[u8]) -> bool {
        self.0.ct_eq(received).into()
    }
}

/// The keys of one transfer. Wiped on drop; never print.
pub struct FileKeys {
    /// Seals what the asker sends.
    pub asker_to_holder: DirectionKey,
    /// Seals what the holder sends.
    pub holder_to_asker: DirectionKey,
    /// The asker's proof. No message carries it: the holder sends no file byte before a datagram has opened under
    /// [`Self::asker_to_holder`], which shows the same. It has its place in the test vectors.
    pub confirm_asker: Confirm,
    /// The holder's proof.
    pub confirm_holder: Confirm,
    /// The hash that all this was derived under; public.
    pub transcript: [u8; 32],
    chain: Zeroizing<[u8; 32]>,
}

impl FileKeys {
    /// The second stage: new keys from this stage's chaining secret, the RSA secret, the transcript and the ciphertext. The first
    /// stage's keys end here, so no file byte can go under them.
    pub fn second_stage(self, rsa_secret: &[u8; 32], ciphertext: &[u8]) -> Self {
        let mut transcript = Transcript::new("secchat/1 file transcript 2");
        let hash = transcript.field(&self.transcript).field(ciphertext).hash();
        schedule(&hash, &[Input::Stage(&self.chain), Input::Rsa(rsa_secret)])
    }

    /// By what a server that passes the file's datagrams on finds its two sides: the asker's token, and the holder's. Known to both
    /// sides, and to nobody else before they register them.
    pub fn relay_tokens(&self) -> ([u8; 32], [u8; 32]) {
        let token = |label| *expand::<32>(&self.transcript, &*self.chain, label, &[]);
        (token("secchat/1 relay asker"), token("secchat/1 relay holder"))
    }

    /// Connection ids for a connection under these keys: on datagrams to the asker, and to the holder. Public, and known to both.
    pub fn connections(&self) -> ([u8; 8], [u8; 8]) {
        let id = |label| *expand::<8>(&self.transcript, &*self.chain, label, &[]);
        (id("secchat/1 file asker connection"), id("secchat/1 file holder connection"))
    }
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
redacted!(DirectionKey Confirm FileKeys);

/// The schedule itself: HKDF-SHA256 with the transcript hash as salt and, for each input in the order of [`Input`], one id byte || length
/// (2 bytes, big-endian) || bytes as key material; expanded under labels that begin with `secchat/1 file`.
pub fn schedule(transcript: &[u8; 32], inputs: &[Input<'_>]) -> FileKeys {
    let mut parts: Vec<(u8, &[u8; 32])> = inputs.iter().map(Input::parts).collect();
    parts.sort_unstable_by_key(|(id, _)| *id);
    // Sized before it is filled: a buffer that moves would leave a copy behind.
    let mut ikm = Zeroizing::new(Vec::with_capacity(parts.len() * 35));
    for (id, bytes) in parts {
        ikm.push(id);
        ikm.extend_from_slice(&[0, 32]);
        ikm.extend_from_slice(bytes);
    }
    let direction =
        |key, iv| DirectionKey { key: *expand(transcript, &ikm, key, &[]), iv: *expand(transcript, &ikm, iv, &[]) };
    FileKeys {
        asker_to_holder: direction("secchat/1 file asker key", "secchat/1 file asker iv"),
        holder_to_asker: direction("secchat/1 file holder key", "secchat/1 file holder iv"),
        confirm_asker: Confirm(*expand(transcript, &ikm, "secchat/1 file asker confirm", &[])),
        confirm_holder: Confirm(*expand(transcript, &ikm, "secchat/1 file holder confirm", &[])),
        transcript: *transcript,
        chain: expand(transcript, &ikm, "secchat/1 file chain", &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn vector() -> FileKeys {
        schedule(
            &[0x10; 32],
            &[
                Input::AskerRandom(&[0x01; 32]),
                Input::HolderRandom(&[0x02; 32]),
                Input::X25519(&[0x03; 32]),
                Input::MlKem(&[0x04; 32]),
            ],
        )
    }

    /// The vectors of docs/PROTOCOL.md.
    #[test]
    fn the_published_vectors_hold() {
        let keys = vector();
        assert_eq!(hex(&keys.asker_to_holder.key), "10dd87512eceb51b80f71bc7c0388c11c6787cb2960ac0be3a6d6dcf34894815");
        assert_eq!(hex(&keys.asker_to_holder.iv), "ddfbdf44c4600abe4af81b56");
        assert_eq!(hex(&keys.holder_to_asker.key), "1c7b9ac82f83a65c2cac30f712c7f545fe04c5c0b3a29026fc4730609e139f12");
        assert_eq!(hex(&keys.holder_to_asker.iv), "a9fcd7f47a7b0f4dd309ece0");
        assert_eq!(
            hex(keys.confirm_asker.as_bytes()),
            "1d7ec26e707767a77aef6b135d045b50bd2bc6506fa4684dfa414a94792b9be7"
        );
        assert_eq!(
            hex(keys.confirm_holder.as_bytes()),
            "56e16aa1d0ea2542ff36de56f16ef3ec02fda9195e11610f676333ec09ea881b"
        );
        let second = keys.second_stage(&[0x06; 32], &[0x07; 384]);
        assert_eq!(hex(&second.transcript), "1ab2ba95d490891f9a1728ed8d77db30ed66be47ff5ad355164cbaf59e7edb9e");
        assert_eq!(
            hex(&second.asker_to_holder.key),
            "3cdca92dfb72dc1b8e1f29e48c93911bee7531d19e23c20cccb52b2de2a015fb"
        );
        let (to_asker, to_holder) = second.connections();
        assert_eq!((hex(&to_asker).as_str(), hex(&to_holder).as_str()), ("c9ba9271d5a4edf5", "bde1a0fc04d74e63"));
    }

    #[test]
    fn every_input_and_the_transcript_change_every_key() {
        let base = vector();
        let with = |transcript, last| {
            schedule(
                &[transcript; 32],
                &[Input::AskerRandom(&[1; 32]), Input::HolderRandom(&[2; 32]), Input::X25519(&[3; 32]), last],
            )
        };
        for other in
            [with(0x11, Input::MlKem(&[4; 32])), with(0x10, Input::MlKem(&[5; 32])), with(0x10, Input::Rsa(&[4; 32]))]
        {
            assert_ne!(base.asker_to_holder.key, other.asker_to_holder.key);
            assert_ne!(base.holder_to_asker.key, other.holder_to_asker.key);
            assert!(!base.confirm_asker.matches(other.confirm_asker.as_bytes()));
            assert!(!base.confirm_holder.matches(other.confirm_holder.as_bytes()));
        }
    }

    #[test]
    fn directions_and_proofs_differ_and_nothing_prints() {
        let keys = vector();
        assert_ne!(keys.asker_to_holder.key, keys.holder_to_asker.key);
        assert_ne!(keys.asker_to_holder.iv, keys.holder_to_asker.iv);
        assert!(!keys.confirm_asker.matches(keys.confirm_holder.as_bytes()), "a proof cannot be sent back");
        assert!(!keys.confirm_asker.matches(&[]) && !keys.confirm_asker.matches(&keys.confirm_asker.as_bytes()[..31]));
        assert_eq!(format!("{keys:?} {:?}", keys.asker_to_holder), "FileKeys(..) DirectionKey(..)");
    }

    #[test]
    fn a_known_rsa_secret_alone_opens_nothing() {
        let keys = vector().second_stage(&[6; 32], b"c").asker_to_holder.key;
        let guess = schedule(&vector().second_stage(&[6; 32], b"c").transcript, &[Input::Rsa(&[6; 32])]);
        assert_ne!(keys, guess.asker_to_holder.key);
        assert_ne!(keys, vector().second_stage(&[6; 32], b"d").asker_to_holder.key);
        assert_ne!(keys, vector().second_stage(&[7; 32], b"c").asker_to_holder.key);
    }

    #[test]
    fn fields_keep_their_borders() {
        let hash = |a: &[u8], b: &[u8]| Transcript::new("t").field(a).field(b).hash();
        assert_ne!(hash(b"ab", b"c"), hash(b"a", b"bc"));
        assert_ne!(hash(b"", b"a"), hash(b"a", b""));
    }
}
