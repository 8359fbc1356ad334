//! Rules on sharing: kept, signed, and told to everybody.

use super::*;
use crate::wire::admin::{Failure, Role};
use crate::wire::sharing::{Document, Limits, RuleView, Scope};

fn code(answer: &Answer) -> Option<Failure> {
    match answer {
        Answer::Failed { code, .. } => Some(*code),
        _ => None,
    }
}

fn no_exe() -> Limits {
    Limits { deny_names: vec!["*.exe".into()], ..Limits::default() }
}

fn restrict(limits: Limits, room: Option<&str>, user: Option<&str>) -> Ask {
    let (room, user) = (room.map(str::to_owned), user.map(str::to_owned));
    Ask::Restrict { room, user, limits: Box::new(limits), reason: Some("house rules".into()) }
}

fn id_of(answer: &Answer) -> u64 {
    match answer {
        Answer::Done { id: Some(id), .. } => id.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn rules(world: &mut World) -> Vec<RuleView> {
    match world.owner_asks(Ask::Restrictions) {
        Answer::Restrictions(page) => page.rows,
        other => panic!("{other:?}"),
    }
}

/// The documents that a client was told, which the server has signed.
fn told(world: &mut World, session: SessionId) -> Vec<Document> {
    let opened = |push| match push {
        Push::Sharing(bytes) => Some(Document::open(&bytes, &name("s1"), &server().public()).unwrap()),
        _ => None,
    };
    world.pushes(session).into_iter().filter_map(opened).collect()
}

#[test]
fn a_rule_reaches_everybody_at_once_and_whoever_comes_later_and_outlives_a_restart() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    assert!(told(&mut world, bob.session).is_empty(), "nothing is restricted");
    let id = id_of(&world.owner_asks(restrict(no_exe(), None, None)));
    let [document] = &told(&mut world, bob.session)[..] else { panic!() };
    assert_eq!((document.version, document.rules.len(), document.rules[0].id), (1, 1, id));
    let carol = world.client(2, "carol");
    assert_eq!(told(&mut world, carol.session), std::slice::from_ref(document));
    let mut world = world.restart();
    let dave = world.client(3, "dave");
    assert_eq!(told(&mut world, dave.session), std::slice::from_ref(document));
    assert!(matches!(world.owner_asks(Ask::Unrestrict { id }), Answer::Done { .. }));
    let [document] = &told(&mut world, dave.session)[..] else { panic!() };
    assert_eq!((document.version, document.rules.len()), (2, 0));
    let mut world = world.restart();
    let next = id_of(&world.owner_asks(restrict(no_exe(), None, None)));
    assert!(next > id, "an id names one rule for ever");
    let erin = world.client(4, "erin");
    assert_eq!(told(&mut world, erin.session)[0].version, 3);
}

#[test]
fn a_rule_is_for_everybody_or_a_room_or_a_person() {
    let mut world = World::new();
    let mut alice = world.client(1, "alice");
    world.create(&mut alice, RoomKind::Private);
    for ask in [restrict(no_exe(), Some("den"), None), restrict(no_exe(), Some("#den@s1"), None)] {
        assert_eq!(code(&world.owner_asks(ask)), None);
    }
    assert_eq!(code(&world.owner_asks(restrict(no_exe(), None, Some("alice")))), None);
    let views = rules(&mut world);
    let whom: Vec<_> = views.iter().map(|view| (view.room.as_deref(), view.user.as_deref())).collect();
    assert_eq!(whom, [(Some("den@s1"), None), (Some("den@s1"), None), (None, Some("alice@s1"))]);
    assert!(views.iter().all(|view| view.reason.as_deref() == Some("house rules")));
    let document = told(&mut world, alice.session).pop().unwrap();
    let scopes: Vec<_> = document.rules.into_iter().map(|rule| rule.scope).collect();
    assert_eq!(scopes, [Scope::Room(DEN), Scope::Room(DEN), Scope::user(&alice.key())]);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    let limits = |f: fn(&mut Limits)| {
        let mut limits = Limits::default();
        f(&mut limits);
        restrict(limits, None, None)
    };
    for (ask, failure) in [
        (limits(|_| {}), Failure::BadValue),
        (limits(|l| l.deny_names.push("[".into())), Failure::BadValue),
        (limits(|l| l.deny_types.push("image".into())), Failure::BadValue),
        (limits(|l| l.deny_roots.push("12".into())), Failure::BadValue),
        (limits(|l| l.only.push("nobody".into())), Failure::UnknownUser),
        (limits(|l| l.deny_names = (0..65).map(|n| n.to_string()).collect()), Failure::BadValue),
        (
            limits(|l| {
                l.deny_names = (0..64).map(|_| "x".repeat(500)).enumerate().map(|(n, x)| format!("{n}{x}")).collect()
            }),
            Failure::Full,
        ),
        (restrict(no_exe(), Some("nowhere"), None), Failure::UnknownRoom),
        (restrict(no_exe(), Some("den@s2"), None), Failure::UnknownRoom),
        (restrict(no_exe(), None, Some("nobody\u{1b}[2J")), Failure::UnknownUser),
        (restrict(no_exe(), Some("den"), Some("bob")), Failure::BadValue),
        (Ask::Unrestrict { id: 7 }, Failure::UnknownId),
    ] {
        assert_eq!(code(&world.owner_asks(ask.clone())), Some(failure), "{ask:?}");
    }
    assert!(rules(&mut world).is_empty() && told(&mut world, bob.session).is_empty());
}

#[test]
fn rules_are_bounded_to_what_everybody_can_be_told() {
    let mut world = World::new();
    let long = |n: usize| Limits { deny_names: vec![format!("{n}{}", "x".repeat(450)); 1], ..Limits::default() };
    let refused = (0..1000).find(|n| code(&world.owner_asks(restrict(long(*n), None, None))).is_some());
    assert!(refused.is_some_and(|n| n > 200), "{refused:?}");
    assert_eq!(code(&world.owner_asks(restrict(long(0), None, None))), Some(Failure::Full));
    let many = Limits {
        deny_names: (0..30).map(|n| format!("{}{}{n}", "{a,b}".repeat(6), "x".repeat(400))).collect(),
        ..Limits::default()
    };
    assert_eq!(code(&World::new().owner_asks(restrict(many, None, None))), Some(Failure::Full), "braces multiply");
    let bob = world.client(1, "bob");
    assert_eq!(told(&mut world, bob.session)[0].rules.len(), refused.unwrap());
    assert!(matches!(world.owner_asks(Ask::Unrestrict { id: 1 }), Answer::Done { .. }));
    assert_eq!(code(&world.owner_asks(restrict(long(0), None, None))), None);
}

#[test]
fn names_without_a_server_are_of_this_one_and_operators_may_do_it_but_not_to_each_other() {
    let mut world = World::new();
    let (bob, carol) = (world.client(1, "bob"), world.client(2, "carol"));
    for name in ["bob", "carol"] {
        world.owner_asks(Ask::Grant { name: name.into(), role: Role::Operator });
    }
    let asked = |world: &mut World, ask: Ask| match world
        .request(bob.session, Request::Admin { ask: serde_json::to_string(&ask).unwrap() })
    {
        Reply::Admin(text) => serde_json::from_str::<Answer>(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    let only = Limits { only: vec!["bob".into(), "eve@s2".into()], ..Limits::default() };
    assert_eq!(code(&asked(&mut world, restrict(only, None, None))), None);
    assert_eq!(rules(&mut world)[0].limits.only, ["bob@s1", "eve@s2"]);
    assert_eq!(code(&asked(&mut world, restrict(no_exe(), None, Some("carol")))), Some(Failure::NotAllowed));
    assert_eq!(told(&mut world, carol.session).len(), 1);
}

#[test]
fn for_whom_sharing_is_off_the_server_relays_no_file() {
    let mut world = World::new();
    let (bob, carol) = (world.client(1, "bob"), world.client(2, "carol"));
    let off = Limits { off: true, ..Limits::default() };
    let id = id_of(&world.owner_asks(restrict(off, None, Some("bob"))));
    let ask = || Request::RelayRegister(crate::wire::leg::RelayTokens { own: [1; 32].into(), peer: [2; 32].into() });
    told(&mut world, bob.session);
    let Reply::Refused(refusal) = world.request(bob.session, ask()) else { panic!() };
    assert!(refusal.code == Code::NotAllowed && refusal.message.contains(&format!("rule {id}")), "{refusal:?}");
    let reply = world.request(carol.session, ask());
    assert!(!matches!(&reply, Reply::Refused(refusal) if refusal.message.contains("rule")), "{reply:?}");
    assert_eq!(world.legs.counts().legs, 1);
    world.owner_asks(restrict(Limits { off: true, ..Limits::default() }, None, Some("carol")));
    assert_eq!(world.legs.counts().legs, 0, "nor does it go on");
    let passes = |world: &mut World, seed: u8| world.legs.transit(world.now, user(seed).public(), 1);
    assert!(!passes(&mut world, 1) && !passes(&mut world, 2), "nor pass through to another server");
    world.owner_asks(Ask::Unrestrict { id });
    assert!(passes(&mut world, 1) && !passes(&mut world, 2));
    world.disconnect(&carol);
    assert!(passes(&mut world, 2), "nothing is kept of who is not here");
}
