//! What the engine does on each command: from a request to a running channel.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::content::Content;
use super::downloads::Downloads;
use super::engine::{CancelOnDrop, Engine, Internal};
use super::fetches::{FetchLetter, Parts};
use super::hashing::{HashError, Trees};
use super::legs::Ticket;
use super::part::Part;
use super::shares::SharedFolder;
use super::uploads::UploadLetter;
use super::writer::Expected;
use crate::client::effects::{ChannelStart, FilesCommand, FilesEvent, Offered, ShareCommand, UploadReady, Wanted};
use crate::transfer::name::SafeName;
use crate::transfer::restrict::Rules;
use crate::transfer::search::{Pattern, SharedFile};
use crate::wire::datagram::CloseCode;
use crate::wire::id::{RoomId, SearchId, TransferId};
use crate::wire::name::FullName;
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
    Upload([u8; 8], Arc<Content>),
    /// Ready to be received, under this connection id.
    Download([u8; 8]),
}

/// What is ready but for our addresses outside.
#[derive(Debug)]
pub(super) enum Waiting {
    /// To be sent.
    Upload(TransferId, Arc<Content>),
    /// To be asked for.
    Download(TransferId),
}

impl Waiting {
    pub(super) fn is_upload(&self) -> bool {
        matches!(self, Self::Upload(..))
    }
}

/// A download that is to begin, or to have one source more.
struct Start<'s> {
    download: TransferId,
    file: &'s str,
    into: Option<&'s Path>,
    offered: Option<Offered>,
    room: Option<RoomId>,
    rules: Rules,
}

impl Engine {
    pub(super) fn on_command(&mut self, command: FilesCommand) {
        if matches!(
            command,
            FilesCommand::Measure { .. } | FilesCommand::PrepareDownload { .. } | FilesCommand::PrepareOffer { .. }
        ) {
            self.use_ports();
        }
        match command {
            FilesCommand::Search { search, asker, room, pattern, within, rules } => {
                self.search((search, asker), room, &pattern, within, rules);
            }
            FilesCommand::Measure { transfer, wanted } => self.measure(transfer, wanted),
            FilesCommand::PrepareUpload { transfer, wanted, rules, .. } => {
                self.prepare_upload(transfer, wanted, rules);
            }
            FilesCommand::PrepareDownload { transfer } => self.prepare_download(transfer),
            FilesCommand::StartUpload(start) => self.start_upload(start),
            FilesCommand::StartDownload { channel, download, file, into, offered, room, rules } => {
                let fetch = Start { download, file: &file, into: into.as_deref(), offered, room, rules };
                self.start_download(channel, fetch);
            }
            FilesCommand::PrepareOffer { offer, path, rules } => self.prepare_offer(offer, path, rules),
            FilesCommand::Drop { transfer, reason } => {
                self.prepared.remove(&transfer);
                self.down.address.send(FetchLetter::Drop(transfer, reason));
            }
            FilesCommand::Cancel { transfer, reason, keep } => self.cancel(transfer, reason, keep),
            FilesCommand::Relay { transfer, server, host, port, leg, key } => {
                self.relay(host, port, Ticket { transfer, server, addrs: Vec::new(), leg, key });
            }
            FilesCommand::RelayIn(data) => self.came_over_link(data),
            FilesCommand::Share(command) => self.share(command),
            FilesCommand::Window(segments) => self.settings.window = segments,
            FilesCommand::Rates { up, down } => {
                self.up.address.send(UploadLetter::Rate(up));
                self.down.address.send(FetchLetter::Rate(down));
            }
        }
    }

