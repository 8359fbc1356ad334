//! Folders: one agreement, every file under its name, nothing outside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use secchat::client::effects::{FilesCommand, FilesEvent, LostReason, OfferRefusal, Offered, ShareCommand, Wanted};
use secchat::transfer::restrict::Rules;
use secchat::wire::payload::FileKind;

use crate::place::{Place, Plan, bytes, ends, id, wanted};

fn all_files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

async fn offer_folder(holder: &mut Place, name: &str) {
    holder.command(FilesCommand::Share(ShareCommand::Set(format!("{name}/")))).await;
    let FilesEvent::Shares { files, missing, .. } = holder.next().await else { panic!() };
    assert!(missing.is_none() && files.contains(&(format!("{name}/"), true)), "{files:?}");
}

#[tokio::test]
async fn a_thousand_small_files_and_a_large_one_arrive_as_they_are() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    let folder = holder.share().join("photos");
    for n in 0..1_000 {
        let sub = folder.join(format!("day {}", n % 7));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("{n}.jpg")), bytes(n * 20)).unwrap();
    }
    fs::write(folder.join("film.mkv"), bytes(5 << 20)).unwrap();
    offer_folder(&mut holder, "photos").await;
    let wanted = Wanted { kind: FileKind::Folder, ..wanted("photos") };
    Plan { wanted, ..Plan::new(id(1), "photos") }.begin(&mut holder, &mut asker, |_| {}).await;
    let ends = ends(&mut holder, &mut asker).await;
    assert!(matches!(ends.download.last(), Some(FilesEvent::Done { .. })), "{:?}", ends.download);
    assert_eq!(asker.downloaded(), ["photos"]);
    assert!(all_files(&asker.downloads().join("photos")) == all_files(&folder));
}

/// What a session needs the trees of is opened away from the lane: read where they were kept, or hashed again.
#[tokio::test]
async fn files_whose_trees_are_large_or_lost_arrive_as_they_are() {
    for lost in [false, true] {
        let (mut holder, mut asker) = (Place::new(None), Place::new(None));
        let folder = holder.share().join("films");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("long.mkv"), bytes(66 << 20)).unwrap();
        fs::write(folder.join("short.mkv"), bytes(3 << 20)).unwrap();
        offer_folder(&mut holder, "films").await;
        let wanted = Wanted { kind: FileKind::Folder, ..wanted("films") };
        let trees = holder.dir.path().join("data/outboards");
        let forget = |_: &mut _| {
            if lost {
                fs::remove_dir_all(&trees).unwrap();
            }
        };
        Plan { wanted, ..Plan::new(id(1), "films") }.begin(&mut holder, &mut asker, forget).await;
        let ends = ends(&mut holder, &mut asker).await;
        assert!(matches!(ends.download.last(), Some(FilesEvent::Done { .. })), "{lost}: {:?}", ends.download);
        assert!(matches!(ends.upload.last(), Some(FilesEvent::Done { .. })), "{lost}: {:?}", ends.upload);
        assert!(all_files(&asker.downloads().join("films")) == all_files(&folder));
        assert!(trees.exists(), "they are kept again");
    }
}

#[tokio::test]
async fn an_offered_folder_leaves_links_out_and_names_them() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    let folder = holder.dir.path().join("trip");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), "a").unwrap();
    symlink("/etc/passwd", folder.join("link")).unwrap();
    symlink(holder.dir.path().join("trip"), holder.dir.path().join("elsewhere")).unwrap();
    let prepare = |offer, path| FilesCommand::PrepareOffer { offer: id(offer), path, rules: Rules::default() };
    holder.command(prepare(7, folder.clone())).await;
    let FilesEvent::OfferReady { result: Ok(ready), .. } = holder.next().await else { panic!() };
    assert_eq!((ready.name.as_str(), ready.kind, ready.size, ready.entries), ("trip", FileKind::Folder, 1, 1));
    assert_eq!((ready.skipped.paths, ready.skipped.count), (vec!["link".to_owned()], 1));
    for (bad, why) in [("elsewhere", OfferRefusal::Unfit), ("nothing", OfferRefusal::NotFound)] {
        holder.command(prepare(8, holder.dir.path().join(bad))).await;
        let FilesEvent::OfferReady { result, .. } = holder.next().await else { panic!() };
        assert_eq!(result.unwrap_err(), why);
    }
    let wanted = Wanted { kind: FileKind::Folder, offer: Some(id(7)), root: Some(ready.root), ..wanted("trip") };
    Plan { wanted, ..Plan::new(id(1), "trip") }.begin(&mut holder, &mut asker, |_| {}).await;
    let ends = ends(&mut holder, &mut asker).await;
    assert!(matches!(ends.download.last(), Some(FilesEvent::Done { .. })), "{:?}", ends.download);
    assert_eq!(all_files(&asker.downloads().join("trip")), [("a".to_owned(), b"a".to_vec())]);
}

#[tokio::test]
async fn a_folder_that_is_not_as_much_as_was_offered_is_not_taken() {
    let mut holder = Place::new(None);
    let folder = holder.share().join("photos");
    for n in 0..20 {
        fs::create_dir_all(folder.join(n.to_string())).unwrap();
        fs::write(folder.join(n.to_string()).join("a"), "12345").unwrap();
    }
    offer_folder(&mut holder, "photos").await;
    for (n, (size, entries, taken)) in [(0, 20, false), (100, 1, false), (100, 20, true)].into_iter().enumerate() {
        let mut asker = Place::new(None);
        let wanted = Wanted { kind: FileKind::Folder, ..wanted("photos") };
        let offered = Some(Offered { size, entries });
        let plan = Plan { wanted, offered, ..Plan::new(id(n as u8), "photos") };
        plan.begin(&mut holder, &mut asker, |_| {}).await;
        let ends = ends(&mut holder, &mut asker).await;
        match ends.download.last() {
            Some(FilesEvent::Done { .. }) if taken => assert_eq!(asker.downloaded(), ["photos"]),
            Some(FilesEvent::Failed { reason, .. }) if !taken => {
                assert_eq!(reason, "verification");
                assert!(asker.downloaded().is_empty(), "{:?}", asker.downloaded());
            }
            other => panic!("{size} {entries}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_file_of_a_folder_that_changes_on_its_way_is_named_to_both() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    let folder = holder.share().join("photos");
    fs::create_dir_all(folder.join("day 1")).unwrap();
    fs::write(folder.join("a.mkv"), bytes(64 << 20)).unwrap();
    fs::write(folder.join("day 1/z.jpg"), bytes(100_000)).unwrap();
    offer_folder(&mut holder, "photos").await;
    let wanted = Wanted { kind: FileKind::Folder, ..wanted("photos") };
    Plan { wanted, ..Plan::new(id(1), "photos") }.begin(&mut holder, &mut asker, |_| {}).await;
    fs::write(folder.join("day 1/z.jpg"), bytes(90_000)).unwrap();
    let ends = ends(&mut holder, &mut asker).await;
    let Some(FilesEvent::Failed { reason, detail, .. }) = ends.upload.last() else { panic!("{:?}", ends.upload) };
    assert!(reason == "changed" && detail.contains("\"day 1/z.jpg\""), "{reason}: {detail}");
    let lost = ends.download.iter().find_map(|event| match event {
        FilesEvent::SourceLost { reason, detail, .. } => Some((*reason, detail.clone())),
        _ => None,
    });
    let Some((LostReason::Changed, detail)) = lost else { panic!("{:?}", ends.download) };
    assert!(detail.contains("\"day 1/z.jpg\""), "{detail}");
}
