//! Somebody who was kicked keeps all that it had, and the server helps it as well as it can.

use crate::ghost::{GhostSigner, ghost_commit};
use crate::harness::{
    Stage, WAIT, field, heard, integrity, say, server_identity, settle, shown, wait_integrity, wait_message,
};
use openmls::prelude::tls_codec::DeserializeBytes;
use openmls::prelude::{
    Extension, Extensions, ExternalProposal, MlsMessageBodyIn, MlsMessageIn, SenderExtensionIndex, UnknownExtension,
};
use secchat::crypto::identity::Identity;
use secchat::wire::admin::Wish;
use secchat::wire::frame::{Code, Published, Push, Reply, Request, ToClient, ToServer};
use secchat::wire::log::{Row, RowKind};
use secchat::wire::policy::{POLICY_EXTENSION, Policy, RoomKind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

/// What a server that is on the side of the kicked one has kept.
#[derive(Default)]
struct Kept {
    /// Before the kick: the state that a newcomer was given.
    old: Option<Reply>,
    /// After it: the same.
    new: Option<Published>,
    /// The door key that came with the new secret.
    door: Option<[u8; 32]>,
    /// All rows since the kick, as alice or bob got them.
    rows: Vec<Row>,
    /// From now on the kicked one's own link is not told the truth.
    kicked: bool,
}

/// Whom the server helps, and how they are called.
const HELPED: [&str; 2] = ["carol", "mallory"];

#[test]
fn what_the_kicked_one_kept_opens_nothing_and_nobody_is_fooled() {
    let stage = Stage::new();
    let kept = Arc::new(Mutex::new(Kept::default()));
    help(&stage, &kept);
    let (mut alice, mut bob) = stage.pair();
    let mut carol = stage.member("carol", &mut [&mut alice, &mut bob]);
    say(&mut bob, &["carol hears this"]);
    wait_message(&mut carol, "carol hears this");
    kept.lock().unwrap().kicked = true;
    alice.say("/kick carol").unwrap();
    let changed = alice.wait_event("secret_changed", WAIT, |_| true).unwrap();
    bob.wait_event("secret_changed", WAIT, |_| true).unwrap();
    let secret = stage.keep_secret("new", field(&changed, "secret"));
    for text in ["the plan", "is another one"] {
        say(&mut alice, &[text]);
        wait_message(&mut bob, text);
        say(&mut bob, &[text]);
        wait_message(&mut alice, text);
    }

    // Her own client hears nothing of its kick and gets all the later words under the numbers that come next, first without the commits.
    let rows = kept.lock().unwrap().rows.clone();
    assert!(rows.iter().filter(|row| row.kind == RowKind::Message).count() >= 4);
    let first = rows.iter().map(|row| row.seq).min().unwrap();
    for (at, row) in (first..).zip(rows.iter().filter(|row| row.kind == RowKind::Message)) {
        stage.invent_at("carol", at, row.kind, &row.bytes);
    }
    wait_integrity(&mut carol, "diverged");
    // So it wants in again. The server opens the door with the owner's own key, and shows it the present state.
    wait_integrity(&mut carol, "bad_state");
    carol.wait_event("left", WAIT, |_| true).unwrap();
    assert!(kept.lock().unwrap().new.is_some(), "the server has let it in, as far as it can");
    assert_eq!(heard(&carol), ["carol hears this"]);

    // Under a new name, with the old secret and the same help.
    let mut mallory = stage.newcomer("mallory");
    wait_integrity(&mut mallory, "bad_state");
    assert_eq!(mallory.wait_exit(WAIT).unwrap(), Some(7));
    assert!(shown(&mallory, "joined", "room").is_empty() && heard(&mallory).is_empty());

    // A commit of its own making, which the server passes off as logged, takes it nowhere.
    let published = kept.lock().unwrap().new.clone().unwrap();
    let ghost = ghost_commit(&server_identity(), &published);
    stage.invent("bob", RowKind::Commit, &ghost);
    wait_integrity(&mut bob, "unauthorised_commit");
    assert!(!shown(&bob, "member_joined", "name").contains(&"ghost@s1".to_owned()));

    // A newcomer with the new secret is not taken in by the state from before.
    let mut dave = stage.comer("dave", &secret);
    wait_integrity(&mut dave, "bad_state");
    assert_eq!(dave.wait_exit(WAIT).unwrap(), Some(7));
    assert!(shown(&dave, "joined", "room").is_empty());

    // And where the server is honest for once, it is with the others.
    stage.tell(|_, frame| vec![frame]);
    let mut erin = stage.comer("erin", &secret);
    erin.wait_event("joined", WAIT, |_| true).unwrap();
    say(&mut alice, &["welcome"]);
    wait_message(&mut erin, "welcome");
    assert_eq!(integrity(&alice), Vec::<String>::new());
}

/// The help that a server can give.
fn help(stage: &Stage, kept: &Arc<Mutex<Kept>>) {
    let ours = kept.clone();
    stage.hear(move |name, mut frame| {
        let mut kept = ours.lock().unwrap();
        match &mut frame {
            ToServer::Request { body: Request::Commit { door: Some(door), .. }, .. } if name == "alice" => {
                kept.door = Some(**door);
            }
            ToServer::Request { body: Request::Enter { door, .. }, .. } if HELPED.contains(&name) => {
                *door = kept.door.map(Into::into).or_else(|| door.take());
            }
            _ => {}
        }
        frame
    });
    let ours = kept.clone();
    stage.tell(move |name, mut frame| {
        let mut kept = ours.lock().unwrap();
        match (&mut frame, name) {
            (ToClient::Push(Push::Row { .. }), "carol") if kept.kicked => return Vec::new(),
            (ToClient::Push(Push::Row { row, .. }), _)
                if kept.kicked && !kept.rows.iter().any(|known| known.seq == row.seq) =>
            {
                kept.rows.push(row.clone());
            }
            (ToClient::Reply { body: entered @ Reply::Entered { .. }, .. }, "bob") => kept.old = Some(entered.clone()),
            (ToClient::Reply { body: Reply::Entered { published, .. }, .. }, _) if HELPED.contains(&name) => {
                kept.new = Some(published.clone()).filter(|_| kept.kicked);
            }
            (ToClient::Reply { body: body @ Reply::Entered { .. }, .. }, "dave") => {
                let Some(mut old) = kept.old.clone() else { return Vec::new() };
                if let (Reply::Entered { lease: given, .. }, Reply::Entered { lease, .. }) = (&mut old, &*body) {
                    *given = *lease;
                }
                *body = old;
            }
            // She is out of the room for the real server.
            (ToClient::Reply { body: Reply::Refused(refusal), .. }, "carol") if refusal.code == Code::NotMember => {}
            _ => {}
        }
        vec![frame]
    });
}

#[test]
fn no_act_of_a_server_changes_owner_roles_or_secret_of_a_private_room() {
    let stage = Stage::new();
    let (keep, states) = channel();
    stage.tell(move |name, frame| {
        if let ToClient::Reply { body: Reply::Entered { published, .. }, .. } = &frame
            && name == "carol"
        {
            keep.send(published.clone()).unwrap();
        }
        vec![frame]
    });
    let (mut alice, mut bob) = stage.pair();
    let carol = stage.member("carol", &mut [&mut alice, &mut bob]);
    // What comes after her join.
    let mut published = states.recv_timeout(WAIT).unwrap();
    published.epoch += 1;
    let usurper = Identity::from_seed(&[67; 32]);
    let mut policy = Policy::new(RoomKind::Private, "den".into(), usurper.public(), Some(usurper.public()));
    policy.version = 2;
    let proposal = ghost_policy([100; 32], &published, &policy);
    for (name, who) in [("alice", &mut alice), ("bob", &mut bob)] {
        stage.invent(name, RowKind::Proposal, &proposal);
        wait_integrity(who, "unauthorised_commit");
        who.say("/members").unwrap();
        let peers = who.wait_event("peers", WAIT, |_| true).unwrap();
        assert_eq!(field(&peers, "owner"), "alice@s1");
    }
    for event in ["role_changed", "secret_changed", "topic_changed"] {
        assert!(shown(&alice, event, "room").is_empty() && shown(&bob, event, "room").is_empty());
    }
    drop(carol);
}

#[test]
fn a_wish_of_the_server_is_shown_to_the_owner_and_nothing_follows_from_it() {
    let stage = Stage::new();
    let (tell, told) = channel();
    stage.tell(move |_, frame| {
        let mut frames = vec![frame];
        if let ToClient::Push(Push::Row { room, row }) = &frames[0]
            && row.kind == RowKind::Message
        {
            let _ = tell.send(*room);
            frames.push(ToClient::Push(Push::Wish { room: *room, wish: Wish::NewSecret }));
        }
        frames
    });
    let (mut alice, mut bob) = stage.pair();
    say(&mut bob, &["hello"]);
    wait_message(&mut alice, "hello");
    alice.wait_event("wished", WAIT, |e| field(e, "wish") == "new_secret").unwrap();
    say(&mut alice, &["hello"]);
    wait_message(&mut bob, "hello");
    settle(&mut bob);
    assert!(told.recv_timeout(WAIT).is_ok());
    assert!(shown(&bob, "wished", "room").is_empty(), "who is not the owner has nothing to do with it");
    assert!(shown(&alice, "secret_changed", "room").is_empty());
}

/// A change of the room's policy, signed by the server as the external sender that it is.
fn ghost_policy(server: [u8; 32], published: &Published, policy: &Policy) -> Vec<u8> {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(&published.group_info).unwrap();
    let MlsMessageBodyIn::GroupInfo(info) = message.extract() else { panic!() };
    let extension = Extension::Unknown(POLICY_EXTENSION, UnknownExtension(policy.to_bytes()));
    let proposal = ExternalProposal::new_group_context_extensions::<openmls_rust_crypto::OpenMlsRustCrypto>(
        Extensions::single(extension).unwrap(),
        info.group_id().clone(),
        published.epoch.into(),
        &GhostSigner(ed25519_dalek::SigningKey::from_bytes(&server)),
        SenderExtensionIndex::new(0),
    );
    proposal.unwrap().to_bytes().unwrap()
}
