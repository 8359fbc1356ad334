//! Peers that lie, files that change, names and links that lead elsewhere.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use secchat::client::effects::{FilesCommand, FilesEvent, LostReason};

use crate::place::{Place, begin, download_of, ends, id, until_end};

#[tokio::test]
async fn bytes_other_than_those_agreed_on_never_get_the_name() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    holder.offer("a.txt", &[7; 100_000]).await;
    begin(&mut holder, &mut asker, id(1), "a.txt", "a.txt", |told| told.root[31] ^= 1).await;
    let ends = ends(&mut holder, &mut asker).await;
    let [.., FilesEvent::SourceLost { transfer, reason, .. }, FilesEvent::Starved { .. }] = ends.download.as_slice()
    else {
        panic!("{:?}", ends.download)
    };
    assert_eq!((*transfer, *reason), (id(1), LostReason::Lied));
    assert!(asker.shown().is_empty(), "{:?}", asker.shown());
}

#[tokio::test]
async fn a_file_that_is_edited_on_its_way_is_noticed_and_never_mixed() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    holder.offer("a.bin", &vec![7; 64 << 20]).await;
    begin(&mut holder, &mut asker, id(1), "a.bin", "a.bin", |_| {}).await;
    assert!(matches!(holder.next().await, FilesEvent::Started { .. }));
    fs::write(holder.share().join("a.bin"), vec![8; 64 << 20]).unwrap();
    let ends = ends(&mut holder, &mut asker).await;
    // Noticed in the middle of an answer, or before the next one, which the asker is told.
    assert!(matches!(ends.upload.last(), Some(FilesEvent::Failed { reason, .. }) if reason == "changed"));
    let [.., FilesEvent::SourceLost { reason, .. }, FilesEvent::Starved { .. }] = ends.download.as_slice() else {
        panic!("{:?}", ends.download)
    };
    assert_eq!(*reason, LostReason::Changed);
    assert!(asker.shown().is_empty(), "{:?}", asker.shown());
}

#[tokio::test]
async fn hostile_names_stay_inside_and_links_are_never_followed() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    holder.offer("evil", b"evil").await;
    let victim = asker.dir.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, asker.downloads().join("link")).unwrap();
    symlink(asker.dir.path().join("not there"), asker.downloads().join("dangling")).unwrap();
    symlink(asker.dir.path(), asker.downloads().join("folder")).unwrap();
    let names = [
        ("../victim", Some("victim")),
        ("link", Some("link (1)")),
        ("dangling", Some("dangling (1)")),
        ("folder/victim", Some("victim (1)")),
        ("folder", Some("folder (1)")),
        ("/etc/cron.d/.job", Some("_job")),
        ("..\\..\\x\x1b]0;t\x07.sh", Some("x_]0;t_.sh")),
        ("..", None),
        ("a/", None),
    ];
    for (n, (name, expected)) in names.into_iter().enumerate() {
        begin(&mut holder, &mut asker, id(n as u8), "evil", name, |_| {}).await;
        let Some(expected) = expected else {
            assert!(matches!(asker.next().await, FilesEvent::Failed { .. }), "{name}");
            continue;
        };
        let ends = ends(&mut holder, &mut asker).await;
        assert!(matches!(ends.download.last(), Some(FilesEvent::Done { .. })), "{name}: {:?}", ends.download);
        let path = asker.downloads().join(expected);
        assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{expected}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    let mut around: Vec<_> = fs::read_dir(asker.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    around.sort();
    assert_eq!(around, ["data", "downloads", "share", "victim"]);
}

#[tokio::test]
async fn garbage_on_the_port_ends_nothing() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    let content: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
    holder.offer("a", &content).await;
    let ports = [holder.files.local_addrs(), asker.files.local_addrs()].concat();
    let noise = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut connection = [0; 8];
    begin(&mut holder, &mut asker, id(1), "a", "a", |told| connection = told.connection).await;
    for n in 0..2_000_u64 {
        let mut datagram = vec![n as u8; 1_200];
        datagram[0] = 8;
        datagram[1..9].copy_from_slice(&connection);
        datagram[9..17].copy_from_slice(&n.to_be_bytes());
        datagram.truncate((n % 1_201) as usize);
        ports.iter().for_each(|port| drop(noise.send_to(&datagram, ("127.0.0.1", port.port()))));
    }
    let ends = ends(&mut holder, &mut asker).await;
    assert!(matches!(ends.download.last(), Some(FilesEvent::Done { .. })), "{:?}", ends.download);
    assert_eq!(fs::read(asker.downloads().join("a")).unwrap(), content);
}

#[tokio::test]
async fn a_holder_that_stops_it_and_one_that_leaves_are_told_apart() {
    for (keep, expected) in [(false, LostReason::Cancelled), (true, LostReason::Left)] {
        let (mut holder, mut asker) = (Place::new(None), Place::new(None));
        holder.offer("big", &vec![7; 64 << 20]).await;
        begin(&mut holder, &mut asker, id(1), "big", "big", |_| {}).await;
        assert!(matches!(asker.next().await, FilesEvent::Started { .. }));
        holder.command(FilesCommand::Cancel { transfer: id(1), reason: "enough".into(), keep }).await;
        let FilesEvent::SourceLost { reason, detail, .. } = asker.next().await else { panic!() };
        assert_eq!((reason, detail.as_str()), (expected, "enough"));
    }
}

#[tokio::test]
async fn a_size_that_the_root_does_not_have_is_a_lie_and_takes_no_room() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    holder.offer("small", b"small").await;
    begin(&mut holder, &mut asker, id(1), "small", "small", |ready| ready.size = 1 << 42).await;
    let download = until_end(&mut asker).await;
    let lost = |event: &FilesEvent| matches!(event, FilesEvent::SourceLost { .. });
    assert!(download.iter().any(lost) && matches!(download.last(), Some(FilesEvent::Starved { .. })), "{download:?}");
    let transfer = download_of(id(1));
    asker.command(FilesCommand::Cancel { transfer, reason: "enough".into(), keep: true }).await;
    until_end(&mut asker).await;
    assert!(asker.downloaded().is_empty(), "{:?}", asker.downloaded());
}
