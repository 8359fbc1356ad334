//! A client's link to a server: connect, make sure who it is, log in.
//!
//! A server that is not approved yet is met without a certificate and is told nothing; after approval the link is made again, to the
//! same TLS key only. So neither the user's key nor a single frame goes to a stranger.

use super::dial;
use super::framed::{FrameError, FrameReader};
use super::hello::{self, HelloError};
use super::queue::{FrameSender, WriteEnd, frame_queue};
use super::tls::{self, TlsSetupError};
use super::trust::{Presented, Trust, Verdict};
use super::verify::{ServerCerts, UnexpectedTlsKey, tls_key_hash};
use crate::crypto::identity::{Fingerprint, Identity, PublicKey};
use crate::limits::{
    FRAME_MAX_BEFORE_LOGIN, HANDSHAKE_DEADLINE, LINK_FRAME_MAX, LOGIN_DEADLINE, SESSION_QUEUE_BYTES, WRITE_DEADLINE,
};
use crate::wire::cert::NameCert;
use crate::wire::endpoint::Endpoint;
use crate::wire::frame::{Login, Refusal, ToClient, ToServer, VERSION, Welcome};
use crate::wire::home::HomeCard;
use crate::wire::id::InstanceId;
use crate::wire::invite::Host;
use crate::wire::name::Name;
use crate::wire::pin::ServerPin;
use crate::wire::token::Token;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, RootCertStore};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::ReadHalf;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom to reach, and as whom.
#[derive(Debug, Clone)]
pub struct Dial {
    /// The server.
    pub endpoint: Endpoint,
    /// The user's key.
    pub identity: Identity,
    /// The wished name, as typed.
    pub name: String,
    /// Of this process.
    pub instance: InstanceId,
    /// `--ca`: the certificate must be vouched for by one of these, for the host asked.
    pub authority: Option<Arc<RootCertStore>>,
    /// What is known of servers.
    pub trust: Trust,
    /// Names that we have already. One is shown where it counts and is not the server's own to give.
    pub homes: Vec<HomeCard>,
    /// An invitation to a new name, for a server that wants one.
    pub token: Option<Token>,
}

/// A link on which the login was accepted.
#[derive(Debug, Clone)]
pub struct Established {
    /// The server's proven name.
    pub server: Name,
    /// The server's proven identity key.
    pub server_key: PublicKey,
    /// Protocol version, cipher suite and key exchange group, for people.
    pub tls: String,
    /// What it answered to the login.
    pub welcome: Welcome,
    /// To be remembered for the next time.
    pub pin: ServerPin,
    /// The server's address in use.
    pub peer: IpAddr,
}

/// The receiving side of a link.
#[derive(Debug)]
pub struct LinkReceiver {
    reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    writing: JoinHandle<WriteEnd>,
}

