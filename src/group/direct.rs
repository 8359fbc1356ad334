//! Direct conversations: groups of two, made from a published key package.

use super::commit::Welcoming;
use super::info::Grant;
use super::provider::{MlsSigner, Provider};
use super::room::{CreateError, Room};
use super::roster::{MemberInfo, Roster, leaf_cert};
use super::{CertCheck, Integrity, Member, Refusal, RoomId, mls};
use crate::crypto::identity::PublicKey;
use crate::limits::{FRAME_MAX, KEY_PACKAGE_MAX};
use crate::wire::name::FullName;
use crate::wire::policy::{Policy, RoomKind};
use openmls::prelude::{
    KeyPackage, KeyPackageBundle, KeyPackageRef, MlsGroup, MlsMessageBodyIn, MlsMessageOut, ProtocolVersion,
    RatchetTreeIn, StagedWelcome, Welcome,
};
use openmls_traits::OpenMlsProvider;
use openmls_traits::storage::StorageProvider;

/// The key packages of one login: their secrets live here, in memory, and go when this is dropped.
#[derive(Debug)]
pub struct KeyPackages {
    me: Member,
    provider: Provider,
}

/// Begins and accepts conversations of two; the [`Room`] that comes of it is of kind [`RoomKind::Direct`].
#[derive(Debug)]
pub struct Direct;

/// Why a conversation is not begun or not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Longer than it may be.
    #[error("too long")]
    TooLong,
    /// Not a key package, a Welcome or a tree.
    #[error("malformed")]
    Malformed,
    /// A key package or conversation with ourselves.
    #[error("a conversation with oneself")]
    Oneself,
    /// The Welcome is for a key package that we have not, or have no longer.
    #[error("no key package of ours fits")]
    NoKeyPackage,
    /// Not a direct conversation of this server with this code, of two members.
    #[error("not the direct conversation that it should be")]
    WrongRoom,
    /// The peer's leaf is not believed.
    #[error("the peer is not believed: {0}")]
    Peer(#[from] Refusal),
    /// We could not make the group.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The library refused the bytes.
    #[error("MLS: {0}")]
    Mls(String),
}

impl AcceptError {
    /// What to tell the user, if somebody broke the rules.
    pub const fn integrity(&self) -> Option<Integrity> {
        match self {
            Self::WrongRoom => Some(Integrity::WrongRoom),
            Self::Peer(_) => Some(Integrity::ForgedSender),
            _ => None,
        }
    }
}

impl KeyPackages {
    /// An empty stock.
    pub fn new(me: &Member) -> Self {
        Self { me: me.clone(), provider: Provider::default() }
    }

    /// Makes one more. The last-resort one may be used any number of times, each other once.
    pub fn make(&mut self, last_resort: bool) -> Result<Vec<u8>, AcceptError> {
        let mut builder =
            KeyPackage::builder().leaf_node_capabilities(mls::capabilities()).key_package_lifetime(mls::lifetime());
        if last_resort {
            builder = builder.mark_as_last_resort();
        }
        let signer = MlsSigner::new(&self.me.identity);
        let bundle = builder
            .build(mls::CIPHERSUITE, &self.provider, &signer, mls::credential(&self.me.cert))
            .map_err(library)?;
        MlsMessageOut::from(bundle.into_key_package()).to_bytes().map_err(library)
    }

    fn use_up(&mut self, reference: &KeyPackageRef) -> Result<(), AcceptError> {
        let storage = self.provider.storage();
        let bundle: Option<KeyPackageBundle> = storage.key_package(reference).map_err(library)?;
        if bundle.is_some_and(|b| !b.key_package().last_resort()) {
            storage.delete_key_package(reference).map_err(library)?;
        }
        Ok(())
    }
}

impl Direct {
    /// Makes the group with us and the owner of the key package. The Welcome and the [`Grant`] go to the home server, the
    /// Welcome and the tree from there to the peer.
    pub fn create(
        me: &Member,
        server: PublicKey,
        room_id: RoomId,
        key_package: &[u8],
        certs: &CertCheck,
    ) -> Result<(Room, Welcoming, Grant), AcceptError> {
        let policy = Policy::new(RoomKind::Direct, String::new(), me.identity.public(), None);
        let mut room = Room::found(me, server, room_id, policy, None)?;
        let (key_package, peer) = read_key_package(key_package, &room.provider, certs)?;
        if peer.key == me.identity.public() || peer.name == me.cert.subject {
            return Err(AcceptError::Oneself);
        }
        let added = room.group.add_members(&room.provider, &room.signer, &[key_package]);
        let (_, welcome, _) = added.map_err(library)?;
        room.group.merge_pending_commit(&room.provider).map_err(library)?;
        room.roster = Roster::read(room.group.members(), Some(me.identity.public()), certs)?;
        let grant = room.grant().map_err(AcceptError::Mls)?;
        let welcome = welcome.to_bytes().map_err(library)?;
        Ok((room, Welcoming { welcome, peer }, grant))
    }

