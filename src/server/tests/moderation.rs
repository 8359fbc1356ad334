//! What moderators do, seen by those whom it concerns.

use super::*;
use crate::wire::admin::{Failure, Role};

fn code(answer: &Answer) -> Option<Failure> {
    match answer {
        Answer::Failed { code, .. } => Some(*code),
        _ => None,
    }
}

#[test]
fn a_role_is_given_by_the_owner_only_and_outlives_a_restart() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    let grant = |role| Ask::Grant { name: "bob".into(), role };
    assert_eq!(
        code(&world.owner_asks(Ask::Grant { name: "nobody".into(), role: Role::Operator })),
        Some(Failure::UnknownUser)
    );
    assert_eq!(code(&world.owner_asks(grant(Role::Owner))), Some(Failure::BadValue));
    let asked = |world: &mut World, ask: &Ask| {
        world.request(bob.session, Request::Admin { ask: serde_json::to_string(ask).unwrap() })
    };
    assert!(matches!(asked(&mut world, &Ask::Roles), Reply::Refused(refusal) if refusal.code == Code::NotAllowed));
    assert_eq!(code(&world.owner_asks(grant(Role::Operator))), None);
    let answer = |reply| match reply {
        Reply::Admin(text) => serde_json::from_str::<Answer>(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(answer(asked(&mut world, &Ask::Roles)), Answer::Roles(page) if page.rows.len() == 1));
    assert_eq!(code(&answer(asked(&mut world, &grant(Role::Moderator)))), Some(Failure::NotAllowed));
    let Answer::Audit(page) = world.owner_asks(Ask::Audit { before: None, limit: None }) else { panic!() };
    let acts: Vec<_> = page.rows.iter().map(|a| format!("{} {} {}", a.who, a.act, a.outcome)).collect();
    let expected =
        ["bob@s1 grant not_allowed", "owner grant done", "owner grant bad_value", "owner grant unknown_user"];
    assert_eq!(acts, expected);
    let mut world = world.restart();
    assert!(matches!(world.owner_asks(Ask::Roles), Answer::Roles(page) if page.rows[0].name == "bob@s1"));
}

#[test]
fn a_moderator_cannot_wash_the_log_of_acts_clean() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    world.owner_asks(Ask::Grant { name: "bob".into(), role: Role::Moderator });
    let stop = serde_json::to_string(&Ask::Stop).unwrap();
    let ask = |world: &mut World| world.request(bob.session, Request::Admin { ask: stop.clone() });
    let taken = (0..1000).filter(|_| matches!(ask(&mut world), Reply::Admin(_))).count();
    assert_eq!(taken, usize::try_from(crate::limits::QUESTIONS).unwrap());
}

#[test]
fn a_full_disk_refuses_and_does_not_end_the_server() {
    let mut world = World::new();
    let mut bob = world.client(1, "bob");
    world.create(&mut bob, RoomKind::Private);
    let ban = |name: &str| Ask::Mute { name: name.into(), room: None, for_s: None, reason: None };
    world.feed(Input::Disk(Space::Little));
    let words = bob.room.as_mut().unwrap().seal(b"hello").unwrap();
    assert_eq!(world.refused(bob.session, Request::Post { room: DEN, message: words.into() }), Code::DiskFull);
    assert_eq!(code(&world.owner_asks(Ask::Roles)), None);
    assert_eq!(code(&world.owner_asks(ban("bob"))), None, "moderators can still act");
    world.feed(Input::Disk(Space::None));
    let unmute = Ask::Unmute { name: "bob".into(), room: None };
    let Answer::Failed { why, .. } = world.owner_asks(unmute.clone()) else { panic!() };
    assert!(why.contains("disk is full"), "{why}");
    assert!(matches!(world.owner_asks(Ask::Mutes), Answer::Mutes(page) if page.rows.len() == 1), "nothing was done");
    world.feed(Input::Disk(Space::Plenty));
    assert_eq!(code(&world.owner_asks(unmute)), None);
}
