//! A server that lies: each act ends in a named event, and nothing forged is shown.

use crate::ghost::{ghost_commit, own_room};
use crate::world::{Mangler, World, line, password, server_identity};
use secchat::client::effects::{Input, Start};
use secchat::client::event::Event;
use secchat::wire::frame::{Code, Published, Push, Reply, ToClient};
use secchat::wire::id::{Id, RoomId};
use secchat::wire::log::{Row, RowKind};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

const ALICE: usize = 0;

/// Changes the message rows that go to alice; the log goes on from there with its numbers.
fn rows_to_alice(mut f: impl FnMut(RoomId, Row) -> Vec<Row> + 'static) -> Mangler {
    Box::new(move |client, frame| match frame {
        ToClient::Push(Push::Row { room, row }) if client == ALICE => {
            f(room, row).into_iter().map(|row| ToClient::Push(Push::Row { room, row })).collect()
        }
        other => vec![other],
    })
}

fn talk(world: &mut World, texts: &[&str]) {
    for text in texts {
        world.say(1, text);
    }
}

#[test]
fn a_changed_byte_shows_and_is_not_shown() {
    let mut world = World::den(&["alice", "bob"]);
    let mut count = 0;
    world.mangler = rows_to_alice(move |_, mut row| {
        count += 1;
        if count == 2 {
            let mut bytes = row.bytes.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            row.bytes = bytes.into();
        }
        vec![row]
    });
    talk(&mut world, &["one", "two", "three"]);
    assert_eq!(world.clients[0].heard(), [line("bob", "one"), line("bob", "three")]);
    assert_eq!(world.clients[0].integrity(), ["forged_sender", "gap", "diverged"]);
}

#[test]
fn a_repeated_row_shows_and_is_not_shown_again() {
    for renumbered in [false, true] {
        let mut world = World::den(&["alice", "bob"]);
        let mut shift = 0;
        world.mangler = rows_to_alice(move |_, mut row| {
            row.seq += shift;
            let again = Row { seq: row.seq + u64::from(renumbered), ..row.clone() };
            if renumbered {
                shift += 1;
            }
            vec![row, again]
        });
        talk(&mut world, &["one", "two", "three"]);
        assert_eq!(world.clients[0].heard(), ["one", "two", "three"].map(|text| line("bob", text)));
        let kinds = world.clients[0].integrity();
        assert_eq!(kinds.iter().filter(|k| *k == "replay").count(), 3, "{kinds:?}");
        assert_eq!(kinds.iter().any(|k| k == "diverged"), renumbered);
    }
}

#[test]
fn swapped_rows_show() {
    let mut world = World::den(&["alice", "bob"]);
    let mut kept: Option<Row> = None;
    world.mangler = rows_to_alice(move |_, row| match kept.take() {
        None => {
            kept = Some(row);
            Vec::new()
        }
        Some(first) => vec![Row { seq: first.seq, ..row.clone() }, Row { seq: row.seq, ..first }],
    });
    talk(&mut world, &["one", "two"]);
    assert_eq!(world.clients[0].heard(), [line("bob", "two")]);
    assert_eq!(world.clients[0].integrity(), ["gap", "diverged", "replay"]);
}

#[test]
fn a_dropped_row_shows_with_the_next_word() {
    let mut world = World::den(&["alice", "bob"]);
    let mut dropped = 0;
    world.mangler = rows_to_alice(move |_, mut row| {
        if dropped == 0 {
            dropped = 1;
            return Vec::new();
        }
        row.seq -= dropped;
        vec![row]
    });
    talk(&mut world, &["one", "two"]);
    assert_eq!(world.clients[0].heard(), [line("bob", "two")]);
    assert_eq!(world.clients[0].integrity(), ["gap", "diverged"]);
}

#[test]
fn a_hole_in_the_numbers_is_fetched_and_told() {
    let mut world = World::den(&["alice", "bob"]);
    let mut first = true;
    world.mangler = rows_to_alice(move |_, row| if std::mem::take(&mut first) { Vec::new() } else { vec![row] });
    talk(&mut world, &["one", "two", "three"]);
    let heard: Vec<_> = world.clients[0].heard().into_iter().map(|(_, text)| text).collect();
    assert_eq!(heard, ["one", "two", "three"]);
    assert_eq!(world.clients[0].integrity(), ["gap"]);
}

