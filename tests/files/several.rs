//! One file from several holders: who lies is named, who leaves is replaced, who has a part gives that.

use std::fs;
use std::time::Duration;

use secchat::client::effects::{FilesCommand, FilesEvent, LostReason, ShareCommand, Wanted};
use secchat::transfer::restrict::Rules;
use secchat::wire::payload::{FileKind, FileRefusal};

use crate::place::{Place, Plan, bytes, download_of, id, person, until_end, wanted};

async fn holders<const N: usize>(name: &str, content: &[u8]) -> [Place; N] {
    let mut holders: [Place; N] = std::array::from_fn(|_| Place::new(None));
    for holder in &mut holders {
        holder.offer(name, content).await;
    }
    holders
}

fn lost(events: &[FilesEvent]) -> Vec<(u8, LostReason)> {
    let of = |event: &FilesEvent| match event {
        FilesEvent::SourceLost { transfer, reason, .. } => Some((transfer.0[0], *reason)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// Waits until a download has got this far.
async fn until_bytes(asker: &mut Place, enough: u64) {
    loop {
        match asker.files.next().await.unwrap() {
            FilesEvent::Progress { bytes, .. } if bytes >= enough => return,
            FilesEvent::Progress { .. } => {}
            event @ FilesEvent::Done { .. } => panic!("too soon: {event:?}"),
            event => asker.kept.push_back(event),
        }
    }
}

#[tokio::test]
async fn all_of_three_holders_bring_a_part() {
    let content = bytes(48 << 20);
    let mut asker = Place::new(None);
    let mut holders: [Place; 3] = holders("film", &content).await;
    // Slow until all have begun, so that none is too late.
    asker.command(FilesCommand::Rates { up: None, down: Some(500_000) }).await;
    for (n, holder) in (1..).zip(&mut holders) {
        let download = id(99);
        Plan { download, ..Plan::new(id(n), "film") }.begin(holder, &mut asker, |_| {}).await;
    }
    for holder in &mut holders {
        while !matches!(holder.next().await, FilesEvent::Started { .. }) {}
    }
    asker.command(FilesCommand::Rates { up: None, down: Some(30_000_000) }).await;
    let events = until_end(&mut asker).await;
    assert!(matches!(events.last(), Some(FilesEvent::Done { .. })), "{events:?}");
    assert_eq!(blake3::hash(&fs::read(asker.downloads().join("film")).unwrap()), blake3::hash(&content));
    let mut brought = Vec::new();
    for holder in &mut holders {
        match until_end(holder).await.last() {
            Some(FilesEvent::Done { bytes, .. }) => brought.push(*bytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(brought.iter().all(|bytes| *bytes > 0), "{brought:?}");
}

#[tokio::test]
async fn a_liar_among_three_is_named_and_the_file_is_right() {
    let content = bytes(24 << 20);
    let mut asker = Place::new(None);
    let mut holders: [Place; 3] = holders("film", &content).await;
    let mut false_content = content.clone();
    false_content[20 << 20] ^= 1;
    holders[1].offer("film", &false_content).await;
    let root = *blake3::hash(&content).as_bytes();
    for (n, holder) in (1..).zip(&mut holders) {
        let download = id(99);
        Plan { download, ..Plan::new(id(n), "film") }.begin(holder, &mut asker, |told| told.root = root).await;
    }
    let events = until_end(&mut asker).await;
    assert!(matches!(events.last(), Some(FilesEvent::Done { .. })), "{events:?}");
    assert_eq!(lost(&events), [(2, LostReason::Lied)]);
    assert_eq!(blake3::hash(&fs::read(asker.downloads().join("film")).unwrap()), blake3::hash(&content));
    let told = until_end(&mut holders[1]).await;
    assert!(matches!(told.last(), Some(FilesEvent::Failed { reason, .. }) if reason == "peer_closed"), "{told:?}");
}

#[tokio::test]
async fn what_a_holder_that_leaves_did_not_bring_comes_from_the_other() {
    let content = bytes(64 << 20);
    let mut asker = Place::new(None);
    asker.command(FilesCommand::Rates { up: None, down: Some(60 << 20) }).await;
    let [mut stays, mut leaves] = holders("film", &content).await;
    for (n, holder) in [(1, &mut stays), (2, &mut leaves)] {
        let download = id(99);
        Plan { download, ..Plan::new(id(n), "film") }.begin(holder, &mut asker, |_| {}).await;
    }
    until_bytes(&mut asker, 8 << 20).await;
    drop(leaves);
    let events = until_end(&mut asker).await;
    assert!(matches!(events.last(), Some(FilesEvent::Done { .. })), "{events:?}");
    assert_eq!(lost(&events), [(2, LostReason::Left)]);
    assert_eq!(blake3::hash(&fs::read(asker.downloads().join("film")).unwrap()), blake3::hash(&content));
}

#[tokio::test]
async fn without_a_source_it_waits_and_a_new_one_brings_the_rest() {
    let content = bytes(32 << 20);
    let mut asker = Place::new(None);
    asker.command(FilesCommand::Rates { up: None, down: Some(30 << 20) }).await;
    let [mut first, mut second] = holders("film", &content).await;
    let download = id(99);
    Plan { download, ..Plan::new(id(1), "film") }.begin(&mut first, &mut asker, |_| {}).await;
    until_bytes(&mut asker, 8 << 20).await;
    drop(first);
    let events = until_end(&mut asker).await;
    assert!(matches!(events.last(), Some(FilesEvent::Starved { .. })), "{events:?}");
    asker.command(FilesCommand::Rates { up: None, down: None }).await;
    Plan { download, ..Plan::new(id(2), "film") }.begin(&mut second, &mut asker, |_| {}).await;
    let events = until_end(&mut asker).await;
    assert!(matches!(events.last(), Some(FilesEvent::Done { .. })), "{events:?}");
    assert_eq!(blake3::hash(&fs::read(asker.downloads().join("film")).unwrap()), blake3::hash(&content));
    let Some(FilesEvent::Done { bytes, .. }) = until_end(&mut second).await.pop() else { panic!() };
    assert!(bytes < content.len() as u64 - (4 << 20), "what was there is not fetched again: {bytes}");
}

#[tokio::test]
async fn who_fetches_a_file_serves_what_it_has_of_it() {
    let content = bytes(24 << 20);
    let (mut middle, mut last) = (Place::new(None), Place::new(None));
    let [mut holder] = holders("film", &content).await;
    let root = Some(*blake3::hash(&content).as_bytes());
    middle.command(FilesCommand::Share(ShareCommand::Global(true))).await;
    assert!(matches!(middle.next().await, FilesEvent::Shares { .. }));
    middle.command(FilesCommand::Rates { up: None, down: Some(12 << 20) }).await;
    let room = Some(id(50));
    Plan { room, ..Plan::new(id(1), "film") }.begin(&mut holder, &mut middle, |_| {}).await;
    until_bytes(&mut middle, 4 << 20).await;
    middle.kept.clear();
    let wanted = Wanted { root, rooms: vec![id(51), id(50)], ..wanted("film") };
    Plan { wanted, ..Plan::new(id(2), "film") }.begin(&mut middle, &mut last, |told| assert!(told.partial)).await;
    let events = until_end(&mut last).await;
    assert!(matches!(events.last(), Some(FilesEvent::Done { .. })), "{events:?}");
    assert_eq!(blake3::hash(&fs::read(last.downloads().join("film")).unwrap()), blake3::hash(&content));
}

#[tokio::test]
async fn who_fetches_a_folder_serves_what_it_has_of_it() {
    let (mut holder, mut middle, mut last) = (Place::new(None), Place::new(None), Place::new(None));
    let folder = holder.share().join("trip");
    let files = [("a/large", 20 << 20), ("a/b/small", 1_000), ("empty", 0), ("z/other", 3 << 20)];
    for (path, size) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes(size)).unwrap();
    }
    holder.command(FilesCommand::Share(ShareCommand::Set("trip/".into()))).await;
    assert!(matches!(holder.next().await, FilesEvent::Shares { .. }));
    middle.command(FilesCommand::Share(ShareCommand::Global(true))).await;
    assert!(matches!(middle.next().await, FilesEvent::Shares { .. }));
    middle.command(FilesCommand::Rates { up: None, down: Some(12 << 20) }).await;
    let (room, wanted, mut root) = (Some(id(50)), Wanted { kind: FileKind::Folder, ..wanted("trip") }, None);
    let whole = Plan { room, wanted: wanted.clone(), ..Plan::new(id(1), "trip") };
    whole.begin(&mut holder, &mut middle, |told| root = Some(told.root)).await;
    until_bytes(&mut middle, 4 << 20).await;
    middle.kept.clear();
    assert!(found(&mut middle, 60, 50).await.contains(&"trip".to_owned()));
    let elsewhere = Wanted { root, rooms: vec![id(51)], ..wanted.clone() };
    assert_eq!(middle.prepare_upload(id(3), elsewhere).await.unwrap_err(), FileRefusal::NotShared);
    let here = Wanted { root, rooms: vec![id(50)], ..wanted };
    let part = Plan { wanted: here, ..Plan::new(id(2), "trip") };
    part.begin(&mut middle, &mut last, |told| assert!(told.partial && told.entries == 4)).await;
    let events = until_end(&mut last).await;
    assert!(matches!(events.last(), Some(FilesEvent::Done { .. })), "{events:?}");
    for (path, size) in files {
        assert!(fs::read(last.downloads().join("trip").join(path)).unwrap() == bytes(size), "{path}");
    }
}

#[tokio::test]
async fn a_part_that_has_become_whole_is_not_read_any_more_once_its_owner_has_changed_it() {
    let (mut holder, mut middle, mut last) = (Place::new(None), Place::new(None), Place::new(None));
    let folder = holder.share().join("trip");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("notes"), bytes(16 << 20)).unwrap();
    holder.command(FilesCommand::Share(ShareCommand::Set("trip/".into()))).await;
    assert!(matches!(holder.next().await, FilesEvent::Shares { .. }));
    middle.command(FilesCommand::Share(ShareCommand::Global(true))).await;
    assert!(matches!(middle.next().await, FilesEvent::Shares { .. }));
    middle.command(FilesCommand::Rates { up: None, down: Some(4 << 20) }).await;
    last.command(FilesCommand::Rates { up: None, down: Some(100_000) }).await;
    let (room, wanted, mut root) = (Some(id(50)), Wanted { kind: FileKind::Folder, ..wanted("trip") }, None);
    let whole = Plan { room, wanted: wanted.clone(), ..Plan::new(id(1), "trip") };
    whole.begin(&mut holder, &mut middle, |told| root = Some(told.root)).await;
    until_bytes(&mut middle, 2 << 20).await;
    middle.kept.clear();
    let here = Wanted { root, rooms: vec![id(50)], ..wanted };
    Plan { wanted: here, ..Plan::new(id(2), "trip") }.begin(&mut middle, &mut last, |_| {}).await;
    until_bytes(&mut last, 1).await;
    middle.command(FilesCommand::Rates { up: None, down: None }).await;
    while !matches!(middle.next().await, FilesEvent::Done { .. }) {}
    fs::write(middle.downloads().join("trip/notes"), vec![b'!'; 16 << 20]).unwrap();
    last.command(FilesCommand::Rates { up: None, down: None }).await;
    loop {
        match last.next().await {
            FilesEvent::SourceLost { reason, .. } => break assert_ne!(reason, LostReason::Lied),
            event @ (FilesEvent::Done { .. } | FilesEvent::Failed { .. }) => panic!("{event:?}"),
            _ => {}
        }
    }
}

/// What a search in this room finds, by name.
async fn found(place: &mut Place, n: u8, room: u8) -> Vec<String> {
    let (search, asker, room) = (id(n), person("eve"), id(room));
    place
        .command(FilesCommand::Search {
            search,
            asker,
            room,
            pattern: "*".into(),
            within: Duration::ZERO,
            rules: Rules::default(),
        })
        .await;
    loop {
        match place.next().await {
            FilesEvent::Found { search: of, rows, .. } if of == search => {
                return rows.into_iter().map(|row| row.name).collect();
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_was_offered_is_handed_to_nobody_and_the_rest_only_to_the_room_it_is_fetched_in() {
    let content = bytes(24 << 20);
    let root = Some(*blake3::hash(&content).as_bytes());
    // Without a room it came by an offer.
    for room in [None, Some(id(50))] {
        let mut middle = Place::new(None);
        let [mut holder] = holders("film", &content).await;
        middle.offer("mine", b"for everyone").await;
        middle.command(FilesCommand::Share(ShareCommand::Global(true))).await;
        assert!(matches!(middle.next().await, FilesEvent::Shares { .. }));
        middle.command(FilesCommand::Rates { up: None, down: Some(8 << 20) }).await;
        Plan { room, ..Plan::new(id(1), "film") }.begin(&mut holder, &mut middle, |_| {}).await;
        until_bytes(&mut middle, 2 << 20).await;
        middle.kept.clear();
        assert_eq!(found(&mut middle, 60, 51).await, ["mine"], "{room:?}");
        let here = found(&mut middle, 61, 50).await;
        assert_eq!(here.contains(&"film".to_owned()), room.is_some(), "{here:?}");
        let elsewhere = Wanted { root, rooms: vec![id(51)], ..wanted("film") };
        assert_eq!(middle.prepare_upload(id(2), elsewhere).await.unwrap_err(), FileRefusal::NotShared);
        let same = Wanted { root, rooms: vec![id(50)], ..wanted("film") };
        assert_eq!(middle.prepare_upload(id(3), same).await.is_ok(), room.is_some());
    }
}

#[tokio::test]
async fn a_limited_rate_is_shared_by_all_downloads() {
    let content = bytes(8 << 20);
    let [mut first, mut second] = holders("film", &content).await;
    let mut asker = Place::new(None);
    asker.command(FilesCommand::Rates { up: None, down: Some(1 << 20) }).await;
    Plan { name: "one", ..Plan::new(id(1), "film") }.begin(&mut first, &mut asker, |_| {}).await;
    until_bytes(&mut asker, 1).await;
    // Another content, so another place.
    second.offer("other", &content[1..]).await;
    Plan { name: "two", ..Plan::new(id(2), "other") }.begin(&mut second, &mut asker, |_| {}).await;
    let mut come = [0; 2];
    while come.iter().any(|bytes| *bytes < 1 << 20) {
        match asker.files.next().await.unwrap() {
            FilesEvent::Progress { transfer, bytes, .. } => {
                come[usize::from(transfer == download_of(id(2)))] = bytes;
            }
            FilesEvent::Done { .. } => panic!("one had to wait for the other: {come:?}"),
            _ => {}
        }
    }
    assert!(come[0] < 6 << 20, "{come:?}");
}

#[tokio::test]
async fn a_list_of_files_that_does_not_come_is_asked_of_another_holder() {
    let [mut slow, mut fast] = [Place::new(None), Place::new(None)];
    for holder in [&mut slow, &mut fast] {
        let dir = holder.share().join("photos");
        fs::create_dir(&dir).unwrap();
        // Long names, so that the list is more than leaves at once at any rate.
        for n in 0..1_000 {
            fs::write(dir.join(format!("{n} {}.jpg", "x".repeat(200))), bytes(n % 90)).unwrap();
        }
        holder.command(FilesCommand::Share(ShareCommand::Set("photos/".into()))).await;
        assert!(matches!(holder.next().await, FilesEvent::Shares { .. }));
    }
    slow.command(FilesCommand::Rates { up: Some(2_000), down: None }).await;
    let mut asker = Place::new(None);
    for (n, holder) in [(1, &mut slow), (2, &mut fast)] {
        let wanted = Wanted { kind: FileKind::Folder, ..wanted("photos") };
        let download = id(99);
        Plan { wanted, download, ..Plan::new(id(n), "photos") }.begin(holder, &mut asker, |_| {}).await;
    }
    let events = until_end(&mut asker).await;
    assert!(matches!(events.last(), Some(FilesEvent::Done { .. })), "{events:?}");
    assert!(lost(&events).is_empty(), "{events:?}");
    assert_eq!(fs::read_dir(asker.downloads().join("photos")).unwrap().count(), 1_000);
}
