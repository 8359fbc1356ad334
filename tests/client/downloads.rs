//! One file from several holders: who is asked, who is asked again, and what the user is told meanwhile.

use crate::world::{World, root_of};
use secchat::client::effects::{FilesEvent, LostReason};
use secchat::client::event::{Event, Transfer};
use secchat::wire::id::TransferId;
use secchat::wire::payload::FileRefusal;
use std::time::Duration;

/// Large enough to be worth many sources.
fn big() -> Vec<u8> {
    vec![7; 9 << 20]
}

/// Alice asks for what all the others have; nothing arrives by itself.
fn asking(holders: usize) -> (World, u64) {
    let names = ["alice", "bob", "carol", "dave", "eve", "frank", "grace", "heidi", "ivan", "judy"];
    let mut world = World::den(&names[..=holders]);
    for holder in 1..=holders {
        world.clients[holder].files.insert("big.iso".into(), big());
    }
    world.clients[0].stall = true;
    let number = world.say(0, "@any getfile big.iso");
    (world, number)
}

/// The sessions at alice with this person, the newest last.
fn with(world: &World, who: &str) -> Vec<TransferId> {
    let theirs =
        world.clients[0].channels.iter().filter(|(_, (start, _))| start.peer.to_string() == format!("{who}@s1"));
    theirs.map(|(id, _)| *id).collect()
}

fn download(world: &World) -> TransferId {
    *world.clients[0].downloads.values().next().unwrap()
}

fn lose(world: &mut World, transfer: TransferId, reason: LostReason) {
    let download = download(world);
    let detail = "for a reason".to_owned();
    world.news(0, FilesEvent::SourceLost { download, transfer, reason, detail });
}

fn lost(world: &World) -> Vec<(String, String)> {
    world.clients[0].pick(|e| match e {
        Event::SourceLost(t) => Some((t.peer.clone(), t.reason.clone().unwrap())),
        _ => None,
    })
}

fn progress(world: &mut World, bytes: u64) {
    let (transfer, total) = (download(world), 9 << 20);
    world.news(0, FilesEvent::Progress { transfer, bytes, total, rate: 1000, sources: 1 });
}

#[test]
fn all_who_have_the_same_content_deliver_at_once_up_to_eight() {
    let (world, _) = asking(9);
    assert_eq!(world.clients[0].channels.len(), 8);
    let of = download(&world);
    assert!(world.clients[0].downloads.values().all(|download| *download == of));
    let started = world.clients[0].pick(|e| matches!(e, Event::TransferStarted(_)).then_some(()));
    let added = world.clients[0].pick(|e| matches!(e, Event::SourceAdded(_)).then_some(()));
    assert_eq!((started.len(), added.len()), (1, 7));
    let (start, _) = world.clients[0].channels.values().next().unwrap();
    assert_eq!((start.window, start.max_datagram), (Some(32), 1452), "the smaller of both sides");
}

#[test]
fn who_gets_the_file_while_it_comes_delivers_too() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.clients[1].files.insert("big.iso".into(), big());
    world.clients[0].stall = true;
    world.say(0, "@any getfile big.iso");
    world.pass(Duration::from_secs(10));
    assert_eq!((with(&world, "bob").len(), with(&world, "carol").len()), (1, 0));
    world.clients[2].files.insert("big.iso".into(), big());
    world.pass(Duration::from_secs(30));
    assert_eq!((with(&world, "bob").len(), with(&world, "carol").len()), (1, 1));
}

#[test]
fn where_all_are_busy_one_stands_in_every_line() {
    let names = ["alice", "bob", "carol", "dave", "eve"];
    let mut world = World::den(&names);
    for holder in [1, 2] {
        world.clients[holder].files.insert("big.iso".into(), big());
        world.say(holder, "@me setmaxuploads 1");
    }
    world.clients.iter_mut().for_each(|c| c.stall = true);
    world.say(3, "@bob getfile big.iso");
    world.say(4, "@carol getfile big.iso");
    world.say(0, "@any getfile big.iso");
    world.pass(Duration::from_secs(3));
    let lines = world.clients[0].pick(|e| match e {
        Event::Queued(t) => Some(t.peer.clone()),
        _ => None,
    });
    assert_eq!(lines, ["bob@s1", "carol@s1"]);
    let upload = *world.clients[2].channels.keys().next().unwrap();
    world.news(2, FilesEvent::Done { transfer: upload, bytes: 9 << 20, seconds: 1.0, path: None });
    assert_eq!(with(&world, "carol").len(), 1);
}