#[test]
fn a_log_that_never_comes_to_its_end_is_not_asked_for_ever() {
    for old_rows in [false, true] {
        let mut world = World::den(&["alice", "bob"]);
        let mut last: Option<Row> = None;
        world.mangler = Box::new(move |client, mut frame| {
            match &mut frame {
                ToClient::Push(Push::Row { row, .. }) if client == ALICE && last.take().is_none() => {
                    last = Some(row.clone());
                    return Vec::new();
                }
                ToClient::Reply { body: Reply::Log { rows, live }, .. } if client == ALICE => {
                    rows.iter_mut().for_each(|row| row.seq = if old_rows { 1 } else { row.seq + 1 });
                    *live = false;
                }
                _ => {}
            }
            vec![frame]
        });
        for _ in 0..8 {
            talk(&mut world, &["one", "two"]);
            assert!(matches!(world.clients[0].last(), Some(Event::Joined { .. })), "{:?}", world.clients[0].events);
        }
        talk(&mut world, &["one", "two"]);
        world.say(0, "is this still a room?");
        assert_eq!(world.clients[0].errors(), ["held"], "{:?}", world.clients[0].events);
        assert!(world.clients[0].heard().is_empty());
    }
}

#[test]
fn a_direct_conversation_that_cannot_be_followed_begins_anew() {
    let mut world = World::of(&["alice", "bob"]);
    world.say(0, "@bob hi");
    let mut broken = false;
    world.mangler = rows_to_alice(move |_, mut row| {
        if row.kind == RowKind::Commit && !std::mem::replace(&mut broken, true) {
            let mut bytes = row.bytes.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            row.bytes = bytes.into();
        }
        vec![row]
    });
    // Long enough for leaves to be renewed.
    world.pass(Duration::from_secs(30 * 3600));
    world.say(1, "@alice still there?");
    world.say(0, "@bob yes");
    assert_eq!(world.clients[0].integrity(), ["forged_sender"]);
    assert_eq!(world.clients[0].told(), [line("bob", "still there?")]);
    assert_eq!(world.clients[1].told(), [line("alice", "hi"), line("alice", "yes")]);
}

#[test]
fn a_word_of_another_room_shows() {
    let mut world = World::den(&["alice", "bob"]);
    world.say(0, "/create lab");
    world.say(1, "/join lab");
    let lab = Rc::new(RefCell::new(None));
    let seen = Rc::clone(&lab);
    world.mangler = Box::new(move |client, frame| match frame {
        ToClient::Push(Push::Row { room, row }) if client == ALICE => {
            let elsewhere = seen.borrow_mut().replace((room, row.seq));
            // The second room's row comes under the first room's id, with a number that fits there.
            let push = match elsewhere {
                Some((first, seq)) if first != room => Push::Row { room: first, row: Row { seq: seq + 1, ..row } },
                _ => Push::Row { room, row },
            };
            vec![ToClient::Push(push)]
        }
        other => vec![other],
    });
    world.say(1, "@#lab in the lab");
    world.say(1, "@#den in the den");
    assert_eq!(world.clients[0].heard(), [line("bob", "in the lab")]);
    assert_eq!(world.clients[0].integrity(), ["wrong_room"]);
}

#[test]
fn a_ghost_without_the_secret_does_not_get_in() {
    let mut world = World::den(&["alice", "bob"]);
    let (carol, published) = capture_state(&mut world);
    let (room, epoch_state) = published;
    let ghost = ghost_commit(&server_identity(), &epoch_state);
    world.mangler = Box::new(|_, frame| vec![frame]);
    // The present epoch is the one after carol's join; the ghost's commit is for the one that she was given.
    world.cut(carol);
    let seq = u64::MAX;
    let row = Row { seq, time_ms: 0, kind: RowKind::Commit, bytes: ghost.into(), reason: None };
    inject_before_join(&mut world, room, row);
    let c = &world.clients[0];
    assert_eq!(c.integrity(), ["unauthorised_commit"], "{:?}", c.events);
    assert!(!c.events.iter().any(|(_, e)| matches!(e, Event::MemberJoined { name, .. } if name.contains("ghost"))));
    world.clear();
    let number = world.say(0, "is this safe?");
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["held".to_owned()], 7));
    world.say(1, "who is there?");
    assert!(world.clients[0].heard().is_empty());
    world.say(0, "/leave");
    world.enter(0);
    world.say(1, "you again");
    assert_eq!(world.clients[0].heard(), [line("bob", "you again")]);
}

