//! All bans that are known here, this server's own and those of others, found by key, name and network.

use super::super::super::core::LoadError;
use crate::crypto::identity::{Fingerprint, PublicKey};
use crate::limits::{BANS_MAX, REGISTER_MAX};
use crate::store::{Entry, List, Write};
use crate::wire::ban::{BAN_MAX, Ban, Known, Network, ORIGINS_MAX, SignedBan};
use crate::wire::name::{FullName, Name};
use crate::wire::vouch::{NodeId, SERVER_CERT_MAX, ServerCert, ServerTrust};
use crate::wire::{decode, encode};
use minicbor::bytes::{ByteArray, ByteVec};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Bans, and whose they are.
#[derive(Debug, Default)]
pub(super) struct BanList {
    origins: BTreeMap<NodeId, Origin>,
    held: BTreeMap<BanRef, Held>,
    /// How many of each server, those that are lifted included.
    count: BTreeMap<NodeId, usize>,
    by_key: BTreeMap<Fingerprint, BTreeSet<BanRef>>,
    by_name: BTreeMap<FullName, BTreeSet<BanRef>>,
    by_network: BTreeMap<Network, BTreeSet<BanRef>>,
}

/// A server, and its number for a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BanRef {
    pub(super) origin: NodeId,
    pub(super) id: u64,
}

/// A ban, and the key that is known here to be behind its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) signed: SignedBan,
    pub(super) seen: Option<Fingerprint>,
}

/// A server whose bans are known, this one included.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(super) struct Origin {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) key: [u8; 32],
    #[n(1)]
    pub(super) name: Name,
    /// Who vouches for key and name.
    #[n(2)]
    pub(super) vouch: Option<ServerCert>,
    /// The highest number that was taken.
    #[n(3)]
    pub(super) highest: u64,
    /// Own bans: the highest id that was given.
    #[n(4)]
    pub(super) last_id: u64,
    /// Bans that are not known any more have no higher number: what comes of them is old.
    #[n(5)]
    pub(super) floor: u64,
}

/// How a ban is kept.
#[derive(Debug, minicbor::Encode, minicbor::Decode)]
struct Kept {
    #[n(0)]
    signed: ByteVec,
    #[n(1)]
    seen: Option<ByteArray<32>>,
}

/// Who asks to get in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person<'a> {
    pub(super) key: Fingerprint,
    pub(super) name: Option<&'a FullName>,
    /// Of a connection to this server.
    pub(super) ip: Option<IpAddr>,
    /// Who has a role here is not kept out by other servers.
    pub(super) has_role: bool,
}

impl Origin {
    pub(super) fn new(key: &PublicKey, name: Name, vouch: Option<ServerCert>) -> Self {
        Self { key: *key.as_bytes(), name, vouch, highest: 0, last_id: 0, floor: 0 }
    }

    pub(super) const fn key(&self) -> PublicKey {
        PublicKey::from_bytes(self.key)
    }

    /// Whether it is one that is trusted, if only its certificate were fresh.
    fn is_trusted(&self, trust: &ServerTrust, now_ms: u64) -> bool {
        let at = self.vouch.as_ref().map_or(now_ms, |vouch| vouch.not_after.min(now_ms));
        trust.check_server(&self.name, &self.key(), self.vouch.as_ref(), at).is_ok()
    }
}

impl Held {
    pub(super) const fn ban(&self) -> &Ban {
        self.signed.said()
    }

    /// The key that it is for, on the origin's word or our own sight.
    pub(super) fn key(&self) -> Option<Fingerprint> {
        self.ban().target.key().or(self.seen)
    }
}