    /// Who made the group of this tree with us, as its leaves say. Costs no key package and no decryption; that it is true shows in
    /// [`Direct::accept`] only.
    pub fn announced(me: &PublicKey, tree: &[u8], certs: &CertCheck) -> Result<FullName, AcceptError> {
        let tree = mls::parse_tree(tree).ok_or(AcceptError::Malformed)?;
        let mut others = tree.leaves().filter(|l| l.signature_key().as_slice() != me.as_bytes().as_slice());
        let (Some(peer), None) = (others.next(), others.next()) else { return Err(AcceptError::WrongRoom) };
        let cert = leaf_cert(peer.credential(), peer.signature_key().as_slice())?;
        certs(&cert).map_err(Refusal::from)?;
        Ok(cert.subject)
    }

    /// Enters a group that somebody made with a key package of ours, which is then used up unless it was the last-resort one.
    pub fn accept(
        stock: &mut KeyPackages,
        server: PublicKey,
        room_id: RoomId,
        welcome: &[u8],
        tree: &[u8],
        certs: &CertCheck,
    ) -> Result<Room, AcceptError> {
        if welcome.len() > FRAME_MAX || tree.len() > FRAME_MAX {
            return Err(AcceptError::TooLong);
        }
        let Some(MlsMessageBodyIn::Welcome(welcome)) = mls::parse(welcome).map(|m| m.extract()) else {
            return Err(AcceptError::Malformed);
        };
        let tree = mls::parse_tree(tree).ok_or(AcceptError::Malformed)?;
        // The secrets are copied: a Welcome that proves bad does not cost us the key package.
        let secrets = welcome.secrets().iter().find_map(|s| {
            let reference = s.new_member();
            Some((stock.provider.storage().fork_key_package(&reference)?, reference))
        });
        let (storage, reference) = secrets.ok_or(AcceptError::NoKeyPackage)?;
        let provider = Provider::with_storage(storage);
        let group = enter(&provider, welcome, tree)?;
        let me = stock.me.clone();
        let room = settle(me, provider, group, server, room_id, certs)?;
        stock.use_up(&reference)?;
        Ok(room)
    }
}

fn enter(provider: &Provider, welcome: Welcome, tree: RatchetTreeIn) -> Result<MlsGroup, AcceptError> {
    StagedWelcome::build_from_welcome(provider, &mls::config(), welcome)
        .map_err(library)?
        .with_ratchet_tree(tree)
        .skip_lifetime_validation()
        .build()
        .map_err(library)?
        .into_group(provider)
        .map_err(library)
}

fn settle(
    me: Member,
    provider: Provider,
    group: MlsGroup,
    server: PublicKey,
    room_id: RoomId,
    certs: &CertCheck,
) -> Result<Room, AcceptError> {
    let policy = mls::read_context(group.extensions(), &server).ok_or(AcceptError::WrongRoom)?;
    let own = me.identity.public();
    let roster = Roster::read(group.members(), Some(own), certs)?;
    let fits = policy.kind == RoomKind::Direct
        && group.group_id().as_slice() == room_id
        && group.ciphersuite() == mls::CIPHERSUITE
        && roster.len() == 2
        && roster.by_key(&own).is_some()
        && roster.iter().any(|m| m.key == policy.owner() && m.key != own);
    if !fits {
        return Err(AcceptError::WrongRoom);
    }
    let signer = MlsSigner::new(&me.identity);
    let (join, pending, active) = (None, None, true);
    Ok(Room { group, provider, signer, me, server, room_id, policy, roster, join, pending, active })
}

fn read_key_package(
    bytes: &[u8],
    provider: &Provider,
    certs: &CertCheck,
) -> Result<(KeyPackage, MemberInfo), AcceptError> {
    if bytes.len() > KEY_PACKAGE_MAX {
        return Err(AcceptError::TooLong);
    }
    let Some(MlsMessageBodyIn::KeyPackage(key_package)) = mls::parse(bytes).map(|m| m.extract()) else {
        return Err(AcceptError::Malformed);
    };
    let key_package = key_package.validate(provider.crypto(), ProtocolVersion::Mls10).map_err(library)?;
    let leaf = key_package.leaf_node();
    let cert = leaf_cert(leaf.credential(), leaf.signature_key().as_slice())?;
    certs(&cert).map_err(Refusal::from)?;
    Ok((key_package, MemberInfo::new(cert, 1)))
}

fn library(error: impl std::fmt::Display) -> AcceptError {
    AcceptError::Mls(error.to_string())
}
