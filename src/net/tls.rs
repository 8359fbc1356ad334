//! TLS 1.3 for both sides of a server link: configurations, and what a finished handshake says.
//!
//! There is no resumption and there are no tickets: each session shows its certificates, and the server's identity is proved over
//! the exporter of that very session.

use super::verify::{ClientCerts, ServerCerts, client_key};
use crate::crypto::identity::{Identity, PublicKey};
use crate::wire::frame::EXPORTER_LABEL;
use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, CommonState, ConnectionCommon, ServerConfig, SideData};
use std::ops::Deref;
use std::sync::Arc;
use zeroize::Zeroize;

/// The only protocol that is spoken inside TLS (RFC 7301).
pub const ALPN: &[u8] = b"secchat/1";
/// The protocol between servers.
pub const MESH_ALPN: &[u8] = b"secchat-mesh/1";

/// TLS could not be set up; our own fault or a key's, never the peer's.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The TLS library refused the parts.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The identity could not be written as PKCS #8.
    #[error("cannot encode the identity key")]
    Key,
}

/// aws-lc-rs with the hybrid X25519MLKEM768 first and X25519 behind it.
pub fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

/// The server's side: TLS 1.3 only; a client certificate is asked for and may be left out, and must be a self-signed Ed25519 one.
pub fn server_config(certified: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let provider = provider();
    let verifier = Arc::new(ClientCerts::new(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The client's side. Without an identity no certificate is offered: that is how a server is met before it is approved.
pub fn client_config(accept: ServerCerts, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(accept));
    let mut config = match identity {
        Some(identity) => {
            let (certificate, key) = own_certificate(identity)?;
            builder.with_client_auth_cert(vec![certificate], key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Both sides of a link between servers: each shows a certificate of its identity key, and the handshake proves it.
pub fn mesh_configs(identity: &Identity) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), TlsSetupError> {
    let provider = provider();
    let verifier = Arc::new(ClientCerts::required(&provider));
    let (certificate, key) = own_certificate(identity)?;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(vec![certificate.clone()], key.clone_key())?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![certificate], key)?;
    client.resumption = Resumption::disabled();
    // Who a server is says its key alone.
    client.enable_sni = false;
    for protocols in [&mut server.alpn_protocols, &mut client.alpn_protocols] {
        protocols.push(MESH_ALPN.to_vec());
    }
    Ok((Arc::new(server), Arc::new(client)))
}

/// 32 bytes bound to this session (RFC 8446 §7.5), over which the server proves its identity. `None` before the handshake is over.
pub fn exporter<S: SideData>(connection: &ConnectionCommon<S>) -> Option<[u8; 32]> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&[])).ok()
}

/// The Ed25519 key of a client's or another server's certificate, whose TLS signature the handshake has verified; `None` if it
/// showed none.
pub fn peer_client_key(state: &CommonState) -> Option<PublicKey> {
    client_key(state.peer_certificates()?.first()?).ok()
}

/// Whether both sides agreed on [`ALPN`].
pub fn speaks_secchat(state: &CommonState) -> bool {
    state.alpn_protocol() == Some(ALPN)
}

/// Whether both sides agreed on [`MESH_ALPN`].
pub fn speaks_mesh(state: &CommonState) -> bool {
    state.alpn_protocol() == Some(MESH_ALPN)
}

/// Protocol version, cipher suite and key exchange group, for people: `TLSv1_3 TLS13_AES_256_GCM_SHA384 X25519MLKEM768`.
pub fn describe(state: &CommonState) -> String {
    let version = state.protocol_version().map_or_else(|| "?".into(), |v| format!("{v:?}"));
    let suite = state.negotiated_cipher_suite().map_or_else(|| "?".into(), |s| format!("{:?}", s.suite()));
    let group = state.negotiated_key_exchange_group().map_or_else(|| "?".into(), |g| format!("{:?}", g.name()));
    format!("{version} {suite} {group}")
}

/// A self-signed certificate over an identity. It names nobody: a user's name is bound to the key by the server, a server's by an
/// authority.
fn own_certificate(identity: &Identity) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsSetupError> {
    let mut pair = KeypairBytes { secret_key: *identity.seed().deref(), public_key: None };
    let document = pair.to_pkcs8_der().map_err(|_| TlsSetupError::Key);
    pair.secret_key.zeroize();
    let document = document?;
    let pkcs8 = PrivatePkcs8KeyDer::from(document.as_bytes());
    let mut key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "secchat user");
    let certificate = params.self_signed(&key)?.der().clone();
    key.zeroize();
    Ok((certificate, PrivatePkcs8KeyDer::from(document.as_bytes().to_vec()).into()))
}
