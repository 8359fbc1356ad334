//! Bans on one server, as the banned, the others and the moderators see them.

use super::*;
use crate::wire::admin::{BanView, Failure, Page, Role, Whom};
use crate::wire::log::RemoveReason;

pub(super) fn by_name(name: &str) -> Ask {
    ban(Whom::Name(name.into()))
}

pub(super) fn ban(whom: Whom) -> Ask {
    Ask::Ban { whom, for_s: None, reason: Some("spam".into()), here: false }
}

fn network(text: &str) -> Ask {
    ban(Whom::Network(text.into()))
}

pub(super) fn failure(answer: &Answer) -> Option<Failure> {
    if let Answer::Failed { code, .. } = answer { Some(*code) } else { None }
}

#[track_caller]
pub(super) fn id(answer: Answer) -> String {
    match answer {
        Answer::Done { id: Some(id), .. } => id,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(super) fn listed(answer: Answer) -> Page<BanView> {
    match answer {
        Answer::Bans(page) => page,
        other => panic!("{other:?}"),
    }
}

pub(super) fn all() -> Ask {
    Ask::Bans { after: None }
}

#[track_caller]
pub(super) fn said_bye(pushes: &[Push]) {
    let bye = Push::Bye { reason: "banned".into(), detail: Some("spam".into()) };
    assert!(pushes.contains(&bye), "{pushes:?}");
}

/// Alice and Bob in a room of hers.
fn pair() -> (World, Client, Client) {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    world.join(&mut bob, RoomKind::Private);
    world.catch(&mut alice);
    (world, alice, bob)
}

fn again(world: &mut World, seed: u8, name: &str) -> Result<Welcome, Refusal> {
    let session = world.connect(&user(seed));
    world.login_as(session, name, seed)
}

fn asked(world: &mut World, officer: &Client, ask: &Ask) -> Answer {
    let ask = serde_json::to_string(ask).unwrap();
    match world.request(officer.session, Request::Admin { ask }) {
        Reply::Admin(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_who_is_banned_nothing_more_is_relayed() {
    let mut world = World::new();
    let (alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    for (client, own, peer) in [(&alice, 1, 2), (&bob, 2, 1)] {
        let tokens = crate::wire::leg::RelayTokens { own: [own; 32].into(), peer: [peer; 32].into() };
        assert!(matches!(world.request(client.session, Request::RelayRegister(tokens)), Reply::RelayTicket(_)));
    }
    id(world.owner_asks(by_name("bob")));
    assert_eq!(world.legs.counts().legs, 1, "though both ends would go on");
}

#[test]
fn who_is_banned_is_out_at_once_and_not_in_again_under_any_name() {
    let (mut world, mut alice, bob) = pair();
    let id = id(world.owner_asks(by_name("bob")));
    said_bye(&world.pushes(bob.session));
    assert!(world.closed.contains(&bob.session));
    let proposal = world.inbox(alice.session).iter().find_map(|frame| match frame {
        ToClient::Push(Push::Row { row, .. }) => row.reason,
        _ => None,
    });
    assert_eq!(proposal, Some(RemoveReason::Banned));
    let told = world.catch(&mut alice);
    assert!(told.iter().any(|push| matches!(push, Push::CommitNow { room: DEN, .. })), "{told:?}");
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    assert_eq!(alice.members(), ["alice"]);
    for name in ["bob", "robert"] {
        let refusal = again(&mut world, 2, name).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::Banned, "you are banned: spam"));
    }
    assert!(again(&mut world, 9, "robert").is_ok(), "the name that was refused is free");
    assert_eq!(failure(&world.owner_asks(by_name("bob"))), Some(Failure::Already));
    assert_eq!(failure(&world.owner_asks(Ask::Unban { id })), None);
    assert!(again(&mut world, 2, "bob").is_ok());
    assert!(listed(world.owner_asks(all())).rows.is_empty());
}

#[test]
fn a_ban_holds_after_a_restart_and_removals_go_on() {
    let (mut world, mut alice, bob) = pair();
    world.disconnect(&alice);
    id(world.owner_asks(by_name("bob")));
    let mut world = world.restart();
    assert_eq!(again(&mut world, 2, "x").unwrap_err().code, Code::Banned);
    world.reconnect(&mut alice, 1);
    world.catch_up(&mut alice);
    let told = world.catch(&mut alice);
    assert!(told.iter().any(|push| matches!(push, Push::CommitNow { .. })), "nobody was there to commit before");
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    assert_eq!(alice.members(), ["alice"]);
    let row = listed(world.owner_asks(all())).rows.remove(0);
    assert_eq!((row.id.as_str(), row.name.as_deref(), row.by.as_str()), ("1", Some("bob@s1"), "owner"));
    assert_eq!(row.fingerprint, Some(bob.key().fingerprint().to_string()));
    assert_eq!(id(world.owner_asks(by_name("alice"))), "2", "no id is given twice");
}

#[test]
fn a_ban_ends_by_itself_and_says_when() {
    let (mut world, ..) = pair();
    let whom = Whom::Fingerprint(user(2).public().fingerprint().to_string());
    id(world.owner_asks(Ask::Ban { whom, for_s: Some(3600), reason: None, here: false }));
    let refusal = again(&mut world, 2, "bob").unwrap_err();
    assert_eq!(refusal.message, "you are banned until 2023-11-14 23:13:20 UTC");
    world.now += Duration::from_secs(3599);
    assert!(again(&mut world, 2, "bob").is_err());
    world.now += Duration::from_secs(1);
    assert!(again(&mut world, 2, "bob").is_ok());
    assert!(listed(world.owner_asks(all())).rows.is_empty());
    world.pass(Duration::from_secs(60));
    let bans = world.store.load().unwrap().register;
    assert_eq!(bans.len(), 1, "only the numbers that were given stay");
}

#[test]
fn a_network_is_shut_for_connections_from_there() {
    let (mut world, alice, bob) = pair();
    let carol = user(3);
    let session = world.connect_from(&carol, "[2001:db8::7]:9");
    world.login_as(session, "carol", 3).unwrap();
    id(world.owner_asks(network("2001:db8::/32")));
    said_bye(&world.pushes(session));
    assert!(!world.closed.contains(&bob.session) && !world.closed.contains(&alice.session));
    let there = world.connect_from(&user(4), "[2001:db8:ffff::1]:9");
    assert_eq!(world.login_as(there, "dave", 4).unwrap_err().code, Code::Banned);
    let elsewhere = world.connect_from(&carol, "[2001:db9::7]:9");
    world.login_as(elsewhere, "carol", 3).unwrap();
    let id = id(world.owner_asks(network("192.0.2.1")));
    assert!(world.closed.contains(&bob.session) && world.closed.contains(&alice.session));
    let mapped = world.connect_from(&user(5), "[::ffff:192.0.2.1]:9");
    assert_eq!(world.login_as(mapped, "eve", 5).unwrap_err().code, Code::Banned);
    assert_eq!(listed(world.owner_asks(all())).rows[1].network.as_deref(), Some("192.0.2.1"));
    assert_eq!(failure(&world.owner_asks(Ask::Unban { id })), None);
    assert!(again(&mut world, 1, "alice").is_ok());
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_half_done() {
    let (mut world, _, bob) = pair();
    let bad = Some(Failure::BadValue);
    let cases = [
        (by_name("nobody"), Some(Failure::UnknownUser)),
        (by_name("a\x1b[31m"), Some(Failure::UnknownUser)),
        (by_name("@@@"), Some(Failure::UnknownUser)),
        (by_name("nobody@s1"), Some(Failure::UnknownUser)),
        (ban(Whom::Fingerprint("12ab".into())), bad),
        (network("192.0.2.0/33"), bad),
        (network("bob"), bad),
        (network("0.0.0.0/0"), bad),
        (Ask::Ban { whom: Whom::Name("bob".into()), for_s: Some(0), reason: None, here: false }, bad),
        (Ask::Ban { whom: Whom::Name("bob".into()), for_s: Some(u64::MAX), reason: None, here: false }, bad),
        (Ask::Ban { whom: Whom::Name("bob".into()), for_s: None, reason: Some("x".repeat(513)), here: false }, bad),
        (Ask::Unban { id: "1".into() }, Some(Failure::UnknownId)),
        (Ask::Unban { id: "1@s1".into() }, Some(Failure::UnknownId)),
        (Ask::Unban { id: "1@s9".into() }, Some(Failure::UnknownId)),
        (Ask::Unban { id: "\x1b".into() }, Some(Failure::UnknownId)),
    ];
    for (ask, expected) in cases {
        let answer = world.owner_asks(ask.clone());
        assert_eq!(failure(&answer), expected, "{ask:?}");
        if let Answer::Failed { why, hint, .. } = answer {
            assert!(why.chars().chain(hint.iter().flat_map(|hint| hint.chars())).all(crate::wire::text::harmless));
        }
    }
    assert!(!world.closed.contains(&bob.session));
    assert!(listed(world.owner_asks(all())).rows.is_empty() && world.store.load().unwrap().register.is_empty());
}

#[test]
fn nobody_bans_oneself_nor_who_has_as_much_to_say() {
    let (mut world, alice, bob) = pair();
    for name in ["alice", "bob"] {
        world.owner_asks(Ask::Grant { name: name.into(), role: Role::Moderator });
    }
    let print = |client: &Client| ban(Whom::Fingerprint(client.key().fingerprint().to_string()));
    let session = world.connect_from(&user(7), "198.51.100.7:9");
    world.login_as(session, "chief", 7).unwrap();
    world.owner_asks(Ask::Grant { name: "chief".into(), role: Role::Operator });
    let mine = [by_name("alice"), print(&alice), network("192.0.2.0/24"), network("0.0.0.0/1")];
    let theirs = [by_name("bob"), print(&bob), by_name("chief"), network("198.51.100.0/24")];
    for ask in mine.into_iter().chain(theirs) {
        let ask = match ask {
            Ask::Ban { whom, for_s, reason, .. } => Ask::Ban { whom, for_s, reason, here: true },
            ask => ask,
        };
        assert_eq!(failure(&asked(&mut world, &alice, &ask)), Some(Failure::NotAllowed), "{ask:?}");
    }
    assert!([alice.session, bob.session, session].iter().all(|session| !world.closed.contains(session)));
    let carol = world.client(3, "carol");
    let by = by_name("carol");
    id(asked(&mut world, &alice, &by));
    assert!(world.closed.contains(&carol.session));
    let rows = listed(world.owner_asks(all())).rows;
    assert_eq!(rows.last().unwrap().by, "alice@s1");
    assert_eq!(failure(&world.owner_asks(by_name("alice"))), None, "the owner may");
    assert!(world.closed.contains(&alice.session));
}

#[test]
fn a_network_that_is_shut_keeps_nobody_out_who_has_a_role() {
    let (mut world, alice, _bob) = pair();
    world.owner_asks(Ask::Grant { name: "alice".into(), role: Role::Moderator });
    let chief = world.client(7, "chief");
    world.owner_asks(Ask::Grant { name: "chief".into(), role: Role::Operator });
    world.disconnect(&chief);
    id(asked(&mut world, &alice, &network("198.51.100.0/24")));
    let from = |world: &mut World, seed: u8, name: &str| {
        let session = world.connect_from(&user(seed), "198.51.100.7:9");
        world.login_as(session, name, seed).map_err(|refusal| refusal.code)
    };
    assert!(from(&mut world, 7, "chief").is_ok());
    assert_eq!(from(&mut world, 8, "stranger").unwrap_err(), Code::Banned);
}

#[test]
fn long_lists_come_in_pages() {
    let mut world = World::new();
    for n in 0..600u32 {
        let whom = Whom::Network(format!("10.0.{}.{}", n / 256, n % 256));
        id(world.owner_asks(Ask::Ban { whom, for_s: None, reason: None, here: n % 2 == 0 }));
    }
    world.owner_asks(Ask::Unban { id: "250".into() });
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = listed(world.owner_asks(Ask::Bans { after: after.clone() }));
        seen.extend(page.rows.into_iter().map(|row| row.id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: Vec<String> = (1..=600).filter(|n| *n != 250).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
    let gone = listed(world.owner_asks(Ask::Bans { after: Some("250".into()) }));
    assert_eq!(gone.rows[0].id, "251", "also after one that is gone");
}

#[test]
fn a_damaged_ban_keeps_the_server_from_starting() {
    let (mut world, ..) = pair();
    id(world.owner_asks(by_name("bob")));
    let mut entries = world.store.load().unwrap().register;
    let mut entry = entries.remove(1);
    entry.value.truncate(entry.value.len() - 1);
    world.store.apply(&[Write::Keep(entry)]).unwrap();
    let loaded = world.store.load().unwrap();
    assert!(Core::new(config(), server(), loaded, Duration::ZERO, START_MS).is_err());
}