/// What the server gives a joiner, who then does not come through with it.
fn capture_state(world: &mut World) -> (usize, (RoomId, Published)) {
    let carol = world.join_mesh("carol");
    let seen = Rc::new(RefCell::new(None));
    let state = Rc::clone(&seen);
    world.mangler = Box::new(move |client, frame| {
        if client == carol
            && let ToClient::Reply { body: Reply::Entered { published, .. }, .. } = &frame
        {
            *state.borrow_mut() = Some(published.clone());
            return Vec::new();
        }
        vec![frame]
    });
    world.start(carol, Start::Join { room: "den".into(), password: Some(password()) });
    let published = seen.borrow_mut().take().unwrap();
    let room = room_id(world);
    (carol, (room, published))
}

fn room_id(world: &mut World) -> RoomId {
    let seen = Rc::new(RefCell::new(None));
    let id = Rc::clone(&seen);
    world.mangler = rows_to_alice(move |room, row| {
        *id.borrow_mut() = Some((room, row.seq));
        vec![row]
    });
    world.say(1, "-");
    world.clear();
    let (room, seq) = seen.borrow_mut().take().unwrap();
    LAST.set(seq);
    room
}

thread_local! {
    /// The last row that alice has.
    static LAST: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Pushes a row to alice as the next one.
fn inject_before_join(world: &mut World, room: RoomId, row: Row) {
    let row = Row { seq: LAST.get() + 1, ..row };
    world.feed(ALICE, Input::Frame(ToClient::Push(Push::Row { room, row })));
    world.run();
}

#[test]
fn a_room_of_the_servers_own_is_not_entered() {
    let mut world = World::den(&["alice", "bob"]);
    let victim = world.add("victim", Vec::new(), true);
    world.connect(victim);
    world.mangler = Box::new(move |client, mut frame| {
        if client == victim
            && let ToClient::Reply { body: Reply::Entered { published, .. }, .. } = &mut frame
        {
            *published = own_room(&server_identity(), published);
        }
        vec![frame]
    });
    world.start(victim, Start::Join { room: "den".into(), password: Some(password()) });
    let c = &world.clients[victim];
    assert_eq!((c.integrity(), c.exit), (vec!["bad_state".to_owned()], Some(7)), "{:?}", c.events);
}

#[test]
fn an_old_state_shows_as_soon_as_anybody_speaks() {
    let mut world = World::of(&["alice", "bob"]);
    world.start(0, Start::Create { room: "den".into(), private: true, password: Some(password()) });
    let old: Rc<RefCell<Option<Reply>>> = Rc::default();
    let (keep, lives) = (Rc::clone(&old), Rc::new(RefCell::new(Vec::new())));
    let rows = Rc::clone(&lives);
    let victim = 2;
    world.mangler = Box::new(move |client, mut frame| {
        match &mut frame {
            ToClient::Reply { body: body @ Reply::Entered { .. }, .. } if client == 1 => {
                *keep.borrow_mut() = Some(body.clone());
            }
            ToClient::Reply { body, .. } if client == victim => match body {
                Reply::Entered { lease, .. } => {
                    let now = *lease;
                    *body = keep.borrow().clone().unwrap();
                    if let Reply::Entered { lease, .. } = body {
                        *lease = now;
                    }
                }
                // The real server does not take such a commit; the liar says that it did.
                Reply::Refused(refusal) if refusal.code == Code::Stale => {
                    *body = Reply::Sequenced { seq: 1, time_ms: 0 };
                }
                _ => {}
            },
            ToClient::Push(Push::Row { room, row }) if client == 0 => rows.borrow_mut().push((*room, row.clone())),
            _ => {}
        }
        vec![frame]
    });
    world.enter(1);
    world.say(1, "before");
    world.join_mesh("victim");
    world.start(victim, Start::Join { room: "den".into(), password: Some(password()) });
    lives.borrow_mut().clear();
    world.say(1, "the plan is this");
    let (room, row) = lives.borrow()[0].clone();
    world.feed(victim, Input::Frame(ToClient::Push(Push::Row { room, row: Row { seq: 2, ..row } })));
    let c = &world.clients[victim];
    assert!(c.heard().is_empty());
    // It cannot tell a fork from a forgery: both are words that no key of its state opens.
    assert_eq!(c.integrity(), ["forged_sender"], "{:?}", c.events);
}

#[test]
fn a_member_that_left_is_not_heard_again() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    let words: Rc<RefCell<Vec<(RoomId, Row)>>> = Rc::default();
    let keep = Rc::clone(&words);
    world.mangler = rows_to_alice(move |room, row| {
        keep.borrow_mut().push((room, row.clone()));
        // Bob's last word is kept back; his departure is not.
        let last_word = keep.borrow().len() == 1;
        if last_word { Vec::new() } else { vec![Row { seq: row.seq - 1, ..row }] }
    });
    world.say(1, "held back");
    world.say(1, "/leave");
    let (room, row) = words.borrow()[0].clone();
    let last = words.borrow().last().unwrap().1.seq - 1;
    // Alice made the commit herself, or received it: either way it is behind her now.
    for seq in [last + 1, last + 2] {
        let row = Row { seq, ..row.clone() };
        world.feed(ALICE, Input::Frame(ToClient::Push(Push::Row { room, row })));
    }
    assert!(world.clients[0].heard().is_empty());
    assert!(world.clients[0].integrity().iter().any(|k| k == "replay"), "{:?}", world.clients[0].integrity());
}

