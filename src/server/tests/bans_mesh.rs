//! Bans between the servers of a mesh, honest and not.

use super::bans::{all, ban, by_name, failure, id, listed, said_bye};
use super::linked::{Linked, identity, info, login, server_name, vouch};
use super::*;
use crate::limits::REGISTER_MAX;
use crate::wire::admin::{Failure, Role, Whom};
use crate::wire::ban::{Ban, Page, SignedBan, Target};

/// What the owner of a server asks there; all of it has arrived everywhere.
fn asks(mesh: &mut Linked, server: usize, ask: Ask) -> Answer {
    let answer = mesh.servers[server].owner_asks(ask);
    mesh.run();
    answer
}

fn rows(mesh: &mut Linked, server: usize) -> Vec<String> {
    listed(asks(mesh, server, all())).rows.into_iter().map(|row| row.id).collect()
}

fn enters(mesh: &mut Linked, server: usize, seed: u8, name: &str) -> Result<Welcome, Refusal> {
    let session = mesh.connect(server, &user(seed));
    mesh.login(session, login(&user(seed), server, name, seed, None))
}

fn key(seed: u8) -> Target {
    Target::Key(user(seed).public().fingerprint().0.into())
}

/// A ban that a server signs, as it is said; `of` is the server whose ban it is said to be.
fn forged(signer: usize, of: usize, (id, number): (u64, u64), target: Target) -> Vec<u8> {
    let new = Ban::new(&identity(of).public(), server_name(of), (id, number), target);
    SignedBan::sign(&identity(signer), Ban { mesh: true, reason: "spam".into(), ..new }).to_bytes()
}

/// What is said to be bans of a server.
fn page(of: usize, bans: &[Vec<u8>]) -> Vec<u8> {
    let any = SignedBan::sign(&identity(of), Ban::new(&identity(of).public(), server_name(of), (1, 1), key(1)));
    let (origin, vouch) = (identity(of).public(), vouch(of));
    let mut page = Page::fill(&origin, &server_name(of), Some(&vouch), &mut [any].iter().peekable()).unwrap();
    page.bans = bans.iter().map(|bytes| bytes.clone().into()).collect();
    page.to_bytes()
}

fn refused(mesh: &Linked, server: usize) -> u64 {
    mesh.servers[server].core.gauges().refused
}

#[test]
fn a_ban_holds_at_every_server_at_once_and_is_lifted_where_it_was_made() {
    let mut mesh = Linked::new(3);
    let mut bob = mesh.client(2, 2, "bob");
    mesh.visit(&mut bob, 0).unwrap();
    let there = mesh.direct(&bob);
    id(asks(&mut mesh, 0, by_name("bob@s3")));
    said_bye(&mesh.pushes(there));
    for server in 0..3 {
        let refusal = enters(&mut mesh, server, 2, "robert").unwrap_err();
        assert_eq!(refusal.code, Code::Banned);
        assert_eq!(refusal.message.contains("by s1"), server != 0, "{}", refusal.message);
    }
    assert_eq!(rows(&mut mesh, 1), ["1@s1"]);
    let answer = asks(&mut mesh, 1, Ask::Unban { id: "1@s1".into() });
    let Answer::Failed { code: Failure::NotAllowed, hint: Some(hint), .. } = answer else { panic!("{answer:?}") };
    assert_eq!(hint, "at s1: unban 1");
    assert_eq!(failure(&asks(&mut mesh, 0, Ask::Unban { id: "1".into() })), None);
    assert!((0..3).all(|server| rows(&mut mesh, server).is_empty()));
    assert!(enters(&mut mesh, 1, 2, "robert").is_ok());
}

#[test]
fn a_ban_for_one_server_stays_there() {
    let mut mesh = Linked::new(2);
    let bob = mesh.client(1, 2, "bob");
    let mut visitor = Client { session: bob.session, ..bob };
    mesh.visit(&mut visitor, 0).unwrap();
    let whom = Whom::Name("bob@s2".into());
    id(asks(&mut mesh, 0, Ask::Ban { whom, for_s: None, reason: Some("spam".into()), here: true }));
    said_bye(&mesh.pushes(visitor.session));
    assert_eq!(mesh.away(visitor.session), Some(Away::Closed));
    assert_eq!(mesh.visit(&mut visitor, 0).unwrap_err().code, Code::Banned);
    let at_home = mesh.direct(&visitor);
    assert_eq!(mesh.request(at_home, Request::Ping), Reply::Done);
    assert!(rows(&mut mesh, 1).is_empty());
    mesh.pass(Duration::from_secs(120));
    assert!(rows(&mut mesh, 1).is_empty());
}

