//! Who gets in and who takes a name, and what the levels change.

use super::*;
use crate::wire::admin::{Failure, Registration, Role};
use crate::wire::token::Token;

fn failure(answer: &Answer) -> Option<Failure> {
    if let Answer::Failed { code, .. } = answer { Some(*code) } else { None }
}

fn done(answer: Answer) -> (Vec<String>, Option<String>) {
    match answer {
        Answer::Done { notes, token, .. } => (notes, token),
        other => panic!("{other:?}"),
    }
}

fn allow(whom: &str) -> Ask {
    Ask::Allow { whom: whom.into() }
}

fn registration(mode: Registration) -> Ask {
    Ask::Registration { mode }
}

fn invitation(uses: Option<u32>, for_s: Option<u64>) -> Ask {
    Ask::Invitation { uses, for_s }
}

fn level(level: u8) -> Ask {
    Ask::Defcon { level }
}

/// What somebody without a name hears who wants one.
fn new_name(world: &mut World, seed: u8, name: &str, token: Option<&str>) -> Result<(), Code> {
    let session = world.connect(&user(seed));
    let token = token.map(|text| Token::parse(text).unwrap());
    world.login_with_token(session, name, seed, token).map(|_| ()).map_err(|refusal| refusal.code)
}

#[test]
fn with_a_list_only_those_on_it_and_those_with_a_role_get_in() {
    let mut world = World::new();
    let (bob, _carol, dave) = (world.client(1, "bob"), world.client(2, "carol"), world.client(4, "dave"));
    done(world.owner_asks(Ask::Grant { name: "carol".into(), role: Role::Moderator }));
    let (notes, _) = done(world.owner_asks(allow("bob")));
    assert!(notes.iter().any(|note| note.starts_with("1 who are here now would not get in")), "{notes:?}");
    assert_eq!(world.request(dave.session, Request::Ping), Reply::Done, "who is in stays");
    let mut world = world.restart();
    assert_eq!(new_name(&mut world, 1, "bob", None), Ok(()));
    assert_eq!(new_name(&mut world, 2, "carol", None), Ok(()));
    let session = world.connect(&user(4));
    let refusal = world.login_as(session, "dave", 4).unwrap_err();
    let hint = refusal.hint.unwrap();
    assert!(refusal.code == Code::NotListed && hint.contains(&dave.key().fingerprint().to_string()), "{hint}");
    assert_eq!(world.closed.last(), Some(&session));
    done(world.owner_asks(allow(&dave.key().fingerprint().to_string())));
    assert_eq!(new_name(&mut world, 4, "dave", None), Ok(()));
    let Answer::Allowed(page) = world.owner_asks(Ask::Allowed) else { panic!() };
    let mut rows: Vec<_> = page.rows.into_iter().map(|row| (row.name, row.fingerprint)).collect();
    rows.sort();
    let expected = [(None, dave.key()), (Some("bob@s1".to_owned()), bob.key())];
    assert_eq!(rows, expected.map(|(name, key)| (name, key.fingerprint().to_string())));
    // Off again: bob by his name, dave by a name that he was not listed under.
    done(world.owner_asks(Ask::Disallow { whom: "bob".into() }));
    let (notes, _) = done(world.owner_asks(Ask::Disallow { whom: "dave".into() }));
    assert_eq!(notes, ["the list is empty: everybody gets in"]);
    assert_eq!(new_name(&mut world, 5, "erin", None), Ok(()));
}

#[test]
fn senseless_entries_of_the_list_are_refused_whole() {
    let mut world = World::new();
    world.client(1, "bob");
    for bad in ["nobody", "", "b\x1bob", "abcd", &"f".repeat(63), &"g".repeat(64)] {
        assert_eq!(failure(&world.owner_asks(allow(bad))), Some(Failure::UnknownUser), "{bad:?}");
        assert_eq!(failure(&world.owner_asks(Ask::Disallow { whom: bad.into() })), Some(Failure::UnknownUser));
    }
    assert!(matches!(world.owner_asks(Ask::Settings), Answer::Settings(view) if !view.allow_list));
    done(world.owner_asks(allow("bob")));
    assert_eq!(failure(&world.owner_asks(allow("bob"))), Some(Failure::Already));
    assert_eq!(failure(&world.owner_asks(allow(&user(1).public().fingerprint().to_string()))), Some(Failure::Already));
}

