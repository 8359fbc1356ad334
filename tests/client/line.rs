//! The line before a holder's slots, as both sides see it.

use crate::world::World;
use secchat::client::core::FileRules;
use secchat::client::effects::{FilesEvent, Input};
use secchat::client::event::Event;
use secchat::wire::id::TransferId;
use std::time::Duration;

/// Bob has one slot, and alice has it.
fn busy(names: &[&str]) -> World {
    let mut world = World::den(names);
    world.clients[1].files.insert("big".into(), vec![1; 3 << 20]);
    world.clients[1].files.insert("small".into(), vec![2; 1000]);
    world.say(1, "@me setmaxuploads 1");
    world.clients.iter_mut().for_each(|c| c.stall = true);
    world.say(0, "@bob getfile big");
    assert_eq!(world.clients[0].channels.len(), 1);
    world
}

fn places(world: &World, client: usize) -> Vec<(u32, Option<u64>)> {
    world.clients[client].pick(|e| match e {
        Event::Queued(t) => Some((t.place.unwrap(), t.estimate)),
        _ => None,
    })
}

fn upload_to(world: &World, who: &str) -> TransferId {
    let uploads = world.clients[1].channels.iter();
    *uploads.rev().find(|(_, (start, _))| start.peer.to_string() == format!("{who}@s1")).unwrap().0
}

fn ends(world: &mut World, transfer: TransferId) {
    world.news(1, FilesEvent::Done { transfer, bytes: 3 << 20, seconds: 1.0, path: None });
}

#[test]
fn those_behind_are_told_their_place_and_an_estimate_and_move_up() {
    let mut world = busy(&["alice", "bob", "carol", "dave"]);
    let first = upload_to(&world, "alice");
    let (bytes, total, rate) = (1 << 20, 3 << 20, 1 << 20);
    world.news(1, FilesEvent::Progress { transfer: first, bytes, total, rate, sources: 1 });
    world.say(2, "@bob getfile big");
    world.say(3, "@bob getfile big");
    assert_eq!((places(&world, 2), places(&world, 3)), (vec![(1, Some(2))], vec![(2, Some(5))]));
    ends(&mut world, first);
    assert_eq!((world.clients[2].channels.len(), world.clients[3].channels.len()), (1, 0));
    assert_eq!(places(&world, 3).last().map(|(place, _)| *place), Some(1));
    // Both wait and neither is given up, however long it takes.
    let second = upload_to(&world, "carol");
    for n in 1..=100 {
        progress(&mut world, &[second], n << 20);
        world.pass(Duration::from_secs(10));
    }
    assert!(world.clients[3].errors().is_empty(), "{:?}", world.clients[3].errors());
    ends(&mut world, second);
    assert_eq!(world.clients[3].channels.len(), 1);
}

#[test]
fn small_files_pass_and_a_word_lets_one_through() {
    let mut world = busy(&["alice", "bob", "carol", "dave"]);
    world.say(2, "@bob getfile small");
    assert_eq!(world.clients[2].channels.len(), 1);
    world.say(2, "@bob getfile big");
    world.say(3, "@bob getfile big");
    assert_eq!(places(&world, 3), [(2, None)]);
    let number = world.say(1, "@me grant dave");
    assert_eq!((world.clients[1].done[&number], world.clients[3].channels.len()), (0, 1));
    assert_eq!(world.clients[2].channels.len(), 1);
}

#[test]
fn who_does_not_want_to_wait_hears_busy() {
    let mut world = busy(&["alice", "bob"]);
    world.rules = FileRules { wait: false, ..FileRules::default() };
    let carol = world.join_mesh("carol");
    let number = world.say(carol, "@bob getfile big");
    assert_eq!((world.clients[carol].errors(), world.clients[carol].done[&number]), (vec!["busy".to_owned()], 6));
}

#[test]
fn who_gives_up_leaves_the_line() {
    let mut world = busy(&["alice", "bob", "carol", "dave"]);
    let number = world.say(2, "@bob getfile big");
    world.say(3, "@bob getfile big");
    let ids = world.clients[2].pick(|e| match e {
        Event::Queued(t) => Some(t.id.clone()),
        _ => None,
    });
    world.say(2, &format!("@me cancel {}", ids[0]));
    assert_eq!(world.clients[2].done[&number], 1);
    assert_eq!(places(&world, 3).last(), Some(&(1, None)));
    let first = upload_to(&world, "alice");
    ends(&mut world, first);
    assert_eq!((world.clients[2].channels.len(), world.clients[3].channels.len()), (0, 1));
}

