//! What is left of a download whose client died without a word, and lines that are kept slow.

use std::fs;
use std::path::Path;

use secchat::client::effects::FilesEvent;
use secchat::client::files::start;

use crate::place::{Place, begin, config, ends, id};

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"crash").finalize_xof().fill(&mut bytes);
    bytes
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            // Renames go on meanwhile.
            let _ = fs::copy(entry.path(), to);
        }
    }
}

/// A holder that sends at most so many bytes a second.
fn slow_holder(rate: u64) -> Place {
    let Place { dir, files, kept } = Place::new(None);
    drop(files);
    let files = start(secchat::client::files::FilesConfig { up: Some(rate), ..config(dir.path(), None) }).unwrap();
    Place { dir, files, kept }
}

#[tokio::test]
async fn on_a_slow_line_a_crash_costs_about_a_second() {
    const SIZE: usize = 16 << 20;
    let (mut holder, mut asker) = (slow_holder(4 << 20), Place::new(None));
    let content = noise(SIZE);
    holder.offer("slow", &content).await;
    begin(&mut holder, &mut asker, id(1), "slow", "slow", |_| {}).await;
    loop {
        match asker.files.next().await.unwrap() {
            FilesEvent::Progress { bytes, .. } if bytes >= 9 << 20 => break,
            FilesEvent::Done { .. } | FilesEvent::Failed { .. } => panic!("too early"),
            _ => {}
        }
    }
    // The directory as a crash at this moment leaves it.
    let mut heir = Place::new(None);
    copy(&asker.downloads(), &heir.downloads());
    drop(asker);
    while !matches!(holder.next().await, FilesEvent::Failed { .. }) {}
    begin(&mut holder, &mut heir, id(2), "slow", "slow", |_| {}).await;
    let ends = ends(&mut holder, &mut heir).await;
    let Some(FilesEvent::Done { path: Some(path), .. }) = ends.download.last() else { panic!("{:?}", ends.download) };
    assert!(fs::read(path).unwrap() == content);
    let Some(FilesEvent::Done { bytes, .. }) = ends.upload.last() else { panic!("{:?}", ends.upload) };
    assert!(*bytes < 13 << 20, "{bytes} bytes were sent again, of which 7 MiB were missing");
    assert_eq!(heir.downloaded(), ["slow"]);
}

#[tokio::test]
async fn the_rate_that_is_allowed_is_used() {
    const RATE: u64 = 8 << 20;
    let mut holder = slow_holder(RATE);
    holder.offer("file", &noise(8 << 20)).await;
    let mut shortest = f64::INFINITY;
    // The machine may be busy with something else.
    for n in 1..=4 {
        let mut asker = Place::new(None);
        begin(&mut holder, &mut asker, id(n), "file", "file", |_| {}).await;
        let ends = ends(&mut holder, &mut asker).await;
        let Some(FilesEvent::Done { seconds, .. }) = ends.download.last() else { panic!("{:?}", ends.download) };
        assert!(*seconds > 0.9, "{seconds}");
        shortest = shortest.min(*seconds);
    }
    assert!(shortest < 1.5, "{shortest} seconds for a second's worth");
}
