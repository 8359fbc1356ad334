use super::linked::{Linked, identity, info, login, node, server_name, vouch};
use super::*;
use crate::limits::{AWAY_SERVERS, FRAME_MAX, FRAME_MAX_BEFORE_LOGIN, POST_BURST, POSTS_PER_SECOND};
use crate::wire::cert::CertError;
use crate::wire::vouch::Doubt;
use proptest::prelude::*;

/// Alice, who has a name at `s2` and is connected there.
fn alice(mesh: &mut Linked) -> Client {
    mesh.client(1, 1, "alice")
}

fn good(client: &Client) -> Login {
    login(&client.me.identity, 1, "alice", 1, Some(&client.me.cert))
}

/// What comes of a login at `s1`, through `s2`.
fn tried(change: impl FnOnce(&Client, &mut Login)) -> Result<Welcome, Refusal> {
    let mut mesh = Linked::new(3);
    let alice = alice(&mut mesh);
    let mut login = good(&alice);
    change(&alice, &mut login);
    let there = mesh.at(&alice, 0);
    let outcome = mesh.login(there, login);
    if outcome.is_err() {
        assert_eq!(mesh.away(there), Some(Away::Closed), "a refusal ends the session");
        assert_eq!((mesh.servers[0].core.counts().guests, mesh.servers[1].core.counts().away), (0, 0));
        assert_eq!(mesh.request(alice.session, Request::Ping), Reply::Done, "at her own server all is well");
    }
    outcome
}

fn with_pass(pass: Pass) -> Result<Welcome, Refusal> {
    tried(|_, login| login.pass = Some(pass.to_bytes().into()))
}

fn with_cert(make: impl FnOnce(&Client) -> NameCert) -> Result<Welcome, Refusal> {
    tried(|client, login| login.cert = Some(make(client).to_bytes().into()))
}

fn subject(person: &str, server: &str) -> FullName {
    FullName::new(name(person), name(server))
}

#[test]
fn a_server_speaks_only_for_clients_that_have_given_it_a_pass() {
    assert!(tried(|_, _| {}).is_ok());
    let (own, later) = (Id([1; 16]), START_MS + 1000);
    let refused = |outcome: Result<Welcome, Refusal>| outcome.unwrap_err().code;
    assert_eq!(refused(tried(|_, login| login.pass = None)), Code::BadPass);
    assert_eq!(refused(tried(|_, login| login.pass = Some(vec![1, 2].into()))), Code::BadPass);
    let elsewhere = Pass::sign(&user(1), &identity(2).public(), own, later);
    assert_eq!(refused(with_pass(elsewhere)), Code::BadPass, "it was given to s3");
    let expired = Pass::sign(&user(1), &identity(1).public(), own, START_MS - 1);
    assert_eq!(refused(with_pass(expired)), Code::BadPass);
    let former = Pass::sign(&user(1), &identity(1).public(), Id([2; 16]), later);
    assert_eq!(refused(with_pass(former)), Code::BadPass, "another process of hers");
    let mut forged = Pass::sign(&user(1), &identity(1).public(), own, later).to_bytes();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(tried(|_, login| login.pass = Some(forged.into()))), Code::BadPass);
    let mallory = Pass::sign(&user(9), &identity(1).public(), own, later);
    assert_eq!(refused(with_pass(mallory)), Code::BadCertificate, "another key, whose name it is not");
}

