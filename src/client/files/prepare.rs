//! What the engine does on each command: from a request to a running channel.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::downloads::{Downloads, Expected};
use super::engine::{Engine, Internal};
use super::run::{Run, Side, Terms};
use super::shares::{OpenShare, SharedFolder};
use super::upload::FileSource;
use super::writer::Writer;
use crate::channel::MAX_WINDOW;
use crate::client::effects::{ChannelStart, FilesCommand, FilesEvent, OfferRefusal, ShareCommand, UploadReady, Wanted};
use crate::transfer::name::SafeName;
use crate::transfer::search::Pattern;
use crate::wire::id::{SearchId, TransferId};
use crate::wire::name::FullName;
use crate::wire::packet::BASE_DATAGRAM;
use crate::wire::payload::{FileKind, FileRefusal};

/// A transfer whose channel does not run yet.
#[derive(Debug)]
pub(super) struct Prepared {
    kind: Kind,
    until: Duration,
}

#[derive(Debug)]
enum Kind {
    /// Being opened and hashed.
    Opening { _cancel: CancelOnDrop },
    /// Ready to be sent, under this connection id.
    Upload([u8; 8], OpenShare),
    /// Ready to be received, under this connection id.
    Download([u8; 8]),
}

/// A file to send: opened, with its root; or why not.
pub(super) type Preparing = Result<(OpenShare, [u8; 32]), FileRefusal>;