impl BanList {
    /// From what was stored. Bans of servers that are not trusted any more stay in the store and keep nobody out.
    pub(super) fn load(register: &[Entry], trust: &ServerTrust, now_ms: u64) -> Result<Self, LoadError> {
        let (mut bans, mut dormant) = (Self::default(), BTreeSet::new());
        let bad = || LoadError::Register(List::Ban.as_str());
        for Entry { key, value, .. } in register.iter().filter(|entry| entry.list == List::Ban) {
            match key.split_first().ok_or_else(bad)? {
                (&ORIGIN, id) => {
                    let origin: Origin = decode(value, ORIGIN_MAX).map_err(|_| bad())?;
                    let node = NodeId::of(&origin.key());
                    if id != node.0 {
                        return Err(bad());
                    }
                    if origin.is_trusted(trust, now_ms) {
                        bans.origins.insert(node, origin);
                    } else {
                        dormant.insert(node);
                    }
                }
                (&BAN, _) => {
                    let Kept { signed, seen } = decode(value, KEPT_MAX).map_err(|_| bad())?;
                    let signed = SignedBan::from_bytes(&signed).map_err(|_| bad())?;
                    let at = BanRef { origin: NodeId::of(&signed.said().origin()), id: signed.said().id };
                    if *key != at.key() {
                        return Err(bad());
                    }
                    bans.insert(at, Held { signed, seen: seen.map(|key| Fingerprint(*key)) });
                }
                _ => return Err(bad()),
            }
        }
        let unknown: Vec<BanRef> =
            bans.held.keys().filter(|at| !bans.origins.contains_key(&at.origin)).copied().collect();
        if unknown.iter().any(|at| !dormant.contains(&at.origin)) {
            return Err(bad());
        }
        unknown.into_iter().for_each(|at| bans.take_out(&at));
        Ok(bans)
    }

    pub(super) fn origin(&self, node: &NodeId) -> Option<&Origin> {
        self.origins.get(node)
    }

    pub(super) fn get(&self, at: &BanRef) -> Option<&Held> {
        self.held.get(at)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&BanRef, &Held)> {
        self.held.iter()
    }

    /// All of one server, in order of their ids.
    pub(super) fn of(&self, origin: NodeId) -> impl Iterator<Item = (&BanRef, &Held)> {
        self.held.range(BanRef { origin, id: 0 }..=BanRef { origin, id: u64::MAX })
    }

    /// The ban that keeps somebody out the longest, if one does.
    pub(super) fn find(&self, who: Person<'_>, own: NodeId, now_ms: u64) -> Option<(BanRef, &Ban)> {
        let named = who.name.and_then(|name| self.by_name.get(name));
        let from = who.ip.filter(|_| !self.by_network.is_empty()).map(Network::around).into_iter().flatten();
        let from = from.filter_map(|network| self.by_network.get(&network));
        let all = self.by_key.get(&who.key).into_iter().chain(named).chain(from).flatten();
        let held =
            all.filter(|at| at.origin == own || !who.has_role).filter_map(|at| Some((*at, self.held.get(at)?.ban())));
        // A network is not a person: who has a role here is not shut out with it.
        let held = held.filter(|(_, ban)| !who.has_role || ban.target.network().is_none());
        held.filter(|(_, ban)| ban.holds(now_ms)).max_by_key(|(_, ban)| ban.until_ms.unwrap_or(u64::MAX))
    }

    /// Bans by this name that know of no key yet.
    pub(super) fn unbound(&self, name: &FullName, now_ms: u64) -> Vec<BanRef> {
        let named = self.by_name.get(name).into_iter().flatten();
        let open =
            |at: &&BanRef| self.held.get(at).is_some_and(|held| held.key().is_none() && held.ban().holds(now_ms));
        named.filter(open).copied().collect()
    }

    /// Whether one more of a server finds no room. Those of others take none from this one's `own`.
    pub(super) fn is_full(&self, origin: &NodeId, own: NodeId) -> bool {
        let many = self.count.get(origin).copied().unwrap_or_default();
        many >= REGISTER_MAX || (*origin != own && self.held.len() >= BANS_MAX)
    }

    /// Whether one more server finds no room; this one always does.
    pub(super) fn knows_too_many(&self) -> bool {
        self.origins.len() >= ORIGINS_MAX - 1
    }

    /// Keeps a ban, in the place of an older word on it.
    pub(super) fn keep(&mut self, at: BanRef, held: Held) -> Write {
        let kept = Kept { signed: held.signed.to_bytes().into(), seen: held.seen.map(|key| key.0.into()) };
        let entry = Entry { list: List::Ban, key: at.key(), value: encode(&kept) };
        self.take_out(&at);
        self.insert(at, held);
        Write::Keep(entry)
    }

    /// Keeps what is known of a server.
    pub(super) fn keep_origin(&mut self, origin: Origin) -> Write {
        let node = NodeId::of(&origin.key());
        let key = [&[ORIGIN], &node.0[..]].concat();
        let entry = Entry { list: List::Ban, key, value: encode(&origin) };
        self.origins.insert(node, origin);
        Write::Keep(entry)
    }

