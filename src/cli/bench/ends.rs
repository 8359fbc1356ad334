//! The two ends of a real transfer: the file side of a client each, with the pipes in the place of the chat.

use super::case::{BenchError, Case, Spent};
use super::child::{Told, tell};
use super::usage::{cpu_seconds, peak_memory};
use crate::cli::tuning::inject;
use crate::client::effects::{ChannelStart, FilesCommand, FilesEvent, Reach, ShareCommand, UploadReady, Wanted};
use crate::client::files::{FilesConfig, FilesHandle, start};
use crate::transfer::restrict::Rules;
use crate::wire::id::{Id, TransferId};
use crate::wire::name::{FullName, Name};
use crate::wire::payload::FileKind;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// What an end is told after its role, in place of the chat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Heard {
    /// To a holder: somebody asks. Answered by [`Told::Holding`].
    Asked {
        /// Who asks, and the keys from the holder's side.
        asker: Introduction,
        /// Key and iv of what the holder sends, then of what it receives.
        keys: [Vec<u8>; 2],
    },
    /// To an asker: what the holder said.
    Holding {
        /// The holder, or none if it has no slot.
        holder: Option<Introduction>,
        /// Key and iv of what the asker sends, then of what it receives.
        keys: [Vec<u8>; 2],
    },
    /// To an asker: begin. To a holder: all is over, say what it cost.
    Go,
}

/// How one end makes itself known to the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Introduction {
    /// Of the transfer.
    pub transfer: [u8; 16],
    /// On datagrams to it.
    pub connection: [u8; 8],
    /// Where it may be reached.
    pub candidates: Vec<SocketAddr>,
    /// BLAKE3 of the file, from a holder.
    pub root: [u8; 32],
    /// Bytes of the file, from a holder.
    pub size: u64,
}

/// A file side that works for one case.
struct End {
    files: FilesHandle,
    heard: mpsc::UnboundedReceiver<Heard>,
}

/// Holds `file`, which is in `dir`, until it is told that all is over.
pub fn hold(case: Case, dir: &Path, file: &str) -> Result<(), BenchError> {
    block_on(async {
        let mut end = End::new(&case, Some(dir.to_owned()), dir)?;
        end.command(FilesCommand::Share(ShareCommand::Global(true))).await?;
        end.event(|event| matches!(event, FilesEvent::Shares { .. }).then_some(())).await?;
        let (mut began, mut served, mut slots) = (cpu_seconds(), 0, case.slots);
        while let Heard::Asked { asker, keys } = end.hear().await? {
            if slots == 0 {
                tell(&Told::Holding(None))?;
                continue;
            }
            slots -= 1;
            let ours = end.prepare(asker.transfer, file).await?;
            let channel = channel(&case, &ours, &asker, &ours, keys)?;
            served += ours.size;
            end.command(FilesCommand::StartUpload(Box::new(channel))).await?;
            tell(&Told::Holding(Some(ours)))?;
            // Reading the file for its hash is not part of the transfer.
            began = cpu_seconds();
        }
        let spent = Spent { bytes: served, cpu: cpu_seconds() - began, peak: peak_memory() };
        tell(&Told::Spent { spent, seconds: 0.0 })
    })
}

/// Fetches a file into `dir`, once it is told from whom and when.
pub fn ask(case: Case, dir: &Path, transfer: [u8; 16]) -> Result<(), BenchError> {
    block_on(async {
        let mut end = End::new(&case, None, dir)?;
        let id: TransferId = Id(transfer);
        end.command(FilesCommand::PrepareDownload { transfer: id }).await?;
        let (connection, candidates) = end
            .event(|event| match event {
                FilesEvent::DownloadReady { connection, candidates, .. } => Some((connection, candidates)),
                _ => None,
            })
            .await?;
        let ours = Introduction { transfer, connection, candidates, root: [0; 32], size: 0 };
        tell(&Told::Asking(ours.clone()))?;
        let Heard::Holding { holder, keys } = end.hear().await? else { return Err(out_of_turn()) };
        let Some(holder) = holder else { return Ok(()) };
        let channel = channel(&case, &ours, &holder, &holder, keys)?;
        let Heard::Go = end.hear().await? else { return Err(out_of_turn()) };
        let (began, before) = (Instant::now(), cpu_seconds());
        let (channel, download) = (Box::new(channel), Id(transfer.map(|byte| !byte)));
        end.command(FilesCommand::StartDownload {
            channel,
            download,
            file: "fetched".into(),
            into: None,
            offered: None,
            room: None,
            rules: Rules::default(),
        })
        .await?;
        let ended = end
            .event(|event| match event {
                FilesEvent::Done { bytes, .. } => Some(Ok(bytes)),
                FilesEvent::Failed { reason, detail, .. } => Some(Err(format!("{reason}: {detail}"))),
                FilesEvent::SourceLost { reason, detail, .. } => Some(Err(format!("{reason:?}: {detail}"))),
                _ => None,
            })
            .await?;
        let seconds = began.elapsed().as_secs_f64();
        let bytes = ended.map_err(BenchError::Wrong)?;
        tell(&Told::Spent { spent: Spent { bytes, cpu: cpu_seconds() - before, peak: peak_memory() }, seconds })
    })
}

