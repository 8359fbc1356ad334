//! The one way in which we use MLS: ciphersuite, capabilities, group context.

use super::{Member, RoomId};
use crate::crypto::identity::PublicKey;
use crate::limits::{FRAME_MAX, PROPOSAL_MAX, SEALED_MAX};
use crate::wire::cert::NameCert;
use crate::wire::policy::{POLICY_EXTENSION, Policy, RoomKind};
use openmls::prelude::tls_codec::Deserialize;
use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, ContentType, Credential, CredentialType, CredentialWithKey, Extension,
    ExtensionType, Extensions, ExternalSender, GroupContext, GroupId, LeafNodeParameters, Lifetime, MlsGroupJoinConfig,
    MlsMessageIn, PURE_PLAINTEXT_WIRE_FORMAT_POLICY, ProposalType, ProtocolMessage, RatchetTreeIn,
    RequiredCapabilitiesExtension, UnknownExtension, WireFormat,
};

pub(super) const CIPHERSUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;
pub(super) const POLICY: ExtensionType = ExtensionType::Unknown(POLICY_EXTENSION);
/// The credential of the external sender; who it is lies in its key.
const HOME_SERVER: &[u8] = b"home server";

pub(super) fn group_id(room_id: &RoomId) -> GroupId {
    GroupId::from_slice(room_id)
}

/// Handshake messages in the clear, so that the home server can check them. No past epoch is kept: the home server logs a
/// message only in the epoch that it was sealed in, so none ever arrives late, and a member that is gone cannot
/// be heard once more.
pub(super) fn config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .max_past_epochs(0)
        .number_of_resumption_psks(0)
        .use_ratchet_tree_extension(false)
        .build()
}

pub(super) fn capabilities() -> Capabilities {
    Capabilities::new(
        None,
        Some(&[CIPHERSUITE]),
        Some(&[POLICY, ExtensionType::LastResort]),
        Some(&[ProposalType::SelfRemove]),
        Some(&[CredentialType::Basic]),
    )
}

/// Name certificates bound a leaf in time, not MLS lifetimes, which openmls would check against the system clock.
pub(super) fn lifetime() -> Lifetime {
    Lifetime::init(0, u64::MAX)
}

pub(super) fn credential(cert: &NameCert) -> CredentialWithKey {
    CredentialWithKey {
        credential: BasicCredential::new(cert.to_bytes()).into(),
        signature_key: cert.key().as_bytes().as_slice().into(),
    }
}

pub(super) fn leaf_parameters(me: &Member) -> LeafNodeParameters {
    LeafNodeParameters::builder()
        .with_capabilities(capabilities())
        .with_credential_with_key(credential(&me.cert))
        .build()
}

/// The extensions of a group's context: required capabilities, policy, and the home server as a sender of Removes, which a
/// direct conversation does without.
pub(super) fn context(policy: &Policy, server: &PublicKey) -> Vec<Extension> {
    let required = RequiredCapabilitiesExtension::new(&[POLICY], &[ProposalType::SelfRemove], &[CredentialType::Basic]);
    let mut extensions = vec![
        Extension::RequiredCapabilities(required),
        Extension::Unknown(POLICY_EXTENSION, UnknownExtension(policy.to_bytes())),
    ];
    if policy.kind != RoomKind::Direct {
        let credential: Credential = BasicCredential::new(HOME_SERVER.to_vec()).into();
        let sender = ExternalSender::new(server.as_bytes().as_slice().into(), credential);
        extensions.push(Extension::ExternalSenders(vec![sender]));
    }
    extensions
}

/// The policy in a group's context; `None` unless the context is exactly what [`context`] makes of it.
pub(super) fn read_context(extensions: &Extensions<GroupContext>, server: &PublicKey) -> Option<Policy> {
    let policy = Policy::from_bytes(&extensions.unknown(POLICY_EXTENSION)?.0).ok()?;
    extensions.iter().eq(context(&policy, server).iter()).then_some(policy)
}

/// Reads one MLS message that fills `bytes` wholly, after looking at their number.
pub(super) fn parse(bytes: &[u8]) -> Option<MlsMessageIn> {
    read_exact(bytes)
}

/// Whether a message of the log is longer than one of its kind may be; a commit may fill a frame.
pub(super) fn too_long(bytes: &[u8], message: &ProtocolMessage) -> bool {
    let most = match (message.wire_format(), message.content_type()) {
        (WireFormat::PrivateMessage, _) => SEALED_MAX,
        (_, ContentType::Proposal) => PROPOSAL_MAX,
        _ => FRAME_MAX,
    };
    bytes.len() > most
}

/// As [`parse`], a ratchet tree.
pub(super) fn parse_tree(bytes: &[u8]) -> Option<RatchetTreeIn> {
    read_exact(bytes)
}

/// Through `Deserialize`, not `DeserializeBytes`, whose byte vectors assert in debug builds that they are not cut short. Both
/// allocate as they read, never as a length says.
fn read_exact<T: Deserialize>(mut bytes: &[u8]) -> Option<T> {
    if bytes.len() > FRAME_MAX {
        return None;
    }
    let value = T::tls_deserialize(&mut bytes).ok()?;
    bytes.is_empty().then_some(value)
}
