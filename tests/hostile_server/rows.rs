//! Rows that are changed, repeated, swapped, dropped or redirected on their way.

use crate::harness::{Stage, heard, integrity, say, settle, wait_integrity, wait_message};
use secchat::wire::frame::{Push, Reply, ToClient};
use secchat::wire::id::RoomId;
use secchat::wire::log::Row;

#[test]
fn a_changed_byte_shows_and_is_not_shown() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    let mut count = 0;
    stage.tell_alice(move |room, mut row| {
        count += 1;
        if count == 2 {
            let mut bytes = row.bytes.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            row.bytes = bytes.into();
        }
        vec![(room, row)]
    });
    say(&mut bob, &["one", "two", "three"]);
    wait_message(&mut alice, "three");
    settle(&mut alice);
    assert_eq!(heard(&alice), ["one", "three"]);
    assert_eq!(integrity(&alice), ["forged_sender", "gap", "diverged"]);
}

#[test]
fn a_repeat_under_a_new_number_shows_and_is_not_shown_again() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    let mut rows: Vec<Row> = Vec::new();
    stage.tell_alice(move |room, mut row| {
        rows.push(row.clone());
        match rows.len() {
            1 => vec![(room, row)],
            2 => vec![(room, Row { seq: row.seq, ..rows[0].clone() }), (room, Row { seq: row.seq + 1, ..row })],
            _ => {
                row.seq += 1;
                vec![(room, row)]
            }
        }
    });
    say(&mut bob, &["one", "two", "three"]);
    wait_message(&mut alice, "three");
    settle(&mut alice);
    assert_eq!(heard(&alice), ["one", "two", "three"]);
    assert_eq!(integrity(&alice), ["replay", "diverged"]);
}

#[test]
fn swapped_rows_show_and_come_never_out_of_order() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    let mut kept: Option<Row> = None;
    stage.tell_alice(move |room, row| match kept.take() {
        None => {
            kept = Some(row);
            Vec::new()
        }
        Some(first) => vec![(room, Row { seq: first.seq, ..row.clone() }), (room, Row { seq: row.seq, ..first })],
    });
    say(&mut bob, &["one", "two"]);
    wait_integrity(&mut alice, "replay");
    settle(&mut alice);
    assert_eq!(heard(&alice), ["two"]);
    assert_eq!(integrity(&alice), ["gap", "diverged", "replay"]);
}

#[test]
fn a_row_dropped_without_a_hole_shows_with_the_next_word() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    let mut dropped = false;
    stage.tell_alice(move |room, mut row| {
        if !std::mem::replace(&mut dropped, true) {
            return Vec::new();
        }
        row.seq -= 1;
        vec![(room, row)]
    });
    say(&mut bob, &["one", "two"]);
    wait_message(&mut alice, "two");
    settle(&mut alice);
    assert_eq!(heard(&alice), ["two"]);
    assert_eq!(integrity(&alice), ["gap", "diverged"]);
}

#[test]
fn a_row_dropped_with_a_hole_is_fetched_and_told() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    let mut dropped = false;
    stage.tell_alice(
        move |room, row| {
            if std::mem::replace(&mut dropped, true) { vec![(room, row)] } else { Vec::new() }
        },
    );
    say(&mut bob, &["one", "two", "three"]);
    wait_message(&mut alice, "three");
    settle(&mut alice);
    assert_eq!(heard(&alice), ["one", "two", "three"]);
    assert_eq!(integrity(&alice), ["gap"]);
}

#[test]
fn a_row_that_the_log_leaves_out_too_is_given_up_and_the_room_goes_on() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    let mut gone = None;
    stage.tell(move |name, mut frame| {
        if name != "alice" {
            return vec![frame];
        }
        match &mut frame {
            ToClient::Push(Push::Row { row, .. }) if *gone.get_or_insert(row.seq) == row.seq => return Vec::new(),
            ToClient::Reply { body: Reply::Log { rows, .. }, .. } => rows.retain(|row| Some(row.seq) != gone),
            _ => {}
        }
        vec![frame]
    });
    say(&mut bob, &["one", "two"]);
    wait_integrity(&mut alice, "gap");
    alice.wait_event("joined", crate::harness::WAIT, |_| true).unwrap();
    say(&mut bob, &["three"]);
    wait_message(&mut alice, "three");
    say(&mut alice, &["and back"]);
    wait_message(&mut bob, "and back");
    assert!(!heard(&alice).contains(&"one".to_owned()));
    assert!(integrity(&alice).len() < 4, "{:?}", integrity(&alice));
}

#[test]
fn a_row_of_another_room_shows_and_is_not_shown() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    for (who, line) in [(&mut alice, "/create lab"), (&mut bob, "/join lab")] {
        who.say(line).unwrap();
        who.wait_event("joined", crate::harness::WAIT, |_| true).unwrap();
    }
    alice.wait_event("member_joined", crate::harness::WAIT, |_| true).unwrap();
    let mut first: Option<(RoomId, u64)> = None;
    stage.tell_alice(move |room, row| match first {
        Some((elsewhere, seq)) if elsewhere != room => vec![(elsewhere, Row { seq: seq + 1, ..row })],
        _ => {
            first = Some((room, row.seq));
            vec![(room, row)]
        }
    });
    say(&mut bob, &["@#lab in the lab", "@#den in the den"]);
    wait_integrity(&mut alice, "wrong_room");
    settle(&mut alice);
    assert_eq!(heard(&alice), ["in the lab"]);
    assert_eq!(integrity(&alice), ["wrong_room"]);
}
