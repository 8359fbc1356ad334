//! Looking at people, speaking to them, muting them, putting them out; as they and others notice it.

use super::*;
use crate::limits::{ADMIN_PAGE, REASON_MAX, TEXT_MAX};
use crate::wire::admin::{Failure, Role};
use crate::wire::log::RemoveReason;

fn failure(answer: &Answer) -> Option<Failure> {
    if let Answer::Failed { code, .. } = answer { Some(*code) } else { None }
}

/// What an act said for people, with its notes.
fn said(answer: Answer) -> (String, Vec<String>) {
    match answer {
        Answer::Done { what, notes, .. } => (what, notes),
        other => panic!("{other:?}"),
    }
}

fn kick(name: &str, room: Option<&str>) -> Ask {
    Ask::Kick { name: name.into(), room: room.map(Into::into), reason: Some("enough".into()) }
}

fn mute(name: &str, room: Option<&str>, for_s: Option<u64>) -> Ask {
    Ask::Mute { name: name.into(), room: room.map(Into::into), for_s, reason: Some("shouting".into()) }
}

fn unmute(name: &str, room: Option<&str>) -> Ask {
    Ask::Unmute { name: name.into(), room: room.map(Into::into) }
}

fn release(name: &str) -> Ask {
    Ask::Release { name: name.into() }
}

