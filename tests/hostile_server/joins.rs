//! States that the server hands out, and commits that it makes itself.

use crate::ghost::{ghost_commit, own_room};
use crate::harness::{
    Stage, WAIT, field, heard, integrity, say, server_identity, settle, shown, wait_integrity, wait_message,
};
use secchat::wire::frame::{Code, Published, Push, Reply, ToClient};
use secchat::wire::log::{Row, RowKind};
use std::sync::mpsc::{Receiver, channel};

#[test]
fn a_ghost_without_the_secret_does_not_get_in() {
    let stage = Stage::new();
    let (mut alice, mut bob) = stage.pair();
    say(&mut bob, &["safe so far"]);
    wait_message(&mut alice, "safe so far");
    let published = present_state(&stage);
    let _carol = stage.newcomer("carol");
    let ghost = ghost_commit(&server_identity(), &published.recv_timeout(WAIT).unwrap());
    for (name, who) in [("alice", &mut alice), ("bob", &mut bob)] {
        stage.invent(name, RowKind::Commit, &ghost);
        wait_integrity(who, "unauthorised_commit");
        who.say("is anybody listening?").unwrap();
        who.wait_event("error", WAIT, |e| field(e, "code") == "held").unwrap();
        assert!(!shown(who, "member_joined", "name").contains(&"ghost@s1".to_owned()));
    }
    assert_eq!((integrity(&alice), integrity(&bob)), (one("unauthorised_commit"), one("unauthorised_commit")));
}

/// What the server gives carol, who does not get it.
fn present_state(stage: &Stage) -> Receiver<Published> {
    let (keep, kept) = channel();
    stage.tell(move |name, frame| match frame {
        ToClient::Reply { body: Reply::Entered { published, .. }, .. } if name == "carol" => {
            keep.send(published).unwrap();
            Vec::new()
        }
        other => vec![other],
    });
    kept
}

#[test]
fn a_room_of_the_servers_own_is_not_entered() {
    let stage = Stage::new();
    let _alice = stage.alice();
    stage.tell(|name, mut frame| {
        if name == "carol"
            && let ToClient::Reply { body: Reply::Entered { published, .. }, .. } = &mut frame
        {
            *published = own_room(&server_identity(), published);
        }
        vec![frame]
    });
    let mut carol = stage.newcomer("carol");
    wait_integrity(&mut carol, "bad_state");
    assert_eq!(carol.wait_exit(WAIT).unwrap(), Some(7));
    assert!(shown(&carol, "joined", "room").is_empty());
}

#[test]
fn an_old_state_shows_as_soon_as_anybody_speaks() {
    let stage = Stage::new();
    let mut alice = stage.alice();
    let mut old: Option<Reply> = None;
    stage.tell(move |name, mut frame| {
        let ToClient::Reply { body, .. } = &mut frame else { return vec![frame] };
        match (name, &body) {
            ("bob", Reply::Entered { .. }) => old = Some(body.clone()),
            ("carol", Reply::Entered { lease: now, .. }) => {
                let mut given = old.clone().unwrap();
                if let Reply::Entered { lease, .. } = &mut given {
                    *lease = *now;
                }
                *body = given;
            }
            // The real server does not take such a commit; the liar says that it did.
            ("carol", Reply::Refused(refusal)) if refusal.code == Code::Stale => {
                *body = Reply::Sequenced { seq: 1, time_ms: 0 };
            }
            _ => {}
        }
        vec![frame]
    });
    let mut bob = stage.member("bob", &mut [&mut alice]);
    let mut carol = stage.newcomer("carol");
    carol.wait_event("joined", WAIT, |_| true).unwrap();
    let rows = rows_to_alice(&stage);
    say(&mut bob, &["the plan is this"]);
    let row = rows.recv_timeout(WAIT).unwrap();
    stage.invent_at("carol", 2, row.kind, &row.bytes);
    wait_integrity(&mut carol, "forged_sender");
    settle(&mut carol);
    assert_eq!((heard(&carol), integrity(&carol)), (Vec::new(), one("forged_sender")));
    // What she says waits until she is in the room of the others.
    carol.say("am I in?").unwrap();
    carol.wait_event("joined", WAIT, |_| true).unwrap();
    wait_message(&mut bob, "am I in?");
    assert_eq!(heard(&bob), ["am I in?"]);
}

fn rows_to_alice(stage: &Stage) -> Receiver<Row> {
    let (keep, kept) = channel();
    stage.tell(move |name, frame| {
        if let ToClient::Push(Push::Row { row, .. }) = &frame
            && name == "alice"
        {
            keep.send(row.clone()).unwrap();
        }
        vec![frame]
    });
    kept
}

fn one(kind: &str) -> Vec<String> {
    vec![kind.to_owned()]
}
