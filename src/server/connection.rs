//! One client's connection, from TCP to its end.

use super::SessionId;
use super::accept::{Evicted, Ticket};
use super::actor::{CoreGone, CoreHandle};
use super::pace::{Held, Pace, Patience, Word};
use super::udp::Legs;
use crate::crypto::identity::{Identity, PublicKey};
use crate::limits::{
    FLOOD_NOTICE, FRAME_MAX, FRAME_MAX_BEFORE_LOGIN, HANDSHAKE_DEADLINE, LINK_FRAME_MAX, LOGIN_DEADLINE,
    SESSION_QUEUE_BYTES, WRITE_DEADLINE,
};
use crate::net::dial::suit_lines;
use crate::net::framed::{FrameError, FrameReader};
use crate::net::queue::{FrameSender, WriteEnd, frame_queue};
use crate::net::{hello, tls};
use crate::wire::frame::{Code, Push, Refusal, Request, ToClient, ToServer};
use crate::wire::name::Name;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::ReadHalf;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why a connection ended; for the server's log.
#[derive(Debug, thiserror::Error)]
pub enum SessionEnd {
    /// It had not logged in and a newer connection needed its place.
    #[error("evicted before its login")]
    Evicted,
    /// TLS or the login took too long.
    #[error("too slow to log in")]
    Deadline,
    /// TLS did not come about.
    #[error("no TLS session: {0}")]
    Handshake(io::Error),
    /// It does not speak our protocol inside TLS.
    #[error("another protocol inside TLS")]
    OtherProtocol,
    /// It showed no certificate and so cannot log in.
    #[error("no client certificate")]
    NoCertificate,
    /// It sent something that is no frame of ours.
    #[error("a malformed frame")]
    Malformed,
    /// It sent too large a frame, or the stream broke.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The writing side ended it: closed by us, too slow, or broken.
    #[error(transparent)]
    Writing(#[from] WriteEnd),
    /// It went on posting faster than it may, though it was told.
    #[error("a flood of posts")]
    Flooding,
    /// It ended the link.
    #[error("it left")]
    Left,
    /// The server stops.
    #[error("the server stops")]
    Stopping,
}

impl SessionEnd {
    /// Whether it surely ended before a login.
    pub const fn before_login(&self) -> bool {
        match self {
            Self::Evicted | Self::Deadline | Self::Handshake(_) | Self::OtherProtocol | Self::NoCertificate => true,
            Self::Flooding | Self::Malformed | Self::Frame(_) | Self::Writing(_) | Self::Left | Self::Stopping => false,
        }
    }
}

impl From<CoreGone> for SessionEnd {
    fn from(_: CoreGone) -> Self {
        Self::Stopping
    }
}

/// What all sessions share.
#[derive(Debug)]
pub struct Shared {
    /// The server's identity.
    pub identity: Identity,
    /// The server's name.
    pub name: Name,
    /// Where sessions report.
    pub core: CoreHandle,
    legs: Legs,
    started: Instant,
    pace: Mutex<Pace>,
}

impl Shared {
    /// Before the first session.
    pub fn new(identity: Identity, name: Name, core: CoreHandle, legs: Legs) -> Self {
        Self { identity, name, core, legs, started: Instant::now(), pace: Mutex::default() }
    }