#[test]
fn a_server_that_was_away_hears_it_from_whoever_knows_and_keeps_it() {
    let mut mesh = Linked::new(3);
    mesh.cut(0, 2);
    id(asks(&mut mesh, 0, ban(Whom::Fingerprint(user(2).public().fingerprint().to_string()))));
    assert_eq!((rows(&mut mesh, 1), rows(&mut mesh, 2)), (vec!["1@s1".to_owned()], vec![]));
    mesh.cut(1, 2);
    mesh.mend(1, 2);
    assert_eq!(rows(&mut mesh, 2), ["1@s1"], "from s2, while s1 is out of reach");
    mesh.restart(2);
    assert_eq!(enters(&mut mesh, 2, 2, "bob").unwrap_err().code, Code::Banned);
    mesh.cut(1, 2);
    asks(&mut mesh, 0, Ask::Unban { id: "1".into() });
    assert_eq!(rows(&mut mesh, 2), ["1@s1"]);
    mesh.mend(0, 2);
    assert!(rows(&mut mesh, 2).is_empty(), "and that it is lifted");
    assert!(enters(&mut mesh, 2, 2, "bob").is_ok());
}

#[test]
fn a_name_that_nobody_had_here_is_bound_to_the_key_that_comes_with_it() {
    let mut mesh = Linked::new(3);
    mesh.cut(0, 1);
    let bob = mesh.client(1, 2, "bob");
    id(asks(&mut mesh, 0, by_name("bob@s2")));
    let mut bob = Client { session: bob.session, ..bob };
    assert_eq!(mesh.visit(&mut bob, 2).unwrap_err().code, Code::Banned);
    assert_eq!(enters(&mut mesh, 2, 2, "robert").unwrap_err().code, Code::Banned, "s3 has seen the key");
    mesh.restart(2);
    assert_eq!(enters(&mut mesh, 2, 2, "robert").unwrap_err().code, Code::Banned, "and remembers it");
    mesh.mend(0, 1);
    let home = mesh.direct(&bob);
    said_bye(&mesh.pushes(home));
    assert_eq!(enters(&mut mesh, 1, 2, "robert").unwrap_err().code, Code::Banned, "s2 knows whose name it is");
    let print = user(2).public().fingerprint().to_string();
    assert_eq!(listed(asks(&mut mesh, 1, all())).rows[0].fingerprint, Some(print.clone()));
    let session = mesh.connect(0, &user(2));
    let cert = bob.me.cert.clone();
    assert!(mesh.login(session, login(&user(2), 0, "x", 2, Some(&cert))).is_err());
    assert_eq!(listed(asks(&mut mesh, 0, all())).rows[0].fingerprint, Some(print), "s1 has now seen it too");
}

#[test]
fn a_leaf_of_a_room_is_removed_by_the_rooms_server_whichever_server_bans() {
    let mut mesh = Linked::new(3);
    let (mut alice, mut bob) = (mesh.client(0, 1, "alice"), mesh.visitor(1, 0, 2, "bob"));
    mesh.create(&mut alice, RoomKind::Private);
    mesh.join(&mut bob, RoomKind::Private);
    mesh.catch(&mut alice);
    id(asks(&mut mesh, 2, by_name("bob@s2")));
    assert!(mesh.catch(&mut alice).iter().any(|push| matches!(push, Push::CommitNow { room: DEN, .. })));
    assert!(matches!(mesh.commit_pending(&mut alice), Reply::Sequenced { .. }));
    assert_eq!(alice.members(), ["alice"]);
}