#[test]
fn another_content_under_the_same_name_is_never_mixed_in() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.clients[1].files.insert("big.iso".into(), big());
    world.clients[2].files.insert("big.iso".into(), vec![8; 9 << 20]);
    world.clients[0].stall = true;
    world.say(0, "@any getfile big.iso");
    world.pass(Duration::from_secs(3));
    let roots: Vec<_> = world.clients[0].channels.values().map(|(start, _)| start.root).collect();
    assert_eq!(roots, [root_of(&big())]);
}

#[test]
fn a_liar_is_named_and_never_asked_again_and_the_next_one_takes_its_place() {
    let (mut world, number) = asking(9);
    let (bob, absent) = (with(&world, "bob"), if with(&world, "judy").is_empty() { "judy" } else { "ivan" });
    assert!(with(&world, absent).is_empty());
    lose(&mut world, bob[0], LostReason::Lied);
    assert_eq!(lost(&world), [("bob@s1".to_owned(), "lied".to_owned())]);
    assert_eq!(with(&world, absent).len(), 1);
    world.pass(Duration::from_secs(300));
    assert_eq!(with(&world, "bob"), bob);
    let transfer = download(&world);
    world.news(0, FilesEvent::Done { transfer, bytes: 9 << 20, seconds: 1.0, path: None });
    assert_eq!(world.clients[0].done[&number], 0);
}

#[test]
fn whoever_stops_it_is_not_asked_again() {
    let (mut world, number) = asking(2);
    progress(&mut world, 1 << 20);
    let bob = with(&world, "bob");
    lose(&mut world, bob[0], LostReason::Cancelled);
    world.pass(Duration::from_secs(300));
    assert_eq!((with(&world, "bob"), lost(&world)), (bob, vec![("bob@s1".to_owned(), "cancelled".to_owned())]));
    assert!(!world.clients[0].done.contains_key(&number));
    let mut alone = World::den(&["alice", "bob"]);
    alone.clients[1].files.insert("big.iso".into(), big());
    alone.clients[0].stall = true;
    let number = alone.say(0, "@bob getfile big.iso");
    progress(&mut alone, 1 << 20);
    let bob = with(&alone, "bob")[0];
    lose(&mut alone, bob, LostReason::Cancelled);
    assert_eq!((alone.clients[0].errors(), alone.clients[0].done[&number]), (vec!["cancelled".to_owned()], 1));
}

#[test]
fn the_only_holder_that_lies_ends_it_with_its_name() {
    let (mut world, number) = asking(1);
    let bob = with(&world, "bob")[0];
    lose(&mut world, bob, LostReason::Lied);
    let download = download(&world);
    world.news(0, FilesEvent::Starved { download });
    world.pass(Duration::from_secs(3));
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["verification".to_owned()], 7));
    assert!(world.clients[0].ended.contains(&(download, true)), "what has come is kept");
}

#[test]
fn whoever_is_lost_is_asked_again_with_fresh_keys() {
    let (mut world, number) = asking(1);
    progress(&mut world, 1 << 20);
    let first = with(&world, "bob");
    lose(&mut world, first[0], LostReason::Left);
    world.pass(Duration::from_secs(1));
    let both = with(&world, "bob");
    assert_eq!(both.len(), 2);
    let keys: Vec<_> = both.iter().map(|id| *world.clients[0].channels[id].0.send).collect();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(world.clients[0].downloads[&both[0]], world.clients[0].downloads[&both[1]]);
    assert!(!world.clients[0].done.contains_key(&number));
}

#[test]
fn a_download_outlives_sessions_that_end_because_it_had_nothing_to_ask_for() {
    let (mut world, number) = asking(1);
    let mut ended = Vec::new();
    for n in 0..20 {
        let theirs: Vec<_> = with(&world, "bob").into_iter().filter(|id| !ended.contains(id)).collect();
        assert_eq!((theirs.len(), world.clients[0].done.contains_key(&number)), (1, false), "{n}");
        world.pass(Duration::from_secs(120));
        lose(&mut world, theirs[0], if n % 2 == 0 { LostReason::Stalled } else { LostReason::Left });
        let (download, transfer) = (download(&world), theirs[0]);
        world.news(0, FilesEvent::Starved { download });
        let (reason, detail) = ("timeout".to_owned(), "the transfer stands still".to_owned());
        world.news(1, FilesEvent::Failed { transfer, reason, detail });
        ended.push(transfer);
        world.pass(Duration::from_secs(65));
    }
}

#[test]
fn a_path_that_takes_less_leads_to_a_new_agreement_at_once() {
    let (mut world, _) = asking(1);
    let bob = with(&world, "bob")[0];
    lose(&mut world, bob, LostReason::PathShrunk);
    assert_eq!(with(&world, "bob").len(), 2);
}