    /// How long a frame waits before it is taken, and what the time is: posts are slowed down to a steady rate. For other servers all
    /// are: what waits on the way there is the same for all clients.
    fn hold(&self, key: PublicKey, frame: &ToServer, bytes: usize) -> Option<(Held, Duration)> {
        match frame {
            ToServer::Request { body: Request::Post { .. }, .. } | ToServer::At { .. } => {
                let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
                let now = self.started.elapsed();
                Some((pace.post(key, bytes, self.core.slower(), now), now))
            }
            _ => None,
        }
    }
}

/// Runs a connection to its end.
pub async fn run(
    id: SessionId,
    tcp: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    ticket: Ticket,
    mut evicted: Evicted,
) -> SessionEnd {
    let login = async {
        let arrival = arrive(tcp, acceptor, &shared).await?;
        read_login(arrival).await
    };
    let (arrival, key, frame) = tokio::select! {
        result = login => match result {
            Ok(login) => login,
            Err(end) => return end,
        },
        _ = &mut evicted => return SessionEnd::Evicted,
    };
    let (welcome, welcomed) = oneshot::channel();
    let session = Session { id, key, arrival, core: shared.core.for_session(), shared: shared.clone() };
    tracing::info!(session = id, %address, key = %key.fingerprint(), tls = %session.arrival.tls, "a client connected");
    if session.core.connect(id, key, address, session.arrival.sender.clone(), welcome).await.is_err() {
        return SessionEnd::Stopping;
    }
    let end = session.serve(frame, welcomed, &ticket, evicted).await;
    // The core hears of the end whatever it was; when it is gone itself there is nobody to tell.
    let _ = shared.core.disconnect(id).await;
    end
}

/// TLS stands and the hello is on its way.
struct Arrival {
    reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    sender: FrameSender,
    writing: Pin<Box<dyn Future<Output = WriteEnd> + Send>>,
    key: Option<PublicKey>,
    /// Version, suite and key exchange, for the log.
    tls: String,
}

async fn arrive(tcp: TcpStream, acceptor: TlsAcceptor, shared: &Shared) -> Result<Arrival, SessionEnd> {
    suit_lines(&tcp).map_err(SessionEnd::Handshake)?;
    let stream = timeout(HANDSHAKE_DEADLINE, acceptor.accept(tcp))
        .await
        .map_err(|_| SessionEnd::Deadline)?
        .map_err(SessionEnd::Handshake)?;
    let (_, connection) = stream.get_ref();
    if !tls::speaks_secchat(connection) {
        return Err(SessionEnd::OtherProtocol);
    }
    let described = tls::describe(connection);
    let exporter = tls::exporter(connection).ok_or(SessionEnd::OtherProtocol)?;
    let key = tls::peer_client_key(connection);
    let (read, write) = tokio::io::split(stream);
    let (sender, writing) = frame_queue(write, SESSION_QUEUE_BYTES, WRITE_DEADLINE);
    let hello = hello::prove(&shared.identity, &shared.name, &exporter);
    // The queue is empty and open, so the hello fits.
    let _ = sender.send(ToClient::Hello(hello).to_bytes().into());
    Ok(Arrival {
        reader: FrameReader::new(read, FRAME_MAX_BEFORE_LOGIN),
        sender,
        writing: Box::pin(writing),
        key,
        tls: described,
    })
}

/// The first frame, which must be a login, and a certificate to log in with.
async fn read_login(mut arrival: Arrival) -> Result<(Arrival, PublicKey, ToServer), SessionEnd> {
    let Arrival { reader, writing, .. } = &mut arrival;
    let read = async {
        tokio::select! {
            frame = reader.next() => frame?.ok_or(SessionEnd::Left),
            end = writing => Err(end.into()),
        }
    };
    let bytes = timeout(LOGIN_DEADLINE, read).await.map_err(|_| SessionEnd::Deadline)??;
    let frame = ToServer::from_bytes(&bytes, FRAME_MAX_BEFORE_LOGIN).map_err(|_| SessionEnd::Malformed)?;
    if !matches!(frame, ToServer::Login(_)) {
        return Err(SessionEnd::Malformed);
    }
    match arrival.key {
        Some(key) => Ok((arrival, key, frame)),
        None => {
            let refusal = Refusal::new(Code::NoCertificate, "a login needs a client certificate");
            let _ = arrival.sender.send(ToClient::Refused(refusal).to_bytes().into());
            arrival.sender.close();
            let _ = timeout(LOGIN_DEADLINE, arrival.writing).await;
            Err(SessionEnd::NoCertificate)
        }
    }
}

struct Session {
    id: SessionId,
    key: PublicKey,
    arrival: Arrival,
    core: CoreHandle,
    shared: Arc<Shared>,
}

impl Session {
    async fn serve(
        mut self,
        login: ToServer,
        welcomed: oneshot::Receiver<()>,
        ticket: &Ticket,
        evicted: Evicted,
    ) -> SessionEnd {
        if let Err(end) = self.await_welcome(login, welcomed, evicted).await {
            return end;
        }
        ticket.logged_in();
        self.arrival.reader.set_max(LINK_FRAME_MAX);
        match self.relay().await {
            Ok(()) => SessionEnd::Left,
            Err(end) => {
                if matches!(end, SessionEnd::Flooding) {
                    self.arrival.sender.close();
                    let _ = timeout(LINGER, &mut self.arrival.writing).await;
                }
                if matches!(end, SessionEnd::Flooding | SessionEnd::Writing(WriteEnd::Closed)) {
                    self.linger().await;
                }
                end
            }
        }
    }