#[test]
fn no_server_bans_in_anothers_name_nor_half_the_world_nor_who_has_a_role() {
    let mut mesh = Linked::new(3);
    let bob = mesh.client(0, 2, "bob");
    let carol = mesh.client(0, 3, "carol");
    asks(&mut mesh, 0, Ask::Grant { name: "carol".into(), role: Role::Moderator });
    let wide = Target::Network("0.0.0.0/0".parse().unwrap());
    let lies = [
        page(2, &[forged(1, 2, (1, 1), key(2))]),
        page(1, &[forged(2, 2, (1, 1), key(2))]),
        page(1, &[forged(1, 1, (1, 1), wide)]),
        page(9, &[forged(9, 9, (1, 1), key(2))]).get(..40).unwrap().to_vec(),
        vec![0; 100],
    ];
    for (count, lie) in lies.iter().enumerate() {
        mesh.delivered(0, 1, &Head::Bans, lie);
        assert_eq!(refused(&mesh, 0), count as u64 + 1);
    }
    let logged = mesh.servers[0].log.iter().filter(|event| matches!(event, LogEvent::BansRefused { .. }));
    assert_eq!(logged.count(), 1, "one line in a while");
    assert!(rows(&mut mesh, 0).is_empty());
    assert_eq!(mesh.request(bob.session, Request::Ping), Reply::Done);
    mesh.delivered(0, 2, &Head::Bans, &page(2, &[forged(2, 2, (1, 1), key(3)), forged(2, 2, (2, 2), key(2))]));
    assert_eq!(mesh.request(carol.session, Request::Ping), Reply::Done, "who has a role here stays");
    said_bye(&mesh.pushes(bob.session));
    assert_eq!(rows(&mut mesh, 0), ["1@s3", "2@s3"]);
    asks(&mut mesh, 0, Ask::Revoke { name: "carol".into() });
    said_bye(&mesh.pushes(carol.session));
}

#[test]
fn a_moderator_who_comes_through_another_server_shuts_no_network_of_the_mesh() {
    let mut mesh = Linked::new(2);
    let mut chief = mesh.client(1, 4, "chief");
    mesh.visit(&mut chief, 0).unwrap();
    asks(&mut mesh, 0, Ask::Grant { name: "chief@s2".into(), role: Role::Moderator });
    let mut says = |whom: Whom, here: bool| {
        let ask = Ask::Ban { whom, for_s: None, reason: None, here };
        match mesh.request(chief.session, Request::Admin { ask: serde_json::to_string(&ask).unwrap() }) {
            Reply::Admin(text) => failure(&serde_json::from_str(&text).unwrap()),
            other => panic!("{other:?}"),
        }
    };
    let shut = |text: &str| Whom::Network(text.into());
    assert_eq!(says(shut("192.0.2.0/24"), false), Some(Failure::NotAllowed), "they are in it themselves");
    assert_eq!(says(shut("192.0.2.0/24"), true), None);
    assert_eq!(says(Whom::Name("chief@s2".into()), false), Some(Failure::NotAllowed));
    assert_eq!(says(Whom::Name("bob@s2".into()), false), None);
    assert_eq!(mesh.request(chief.session, Request::Ping), Reply::Done);
    let home = mesh.direct(&chief);
    assert_eq!(mesh.request(home, Request::Ping), Reply::Done);
}

#[test]
fn a_server_that_nobody_vouches_for_bans_nobody() {
    let mut mesh = Linked::new(2);
    let stranger = Identity::from_seed(&[77; 32]);
    let new = Ban::new(&stranger.public(), name("s7"), (1, 1), key(2));
    let signed = SignedBan::sign(&stranger, Ban { mesh: true, ..new });
    for vouch in [None, Some(ServerCert::issue(&stranger, name("s7"), stranger.public(), START_MS * 2)), Some(vouch(1))]
    {
        let page = Page::fill(&stranger.public(), &name("s7"), vouch.as_ref(), &mut [signed.clone()].iter().peekable());
        mesh.delivered(0, 1, &Head::Bans, &page.unwrap().to_bytes());
    }
    assert_eq!(refused(&mesh, 0), 3);
    assert!(rows(&mut mesh, 0).is_empty() && enters(&mut mesh, 0, 2, "bob").is_ok());
    assert!(mesh.servers[0].store.load().unwrap().register.is_empty());
}