#[test]
fn a_name_is_taken_on_its_own_servers_word_only() {
    let (later, key) = (START_MS * 2, user(1).public());
    let refused = |make: &dyn Fn(&Client) -> NameCert| with_cert(make).unwrap_err();
    let outcome = tried(|_, login| login.cert = None);
    assert_eq!(outcome.unwrap_err().code, Code::NoCertificate);
    assert_eq!(tried(|_, login| login.cert = Some(vec![0].into())).unwrap_err().code, Code::BadCertificate);
    let unvouched = refused(&|client| client.me.cert.clone().with_chain(None));
    assert!(unvouched.message.contains(&Doubt::Unknown(name("s2")).to_string()), "{unvouched:?}");
    let stranger = ServerCert::issue(&user(77), name("s2"), identity(1).public(), later);
    let other = refused(&|client| client.me.cert.clone().with_chain(Some(stranger.clone())));
    assert_eq!(other.code, Code::BadCertificate, "another authority's word");
    let lie =
        refused(&|_| NameCert::issue(&identity(1), subject("carol", "s3"), key, later).with_chain(Some(vouch(1))));
    assert!(lie.message.contains(&Doubt::OtherKey(name("s3")).to_string()), "s2 signs for a name of s3: {lie:?}");
    let borrowed =
        |_: &Client| NameCert::issue(&identity(1), subject("carol", "s3"), key, later).with_chain(Some(vouch(2)));
    assert_eq!(refused(&borrowed).code, Code::BadCertificate);
    let ours =
        refused(&|_| NameCert::issue(&identity(1), subject("carol", "s1"), key, later).with_chain(Some(vouch(1))));
    assert!(ours.message.contains(&Doubt::OtherKey(name("s1")).to_string()), "and for one of ours: {ours:?}");
    let expired = refused(&|client| {
        let subject = client.me.cert.subject.clone();
        NameCert::issue(&identity(1), subject, key, START_MS - 1).with_chain(Some(vouch(1)))
    });
    assert!(expired.message.contains(&CertError::Expired.to_string()), "{expired:?}");
    let stolen = |_: &Client| {
        NameCert::issue(&identity(1), subject("eve", "s2"), user(5).public(), later).with_chain(Some(vouch(1)))
    };
    assert_eq!(refused(&stolen).code, Code::BadCertificate, "somebody else's");
    let reserved =
        |_: &Client| NameCert::issue(&identity(1), subject("admin", "s2"), key, later).with_chain(Some(vouch(1)));
    assert_eq!(refused(&reserved).code, Code::BadName);
}

#[test]
fn a_name_of_ours_that_is_anothers_by_now_is_not_given_twice() {
    let mut mesh = Linked::new(2);
    mesh.client(0, 5, "alice");
    let mut alice = alice(&mut mesh);
    alice.me.cert = NameCert::issue(&identity(0), subject("alice", "s1"), alice.key(), START_MS * 2);
    assert_eq!(mesh.visit(&mut alice, 0).unwrap_err().code, Code::NameTaken);
}

#[test]
fn a_server_cannot_speak_for_another_ones_clients_by_their_numbers() {
    let mut mesh = Linked::new(3);
    let mut alice = mesh.visitor(1, 0, 1, "alice");
    mesh.create(&mut alice, RoomKind::Public);
    let ping = ToServer::Request { id: 1, body: Request::Ping }.to_bytes();
    let ignored = |mesh: &Linked, server: usize| mesh.servers[server].core.counts().ignored;
    let before = (ignored(&mesh, 0), ignored(&mesh, 1));
    for client in 0..10 {
        mesh.delivered(0, 2, &Head::Frame { client }, &ping);
        mesh.delivered(0, 2, &Head::Gone { client }, &[]);
        mesh.delivered(1, 2, &Head::Closed { client }, &[]);
        let lie = ToClient::Push(Push::Bye { reason: "replaced".into(), detail: None }).to_bytes();
        mesh.delivered(1, 2, &Head::ToClients { clients: vec![client, client] }, &lie);
    }
    assert_eq!((ignored(&mesh, 0) - before.0, ignored(&mesh, 1) - before.1), (20, 20));
    assert!(mesh.inbox(alice.session).is_empty());
    assert!(matches!(mesh.say(&mut alice, "still here"), Reply::Sequenced { .. }));
}

