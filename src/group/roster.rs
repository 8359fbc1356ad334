//! Who is in a group, read from its leaves and never from the server's word.

use super::change::{Change, Refusal};
use super::{CertCheck, MemberInfo as Info};
use crate::crypto::identity::PublicKey;
use crate::limits::ROOM_MEMBERS_MAX;
use crate::wire::cert::NameCert;
use crate::wire::name::FullName;
use openmls::prelude::{BasicCredential, Credential, Member};
use std::collections::{BTreeMap, BTreeSet};

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// As certified by its home server.
    pub name: FullName,
    /// The user's key.
    pub key: PublicKey,
    /// Its place in the tree.
    pub leaf: u32,
    /// The certificate in its leaf.
    pub cert: NameCert,
}

impl MemberInfo {
    pub(super) fn new(cert: NameCert, leaf: u32) -> Self {
        Self { name: cert.subject.clone(), key: cert.key(), leaf, cert }
    }
}

/// All members by leaf. No two have one key or one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Roster(BTreeMap<u32, Info>);

impl Roster {
    /// Reads all leaves and lets `certs` judge each certificate; `own` is spared, since we know ourselves.
    pub(super) fn read(
        members: impl Iterator<Item = Member>,
        own: Option<PublicKey>,
        certs: &CertCheck,
    ) -> Result<Self, Refusal> {
        let mut roster = Self::default();
        let (mut keys, mut names) = (BTreeSet::new(), BTreeSet::new());
        for member in members {
            let cert = leaf_cert(&member.credential, &member.signature_key)?;
            if own != Some(cert.key()) {
                certs(&cert)?;
            }
            let info = Info::new(cert, member.index.u32());
            if !keys.insert(info.key) || !names.insert(info.name.clone()) {
                return Err(Refusal::Taken(info.name));
            }
            roster.0.insert(info.leaf, info);
            if roster.len() > ROOM_MEMBERS_MAX {
                return Err(Refusal::Full);
            }
        }
        Ok(roster)
    }

    pub(super) fn get(&self, leaf: u32) -> Option<&Info> {
        self.0.get(&leaf)
    }

    pub(super) fn by_key(&self, key: &PublicKey) -> Option<&Info> {
        self.iter().find(|m| m.key == *key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Info> {
        self.0.values()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The leaf that an external joiner gets once `gone` are removed: the leftmost blank one (RFC 9420 §12.4.3.2).
    pub(super) fn free_leaf(&self, gone: &[Info]) -> u32 {
        let taken = self.0.keys().filter(|leaf| gone.iter().all(|g| g.leaf != **leaf));
        let mut free = 0;
        for leaf in taken {
            if *leaf != free {
                break;
            }
            free += 1;
        }
        free
    }

    /// Follows a merged commit.
    pub(super) fn apply(&mut self, change: &Change) {
        for gone in change.gone() {
            self.0.remove(&gone.leaf);
        }
        self.0.insert(change.committer.leaf, change.committer.clone());
    }
}

/// The certificate of a leaf, which must be for the leaf's signature key.
pub(super) fn leaf_cert(credential: &Credential, signature_key: &[u8]) -> Result<NameCert, Refusal> {
    let credential = BasicCredential::try_from(credential.clone()).map_err(|_| Refusal::Credential)?;
    let cert = NameCert::from_bytes(credential.identity()).map_err(|_| Refusal::Credential)?;
    if cert.key().as_bytes().as_slice() != signature_key {
        return Err(Refusal::Credential);
    }
    Ok(cert)
}