#[test]
fn a_holder_that_restarts_is_found_again() {
    for line in ["@bob getfile big.iso", "@any getfile big.iso"] {
        let mut world = World::den(&["alice", "bob"]);
        world.clients[1].files.insert("big.iso".into(), big());
        world.clients[0].stall = true;
        let number = world.say(0, line);
        progress(&mut world, 5);
        let bob = with(&world, "bob")[0];
        world.cut(1);
        lose(&mut world, bob, LostReason::Left);
        let starved = download(&world);
        world.news(0, FilesEvent::Starved { download: starved });
        world.pass(Duration::from_secs(90));
        let waiting = world.clients[0].pick(|e| match e {
            Event::TransferWaiting(Transfer { detail, bytes, .. }) => Some((detail.clone().unwrap(), *bytes)),
            _ => None,
        });
        assert!(waiting.len() > 1, "{waiting:?}");
        assert!(waiting.iter().all(|(detail, bytes)| detail.contains("waiting for") && *bytes == Some(5)));
        world.restart_client(1);
        world.enter(1);
        world.pass(Duration::from_secs(120));
        assert!(with(&world, "bob").len() >= 2, "{line}");
        assert!(!world.clients[0].done.contains_key(&number));
        let transfer = download(&world);
        world.news(0, FilesEvent::Done { transfer, bytes: 9 << 20, seconds: 1.0, path: None });
        assert_eq!(world.clients[0].done[&number], 0);
    }
}

#[test]
fn a_holder_that_is_seen_to_restart_is_asked_again_at_once_and_its_uploads_end() {
    let (mut world, _) = asking(2);
    progress(&mut world, 5);
    world.pass(Duration::from_secs(20));
    let bob = with(&world, "bob");
    world.clear();
    world.restart_client(1);
    world.enter(1);
    assert_eq!(with(&world, "bob").len(), 2, "no timeout had to pass");
    assert!(world.clients[0].ended.contains(&(bob[0], true)));
    // In the other direction: carol no longer sends to what alice was.
    let carol = with(&world, "carol")[0];
    world.restart_client(0);
    world.enter(0);
    assert!(world.clients[2].ended.iter().any(|(id, _)| *id == carol));
}

#[test]
fn each_of_two_restarts_in_a_row_is_seen() {
    let (mut world, _) = asking(1);
    progress(&mut world, 5);
    for restarts in 1..=3 {
        world.restart_client(1);
        world.enter(1);
        assert_eq!(with(&world, "bob").len(), 1 + restarts, "no timeout had to pass");
        progress(&mut world, 5 + restarts as u64);
    }
}

#[test]
fn when_nobody_comes_back_it_says_so_and_keeps_what_has_come() {
    let (mut world, number) = asking(1);
    progress(&mut world, 1 << 20);
    let bob = with(&world, "bob")[0];
    world.cut(1);
    lose(&mut world, bob, LostReason::Left);
    world.pass(Duration::from_secs(599));
    assert!(!world.clients[0].done.contains_key(&number));
    world.pass(Duration::from_secs(200));
    let hint = world.clients[0].pick(|e| match e {
        Event::Error { hint, .. } => hint.clone(),
        _ => None,
    });
    assert!(hint.iter().any(|hint| hint.contains("the same getfile again")), "{hint:?}");
    assert_eq!(world.clients[0].done[&number], 1);
    let ended: Vec<_> = world.clients[0].ended.iter().filter(|(id, _)| *id == download(&world)).collect();
    assert_eq!(ended, [&(download(&world), true)]);
}

#[test]
fn what_never_began_is_not_waited_for() {
    let (mut world, number) = asking(1);
    world.clear();
    let mut fresh = World::den(&["alice", "bob"]);
    fresh.clients[1].files.insert("x".into(), vec![1]);
    fresh.clients[1].refusal = Some(FileRefusal::Unreadable);
    let refused = fresh.say(0, "@bob getfile x");
    assert_eq!(fresh.clients[0].done[&refused], 6);
    // A user who gives up keeps nothing.
    let id = download(&world);
    world.say(0, &format!("@me cancel {id}"));
    assert!(world.clients[0].ended.contains(&(id, false)));
    assert_eq!(world.clients[0].done[&number], 1);
}