#[test]
fn while_registration_is_closed_only_names_that_are_there_get_in() {
    let mut world = World::new();
    world.client(1, "bob");
    done(world.owner_asks(registration(Registration::Closed)));
    assert_eq!(failure(&world.owner_asks(registration(Registration::Closed))), Some(Failure::Already));
    let mut world = world.restart();
    assert_eq!(new_name(&mut world, 1, "bob", None), Ok(()));
    assert_eq!(new_name(&mut world, 1, "robert", None), Err(Code::Closed), "nor a second name");
    assert_eq!(new_name(&mut world, 2, "carol", None), Err(Code::Closed));
    let (notes, token) = done(world.owner_asks(invitation(None, None)));
    assert_eq!(notes, ["it is of no use while registration is closed"]);
    assert_eq!(new_name(&mut world, 2, "carol", token.as_deref()), Err(Code::Closed));
    done(world.owner_asks(registration(Registration::Open)));
    assert_eq!(new_name(&mut world, 2, "carol", token.as_deref()), Ok(()));
    assert!(matches!(world.owner_asks(Ask::Settings), Answer::Settings(view) if view.invitations == 1), "unspent");
}

#[test]
fn an_invitation_is_for_so_many_names_and_so_long_and_is_used_up_with_the_name() {
    let mut world = World::new();
    world.client(1, "bob");
    done(world.owner_asks(registration(Registration::Invite)));
    let (_, two) = done(world.owner_asks(invitation(Some(2), None)));
    let (_, short) = done(world.owner_asks(invitation(None, Some(3600))));
    let (two, short) = (two.as_deref(), short.as_deref());
    assert_ne!(two, short);
    let kept = format!("{:?}", world.store.load().unwrap().register);
    let token = Token::parse(two.unwrap()).unwrap();
    assert!(!kept.contains(&format!("{:?}", token.expose().to_vec())), "only a hash is kept");
    assert_eq!(new_name(&mut world, 2, "carol", None), Err(Code::Closed));
    let guess = Token::new([77; 16]).text();
    assert_eq!(new_name(&mut world, 2, "carol", Some(&guess)), Err(Code::Closed));
    assert_eq!(new_name(&mut world, 2, "bob", two), Err(Code::NameTaken), "which costs nothing");
    assert_eq!(new_name(&mut world, 2, "carol", two), Ok(()));
    assert_eq!(new_name(&mut world, 2, "carol", two), Ok(()), "nor does coming again");
    // Killed right after the name was given: the use is durable with it.
    let mut world = world.restart();
    assert_eq!(new_name(&mut world, 3, "dave", two), Ok(()));
    assert_eq!(new_name(&mut world, 4, "erin", two), Err(Code::Closed), "used up");
    let mut world = world.restart();
    assert_eq!(new_name(&mut world, 4, "erin", two), Err(Code::Closed));
    world.now = Duration::from_secs(3600);
    assert_eq!(new_name(&mut world, 4, "erin", short), Err(Code::Closed), "too old");
    assert!(matches!(world.owner_asks(Ask::Settings), Answer::Settings(view) if view.invitations == 0));
    for (uses, for_s) in [(Some(0), None), (Some(u32::MAX), None), (None, Some(0)), (None, Some(u64::MAX))] {
        assert_eq!(failure(&world.owner_asks(invitation(uses, for_s))), Some(Failure::BadValue), "{uses:?} {for_s:?}");
    }
    world.pass(Duration::from_secs(120));
    let left = world.store.load().unwrap().register;
    assert!(left.iter().all(|entry| entry.list != crate::store::List::Token), "what is over is forgotten");
}