/// Ends a hash that nobody waits for any more.
#[derive(Debug)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Engine {
    pub(super) fn on_command(&mut self, command: FilesCommand) {
        match command {
            FilesCommand::Search { search, asker, pattern } => self.search(search, asker, &pattern),
            FilesCommand::Measure { transfer, wanted } => self.measure(transfer, &wanted),
            FilesCommand::PrepareUpload { transfer, wanted, .. } => self.prepare_upload(transfer, wanted),
            FilesCommand::PrepareDownload { transfer } => self.prepare_download(transfer),
            FilesCommand::StartUpload(start) => self.start_upload(&start),
            FilesCommand::StartDownload { channel, download, file, into } => {
                self.start_download(&channel, download, &file, into.as_deref());
            }
            FilesCommand::PrepareOffer { offer, .. } => {
                let result = Err(OfferRefusal::Unfit);
                self.outbox.push_back(FilesEvent::OfferReady { offer, result });
            }
            FilesCommand::Drop { transfer, reason } | FilesCommand::Cancel { transfer, reason, .. } => {
                self.cancel(transfer, &reason);
            }
            FilesCommand::Share(command) => self.share(command),
            FilesCommand::Window(segments) => self.window = segments,
            FilesCommand::Rates { .. } => {}
        }
    }

    /// The delay is random so that a room's holders do not all answer at once.
    fn search(&mut self, search: SearchId, asker: FullName, pattern: &str) {
        let (Ok(pattern), Ok(permit)) = (Pattern::parse(pattern), Arc::clone(&self.searches).try_acquire_owned())
        else {
            return;
        };
        let delay =
            random::<2>().map_or(Duration::ZERO, |bytes| SEARCH_DELAY * u16::from_be_bytes(bytes).into() / 65_536);
        let (folder, results) = (Arc::clone(&self.folder), self.results.clone());
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let found = tokio::task::spawn_blocking(move || folder.search(&pattern, 0)).await;
            if let Ok((rows, more)) = found
                && !rows.is_empty()
            {
                let _ = results.send(Internal::Event(FilesEvent::Found { search, asker, rows, more }));
            }
            drop(permit);
        });
    }

    fn share(&mut self, command: ShareCommand) {
        let (folder, results) = (Arc::clone(&self.folder), self.results.clone());
        // A fair lock: the commands take effect in the order in which they came.
        let turn = Arc::clone(&self.share_commands);
        tokio::spawn(async move {
            let turn = turn.lock().await;
            if let Ok(status) = tokio::task::spawn_blocking(move || folder.command(&command)).await {
                let (global, files, missing) = (status.global, status.files, status.missing);
                let _ = results.send(Internal::SharesChanged(FilesEvent::Shares { global, files, missing }));
            }
            drop(turn);
        });
    }

    fn measure(&mut self, transfer: TransferId, wanted: &Wanted) {
        let found = if fits(wanted) { self.folder.open_shared(&wanted.file) } else { Err(FileRefusal::NotShared) };
        let result = found.map(|open| open.stamp.size);
        self.outbox.push_back(FilesEvent::Measured { transfer, result });
    }

    fn prepare_upload(&mut self, transfer: TransferId, wanted: Wanted) {
        if !fits(&wanted) || self.prepared.contains_key(&transfer) {
            self.outbox.push_back(FilesEvent::UploadReady { transfer, result: Err(FileRefusal::BadRequest) });
            return;
        }
        let Wanted { file, root, .. } = wanted;
        let (folder, results) = (Arc::clone(&self.folder), self.results.clone());
        let cancel = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&cancel);
        tokio::task::spawn_blocking(move || {
            let preparing = open_and_hash(&folder, &file, root, &cancelled);
            let _ = results.send(Internal::Prepared(transfer, preparing));
        });
        let until = self.now() + HASH_DEADLINE;
        self.prepared.insert(transfer, Prepared { kind: Kind::Opening { _cancel: CancelOnDrop(cancel) }, until });
    }

    pub(super) fn on_prepared(&mut self, transfer: TransferId, preparing: Preparing) {
        if !matches!(self.prepared.get(&transfer), Some(Prepared { kind: Kind::Opening { .. }, .. })) {
            return;
        }
        self.prepared.remove(&transfer);
        let result = preparing.and_then(|(open, root)| {
            let connection = random().ok_or(FileRefusal::Unreadable)?;
            Ok((connection, open, root))
        });
        let result = match result {
            Ok((connection, open, root)) => {
                let size = open.stamp.size;
                let until = self.now() + START_DEADLINE;
                self.prepared.insert(transfer, Prepared { kind: Kind::Upload(connection, open), until });
                Ok(UploadReady {
                    root,
                    size,
                    partial: false,
                    connection,
                    candidates: self.candidates(),
                    window: self.window,
                    max_datagram: BASE_DATAGRAM,
                })
            }
            Err(refusal) => Err(refusal),
        };
        self.outbox.push_back(FilesEvent::UploadReady { transfer, result });
    }

    fn prepare_download(&mut self, transfer: TransferId) {
        let Some(connection) = random() else {
            self.fail(transfer, "protocol", "the system gives no random numbers");
            return;
        };
        let until = self.now() + ANSWER_DEADLINE;
        self.prepared.insert(transfer, Prepared { kind: Kind::Download(connection), until });
        let (candidates, window, max_datagram) = (self.candidates(), self.window, BASE_DATAGRAM);
        self.outbox.push_back(FilesEvent::DownloadReady { transfer, connection, candidates, window, max_datagram });
    }

    fn start_upload(&mut self, start: &ChannelStart) {
        match self.prepared.remove(&start.transfer) {
            Some(Prepared { kind: Kind::Upload(connection, open), .. }) if connection == start.our_connection => {
                self.start(start, start.transfer, Side::Up(FileSource::new(open)));
            }
            _ => self.fail(start.transfer, "timeout", "the file was not waiting any more"),
        }
    }

    fn start_download(&mut self, start: &ChannelStart, download: TransferId, file: &str, into: Option<&Path>) {
        match self.prepared.remove(&start.transfer) {
            Some(Prepared { kind: Kind::Download(connection), .. }) if connection == start.our_connection => {}
            _ => return self.fail(download, "timeout", "the answer came too late"),
        }
        let (Ok(name), Some(tag)) = (SafeName::new(file), random()) else {
            return self.fail(download, "disk", "no file can have this name");
        };
        let downloads = match into.map(Downloads::open) {
            None => self.downloads.clone(),
            Some(Ok(downloads)) => downloads,
            Some(Err(error)) => return self.fail(download, "disk", &error.to_string()),
        };
        let expected = Expected { name, size: start.size, root: start.root };
        let (results, connection) = (self.results.clone(), start.our_connection);
        let done = move |result| {
            let _ = results.send(Internal::Written(connection, result));
        };
        match Writer::start(downloads, expected, tag, done) {
            Ok(writer) => self.start(start, download, Side::Down(Some(writer))),
            Err(error) => self.fail(download, "disk", &error.to_string()),
        }
    }

    fn start(&mut self, start: &ChannelStart, subject: TransferId, side: Side) {
        let now = self.now();
        let run = random().ok_or("the system gives no random numbers".to_owned()).and_then(|entropy| {
            let terms = Terms {
                window: start.window.unwrap_or(WINDOW).clamp(1, MAX_WINDOW),
                subject,
                loopback: self.loopback,
                entropy,
            };
            Run::new(now, start, side, terms).map_err(|error| error.to_string())
        });
        match run {
            Ok(run) => {
                self.runs.insert(start.our_connection, run);
            }
            Err(error) => self.fail(subject, "protocol", &error),
        }
    }

    fn cancel(&mut self, transfer: TransferId, reason: &str) {
        let now = self.now();
        if self.prepared.remove(&transfer).is_some() {
            self.fail(transfer, "cancelled", reason);
        }
        for run in self.runs.values_mut().filter(|run| run.is_of(transfer)) {
            self.outbox.extend(run.cancel(now, reason));
        }
    }

    /// Gives up what nobody came back for.
    pub(super) fn forget_stale(&mut self, now: Duration) {
        let stale = self.prepared.iter().filter(|(_, prepared)| prepared.until <= now);
        for transfer in stale.map(|(transfer, _)| *transfer).collect::<Vec<_>>() {
            self.prepared.remove(&transfer);
            self.fail(transfer, "timeout", "the other side did not come back");
        }
    }

    fn fail(&mut self, transfer: TransferId, reason: &str, detail: &str) {
        let (reason, detail) = (reason.to_owned(), detail.to_owned());
        self.outbox.push_back(FilesEvent::Failed { transfer, reason, detail });
    }
}

/// Whether it is a shared file that is asked for.
fn fits(wanted: &Wanted) -> bool {
    wanted.kind == FileKind::File && wanted.offer.is_none()
}

fn open_and_hash(folder: &SharedFolder, file: &str, wanted: Option<[u8; 32]>, cancel: &AtomicBool) -> Preparing {
    let open = folder.open_shared(file)?;
    let root = folder.root(file, &open, cancel)?;
    if wanted.is_some_and(|wanted| wanted != root) { Err(FileRefusal::Changed) } else { Ok((open, root)) }
}

/// `None` when the system cannot.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).is_ok().then_some(bytes)
}

/// Segments under way where no window is set.
const WINDOW: u32 = 16;
/// Answers to a search come within this time.
const SEARCH_DELAY: Duration = Duration::from_millis(400);
/// Opening and hashing a file that is asked for; some 100 GB on a slow disk.
const HASH_DEADLINE: Duration = Duration::from_secs(1_800);
/// From an upload that is ready to the start of its channel.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// From a download that is prepared to the holder's answer, who may have to hash the file first.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1_800);