#[test]
fn a_number_is_opened_once() {
    let mut mesh = Linked::new(3);
    let alice = mesh.visitor(1, 0, 1, "alice");
    let mallory = mesh.client(1, 9, "mallory");
    let again = ToServer::Login(login(&user(9), 1, "mallory", 9, Some(&mallory.me.cert))).to_bytes();
    mesh.delivered(0, 1, &Head::Open { client: 1, source: [0; 16].into() }, &again);
    assert_eq!(mesh.servers[0].core.counts().guests, 1);
    assert_eq!(mesh.request(alice.session, Request::Ping), Reply::Done);
}

#[test]
fn there_is_room_for_so_many_people_of_other_servers_and_of_each() {
    let mut mesh = Linked::new(4);
    mesh.servers[0].core.relay.caps.guests_of_one = 2;
    mesh.servers[0].core.relay.caps.guests = 3;
    let mut try_through = |access: usize, seed: u8| {
        let mut client = mesh.client(access, seed, &format!("c{seed}x"));
        mesh.visit(&mut client, 0).map_err(|refusal| refusal.code).map(|_| client)
    };
    let first = try_through(1, 1).unwrap();
    assert!(try_through(1, 2).is_ok());
    assert_eq!(try_through(1, 3).err(), Some(Code::TooMany), "s2 has as many as it may have");
    assert!(try_through(2, 4).is_ok());
    assert_eq!(try_through(3, 5).err(), Some(Code::TooMany), "and so have all together");
    mesh.hang_up(&first);
    let mut late = mesh.client(3, 6, "late");
    assert!(mesh.visit(&mut late, 0).is_ok());
}

#[test]
fn a_server_does_not_keep_another_one_busy_with_logins() {
    let mut mesh = Linked::new(3);
    let mallory = mesh.client(1, 9, "mallory");
    // Keys cost nothing; each comes once.
    for client in 100..2000u64 {
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&client.to_le_bytes());
        let junk = login(&Identity::from_seed(&seed), 2, "x", 9, Some(&mallory.me.cert));
        mesh.delivered(0, 1, &Head::Open { client, source: [0; 16].into() }, &ToServer::Login(junk).to_bytes());
    }
    let mut late = mesh.client(1, 1, "late");
    assert_eq!(mesh.visit(&mut late, 0).unwrap_err().code, Code::TooMany, "they are not even looked at");
    let mut other = mesh.client(2, 2, "other");
    assert!(mesh.visit(&mut other, 0).is_ok(), "another server's people come in");
    mesh.pass(Duration::from_secs(2));
    let there = mesh.at(&late, 0);
    assert_eq!(mesh.away(there), Some(Away::Closed));
    assert!(mesh.visit(&mut late, 0).is_ok());
}

