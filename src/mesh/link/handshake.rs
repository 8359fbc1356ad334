//! How two servers meet: TLS that proves both keys, then a word of each, then agreement.

use super::framing::{self, Kind, Malformed};
use crate::crypto::identity::PublicKey;
use crate::limits::MESH_HANDSHAKE_DEADLINE;
use crate::mesh::{NodeId, PeerProof};
use crate::net::tls;
use crate::wire::DecodeError;
use crate::wire::mesh_hello::{MESH_VERSION, MeshHello, MeshRefusal};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, CommonState, ServerConfig};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Why two servers did not come together.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Nobody there, or the stream broke.
    #[error("{0}")]
    Io(io::Error),
    /// TLS did not come about.
    #[error("no TLS session: {0}")]
    Tls(io::Error),
    /// It does not speak the mesh's protocol inside TLS, or shows no key.
    #[error("it does not speak the protocol of the mesh")]
    OtherProtocol,
    /// It was too slow.
    #[error("it is too slow")]
    Deadline,
    /// It does not keep to the form.
    #[error("malformed hello")]
    Malformed,
    /// It does not want the link.
    #[error("it refuses: {0}")]
    TheyRefuse(MeshRefusal),
    /// We do not want it.
    #[error("{0}")]
    WeRefuse(String, MeshRefusal),
}

impl From<Malformed> for HandshakeError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<DecodeError> for HandshakeError {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

/// A peer whose key and word are known; it has not been agreed to.
#[derive(Debug)]
pub(in crate::mesh) struct Greeting {
    /// Who it is, proved and said.
    pub peer: PeerProof,
    stream: Stream,
    buffer: Vec<u8>,
    dialled: bool,
}

/// Both have agreed.
#[derive(Debug)]
pub(in crate::mesh) struct Met {
    /// For frames from now on.
    pub stream: Stream,
    /// What came after the agreement.
    pub rest: Vec<u8>,
}

/// TLS reads the socket in large pieces.
pub(in crate::mesh) type Stream = TlsStream<BufReader<TcpStream>>;

/// The side that dialled: says its hello and hears the other's. `known` is who it is, as soon as that is proved.
pub(in crate::mesh) async fn dial(
    tcp: TcpStream,
    config: Arc<ClientConfig>,
    hello: &MeshHello,
    known: &mut Option<NodeId>,
) -> Result<Greeting, HandshakeError> {
    let greeting = async {
        // Without SNI the name says nothing to anybody.
        let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
        let connecting = TlsConnector::from(config).connect(nobody, BufReader::with_capacity(SOCKET_READ, prompt(tcp)));
        let mut stream = Stream::from(connecting.await.map_err(HandshakeError::Tls)?);
        let key = proven_key(stream.get_ref().1)?;
        *known = Some(NodeId::of(&key));
        say(&mut stream, Kind::Hello, &hello.to_bytes()).await?;
        let mut buffer = Vec::new();
        let peer = hear_hello(&mut stream, &mut buffer).await?;
        Ok(Greeting { peer: proof(key, peer)?, stream, buffer, dialled: true })
    };
    timeout(MESH_HANDSHAKE_DEADLINE, greeting).await.map_err(|_| HandshakeError::Deadline)?
}

/// The side that was dialled: hears the other's hello.
pub(in crate::mesh) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Greeting, HandshakeError> {
    let greeting = async {
        let accepting = TlsAcceptor::from(config).accept(BufReader::with_capacity(SOCKET_READ, prompt(tcp)));
        let mut stream = Stream::from(accepting.await.map_err(HandshakeError::Tls)?);
        let key = proven_key(stream.get_ref().1)?;
        let mut buffer = Vec::new();
        let hello = hear_hello(&mut stream, &mut buffer).await?;
        match proof(key, hello) {
            Ok(peer) => Ok(Greeting { peer, stream, buffer, dialled: false }),
            Err(error) => {
                let _ = say(&mut stream, Kind::Refusal, &MeshRefusal::Version.to_bytes()).await;
                Err(error)
            }
        }
    };
    timeout(MESH_HANDSHAKE_DEADLINE, greeting).await.map_err(|_| HandshakeError::Deadline)?
}

impl Greeting {
    /// We agree. The side that was dialled says its hello now, and waits for the other's agreement.
    pub(in crate::mesh) async fn agree(mut self, hello: &MeshHello) -> Result<Met, HandshakeError> {
        let agreeing = async {
            if self.dialled {
                say(&mut self.stream, Kind::Ready, &[]).await?;
            } else {
                say(&mut self.stream, Kind::Hello, &hello.to_bytes()).await?;
                match hear(&mut self.stream, &mut self.buffer).await? {
                    (Kind::Ready, _) => {}
                    (Kind::Refusal, bytes) => {
                        return Err(HandshakeError::TheyRefuse(MeshRefusal::from_bytes(&bytes)?));
                    }
                    _ => return Err(HandshakeError::Malformed),
                }
            }
            Ok(Met { stream: self.stream, rest: self.buffer })
        };
        timeout(MESH_HANDSHAKE_DEADLINE, agreeing).await.map_err(|_| HandshakeError::Deadline)?
    }

