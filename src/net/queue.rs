//! Writing frames: a queue bounded in bytes, and a task that sends what waits in few large writes.
//!
//! Frames are shared (`Arc`), so one that goes to a thousand receivers is encoded and held once.

use super::framed::{PREFIX, push_frame};
use crate::limits::WRITE_BATCH_BYTES;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Frames cannot be queued any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The receiver takes them too slowly.
    #[error("the receiver is too slow")]
    Full,
    /// The stream is gone, or was closed by us.
    #[error("the connection is closed")]
    Closed,
}

/// Why the writing ended.
#[derive(Debug, thiserror::Error)]
pub enum WriteEnd {
    /// [`FrameSender::close`]: all that waited was sent.
    #[error("closed")]
    Closed,
    /// The queue overflowed, or nothing was taken within the deadline.
    #[error("the receiver is too slow")]
    Slow,
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// The side that queues. Clones share the queue.
#[derive(Debug, Clone)]
pub struct FrameSender(Arc<Shared>);

impl FrameSender {
    /// Queues a frame, without its prefix. When it does not fit, the queue is marked and the writing ends with [`WriteEnd::Slow`].
    pub fn send(&self, frame: Arc<[u8]>) -> Result<(), QueueError> {
        let mut queue = self.0.lock();
        if queue.state != State::Open {
            return Err(QueueError::Closed);
        }
        let bytes = queue.bytes + frame.len() + PREFIX;
        if bytes > self.0.max {
            queue.state = State::Overflown;
            queue.frames.clear();
            queue.behind.clear();
            drop(queue);
            self.0.wake.notify_one();
            return Err(QueueError::Full);
        }
        queue.bytes = bytes;
        queue.frames.push_back(frame);
        drop(queue);
        self.0.wake.notify_one();
        Ok(())
    }

    /// Queues a frame that every other one may overtake. Where more than `most` bytes would wait with it, it is dropped instead; returns
    /// whether it was taken.
    pub fn send_behind(&self, frame: Arc<[u8]>, most: usize) -> bool {
        let mut queue = self.0.lock();
        if !self.fits_behind(&queue, frame.len(), most) {
            return false;
        }
        queue.bytes += frame.len() + PREFIX;
        queue.behind.push_back(frame);
        drop(queue);
        self.0.wake.notify_one();
        true
    }

    /// Whether [`Self::send_behind`] would take a frame of `len` bytes just now.
    pub fn has_room_behind(&self, len: usize, most: usize) -> bool {
        self.fits_behind(&self.0.lock(), len, most)
    }

    fn fits_behind(&self, queue: &Queue, len: usize, most: usize) -> bool {
        queue.state == State::Open && queue.bytes + len + PREFIX <= most.min(self.0.max)
    }

    /// No frame follows; what waits is still sent, then the stream is shut down.
    pub fn close(&self) {
        let mut queue = self.0.lock();
        if queue.state == State::Open {
            queue.state = State::Closing;
        }
        drop(queue);
        self.0.wake.notify_one();
    }