/// Why there is no link. All but [`LinkError::Refused`] are of the kind "could not reach or trust the server".
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No address of it answers.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// `HOST:PORT`.
        address: String,
        /// What the system said of the last address tried.
        source: io::Error,
    },
    /// TLS did not come about.
    #[error("no TLS session with {address}: {reason}")]
    Tls {
        /// `HOST:PORT`.
        address: String,
        /// What the TLS library said.
        reason: String,
    },
    /// No authority of `--ca` vouches for its certificate.
    #[error("the certificate of {address} is not vouched for: {reason}")]
    Authority {
        /// `HOST:PORT`.
        address: String,
        /// What the TLS library said.
        reason: String,
    },
    /// A server that nothing speaks for and that the user did not approve.
    #[error("the server {} at {} is not known", .0.server, .0.address)]
    NotTrusted(Box<Presented>),
    /// Another identity than the pinned one.
    #[error("the identity of {} has changed: {pinned} was pinned, {} came", .presented.address, .presented.key.fingerprint())]
    Changed {
        /// What stands in the pin store or in the invite.
        pinned: Fingerprint,
        /// What came.
        presented: Box<Presented>,
    },
    /// The right address or invite, another server's name.
    #[error("{} now calls itself {}", .0.address, .0.server)]
    Renamed(Box<Presented>),
    /// A server of no mesh, or another one than that of our name.
    #[error("{} at {} does not know the server that gave us our name", .0.server, .0.address)]
    Elsewhere(Box<Presented>),
    /// It did not prove an identity.
    #[error("{0}")]
    Hello(#[from] HelloError),
    /// It refused the login.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// It spoke out of turn or not our protocol.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(&'static str),
    /// It fell silent.
    #[error("the server did not answer in time")]
    Silent,
    /// The link broke on the way.
    #[error("the link to the server broke: {0}")]
    Broken(String),
    /// Our own TLS could not be set up.
    #[error(transparent)]
    Setup(#[from] TlsSetupError),
}

/// Connects, checks the server and logs in. Takes a few seconds at most, apart from the user's answer to [`Trust::ask`].
pub async fn connect(dial: &Dial) -> Result<(Established, FrameSender, LinkReceiver), LinkError> {
    if let Some(pin) = &dial.trust.at_address {
        match meet(dial, Some(pin.tls_key), true).await {
            Err(MeetError::OtherTlsKey) => {}
            met => return log_in(dial, approved(dial, met?)?).await,
        }
    }
    let stranger = meet(dial, None, false).await?;
    let presented = stranger.presented.clone();
    drop(stranger);
    approve(dial, &presented).await?;
    let met = meet(dial, Some(presented.tls_key), true).await?;
    if (&met.presented.server, met.presented.key) != (&presented.server, presented.key) {
        return Err(LinkError::Protocol("it changed its identity between two connections"));
    }
    log_in(dial, met).await
}

impl Dial {
    /// The certificate to show: for the wished name, at a server where it counts. A home server knows its names by itself.
    fn cert_for(&self, presented: &Presented) -> Option<&NameCert> {
        let wished = Name::parse_user(&self.name).ok()?;
        let mut named = self.homes.iter().filter(|card| card.cert.subject.name == wished);
        if named.clone().any(|card| *card.server() == presented.server) {
            return None;
        }
        named.find(|card| card.leads_to(&presented.server, &presented.key)).map(|card| &card.cert)
    }
}

impl LinkReceiver {
    /// The next frame; `None` when the server ended the link. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<ToClient>, LinkError> {
        let frame = self.reader.next().await.map_err(broken)?;
        frame
            .map(|bytes| {
                ToClient::from_bytes(&bytes, LINK_FRAME_MAX).map_err(|_| LinkError::Protocol("malformed frame"))
            })
            .transpose()
    }

    /// Waits until all that was queued before [`FrameSender::close`] is sent.
    pub async fn finish(&mut self) {
        let _ = timeout(WRITE_DEADLINE, &mut self.writing).await;
    }
}

impl Drop for LinkReceiver {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

/// A server that has said hello; it has heard nothing yet.
struct Met {
    reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    writer: tokio::io::WriteHalf<TlsStream<TcpStream>>,
    presented: Presented,
    tls: String,
    peer: IpAddr,
}

enum MeetError {
    /// The certificate has another key than the expected one.
    OtherTlsKey,
    Link(LinkError),
}

impl From<LinkError> for MeetError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<MeetError> for LinkError {
    fn from(error: MeetError) -> Self {
        match error {
            MeetError::Link(error) => error,
            MeetError::OtherTlsKey => Self::Protocol("it changed its TLS key between two connections"),
        }
    }
}

/// TCP, TLS and the server's hello. The user's certificate goes along only where the TLS key is an expected one.
async fn meet(dial: &Dial, expect: Option<[u8; 32]>, with_identity: bool) -> Result<Met, MeetError> {
    let certs = ServerCerts::new(&tls::provider(), expect, dial.authority.as_ref())
        .map_err(|e| TlsSetupError::Tls(rustls::Error::General(e.to_string())))
        .map_err(LinkError::from)?;
    let config = tls::client_config(certs, with_identity.then_some(&dial.identity)).map_err(LinkError::from)?;
    let tcp = dial_tcp(&dial.endpoint).await?;
    let peer = tcp.peer_addr().map_err(|e| LinkError::Broken(e.to_string()))?.ip();
    let handshake = TlsConnector::from(config).connect(server_name(&dial.endpoint.host)?, tcp);
    let stream = timeout(HANDSHAKE_DEADLINE, handshake)
        .await
        .map_err(|_| LinkError::Silent)?
        .map_err(|e| handshake_error(&dial.endpoint, &e))?;
    let (_, connection) = stream.get_ref();
    if !tls::speaks_secchat(connection) {
        return Err(LinkError::Protocol("it does not speak secchat").into());
    }
    let certificate =
        connection.peer_certificates().and_then(<[_]>::first).ok_or(LinkError::Protocol("no certificate"))?;
    let tls_key = tls_key_hash(certificate).map_err(|_| LinkError::Protocol("unreadable certificate"))?;
    let exporter = tls::exporter(connection).ok_or(LinkError::Protocol("no TLS exporter"))?;
    let described = tls::describe(connection);
    let (read, writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, FRAME_MAX_BEFORE_LOGIN);
    let ToClient::Hello(hello) = next_before_login(&mut reader).await? else {
        return Err(LinkError::Protocol("no hello").into());
    };
    let key = hello::check(&hello, &exporter).map_err(LinkError::from)?;
    let (address, authority) = (dial.endpoint.to_string(), dial.authority.is_some());
    let presented = Presented { address, server: hello.server, key, tls_key, authority };
    Ok(Met { reader, writer, presented, tls: described, peer })
}

async fn dial_tcp(endpoint: &Endpoint) -> Result<TcpStream, LinkError> {
    dial::tcp(endpoint).await.map_err(|source| LinkError::Unreachable { address: endpoint.to_string(), source })
}

fn server_name(host: &Host) -> Result<ServerName<'static>, LinkError> {
    match host {
        Host::V4(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
        Host::V6(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
        Host::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|_| LinkError::Protocol("its host name is not a DNS name"))
        }
    }
}

