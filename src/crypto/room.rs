//! What a room's password becomes: a door key for the home server and a join key for the members.

use super::identity::Identity;
use super::kdf::{CLIENT_COST, Cost, expand, stretch};
use super::secret::Secret;
use argon2::password_hash::{Ident, Output, PasswordHash, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What the home server is shown at the door of a private room. Wiped on drop; never prints.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DoorKey([u8; 32]);

impl DoorKey {
    /// Takes the bytes as they came over the server link.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the server link only.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DoorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DoorKey(..)")
    }
}

/// Both values that a room's password gives. Neither leads back to it or to the other.
#[derive(Debug, Clone)]
pub struct RoomKeys {
    /// Goes to the home server.
    pub door: DoorKey,
    /// Signs joins and published GroupInfos; its public half stands in the group context.
    pub join: Identity,
}

impl RoomKeys {
    /// Derives both on the member's own device. Takes 64 MiB and a tenth of a second or more: not for an async thread.
    pub fn derive(password: &Secret, room_id: &[u8; 16]) -> Self {
        let salt = Sha256::new().chain_update(ROOM_LABEL).chain_update(room_id).finalize();
        let root = stretch(password, &salt, CLIENT_COST).expect("the constants are in Argon2's range");
        Self {
            door: DoorKey(*expand(&[], &*root, DOOR_LABEL, &[])),
            join: Identity::from_seed(&expand(&[], &*root, JOIN_LABEL, &[])),
        }
    }
}

/// Hashes door keys in memory that it keeps: an allocator that is asked for 19 MiB again and again may hold hundreds after a flood of
/// guesses. One for each thread that hashes; it takes nothing before its first use.
#[derive(Default)]
pub struct DoorHasher {
    memory: Vec<Block>,
}

impl DoorHasher {
    /// What the server stores of a door key: Argon2id in PHC form. The key comes from a password whose price the client has paid, so the
    /// server's own price is the smaller one.
    pub fn hash(&mut self, door: &DoorKey, salt: [u8; 16]) -> String {
        let output = self.stretch(door, &salt, door_params()).expect("the constants are in Argon2's range");
        phc(&salt, &output)
    }

    /// Whether a stored hash is of this door key; compares in constant time. A hash that is malformed, of another algorithm or dearer
    /// than [`DOOR_COST`] is of no key.
    pub fn verify(&mut self, phc: &str, door: &DoorKey) -> bool {
        self.verified(phc, door).unwrap_or(false)
    }

    fn verified(&mut self, phc: &str, door: &DoorKey) -> Option<bool> {
        let hash = PasswordHash::new(phc).ok().filter(cheap_enough)?;
        let params = Params::try_from(&hash).ok()?;
        let mut salt = [0; Salt::MAX_LENGTH];
        let salt = hash.salt?.decode_b64(&mut salt).ok()?;
        let output = self.stretch(door, salt, params)?;
        Some(hash.hash?.as_bytes().ct_eq(&output).into())
    }

    fn stretch(&mut self, door: &DoorKey, salt: &[u8], params: Params) -> Option<[u8; 32]> {
        let blocks = params.block_count();
        if self.memory.len() < blocks {
            self.memory.resize(blocks, Block::default());
        }
        let mut output = [0; 32];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2
            .hash_password_into_with_memory(door.as_bytes(), salt, &mut output, self.memory.get_mut(..blocks)?)
            .ok()?;
        Some(output)
    }
}

impl fmt::Debug for DoorHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DoorHasher(..)")
    }
}

/// The stable room id that an unknown label is answered with, so that it looks like a room whose password was wrong.
pub fn decoy_room_id(server_secret: &[u8; 32], label: &str) -> [u8; 16] {
    *expand(&[], server_secret, "secchat/1 decoy room id", &[label.as_bytes()])
}

/// A hash of no key for an unknown label: [`DoorHasher::verify`] does the same work on it as on a real one, and says no.
pub fn decoy_door_hash(server_secret: &[u8; 32], label: &str) -> String {
    let bytes = expand::<48>(&[], server_secret, "secchat/1 decoy door hash", &[label.as_bytes()]);
    let (salt, output) = bytes.split_at(16);
    phc(salt, output)
}