    /// Bytes that wait, prefixes included.
    pub fn waiting(&self) -> usize {
        self.0.lock().bytes
    }
}

/// A queue of at most `max` bytes, prefixes included, and the future that writes it to `stream` until its end; each write must move
/// within `deadline`. Whoever polls the future should end the session with it.
pub fn frame_queue<W>(
    stream: W,
    max: usize,
    deadline: Duration,
) -> (FrameSender, impl Future<Output = WriteEnd> + use<W>)
where
    W: AsyncWrite + Unpin,
{
    let shared = Arc::new(Shared { queue: Mutex::default(), wake: Notify::new(), max, deadline });
    (FrameSender(shared.clone()), write_all(stream, shared))
}

async fn write_all<W: AsyncWrite + Unpin>(mut stream: W, shared: Arc<Shared>) -> WriteEnd {
    let end = write_until_end(&mut stream, &shared).await;
    let mut queue = shared.lock();
    queue.state = State::Closed;
    queue.frames.clear();
    queue.behind.clear();
    drop(queue);
    end
}

async fn write_until_end<W: AsyncWrite + Unpin>(stream: &mut W, shared: &Shared) -> WriteEnd {
    let mut batch = Vec::with_capacity(WRITE_BATCH_BYTES);
    loop {
        batch.clear();
        match shared.fill(&mut batch) {
            State::Overflown => return WriteEnd::Slow,
            _ if !batch.is_empty() => {
                if let Err(end) = write_batch(stream, &batch, shared).await {
                    return end;
                }
                batch.shrink_to(WRITE_BATCH_BYTES);
            }
            State::Open => shared.wake.notified().await,
            State::Closing | State::Closed => {
                return match timeout(shared.deadline, stream.shutdown()).await {
                    Ok(Ok(())) => WriteEnd::Closed,
                    Ok(Err(e)) => WriteEnd::Io(e),
                    Err(_) => WriteEnd::Slow,
                };
            }
        }
    }
}

/// Every step must move within the deadline; an overflow of the queue in the meantime ends it at once.
async fn write_batch<W: AsyncWrite + Unpin>(stream: &mut W, batch: &[u8], shared: &Shared) -> Result<(), WriteEnd> {
    let write = async {
        let mut rest = batch;
        while !rest.is_empty() {
            let written = timeout(shared.deadline, stream.write(rest)).await.map_err(|_| WriteEnd::Slow)??;
            if written == 0 {
                return Err(WriteEnd::Io(io::ErrorKind::WriteZero.into()));
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        timeout(shared.deadline, stream.flush()).await.map_err(|_| WriteEnd::Slow)??;
        Ok(())
    };
    tokio::select! {
        done = write => done?,
        () = shared.overflown() => return Err(WriteEnd::Slow),
    }
    let mut queue = shared.lock();
    queue.bytes = queue.bytes.saturating_sub(batch.len());
    Ok(())
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
    max: usize,
    deadline: Duration,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Arc<[u8]>>,
    /// Leaves when nothing else waits.
    behind: VecDeque<Arc<[u8]>>,
    /// Of both and of the batch that is being written; at most `Shared::max`.
    bytes: usize,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Closing,
    Overflown,
    Closed,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves frames into `batch` until it has about [`WRITE_BATCH_BYTES`]; of those that others may overtake one at a time.
    fn fill(&self, batch: &mut Vec<u8>) -> State {
        let mut queue = self.lock();
        while batch.len() < WRITE_BATCH_BYTES {
            let Some(frame) = queue.frames.pop_front() else { break };
            push_frame(batch, &frame);
        }
        if batch.is_empty()
            && let Some(frame) = queue.behind.pop_front()
        {
            push_frame(batch, &frame);
        }
        queue.state
    }

    async fn overflown(&self) {
        loop {
            if self.lock().state == State::Overflown {
                return;
            }
            self.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::framed::FrameReader;
    use tokio::io::duplex;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn frames_leave_in_order_and_a_close_sends_the_rest() {
        let (ours, theirs) = duplex(1000);
        let (sender, writing) = frame_queue(ours, 1 << 20, LONG);
        for n in 0..200u8 {
            sender.send(Arc::from(vec![n; usize::from(n)])).unwrap();
        }
        sender.close();
        assert_eq!(sender.send(Arc::from(*b"late")), Err(QueueError::Closed));
        let reading = async {
            let mut reader = FrameReader::new(theirs, 1000);
            let mut count = 0u8;
            while let Some(frame) = reader.next().await.unwrap() {
                assert_eq!(frame, vec![count; usize::from(count)]);
                count += 1;
            }
            count
        };
        let (end, count) = tokio::join!(writing, reading);
        assert!(matches!(end, WriteEnd::Closed));
        assert_eq!((count, sender.waiting()), (200, 0));
    }

    #[tokio::test]
    async fn what_may_be_overtaken_is_and_does_not_pile_up() {
        let (ours, theirs) = duplex(100);
        let (sender, writing) = frame_queue(ours, 100_000, LONG);
        let taken = (0..100).filter(|_| sender.send_behind(Arc::from([b'x'; 500]), 10_000)).count();
        assert_eq!((taken, sender.waiting()), (19, 19 * 504));
        sender.send(Arc::from(*b"a line")).unwrap();
        sender.close();
        let reading = async {
            let mut reader = FrameReader::new(theirs, 1000);
            let mut lens = Vec::new();
            while let Some(frame) = reader.next().await.unwrap() {
                lens.push(frame.len());
            }
            lens
        };
        let (end, lens) = tokio::join!(writing, reading);
        assert!(matches!(end, WriteEnd::Closed));
        assert_eq!((lens.len(), lens.first()), (20, Some(&6)));
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_dropped_at_the_bound() {
        let (ours, _theirs) = duplex(100);
        let (sender, writing) = frame_queue(ours, 10_000, LONG);
        let flood = async {
            loop {
                if sender.send(Arc::from([0; 500])).is_err() {
                    return sender.waiting();
                }
                tokio::task::yield_now().await;
            }
        };
        let (end, waiting) = tokio::join!(writing, flood);
        assert!(matches!(end, WriteEnd::Slow));
        assert!(waiting <= 10_000);
    }

    #[tokio::test]
    async fn a_write_that_does_not_move_meets_its_deadline() {
        let (ours, _theirs) = duplex(10);
        let (sender, writing) = frame_queue(ours, 10_000, Duration::from_millis(20));
        sender.send(Arc::from([0; 100])).unwrap();
        assert!(matches!(writing.await, WriteEnd::Slow));
        assert_eq!(sender.send(Arc::from([0; 1])), Err(QueueError::Closed));
    }
}