#[test]
fn a_folder_is_asked_for_by_its_slash() {
    let mut world = World::den(&["alice", "bob"]);
    world.clients[1].files.insert("photos/".into(), vec![1; 100]);
    let number = world.say(0, "@bob getfile photos");
    assert_eq!(world.clients[0].errors(), ["not_shared"], "that is no file");
    assert_eq!(world.clients[0].done[&number], 6);
    let number = world.say(0, "@any getfile photos/");
    assert_eq!(world.clients[0].done[&number], 0);
    let done = world.clients[0].pick(|e| match e {
        Event::TransferDone(t) => Some(t.file.clone()),
        _ => None,
    });
    assert_eq!(done, ["photos/"]);
}

/// Alice asks for what is not worth two sources; bob and carol have it, and nothing arrives by itself.
fn asking_for_little(prepare: impl Fn(&mut World)) -> (World, u64) {
    let mut world = World::den(&["alice", "bob", "carol"]);
    for holder in [1, 2] {
        world.clients[holder].files.insert("a.pdf".into(), vec![7; 1000]);
    }
    prepare(&mut world);
    world.clients.iter_mut().for_each(|c| c.stall = true);
    let number = world.say(0, "@any getfile a.pdf");
    (world, number)
}

#[test]
fn a_small_file_that_does_not_come_is_asked_of_another_too() {
    let (mut world, _) = asking_for_little(|_| {});
    assert_eq!((with(&world, "bob").len(), with(&world, "carol").len()), (1, 0));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.clients[0].channels.len(), 1, "it has a moment");
    world.pass(Duration::from_secs(2));
    assert_eq!((with(&world, "bob").len(), with(&world, "carol").len()), (1, 1));
    let downloads: std::collections::BTreeSet<_> = world.clients[0].downloads.values().collect();
    assert_eq!(downloads.len(), 1);
}

#[test]
fn who_hashes_without_end_does_not_hold_up_what_others_have() {
    let (mut world, _) = asking_for_little(|world| world.clients[1].hashing = true);
    assert_eq!(world.clients[0].channels.len(), 0);
    world.pass(Duration::from_secs(3));
    assert_eq!(with(&world, "carol").len(), 1);
}

#[test]
fn nobody_is_kept_waiting_for_more_than_half_an_hour() {
    let mut world = World::den(&["alice", "bob"]);
    world.clients[1].files.insert("big".into(), big());
    world.clients[1].hashing = true;
    let number = world.say(0, "@bob getfile big");
    let id = world.clients[1].pick(|e| match e {
        Event::Hashing(t) => Some(t.id.parse::<TransferId>().unwrap()),
        _ => None,
    })[0];
    for n in 0..36 {
        world.pass(Duration::from_secs(50));
        world.news(1, FilesEvent::Hashing { transfer: id, bytes: n, total: 1000 });
    }
    world.pass(Duration::from_secs(10));
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["timeout".to_owned()], 1));
}

#[test]
fn of_what_has_changed_nobody_is_promised_that_it_goes_on() {
    let hint = |reason| {
        let mut world = World::den(&["alice", "bob"]);
        world.clients[1].files.insert("big.iso".into(), big());
        world.clients[0].stall = true;
        world.say(0, "@bob getfile big.iso");
        progress(&mut world, 1 << 20);
        let bob = with(&world, "bob")[0];
        lose(&mut world, bob, reason);
        let hints = world.clients[0].pick(|e| match e {
            Event::Error { hint, .. } => hint.clone(),
            _ => None,
        });
        hints.concat()
    };
    assert!(hint(LostReason::Cancelled).contains("goes on from there"));
    assert!(hint(LostReason::Changed).contains("from its beginning"));
}

#[test]
fn by_which_way_a_file_goes_is_told_and_counted_and_a_ping_says_it_again() {
    let (mut world, _) = asking(1);
    let (session, ways) = (with(&world, "bob")[0], |world: &World| world.clients[0].last().cloned());
    let started = world.clients[0].pick(|e| match e {
        Event::TransferStarted(t) => Some((t.route.clone().unwrap(), t.way.clone().unwrap())),
        _ => None,
    });
    assert_eq!(started, [("192.0.2.9:9".to_owned(), "direct".to_owned())]);
    // It has to be given up, and goes over a server.
    world.news(0, FilesEvent::Rerouted { transfer: session, route: "relayed by s1".into() });
    world.say(0, "@bob ping");
    let Some(Event::Pong { files_way, files_route, .. }) = ways(&world) else { panic!("{:?}", ways(&world)) };
    assert_eq!((files_way.as_deref(), files_route.as_deref()), (Some("relayed"), Some("relayed by s1")));
    world.say(0, "@me stats");
    let Some(Event::Stats { ways, in_vain }) = ways(&world) else { panic!("{:?}", ways(&world)) };
    assert_eq!((ways.len(), ways[0].way.as_str(), ways[0].sessions, in_vain), (1, "direct", 1, 0));
}
