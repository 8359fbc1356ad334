//! A file side with its directories, and the agreement between two of them that the chat makes otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secchat::client::effects::{ChannelStart, FilesCommand, FilesEvent, ShareCommand, UploadReady};
use secchat::client::files::{FilesConfig, FilesHandle, start};
use secchat::wire::id::{Id, TransferId};
use secchat::wire::name::{FullName, Name};
use secchat::wire::payload::FileRefusal;
use tempfile::TempDir;
use zeroize::Zeroizing;

pub struct Place {
    pub dir: TempDir,
    pub files: FilesHandle,
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
        Self { dir, files }
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
        let next = async {
            loop {
                match self.files.next().await.unwrap() {
                    FilesEvent::Progress { .. } => {}
                    event => return event,
                }
            }
        };
        tokio::time::timeout(DEADLINE, next).await.expect("an event in time")
    }

    pub async fn prepare_upload(
        &mut self,
        transfer: TransferId,
        file: &str,
        root: Option<[u8; 32]>,
    ) -> Result<UploadReady, FileRefusal> {
        let (peer, file) = (person("asker"), file.to_owned());
        self.command(FilesCommand::PrepareUpload { transfer, peer, file, root }).await;
        match self.next().await {
            FilesEvent::UploadReady { transfer: of, result } if of == transfer => result,
            event => panic!("{event:?}"),
        }
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
        share: Some(dir.join("share")),
        downloads: dir.join("downloads"),
        data: dir.join("data"),
        udp: udp.map(|addr| addr.parse().unwrap()),
        uploads: 2,
        window: 16,
        loopback: true,
    }
}

pub fn person(name: &str) -> FullName {
    FullName::new(Name::parse(name).unwrap(), Name::parse("s1").unwrap())
}

pub fn id(n: u8) -> TransferId {
    Id([n; 16])
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
    asker.command(FilesCommand::PrepareDownload { transfer }).await;
    let FilesEvent::DownloadReady { connection, candidates, window, .. } = asker.next().await else { panic!() };
    assert_eq!(window, 16);
    let mut upload = holder.prepare_upload(transfer, file, None).await.unwrap();
    lie(&mut upload);
    let keys = |first: u8| Zeroizing::new([first; 44]);
    let channel = |ours: [u8; 8], theirs: [u8; 8], send, receive, peer_candidates: Vec<_>| ChannelStart {
        transfer,
        peer: person("peer"),
        send,
        receive,
        our_connection: ours,
        peer_connection: theirs,
        peer_candidates,
        size: upload.size,
        root: upload.root,
        mode: "test".into(),
    };
    let sending = channel(upload.connection, connection, keys(1), keys(2), candidates);
    let receiving = channel(connection, upload.connection, keys(2), keys(1), upload.candidates.clone());
    holder.command(FilesCommand::StartUpload(Box::new(sending))).await;
    asker.command(FilesCommand::StartDownload { channel: Box::new(receiving), file: name.into(), into: None }).await;
}

/// Waits until both sides have been told the end.
pub async fn ends(holder: &mut Place, asker: &mut Place) -> Ends {
    Ends { upload: until_end(holder).await, download: until_end(asker).await }
}

pub async fn until_end(place: &mut Place) -> Vec<FilesEvent> {
    let mut events = Vec::new();
    loop {
        let event = place.next().await;
        let end = matches!(event, FilesEvent::Done { .. } | FilesEvent::Failed { .. });
        events.push(event);
        if end {
            return events;
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(30);
