use super::linked::{Linked, identity, info, login, node, vouch};
use super::*;
use crate::group::{Direct, KeyPackages};
use crate::mesh::{DownReason, NodeInfo};

const TALK: RoomId = Id([3; 16]);

fn at(person: &str, server: &str) -> FullName {
    FullName::new(name(person), name(server))
}

fn told(pushes: &[Push]) -> bool {
    pushes.iter().any(|p| matches!(p, Push::CommitNow { room: DEN, .. }))
}

/// Alice of `s2` and Bob of `s3` are in a room of `s1`, and so is Carol, who is there.
fn three() -> (Linked, Client, Client, Client) {
    let mut mesh = Linked::new(3);
    let (mut alice, mut bob) = (mesh.visitor(1, 0, 1, "alice"), mesh.visitor(2, 0, 2, "bob"));
    let mut carol = mesh.client(0, 3, "carol");
    mesh.create(&mut alice, RoomKind::Private);
    mesh.join(&mut bob, RoomKind::Private);
    mesh.catch(&mut alice);
    mesh.join(&mut carol, RoomKind::Private);
    mesh.catch(&mut alice);
    mesh.catch(&mut bob);
    (mesh, alice, bob, carol)
}

#[test]
fn people_of_other_servers_create_enter_speak_and_read_as_if_they_were_here() {
    let (mut mesh, mut alice, mut bob, mut carol) = three();
    assert!(matches!(mesh.say(&mut alice, "over two hops"), Reply::Sequenced { seq: 3, .. }));
    mesh.catch(&mut bob);
    mesh.catch(&mut carol);
    assert!(matches!(mesh.say(&mut carol, "and back"), Reply::Sequenced { .. }));
    mesh.catch(&mut alice);
    mesh.catch(&mut bob);
    assert_eq!(bob.texts, ["over two hops", "and back"]);
    assert_eq!(alice.texts, ["and back"]);
    let names: Vec<String> = bob.room.as_ref().unwrap().members().map(|m| m.name.to_string()).collect();
    assert_eq!(names, ["alice@s2", "bob@s3", "carol@s1"]);
}

#[test]
fn who_leaves_through_another_server_hears_nothing_more_and_is_removed() {
    let (mut mesh, mut alice, mut bob, mut carol) = three();
    assert!(matches!(mesh.leave(&mut bob), Reply::Sequenced { .. }));
    assert!(told(&mesh.catch(&mut alice)), "the owner is asked to remove him, over the mesh");
    assert!(!told(&mesh.catch(&mut carol)));
    mesh.pass(Duration::from_secs(2));
    assert!(told(&mesh.catch(&mut carol)), "and where she does not, the next one");
    assert!(matches!(mesh.commit_pending(&mut alice), Reply::Sequenced { .. }));
    mesh.catch(&mut carol);
    mesh.say(&mut carol, "he is gone");
    assert!(mesh.inbox(bob.session).is_empty());
    assert_eq!(carol.members(), ["alice", "carol"]);
    assert_eq!(mesh.refused(bob.session, Request::Log { room: DEN, after: 0 }), Code::NotMember);
}

#[test]
fn who_hangs_up_at_its_own_server_is_missed_at_the_rooms_and_removed_after_its_grace() {
    let (mut mesh, mut alice, bob, carol) = three();
    mesh.hang_up(&bob);
    assert_eq!(mesh.servers[0].core.counts().guests, 1, "bob's session is over at once");
    for seconds in [585, 30] {
        for _ in 0..seconds / 15 {
            mesh.pass(Duration::from_secs(15));
            mesh.hear(carol.session, ToServer::Alive);
            let access = mesh.direct(&alice);
            mesh.hear(access, ToServer::Alive);
        }
        assert_eq!(told(&mesh.catch(&mut alice)), seconds == 30);
    }
    assert!(matches!(mesh.commit_pending(&mut alice), Reply::Sequenced { .. }), "who was never asked if she is there");
    assert_eq!(alice.members(), ["alice", "carol"]);
}

#[test]
fn a_room_whose_server_is_out_of_reach_goes_on_where_it_stood() {
    let (mut mesh, mut alice, mut bob, mut carol) = three();
    let other = mesh.client(1, 9, "dave");
    mesh.cut(0, 1);
    assert_eq!(mesh.away(alice.session), Some(Away::Unreachable));
    assert_eq!(mesh.servers[0].core.counts().guests, 1, "bob's way is another");
    mesh.say(&mut carol, "while she is away");
    mesh.catch(&mut bob);
    assert_eq!(bob.texts, ["while she is away"]);
    assert_eq!(mesh.visit(&mut alice, 0).unwrap_err().code, Code::NotHere, "stands for no answer at all");
    assert_eq!(mesh.request(other.session, Request::Ping), Reply::Done, "others at her server notice nothing");
    mesh.mend(0, 1);
    mesh.visit(&mut alice, 0).unwrap();
    mesh.catch_up(&mut alice);
    assert_eq!(alice.texts, ["while she is away"]);
    assert!(matches!(mesh.say(&mut alice, "back"), Reply::Sequenced { .. }));
    mesh.catch(&mut bob);
    assert_eq!(bob.texts, ["while she is away", "back"]);
}