    /// The delay is random so that a room's holders do not all answer at once.
    fn search(
        &mut self,
        (search, asker): (SearchId, FullName),
        room: RoomId,
        pattern: &str,
        within: Duration,
        rules: Rules,
    ) {
        let (Ok(pattern), Ok(permit)) = (Pattern::parse(pattern), Arc::clone(&self.searches).try_acquire_owned())
        else {
            return;
        };
        let delay = random::<2>().map_or(Duration::ZERO, |bytes| within * u16::from_be_bytes(bytes).into() / 65_536);
        let (folder, results) = (Arc::clone(&self.folder), self.results.clone());
        let parts = self.coming(room);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let found = tokio::task::spawn_blocking(move || folder.search(&pattern, parts, &rules)).await;
            if let Ok((rows, more)) = found
                && !rows.is_empty()
            {
                let _ = results.send(Internal::Event(FilesEvent::Found { search, asker, rows, more }));
            }
            drop(permit);
        });
    }

    /// What is being fetched in a room, as a search there shows it.
    fn coming(&self, room: RoomId) -> Vec<SharedFile> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |part: &Arc<Part>| {
            let (name, size, root, kind) = (part.name.clone(), part.size, Some(part.root), part.kind());
            SharedFile { name, size, root, kind, partial: true }
        };
        parts.values().filter(|part| part.room == room).map(shown).collect()
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

    fn measure(&mut self, transfer: TransferId, wanted: Wanted) {
        if let Some(offer) = &wanted.offer {
            let result = self.offered(offer, &wanted).map(|content| content.total);
            return self.outbox.push_back(FilesEvent::Measured { transfer, result });
        }
        let (folder, parts, results) = (Arc::clone(&self.folder), Arc::clone(&self.parts), self.results.clone());
        tokio::task::spawn_blocking(move || {
            let result = match wanted.kind {
                FileKind::File => folder.open_shared(&wanted.file).map(|open| open.stamp.size),
                FileKind::Folder => folder.measure_folder(&wanted.file),
            };
            let part = |refusal| part_of(&folder, &parts, &wanted).map(|part| part.total).ok_or(refusal);
            let result = result.or_else(part);
            let _ = results.send(Internal::Event(FilesEvent::Measured { transfer, result }));
        });
    }

    fn prepare_upload(&mut self, transfer: TransferId, wanted: Wanted, rules: Rules) {
        if self.prepared.contains_key(&transfer) {
            let result = Err(FileRefusal::BadRequest);
            return self.outbox.push_back(FilesEvent::UploadReady { transfer, result });
        }
        self.up.address.send(UploadLetter::LookOutside);
        let cancel = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&cancel);
        let until = self.now() + HASH_DEADLINE;
        self.prepared.insert(transfer, Prepared { kind: Kind::Opening { _cancel: CancelOnDrop(cancel) }, until });
        let offered = wanted.offer.map(|offer| self.offered(&offer, &wanted));
        let (folder, trees, parts) = (Arc::clone(&self.folder), Arc::clone(&self.trees), Arc::clone(&self.parts));
        let results = self.results.clone();
        tokio::task::spawn_blocking(move || {
            let mut watch = Watching::new(transfer, &results, &cancelled);
            let content = offered.unwrap_or_else(|| {
                let opened = open(&folder, &trees, &wanted, &mut watch);
                opened.or_else(|refusal| part_of(&folder, &parts, &wanted).ok_or(refusal)).map(Arc::new)
            });
            let told = match content.as_ref().map(|content| content.judge(&wanted.file, &rules)) {
                Ok(Err(verdict)) => Internal::Restricted(transfer, verdict.detail()),
                _ => Internal::Prepared(transfer, content),
            };
            let _ = results.send(told);
        });
    }

    /// Opens an item of a folder for a session that waits for it. What must be hashed for it is hashed to the end even if the
    /// session does not live so long: the next one finds it.
    pub(super) fn open_item(&self, transfer: TransferId, item: u32, gone: Arc<AtomicBool>, content: Arc<Content>) {
        let (lane, rehashes) = (self.up.address.clone(), Arc::clone(&self.rehashes));
        let ended = Arc::clone(&self.ended.0);
        tokio::spawn(async move {
            let looked = Arc::clone(&content);
            let known = tokio::task::spawn_blocking(move || looked.open_known(item)).await;
            let result = match known.map_err(io::Error::other).and_then(|known| known) {
                Ok(Some(opened)) => Ok(opened),
                Err(error) => Err(error),
                Ok(None) => {
                    let Ok(permit) = rehashes.acquire_owned().await else { return };
                    if gone.load(Ordering::Relaxed) {
                        return;
                    }
                    let hash = move || content.open_hashed(item, &mut |_| !ended.load(Ordering::Relaxed));
                    let hashed = tokio::task::spawn_blocking(hash).await;
                    drop(permit);
                    hashed.map_err(io::Error::other).and_then(|hashed| hashed)
                }
            };
            lane.send(UploadLetter::Opened(transfer, item, result));
        });
    }

    /// What was opened is not sent: a rule is against it.
    pub(super) fn on_restricted(&mut self, transfer: TransferId, detail: String) {
        let prepared = self.prepared.remove(&transfer).is_some();
        if self.offers.remove(&transfer).is_some() || prepared {
            self.outbox.push_back(FilesEvent::Restricted { transfer, detail });
        }
    }

    pub(super) fn on_prepared(&mut self, transfer: TransferId, result: Result<Arc<Content>, FileRefusal>) {
        if !matches!(self.prepared.get(&transfer), Some(Prepared { kind: Kind::Opening { .. }, .. })) {
            return;
        }
        match (result, self.waits_until(&self.up.seen)) {
            (Ok(content), Some(until)) => self.waiting.push((until, Waiting::Upload(transfer, content))),
            (result, _) => self.upload_ready(transfer, result),
        }
    }

    /// Our addresses outside are known, or were waited for.
    pub(super) fn is_ready(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Upload(transfer, content) => {
                // It may have been given up meanwhile.
                if matches!(self.prepared.get(&transfer), Some(Prepared { kind: Kind::Opening { .. }, .. })) {
                    self.upload_ready(transfer, Ok(content));
                }
            }
            Waiting::Download(transfer) => {
                if let Some(Prepared { kind: Kind::Download(connection), .. }) = self.prepared.get(&transfer) {
                    self.download_ready(transfer, *connection);
                }
            }
        }
    }

    fn upload_ready(&mut self, transfer: TransferId, result: Result<Arc<Content>, FileRefusal>) {
        self.prepared.remove(&transfer);
        let result = result.and_then(|content| {
            let connection = random().ok_or(FileRefusal::Unreadable)?;
            let until = self.now() + START_DEADLINE;
            let ready = UploadReady {
                root: content.root,
                size: content.size,
                entries: content.entries,
                partial: content.is_part(),
                connection,
                candidates: self.up.candidates(self.loopback, self.reach),
                window: self.settings.window,
                max_datagram: self.settings.max_datagram,
                skipped: content.skipped.clone(),
            };
            self.prepared.insert(transfer, Prepared { kind: Kind::Upload(connection, content), until });
            Ok(ready)
        });
        self.outbox.push_back(FilesEvent::UploadReady { transfer, result });
    }

    fn prepare_download(&mut self, transfer: TransferId) {
        let Some(connection) = random() else {
            self.fail(transfer, "protocol", "the system gives no random numbers");
            return;
        };
        let until = self.now() + ANSWER_DEADLINE;
        self.prepared.insert(transfer, Prepared { kind: Kind::Download(connection), until });
        self.down.address.send(FetchLetter::LookOutside);
        match self.waits_until(&self.down.seen) {
            Some(until) => self.waiting.push((until, Waiting::Download(transfer))),
            None => self.download_ready(transfer, connection),
        }
    }

    fn download_ready(&mut self, transfer: TransferId, connection: [u8; 8]) {
        let candidates = self.down.candidates(self.loopback, self.reach);
        let (window, max_datagram) = (self.settings.window, self.settings.max_datagram);
        self.outbox.push_back(FilesEvent::DownloadReady { transfer, connection, candidates, window, max_datagram });
    }

    fn start_upload(&mut self, start: Box<ChannelStart>) {
        match self.prepared.remove(&start.transfer) {
            Some(Prepared { kind: Kind::Upload(connection, content), .. }) if connection == start.our_connection => {
                self.up.address.send(UploadLetter::Start(start, content));
            }
            _ => self.fail(start.transfer, "timeout", "the file was not waiting any more"),
        }
    }

    fn start_download(&mut self, channel: Box<ChannelStart>, fetch: Start<'_>) {
        let Start { download, file, into, offered, room, rules } = fetch;
        match self.prepared.remove(&channel.transfer) {
            Some(Prepared { kind: Kind::Download(connection), .. }) if connection == channel.our_connection => {}
            _ => return self.fail(channel.transfer, "timeout", "the answer came too late"),
        }
        let (Ok(name), Some(tag)) = (SafeName::new(file), random()) else {
            return self.fail(download, "disk", "no file can have this name");
        };
        let downloads = match into.map(|path| Downloads::open(path).map_err(|error| (path, error))) {
            None => self.downloads.clone(),
            Some(Ok(downloads)) => downloads,
            Some(Err((path, error))) => return self.fail(download, "disk", &format!("{}: {error}", path.display())),
        };
        let (kind, size, root) = (channel.kind, channel.size, channel.root);
        let expected = Box::new(Expected { name, kind, size, root, offered, room, rules, tag });
        self.down.address.send(FetchLetter::Start { channel, download, expected, downloads });
    }

    fn cancel(&mut self, transfer: TransferId, reason: String, keep: bool) {
        self.offers.remove(&transfer);
        if self.prepared.remove(&transfer).is_some() {
            self.fail(transfer, "cancelled", &reason);
        }
        let code = if keep { CloseCode::GONE } else { CloseCode::CANCELLED };
        self.up.address.send(UploadLetter::Cancel(transfer, code, reason.clone()));
        self.down.address.send(FetchLetter::Cancel { download: transfer, reason, keep });
    }

    /// Gives up what nobody came back for.
    pub(super) fn forget_stale(&mut self, now: Duration) {
        let stale = self.prepared.iter().filter(|(_, prepared)| prepared.until <= now);
        for transfer in stale.map(|(transfer, _)| *transfer).collect::<Vec<_>>() {
            self.prepared.remove(&transfer);
            self.fail(transfer, "timeout", "the other side did not come back");
        }
    }
}