#[test]
fn a_server_cannot_open_a_private_room_by_calling_it_public() {
    let mut world = World::den(&["alice"]);
    let victim = world.join_mesh("victim");
    world.mangler = Box::new(|_, mut frame| {
        if let ToClient::Reply { body: Reply::Resolved { private, .. }, .. } = &mut frame {
            *private = false;
        }
        vec![frame]
    });
    world.start(victim, Start::Join { room: "den".into(), password: Some(password()) });
    assert_eq!(world.clients[victim].errors(), ["not_private"]);
}

#[test]
fn somebody_elses_key_package_begins_nothing() {
    let mut world = World::of(&["alice", "bob", "mallory"]);
    world.say(0, "@mallory hi");
    let package: Rc<RefCell<Option<Reply>>> = Rc::default();
    let keep = Rc::clone(&package);
    world.mangler = Box::new(move |client, mut frame| {
        if let ToClient::Reply { body: body @ Reply::KeyPackage(_), .. } = &mut frame {
            if client == 1 {
                *keep.borrow_mut() = Some(body.clone());
            } else if let Some(other) = keep.borrow().clone() {
                *body = other;
            }
        }
        vec![frame]
    });
    world.say(1, "@mallory hi");
    let number = world.say(0, "@bob a secret");
    assert_eq!((world.clients[0].integrity(), world.clients[0].done[&number]), (vec!["forged_sender".to_owned()], 7));
    assert_eq!(world.clients[2].told(), [line("alice", "hi"), line("bob", "hi")]);
}

#[test]
fn frames_that_make_no_sense_change_nothing() {
    let mut world = World::den(&["alice", "bob"]);
    let room = room_id(&mut world);
    let nonsense = [
        Push::Row {
            room: Id([9; 16]),
            row: Row { seq: 1, time_ms: 0, kind: RowKind::Message, bytes: vec![1].into(), reason: None },
        },
        Push::Direct { room: Id([8; 16]), welcome: vec![1, 2, 3].into(), tree: vec![4].into() },
        Push::DirectClosed { room },
        Push::CommitNow { room, epoch: 99 },
        Push::Row { room, row: Row { seq: 0, time_ms: 0, kind: RowKind::Commit, bytes: vec![].into(), reason: None } },
    ];
    for push in nonsense {
        world.feed(ALICE, Input::Frame(ToClient::Push(push)));
    }
    for id in 0..50 {
        world.feed(ALICE, Input::Frame(ToClient::Reply { id, body: Reply::Done }));
    }
    world.run();
    world.clear();
    world.say(0, "fine");
    world.say(1, "fine too");
    assert_eq!(world.clients[0].heard(), [line("bob", "fine too")]);
    assert_eq!(world.clients[1].heard(), [line("alice", "fine")]);
}
