//! What is refused, and what ends early.

use std::fs;

use secchat::client::effects::{FilesCommand, FilesEvent, Wanted};
use secchat::wire::payload::FileRefusal;

use crate::place::{Place, begin, download_of, ends, id, until_end, wanted};

#[tokio::test]
async fn what_is_not_shared_and_what_is_not_there_are_the_same_answer() {
    let mut holder = Place::new(None);
    fs::write(holder.share().join("private"), "x").unwrap();
    fs::write(holder.dir.path().join("outside"), "x").unwrap();
    std::os::unix::fs::symlink(holder.dir.path().join("outside"), holder.share().join("link")).unwrap();
    for name in ["private", "nothing", "link", "../outside", "/etc/passwd", "", "."] {
        assert_eq!(holder.prepare_upload(id(1), wanted(name)).await.unwrap_err(), FileRefusal::NotShared, "{name}");
    }
}

#[tokio::test]
async fn another_content_than_the_one_asked_for_is_refused() {
    let mut holder = Place::new(None);
    holder.offer("a", b"new").await;
    let old = *blake3::hash(b"old").as_bytes();
    assert_eq!(
        holder.prepare_upload(id(1), Wanted { root: Some(old), ..wanted("a") }).await.unwrap_err(),
        FileRefusal::Changed
    );
    let new = *blake3::hash(b"new").as_bytes();
    assert_eq!(holder.prepare_upload(id(1), Wanted { root: Some(new), ..wanted("a") }).await.unwrap().root, new);
}

#[tokio::test]
async fn a_cancelled_transfer_ends_at_both_ends_and_leaves_nothing() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    holder.offer("big", &vec![7; 64 << 20]).await;
    begin(&mut holder, &mut asker, id(1), "big", "big", |_| {}).await;
    assert!(matches!(asker.next().await, FilesEvent::Started { .. }));
    asker
        .command(FilesCommand::Cancel { transfer: download_of(id(1)), reason: "enough\x1b[2J".into(), keep: false })
        .await;
    let ends = ends(&mut holder, &mut asker).await;
    let reason = |events: &[FilesEvent]| match events.last() {
        Some(FilesEvent::Failed { reason, detail, .. }) => (reason.clone(), detail.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&ends.download).0, "cancelled");
    assert_eq!(reason(&ends.upload), ("peer_closed".into(), "enough\\u{1b}[2J".into()));
    assert!(asker.downloaded().is_empty(), "{:?}", asker.downloaded());
    assert!(holder.prepare_upload(id(2), wanted("big")).await.is_ok());
}

#[tokio::test]
async fn a_client_that_leaves_tells_its_peer_and_keeps_what_it_has_out_of_sight() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    holder.offer("big", &vec![7; 64 << 20]).await;
    begin(&mut holder, &mut asker, id(1), "big", "big", |_| {}).await;
    assert!(matches!(asker.next().await, FilesEvent::Started { .. }));
    let Place { dir, files, .. } = asker;
    drop(files);
    let left: Vec<_> = fs::read_dir(dir.path().join("downloads")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().starts_with('.')), "{left:?}");
    let upload = until_end(&mut holder).await;
    assert!(matches!(upload.last(), Some(FilesEvent::Failed { reason, .. }) if reason == "peer_closed"));
}
