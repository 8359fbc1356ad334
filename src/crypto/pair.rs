//! Two servers that know each other's standing X25519 keys: what one tells the other has a tag that nobody else can make.

use super::identity::Identity;
use super::kdf::expand;
use std::fmt;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Length of a tag, bytes.
pub const TAG_LEN: usize = 16;

/// A server's standing X25519 key. Derived from its identity, so it is kept nowhere; wiped on drop.
#[derive(Clone)]
pub struct Standing(StaticSecret);

/// The peer's key is one of the few with which everybody agrees on the same secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is of low order")]
pub struct LowOrder;

/// What two servers share: a key for each direction.
#[derive(Debug)]
pub struct Pair {
    /// Of what we tell the peer.
    pub ours: TagKey,
    /// Of what it tells us.
    pub theirs: TagKey,
}

/// Makes tags for one direction between two servers. Wiped on drop, never printed.
pub struct TagKey(Zeroizing<[u8; 32]>);

impl Standing {
    /// The one that belongs to an identity.
    pub fn of(identity: &Identity) -> Self {
        Self(StaticSecret::from(*expand(&[], &*identity.seed(), "secchat/1 standing x25519", &[])))
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// What we share with the server that has this public half. `us` and `them` are the two servers' ids; whoever copies another
    /// server's public half so gets nothing of it.
    pub fn pair(&self, public: &[u8; 32], us: &[u8; 32], them: &[u8; 32]) -> Result<Pair, LowOrder> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*public));
        if !shared.was_contributory() {
            return Err(LowOrder);
        }
        let key = |from, to| TagKey(expand(&[], shared.as_bytes(), "secchat/1 mesh frames", &[from, to]));
        Ok(Pair { ours: key(us, them), theirs: key(them, us) })
    }
}

impl TagKey {
    /// The tag of the parts, joined.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            hasher.update(part);
        }
        let mut tag = [0; TAG_LEN];
        hasher.finalize_xof().fill(&mut tag);
        tag
    }

    /// Whether the tag is that of the parts; takes as long either way.
    pub fn holds(&self, parts: &[&[u8]], tag: &[u8; TAG_LEN]) -> bool {
        self.tag(parts).ct_eq(tag).into()
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing(..)")
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(n: u8) -> Standing {
        Standing::of(&Identity::from_seed(&[n; 32]))
    }

    #[test]
    fn both_ends_agree_and_directions_servers_and_contents_are_told_apart() {
        let (a, b, traitor) = (standing(1), standing(2), standing(3));
        let (ida, idb, idt) = ([1; 32], [2; 32], [3; 32]);
        let here = a.pair(&b.public(), &ida, &idb).unwrap();
        let there = b.pair(&a.public(), &idb, &ida).unwrap();
        let tag = here.ours.tag(&[b"one", b"two"]);
        assert!(there.theirs.holds(&[b"onetwo"], &tag));
        assert!(!there.theirs.holds(&[b"onetwO"], &tag) && !there.ours.holds(&[b"onetwo"], &tag));
        assert!(!here.theirs.holds(&[b"onetwo"], &tag), "nobody's own words come back to him");
        // A traitor that pretends to be `a`, and one that says that the key of `a` is its own.
        let pretends = traitor.pair(&b.public(), &ida, &idb).unwrap();
        assert!(!there.theirs.holds(&[b"one"], &pretends.ours.tag(&[b"one"])));
        let copied = b.pair(&a.public(), &idb, &idt).unwrap();
        assert!(!copied.theirs.holds(&[b"one"], &here.ours.tag(&[b"one"])));
    }

    #[test]
    fn keys_with_which_everybody_agrees_are_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        for low in [[0; 32], one] {
            assert_eq!(standing(1).pair(&low, &[1; 32], &[2; 32]).err(), Some(LowOrder));
        }
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        let a = standing(1);
        let pair = a.pair(&standing(2).public(), &[1; 32], &[2; 32]).unwrap();
        assert_eq!(format!("{a:?} {pair:?}"), "Standing(..) Pair { ours: TagKey(..), theirs: TagKey(..) }");
    }
}