#[test]
fn an_invitation_is_written_down_without_its_token() {
    let mut world = World::new();
    let (_, token) = done(world.owner_asks(invitation(None, None)));
    let Answer::Audit(page) = world.owner_asks(Ask::Audit { before: None, limit: None }) else { panic!() };
    let acts = format!("{:?} {:?}", page.rows, world.log);
    assert!(acts.contains("invitation") && !acts.contains(&token.unwrap()), "{acts}");
}

#[test]
fn levels_close_one_door_after_another_and_outlive_a_restart() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Public);
    for bad in [0, 6, 255] {
        assert_eq!(failure(&world.owner_asks(level(bad))), Some(Failure::BadValue), "{bad}");
    }
    assert_eq!(failure(&world.owner_asks(level(5))), Some(Failure::Already));
    done(world.owner_asks(level(3)));
    assert_eq!(world.slower, 4);
    assert_eq!(new_name(&mut world, 3, "carol", None), Err(Code::Closed));
    let (_, token) = done(world.owner_asks(invitation(None, None)));
    assert_eq!(new_name(&mut world, 3, "carol", token.as_deref()), Ok(()));
    done(world.owner_asks(level(2)));
    let (_, token) = done(world.owner_asks(invitation(None, None)));
    assert_eq!(new_name(&mut world, 4, "dave", token.as_deref()), Err(Code::Closed));
    let reply = world.try_create(&mut bob, Id([8; 16]), "attic", RoomKind::Public);
    assert_eq!(code(&reply), Some(Code::NotAllowed));
    world.join(&mut bob, RoomKind::Public);
    let mut world = world.restart();
    world.feed(Input::Timeout);
    assert_eq!(world.slower, 10);
    assert!(matches!(world.owner_asks(Ask::Settings), Answer::Settings(view) if view.defcon == 2));
    for client in [&mut alice, &mut bob] {
        world.reconnect(client, client.key().as_bytes()[0]);
    }
    let carol = world.client(3, "carol");
    done(world.owner_asks(Ask::Grant { name: "alice".into(), role: Role::Moderator }));
    let (notes, _) = done(world.owner_asks(level(1)));
    assert!(notes[0].starts_with("2 who are here now"), "{notes:?}");
    assert_eq!(world.refused(carol.session, Request::Enter { room: DEN, door: None }), Code::Locked);
    assert!(matches!(world.request(bob.session, Request::Enter { room: DEN, door: None }), Reply::Entered { .. }));
    assert_eq!(new_name(&mut world, 1, "alice", None), Ok(()));
    assert_eq!(new_name(&mut world, 2, "bob", None), Err(Code::NotListed));
    done(world.owner_asks(allow("bob")));
    assert_eq!(new_name(&mut world, 2, "bob", None), Ok(()));
    done(world.owner_asks(level(5)));
    assert_eq!(world.slower, 1);
}

#[test]
fn a_damaged_list_keeps_the_server_from_starting() {
    use crate::store::{Entry, List, Write};
    for list in [List::Mute, List::Allowed, List::Token, List::Setting] {
        let mut store = ServerStore::in_memory().unwrap();
        let entry = Entry { list, key: vec![1; 5], value: vec![0xff] };
        store.apply(&[Write::Keep(entry)]).unwrap();
        let core = Core::new(config(), server(), store.load().unwrap(), Duration::ZERO, START_MS);
        assert!(matches!(core, Err(LoadError::Register(word)) if word == list.as_str()), "{list:?}");
    }
}

#[test]
fn releasing_the_last_listed_name_does_not_open_the_server() {
    let mut world = World::new();
    world.client(1, "only");
    world.owner_asks(allow("only"));
    let released = world.owner_asks(Ask::Release { name: "only".into() });
    assert_eq!(failure(&released), Some(Failure::NotAllowed));
    assert_eq!(new_name(&mut world, 2, "stranger", None), Err(Code::NotListed));
}