fn handshake_error(endpoint: &Endpoint, error: &io::Error) -> MeetError {
    let address = endpoint.to_string();
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
            if other.0.downcast_ref::<UnexpectedTlsKey>().is_some() =>
        {
            MeetError::OtherTlsKey
        }
        Some(rustls::Error::InvalidCertificate(reason)) => {
            LinkError::Authority { address, reason: reason.to_string() }.into()
        }
        _ => LinkError::Tls { address, reason: error.to_string() }.into(),
    }
}

/// For a server met over its pinned TLS key: the identity must be the pinned one all the same.
fn approved(dial: &Dial, met: Met) -> Result<Met, LinkError> {
    verdict(dial.trust.judge(&met.presented), &met.presented)?;
    Ok(met)
}

async fn approve(dial: &Dial, presented: &Presented) -> Result<(), LinkError> {
    let judged = dial.trust.judge(presented);
    if judged != Verdict::Unknown {
        return verdict(judged, presented);
    }
    let Some(ask) = dial.trust.ask.clone() else { return verdict(judged, presented) };
    let asked = presented.clone();
    // The question waits for a person: it must not hold the runtime.
    let yes = tokio::task::spawn_blocking(move || ask(&asked)).await.unwrap_or(false);
    if yes { Ok(()) } else { verdict(judged, presented) }
}

fn verdict(verdict: Verdict, presented: &Presented) -> Result<(), LinkError> {
    let presented = Box::new(presented.clone());
    match verdict {
        Verdict::Trusted => Ok(()),
        Verdict::Unknown => Err(LinkError::NotTrusted(presented)),
        Verdict::Changed(pinned) => Err(LinkError::Changed { pinned, presented }),
        Verdict::Renamed => Err(LinkError::Renamed(presented)),
        Verdict::Elsewhere => Err(LinkError::Elsewhere(presented)),
    }
}

async fn log_in(dial: &Dial, met: Met) -> Result<(Established, FrameSender, LinkReceiver), LinkError> {
    let Met { mut reader, writer, presented, tls, peer } = met;
    let (sender, writing) = frame_queue(writer, SESSION_QUEUE_BYTES, WRITE_DEADLINE);
    let writing = tokio::spawn(writing);
    let cert = dial.cert_for(&presented).map(|cert| cert.to_bytes().into());
    // Who shows a name already needs no token for a new one, and another server must not get it.
    let token = dial.token.as_ref().filter(|_| cert.is_none()).map(|token| token.expose().into());
    let login = Login { version: VERSION, name: dial.name.clone(), instance: dial.instance, cert, pass: None, token };
    sender.send(ToServer::Login(login).to_bytes().into()).map_err(|e| LinkError::Broken(e.to_string()))?;
    let answer = next_before_login(&mut reader).await;
    let mut receiver = LinkReceiver { reader, writing };
    match answer? {
        ToClient::Welcome(welcome) => {
            receiver.reader.set_max(LINK_FRAME_MAX);
            let pin = presented.pin();
            let established =
                Established { server: presented.server, server_key: presented.key, tls, welcome, pin, peer };
            Ok((established, sender, receiver))
        }
        ToClient::Refused(refusal) => Err(LinkError::Refused(refusal)),
        _ => Err(LinkError::Protocol("neither a welcome nor a refusal")),
    }
}

async fn next_before_login<R: tokio::io::AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
) -> Result<ToClient, LinkError> {
    let frame = timeout(LOGIN_DEADLINE, reader.next()).await.map_err(|_| LinkError::Silent)?.map_err(broken)?;
    let bytes = frame.ok_or_else(|| LinkError::Broken("it was closed before the login".into()))?;
    ToClient::from_bytes(&bytes, FRAME_MAX_BEFORE_LOGIN).map_err(|_| LinkError::Protocol("malformed frame"))
}

fn broken(error: FrameError) -> LinkError {
    match error {
        FrameError::TooLarge { .. } => LinkError::Protocol("too large a frame"),
        other => LinkError::Broken(other.to_string()),
    }
}