#[test]
fn one_who_asks_twice_does_not_hold_two_slots_while_others_wait() {
    let mut world = busy(&["alice", "bob", "carol"]);
    world.say(1, "@me setmaxuploads 2");
    world.say(0, "@bob getfile big");
    assert_eq!(world.clients[0].channels.len(), 2, "nobody else wanted it");
    world.say(0, "@bob getfile big");
    world.say(2, "@bob getfile big");
    let first = upload_to(&world, "alice");
    ends(&mut world, first);
    assert_eq!((world.clients[0].channels.len(), world.clients[2].channels.len()), (2, 1));
}

#[test]
fn the_asker_sees_how_far_the_hash_is() {
    let mut world = World::den(&["alice", "bob"]);
    world.clients[1].files.insert("big".into(), vec![1; 3 << 20]);
    world.clients[1].hashing = true;
    let number = world.say(0, "@bob getfile big");
    for client in [0, 1] {
        let hashed = world.clients[client].pick(|e| match e {
            Event::Hashing(t) => Some((t.direction.clone(), t.bytes, t.size)),
            _ => None,
        });
        assert_eq!(hashed, [(["download", "upload"][client].to_owned(), Some(1), Some(1000))]);
    }
    let started = world.clients[1].pick(|e| match e {
        Event::Hashing(t) => Some(t.id.parse::<TransferId>().unwrap()),
        _ => None,
    });
    // As long as it goes on the asker does not give up.
    for n in 2..10 {
        world.pass(Duration::from_secs(50));
        let event = FilesEvent::Hashing { transfer: started[0], bytes: n, total: 1000 };
        world.feed(1, Input::Files(event));
        world.run();
    }
    assert!(!world.clients[0].done.contains_key(&number));
    world.pass(Duration::from_secs(61));
    assert_eq!(world.clients[0].errors(), ["timeout"]);
}

/// Bob has two slots; nothing arrives by itself. What alice has asked him for, in order.
fn slots(names: &[&str], lines: &[&str]) -> (World, Vec<TransferId>) {
    let mut world = busy(names);
    world.say(1, "@me setmaxuploads 2");
    let mut uploads = vec![upload_to(&world, "alice")];
    for line in lines {
        world.say(0, line);
        uploads.extend(world.clients[1].channels.keys().find(|id| !uploads.contains(id)).copied());
    }
    (world, uploads)
}

fn progress(world: &mut World, uploads: &[TransferId], bytes: u64) {
    for transfer in uploads {
        let event = FilesEvent::Progress { transfer: *transfer, bytes, total: 3 << 20, rate: 20_000, sources: 1 };
        world.news(1, event);
    }
}

fn given_up(world: &World) -> Vec<TransferId> {
    world.clients[1].ended.iter().filter(|(_, keep)| *keep).map(|(id, _)| *id).collect()
}

#[test]
fn a_second_slot_goes_to_who_has_none_after_a_minute() {
    let (mut world, uploads) = slots(&["alice", "bob", "carol"], &["@bob getfile big"]);
    assert_eq!(uploads.len(), 2);
    world.say(2, "@bob getfile big");
    for n in 1..=7 {
        progress(&mut world, &uploads, n * 200_000);
        if n < 6 {
            assert_eq!((world.clients[2].channels.len(), given_up(&world).len()), (0, 0), "{n}");
        }
        world.pass(Duration::from_secs(10));
    }
    assert_eq!((world.clients[2].channels.len(), given_up(&world).len()), (1, 1));
    // The one that is left is as good as carol's.
    for n in 8..=20 {
        progress(&mut world, &uploads, n * 200_000);
        world.pass(Duration::from_secs(10));
    }
    assert_eq!(given_up(&world).len(), 1);
}

#[test]
fn a_trickle_keeps_no_slot_while_others_wait() {
    let (mut world, uploads) = slots(&["alice", "bob", "carol"], &[]);
    world.say(1, "@me setmaxuploads 1");
    for n in 1..=20 {
        progress(&mut world, &uploads, n * 1_000);
        world.pass(Duration::from_secs(10));
    }
    assert!(given_up(&world).is_empty(), "nobody else wants it");
    world.say(2, "@bob getfile big");
    world.pass(Duration::from_secs(61));
    assert_eq!((world.clients[2].channels.len(), given_up(&world)), (1, uploads));
}

