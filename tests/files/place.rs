//! A file side with its directories, and the agreement between two of them that the chat makes otherwise.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secchat::client::effects::{
    ChannelStart, Congestion, FilesCommand, FilesEvent, Offered, ShareCommand, UploadReady, Wanted,
};
use secchat::client::files::{FilesConfig, FilesHandle, start};
use secchat::net::udp::Offload;
use secchat::transfer::restrict::Rules;
use secchat::wire::id::{Id, RoomId, TransferId};
use secchat::wire::name::{FullName, Name};
use secchat::wire::payload::{Arq, FileKind, FileRefusal};
use tempfile::TempDir;
use zeroize::Zeroizing;

pub struct Place {
    pub dir: TempDir,
    pub files: FilesHandle,
    pub kept: VecDeque<FilesEvent>,
}

/// What the two sides of a transfer were told, progress left out.
pub struct Ends {
    pub upload: Vec<FilesEvent>,
    pub download: Vec<FilesEvent>,
}

impl Place {
    pub fn new(udp: Option<&str>) -> Self {
        let dir = TempDir::new().unwrap();
        for name in ["share", "downloads", "data"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let files = start(config(dir.path(), udp)).unwrap();
        Self { dir, files, kept: VecDeque::new() }
    }

    pub fn share(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    pub fn downloads(&self) -> PathBuf {
        self.dir.path().join("downloads")
    }

    /// Puts a file into the shared folder and shares it.
    pub async fn offer(&mut self, name: &str, bytes: &[u8]) {
        fs::write(self.share().join(name), bytes).unwrap();
        self.command(FilesCommand::Share(ShareCommand::Set(name.into()))).await;
        let FilesEvent::Shares { files, .. } = self.next().await else { panic!("no share status") };
        assert!(files.contains(&(name.to_owned(), true)), "{files:?}");
    }

    pub async fn command(&self, command: FilesCommand) {
        self.files.commands().send(command).await.unwrap();
    }

    /// The next event that is not progress.
    pub async fn next(&mut self) -> FilesEvent {
        match self.kept.pop_front() {
            Some(event) => event,
            None => self.fresh().await,
        }
    }

    /// The same, without those that were put aside.
    pub async fn fresh(&mut self) -> FilesEvent {
        let next = async {
            loop {
                match self.files.next().await.unwrap() {
                    FilesEvent::Progress { .. } | FilesEvent::Hashing { .. } => {}
                    event => return event,
                }
            }
        };
        tokio::time::timeout(DEADLINE, next).await.expect("an event in time")
    }

    pub async fn prepare_upload(&mut self, transfer: TransferId, wanted: Wanted) -> Result<UploadReady, FileRefusal> {
        self.command(FilesCommand::PrepareUpload { transfer, peer: person("asker"), wanted, rules: Rules::default() })
            .await;
        match self.next().await {
            FilesEvent::UploadReady { transfer: of, result } if of == transfer => result,
            event => panic!("{event:?}"),
        }
    }

    /// What stands in the downloads directory in plain sight.
    pub fn shown(&self) -> Vec<String> {
        self.downloaded().into_iter().filter(|name| !name.starts_with('.')).collect()
    }

    pub fn downloaded(&self) -> Vec<String> {
        let entries = fs::read_dir(self.downloads()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub fn config(dir: &Path, udp: Option<&str>) -> FilesConfig {
    FilesConfig {
        map_ports: false,
        candidates: Vec::new(),
        share: Some(dir.join("share")),
        downloads: dir.join("downloads"),
        data: dir.join("data"),
        udp: udp.map(|addr| addr.parse().unwrap()),
        window: None,
        congestion: Congestion::default(),
        up: None,
        down: None,
        inject: None,
        max_datagram: 65_507,
        offload: Offload::Full,
        loopback: true,
        reach: secchat::client::effects::Reach::Any,
    }
}

/// Content that tells places apart.
pub fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

pub fn person(name: &str) -> FullName {
    FullName::new(Name::parse(name).unwrap(), Name::parse("s1").unwrap())
}

pub fn id(n: u8) -> TransferId {
    Id([n; 16])
}

/// The download that the source `transfer` is for.
pub fn download_of(transfer: TransferId) -> TransferId {
    Id(transfer.0.map(|byte| byte ^ 0xa5))
}

pub fn wanted(file: &str) -> Wanted {
    Wanted { file: file.into(), kind: FileKind::File, root: None, offer: None, rooms: Vec::new() }
}

/// A transfer that is to begin.
pub struct Plan<'p> {
    pub transfer: TransferId,
    pub download: TransferId,
    pub wanted: Wanted,
    /// What the asker calls it.
    pub name: &'p str,
    pub arq: Arq,
    pub window: Option<u32>,
    pub max_datagram: usize,
    pub offered: Option<Offered>,
    pub room: Option<RoomId>,
    /// What the asker holds it against.
    pub rules: Rules,
}

impl<'p> Plan<'p> {
    pub fn new(transfer: TransferId, file: &'p str) -> Self {
        let (arq, max_datagram) = (Arq::Auto, 65_507);
        let download = download_of(transfer);
        let (wanted, window, offered, room) = (wanted(file), None, None, None);
        let rules = Rules::default();
        Self { transfer, download, wanted, name: file, arq, window, max_datagram, offered, room, rules }
    }

    /// Starts it. `lie` may change what the asker is told.
    pub async fn begin(self, holder: &mut Place, asker: &mut Place, lie: impl FnOnce(&mut UploadReady)) {
        let Self { transfer, download, wanted, name, arq, window, max_datagram, offered, room, rules } = self;
        asker.command(FilesCommand::PrepareDownload { transfer }).await;
        let (connection, candidates) = loop {
            // Events of other sources may come between.
            match asker.fresh().await {
                FilesEvent::DownloadReady { transfer: of, connection, candidates, .. } if of == transfer => {
                    break (connection, candidates);
                }
                event => asker.kept.push_back(event),
            }
        };
        let kind = wanted.kind;
        let mut upload = holder.prepare_upload(transfer, wanted).await.unwrap();
        let truth = (upload.size, upload.root);
        lie(&mut upload);
        let keys = |first: u8| Zeroizing::new([first; 44]);
        let channel = |ours, theirs, send, receive, peer_candidates, (size, root)| ChannelStart {
            transfer,
            peer: person("peer"),
            send,
            receive,
            our_connection: ours,
            peer_connection: theirs,
            peer_candidates,
            kind,
            size,
            root,
            partial: upload.partial,
            arq,
            window,
            max_datagram,
            mode: "test".into(),
            handover: None,
        };
        let sending = channel(upload.connection, connection, keys(1), keys(2), candidates, truth);
        let told = (upload.size, upload.root);
        let receiving = channel(connection, upload.connection, keys(2), keys(1), upload.candidates.clone(), told);
        holder.command(FilesCommand::StartUpload(Box::new(sending))).await;
        let (channel, file) = (Box::new(receiving), name.to_owned());
        asker.command(FilesCommand::StartDownload { channel, download, file, into: None, offered, room, rules }).await;
    }
}

/// Starts a transfer of `file`; the download is given `name`. `lie` may change what the asker is told.
pub async fn begin(
    holder: &mut Place,
    asker: &mut Place,
    transfer: TransferId,
    file: &str,
    name: &str,
    lie: impl FnOnce(&mut UploadReady),
) {
    Plan { name, ..Plan::new(transfer, file) }.begin(holder, asker, lie).await;
}

/// Waits until both sides have been told the end.
pub async fn ends(holder: &mut Place, asker: &mut Place) -> Ends {
    Ends { upload: until_end(holder).await, download: until_end(asker).await }
}

pub async fn until_end(place: &mut Place) -> Vec<FilesEvent> {
    let mut events = Vec::new();
    loop {
        let event = place.next().await;
        let end = matches!(event, FilesEvent::Done { .. } | FilesEvent::Failed { .. } | FilesEvent::Starved { .. });
        events.push(event);
        if end {
            return events;
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(30);
