//! What is refused, and what ends early.

use std::fs;

use secchat::client::effects::{FilesCommand, FilesEvent};
use secchat::wire::payload::FileRefusal;

use crate::place::{Place, begin, ends, id, until_end};

#[tokio::test]
async fn past_the_limit_it_is_busy_until_a_slot_is_given_back() {
    let mut holder = Place::new(None);
    holder.offer("a", b"a").await;
    assert!(holder.prepare_upload(id(1), "a", None).await.is_ok());
    assert!(holder.prepare_upload(id(2), "a", None).await.is_ok());
    assert_eq!(holder.prepare_upload(id(3), "a", None).await.unwrap_err(), FileRefusal::Busy);
    holder.command(FilesCommand::Cancel { transfer: id(1), reason: "enough".into() }).await;
    assert!(matches!(holder.next().await, FilesEvent::Failed { reason, .. } if reason == "cancelled"));
    assert!(holder.prepare_upload(id(3), "a", None).await.is_ok());
    holder.command(FilesCommand::MaxUploads(3)).await;
    assert!(holder.prepare_upload(id(4), "a", None).await.is_ok());
}

#[tokio::test]
async fn a_slot_is_free_again_after_the_file_has_left() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    holder.command(FilesCommand::MaxUploads(1)).await;
    holder.offer("a", b"a").await;
    for n in 1..4 {
        begin(&mut holder, &mut asker, id(n), "a", "a", |_| {}).await;
        ends(&mut holder, &mut asker).await;
    }
    assert_eq!(asker.downloaded().len(), 3);
}

#[tokio::test]
async fn what_is_not_shared_and_what_is_not_there_are_the_same_answer() {
    let mut holder = Place::new(None);
    fs::write(holder.share().join("private"), "x").unwrap();
    fs::write(holder.dir.path().join("outside"), "x").unwrap();
    std::os::unix::fs::symlink(holder.dir.path().join("outside"), holder.share().join("link")).unwrap();
    for name in ["private", "nothing", "link", "../outside", "/etc/passwd", "", "."] {
        assert_eq!(holder.prepare_upload(id(1), name, None).await.unwrap_err(), FileRefusal::NotShared, "{name}");
    }
}

#[tokio::test]
async fn another_content_than_the_one_asked_for_is_refused() {
    let mut holder = Place::new(None);
    holder.offer("a", b"new").await;
    let old = *blake3::hash(b"old").as_bytes();
    assert_eq!(holder.prepare_upload(id(1), "a", Some(old)).await.unwrap_err(), FileRefusal::Changed);
    let new = *blake3::hash(b"new").as_bytes();
    assert_eq!(holder.prepare_upload(id(1), "a", Some(new)).await.unwrap().root, new);
}

#[tokio::test]
async fn a_cancelled_transfer_ends_at_both_ends_and_leaves_nothing() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    holder.offer("big", &vec![7; 64 << 20]).await;
    begin(&mut holder, &mut asker, id(1), "big", "big", |_| {}).await;
    assert!(matches!(asker.next().await, FilesEvent::Started { .. }));
    asker.command(FilesCommand::Cancel { transfer: id(1), reason: "enough\x1b[2J".into() }).await;
    let ends = ends(&mut holder, &mut asker).await;
    let reason = |events: &[FilesEvent]| match events.last() {
        Some(FilesEvent::Failed { reason, detail, .. }) => (reason.clone(), detail.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&ends.download).0, "cancelled");
    assert_eq!(reason(&ends.upload), ("peer_closed".into(), "enough\\u{1b}[2J".into()));
    assert!(asker.downloaded().is_empty(), "{:?}", asker.downloaded());
    assert!(holder.prepare_upload(id(2), "big", None).await.is_ok());
}

#[tokio::test]
async fn a_client_that_leaves_tells_its_peer_and_leaves_nothing_unfinished() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    holder.offer("big", &vec![7; 64 << 20]).await;
    begin(&mut holder, &mut asker, id(1), "big", "big", |_| {}).await;
    assert!(matches!(asker.next().await, FilesEvent::Started { .. }));
    let Place { dir, files } = asker;
    drop(files);
    assert_eq!(fs::read_dir(dir.path().join("downloads")).unwrap().count(), 0);
    let upload = until_end(&mut holder).await;
    assert!(matches!(upload.last(), Some(FilesEvent::Failed { reason, .. }) if reason == "peer_closed"));
}
