//! Rules on sharing, held against real files at both ends: what a file is counts, not what it is called.

use std::fs;
use std::time::Duration;

use secchat::client::effects::{FilesCommand, FilesEvent, ShareCommand, Wanted};
use secchat::crypto::identity::Identity;
use secchat::transfer::restrict::{Compiled, Maker, Rules, Used, check, parse};
use secchat::wire::name::Name;
use secchat::wire::payload::FileKind;
use secchat::wire::sharing::{Rule, Scope};

use crate::place::{Place, Plan, bytes, ends, id, person, until_end, wanted};

fn rules(flags: &str) -> Rules {
    let limits = check(&parse(flags).unwrap().limits).unwrap();
    let rule = Rule { id: 3, scope: Scope::All, limits, reason: None };
    let maker = Maker::Server(Name::parse("s1").unwrap());
    let key = Identity::from_seed(&[1; 32]).public();
    Rules::among([Compiled::new(maker, rule).into()], &[], (person("bob"), key), &key, Used::default())
}

fn no_programs() -> Rules {
    rules("--deny-type application/x-executable --deny-type application/vnd.microsoft.portable-executable")
}

/// Programs as Linux and Windows know them, larger than what is looked at.
fn programs() -> [Vec<u8>; 2] {
    let begins = |magic: &[u8]| magic.iter().copied().chain(bytes(200_000)).collect();
    [begins(b"\x7fELF\x02\x01\x01\0"), begins(b"MZ\x90\0\x03\0\0\0")]
}

fn folder(name: &str) -> Wanted {
    Wanted { kind: FileKind::Folder, ..wanted(name) }
}

/// The reason and the words of the last event, if it is a failure.
fn failure(events: &[FilesEvent]) -> (String, String) {
    match events.last() {
        Some(FilesEvent::Failed { reason, detail, .. }) => (reason.clone(), detail.clone()),
        other => panic!("{other:?}"),
    }
}

async fn share_folder(holder: &mut Place, name: &str, files: &[(&str, &[u8])]) {
    for (path, bytes) in files {
        let path = holder.share().join(name).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    holder.command(FilesCommand::Share(ShareCommand::Set(format!("{name}/")))).await;
    assert!(matches!(holder.next().await, FilesEvent::Shares { .. }));
}

#[tokio::test]
async fn a_holder_does_not_send_a_program_under_another_name() {
    let mut holder = Place::new(None);
    for (n, program) in (1..).zip(programs()) {
        holder.offer("holiday.jpg", &program).await;
        let prepare = FilesCommand::PrepareUpload {
            transfer: id(n),
            peer: person("asker"),
            wanted: wanted("holiday.jpg"),
            rules: no_programs(),
        };
        holder.command(prepare).await;
        let FilesEvent::Restricted { transfer, detail } = holder.next().await else { panic!() };
        assert_eq!(transfer, id(n));
        assert!(detail.starts_with("rule 3 of the server s1: holiday.jpg is application/"), "{detail}");
        let path = holder.share().join("holiday.jpg");
        holder.command(FilesCommand::PrepareOffer { offer: id(9), path, rules: no_programs() }).await;
        assert!(matches!(holder.next().await, FilesEvent::Restricted { .. }));
    }
}

#[tokio::test]
async fn a_holder_looks_at_each_file_of_a_folder() {
    let mut holder = Place::new(None);
    let [elf, _] = programs();
    share_folder(&mut holder, "trip", &[("a.jpg", b"plain"), ("day 1/b.jpg", &elf)]).await;
    for (n, (rules, what)) in (1..).zip([
        (no_programs(), "day 1/b.jpg is application/x-executable"),
        (rules("--deny-name b.*"), "b.jpg: names like b.*"),
        (rules("--max-size 100"), "at most 100 are shared"),
        (rules("--files-a-day 1"), "at most 1 files a day"),
    ]) {
        let (peer, wanted) = (person("asker"), folder("trip"));
        holder.command(FilesCommand::PrepareUpload { transfer: id(n), peer, wanted, rules }).await;
        let FilesEvent::Restricted { detail, .. } = holder.next().await else { panic!() };
        assert!(detail.contains(what), "{detail}");
    }
}

#[tokio::test]
async fn a_receiver_takes_no_program_from_a_sender_without_rules_and_keeps_nothing_of_it() {
    let mut holder = Place::new(None);
    for (n, program) in (1..).zip(programs()) {
        let mut asker = Place::new(None);
        holder.offer("holiday.jpg", &program).await;
        let plan = Plan { rules: no_programs(), ..Plan::new(id(n), "holiday.jpg") };
        plan.begin(&mut holder, &mut asker, |_| {}).await;
        let ends = ends(&mut holder, &mut asker).await;
        let (reason, detail) = failure(&ends.download);
        assert!(reason == "restricted" && detail.contains("holiday.jpg is application/"), "{reason} {detail}");
        assert_eq!(failure(&ends.upload), (reason, detail), "the sender hears it too");
        assert!(asker.downloaded().is_empty(), "{:?}", asker.downloaded());
    }
}

#[tokio::test]
async fn a_receiver_takes_no_folder_with_a_file_in_it_that_a_rule_is_against() {
    let mut holder = Place::new(None);
    let [elf, _] = programs();
    share_folder(&mut holder, "trip", &[("a.jpg", b"plain"), ("day 1/b.jpg", &elf)]).await;
    let root = blake3::hash(&elf).to_hex();
    for (n, rules) in (1..).zip([
        no_programs(),
        rules("--deny-name b.*"),
        rules("--deny-name day*"),
        rules("--max-size 100"),
        rules(&format!("--deny-root {root}")),
        rules("--files-a-day 1"),
        rules("--bytes-a-day 1000"),
    ]) {
        let mut asker = Place::new(None);
        let plan = Plan { wanted: folder("trip"), rules, ..Plan::new(id(n), "trip") };
        plan.begin(&mut holder, &mut asker, |_| {}).await;
        let ends = ends(&mut holder, &mut asker).await;
        assert_eq!(failure(&ends.download).0, "restricted", "{n}");
        assert_eq!(failure(&ends.upload), failure(&ends.download), "{n}");
        assert!(asker.downloaded().is_empty(), "{:?}", asker.downloaded());
    }
}

#[tokio::test]
async fn what_was_left_from_a_time_without_the_rule_is_looked_at_before_it_gets_its_name() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    let mut elf = programs()[0].clone();
    elf.extend(bytes(40 << 20));
    holder.offer("holiday.jpg", &elf).await;
    holder.command(FilesCommand::Rates { up: Some(2 << 20), down: None }).await;
    Plan::new(id(1), "holiday.jpg").begin(&mut holder, &mut asker, |_| {}).await;
    loop {
        match asker.files.next().await.unwrap() {
            FilesEvent::Progress { bytes, .. } if bytes > 1 << 20 => break,
            FilesEvent::Progress { .. } | FilesEvent::Started { .. } | FilesEvent::Hashing { .. } => {}
            event => panic!("{event:?}"),
        }
    }
    let download = crate::place::download_of(id(1));
    asker.command(FilesCommand::Cancel { transfer: download, reason: "later".into(), keep: true }).await;
    until_end(&mut asker).await;
    until_end(&mut holder).await;
    assert_eq!(asker.downloaded().len(), 1, "a part is kept");
    let plan = Plan { rules: no_programs(), ..Plan::new(id(2), "holiday.jpg") };
    plan.begin(&mut holder, &mut asker, |_| {}).await;
    let (reason, detail) = failure(&until_end(&mut asker).await);
    assert!(reason == "restricted" && detail.contains("x-executable"), "{reason} {detail}");
    assert!(asker.downloaded().is_empty(), "{:?}", asker.downloaded());
}

