//! A root says nothing of the size, and who answers first may say a false one: it costs nobody else anything.

use std::fs;

use secchat::client::effects::{FilesCommand, FilesEvent, LostReason, ShareCommand, Wanted};
use secchat::wire::payload::FileKind;

use crate::place::{Place, Plan, bytes, id, until_end, wanted};

const SIZE: usize = 12 << 20;

/// Until the end of the download; those that were lost on the way.
async fn until_done(asker: &mut Place) -> Vec<(u8, LostReason)> {
    let mut lost = Vec::new();
    loop {
        match asker.next().await {
            FilesEvent::Done { .. } => return lost,
            FilesEvent::SourceLost { transfer, reason, .. } => lost.push((transfer.0[0], reason)),
            failed @ FilesEvent::Failed { .. } => panic!("{failed:?}"),
            _ => {}
        }
    }
}

async fn begin(holder: &mut Place, asker: &mut Place, n: u8, size: Option<u64>) {
    let lie = |ready: &mut secchat::client::effects::UploadReady| ready.size = size.unwrap_or(ready.size);
    Plan { download: id(99), ..Plan::new(id(n), "film") }.begin(holder, asker, lie).await;
}

/// Sizes that fall into the same tree, one group more or less, nothing, and more than any disk has.
fn false_sizes() -> [u64; 7] {
    let size = SIZE as u64;
    [size - 1, size + 1, size - (64 << 10), size * 2, 1, 1 << 45, u64::MAX]
}

#[tokio::test]
async fn a_false_size_ends_nothing_and_only_who_said_it_has_lied() {
    let content = bytes(SIZE);
    for (false_size, liar_first) in false_sizes().into_iter().flat_map(|size| [(size, true), (size, false)]) {
        let mut asker = Place::new(None);
        let mut liar = Place::new(None);
        let mut honest = [Place::new(None), Place::new(None)];
        for holder in honest.iter_mut().chain([&mut liar]) {
            holder.offer("film", &content).await;
        }
        if liar_first {
            begin(&mut liar, &mut asker, 9, Some(false_size)).await;
        }
        for (n, holder) in (1..).zip(&mut honest) {
            begin(holder, &mut asker, n, None).await;
            if n == 1 && !liar_first {
                begin(&mut liar, &mut asker, 9, Some(false_size)).await;
            }
        }
        let lost = until_done(&mut asker).await;
        // It is an honest one that was made to lie, and may find the asks senseless itself.
        let liar = |(who, why): &(u8, LostReason)| *who == 9 && matches!(why, LostReason::Lied | LostReason::Left);
        assert!(lost.iter().all(liar), "{false_size} {liar_first} {lost:?}");
        assert!(fs::read(asker.downloads().join("film")).unwrap() == content, "{false_size}");
        assert_eq!(asker.downloaded(), ["film"], "{false_size} {liar_first}");
    }
}

#[tokio::test]
async fn what_is_left_from_before_stays_whatever_size_somebody_says() {
    let content = bytes(SIZE);
    let (mut asker, mut holder) = (Place::new(None), Place::new(None));
    holder.offer("film", &content).await;
    asker.command(FilesCommand::Rates { up: None, down: Some(20 << 20) }).await;
    begin(&mut holder, &mut asker, 1, None).await;
    while !matches!(asker.files.next().await.unwrap(), FilesEvent::Progress { bytes, .. } if bytes > 6 << 20) {}
    asker.command(FilesCommand::Cancel { transfer: id(99), reason: "later".into(), keep: true }).await;
    while !matches!(asker.next().await, FilesEvent::Failed { .. }) {}
    until_end(&mut holder).await;
    asker.command(FilesCommand::Rates { up: None, down: None }).await;
    // Of one that cannot be at all nothing is begun.
    for (n, false_size) in (10..).zip(false_sizes().into_iter().filter(|size| *size < u64::MAX)) {
        let (download, mut liar) = (id(50 + n), Place::new(None));
        liar.offer("film", &content).await;
        Plan { download, ..Plan::new(id(n), "film") }.begin(&mut liar, &mut asker, |told| told.size = false_size).await;
        while !matches!(asker.next().await, FilesEvent::Starved { .. }) {}
        asker.command(FilesCommand::Cancel { transfer: download, reason: "enough".into(), keep: true }).await;
        while !matches!(asker.next().await, FilesEvent::Failed { .. }) {}
    }
    let download = id(98);
    Plan { download, ..Plan::new(id(2), "film") }.begin(&mut holder, &mut asker, |_| {}).await;
    assert_eq!(until_done(&mut asker).await, []);
    assert!(fs::read(asker.downloads().join("film")).unwrap() == content);
    let Some(FilesEvent::Done { bytes, .. }) = until_end(&mut holder).await.pop() else { panic!() };
    assert!(bytes < SIZE as u64 / 2, "what was there is not fetched again: {bytes}");
}