#[test]
fn a_client_does_not_use_up_what_the_others_of_its_server_have() {
    let mut mesh = Linked::new(2);
    let mallory = mesh.client(1, 9, "mallory");
    // A server that passes on all that one client says.
    let junk = ToServer::Login(login(&user(9), 0, "x", 9, Some(&mallory.me.cert))).to_bytes();
    for client in 100..3000 {
        mesh.delivered(0, 1, &Head::Open { client, source: [0; 16].into() }, &junk);
    }
    let mut late = mesh.client(1, 1, "late");
    assert!(mesh.visit(&mut late, 0).is_ok());
    // An honest one does not: not even logins in names of keys that the client makes up.
    let there = mesh.at(&mallory, 0);
    let mut outcomes = Vec::new();
    for n in 0..1000u64 {
        let mut seed = [8; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        mesh.hear(there, ToServer::Login(login(&Identity::from_seed(&seed), 0, "x", 9, Some(&mallory.me.cert))));
        while let Some(why) = mesh.away(there) {
            outcomes.push(why);
        }
    }
    let passed_on = outcomes.iter().filter(|why| **why == Away::Closed).count();
    assert!(outcomes.len() == 1000 && (100..200).contains(&passed_on), "{passed_on} of {}", outcomes.len());
    let mut other = mesh.client(1, 2, "other");
    assert!(mesh.visit(&mut other, 0).is_ok(), "the others log in as before");
    mesh.inbox(there).clear();
    mesh.pass(Duration::from_secs(11));
    let mut mallory = mallory;
    assert!(mesh.visit(&mut mallory, 0).is_ok(), "and so does it, after a while");
}

#[test]
fn a_client_is_at_so_many_servers_only() {
    let mut mesh = Linked::new(AWAY_SERVERS + 2);
    let client = mesh.client(0, 1, "alice");
    let answers: Vec<_> = (1..AWAY_SERVERS + 2)
        .map(|server| {
            let there = mesh.at(&client, server);
            let login = login(&user(1), 0, "alice", 1, Some(&client.me.cert));
            mesh.login(there, login).map_err(|refusal| refusal.message)
        })
        .collect();
    let (last, rest) = answers.split_last().unwrap();
    assert!(rest.iter().all(Result::is_ok));
    assert_eq!(last.as_ref().err(), Some(&format!("{:?}", Away::Refused)));
}

#[test]
fn each_login_elsewhere_has_one_answer_and_what_else_is_said_there_none() {
    let mut mesh = Linked::new(2);
    let alice = alice(&mut mesh);
    let nowhere = ToServer::At { server: name("s9"), frame: ToServer::Login(good(&alice)).to_bytes().into() };
    let own = ToServer::At { server: name("s2"), frame: ToServer::Login(good(&alice)).to_bytes().into() };
    let early = ToServer::At { server: name("s1"), frame: ToServer::Alive.to_bytes().into() };
    let long = Login { name: "x".repeat(FRAME_MAX_BEFORE_LOGIN), ..good(&alice) };
    let long = ToServer::At { server: name("s1"), frame: ToServer::Login(long).to_bytes().into() };
    for frame in [&early, &long, &nowhere, &own, &early] {
        mesh.hear(alice.session, frame.clone());
    }
    let away = |mesh: &mut Linked, server: usize| {
        let place = mesh.at(&alice, server);
        mesh.away(place)
    };
    assert_eq!((away(&mut mesh, 8), away(&mut mesh, 8)), (Some(Away::Unreachable), None));
    assert_eq!((away(&mut mesh, 1), away(&mut mesh, 1)), (Some(Away::Refused), None));
    assert_eq!(away(&mut mesh, 0), None);
    let no_login = ToServer::At { server: name("s1"), frame: vec![0x82, 0, 0].into() };
    mesh.hear(alice.session, no_login);
    assert_eq!(away(&mut mesh, 0), Some(Away::Closed), "it began like one, and the server there looked closer");
    assert_eq!(mesh.request(alice.session, Request::Ping), Reply::Done);
}

#[test]
fn a_server_in_no_mesh_says_so() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    world.hear(bob.session, ToServer::At { server: name("s2"), frame: ToServer::Alive.to_bytes().into() });
    assert_eq!(world.take(bob.session), ToClient::Away { server: name("s2"), why: Away::Refused });
}

#[test]
fn where_a_client_is_connected_from_is_not_told_but_networks_are_told_apart() {
    let mut mesh = Linked::new(3);
    let mut seen = Vec::new();
    for (seed, addr) in [(1, "192.0.2.1:1"), (2, "192.0.2.1:2"), (3, "198.51.100.7:1")] {
        let session = mesh.connect_from(1, &user(seed), addr);
        mesh.login(session, login(&user(seed), 1, &format!("c{seed}x"), seed, None)).unwrap();
        let cert = mesh.renewed(session);
        for home in [0, 2] {
            let place = mesh.elsewhere(session, home);
            mesh.sent.clear();
            mesh.login(place, login(&user(seed), 1, "x", seed, Some(&cert))).unwrap();
            let Head::Open { source, .. } = Head::from_bytes(&mesh.sent[0].1[0].1).unwrap() else { panic!() };
            seen.push(*source);
        }
    }
    assert_eq!(seen[0], seen[2], "one network");
    assert_ne!(seen[0], seen[4], "another one");
    assert_ne!(seen[0], seen[1], "and no two servers learn that they have the same");
    assert!(
        seen.iter().all(|source| !source.windows(4).any(|part| part == [192, 0, 2, 1] || part == [198, 51, 100, 7]))
    );
}