/// A new room secret: [`SECRET_WORDS`] words of the English BIP-39 list joined by `-`, 77 bits.
pub fn generate_room_secret(rng: &mut dyn CryptoRngCore) -> Secret {
    let list = bip39::Language::English.word_list();
    let words: [&str; SECRET_WORDS] = std::array::from_fn(|_| {
        // The list has 2^11 words, so eleven random bits name one without bias.
        let index = (rng.next_u32() & 0x7ff) as usize;
        list[index]
    });
    let text = zeroize::Zeroizing::new(words.join("-"));
    Secret::new(&text).expect("seven words are a secret")
}

/// Whether a secret looks guessable (a rough estimate below 66 bits): different list words count 11 bits each, other characters 2 to 4
/// by how many kinds of them there are. For advice to a room's creator; refuses nothing by itself.
pub fn weak_secret(secret: &Secret) -> bool {
    let text = secret.expose();
    let listed = text.split(['-', ' ']).map(|word| bip39::Language::English.find_word(word));
    let bits = match listed.collect::<Option<std::collections::BTreeSet<u16>>>() {
        Some(distinct) => distinct.len() * 11,
        None => changes(text) * (1 + kinds(text)).min(4),
    };
    // Below a generated secret's 77: in one of a hundred of those a word comes twice, and that is no weakness.
    bits < 66
}

fn kinds(text: &str) -> usize {
    let tests: [fn(char) -> bool; 4] =
        [char::is_lowercase, char::is_uppercase, char::is_numeric, |c| !c.is_alphanumeric()];
    tests.iter().filter(|test| text.chars().any(test)).count()
}

/// Characters that are not the one before them again.
fn changes(text: &str) -> usize {
    let after = text.chars().skip(1);
    1 + text.chars().zip(after).filter(|(a, b)| a != b).count()
}

fn phc(salt: &[u8], output: &[u8]) -> String {
    let salt = SaltString::encode_b64(salt).expect("16 bytes are a salt's length");
    let params = door_params();
    PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: (&params).try_into().expect("three numbers fit"),
        salt: Some(Salt::from(&salt)),
        hash: Some(Output::new(output).expect("32 bytes are an output's length")),
    }
    .to_string()
}

fn cheap_enough(hash: &PasswordHash<'_>) -> bool {
    let Ok(params) = Params::try_from(hash) else { return false };
    hash.algorithm == Ident::new_unwrap("argon2id")
        && params.m_cost() <= DOOR_COST.memory
        && params.t_cost() <= DOOR_COST.passes
        && params.p_cost() <= DOOR_COST.lanes
        && hash.hash.is_some_and(|output| output.len() == 32)
        && hash.version == Some(Version::V0x13.into())
}

fn door_params() -> Params {
    Params::new(DOOR_COST.memory, DOOR_COST.passes, DOOR_COST.lanes, Some(32)).expect("in Argon2's range")
}