#[tokio::test]
async fn who_comes_when_all_is_there_begins_nothing() {
    let content = bytes(1 << 20);
    let (mut asker, mut holder, mut late) = (Place::new(None), Place::new(None), Place::new(None));
    holder.offer("film", &content).await;
    late.offer("film", &content).await;
    begin(&mut holder, &mut asker, 1, None).await;
    while !matches!(asker.next().await, FilesEvent::Done { .. }) {}
    while !matches!(holder.next().await, FilesEvent::Done { .. }) {}
    begin(&mut late, &mut asker, 2, None).await;
    // What is begun after it comes to its end.
    Plan::new(id(3), "film").begin(&mut holder, &mut asker, |_| {}).await;
    while !matches!(asker.next().await, FilesEvent::Done { .. }) {}
    assert_eq!(asker.downloaded(), ["film", "film (1)"], "one for each download");
}

/// A folder of a few files, and who shares it.
async fn sharer(name: &str) -> Place {
    let mut place = Place::new(None);
    let folder = place.share().join(name);
    fs::create_dir_all(&folder).unwrap();
    for n in 0..6 {
        fs::write(folder.join(format!("{n}.bin")), bytes((2 << 20) + n)).unwrap();
    }
    place.command(FilesCommand::Share(ShareCommand::Set(format!("{name}/")))).await;
    assert!(matches!(place.next().await, FilesEvent::Shares { missing: None, .. }));
    place
}

async fn begin_folder(holder: &mut Place, asker: &mut Place, (n, download): (u8, u8), change: fn(u64) -> u64) {
    let wanted = Wanted { kind: FileKind::Folder, ..wanted("trip") };
    let plan = Plan { download: id(download), wanted, ..Plan::new(id(n), "trip") };
    plan.begin(holder, asker, |told| told.size = change(told.size)).await;
}

#[tokio::test]
async fn a_false_size_of_a_list_costs_no_partial_and_makes_nobody_else_a_liar() {
    let changes: [fn(u64) -> u64; 5] = [|size| size - 1, |size| size + 1, |_| 1, |_| 1 << 20, |_| u64::MAX];
    for (change, begun) in changes.into_iter().flat_map(|change| [(change, false), (change, true)]) {
        let (mut asker, mut liar, mut honest) = (Place::new(None), sharer("trip").await, sharer("trip").await);
        if begun {
            let mut first = sharer("trip").await;
            asker.command(FilesCommand::Rates { up: None, down: Some(20 << 20) }).await;
            begin_folder(&mut first, &mut asker, (1, 98), |size| size).await;
            while !matches!(asker.files.next().await.unwrap(), FilesEvent::Progress { bytes, .. } if bytes > 6 << 20) {}
            asker.command(FilesCommand::Cancel { transfer: id(98), reason: "later".into(), keep: true }).await;
            while !matches!(asker.next().await, FilesEvent::Failed { .. }) {}
            asker.command(FilesCommand::Rates { up: None, down: None }).await;
        }
        begin_folder(&mut liar, &mut asker, (9, 99), change).await;
        begin_folder(&mut honest, &mut asker, (2, 99), |size| size).await;
        let lost = until_done(&mut asker).await;
        assert!(lost.iter().all(|(who, why)| *who == 9 || *why != LostReason::Lied), "{lost:?}");
        for n in 0..6 {
            assert!(fs::read(asker.downloads().join(format!("trip/{n}.bin"))).unwrap() == bytes((2 << 20) + n));
        }
        // Where the list was here, who said a false size of it may do, and the other one come later.
        if begun && !lost.is_empty() && lost.iter().all(|(who, _)| *who == 9) {
            let brought = until_end(&mut honest).await;
            let Some(FilesEvent::Done { bytes, .. }) = brought.last() else { panic!("{brought:?}") };
            assert!(*bytes < 7 << 20, "what was there is not fetched again: {bytes}");
        }
    }
}

#[tokio::test]
async fn many_who_say_a_size_and_go_keep_nobody_out() {
    let content = bytes(SIZE);
    let (mut asker, mut holder) = (Place::new(None), Place::new(None));
    holder.offer("film", &content).await;
    for n in 0..10 {
        let mut liar = Place::new(None);
        liar.offer("film", &content).await;
        begin(&mut liar, &mut asker, 10 + n, Some(SIZE as u64 + 1 + u64::from(n))).await;
        drop(liar);
        while !matches!(asker.next().await, FilesEvent::SourceLost { .. }) {}
    }
    begin(&mut holder, &mut asker, 1, None).await;
    assert_eq!(until_done(&mut asker).await, []);
    assert_eq!(asker.downloaded(), ["film"]);
}