#[test]
fn a_server_that_makes_networks_up_has_not_the_allowance_of_that_many() {
    let mut mesh = Linked::new(2);
    let mut made = 0;
    for n in 0..2000u16 {
        if n == 1000 {
            mesh.pass(Duration::from_secs(1));
        }
        let me = Identity::from_seed(
            &[u8::try_from(n / 256).unwrap() + 1, u8::try_from(n % 256).unwrap()].repeat(16).try_into().unwrap(),
        );
        let cert = NameCert::issue(&identity(1), subject(&format!("n{n}x"), "s2"), me.public(), START_MS * 2)
            .with_chain(Some(vouch(1)));
        let mut source = [0; 16];
        source[..2].copy_from_slice(&n.to_be_bytes());
        let frame = ToServer::Login(login(&me, 1, "x", 1, Some(&cert))).to_bytes();
        mesh.delivered(0, 1, &Head::Open { client: n.into(), source: source.into() }, &frame);
        made += 1;
    }
    let ips: BTreeSet<_> = mesh.servers[0].core.core.sessions.values().map(|s| s.addr.ip()).collect();
    assert_eq!((made, mesh.servers[0].core.counts().guests), (2000, 2000));
    assert!(ips.len() <= 256, "{}", ips.len());
}

#[test]
fn what_another_server_says_too_fast_ends_that_session_and_not_the_link() {
    let mut mesh = Linked::new(2);
    let alice = mesh.visitor(1, 0, 1, "alice");
    mesh.servers[1].feed(Input::TooSlow { client: 1 });
    mesh.run();
    assert_eq!(mesh.away(alice.session), Some(Away::Reset));
    assert_eq!(mesh.servers[0].core.counts().guests, 0, "it is told");
    let own = mesh.direct(&alice);
    assert_eq!(mesh.request(own, Request::Ping), Reply::Done);
}

#[test]
fn an_overlong_frame_for_our_clients_ends_that_session() {
    let mut mesh = Linked::new(2);
    let alice = mesh.visitor(1, 0, 1, "alice");
    mesh.delivered(1, 0, &Head::ToClients { clients: vec![1] }, &vec![0; FRAME_MAX + 1]);
    assert_eq!(mesh.away(alice.session), Some(Away::Reset));
}

#[test]
fn what_is_no_frame_or_for_a_third_server_ends_a_visit() {
    let at = ToServer::At { server: name("s3"), frame: ToServer::Alive.to_bytes().into() }.to_bytes();
    for bad in [vec![1, 2, 3], Vec::new(), at, vec![0; FRAME_MAX + 1]] {
        let mut mesh = Linked::new(3);
        let alice = mesh.visitor(1, 0, 1, "alice");
        mesh.delivered(0, 1, &Head::Frame { client: 1 }, &bad);
        assert_eq!((mesh.away(alice.session), mesh.servers[0].core.counts().guests), (Some(Away::Closed), 0));
    }
}

