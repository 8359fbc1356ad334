//! What a server can make of a room's published state without the room's secret.

use openmls::prelude::tls_codec::DeserializeBytes;
use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialType, CredentialWithKey, ExtensionType, LeafNodeParameters,
    MlsGroup, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn, PURE_PLAINTEXT_WIRE_FORMAT_POLICY, ProposalType,
    RatchetTreeIn,
};
use openmls_traits::OpenMlsProvider;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;
use secchat::crypto::identity::Identity;
use secchat::group::{Member, Room};
use secchat::wire::cert::NameCert;
use secchat::wire::frame::Published;
use secchat::wire::name::{FullName, Name};
use secchat::wire::policy::{POLICY_EXTENSION, Policy, RoomKind};

/// An external commit by somebody whom the server has certified, made without the room's secret.
pub fn ghost_commit(server: &Identity, published: &Published) -> Vec<u8> {
    let identity = Identity::from_seed(&[66; 32]);
    let cert = NameCert::issue(server, full("ghost"), identity.public(), u64::MAX);
    let provider = openmls_rust_crypto::OpenMlsRustCrypto::default();
    let signer = GhostSigner(ed25519_dalek::SigningKey::from_bytes(&[66; 32]));
    let message = MlsMessageIn::tls_deserialize_exact_bytes(&published.group_info).unwrap();
    let MlsMessageBodyIn::GroupInfo(info) = message.extract() else { panic!() };
    let tree = RatchetTreeIn::tls_deserialize_exact_bytes(&published.tree).unwrap();
    let config = MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .build();
    let suite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;
    let capabilities = Capabilities::new(
        None,
        Some(&[suite]),
        Some(&[ExtensionType::Unknown(POLICY_EXTENSION), ExtensionType::LastResort]),
        Some(&[ProposalType::SelfRemove]),
        Some(&[CredentialType::Basic]),
    );
    let credential = CredentialWithKey {
        credential: BasicCredential::new(cert.to_bytes()).into(),
        signature_key: cert.key().as_bytes().as_slice().into(),
    };
    let leaf = LeafNodeParameters::builder()
        .with_capabilities(capabilities)
        .with_credential_with_key(credential.clone())
        .build();
    let (_, bundle) = MlsGroup::external_commit_builder()
        .with_ratchet_tree(tree)
        .with_config(config)
        .with_aad(vec![0; 64])
        .skip_lifetime_validation()
        .build_group(&provider, info, credential)
        .unwrap()
        .leaf_node_parameters(leaf)
        .load_psks(provider.storage())
        .unwrap()
        .build(provider.rand(), provider.crypto(), &signer, |_| true)
        .unwrap()
        .finalize(&provider)
        .unwrap();
    bundle.into_commit().to_bytes().unwrap()
}

/// A private room of that id and label, made by somebody who guessed a password of their own.
pub fn own_room(server: &Identity, real: &Published) -> Published {
    let identity = Identity::from_seed(&[66; 32]);
    let cert = NameCert::issue(server, full("mallory"), identity.public(), u64::MAX);
    let join = Identity::from_seed(&[67; 32]);
    let policy = Policy::new(RoomKind::Private, "den".into(), identity.public(), Some(join.public()));
    let me = Member { identity, cert };
    let message = MlsMessageIn::tls_deserialize_exact_bytes(&real.group_info).unwrap();
    let MlsMessageBodyIn::GroupInfo(info) = message.extract() else { panic!() };
    let id: [u8; 16] = info.group_id().as_slice().try_into().unwrap();
    let (_, grant) = Room::create(&me, server.public(), id, policy, Some(join)).unwrap();
    Published {
        epoch: 0,
        group_info: grant.group_info.into(),
        tree: grant.tree.into(),
        vouch: grant.vouch.map(Into::into),
    }
}

/// Signs for whom it has the key of.
pub struct GhostSigner(pub ed25519_dalek::SigningKey);

impl Signer for GhostSigner {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(ed25519_dalek::Signer::sign(&self.0, payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

fn full(text: &str) -> FullName {
    FullName::new(Name::parse(text).unwrap(), Name::parse("s1").unwrap())
}