    /// Lets the client read the last frame: closing while its bytes wait unread would reset the connection under it.
    async fn linger(&mut self) {
        let rest = async { while let Ok(Some(_)) = self.arrival.reader.next().await {} };
        let _ = timeout(LINGER, rest).await;
    }

    /// Nothing more is read until the core has accepted the login. After a refusal the writing ends and so does this.
    async fn await_welcome(
        &mut self,
        login: ToServer,
        welcomed: oneshot::Receiver<()>,
        evicted: Evicted,
    ) -> Result<(), SessionEnd> {
        self.core.frame(self.id, login, FRAME_MAX_BEFORE_LOGIN).await?;
        tokio::select! {
            welcome = timeout(LOGIN_DEADLINE, welcomed) => match welcome {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err((&mut self.arrival.writing).await.into()),
                Err(_) => Err(SessionEnd::Deadline),
            },
            end = &mut self.arrival.writing => Err(end.into()),
            _ = evicted => Err(SessionEnd::Evicted),
        }
    }

    /// Frames go to the core, which also asks silent clients whether they are there.
    async fn relay(&mut self) -> Result<(), SessionEnd> {
        let Arrival { reader, writing, sender, .. } = &mut self.arrival;
        let mut patience = Patience::default();
        loop {
            let bytes = tokio::select! {
                frame = reader.next() => frame?,
                end = &mut *writing => return Err(end.into()),
            };
            let Some(bytes) = bytes else { return Ok(()) };
            let frame = ToServer::from_bytes(&bytes, LINK_FRAME_MAX).map_err(|_| SessionEnd::Malformed)?;
            check(&frame, bytes.len())?;
            if let ToServer::RelayData(data) = frame {
                // Not the core's business: no line of the chat waits behind a file.
                self.shared.legs.came_by_link(self.key, self.id, sender, data);
                // A thousand tiny datagrams are a millisecond's work, and many frames of them may have been read at once.
                yield_now().await;
                continue;
            }
            let hold = match self.shared.hold(self.key, &frame, bytes.len()) {
                None => Duration::ZERO,
                Some((held, now)) => {
                    let word = patience.judge(held, now);
                    if let Some(push) = flood_push(word) {
                        // A queue that is full ends the session by itself.
                        let _ = sender.send(ToClient::Push(push).to_bytes().into());
                    }
                    if word == Word::Cut {
                        return Err(SessionEnd::Flooding);
                    }
                    held.wait
                }
            };
            let sent = async {
                if !hold.is_zero() {
                    sleep(hold).await;
                }
                self.core.frame(self.id, frame, bytes.len()).await
            };
            // The writing goes on meanwhile, or two that wait for each other would stand still.
            tokio::select! {
                sent = sent => sent?,
                end = &mut *writing => return Err(end.into()),
            }
        }
    }
}

/// What a session is told of its flood.
fn flood_push(word: Word) -> Option<Push> {
    let seconds = FLOOD_NOTICE.as_secs();
    match word {
        Word::Nothing => None,
        Word::Notice => Some(Push::Notice {
            text: format!(
                "you post faster than this server takes it; if that goes on for {seconds} s more, the link is cut"
            ),
        }),
        Word::Cut => Some(Push::Bye { reason: "flooding".into(), detail: None }),
    }
}

/// In a frame for another server there is a frame, and not another one of that kind; and only with it around may it be longer than
/// [`FRAME_MAX`].
fn check(frame: &ToServer, bytes: usize) -> Result<(), SessionEnd> {
    match frame {
        ToServer::At { frame, .. } => match ToServer::from_bytes(frame, FRAME_MAX) {
            Ok(ToServer::At { .. }) | Err(_) => Err(SessionEnd::Malformed),
            Ok(_) => Ok(()),
        },
        _ if bytes > FRAME_MAX => Err(SessionEnd::Malformed),
        _ => Ok(()),
    }
}

const LINGER: Duration = Duration::from_secs(1);
