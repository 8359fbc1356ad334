//! Members that have left, and one whose commit only the server can follow.

use crate::harness::{Stage, WAIT, field, heard, integrity, say, settle, wait_integrity, wait_message};
use secchat::wire::frame::{Reply, Request, ToClient, ToServer};
use secchat::wire::log::RowKind;
use std::sync::mpsc::channel;

#[test]
fn who_has_left_is_heard_no_more() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    let (keep, posts) = channel();
    stage.hear(move |name, frame| match frame {
        ToServer::Request { id, body: Request::Post { message, .. } } if name == "bob" => {
            keep.send(message).unwrap();
            ToServer::Request { id, body: Request::Ping }
        }
        other => other,
    });
    // The server says that it has logged bob's words, and keeps them for later.
    stage.tell(|name, frame| match frame {
        ToClient::Reply { id, body: Reply::Done } if name == "bob" => {
            vec![ToClient::Reply { id, body: Reply::Sequenced { seq: 2, time_ms: 0 } }]
        }
        other => vec![other],
    });
    say(&mut bob, &["kept for later"]);
    bob.say("exit").unwrap();
    assert_eq!(bob.wait_exit(WAIT).unwrap(), Some(0), "{:?}", bob.said());
    alice.wait_event("member_left", WAIT, |e| field(e, "name") == "bob@s1").unwrap();
    stage.invent("alice", RowKind::Message, &posts.recv_timeout(WAIT).unwrap());
    wait_integrity(&mut alice, "replay");
    settle(&mut alice);
    assert_eq!((heard(&alice), integrity(&alice)), (Vec::new(), vec!["replay".to_owned()]));
}

#[test]
fn a_commit_that_only_the_server_can_follow_leads_to_a_new_join() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    let mut carol = stage.member("carol", &mut [&mut alice, &mut bob]);
    let (tell, committer) = channel();
    // The tag at the end is made with a key that the server does not have.
    stage.hear(move |name, mut frame| {
        if let ToServer::Request { body: Request::Commit { lease: None, message, .. }, .. } = &mut frame
            && tell.send(name.to_owned()).is_ok()
        {
            let mut bytes = message.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            *message = bytes.into();
        }
        frame
    });
    carol.say("/leave").unwrap();
    carol.wait_event("left", WAIT, |e| field(e, "reason") == "left").unwrap();
    let (rogue, victim) = match committer.recv_timeout(WAIT).unwrap().as_str() {
        "alice" => (&mut alice, &mut bob),
        _ => (&mut bob, &mut alice),
    };
    drop(committer);
    wait_integrity(victim, "forged_sender");
    victim.wait_event("joined", WAIT, |_| true).unwrap();
    say(victim, &["I am back"]);
    wait_message(rogue, "I am back");
    say(rogue, &["so you are"]);
    wait_message(victim, "so you are");
    // The chain that the committer saw holds its commit as it made it.
    assert_eq!(integrity(victim), ["forged_sender", "diverged"]);
}

#[test]
fn a_commit_that_was_dropped_leads_to_a_new_join() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    let mut dropped = false;
    stage.tell(move |name, mut frame| {
        if let ToClient::Push(secchat::wire::frame::Push::Row { row, .. }) = &mut frame
            && name == "alice"
        {
            if row.kind == RowKind::Commit && !std::mem::replace(&mut dropped, true) {
                return Vec::new();
            }
            row.seq -= u64::from(dropped);
        }
        vec![frame]
    });
    let carol = stage.member("carol", &mut [&mut bob]);
    say(&mut bob, &["who is new here?"]);
    wait_integrity(&mut alice, "diverged");
    stage.tell(|_, frame| vec![frame]);
    alice.wait_event("joined", WAIT, |_| true).unwrap();
    say(&mut bob, &["welcome back"]);
    wait_message(&mut alice, "welcome back");
    say(&mut alice, &["thanks"]);
    wait_message(&mut bob, "thanks");
    assert!(!heard(&alice).contains(&"who is new here?".to_owned()));
    drop(carol);
}