#[test]
fn a_server_that_was_restarted_has_its_rooms_and_visitors_log_in_again() {
    let (mut mesh, mut alice, mut bob, _) = three();
    mesh.say(&mut alice, "before");
    mesh.restart(0);
    assert_eq!((mesh.away(alice.session), mesh.away(bob.session)), (Some(Away::Reset), Some(Away::Reset)));
    // What was on its way to them is lost, and in the log.
    mesh.inbox(bob.session).clear();
    for client in [&mut alice, &mut bob] {
        mesh.visit(client, 0).unwrap();
        mesh.catch_up(client);
    }
    assert!(matches!(mesh.say(&mut bob, "after"), Reply::Sequenced { .. }));
    mesh.catch(&mut alice);
    assert_eq!((alice.texts, bob.texts), (vec!["after".to_owned()], vec!["before".to_owned()]));
}

#[test]
fn a_room_with_members_of_a_server_that_nobody_vouches_for_any_more_is_still_taken_up() {
    let (mesh, ..) = three();
    let store = &mesh.servers[0].store;
    let core = Core::new(config(), identity(0), store.load().unwrap(), Duration::ZERO, START_MS).unwrap();
    assert_eq!(core.room_count(), 1);
}

#[test]
fn a_name_goes_along_to_another_server_and_is_renewed_at_its_own_through_that() {
    let mut mesh = Linked::new(2);
    let bob = mesh.client(0, 2, "bob");
    mesh.hang_up(&bob);
    let session = mesh.connect(1, &user(2));
    let welcome = mesh.login(session, login(&user(2), 1, "whatever", 2, Some(&bob.me.cert))).unwrap();
    assert_eq!(welcome.cert.to_vec(), bob.me.cert.to_bytes(), "bob@s1, at s2");
    let Reply::Refused(refusal) = mesh.request(session, Request::RenewName) else { panic!("s2 cannot") };
    assert_eq!((refusal.code, refusal.hint.as_deref()), (Code::NotAllowed, Some("ask s1")));
    assert!(mesh.servers[1].store.load().unwrap().names.is_empty(), "the name is not s2's");
    let mut bob = Client { session, ..bob };
    mesh.pass(Duration::from_secs(10));
    let welcome = mesh.visit(&mut bob, 0).unwrap();
    let renewed = NameCert::from_bytes(&welcome.cert).unwrap();
    assert!(renewed.subject == bob.me.cert.subject && renewed.not_after > bob.me.cert.not_after);
    let Reply::Name(_) = mesh.request(bob.session, Request::RenewName) else { panic!() };
}

#[test]
fn a_name_whose_certificate_has_run_out_is_renewed_at_its_own_server_only() {
    let mut mesh = Linked::new(2);
    let mut bob = mesh.client(0, 2, "bob");
    bob.me.cert =
        NameCert::issue(&identity(0), bob.me.cert.subject.clone(), bob.key(), START_MS - 1).with_chain(Some(vouch(0)));
    mesh.hang_up(&bob);
    let session = mesh.connect(1, &user(2));
    let refusal = mesh.login(session, login(&user(2), 1, "bob", 2, Some(&bob.me.cert))).unwrap_err();
    assert_eq!(refusal.code, Code::BadCertificate);
    bob.session = mesh.connect(1, &user(2));
    mesh.login(bob.session, login(&user(2), 1, "bob", 2, None)).unwrap();
    let welcome = mesh.visit(&mut bob, 0).unwrap();
    assert!(NameCert::from_bytes(&welcome.cert).unwrap().not_after > START_MS);
}

fn publish(mesh: &mut Linked, client: &Client) -> KeyPackages {
    let mut stock = KeyPackages::new(&client.me);
    let single = vec![stock.make(false).unwrap().into()];
    let last_resort = stock.make(true).unwrap().into();
    assert_eq!(mesh.request(client.session, Request::PublishKeyPackages { single, last_resort }), Reply::Done);
    stock
}

fn begin(mesh: &mut Linked, from: &Client, peer: FullName) -> Room {
    let Reply::KeyPackage(package) = mesh.request(from.session, Request::TakeKeyPackage { peer: peer.clone() }) else {
        panic!("{peer} is there")
    };
    let (room, welcoming, grant) = Direct::create(&from.me, server().public(), TALK.0, &package, &trusting).unwrap();
    let published = published(room.epoch(), &grant);
    let create = Request::CreateDirect { room: TALK, peer, welcome: welcoming.welcome.into(), published };
    assert!(matches!(mesh.request(from.session, create), Reply::Sequenced { seq: 0, .. }));
    room
}