/// What the server pays for each attempt at a door: 19 MiB, two passes, one lane.
pub const DOOR_COST: Cost = Cost { memory: 19 * 1024, passes: 2, lanes: 1 };
/// Words of a generated secret, 11 bits each.
pub const SECRET_WORDS: usize = 7;
const ROOM_LABEL: &str = "secchat/1 room";
const DOOR_LABEL: &str = "secchat/1 room door";
const JOIN_LABEL: &str = "secchat/1 room join";

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The vectors of docs/PROTOCOL.md.
    #[test]
    fn the_published_vectors_hold() {
        let password = Secret::new("correct-horse-battery-staple").unwrap();
        let id: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let keys = RoomKeys::derive(&password, &id);
        assert_eq!(hex(keys.door.as_bytes()), "8f95bbad35da659be5b7a1b757d0d29b0fa68f78d658f64fdfe398f2f76886e3");
        assert_eq!(
            hex(keys.join.public().as_bytes()),
            "0125e268778ee72fbc3ea3bdf1804efb73ecd1b608f631dafa55c584abb74736"
        );
        assert_eq!(
            DoorHasher::default().hash(&keys.door, [0x11; 16]),
            "$argon2id$v=19$m=19456,t=2,p=1$EREREREREREREREREREREQ$bTwPV9tB1ZGYxKIDv4lrzyUmRXfst0bo690kxfmFOes"
        );
        assert_eq!(hex(&decoy_room_id(&[7; 32], "cellar")), "abded29c5ad5721e5efb00c6a2043304");
    }

    #[test]
    fn another_password_or_room_gives_other_keys() {
        let keys = |password: &str, id| RoomKeys::derive(&Secret::new(password).unwrap(), &[id; 16]);
        let (a, b, c) = (keys("one", 1), keys("two", 1), keys("one", 2));
        assert!(a.door.as_bytes() != b.door.as_bytes() && a.door.as_bytes() != c.door.as_bytes());
        assert!(a.join.public() != b.join.public() && a.join.public() != c.join.public());
        assert_ne!(*a.door.as_bytes(), *a.join.seed());
        assert_eq!(format!("{:?}", a.door), "DoorKey(..)");
    }

    #[test]
    fn a_door_opens_to_its_key_only() {
        let door = DoorKey::from_bytes([3; 32]);
        let phc = DoorHasher::default().hash(&door, [4; 16]);
        assert!(DoorHasher::default().verify(&phc, &door));
        assert!(!DoorHasher::default().verify(&phc, &DoorKey::from_bytes([5; 32])));
        for len in 0..phc.len() {
            assert!(!DoorHasher::default().verify(&phc[..len], &door), "{len}");
        }
    }

    #[test]
    fn a_costly_or_foreign_hash_is_refused_unhashed() {
        let door = DoorKey::from_bytes([3; 32]);
        let phc = DoorHasher::default().hash(&door, [4; 16]);
        for (from, to) in [
            ("m=19456", "m=4294967295"),
            ("m=19456", "m=19457"),
            ("t=2", "t=4294967295"),
            ("p=1", "p=16777215"),
            ("argon2id", "argon2i"),
            ("argon2id", "scrypt"),
        ] {
            assert!(!DoorHasher::default().verify(&phc.replace(from, to), &door), "{to}");
        }
        assert!(
            !DoorHasher::default().verify("", &door)
                && !DoorHasher::default().verify("$", &door)
                && !DoorHasher::default().verify("$argon2id$v=19", &door)
        );
    }

    #[test]
    fn decoys_are_stable_and_look_like_the_real_thing() {
        let server = [7; 32];
        assert_eq!(decoy_room_id(&server, "cellar"), decoy_room_id(&server, "cellar"));
        assert_ne!(decoy_room_id(&server, "cellar"), decoy_room_id(&server, "attic"));
        assert_ne!(decoy_room_id(&server, "cellar"), decoy_room_id(&[8; 32], "cellar"));
        let (decoy, real) =
            (decoy_door_hash(&server, "cellar"), DoorHasher::default().hash(&DoorKey::from_bytes([1; 32]), [2; 16]));
        let head = |phc: &str| phc.rsplitn(3, '$').last().unwrap().to_owned();
        assert_eq!((head(&decoy), decoy.len()), (head(&real), real.len()));
        assert!(!DoorHasher::default().verify(&decoy, &DoorKey::from_bytes([1; 32])));
    }

    #[test]
    fn generated_secrets_are_seven_listed_words_and_not_weak() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        for _ in 0..500 {
            let secret = generate_room_secret(&mut rng);
            let words: Vec<&str> = secret.expose().split('-').collect();
            assert_eq!(words.len(), SECRET_WORDS);
            assert!(words.iter().all(|w| bip39::Language::English.find_word(w).is_some()));
            assert!(!weak_secret(&secret), "{words:?}");
        }
    }

    #[test]
    fn guessable_secrets_are_called_weak() {
        for weak in [
            "a",
            "password",
            "Summer2024!",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "able-able-able-able-able-able-able",
        ] {
            assert!(weak_secret(&Secret::new(weak).unwrap()), "{weak}");
        }
        assert!(!weak_secret(&Secret::new("kV9/x2Lq0ZtR7mWb4YcE").unwrap()));
    }
}