/// Opens and hashes what is shared.
fn open(
    folder: &SharedFolder,
    trees: &Arc<Trees>,
    wanted: &Wanted,
    watch: &mut Watching<'_>,
) -> Result<Content, FileRefusal> {
    let content = match wanted.kind {
        FileKind::File => {
            let open = folder.open_shared(&wanted.file)?;
            let total = open.stamp.size;
            Content::of_file(open.file, open.stamp, trees, &mut |bytes| watch.read(bytes, total))
        }
        FileKind::Folder => {
            let dir = folder.open_shared_folder(&wanted.file)?;
            Content::of_folder(dir, trees, &mut |bytes, total| watch.read(bytes, total))
        }
    };
    let content = content.map_err(|error| match error {
        HashError::Changed => FileRefusal::Changed,
        _ => FileRefusal::Unreadable,
    })?;
    if wanted.root.is_some_and(|root| root != content.root) { Err(FileRefusal::Changed) } else { Ok(content) }
}

/// What we have ourselves so far of what is asked for by its root: given where everything is shared that is not held back, to
/// who is in the room in which we fetch it.
fn part_of(folder: &SharedFolder, parts: &Parts, wanted: &Wanted) -> Option<Content> {
    if !folder.shares_all() {
        return None;
    }
    let parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
    let is_wanted = |part: &&Arc<Part>| wanted.kind == part.kind() && wanted.rooms.contains(&part.room);
    let part = parts.get(&wanted.root?).filter(is_wanted);
    part.cloned().map(Content::of_part)
}