/// Somebody with a role asks over the wire.
fn officer_asks(world: &mut World, session: SessionId, ask: &Ask) -> Answer {
    match world.request(session, Request::Admin { ask: serde_json::to_string(ask).unwrap() }) {
        Reply::Admin(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn grant(world: &mut World, name: &str, role: Role) {
    said(world.owner_asks(Ask::Grant { name: name.into(), role }));
}

/// Alice, bob and carol in a room.
fn den(kind: RoomKind) -> (World, Client, Client, Client) {
    let mut world = World::new();
    let (mut alice, mut bob, mut carol) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "carol"));
    world.create(&mut alice, kind);
    world.join(&mut bob, kind);
    world.join(&mut carol, kind);
    world.catch(&mut alice);
    world.catch(&mut bob);
    (world, alice, bob, carol)
}

fn notices(pushes: &[Push]) -> Vec<&str> {
    pushes.iter().filter_map(|p| if let Push::Notice { text } = p { Some(text.as_str()) } else { None }).collect()
}

fn rows_with_reasons(pushes: &[Push]) -> Vec<RemoveReason> {
    pushes.iter().filter_map(|p| if let Push::Row { row, .. } = p { row.reason } else { None }).collect()
}

#[test]
fn people_are_listed_by_name_and_page_and_shown_with_their_rooms() {
    let (mut world, _alice, bob, carol) = den(RoomKind::Private);
    world.disconnect(&carol);
    grant(&mut world, "bob", Role::Moderator);
    said(world.owner_asks(mute("carol", None, None)));
    let Answer::Users(page) = world.owner_asks(Ask::Users { after: None }) else { panic!() };
    let rows: Vec<_> = page.rows.iter().map(|u| (u.name.as_str(), u.online, u.role, u.muted)).collect();
    let moderator = Some(Role::Moderator);
    let expected =
        [("alice@s1", true, None, false), ("bob@s1", true, moderator, false), ("carol@s1", false, None, true)];
    assert_eq!((rows.as_slice(), &page.next), (expected.as_slice(), &None));
    assert_eq!(page.rows[1].fingerprint, bob.key().fingerprint().to_string());
    assert_eq!((page.rows[1].address.as_deref(), page.rows[2].address.as_deref()), (Some("192.0.2.1:1"), None));
    for typed in ["bob", "@bob", "bob@s1", "BOB"] {
        let Answer::User(user) = world.owner_asks(Ask::Show { name: typed.into() }) else { panic!("{typed}") };
        assert_eq!((user.name.as_str(), user.rooms.as_slice()), ("bob@s1", ["den".to_owned()].as_slice()));
    }
    for typed in ["dave", "", "@", "b ob", "bob\x1b[2J", "bob@s2", "bob@", &"x".repeat(10_000)] {
        let answer = world.owner_asks(Ask::Show { name: typed.into() });
        assert_eq!(failure(&answer), Some(Failure::UnknownUser), "{typed:?}");
        let Answer::Failed { why, .. } = answer else { panic!() };
        assert!(!why.contains('\x1b'), "{why:?}");
    }
}

#[test]
fn many_people_come_in_pages_without_holes() {
    let mut world = World::new();
    let many = ADMIN_PAGE * 2 + 7;
    for n in 0..many {
        world.connect_as_many(n);
    }
    let (mut after, mut names, mut pages) = (None, Vec::new(), 0);
    loop {
        let Answer::Users(page) = world.owner_asks(Ask::Users { after: after.clone() }) else { panic!() };
        assert!(page.rows.len() <= ADMIN_PAGE);
        names.extend(page.rows.into_iter().map(|u| u.name));
        pages += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert!(names.is_sorted() && names.windows(2).all(|w| w[0] != w[1]));
    assert_eq!((names.len(), pages), (many, 3));
}

#[test]
fn a_message_comes_as_it_was_typed_and_only_to_who_is_here() {
    let mut world = World::new();
    let (alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    let message = |name: &str, text: &str| Ask::Message { name: name.into(), text: text.into() };
    let text = "please\x1b[31m stop\u{202e}";
    said(world.owner_asks(message("bob", text)));
    assert_eq!(world.pushes(bob.session), [Push::Notice { text: text.into() }]);
    assert!(world.nothing_for(alice.session));
    world.disconnect(&bob);
    let answer = world.owner_asks(message("bob", "gone?"));
    assert!(matches!(&answer, Answer::Failed { code: Failure::UnknownUser, why, .. } if why == "bob@s1 is not here"));
    assert_eq!(failure(&world.owner_asks(message("alice", " \n"))), Some(Failure::BadValue));
    assert_eq!(failure(&world.owner_asks(message("alice", &"x".repeat(TEXT_MAX + 1)))), Some(Failure::BadValue));
    let (what, _) = said(world.owner_asks(Ask::Broadcast { text: "maintenance at noon".into() }));
    assert_eq!(what, "1 person has been told");
    assert_eq!(world.pushes(alice.session), [Push::Notice { text: "maintenance at noon".into() }]);
    let Answer::Audit(page) = world.owner_asks(Ask::Audit { before: None, limit: None }) else { panic!() };
    let texts = format!("{:?}", page.rows);
    assert!(texts.contains("broadcast") && !texts.contains("noon") && !texts.contains("stop"), "{texts}");
}

#[test]
fn who_is_kicked_from_a_room_hears_and_says_nothing_there_any_more() {
    let (mut world, mut alice, mut bob, mut carol) = den(RoomKind::Private);
    let kicked = carol.room.as_mut().unwrap().seal(b"one more").unwrap();
    said(world.owner_asks(kick("carol", Some("den"))));
    let pushes = world.pushes(carol.session);
    assert_eq!(rows_with_reasons(&pushes), [RemoveReason::Kicked], "it is the last that it hears");
    assert_eq!(notices(&pushes), ["the server has put you out of den: enough"]);
    let refused = world.refused(carol.session, Request::Post { room: DEN, message: kicked.into() });
    assert_eq!(refused, Code::NotMember);
    assert_eq!(world.refused(carol.session, Request::Log { room: DEN, after: 0 }), Code::NotMember);
    assert!(world.catch(&mut alice).iter().any(|p| matches!(p, Push::CommitNow { .. })));
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    world.catch(&mut bob);
    assert_eq!(bob.members(), ["alice", "bob"]);
    world.say(&mut bob, "quiet at last");
    assert!(world.nothing_for(carol.session));
    assert_eq!(world.request(carol.session, Request::Ping), Reply::Done, "the rest of the server stays hers");
}

#[test]
fn what_cannot_be_kicked_is_said_and_nothing_is_half_done() {
    let (mut world, mut alice, mut bob, _carol) = den(RoomKind::Public);
    world.client(4, "dave");
    let cases = [
        (kick("nobody", None), Failure::UnknownUser),
        (kick("nobody\x1b[2J", Some("den")), Failure::UnknownUser),
        (kick("bob", Some("nosuch")), Failure::UnknownRoom),
        (kick("bob", Some("den@s2")), Failure::UnknownRoom),
        (kick("bob", Some("d\u{202e}en")), Failure::UnknownRoom),
        (kick("bob", Some("")), Failure::UnknownRoom),
        (kick("dave", Some("den")), Failure::UnknownUser),
    ];
    for (ask, code) in cases {
        assert_eq!(failure(&world.owner_asks(ask.clone())), Some(code), "{ask:?}");
    }
    let long = Ask::Kick { name: "bob".into(), room: None, reason: Some("x".repeat(REASON_MAX + 1)) };
    assert_eq!(failure(&world.owner_asks(long)), Some(Failure::BadValue));
    assert!(world.closed.is_empty());
    assert!(matches!(world.say(&mut bob, "still here"), Reply::Sequenced { .. }));
    world.catch(&mut alice);
    assert_eq!(alice.texts, ["still here"]);
}

#[test]
fn who_is_kicked_off_the_server_is_out_of_all_its_rooms() {
    let (mut world, mut alice, _bob, carol) = den(RoomKind::Public);
    let (what, notes) = said(world.owner_asks(kick("carol", None)));
    assert_eq!((what.as_str(), notes.len()), ("carol@s1 is out of 1 room and off the server", 0));
    let pushes = world.pushes(carol.session);
    let bye = Push::Bye { reason: "kicked".into(), detail: Some("enough".into()) };
    assert_eq!((pushes.last(), world.closed.last()), (Some(&bye), Some(&carol.session)));
    world.catch(&mut alice);
    world.commit_pending(&mut alice);
    assert_eq!(alice.members(), ["alice", "bob"]);
    assert_eq!(failure(&world.owner_asks(kick("carol", None))), Some(Failure::UnknownUser), "she is gone");
    let again = world.client(3, "carol");
    assert_eq!(world.request(again.session, Request::Ping), Reply::Done, "a kick is no ban");
}

#[test]
fn who_is_away_is_kicked_out_of_rooms_all_the_same() {
    let (mut world, mut alice, _bob, carol) = den(RoomKind::Public);
    world.disconnect(&carol);
    let (_, notes) = said(world.owner_asks(kick("carol", None)));
    assert_eq!(notes, ["carol@s1 was not connected"]);
    world.catch(&mut alice);
    world.commit_pending(&mut alice);
    assert_eq!(alice.members(), ["alice", "bob"]);
}

#[test]
fn a_kick_that_nobody_is_there_to_commit_outlives_a_restart() {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Private);
    let (_, notes) = said(world.owner_asks(kick("alice", None)));
    assert_eq!(notes, ["nobody is in den who could take the leaf out; the next one who comes does it"]);
    let mut world = world.restart();
    world.reconnect(&mut alice, 1);
    assert_eq!(world.refused(alice.session, Request::Log { room: DEN, after: 0 }), Code::NotMember);
    let mut bob = world.client(2, "bob");
    world.join(&mut bob, RoomKind::Private);
    assert!(world.catch(&mut bob).iter().any(|p| matches!(p, Push::CommitNow { .. })));
    assert!(matches!(world.commit_pending(&mut bob), Reply::Sequenced { .. }));
    assert_eq!(bob.members(), ["bob"]);
}

#[test]
fn a_kicked_newcomer_that_waits_at_the_door_waits_no_more() {
    let (mut world, _alice, _bob, carol) = den(RoomKind::Public);
    let dave = world.client(4, "dave");
    // He has the lease, and she waits behind him to come in anew.
    let enter = Request::Enter { room: DEN, door: None };
    assert!(matches!(world.request(dave.session, enter.clone()), Reply::Entered { .. }));
    let asked = world.ask(carol.session, enter);
    said(world.owner_asks(kick("carol", Some("den"))));
    assert_eq!(code(&world.answer(carol.session, asked).unwrap()), Some(Code::NotMember));
    world.pass(Duration::from_secs(10));
    assert!(world.inbox(carol.session).iter().all(|frame| !matches!(frame, ToClient::Reply { .. })));
}

#[test]
fn nobody_acts_against_who_has_as_much_to_say_nor_against_oneself() {
    let (mut world, alice, bob, carol) = den(RoomKind::Public);
    grant(&mut world, "alice", Role::Operator);
    grant(&mut world, "bob", Role::Moderator);
    grant(&mut world, "carol", Role::Moderator);
    let no = Some(Failure::NotAllowed);
    for ask in [kick("alice", None), kick("carol", Some("den")), mute("alice", None, None), mute("bob", None, None)] {
        assert_eq!(failure(&officer_asks(&mut world, bob.session, &ask)), no, "{ask:?}");
    }
    assert_eq!(failure(&officer_asks(&mut world, alice.session, &release("alice"))), no);
    assert_eq!(failure(&officer_asks(&mut world, bob.session, &release("carol"))), no, "for operators");
    said(officer_asks(&mut world, alice.session, &mute("bob", None, None)));
    assert_eq!(failure(&officer_asks(&mut world, bob.session, &unmute("bob", None))), no, "not by himself");
    // Two at once: each hears what is true for it.
    said(officer_asks(&mut world, alice.session, &kick("carol", Some("den"))));
    let second = world.owner_asks(kick("carol", Some("den")));
    assert_eq!(failure(&second), Some(Failure::Already));
    said(officer_asks(&mut world, alice.session, &kick("carol", None)));
    assert_eq!(world.closed, [carol.session]);
}

#[test]
fn a_mute_is_refused_with_reason_and_end_and_outlives_a_restart() {
    let (mut world, mut alice, mut bob, _carol) = den(RoomKind::Public);
    said(world.owner_asks(mute("bob", None, Some(7200))));
    let told = "you are muted until 2023-11-15T00:13:20Z: shouting";
    assert_eq!(notices(&world.catch(&mut bob)), [told]);
    let refusal = |reply: Reply| if let Reply::Refused(refusal) = reply { refusal } else { panic!("{reply:?}") };
    let refused = refusal(world.say(&mut bob, "HELLO"));
    assert_eq!((refused.code, refused.message.as_str()), (Code::Muted, told));
    let mut world = world.restart();
    for client in [&mut alice, &mut bob] {
        world.reconnect(client, client.me.identity.public().as_bytes()[0]);
        world.catch_up(client);
    }
    assert_eq!(refusal(world.say(&mut bob, "HELLO")).code, Code::Muted);
    let Answer::Mutes(page) = world.owner_asks(Ask::Mutes) else { panic!() };
    let row = &page.rows[0];
    assert_eq!((row.name.as_str(), row.reason.as_str(), row.by.as_str()), ("bob@s1", "shouting", "owner"));
    assert_eq!(row.until_ms, Some(START_MS + 7_200_000));
    world.now += Duration::from_secs(7200);
    assert!(matches!(world.say(&mut bob, "sorry"), Reply::Sequenced { .. }), "the wall clock has ended it");
    world.catch(&mut alice);
    assert_eq!(alice.texts, ["sorry"]);
    assert!(matches!(world.owner_asks(Ask::Mutes), Answer::Mutes(page) if page.rows.is_empty()));
    world.pass(Duration::from_secs(120));
    assert!(world.store.load().unwrap().register.is_empty(), "and it is forgotten");
}

#[test]
fn a_mute_in_a_room_holds_in_that_room_only_and_is_lifted_there() {
    let (mut world, _alice, mut bob, _carol) = den(RoomKind::Public);
    let mut den = bob.room.take();
    let other = Id([8; 16]);
    world.try_create(&mut bob, other, "attic", RoomKind::Public);
    said(world.owner_asks(mute("bob", Some("den"), None)));
    let line = bob.room.as_mut().unwrap().seal(b"here I may").unwrap();
    let reply = world.request(bob.session, Request::Post { room: other, message: line.into() });
    assert!(matches!(reply, Reply::Sequenced { .. }), "{reply:?}");
    let line = den.as_mut().unwrap().seal(b"and here?").unwrap();
    let post = Request::Post { room: DEN, message: line.into() };
    assert_eq!(world.refused(bob.session, post.clone()), Code::Muted);
    assert_eq!(failure(&world.owner_asks(unmute("bob", None))), Some(Failure::UnknownUser), "not everywhere");
    assert_eq!(failure(&world.owner_asks(unmute("bob", Some("attic")))), Some(Failure::UnknownUser));
    said(world.owner_asks(unmute("bob", Some("den"))));
    assert!(matches!(world.request(bob.session, post), Reply::Sequenced { .. }));
    assert_eq!(notices(&world.pushes(bob.session)).last(), Some(&"you have the word again in den"));
}

#[test]
fn a_muted_person_begins_no_conversation_and_still_reaches_the_operator() {
    let mut world = World::new();
    let (mut alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    said(world.owner_asks(mute("alice", None, None)));
    world.create(&mut alice, RoomKind::Public);
    let published = Published { epoch: 0, group_info: vec![1].into(), tree: vec![1].into(), vouch: None };
    let request = Request::CreateDirect { room: Id([9; 16]), peer: full("bob"), welcome: vec![1].into(), published };
    assert_eq!(world.refused(alice.session, request), Code::Muted);
    assert!(world.nothing_for(bob.session));
    assert_eq!(world.request(alice.session, Request::Operator { text: "why?".into() }), Reply::Done);
}

#[test]
fn senseless_mutes_are_refused_whole() {
    let mut world = World::new();
    world.client(1, "bob");
    let cases = [
        (mute("bob", None, Some(0)), Failure::BadValue),
        (mute("bob", None, Some(u64::MAX)), Failure::BadValue),
        (mute("bob", Some("nosuch"), None), Failure::UnknownRoom),
        (mute("b\x07ob", None, None), Failure::UnknownUser),
        (unmute("bob", None), Failure::UnknownUser),
        (unmute("bob", Some("\x1b")), Failure::UnknownRoom),
    ];
    for (ask, code) in cases {
        assert_eq!(failure(&world.owner_asks(ask.clone())), Some(code), "{ask:?}");
    }
    assert!(world.store.load().unwrap().register.is_empty());
    said(world.owner_asks(mute("bob", None, Some(crate::limits::TERM_MAX_S))));
    said(world.owner_asks(mute("bob", None, Some(60))));
    let Answer::Mutes(page) = world.owner_asks(Ask::Mutes) else { panic!() };
    assert_eq!(page.rows.iter().map(|m| m.until_ms).collect::<Vec<_>>(), [Some(START_MS + 60_000)], "the later holds");
}

#[test]
fn a_released_name_is_anybodys_and_what_it_had_is_gone() {
    let (mut world, mut alice, _bob, carol) = den(RoomKind::Private);
    grant(&mut world, "carol", Role::Moderator);
    said(world.owner_asks(mute("carol", None, None)));
    assert_eq!(failure(&world.owner_asks(release("nobody"))), Some(Failure::UnknownUser));
    let (_, notes) = said(world.owner_asks(release("carol")));
    assert!(notes.iter().any(|note| note == "its role is gone too"), "{notes:?}");
    let pushes = world.pushes(carol.session);
    let bye = Push::Bye { reason: "kicked".into(), detail: Some("the name was released".into()) };
    assert_eq!((pushes.last(), world.closed.last()), (Some(&bye), Some(&carol.session)));
    let pushed = world.pushes(alice.session);
    assert_eq!(rows_with_reasons(&pushed), [RemoveReason::Released]);
    world.catch_up(&mut alice);
    world.commit_pending(&mut alice);
    assert_eq!(alice.members(), ["alice", "bob"]);
    let mut world = world.restart();
    assert!(matches!(world.owner_asks(Ask::Roles), Answer::Roles(page) if page.rows.is_empty()));
    assert!(matches!(world.owner_asks(Ask::Mutes), Answer::Mutes(page) if page.rows.is_empty()));
    let new = world.client(9, "carol");
    assert_eq!(new.me.cert.subject, full("carol"));
    let old = world.connect(&user(3));
    assert_eq!(world.login_as(old, "carol", 3).unwrap_err().code, Code::NameTaken);
    let shown = world.login_with_cert(&carol);
    assert_eq!(shown.unwrap_err().code, Code::NameTaken, "its certificate does not bring the name back");
}

#[test]
fn a_released_name_leaves_the_other_names_of_its_key_alone() {
    let mut world = World::new();
    world.client(1, "bob");
    let mut robert = world.client(1, "robert");
    world.create(&mut robert, RoomKind::Public);
    grant(&mut world, "robert", Role::Operator);
    said(world.owner_asks(release("bob")));
    assert_eq!(world.closed.len(), 1, "only the session that robert's replaced");
    assert!(matches!(world.say(&mut robert, "still me"), Reply::Sequenced { .. }));
    assert!(matches!(world.owner_asks(Ask::Roles), Answer::Roles(page) if page.rows.len() == 1));
    assert_eq!(failure(&world.owner_asks(release("bob"))), Some(Failure::UnknownUser));
}