#[test]
fn two_of_different_servers_talk_where_both_are() {
    let mut mesh = Linked::new(3);
    let (alice, bob) = (mesh.visitor(1, 0, 1, "alice"), mesh.visitor(2, 0, 2, "bob"));
    let mut stock = publish(&mut mesh, &bob);
    let mut room = begin(&mut mesh, &alice, at("bob", "s3"));
    let [Push::KeyPackagesLow, Push::Direct { room: TALK, welcome, tree }] = &mesh.pushes(bob.session)[..] else {
        panic!()
    };
    let mut other = Direct::accept(&mut stock, server().public(), TALK.0, welcome, tree, &trusting).unwrap();
    let message = room.seal(b"psst").unwrap().into();
    let reply = mesh.request(alice.session, Request::Post { room: TALK, message });
    assert!(matches!(reply, Reply::Sequenced { seq: 1, .. }), "{reply:?}");
    let [Push::Row { row, .. }] = &mesh.pushes(bob.session)[..] else { panic!() };
    let Received::Application { payload, sender } = other.receive(&row.bytes, &trusting).unwrap() else { panic!() };
    assert_eq!((payload.as_slice(), sender.name), (&b"psst"[..], at("alice", "s2")));
    for nobody in [at("bob", "s1"), at("bob", "s2"), at("carol", "s3")] {
        assert_eq!(mesh.refused(alice.session, Request::TakeKeyPackage { peer: nobody }), Code::NotHere);
    }
}

#[test]
fn a_visitors_conversations_outlive_its_link_but_not_its_process_and_then_nothing_is_kept_of_it() {
    let mut mesh = Linked::new(2);
    let (mut alice, bob) = (mesh.visitor(1, 0, 1, "alice"), mesh.client(0, 2, "bob"));
    publish(&mut mesh, &bob);
    begin(&mut mesh, &alice, at("bob", "s1"));
    mesh.cut(0, 1);
    mesh.mend(0, 1);
    assert_eq!(mesh.away(alice.session), Some(Away::Unreachable));
    mesh.visit(&mut alice, 0).unwrap();
    assert!(!mesh.pushes(bob.session).contains(&Push::DirectClosed { room: TALK }));
    let known =
        |mesh: &Linked| mesh.servers[0].store.load().unwrap().instances.iter().any(|(k, _)| *k == user(1).public());
    assert!(known(&mesh));
    mesh.hang_up(&alice);
    let session = mesh.connect(1, &user(1));
    mesh.login(session, login(&user(1), 1, "alice", 77, None)).unwrap();
    alice.session = session;
    let there = mesh.at(&alice, 0);
    mesh.login(there, login(&user(1), 1, "alice", 77, Some(&alice.me.cert))).unwrap();
    assert!(mesh.pushes(bob.session).contains(&Push::DirectClosed { room: TALK }));
    assert!(!known(&mesh));
}

#[test]
fn what_goes_to_a_hundred_members_at_three_servers_leaves_once_with_three_targets() {
    let mut mesh = Linked::new(4);
    let mut owner = mesh.client(0, 1, "owner");
    mesh.create(&mut owner, RoomKind::Public);
    for seed in 2..=101 {
        let mut member = mesh.visitor(usize::from(seed) % 3 + 1, 0, seed, &format!("m{seed}x"));
        mesh.join(&mut member, RoomKind::Public);
    }
    mesh.catch(&mut owner);
    mesh.sent.clear();
    assert!(matches!(mesh.say(&mut owner, "all of you"), Reply::Sequenced { .. }));
    let [(0, targets)] = &mesh.sent[..] else { panic!("{} messages", mesh.sent.len()) };
    let clients = |head: &[u8]| match Head::from_bytes(head) {
        Ok(Head::ToClients { clients }) => clients.len(),
        other => panic!("{other:?}"),
    };
    let reached: Vec<_> = targets.iter().map(|(to, head)| (*to, clients(head))).collect();
    let mut expected = vec![(node(1), 33), (node(2), 33), (node(3), 34)];
    expected.sort_unstable();
    assert_eq!(reached, expected);
}