#[tokio::test]
async fn a_search_shows_no_program_under_another_name() {
    let mut holder = Place::new(None);
    holder.offer("holiday.jpg", &programs()[0]).await;
    holder.offer("letter.jpg", b"dear all").await;
    let (search, asker, room) = (id(1), person("ann"), id(50));
    let (pattern, within, rules) = ("*".into(), Duration::ZERO, no_programs());
    holder.command(FilesCommand::Search { search, asker, room, pattern, within, rules }).await;
    let FilesEvent::Found { rows, more, .. } = holder.next().await else { panic!() };
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!((names, more), (vec!["letter.jpg"], 0));
}

#[tokio::test]
async fn what_fits_comes_whole_with_its_empty_files() {
    let (mut holder, mut asker) = (Place::new(None), Place::new(None));
    let text = "words ".repeat(30_000);
    share_folder(&mut holder, "trip", &[("a.txt", text.as_bytes()), ("b/empty", b"")]).await;
    let (allowed, peer) = (rules("--allow-type text/plain --files-a-day 2 --max-size 1M"), person("asker"));
    let prepare = FilesCommand::PrepareUpload { transfer: id(9), peer, wanted: folder("trip"), rules: allowed.clone() };
    holder.command(prepare).await;
    assert!(matches!(holder.next().await, FilesEvent::UploadReady { result: Ok(ready), .. } if ready.entries == 2));
    let plan = Plan { wanted: folder("trip"), rules: allowed, ..Plan::new(id(1), "trip") };
    plan.begin(&mut holder, &mut asker, |_| {}).await;
    let ends = ends(&mut holder, &mut asker).await;
    assert!(matches!(ends.download.last(), Some(FilesEvent::Done { .. })), "{:?}", ends.download);
    let listed = ends
        .download
        .iter()
        .any(|event| matches!(event, FilesEvent::Listed { entries: 2, bytes, .. } if *bytes == text.len() as u64));
    assert!(listed, "{:?}", ends.download);
    assert_eq!(asker.downloaded(), ["trip"]);
}
