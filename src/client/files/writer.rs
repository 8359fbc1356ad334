//! A thread that writes and hashes one download, so that a slow disk holds up neither the socket nor other transfers.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::downloads::{DownloadError, Downloads, Expected, PartialFile};
use crate::channel::StreamSink;

/// The near end. When it is dropped the thread has ended, and without a [`Writer::finish`] no file is left.
#[derive(Debug)]
pub(super) struct Writer {
    // Gone once everything was handed over.
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    // Gathers segments, up to CHUNK bytes.
    chunk: Vec<u8>,
    // Bytes handed over and not written yet. The channel's window keeps it below CONGESTED and one window.
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Work {
    Write(Vec<u8>),
    Finish,
}

impl Writer {
    /// Starts the thread. `done` is called once, at the end or at the first error, unless the writer is dropped first.
    pub(super) fn start(
        downloads: Downloads,
        expected: Expected,
        tag: [u8; 8],
        done: impl FnOnce(Result<PathBuf, DownloadError>) + Send + 'static,
    ) -> io::Result<Self> {
        let (work, queue) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting);
        let thread = std::thread::Builder::new().name("download".into()).spawn(move || {
            let result = downloads.begin(expected, tag).and_then(|partial| write_all(partial, &queue, &written));
            if let Some(result) = result.transpose() {
                done(result);
            }
        })?;
        Ok(Self { work: Some(work), thread: Some(thread), chunk: Vec::with_capacity(CHUNK), waiting })
    }

    /// Whether the disk is behind: then the sender should pause.
    pub(super) fn is_congested(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > CONGESTED
    }

    /// Everything was delivered: check it and give it its name.
    pub(super) fn finish(&mut self) {
        self.flush();
        self.hand_over(Work::Finish);
        self.work = None;
    }

    /// Everything was handed over; how it ends will be told.
    pub(super) fn is_finishing(&self) -> bool {
        self.work.is_none()
    }

    fn flush(&mut self) {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.waiting.fetch_add(chunk.len(), Ordering::Relaxed);
        self.hand_over(Work::Write(chunk));
    }

    fn hand_over(&self, work: Work) {
        // A thread that is gone has told why.
        let _ = self.work.as_ref().map(|queue| queue.send(work));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl StreamSink for Writer {
    fn deliver(&mut self, _offset: u64, bytes: &[u8]) {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush();
        }
    }
}

/// `None` when the near end is gone without a finish.
fn write_all(
    mut partial: PartialFile,
    queue: &Receiver<Work>,
    waiting: &AtomicUsize,
) -> Result<Option<PathBuf>, DownloadError> {
    while let Ok(work) = queue.recv() {
        match work {
            Work::Write(bytes) => {
                partial.write(&bytes)?;
                waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            Work::Finish => return partial.finish().map(Some),
        }
    }
    Ok(None)
}

/// Bytes written at once.
const CHUNK: usize = 256 * 1024;
/// Bytes waiting for the disk beyond which the sender is asked to pause.
const CONGESTED: usize = 4 << 20;