#[test]
fn who_takes_nothing_keeps_the_small_slot_from_nobody() {
    let mut world = busy(&["alice", "bob", "carol", "dave"]);
    let alice = upload_to(&world, "alice");
    world.say(2, "@bob getfile small");
    world.say(3, "@bob getfile small");
    let carol = upload_to(&world, "carol");
    for n in 1..=7 {
        assert_eq!((world.clients[3].channels.len(), given_up(&world)), (0, vec![]), "{n}");
        progress(&mut world, &[alice], n * 200_000);
        world.pass(Duration::from_secs(9));
    }
    assert_eq!((world.clients[3].channels.len(), given_up(&world)), (1, vec![carol]));
}

#[test]
fn who_would_not_wait_gets_a_slot_of_which_nothing_comes() {
    let mut world = busy(&["alice", "bob"]);
    let alice = upload_to(&world, "alice");
    world.rules = FileRules { wait: false, ..FileRules::default() };
    let carol = world.join_mesh("carol");
    // However much it took before.
    progress(&mut world, &[alice], 3 << 20);
    for seconds in [1, 30, 28] {
        world.pass(Duration::from_secs(seconds));
        world.say(carol, "@bob getfile big");
        assert_eq!((world.clients[carol].channels.len(), given_up(&world)), (0, vec![]));
    }
    assert!(places(&world, carol).is_empty() && world.clients[carol].errors().iter().all(|code| code == "busy"));
    // Nor do others of the same peer's, who would wait, come first.
    world.say(0, "@bob getfile big");
    world.pass(Duration::from_secs(2));
    world.say(carol, "@bob getfile big");
    assert_eq!((world.clients[carol].channels.len(), given_up(&world)), (1, vec![alice]));
}

#[test]
fn what_an_upload_did_long_ago_counts_for_no_estimate() {
    let mut world = busy(&["alice", "bob", "carol", "dave"]);
    let first = upload_to(&world, "alice");
    let (bytes, total, rate) = (1 << 20, 3 << 20, 1 << 20);
    world.news(1, FilesEvent::Progress { transfer: first, bytes, total, rate, sources: 1 });
    world.pass(Duration::from_secs(32));
    world.say(2, "@bob getfile big");
    assert_eq!(places(&world, 2), [(1, Some(64))]);
}

#[test]
fn the_holder_hears_of_each_who_waits_once_and_rows_say_who_waits_where() {
    let mut world = busy(&["alice", "bob", "carol", "dave"]);
    for who in [2, 2, 3] {
        world.say(who, "@bob getfile big");
    }
    let waiters = world.clients[1].pick(|e| match e {
        Event::Queued(t) => Some((t.direction.clone(), t.peer.clone(), t.place)),
        _ => None,
    });
    let waiter = |who: &str, place| ("upload".to_owned(), format!("{who}@s1"), Some(place));
    assert_eq!(waiters, [waiter("carol", 1), waiter("dave", 3)]);
    world.say(3, "@me transfers");
    let row = world.clients[3].pick(|e| match e {
        Event::TransferProgress(t) => Some((t.state.clone(), t.place)),
        _ => None,
    });
    assert_eq!(row, [(Some("queued".to_owned()), Some(3))]);
}

#[test]
fn a_transfer_is_cancelled_by_its_files_name_if_that_is_clear() {
    let mut world = busy(&["alice", "bob", "carol"]);
    let first = world.say(2, "@bob getfile big");
    let second = world.say(2, "@bob getfile big");
    let number = world.say(2, "@me cancel big");
    assert_eq!((world.clients[2].done[&number], world.clients[2].done.contains_key(&first)), (5, false));
    let ids = world.clients[2].pick(|e| match e {
        Event::Queued(t) => Some(t.id.clone()),
        _ => None,
    });
    world.say(2, &format!("@me cancel {}", &ids[0][..8]));
    world.say(2, "@me cancel big");
    assert_eq!((world.clients[2].done[&first], world.clients[2].done[&second]), (1, 1));
    let number = world.say(2, "@me cancel big");
    assert_eq!(world.clients[2].done[&number], 5);
}

#[test]
fn a_word_for_nobody_is_an_error() {
    let mut world = busy(&["alice", "bob"]);
    let number = world.say(1, "@me grant nobody");
    assert_eq!((world.clients[1].errors(), world.clients[1].done[&number]), (vec!["not_found".to_owned()], 5));
}
