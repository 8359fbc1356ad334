use super::*;
use openmls_traits::OpenMlsProvider;

struct Pair {
    alice: Room,
    bob: Room,
    directory: Directory,
}

fn stock() -> (KeyPackages, Vec<u8>) {
    let mut stock = KeyPackages::new(&user(2, "bob"));
    let package = stock.make(false).unwrap();
    (stock, package)
}

fn pair() -> Pair {
    let (mut stock, package) = stock();
    let (alice, welcoming, grant) =
        Direct::create(&user(1, "alice"), server().public(), ROOM, &package, &pinned).unwrap();
    assert_eq!(welcoming.peer.name, name("bob"));
    let directory = Directory::open(server().public(), ROOM, &grant, &pinned).unwrap();
    let bob = Direct::accept(&mut stock, server().public(), ROOM, &welcoming.welcome, &grant.tree, &pinned).unwrap();
    let again = Direct::accept(&mut stock, server().public(), ROOM, &welcoming.welcome, &grant.tree, &pinned);
    assert!(matches!(again, Err(AcceptError::NoKeyPackage)), "a key package is used once");
    Pair { alice, bob, directory }
}

fn say(from: &mut Room, to: &mut Room) {
    let sealed = from.seal(b"hi").unwrap();
    let Received::Application { sender, payload } = to.receive(&sealed, &pinned).unwrap() else { panic!() };
    assert_eq!((sender.key, payload.as_slice()), (from.own().unwrap().key, b"hi".as_slice()));
}

#[test]
fn two_talk_both_ways_and_renew_their_keys() {
    let Pair { mut alice, mut bob, mut directory } = pair();
    say(&mut alice, &mut bob);
    say(&mut bob, &mut alice);
    let out = bob.self_update().unwrap();
    let checked = directory.check_commit(&out.bytes, out.published, &pinned).unwrap();
    directory.apply(checked).unwrap();
    alice.receive(&out.bytes, &pinned).unwrap();
    bob.own_commit_accepted().unwrap();
    assert_eq!(alice.epoch_authenticator(), bob.epoch_authenticator());
    say(&mut alice, &mut bob);
}

#[test]
fn the_last_resort_package_serves_again() {
    let mut stock = KeyPackages::new(&user(2, "bob"));
    let package = stock.make(true).unwrap();
    for room in [[1; 16], [2; 16]] {
        let (mut alice, w, grant) = Direct::create(&user(1, "alice"), key(100), room, &package, &pinned).unwrap();
        let mut bob = Direct::accept(&mut stock, key(100), room, &w.welcome, &grant.tree, &pinned).unwrap();
        say(&mut alice, &mut bob);
    }
}

#[test]
fn nobody_joins_leaves_or_is_removed() {
    let Pair { mut alice, bob: _, mut directory } = pair();
    let mut asked = target(RoomKind::Direct);
    asked.label = String::new();
    let refused = Room::join(&user(3, "carol"), &asked, &directory.grant(), None, &pinned);
    assert!(matches!(refused, Err(JoinError::WrongRoom)));
    assert!(directory.propose_remove(&server(), &key(2)).is_err());
    assert!(matches!(alice.leave(), Err(CommitError::Refused(_))));
    let leave = alice.group.leave_group_via_self_remove(&alice.provider, &alice.signer).unwrap();
    let refused = directory.check_proposal(&leave.to_bytes().unwrap());
    assert!(matches!(refused, Err(MessageError::Refused(Refusal::Forbidden(_)))));
    alice.group.clear_pending_proposals(alice.provider.storage()).unwrap();
    assert!(matches!(alice.remove(&key(2), None), Err(CommitError::Refused(Refusal::Forbidden(_)))));
}

#[test]
fn a_package_that_the_pins_contradict_is_refused() {
    let (_, package) = stock();
    let changed = |_: &NameCert| Err(CertRefused::ChangedKey);
    let refused = Direct::create(&user(1, "alice"), key(100), ROOM, &package, &changed).unwrap_err();
    assert_eq!(refused.integrity(), Some(Integrity::ForgedSender));
    let own = Direct::create(&user(2, "bob"), key(100), ROOM, &package, &pinned);
    assert!(matches!(own, Err(AcceptError::Oneself)));
}

#[test]
fn a_welcome_into_something_else_is_refused_and_costs_no_package() {
    let (mut stock, package) = stock();
    let (_, w, grant) = Direct::create(&user(1, "alice"), key(100), ROOM, &package, &pinned).unwrap();
    let elsewhere = Direct::accept(&mut stock, key(100), [8; 16], &w.welcome, &grant.tree, &pinned);
    assert!(matches!(elsewhere, Err(AcceptError::WrongRoom)));
    assert!(Direct::accept(&mut stock, key(100), ROOM, &w.welcome, &grant.tree, &pinned).is_ok());
}
