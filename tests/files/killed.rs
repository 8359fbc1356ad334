//! kill -9 in the middle of a download: what was there is found again, checked, and not fetched twice.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use secchat::client::effects::{ChannelStart, FilesCommand, FilesEvent, Skipped, UploadReady};
use secchat::client::files::{FilesConfig, start};
use secchat::transfer::restrict::Rules;
use secchat::wire::id::TransferId;
use secchat::wire::payload::{Arq, FileKind};
use zeroize::Zeroizing;

use crate::place::{Place, bytes, config, id, person, until_end, wanted};

/// An asker in a process of its own.
struct Asker {
    child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Asker {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::as_the_asker", "--nocapture"])
            .env(PLACE, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let words = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, orders, words }
    }

    /// What follows `word` on the next line that has it.
    fn hear(&mut self, word: &str) -> Option<String> {
        let mut words = self.words.by_ref().map_while(Result::ok);
        words.find_map(|line| line.split_once(word).map(|(_, rest)| rest.trim().to_owned()))
    }

    async fn fetch(&mut self, holder: &mut Place, transfer: TransferId) -> UploadReady {
        let told = self.hear("asker:").unwrap();
        let (connection, candidates) = told.split_once(' ').unwrap();
        let upload = holder.prepare_upload(transfer, wanted("film")).await.unwrap();
        let channel = channel(transfer, unhex(connection), addrs(candidates), &upload, true);
        holder.command(FilesCommand::StartUpload(Box::new(channel))).await;
        let candidates: Vec<String> = upload.candidates.iter().map(ToString::to_string).collect();
        let (connection, root) = (hex(&upload.connection), hex(&upload.root));
        writeln!(self.orders, "{connection} {} {root} {}", upload.size, candidates.join(",")).unwrap();
        upload
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn channel(
    transfer: TransferId,
    asker: [u8; 8],
    peer_candidates: Vec<SocketAddr>,
    upload: &UploadReady,
    holds: bool,
) -> ChannelStart {
    let key = |first: u8| Zeroizing::new([first ^ transfer.0[0]; 44]);
    let (send, receive) = if holds { (key(101), key(102)) } else { (key(102), key(101)) };
    let (ours, theirs) = if holds { (upload.connection, asker) } else { (asker, upload.connection) };
    ChannelStart {
        transfer,
        peer: person("peer"),
        send,
        receive,
        our_connection: ours,
        peer_connection: theirs,
        peer_candidates,
        kind: FileKind::File,
        size: upload.size,
        root: upload.root,
        partial: false,
        arq: Arq::Auto,
        window: None,
        max_datagram: 65_507,
        mode: "test".into(),
        handover: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
}

fn addrs(text: &str) -> Vec<SocketAddr> {
    text.split(',').map(|addr| addr.parse().unwrap()).collect()
}

/// Not a test of its own: what the other process does. Without its place there is nothing to do.
#[tokio::test]
async fn as_the_asker() {
    let Some(dir) = std::env::var_os(PLACE) else { return };
    let limit = Some(40 << 20);
    let mut files = start(FilesConfig { share: None, down: limit, ..config(Path::new(&dir), None) }).unwrap();
    let transfer = id(1);
    files.commands().send(FilesCommand::PrepareDownload { transfer }).await.unwrap();
    let Some(FilesEvent::DownloadReady { connection, candidates, .. }) = files.next().await else { panic!() };
    let listed: Vec<String> = candidates.iter().map(ToString::to_string).collect();
    println!("asker: {} {}", hex(&connection), listed.join(","));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let told: Vec<&str> = line.split_whitespace().collect();
    let [theirs, size, root, listed] = told.as_slice() else { panic!("{line}") };
    let upload = UploadReady {
        root: unhex(root),
        size: size.parse().unwrap(),
        entries: 1,
        partial: false,
        connection: unhex(theirs),
        candidates: addrs(listed),
        window: None,
        skipped: Skipped::default(),
        max_datagram: 65_507,
    };
    let channel = Box::new(channel(transfer, connection, upload.candidates.clone(), &upload, false));
    let (download, file) = (id(9), "film".to_owned());
    let start = FilesCommand::StartDownload {
        channel,
        download,
        file,
        into: None,
        offered: None,
        room: None,
        rules: Rules::default(),
    };
    files.commands().send(start).await.unwrap();
    while let Some(event) = files.next().await {
        match event {
            FilesEvent::Progress { bytes, .. } => println!("bytes: {bytes}"),
            FilesEvent::Hashing { bytes, total, .. } if bytes == total => println!("checked: {total}"),
            FilesEvent::Done { .. } => return println!("done: "),
            FilesEvent::Failed { detail, .. } => return println!("failed: {detail}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_killed_asker_goes_on_where_it_was() {
    let mut holder = Place::new(None);
    let content = bytes(64 << 20);
    holder.offer("film", &content).await;
    let place = Place::new(None);
    let Place { dir, files, .. } = place;
    drop(files);
    let mut there = 0;
    for kill in 1..=4_u64 {
        let mut asker = Asker::start(dir.path());
        asker.fetch(&mut holder, id(1)).await;
        if there > 0 {
            let checked: u64 = asker.hear("checked:").unwrap().parse().unwrap();
            assert!(checked + (14 << 20) >= there, "{checked} of {there} bytes were kept");
        }
        while there < kill * (12 << 20) {
            there = asker.hear("bytes:").unwrap().parse().unwrap();
        }
        asker.kill();
        let shown = fs::read_dir(dir.path().join("downloads")).unwrap();
        let names: Vec<_> = shown.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().all(|name| name.starts_with('.')), "{names:?}");
        // The holder may go on for as long as it waits for a silent peer: it is told.
        holder.command(FilesCommand::Cancel { transfer: id(1), reason: "gone".into(), keep: false }).await;
        until_end(&mut holder).await;
    }
    let mut asker = Asker::start(dir.path());
    asker.fetch(&mut holder, id(1)).await;
    assert_eq!(asker.hear("done:").as_deref(), Some(""));
    asker.child.wait().unwrap();
    assert_eq!(blake3::hash(&fs::read(dir.path().join("downloads/film")).unwrap()), blake3::hash(&content));
    assert_eq!(fs::read_dir(dir.path().join("downloads")).unwrap().count(), 1);
}

/// Where the other process works.
const PLACE: &str = "SECCHAT_TEST_ASKER";
