use super::*;
use crate::group::{Direct, KeyPackages};

const TALK: RoomId = Id([3; 16]);

fn publish(world: &mut World, client: &Client) -> KeyPackages {
    let mut stock = KeyPackages::new(&client.me);
    let single = (0..9).map(|_| stock.make(false).unwrap().into()).collect();
    let last_resort = stock.make(true).unwrap().into();
    let reply = world.request(client.session, Request::PublishKeyPackages { single, last_resort });
    assert_eq!(reply, Reply::Done);
    stock
}

fn take(world: &mut World, client: &Client, peer: &str) -> Reply {
    world.request(client.session, Request::TakeKeyPackage { peer: full(peer) })
}

fn begin(world: &mut World, from: &Client, peer: &str, id: RoomId) -> (Reply, Room) {
    let Reply::KeyPackage(package) = take(world, from, peer) else { panic!() };
    let (room, welcoming, grant) = Direct::create(&from.me, server().public(), id.0, &package, &trusting).unwrap();
    let published = published(room.epoch(), &grant);
    let welcome = welcoming.welcome.into();
    (world.request(from.session, Request::CreateDirect { room: id, peer: full(peer), welcome, published }), room)
}

fn talk(world: &mut World, client: &mut Client, room: &mut Room, text: &str) -> Reply {
    let message = room.seal(text.as_bytes()).unwrap().into();
    world.request(client.session, Request::Post { room: TALK, message })
}

#[test]
fn nobody_takes_key_packages_without_end() {
    let mut world = World::new();
    let (alice, bob, mallory) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "mallory"));
    publish(&mut world, &bob);
    let replies: Vec<_> = (0..500).map(|_| take(&mut world, &mallory, "bob")).collect();
    let taken = replies.iter().filter(|r| matches!(r, Reply::KeyPackage(_))).count();
    assert_eq!(taken, usize::try_from(crate::limits::PACKAGES_TAKEN).unwrap());
    assert_eq!(replies.last().and_then(code), Some(Code::TooMany));
    assert!(matches!(take(&mut world, &alice, "bob"), Reply::KeyPackage(_)), "others are served");
}

#[test]
fn two_talk_and_nobody_else_is_in_it() {
    let mut world = World::new();
    let (mut alice, bob, mallory) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "mallory"));
    let mut stock = publish(&mut world, &bob);
    let (reply, mut room) = begin(&mut world, &alice, "bob", TALK);
    assert!(matches!(reply, Reply::Sequenced { seq: 0, .. }), "{reply:?}");
    let [Push::Direct { room: TALK, welcome, tree }] = &world.pushes(bob.session)[..] else { panic!() };
    let mut other = Direct::accept(&mut stock, server().public(), TALK.0, welcome, tree, &trusting).unwrap();
    assert!(matches!(talk(&mut world, &mut alice, &mut room, "psst"), Reply::Sequenced { seq: 1, .. }));
    let [Push::Row { row, .. }] = &world.pushes(bob.session)[..] else { panic!() };
    let Received::Application { payload, .. } = other.receive(&row.bytes, &trusting).unwrap() else { panic!() };
    assert_eq!(payload, b"psst");
    let message = other.seal(b"x").unwrap().into();
    assert_eq!(world.refused(mallory.session, Request::Post { room: TALK, message }), Code::NotMember);
    assert_eq!(world.refused(mallory.session, Request::Enter { room: TALK, door: None }), Code::WrongRoomOrPassword);
    assert_eq!(world.refused(mallory.session, Request::Log { room: TALK, after: 0 }), Code::NotMember);
}