/// Tells the core how far a hash is, ten times a second, and notices when nobody wants it any more.
pub(super) struct Watching<'w> {
    transfer: TransferId,
    results: &'w UnboundedSender<Internal>,
    cancelled: &'w AtomicBool,
    bytes: u64,
    told: Instant,
}

impl<'w> Watching<'w> {
    pub(super) fn new(transfer: TransferId, results: &'w UnboundedSender<Internal>, cancelled: &'w AtomicBool) -> Self {
        Self { transfer, results, cancelled, bytes: 0, told: Instant::now() }
    }

    /// More was read; whether to go on.
    pub(super) fn read(&mut self, bytes: u64, total: u64) -> bool {
        self.bytes += bytes;
        if self.told.elapsed() >= PROGRESS_INTERVAL {
            self.told = Instant::now();
            let (transfer, bytes) = (self.transfer, self.bytes);
            let _ = self.results.send(Internal::Event(FilesEvent::Hashing { transfer, bytes, total }));
        }
        !self.cancelled.load(Ordering::Relaxed)
    }
}

/// `None` when the system cannot.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).is_ok().then_some(bytes)
}

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Opening and hashing a file that is asked for; some 100 GB on a slow disk.
const HASH_DEADLINE: Duration = Duration::from_secs(1_800);
/// From an upload that is ready to the start of its channel.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// From a download that is prepared to the holder's answer, who may have to hash the file first.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1_800);
