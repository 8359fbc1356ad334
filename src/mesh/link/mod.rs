//! One link to a neighbour, from the first byte of TLS to its end.

mod framing;
mod handshake;
mod outgoing;
mod pulse;

pub use framing::Malformed;
use framing::{Kind, next};
pub use handshake::HandshakeError;
pub(super) use handshake::{Greeting, accept, dial};
pub(super) use outgoing::{Cut, Outgoing};

use super::LinkId;
use crate::limits::{MESH_READ_BYTES, MESH_SILENCE};
use crate::wire::mesh_hello::MeshRefusal;
use pulse::Pulse;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    /// The peer's server was stopped.
    #[error("the neighbour was stopped")]
    Left,
    /// The peer's end of the connection was closed.
    #[error("the neighbour has ended it without a word")]
    Lost,
    /// The peer does not want it after all.
    #[error("the neighbour refuses it: {0}")]
    Refused(MeshRefusal),
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// Nothing was taken for [`MESH_SILENCE`].
    #[error("the neighbour has taken nothing for some seconds")]
    Stuck,
    /// No ping was answered for [`MESH_SILENCE`].
    #[error("the neighbour has answered no ping for some seconds")]
    Silent,
    /// It does not keep to the form of the stream.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// More control waits for it than may.
    #[error("the neighbour takes too little")]
    Overflow,
    /// We have ended it.
    #[error("{0}")]
    Cut(String),
    /// The server stops.
    #[error("the server stops")]
    Stopping,
}

/// What a link tells the driver.
#[derive(Debug)]
pub(super) enum FromLink {
    /// Frames of the stream, whole, one after another; every one of a known kind and length.
    Frames(LinkId, Vec<u8>),
    /// An answered ping.
    RoundTrip(LinkId, Duration),
    /// There is room for bulk again.
    Room(LinkId),
}

/// Runs a link both ends of which have agreed to it. `rest` are bytes that came after the agreement.
pub(super) async fn run<S>(
    link: LinkId,
    stream: S,
    rest: Vec<u8>,
    outgoing: Outgoing,
    received: Arc<AtomicU64>,
    driver: mpsc::Sender<FromLink>,
) -> LinkEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (read, write) = tokio::io::split(stream);
    let pulse = Pulse::new();
    // One task for all of it: the two directions share the TLS session, and never wait for each other's lock.
    tokio::select! {
        end = reading(link, read, rest, &outgoing, &pulse, &received, &driver) => end,
        end = writing(link, write, &outgoing, &driver) => end,
        () = pulse.keep(&outgoing) => LinkEnd::Silent,
        end = cut_off(&outgoing) => end,
    }
}

/// The writing side says goodbye first, unless it is stuck.
async fn cut_off(outgoing: &Outgoing) -> LinkEnd {
    let cut = outgoing.until_cut().await;
    sleep(PARTING).await;
    cut.into()
}

impl From<Cut> for LinkEnd {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Refused(why, _) => Self::Cut(why),
            Cut::Overflow => Self::Overflow,
            Cut::Stopping => Self::Stopping,
        }
    }
}

