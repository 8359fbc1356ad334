//! The two certificate verifiers. Both hand every TLS signature to the library's check; neither asserts one away.

use crate::crypto::identity::PublicKey;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError};
use rustls::{RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The server certificate has another key than the expected one: it was renewed, or this is another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's TLS key is not the expected one")]
pub struct UnexpectedTlsKey;

/// Which server certificates a client takes. The TLS signature is verified in every case.
#[derive(Debug)]
pub struct ServerCerts {
    algorithms: WebPkiSupportedAlgorithms,
    expect: Option<[u8; 32]>,
    authority: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCerts {
    /// `expect`: only a certificate with this key (SHA-256 of its SubjectPublicKeyInfo). `authority`: only one that these roots vouch
    /// for, for the host name asked. With neither, any: who the server is must then be found out before anything is said.
    pub fn new(
        provider: &Arc<CryptoProvider>,
        expect: Option<[u8; 32]>,
        authority: Option<&Arc<RootCertStore>>,
    ) -> Result<Self, rustls::server::VerifierBuilderError> {
        let authority = authority
            .map(|roots| WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build())
            .transpose()?;
        Ok(Self { algorithms: provider.signature_verification_algorithms, expect, authority })
    }
}

impl ServerCertVerifier for ServerCerts {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = tls_key_hash(end_entity)?;
        if let Some(authority) = &self.authority {
            authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        if self.expect.is_some_and(|expected| expected != key) {
            return Err(CertificateError::Other(OtherError(Arc::new(UnexpectedTlsKey))).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a server takes of clients: nothing, or one self-signed Ed25519 certificate, proved by its TLS signature. Between servers
/// both ends take nothing less than that.
#[derive(Debug)]
pub struct ClientCerts {
    algorithms: WebPkiSupportedAlgorithms,
    mandatory: bool,
}

impl ClientCerts {
    /// Takes the signature algorithms of the provider.
    pub fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms, mandatory: false }
    }

    /// As [`Self::new`], and no peer without a certificate.
    pub fn required(provider: &CryptoProvider) -> Self {
        Self { mandatory: true, ..Self::new(provider) }
    }
}

impl ServerCertVerifier for ClientCerts {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_client_cert(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ClientCertVerifier::supported_verify_schemes(self)
    }
}

impl ClientCertVerifier for ClientCerts {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !intermediates.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        client_key(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The key of a self-signed Ed25519 certificate; anything else is refused.
pub(super) fn client_key(certificate: &CertificateDer<'_>) -> Result<PublicKey, CertificateError> {
    if certificate.len() > CLIENT_CERTIFICATE_MAX {
        return Err(CertificateError::BadEncoding);
    }
    let parsed = parse(certificate)?;
    let spki = parsed.public_key();
    let ed25519 = [&parsed.signature_algorithm, &spki.algorithm]
        .iter()
        .all(|a| a.algorithm == x509_parser::oid_registry::OID_SIG_ED25519 && a.parameters.is_none());
    if !ed25519 || parsed.issuer().as_raw() != parsed.subject().as_raw() {
        return Err(CertificateError::UnknownIssuer);
    }
    let key: [u8; 32] = spki.subject_public_key.data.as_ref().try_into().map_err(|_| CertificateError::BadEncoding)?;
    let verifying = ed25519_dalek::VerifyingKey::from_bytes(&key).map_err(|_| CertificateError::BadSignature)?;
    let signature = ed25519_dalek::Signature::from_slice(&parsed.signature_value.data)
        .map_err(|_| CertificateError::BadSignature)?;
    verifying.verify_strict(parsed.tbs_certificate.as_ref(), &signature).map_err(|_| CertificateError::BadSignature)?;
    Ok(PublicKey::from_bytes(key))
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo, DER.
pub fn tls_key_hash(certificate: &CertificateDer<'_>) -> Result<[u8; 32], CertificateError> {
    Ok(Sha256::digest(parse(certificate)?.public_key().raw).into())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(CertificateError::BadEncoding),
    }
}

/// Largest client certificate, bytes: ours has about 300.
const CLIENT_CERTIFICATE_MAX: usize = 2048;