    /// We do not agree, and say so.
    pub(in crate::mesh) async fn refuse(self, why: MeshRefusal) {
        Self::leave(self.stream, why).await;
    }

    async fn leave(mut stream: Stream, why: MeshRefusal) {
        let leaving = async {
            say(&mut stream, Kind::Refusal, &why.to_bytes()).await?;
            stream.shutdown().await.map_err(HandshakeError::Io)?;
            // Closing while the peer's bytes wait unread would reset the connection under what was said.
            let mut ignored = [0; 64];
            while stream.read(&mut ignored).await.is_ok_and(|bytes| bytes > 0) {}
            Ok::<_, HandshakeError>(())
        };
        let _ = timeout(MESH_HANDSHAKE_DEADLINE, leaving).await;
    }
}

impl Met {
    /// We do not agree any more, and say so.
    pub(in crate::mesh) async fn refuse(self, why: MeshRefusal) {
        Greeting::leave(self.stream, why).await;
    }
}

/// Small frames leave at once, and the system keeps little that was not sent: or pings would wait behind it, and control too.
fn prompt(tcp: TcpStream) -> TcpStream {
    // Without either it is slower, and that is all.
    let _ = tcp.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_MAX);
    tcp
}

fn proven_key(state: &CommonState) -> Result<PublicKey, HandshakeError> {
    let key = tls::peer_client_key(state).filter(|_| tls::speaks_mesh(state));
    key.ok_or(HandshakeError::OtherProtocol)
}

fn proof(key: PublicKey, hello: MeshHello) -> Result<PeerProof, HandshakeError> {
    let MeshHello { version, name, vouch, instance, parcels } = hello;
    if version != MESH_VERSION {
        let why = format!("it speaks version {version} of the mesh protocol, and we version {MESH_VERSION}");
        return Err(HandshakeError::WeRefuse(why, MeshRefusal::Version));
    }
    Ok(PeerProof { key, name, vouch, instance, parcels: parcels == Some(true) })
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, kind: Kind, frame: &[u8]) -> Result<(), HandshakeError> {
    let mut bytes = Vec::new();
    framing::push(&mut bytes, kind, frame);
    stream.write_all(&bytes).await.map_err(HandshakeError::Io)?;
    stream.flush().await.map_err(HandshakeError::Io)
}

async fn hear_hello<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Result<MeshHello, HandshakeError> {
    match hear(stream, buffer).await? {
        (Kind::Hello, bytes) => Ok(MeshHello::from_bytes(&bytes)?),
        (Kind::Refusal, bytes) => Err(HandshakeError::TheyRefuse(MeshRefusal::from_bytes(&bytes)?)),
        _ => Err(HandshakeError::Malformed),
    }
}

/// One frame; what follows it stays in the buffer. Only short ones have a place here.
async fn hear<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Result<(Kind, Vec<u8>), HandshakeError> {
    loop {
        if let Some((kind, frame, rest)) = framing::next(buffer)? {
            let (heard, rest) = ((kind, frame.to_vec()), rest.to_vec());
            *buffer = rest;
            return Ok(heard);
        }
        if buffer.len() > GREETING_MAX {
            return Err(HandshakeError::Malformed);
        }
        match stream.read_buf(buffer).await {
            Ok(0) => return Err(HandshakeError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(HandshakeError::Io(error)),
        }
    }
}

/// More than both frames that a peer may say before the link is up.
const GREETING_MAX: usize = 4096;
/// Bytes that are read from the socket at once.
const SOCKET_READ: usize = 128 * 1024;
/// Bytes that the system takes before it has sent the earlier ones.
#[cfg(target_os = "linux")]
const UNSENT_MAX: u32 = 256 * 1024;