#[test]
fn replays_and_older_words_do_nothing() {
    let mut mesh = Linked::new(3);
    let ban = forged(2, 2, (1, 5), key(2));
    let new = Ban::new(&identity(2).public(), server_name(2), (1, 6), key(2));
    let lifted = SignedBan::sign(&identity(2), Ban { mesh: true, lifted: true, ..new }).to_bytes();
    mesh.delivered(0, 2, &Head::Bans, &page(2, &[ban.clone(), lifted]));
    let kept = mesh.servers[0].store.load().unwrap().register;
    for _ in 0..3 {
        mesh.delivered(0, 1, &Head::Bans, &page(2, std::slice::from_ref(&ban)));
    }
    assert!(rows(&mut mesh, 0).is_empty() && enters(&mut mesh, 0, 2, "bob").is_ok());
    assert_eq!(mesh.servers[0].store.load().unwrap().register, kept);
    assert_eq!(refused(&mesh, 0), 0, "what comes late is no fault");
}

#[test]
fn what_a_third_server_holds_back_is_asked_of_the_one_that_made_it() {
    let mut mesh = Linked::new(3);
    mesh.cut(0, 2);
    for seed in [2, 3, 4] {
        id(asks(&mut mesh, 2, ban(Whom::Fingerprint(user(seed).public().fingerprint().to_string()))));
    }
    // s2 is dishonest and passes on the last one only.
    mesh.cut(0, 1);
    let stored = mesh.servers[2].store.load().unwrap().register;
    let last = stored.iter().rfind(|entry| entry.key.first() == Some(&1)).unwrap();
    let mut decoder = minicbor::Decoder::new(&last.value);
    decoder.array().unwrap();
    let bytes = decoder.bytes().unwrap().to_vec();
    mesh.event(0, MeshEvent::Up(info(1)));
    mesh.servers[0].mesh.clear();
    mesh.delivered(0, 1, &Head::Bans, &page(2, &[bytes]));
    assert_eq!(rows(&mut mesh, 0), ["3@s3"]);
    mesh.mend(0, 2);
    assert_eq!(rows(&mut mesh, 0), ["1@s3", "2@s3", "3@s3"]);
}

#[test]
fn a_server_that_lost_its_bans_gets_them_back_and_goes_on_counting() {
    let mut mesh = Linked::new(2);
    id(asks(&mut mesh, 0, ban(Whom::Fingerprint(user(2).public().fingerprint().to_string()))));
    mesh.servers[0].store = ServerStore::in_memory().unwrap();
    mesh.restart(0);
    assert_eq!(rows(&mut mesh, 0), ["1"], "its own word, brought by another");
    assert_eq!(enters(&mut mesh, 0, 2, "bob").unwrap_err().code, Code::Banned);
    let whom = Whom::Fingerprint(user(3).public().fingerprint().to_string());
    assert_eq!(id(asks(&mut mesh, 0, ban(whom))), "2");
    assert_eq!(rows(&mut mesh, 1), ["1@s1", "2@s1"]);
}

#[test]
fn one_server_makes_so_many_bans_and_not_more_and_does_not_keep_the_others_busy() {
    let mut mesh = Linked::new(2);
    let target = |n: u64| Target::Network(format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255).parse().unwrap());
    let most = u64::try_from(REGISTER_MAX).unwrap();
    let made: Vec<Vec<u8>> = (1..=most + 200).map(|n| forged(1, 1, (n, n), target(n))).collect();
    for part in made.chunks(100) {
        mesh.delivered(0, 1, &Head::Bans, &page(1, part));
    }
    assert_eq!(refused(&mesh, 0), 2, "the last two hundred");
    mesh.pass(Duration::from_secs(120));
    mesh.delivered(0, 1, &Head::Bans, &page(1, &made[made.len() - 1..]));
    let count = mesh.servers[0].store.load().unwrap().register.len();
    assert_eq!(count, REGISTER_MAX + 1, "also later");
    let before = refused(&mesh, 0);
    for _ in 0..400 {
        mesh.delivered(0, 1, &Head::Bans, &[0]);
        mesh.delivered(0, 1, &Head::BansKnown, &[0]);
    }
    assert_eq!(refused(&mesh, 0), before + 800);
    let whom = Whom::Name("nobody@s9".into());
    assert_eq!(id(asks(&mut mesh, 0, ban(whom))), "1", "the server's own list has room");
}