#[test]
fn who_is_not_here_is_said_not_to_be_and_nothing_counts_as_sent() {
    let mut world = World::new();
    let (mut alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    assert_eq!(code(&take(&mut world, &alice, "bob")), Some(Code::NotHere), "no packages yet");
    assert_eq!(code(&take(&mut world, &alice, "nobody")), Some(Code::NotHere));
    publish(&mut world, &bob);
    let (_, mut room) = begin(&mut world, &alice, "bob", TALK);
    world.disconnect(&bob);
    assert_eq!(code(&talk(&mut world, &mut alice, &mut room, "psst")), Some(Code::NotHere));
    assert_eq!(code(&take(&mut world, &alice, "bob")), Some(Code::NotHere));
    assert!(world.store.page(&TALK, 0).unwrap().rows.is_empty());
}

#[test]
fn key_packages_run_low_and_then_the_last_resort_serves() {
    let mut world = World::new();
    let (alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    publish(&mut world, &bob);
    let mut seen = BTreeSet::new();
    for n in 0..12 {
        let Reply::KeyPackage(package) = take(&mut world, &alice, "bob") else { panic!() };
        assert_eq!(seen.insert(package.to_vec()), n < 10);
    }
    assert_eq!(world.pushes(bob.session), [Push::KeyPackagesLow]);
    let huge = vec![vec![0; crate::limits::KEY_PACKAGE_MAX + 1].into()];
    let publish = Request::PublishKeyPackages { single: huge, last_resort: Vec::new().into() };
    assert_eq!(world.refused(bob.session, publish), Code::TooLarge);
}

#[test]
fn whoever_drains_the_key_packages_does_not_keep_their_owner_making_new_ones() {
    let mut world = World::new();
    let (alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    let mut asked = 0;
    for _ in 0..12 {
        publish(&mut world, &bob);
        for _ in 0..9 {
            assert!(matches!(take(&mut world, &alice, "bob"), Reply::KeyPackage(_)));
        }
        asked += world.pushes(bob.session).len();
    }
    assert_eq!(asked, 1);
    (0..12).for_each(|_| _ = take(&mut world, &alice, "bob"));
    for _ in 0..4 {
        world.pass(Duration::from_secs(15));
        world.feed(Input::Frame(alice.session, ToServer::Alive));
        world.feed(Input::Frame(bob.session, ToServer::Alive));
    }
    take(&mut world, &alice, "bob");
    assert!(world.pushes(bob.session).contains(&Push::KeyPackagesLow));
}

#[test]
fn of_too_many_conversations_in_all_the_quietest_makes_way() {
    let mut world = World::new();
    world.core.bounds.directs = 2;
    let (alice, bob, carol) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "carol"));
    publish(&mut world, &bob);
    publish(&mut world, &carol);
    let ids = [TALK, Id([4; 16]), Id([5; 16])];
    begin(&mut world, &alice, "bob", ids[0]);
    world.pass(Duration::from_secs(1));
    begin(&mut world, &alice, "carol", ids[1]);
    world.pushes(bob.session);
    let (reply, _) = begin(&mut world, &bob, "carol", ids[2]);
    assert!(matches!(reply, Reply::Sequenced { .. }), "{reply:?}");
    assert_eq!(world.pushes(alice.session), [Push::DirectClosed { room: TALK }]);
    assert_eq!(world.pushes(bob.session), [Push::DirectClosed { room: TALK }]);
    assert_eq!(world.core.room_count(), 2);
}

#[test]
fn a_new_process_ends_its_conversations_and_a_reconnect_does_not() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    publish(&mut world, &bob);
    let (_, mut room) = begin(&mut world, &alice, "bob", TALK);
    world.reconnect(&mut bob, 2);
    assert!(world.pushes(alice.session).is_empty());
    let mut world = world.restart();
    world.reconnect(&mut alice, 1);
    world.reconnect(&mut bob, 2);
    assert!(matches!(talk(&mut world, &mut alice, &mut room, "psst"), Reply::Sequenced { .. }));
    world.reconnect(&mut bob, 99);
    assert_eq!(world.pushes(alice.session), [Push::DirectClosed { room: TALK }]);
    assert_eq!(code(&talk(&mut world, &mut alice, &mut room, "psst")), Some(Code::NotMember));
}

#[test]
fn no_state_drops_the_conversation_for_both() {
    let mut world = World::new();
    let (alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    publish(&mut world, &bob);
    begin(&mut world, &alice, "bob", TALK);
    assert_eq!(world.request(bob.session, Request::NoState { room: TALK }), Reply::Done);
    assert_eq!(world.pushes(alice.session), [Push::DirectClosed { room: TALK }]);
    assert_eq!(world.core.room_count(), 0);
}

#[test]
fn a_conversation_in_anothers_name_is_refused() {
    let mut world = World::new();
    let (alice, bob, mallory) = (world.client(1, "alice"), world.client(2, "bob"), world.client(3, "mallory"));
    publish(&mut world, &bob);
    let Reply::KeyPackage(package) = take(&mut world, &alice, "bob") else { panic!() };
    let (room, welcoming, grant) = Direct::create(&alice.me, server().public(), TALK.0, &package, &trusting).unwrap();
    let published = published(room.epoch(), &grant);
    let make = |peer: &str| Request::CreateDirect {
        room: TALK,
        peer: full(peer),
        welcome: welcoming.welcome.clone().into(),
        published: published.clone(),
    };
    assert_eq!(world.refused(mallory.session, make("bob")), Code::NotAllowed);
    assert_eq!(world.refused(alice.session, make("mallory")), Code::NotAllowed);
}

#[test]
fn strangers_cannot_flood_with_conversations() {
    let mut world = World::new();
    let (alice, bob) = (world.client(1, "alice"), world.client(2, "bob"));
    publish(&mut world, &bob);
    let made: Vec<_> = (0..70).map(|n| begin(&mut world, &alice, "bob", Id([n + 100; 16])).0).collect();
    assert!(made.iter().any(|r| code(r) == Some(Code::TooMany)));
    assert!(world.core.room_count() <= 4, "of many between two only the last live");
}
