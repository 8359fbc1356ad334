//! Peers that do not keep to the rules, on both sides.

use crate::harness::{DEADLINE, Running, dial, identity, start, yes};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, SignatureAlgorithm, SignatureScheme};
use rustls::{SupportedProtocolVersion, client::danger::HandshakeSignatureValid};
use secchat::limits::FRAME_MAX_BEFORE_LOGIN;
use secchat::net::framed::{FrameReader, push_frame};
use secchat::net::hello::{self, HelloError};
use secchat::net::link::{LinkError, connect};
use secchat::net::tls::{self, ALPN};
use secchat::net::trust::Trust;
use secchat::net::verify::ServerCerts;
use secchat::wire::frame::{Code, Login, ToClient, ToServer, VERSION};
use secchat::wire::id::Id;
use secchat::wire::name::Name;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const V13: &SupportedProtocolVersion = &rustls::version::TLS13;
const V12: &SupportedProtocolVersion = &rustls::version::TLS12;

/// A client certificate, and a key that signs whatever the server says it takes.
#[derive(Debug)]
struct Stubborn {
    certificate: CertificateDer<'static>,
    key: Arc<dyn SigningKey>,
}

impl Stubborn {
    fn new(certificate: &rcgen::Certificate, key: &rcgen::KeyPair) -> Arc<Self> {
        let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = tls::provider().key_provider.load_private_key(der).unwrap();
        Arc::new(Self { certificate: certificate.der().clone(), key: Arc::new(AnyScheme(key)) })
    }
}

impl ResolvesClientCert for Stubborn {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::new(CertifiedKey::new(vec![self.certificate.clone()], self.key.clone())))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct AnyScheme(Arc<dyn SigningKey>);

impl SigningKey for AnyScheme {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        use SignatureScheme as S;
        self.0.choose_scheme(&[S::ED25519, S::ECDSA_NISTP256_SHA256, S::RSA_PSS_SHA256])
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

async fn raw(
    address: SocketAddr,
    version: &'static SupportedProtocolVersion,
    certificate: Option<Arc<Stubborn>>,
    alpn: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let provider = tls::provider();
    let certs = ServerCerts::new(&provider, None, None).unwrap();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(certs));
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), tcp).await
}

async fn next(reader: &mut FrameReader<impl tokio::io::AsyncRead + Unpin>) -> Option<ToClient> {
    let bytes = timeout(DEADLINE, reader.next()).await.expect("in time").ok()??;
    Some(ToClient::from_bytes(&bytes, FRAME_MAX_BEFORE_LOGIN).unwrap())
}

fn login() -> ToServer {
    ToServer::Login(Login {
        version: VERSION,
        name: "bob".into(),
        instance: Id([1; 16]),
        cert: None,
        pass: None,
        token: None,
    })
}

/// What the server says first over such a connection; `None` if it ends the connection instead.
async fn greeting(stream: io::Result<TlsStream<TcpStream>>) -> Option<ToClient> {
    next(&mut FrameReader::new(stream.ok()?, FRAME_MAX_BEFORE_LOGIN)).await
}

#[tokio::test]
async fn without_a_client_certificate_there_is_a_hello_and_no_login() {
    let server = start(1);
    let (read, mut write) = tokio::io::split(raw(server.address, V13, None, ALPN).await.unwrap());
    let mut reader = FrameReader::new(read, FRAME_MAX_BEFORE_LOGIN);
    assert!(matches!(next(&mut reader).await, Some(ToClient::Hello(_))));
    let mut bytes = Vec::new();
    push_frame(&mut bytes, &login().to_bytes());
    write.write_all(&bytes).await.unwrap();
    let Some(ToClient::Refused(refusal)) = next(&mut reader).await else { panic!("no refusal") };
    assert_eq!(refusal.code, Code::NoCertificate);
    assert_eq!(next(&mut reader).await, None);
}

#[tokio::test]
async fn older_tls_and_other_protocols_are_refused() {
    let server = start(1);
    assert!(raw(server.address, V12, None, ALPN).await.is_err());
    assert_eq!(greeting(raw(server.address, V13, None, b"h2").await).await, None);
    assert!(connect(&server.dial(2)).await.is_ok());
}

fn self_signed(algorithm: &'static rcgen::SignatureAlgorithm) -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    (rcgen::CertificateParams::default().self_signed(&key).unwrap(), key)
}

#[tokio::test]
async fn only_self_signed_ed25519_certificates_with_their_own_key_are_taken() {
    let server = start(1);
    let greeted = async |certificate: &rcgen::Certificate, key: &rcgen::KeyPair| {
        greeting(raw(server.address, V13, Some(Stubborn::new(certificate, key)), ALPN).await).await.is_some()
    };
    let (ed, ed_key) = self_signed(&rcgen::PKCS_ED25519);
    assert!(greeted(&ed, &ed_key).await, "the honest case of the same client");
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_RSA_SHA256] {
        let (certificate, key) = self_signed(algorithm);
        assert!(!greeted(&certificate, &key).await, "{algorithm:?}");
    }
    let (_, other_key) = self_signed(&rcgen::PKCS_ED25519);
    assert!(!greeted(&ed, &other_key).await, "a stolen certificate without its key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "issued");
    let issuer = rcgen::Issuer::new(rcgen::CertificateParams::default(), ed_key);
    let issued = params.signed_by(&other_key, &issuer).unwrap();
    assert!(!greeted(&issued, &other_key).await, "signed by somebody else");
}