#[test]
fn a_server_that_does_not_slow_its_clients_down_loses_them() {
    let mut mesh = Linked::new(2);
    let mut alice = mesh.visitor(1, 0, 1, "alice");
    mesh.create(&mut alice, RoomKind::Public);
    let post = |n: usize| {
        let message = n.to_be_bytes().to_vec().into();
        ToServer::Request { id: n as u64, body: Request::Post { room: DEN, message } }.to_bytes()
    };
    for n in 0..POST_BURST + 20 * POSTS_PER_SECOND {
        mesh.servers[0].core.relay.event(MeshEvent::Delivered {
            from: node(1),
            head: Head::Frame { client: 1 }.to_bytes(),
            body: post(n).into(),
        });
    }
    assert_eq!(mesh.servers[0].core.counts().guests, 1, "so much may have waited on the way");
    for n in 0..20 * POSTS_PER_SECOND {
        mesh.servers[0].core.relay.event(MeshEvent::Delivered {
            from: node(1),
            head: Head::Frame { client: 1 }.to_bytes(),
            body: post(n).into(),
        });
    }
    assert_eq!(mesh.servers[0].core.counts().guests, 0);
}

#[test]
fn what_a_client_says_last_still_arrives_where_it_was_for() {
    let mut mesh = Linked::new(2);
    let (mut alice, mut carol) = (mesh.visitor(1, 0, 1, "alice"), mesh.client(0, 3, "carol"));
    mesh.create(&mut alice, RoomKind::Public);
    mesh.join(&mut carol, RoomKind::Public);
    mesh.catch(&mut alice);
    let message = alice.room.as_mut().unwrap().seal(b"bye").unwrap().into();
    let post = ToServer::Request { id: 1, body: Request::Post { room: DEN, message } };
    mesh.at_once(&alice, post);
    mesh.catch(&mut carol);
    assert_eq!(carol.texts, ["bye"]);
    assert_eq!(mesh.servers[0].core.counts().guests, 0);
}

#[test]
fn a_listed_server_is_shown_to_clients_on_the_word_of_the_one_that_lists_it() {
    let relay = |authorities| {
        let config = RelayConfig { name: server_name(0), identity: identity(0), authorities, secret: [7; 32] };
        let store = ServerStore::in_memory().unwrap();
        let trust =
            ServerTrust { authorities: Vec::new(), listed: vec![(server_name(1), identity(1).public().fingerprint())] };
        let config_of_core = Config { trust, ..super::config() };
        let core = Core::new(config_of_core, identity(0), store.load().unwrap(), Duration::ZERO, START_MS).unwrap();
        World::around(Meshed::new(core, Relay::new(config)), store)
    };
    let mut world = relay(Vec::new());
    world.feed(Input::Mesh(MeshEvent::Up(info(1))));
    let session = world.connect(&user(1));
    let welcome = world.login_as(session, "bob", 1).unwrap();
    assert!(welcome.mesh.is_some_and(|word| word.authorities.is_empty()));
    let [Push::Servers(servers)] = &world.pushes(session)[..] else { panic!() };
    let vouch = ServerCert::from_bytes(&servers[0].vouch).unwrap();
    assert_eq!((vouch.check(&identity(0).public(), START_MS), vouch.key()), (Ok(()), identity(1).public()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_of_another_server_break_anything(said in proptest::collection::vec(
        (proptest::collection::vec(any::<u8>(), 0..40), 0u64..4, 0u8..6, proptest::collection::vec(any::<u8>(), 0..80)), 1..20)) {
        let mut mesh = Linked::new(3);
        let alice = mesh.visitor(1, 0, 1, "alice");
        for (junk, client, kind, body) in said {
            let head = match kind {
                0 => Head::Open { client, source: [1; 16].into() },
                1 => Head::Frame { client },
                2 => Head::Gone { client },
                3 => Head::ToClients { clients: vec![client; 3] },
                4 => Head::Closed { client },
                _ => {
                    mesh.event(0, MeshEvent::Delivered { from: node(2), head: junk, body: body.into() });
                    continue;
                }
            };
            mesh.delivered(0, 2, &head, &body);
            mesh.delivered(1, 2, &head, &body);
        }
        prop_assert_eq!(mesh.request(alice.session, Request::Ping), Reply::Done);
    }
}