    /// Forgets a ban. Where that was lifted before its time, what was said of it earlier counts as old from now on.
    pub(super) fn strike(&mut self, at: &BanRef) -> Vec<Write> {
        let lifted = self.held.get(at).map(Held::ban).filter(|ban| ban.lifted).map_or(0, |ban| ban.number);
        self.take_out(at);
        let mut writes = vec![Write::Strike { list: List::Ban, key: at.key() }];
        if let Some(origin) = self.origins.get(&at.origin).filter(|origin| origin.floor < lifted).cloned() {
            writes.push(self.keep_origin(Origin { floor: lifted, ..origin }));
        }
        writes
    }

    /// The oldest of a server's bans that are lifted: it may be forgotten where room is wanted.
    pub(super) fn oldest_lifted(&self, origin: NodeId) -> Option<BanRef> {
        let lifted = self.of(origin).filter(|(_, held)| held.ban().lifted);
        lifted.min_by_key(|(_, held)| held.ban().number).map(|(at, _)| *at)
    }

    /// What nobody needs any more: bans whose time has passed, and those that were lifted long ago.
    pub(super) fn outdated(&self, now_ms: u64) -> Vec<BanRef> {
        let old = |held: &Held| {
            let ban = held.ban();
            ban.is_over(now_ms) || (ban.lifted && ban.number.saturating_add(LIFTED_KEPT_MS) < now_ms)
        };
        self.held.iter().filter(|(_, held)| old(held)).map(|(at, _)| *at).collect()
    }

    /// What others are told of what is known here.
    pub(super) fn known(&self, now_ms: u64) -> Vec<Known> {
        let known = |(node, origin): (&NodeId, &Origin)| {
            let mut hasher = blake3::Hasher::new();
            for (at, held) in self.of(*node).filter(|(_, held)| held.ban().mesh && held.ban().holds(now_ms)) {
                hasher.update(&at.id.to_be_bytes()).update(&held.ban().number.to_be_bytes());
            }
            let mut digest = [0; 16];
            hasher.finalize_xof().fill(&mut digest);
            Known::new(*node, origin.highest, digest)
        };
        self.origins.iter().map(known).collect()
    }

    fn insert(&mut self, at: BanRef, held: Held) {
        let ban = held.ban();
        if !ban.lifted {
            if let Some(key) = held.key() {
                self.by_key.entry(key).or_default().insert(at);
            }
            if let Some(name) = ban.target.name() {
                self.by_name.entry(name.clone()).or_default().insert(at);
            }
            if let Some(network) = ban.target.network() {
                self.by_network.entry(network).or_default().insert(at);
            }
        }
        *self.count.entry(at.origin).or_default() += 1;
        self.held.insert(at, held);
    }

    fn take_out(&mut self, at: &BanRef) {
        let Some(held) = self.held.remove(at) else { return };
        if let Some(count) = self.count.get_mut(&at.origin) {
            *count -= 1;
        }
        forget(&mut self.by_key, held.key().as_ref(), at);
        forget(&mut self.by_name, held.ban().target.name(), at);
        forget(&mut self.by_network, held.ban().target.network().as_ref(), at);
    }
}

impl BanRef {
    fn key(&self) -> Vec<u8> {
        [&[BAN], &self.origin.0[..], &self.id.to_be_bytes()].concat()
    }
}

fn forget<K: Ord>(index: &mut BTreeMap<K, BTreeSet<BanRef>>, key: Option<&K>, at: &BanRef) {
    if let Some(key) = key
        && let Some(all) = index.get_mut(key)
    {
        all.remove(at);
        if all.is_empty() {
            index.remove(key);
        }
    }
}

/// What a key in the register begins with.
const ORIGIN: u8 = 0;
const BAN: u8 = 1;
const ORIGIN_MAX: usize = SERVER_CERT_MAX + 256;
const KEPT_MAX: usize = BAN_MAX + 64;
/// A ban that was lifted is remembered for a year: a server that was away for longer may hold to it until it is lifted there.
const LIFTED_KEPT_MS: u64 = 365 * 24 * 3600 * 1000;