#[tokio::test]
async fn an_oversized_frame_before_login_ends_the_connection() {
    let server = start(1);
    let mut stream = raw(server.address, V13, None, ALPN).await.unwrap();
    let announced = u32::try_from(FRAME_MAX_BEFORE_LOGIN + 1).unwrap();
    stream.write_all(&announced.to_be_bytes()).await.unwrap();
    let mut heard = Vec::new();
    // A reset instead of an end is as good.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut heard)).await.expect("closed in time");
    assert!(heard.len() < 1000, "no more than the hello");
}

/// Notes whether it was ever shown a certificate.
#[derive(Debug, Default)]
struct Spy {
    certificates: AtomicBool,
}

impl ClientCertVerifier for Spy {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.certificates.store(true, Ordering::SeqCst);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("no".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = tls::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// What a curious server, which has an identity of its own, learns from whoever connects.
struct Curious {
    address: SocketAddr,
    spy: Arc<Spy>,
    /// For each connection that is over: the bytes it said inside TLS, none if TLS did not come about.
    heard: mpsc::UnboundedReceiver<usize>,
}

impl Curious {
    /// `seed`: of its identity. `honest`: it proves that over this session, not over another.
    async fn start(seed: u8, honest: bool) -> Self {
        let (certificate, key) = self_signed(&rcgen::PKCS_ECDSA_P256_SHA256);
        let spy = Arc::new(Spy::default());
        let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[V13])
            .unwrap()
            .with_client_cert_verifier(spy.clone())
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hear, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    hear.send(0).unwrap();
                    continue;
                };
                let exporter = tls::exporter(stream.get_ref().1).unwrap();
                let session = if honest { exporter } else { [0; 32] };
                let hello = hello::prove(&identity(seed), &Name::parse("s1").unwrap(), &session);
                let mut bytes = Vec::new();
                push_frame(&mut bytes, &ToClient::Hello(hello).to_bytes());
                stream.write_all(&bytes).await.unwrap();
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                hear.send(rest.len()).unwrap();
            }
        });
        Self { address, spy, heard }
    }

    /// Waits until so many connections are over.
    async fn learned_nothing(mut self, connections: usize) {
        for _ in 0..connections {
            let heard = timeout(DEADLINE, self.heard.recv()).await.expect("the connection ended");
            assert_eq!(heard, Some(0), "bytes said to it");
        }
        assert!(!self.spy.certificates.load(Ordering::SeqCst), "it saw a client certificate");
    }
}

#[tokio::test]
async fn a_server_that_is_not_approved_learns_nothing_of_the_user() {
    let curious = Curious::start(9, true).await;
    let refused = connect(&dial(curious.address, 2, Trust::default())).await.map(|_| ());
    assert!(matches!(refused, Err(LinkError::NotTrusted(_))), "{refused:?}");
    let no = Trust { ask: Some(Arc::new(|_| false)), ..Trust::default() };
    assert!(matches!(connect(&dial(curious.address, 2, no)).await.map(|_| ()), Err(LinkError::NotTrusted(_))));
    let wrong_invite = Trust {
        invite: Some((identity(1).public().fingerprint(), Name::parse("s1").unwrap())),
        ask: Some(yes()),
        ..Trust::default()
    };
    let refused = connect(&dial(curious.address, 2, wrong_invite)).await.map(|_| ());
    assert!(matches!(refused, Err(LinkError::Changed { .. })), "{refused:?}");
    curious.learned_nothing(3).await;
}

#[tokio::test]
async fn a_server_that_took_the_place_of_a_known_one_learns_nothing_of_the_user() {
    let server: Running = start(1);
    let (established, ..) = connect(&server.dial(2)).await.unwrap();
    let curious = Curious::start(9, true).await;
    let trust = Trust { at_address: Some(established.pin), ask: Some(yes()), ..Trust::default() };
    let refused = connect(&dial(curious.address, 2, trust)).await.map(|_| ());
    assert!(matches!(refused, Err(LinkError::Changed { .. })), "{refused:?}");
    curious.learned_nothing(2).await;
}

#[tokio::test]
async fn an_identity_proved_over_another_session_is_refused() {
    let curious = Curious::start(9, false).await;
    let refused = connect(&dial(curious.address, 2, Trust { ask: Some(yes()), ..Trust::default() })).await.map(|_| ());
    assert!(matches!(refused, Err(LinkError::Hello(HelloError::Proof))), "{refused:?}");
    curious.learned_nothing(1).await;
}
