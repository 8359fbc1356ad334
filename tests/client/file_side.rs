//! A file side without a disk: what is shared stands in a map, and channels arrive at once unless they are told to stall.

use crate::world::{Client, World, root_of};
use secchat::client::effects::{
    FilesCommand, FilesEvent, Input, OfferReady, OfferRefusal, Skipped, UploadReady, Wanted,
};
use secchat::wire::payload::{FileKind, FileRefusal, FileRow};

impl World {
    /// What a client's core asks of its file side.
    pub fn files(&mut self, client: usize, command: FilesCommand) {
        let c = &mut self.clients[client];
        let event = match command {
            FilesCommand::Search { search, asker, room, pattern, .. } => {
                c.searched.push(room);
                let rows: Vec<_> =
                    c.files.iter().map(row).filter(|row| pattern == "*" || row.name == pattern).collect();
                if rows.is_empty() {
                    return;
                }
                FilesEvent::Found { search, asker, rows, more: 0 }
            }
            FilesCommand::PrepareDownload { transfer } => FilesEvent::DownloadReady {
                transfer,
                connection: [1; 8],
                candidates: vec!["192.0.2.9:9".parse().unwrap()],
                window: None,
                max_datagram: 65_507,
            },
            FilesCommand::Measure { transfer, wanted } => {
                c.wanted.push(wanted.clone());
                let result = c.file(&wanted).map(|bytes| bytes.len() as u64).ok_or(FileRefusal::NotShared);
                FilesEvent::Measured { transfer, result }
            }
            FilesCommand::PrepareUpload { transfer, .. } if c.hashing => {
                FilesEvent::Hashing { transfer, bytes: 1, total: 1000 }
            }
            FilesCommand::PrepareUpload { transfer, wanted, .. } => {
                let result = match c.file(&wanted) {
                    _ if c.refusal.is_some() => Err(c.refusal.unwrap()),
                    None => Err(FileRefusal::NotShared),
                    Some(bytes) if wanted.root.is_some_and(|root| root != root_of(bytes)) => Err(FileRefusal::Changed),
                    Some(bytes) => Ok(UploadReady {
                        root: root_of(bytes),
                        size: bytes.len() as u64 + c.more,
                        entries: 1,
                        partial: false,
                        connection: [2; 8],
                        candidates: vec!["192.0.2.8:9".parse().unwrap()],
                        window: Some(32),
                        max_datagram: 1452,
                        skipped: skipped_of(&wanted.file, wanted.kind),
                    }),
                };
                FilesEvent::UploadReady { transfer, result }
            }
            FilesCommand::PrepareOffer { offer, path, .. } => {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                let folder = format!("{name}/");
                let (file, dir) = (c.disk.get(&name), c.disk.get(&folder));
                let result = file.or(dir).ok_or(OfferRefusal::NotFound).map(|bytes| OfferReady {
                    name,
                    kind: if file.is_some() { FileKind::File } else { FileKind::Folder },
                    root: root_of(bytes),
                    size: bytes.len() as u64,
                    entries: if file.is_some() { 1 } else { 12 },
                    skipped: skipped_of("", if file.is_some() { FileKind::File } else { FileKind::Folder }),
                });
                FilesEvent::OfferReady { offer, result }
            }
            FilesCommand::StartUpload(start) => {
                c.channels.insert(start.transfer, (*start, true));
                return;
            }
            FilesCommand::StartDownload { channel, download, room, .. } => {
                c.serves.push(room);
                let (transfer, bytes, stall) = (channel.transfer, channel.size, c.stall);
                c.channels.insert(transfer, (*channel, false));
                c.downloads.insert(transfer, download);
                if c.cut_off {
                    return;
                }
                self.feed(client, Input::Files(FilesEvent::Started { transfer, route: "192.0.2.9:9".into() }));
                if stall {
                    return;
                }
                FilesEvent::Done { transfer: download, bytes, seconds: 0.5, path: Some("downloads/x".into()) }
            }
            FilesCommand::Share(_) => FilesEvent::Shares { global: true, files: Vec::new(), missing: None },
            FilesCommand::Cancel { transfer, keep, .. } => return c.ended.push((transfer, keep)),
            FilesCommand::Drop { transfer, .. } => return c.ended.push((transfer, true)),
            FilesCommand::Relay { leg, key, .. } => return c.legs.push((leg, key)),
            FilesCommand::Window(_) | FilesCommand::RelayIn(_) | FilesCommand::Rates { .. } => return,
        };
        self.feed(client, Input::Files(event));
    }

    /// News of a client's file side, and all that follows.
    pub fn news(&mut self, client: usize, event: FilesEvent) {
        self.feed(client, Input::Files(event));
        self.run();
    }
}

/// What a search finds.
fn row((name, bytes): (&String, &Vec<u8>)) -> FileRow {
    let (name, kind) = match name.strip_suffix('/') {
        Some(folder) => (folder, FileKind::Folder),
        None => (&**name, FileKind::File),
    };
    let (name, size, root) = (name.to_owned(), bytes.len() as u64, Some(root_of(bytes).into()));
    let partial = name.ends_with(".part");
    FileRow { name, size, root, free_slots: 0, kind, partial }
}

impl Client {
    fn file(&self, wanted: &Wanted) -> Option<&Vec<u8>> {
        let of = if wanted.offer.is_some() { &self.disk } else { &self.files };
        of.get(&if wanted.kind == FileKind::Folder { format!("{}/", wanted.file) } else { wanted.file.clone() })
    }
}

/// Of a folder a link is left out, and ten things more of one with that name.
fn skipped_of(name: &str, kind: FileKind) -> Skipped {
    match kind {
        FileKind::File => Skipped::default(),
        FileKind::Folder if name == "links" => Skipped { paths: vec!["a".into(), "b".into()], count: 12 },
        FileKind::Folder => Skipped { paths: vec!["a/link".into()], count: 1 },
    }
}