impl End {
    fn new(case: &Case, share: Option<PathBuf>, dir: &Path) -> Result<Self, BenchError> {
        // Once each way.
        let inject = case.inject.as_deref().filter(|_| share.is_none()).map(inject);
        let config = FilesConfig {
            map_ports: false,
            candidates: Vec::new(),
            share: share.clone(),
            downloads: dir.join("downloads"),
            data: dir.to_owned(),
            udp: None,
            window: case.window,
            congestion: case.congestion.into(),
            up: None,
            down: None,
            inject: inject.transpose().map_err(BenchError::Wrong)?,
            max_datagram: case.datagram,
            offload: case.splits.into(),
            loopback: true,
            reach: Reach::Any,
        };
        let files = start(config).map_err(|error| BenchError::Wrong(error.to_string()))?;
        let (said, heard) = mpsc::unbounded_channel();
        // Standard input blocks: it is read by a thread that ends with the process.
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                if serde_json::from_str(&line).is_ok_and(|heard| said.send(heard).is_err()) {
                    break;
                }
            }
        });
        Ok(Self { files, heard })
    }

    async fn hear(&mut self) -> Result<Heard, BenchError> {
        loop {
            tokio::select! {
                heard = self.heard.recv() => return heard.ok_or_else(out_of_turn),
                // What is not waited for is passed over, so that the file side never waits for us.
                event = self.files.next() => if event.is_none() { return Err(out_of_turn()) },
            }
        }
    }

    /// Opens a shared file, and hashes it.
    async fn prepare(&mut self, transfer: [u8; 16], file: &str) -> Result<Introduction, BenchError> {
        let (id, peer): (TransferId, _) = (Id(transfer), person("asker")?);
        let wanted = Wanted { file: file.to_owned(), kind: FileKind::File, root: None, offer: None, rooms: Vec::new() };
        self.command(FilesCommand::PrepareUpload { transfer: id, peer, wanted, rules: Rules::default() }).await?;
        let ready = self
            .event(|event| match event {
                FilesEvent::UploadReady { transfer: of, result } if of == id => Some(result),
                _ => None,
            })
            .await?;
        let ready = ready.map_err(|refusal| BenchError::Wrong(format!("the file is not sent: {refusal:?}")))?;
        let UploadReady { root, size, connection, candidates, .. } = ready;
        Ok(Introduction { transfer, connection, candidates, root, size })
    }

    async fn command(&self, command: FilesCommand) -> Result<(), BenchError> {
        self.files.commands().send(command).await.map_err(|_| out_of_turn())
    }

    /// What `pick` takes of the first event that it takes.
    async fn event<T>(&mut self, mut pick: impl FnMut(FilesEvent) -> Option<T>) -> Result<T, BenchError> {
        let found = async {
            while let Some(event) = self.files.next().await {
                if let Some(found) = pick(event) {
                    return Ok(found);
                }
            }
            Err(out_of_turn())
        };
        let late = |_| BenchError::Wrong("a transfer does not end".into());
        tokio::time::timeout(TRANSFER_DEADLINE, found).await.map_err(late)?
    }
}

fn channel(
    case: &Case,
    ours: &Introduction,
    peer: &Introduction,
    holder: &Introduction,
    [send, receive]: [Vec<u8>; 2],
) -> Result<ChannelStart, BenchError> {
    let key = |bytes: Vec<u8>| bytes.try_into().map(Zeroizing::new).map_err(|_| out_of_turn());
    Ok(ChannelStart {
        transfer: Id(ours.transfer),
        peer: person("peer")?,
        send: key(send)?,
        receive: key(receive)?,
        our_connection: ours.connection,
        peer_connection: peer.connection,
        peer_candidates: peer.candidates.clone(),
        size: holder.size,
        root: holder.root,
        kind: FileKind::File,
        partial: false,
        arq: case.arq.into(),
        window: case.window,
        max_datagram: case.datagram,
        mode: "bench".into(),
        handover: None,
    })
}

fn person(name: &str) -> Result<FullName, BenchError> {
    let parse = |text| Name::parse(text).map_err(|error| BenchError::Wrong(error.to_string()));
    Ok(FullName::new(parse(name)?, parse("bench")?))
}

fn block_on<T>(work: impl Future<Output = Result<T, BenchError>>) -> Result<T, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(BenchError::io("starting"))?.block_on(work)
}

fn out_of_turn() -> BenchError {
    BenchError::Wrong("the other end or the file side ended early".into())
}

/// A transfer that takes longer will not end.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(1800);