async fn reading<S>(
    link: LinkId,
    mut stream: ReadHalf<S>,
    mut buffer: Vec<u8>,
    outgoing: &Outgoing,
    pulse: &Pulse,
    received: &AtomicU64,
    driver: &mpsc::Sender<FromLink>,
) -> LinkEnd
where
    S: AsyncRead + Unpin,
{
    let mut scratch = vec![0; MESH_READ_BYTES];
    loop {
        let (whole, nodes) = match sort(&buffer, outgoing, pulse) {
            Ok(sorted) => sorted,
            Err(end) => return end,
        };
        let rest = buffer.split_off(whole);
        let frames = std::mem::replace(&mut buffer, rest);
        if nodes && driver.send(FromLink::Frames(link, frames)).await.is_err() {
            return LinkEnd::Stopping;
        }
        if let Some(rtt) = pulse.take_round_trip()
            && driver.send(FromLink::RoundTrip(link, rtt)).await.is_err()
        {
            return LinkEnd::Stopping;
        }
        match read_much(&mut stream, &mut scratch, &mut buffer).await {
            Ok(0) => return LinkEnd::Lost,
            Ok(bytes) => {
                pulse.heard();
                received.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return LinkEnd::Lost,
            Err(error) => return error.into(),
        }
    }
}

/// Looks at all whole frames and answers those that are the link's own: how many bytes they have together, and whether some are
/// the node's.
fn sort(buffer: &[u8], outgoing: &Outgoing, pulse: &Pulse) -> Result<(usize, bool), LinkEnd> {
    let (mut rest, mut nodes) = (buffer, false);
    while let Some((kind, frame, after)) = next(rest)? {
        match kind {
            Kind::Node => nodes = true,
            Kind::Ping => outgoing.pulse(Kind::Pong, stamp(frame)?),
            Kind::Pong => pulse.answered(stamp(frame)?),
            Kind::Refusal => {
                return Err(match MeshRefusal::from_bytes(frame) {
                    Ok(MeshRefusal::Leaving) => LinkEnd::Left,
                    Ok(refusal) => LinkEnd::Refused(refusal),
                    Err(_) => LinkEnd::Malformed(Malformed::Kind),
                });
            }
            Kind::Hello | Kind::Ready => return Err(Malformed::Kind.into()),
        }
        rest = after;
    }
    Ok((buffer.len() - rest.len(), nodes))
}

/// The first frame of the node in what [`FromLink::Frames`] holds, and what follows it.
pub(super) fn next_node(mut frames: &[u8]) -> Option<(&[u8], &[u8])> {
    loop {
        let (kind, frame, rest) = next(frames).ok().flatten()?;
        if kind == Kind::Node {
            return Some((frame, rest));
        }
        frames = rest;
    }
}

fn stamp(frame: &[u8]) -> Result<[u8; 8], Malformed> {
    frame.try_into().map_err(|_| Malformed::Length)
}

/// Waits for bytes, then takes what there is up to [`MESH_READ_BYTES`]: the node works on many frames at once. 0 at the end. A long
/// frame grows the buffer with what has come of it, never with what was announced.
async fn read_much<S: AsyncRead + Unpin>(
    stream: &mut S,
    scratch: &mut [u8],
    buffer: &mut Vec<u8>,
) -> io::Result<usize> {
    let mut room = ReadBuf::new(scratch);
    poll_fn(|cx| {
        loop {
            let had = room.filled().len();
            match Pin::new(&mut *stream).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) if room.filled().len() == had || room.remaining() == 0 => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if had == 0 => return Poll::Ready(Err(error)),
                Poll::Pending if had == 0 => return Poll::Pending,
                // What has come is worked on first; an error comes again.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    buffer.extend_from_slice(room.filled());
    Ok(room.filled().len())
}

async fn writing<S>(
    link: LinkId,
    mut stream: WriteHalf<S>,
    outgoing: &Outgoing,
    driver: &mpsc::Sender<FromLink>,
) -> LinkEnd
where
    S: AsyncWrite + Unpin,
{
    let mut batch = Vec::new();
    loop {
        batch.clear();
        let room = tokio::select! {
            biased;
            cut = outgoing.until_cut() => {
                let word = match &cut {
                    Cut::Refused(_, word) => *word,
                    Cut::Stopping => Some(MeshRefusal::Leaving),
                    Cut::Overflow => None,
                };
                if let Some(refusal) = word {
                    framing::push(&mut batch, Kind::Refusal, &refusal.to_bytes());
                    let _ = write(&mut stream, &batch).await;
                }
                let _ = stream.shutdown().await;
                return cut.into();
            }
            room = outgoing.fill(&mut batch) => room,
        };
        if let Err(end) = write(&mut stream, &batch).await {
            return end;
        }
        batch.shrink_to(2 * MESH_READ_BYTES);
        if room && driver.send(FromLink::Room(link)).await.is_err() {
            return LinkEnd::Stopping;
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, mut batch: &[u8]) -> Result<(), LinkEnd> {
    while !batch.is_empty() {
        let written = timeout(MESH_SILENCE, stream.write(batch)).await.map_err(|_| LinkEnd::Stuck)??;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        batch = batch.get(written..).unwrap_or_default();
    }
    Ok(timeout(MESH_SILENCE, stream.flush()).await.map_err(|_| LinkEnd::Stuck)??)
}

/// So long may the last word to a neighbour take.
const PARTING: Duration = Duration::from_millis(500);
