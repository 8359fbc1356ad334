//! Who owns which name: first come, first served, unique by how it looks.

use crate::crypto::identity::PublicKey;
use crate::limits::{NAME_MAX, NAMES_PER_KEY};
use crate::wire::name::Name;
use std::collections::BTreeMap;

/// All names of this server.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By skeleton, so that look-alikes meet.
    taken: BTreeMap<String, (Name, PublicKey)>,
    /// How many each key owns.
    owned: BTreeMap<PublicKey, usize>,
}

/// What came of a wish for a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It was this key's already.
    Own,
    /// It is free.
    Free,
    /// Another one's, or it looks like one that is taken; a free one beside it.
    Taken(Option<Name>),
    /// The key has as many names as it may have.
    TooMany,
}

impl Names {
    pub(super) fn new(loaded: Vec<(Name, PublicKey)>) -> Self {
        let mut names = Self::default();
        for (name, key) in loaded {
            names.insert(name, key);
        }
        names
    }

    /// Whether a key may have a name; changes nothing.
    pub(super) fn claim(&self, name: &Name, key: &PublicKey) -> Claim {
        match self.taken.get(&name.skeleton()) {
            Some((same, owner)) if same == name && owner == key => Claim::Own,
            Some((taken, _)) => Claim::Taken(self.suggest(&plain(name, taken))),
            None if self.owned.get(key).is_some_and(|n| *n >= NAMES_PER_KEY) => Claim::TooMany,
            None => Claim::Free,
        }
    }

    pub(super) fn insert(&mut self, name: Name, key: PublicKey) {
        *self.owned.entry(key).or_default() += 1;
        self.taken.insert(name.skeleton(), (name, key));
    }

    /// Nobody owns it any more.
    pub(super) fn remove(&mut self, name: &Name) {
        let skeleton = name.skeleton();
        if self.owner(name).is_none() {
            return;
        }
        let Some((_, key)) = self.taken.remove(&skeleton) else { return };
        if let Some(count) = self.owned.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.owned.remove(&key);
            }
        }
    }

    /// All names and their keys, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Name, PublicKey)> {
        self.taken.values()
    }

    /// Whether a key owns any.
    pub(super) fn has_one(&self, key: &PublicKey) -> bool {
        self.owned.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whose a name is.
    pub(super) fn owner(&self, name: &Name) -> Option<PublicKey> {
        self.taken.get(&name.skeleton()).filter(|(same, _)| same == name).map(|(_, key)| *key)
    }

    fn suggest(&self, name: &Name) -> Option<Name> {
        (2..SUGGESTIONS).find_map(|n| {
            let number = n.to_string();
            let mut base = name.as_str();
            while base.len() + number.len() > NAME_MAX {
                base = base.get(..base.char_indices().next_back()?.0)?;
            }
            let candidate = Name::parse_user(&format!("{base}{number}")).ok()?;
            (!self.taken.contains_key(&candidate.skeleton())).then_some(candidate)
        })
    }
}

/// What a free name is made from: of a name and another one that it looks like, what they look like in plain letters. The foreign
/// ones would carry the doubt on who is who.
fn plain(wished: &Name, taken: &Name) -> Name {
    let skeleton = Name::parse_user(&wished.skeleton()).ok();
    let mut candidates = [Some(wished.clone()), Some(taken.clone()), skeleton].into_iter().flatten();
    let plain = candidates.find(|name| name.as_str().is_ascii());
    plain.filter(|_| wished != taken).unwrap_or_else(|| wished.clone())
}

/// Numbers that are tried behind a taken name.
const SUGGESTIONS: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_its_first_owners_and_look_alikes_are_taken_too() {
        let (alice, mallory) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
        let mut names = Names::default();
        assert_eq!(names.claim(&name("paypal"), &alice), Claim::Free);
        names.insert(name("paypal"), alice);
        assert_eq!(names.claim(&name("paypal"), &alice), Claim::Own);
        assert_eq!(names.claim(&name("paypal"), &mallory), Claim::Taken(Some(name("paypal2"))));
        assert_eq!(
            names.claim(&name("pаypаl"), &mallory),
            Claim::Taken(Some(name("paypal2"))),
            "without foreign letters"
        );
        names.insert(name("paypal2"), mallory);
        assert_eq!(names.claim(&name("paypal"), &mallory), Claim::Taken(Some(name("paypal3"))));
        assert_eq!(names.owner(&name("pаypаl")), None);
    }

    #[test]
    fn a_suggestion_for_a_long_name_is_a_name() {
        let long = name(&"é".repeat(NAME_MAX / 2));
        let mut names = Names::default();
        names.insert(long.clone(), PublicKey::from_bytes([1; 32]));
        let Claim::Taken(Some(free)) = names.claim(&long, &PublicKey::from_bytes([2; 32])) else { panic!() };
        assert!(free.as_str().ends_with('2') && free.as_str().len() <= NAME_MAX);
    }

    #[test]
    fn a_name_that_was_freed_is_anybodys_and_its_key_may_take_one_more() {
        let (alice, bob) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
        let mut names = Names::default();
        names.insert(name("paypal"), alice);
        names.remove(&name("pаypаl"));
        assert!(names.has_one(&alice), "a look-alike frees nothing");
        names.remove(&name("paypal"));
        assert!(!names.has_one(&alice));
        assert_eq!((names.claim(&name("paypal"), &bob), names.len()), (Claim::Free, 0));
    }

    #[test]
    fn one_key_cannot_take_all_names() {
        let key = PublicKey::from_bytes([1; 32]);
        let mut names = Names::default();
        for n in 0..NAMES_PER_KEY {
            names.insert(name(&format!("n{n}x")), key);
        }
        assert_eq!(names.claim(&name("onemore"), &key), Claim::TooMany);
    }
}
