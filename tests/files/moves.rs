//! Files arrive whole, under their name, whatever they hold.

use std::fs;
use std::time::Duration;

use secchat::client::effects::{FilesCommand, FilesEvent, ShareCommand};
use secchat::client::files::start;
use secchat::transfer::restrict::Rules;
use secchat::wire::id::Id;

use crate::place::{Place, begin, bytes, config, ends, id, person};

/// Moves one file and compares; returns the route.
async fn moves(holder: &mut Place, asker: &mut Place, name: &str, content: &[u8]) -> String {
    holder.offer(name, content).await;
    begin(holder, asker, id(1), name, name, |_| {}).await;
    let ends = ends(holder, asker).await;
    let [FilesEvent::Started { route, .. }, FilesEvent::Done { bytes, path, .. }] = ends.download.as_slice() else {
        panic!("{:?}", ends.download);
    };
    assert!(matches!(ends.upload.as_slice(), [FilesEvent::Started { .. }, FilesEvent::Done { path: None, .. }]));
    assert_eq!(*bytes, content.len() as u64);
    let path = path.as_deref().unwrap();
    assert_eq!(path, asker.downloads().join(name).to_str().unwrap());
    assert_eq!(blake3::hash(&fs::read(path).unwrap()), blake3::hash(content));
    assert_eq!(asker.downloaded(), [name], "nothing else is left there");
    route.clone()
}

#[tokio::test]
async fn files_of_every_size_arrive_under_names_of_any_script() {
    for (name, len) in [
        ("empty", 0),
        ("one byte", 1),
        ("short", 65_535),
        ("group", 65_536),
        ("long", 65_537),
        ("Übung — 日本語 файл (final) ✓.tar.gz", 3 << 20),
    ] {
        let (mut holder, mut asker) = (Place::new(None), Place::new(None));
        moves(&mut holder, &mut asker, name, &bytes(len)).await;
    }
}

#[tokio::test]
async fn they_travel_over_ipv4_and_over_ipv6() {
    for (udp, expected) in [("127.0.0.1:0", "127.0.0.1:"), ("[::1]:0", "[::1]:")] {
        let (mut holder, mut asker) = (Place::new(Some(udp)), Place::new(None));
        let route = moves(&mut holder, &mut asker, "a file", &bytes(300_000)).await;
        assert!(route.starts_with(expected), "{route}");
    }
}

#[tokio::test]
async fn a_file_that_is_there_stays_and_the_new_one_gets_a_number() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    fs::write(asker.downloads().join("a.txt"), "mine").unwrap();
    holder.offer("a.txt", b"theirs").await;
    for n in [1, 2] {
        begin(&mut holder, &mut asker, id(n), "a.txt", "a.txt", |_| {}).await;
        ends(&mut holder, &mut asker).await;
    }
    assert_eq!(asker.downloaded(), ["a (1).txt", "a (2).txt", "a.txt"]);
    assert_eq!(fs::read(asker.downloads().join("a.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(asker.downloads().join("a (2).txt")).unwrap(), b"theirs");
}

#[tokio::test]
async fn both_directions_at_once() {
    let (mut ann, mut bob) = (Place::new(None), Place::new(None));
    ann.offer("from ann", &bytes(1 << 20)).await;
    bob.offer("from bob", &bytes(1 << 19)).await;
    begin(&mut ann, &mut bob, id(1), "from ann", "from ann", |_| {}).await;
    begin_while_running(&mut bob, &mut ann).await;
    for place in [&mut ann, &mut bob] {
        let mut done = 0;
        while done < 2 {
            match place.next().await {
                FilesEvent::Done { .. } => done += 1,
                FilesEvent::Failed { reason, detail, .. } => panic!("{reason}: {detail}"),
                _ => {}
            }
        }
    }
    assert_eq!(ann.downloaded(), ["from bob"]);
    assert_eq!(bob.downloaded(), ["from ann"]);
}

/// As `begin`, among the events of another transfer, which is of no interest here.
async fn begin_while_running(holder: &mut Place, asker: &mut Place) {
    let (mut holder_started, mut asker_started) = (false, false);
    while !(holder_started && asker_started) {
        tokio::select! {
            event = holder.next(), if !holder_started => holder_started = matches!(event, FilesEvent::Started { .. }),
            event = asker.next(), if !asker_started => asker_started = matches!(event, FilesEvent::Started { .. }),
        }
    }
    begin(holder, asker, id(2), "from bob", "from bob", |_| {}).await;
}

#[tokio::test]
async fn shares_are_found_by_name_and_switches_survive_a_restart() {
    let mut holder = Place::new(None);
    fs::write(holder.share().join("hidden from all.iso"), "x").unwrap();
    holder.offer("Дистрибутив 13.iso", b"12345").await;
    let search = |n: u8| FilesCommand::Search {
        search: Id([n; 16]),
        asker: person("ann"),
        room: id(50),
        pattern: "*.ISO".into(),
        within: Duration::ZERO,
        rules: Rules::default(),
    };
    holder.command(search(1)).await;
    let FilesEvent::Found { search: of, asker, rows, more } = holder.next().await else { panic!() };
    assert_eq!((of, asker, more), (Id([1; 16]), person("ann"), 0));
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.name.as_str(), row.size, row.free_slots), ("Дистрибутив 13.iso", 5, 0));

    let Place { dir, files, kept } = holder;
    drop(files);
    let mut holder = Place { files: start(config(dir.path(), None)).unwrap(), dir, kept };
    holder.command(FilesCommand::Share(ShareCommand::Status)).await;
    let FilesEvent::Shares { global, files, missing } = holder.next().await else { panic!() };
    assert_eq!((global, missing), (false, None));
    assert_eq!(files, [("hidden from all.iso".into(), false), ("Дистрибутив 13.iso".into(), true)]);
}

#[tokio::test]
async fn what_is_shared_is_hashed_in_the_background() {
    let mut holder = Place::new(None);
    holder.offer("a", &bytes(5 << 20)).await;
    let root = *blake3::hash(&bytes(5 << 20)).as_bytes();
    loop {
        let pattern = "a".to_owned();
        holder
            .command(FilesCommand::Search {
                search: Id([1; 16]),
                asker: person("ann"),
                room: id(50),
                pattern,
                within: Duration::ZERO,
                rules: Rules::default(),
            })
            .await;
        let FilesEvent::Found { rows, .. } = holder.next().await else { panic!() };
        match rows.first().unwrap().root {
            None => {}
            Some(known) => break assert_eq!(*known, root),
        }
    }
}

#[tokio::test]
async fn the_address_that_the_server_sees_is_a_candidate_too() {
    let mut asker = Place::new(None);
    let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    asker.files.set_server(&"127.0.0.1".parse().unwrap(), server.local_addr().unwrap().port());
    let mut question = [0; 1_280];
    let outside = "198.51.100.7:4000".parse().unwrap();
    let [_, receiving] = asker.files.local_addrs();
    loop {
        let (len, from) = server.recv_from(&mut question).await.unwrap();
        server.send_to(&secchat::net::stun::answer(&question[..len], outside).unwrap(), from).await.unwrap();
        if from.port() == receiving.port() {
            break;
        }
    }
    loop {
        asker.command(FilesCommand::PrepareDownload { transfer: id(1) }).await;
        let FilesEvent::DownloadReady { candidates, .. } = asker.next().await else { panic!() };
        if candidates.contains(&outside) {
            break assert!(candidates.len() > 1, "its own addresses are there as well");
        }
    }
}