#[test]
fn a_client_is_told_of_the_other_servers_after_its_login_and_when_they_change_but_not_all_the_time() {
    let mut mesh = Linked::new(3);
    let session = mesh.connect(0, &user(1));
    mesh.hear(session, ToServer::Login(login(&user(1), 0, "bob", 1, None)));
    let ToClient::Welcome(welcome) = mesh.take(session) else { panic!("the welcome comes first") };
    let word = welcome.mesh.unwrap();
    let trust = ServerTrust {
        authorities: word.authorities.iter().map(|key| PublicKey::from_bytes(**key)).collect(),
        listed: Vec::new(),
    };
    let lists = |mesh: &mut Linked| -> Vec<Vec<String>> {
        let pushes = mesh.pushes(session).into_iter();
        pushes
            .filter_map(|push| if let Push::Servers(servers) = push { Some(servers) } else { None })
            .map(|servers| {
                let believed = servers.iter().inspect(|s| {
                    let vouch = ServerCert::from_bytes(&s.vouch).unwrap();
                    trust.check_server(&s.name, &PublicKey::from_bytes(*s.key), Some(&vouch), START_MS).unwrap();
                });
                believed.map(|s| s.name.to_string()).collect()
            })
            .collect()
    };
    assert_eq!(lists(&mut mesh).last().unwrap().len(), 2);
    mesh.pass(Duration::from_secs(2));
    lists(&mut mesh);
    for _ in 0..10 {
        mesh.event(0, MeshEvent::Down(node(2), DownReason::Unreachable));
        mesh.mend(0, 2);
    }
    mesh.event(0, MeshEvent::Down(node(2), DownReason::Unreachable));
    assert_eq!(lists(&mut mesh), [["s2"]], "at once");
    mesh.pass(Duration::from_secs(2));
    assert!(lists(&mut mesh).is_empty(), "and the rest in one, which would be the same");
}

#[test]
fn a_server_to_which_no_way_leads_is_out_of_sight_after_a_moment_and_in_it_again_at_once() {
    let (mut mesh, _, mut bob, _) = three();
    let link = mesh.direct(&bob);
    let lists = |mesh: &mut Linked| -> Vec<usize> {
        let count = |push| if let Push::Servers(servers) = push { Some(servers.len()) } else { None };
        mesh.pushes(link).into_iter().filter_map(count).collect()
    };
    mesh.pass(Duration::from_secs(2));
    lists(&mut mesh);
    let way = |reachable| MeshEvent::Changed(NodeInfo { reachable, ..info(0) });
    mesh.event(2, way(false));
    mesh.pass(Duration::from_millis(400));
    mesh.event(2, way(true));
    mesh.pass(Duration::from_secs(2));
    assert_eq!((mesh.away(bob.session), lists(&mut mesh)), (None, vec![]), "another way was found");
    mesh.event(2, way(false));
    mesh.pass(Duration::from_secs(1));
    assert_eq!((mesh.away(bob.session), lists(&mut mesh)), (Some(Away::Unreachable), vec![1]));
    assert_eq!(mesh.visit(&mut bob, 0).unwrap_err().code, Code::NotHere);
    mesh.pass(Duration::from_secs(2));
    mesh.event(2, way(true));
    assert_eq!(lists(&mut mesh), [2], "at once");
    mesh.visit(&mut bob, 0).unwrap();
    assert!(matches!(mesh.say(&mut bob, "back again"), Reply::Sequenced { .. }));
}

#[test]
fn pages_of_logs_leave_at_the_pace_that_the_way_takes() {
    let (mut mesh, alice, mut bob, _) = three();
    let pages = |mesh: &mut Linked, client: &Client| {
        let inbox = mesh.inbox(client.session);
        let before = inbox.len();
        inbox.retain(|frame| !matches!(frame, ToClient::Reply { body: Reply::Log { .. }, .. }));
        before - inbox.len()
    };
    let ask = |mesh: &mut Linked| _ = mesh.ask(alice.session, Request::Log { room: DEN, after: 1 });
    (0..20).for_each(|_| ask(&mut mesh));
    assert_eq!(pages(&mut mesh, &alice), 8);
    assert!(matches!(mesh.say(&mut bob, "meanwhile"), Reply::Sequenced { .. }), "nothing else waits for them");
    mesh.pass(Duration::from_millis(60));
    assert_eq!(pages(&mut mesh, &alice), 8);
    mesh.event(0, MeshEvent::Full(node(1), true));
    mesh.pass(Duration::from_secs(1));
    assert_eq!(pages(&mut mesh, &alice), 0);
    mesh.event(0, MeshEvent::Full(node(1), false));
    assert_eq!(pages(&mut mesh, &alice), 4);
    mesh.event(0, MeshEvent::Full(node(1), true));
    (0..crate::limits::LOG_READS).for_each(|_| ask(&mut mesh));
    assert_eq!(mesh.away(alice.session), None);
    ask(&mut mesh);
    assert_eq!(mesh.away(alice.session), Some(Away::Closed), "who asks on and on");
    mesh.event(0, MeshEvent::Full(node(1), false));
    assert_eq!(mesh.servers[0].core.counts().guests, 1);
}
