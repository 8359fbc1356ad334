use super::*;

fn pair() -> (World, Client, Client) {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.client(1, "alice"), world.client(2, "bob"));
    world.create(&mut alice, RoomKind::Private);
    world.join(&mut bob, RoomKind::Private);
    world.catch(&mut alice);
    (world, alice, bob)
}

#[test]
fn what_was_acknowledged_is_there_and_the_talk_goes_on() {
    let (mut world, mut alice, mut bob) = pair();
    assert!(matches!(world.say(&mut alice, "before"), Reply::Sequenced { .. }));
    let mut world = world.restart();
    world.reconnect(&mut alice, 1);
    world.reconnect(&mut bob, 2);
    world.catch_up(&mut alice);
    world.catch_up(&mut bob);
    assert!(matches!(world.say(&mut bob, "after"), Reply::Sequenced { .. }));
    world.catch(&mut alice);
    assert_eq!((alice.texts, bob.texts), (vec!["after".to_owned()], vec!["before".to_owned()]));
    let mut carol = world.client(3, "carol");
    assert_eq!(world.refused(carol.session, enter(2)), Code::WrongRoomOrPassword);
    world.join(&mut carol, RoomKind::Private);
    assert_eq!(carol.members(), ["alice", "bob", "carol"]);
}

#[test]
fn names_stay_bound_and_labels_taken() {
    let (world, ..) = pair();
    let mut world = world.restart();
    let other = world.connect(&user(9));
    assert_eq!(world.login_as(other, "bob", 9).unwrap_err().code, Code::NameTaken);
    let mut dave = world.client(4, "dave");
    let reply = world.try_create(&mut dave, Id([8; 16]), "den", RoomKind::Public);
    assert_eq!(code(&reply), Some(Code::LabelTaken));
}

#[test]
fn a_standing_departure_is_committed_after_the_restart() {
    let (mut world, mut alice, mut bob) = pair();
    world.leave(&mut bob);
    let mut world = world.restart();
    world.reconnect(&mut alice, 1);
    world.catch_up(&mut alice);
    let named = world.pushes(alice.session);
    assert!(matches!(named[..], [Push::CommitNow { room: DEN, epoch: 1 }]), "{named:?}");
    assert!(matches!(world.commit_pending(&mut alice), Reply::Sequenced { .. }));
    assert_eq!(alice.members(), ["alice"]);
}

#[test]
fn grace_counts_from_the_start_of_the_server() {
    let (world, mut alice, bob) = pair();
    let mut world = world.restart();
    world.reconnect(&mut alice, 1);
    world.catch_up(&mut alice);
    let removed = |world: &mut World| world.pushes(alice.session).iter().any(|p| matches!(p, Push::CommitNow { .. }));
    for _ in 0..39 {
        world.pass(Duration::from_secs(15));
        world.feed(Input::Frame(alice.session, ToServer::Alive));
    }
    assert!(!removed(&mut world));
    world.pass(Duration::from_secs(15));
    assert!(removed(&mut world), "{:?}", bob.key());
}

#[test]
fn nothing_is_sent_before_it_is_stored() {
    let (mut world, mut alice, _) = pair();
    let message = alice.room.as_mut().unwrap().seal(b"x").unwrap().into();
    let body = Request::Post { room: DEN, message };
    let frame = ToServer::Request { id: 1, body };
    world.core.handle(Duration::ZERO, START_MS, Input::Frame(alice.session, frame));
    let Some(Output::Store(writes)) = world.core.poll_output() else { panic!() };
    assert!(matches!(writes[..], [Write::Append { .. }]));
    let sends: Vec<_> = std::iter::from_fn(|| world.core.poll_output()).collect();
    assert!(sends.len() == 2 && sends.iter().all(|o| matches!(o, Output::Send { .. })));
}
