use super::*;

#[test]
fn a_name_is_its_first_owners_and_others_are_offered_a_free_one() {
    let mut world = World::new();
    let bob = world.connect(&user(1));
    let welcome = world.login_as(bob, "Bob", 1).unwrap();
    let cert = NameCert::from_bytes(&welcome.cert).unwrap();
    assert_eq!((cert.subject.clone(), cert.key()), (full("bob"), user(1).public()));
    assert!(cert.check(&server().public(), START_MS + 89 * 24 * 3600 * 1000).is_ok());
    assert!(cert.check(&server().public(), START_MS + 91 * 24 * 3600 * 1000).is_err());
    assert_eq!((welcome.seen_as.as_str(), welcome.stun_port), ("192.0.2.1:1", 3478));
    assert_eq!(world.admitted, [bob]);
    for taken in ["bob", "BOB", "bоb"] {
        let other = world.connect(&user(2));
        let refusal = world.login_as(other, taken, 2).unwrap_err();
        assert_eq!((refusal.code, world.closed.last()), (Code::NameTaken, Some(&other)));
        assert!(refusal.hint.unwrap().ends_with('2'));
    }
    assert_eq!(world.admitted, [bob]);
}

#[test]
fn reserved_and_bad_names_and_other_versions_are_refused() {
    let mut world = World::new();
    for bad in ["admin", "ALL", "b ob", "", "bob\u{202e}", "x\x1b[31m"] {
        let session = world.connect(&user(1));
        assert_eq!(world.login_as(session, bad, 1).unwrap_err().code, Code::BadName, "{bad:?}");
    }
    let session = world.connect(&user(1));
    let login =
        Login { version: VERSION + 1, name: "bob".into(), instance: Id([1; 16]), cert: None, pass: None, token: None };
    world.feed(Input::Frame(session, ToServer::Login(login)));
    assert!(matches!(world.take(session), ToClient::Refused(Refusal { code: Code::Version, .. })));
}

#[test]
fn one_key_may_take_another_name_and_keeps_the_first() {
    let mut world = World::new();
    world.client(1, "bob");
    world.client(1, "robert");
    let other = world.connect(&user(2));
    assert_eq!(world.login_as(other, "bob", 2).unwrap_err().code, Code::NameTaken);
    world.client(1, "bob");
}

#[test]
fn a_second_login_ends_the_first() {
    let mut world = World::new();
    let first = world.client(1, "bob");
    let second = world.client(1, "bob");
    assert_eq!(world.pushes(first.session), [Push::Bye { reason: "replaced".into(), detail: None }]);
    assert_eq!(world.closed, [first.session]);
    assert_eq!(world.request(second.session, Request::Ping), Reply::Done);
    assert_eq!(world.core.logged_in(), 1);
}

#[test]
fn nothing_is_answered_before_login() {
    let mut world = World::new();
    let session = world.connect(&user(1));
    world.ask(session, Request::Rooms);
    assert!(world.nothing_for(session));
    assert_eq!(world.closed, [session]);
    let idle = world.connect(&user(1));
    world.pass(Duration::from_secs(11));
    assert_eq!(world.closed, [session, idle]);
}

#[test]
fn a_silent_client_is_asked_three_times_and_then_lost() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    world.pass(Duration::from_secs(46));
    assert_eq!(world.pushes(bob.session), vec![Push::KeepAlive; 3]);
    world.feed(Input::Frame(bob.session, ToServer::Alive));
    world.pass(Duration::from_secs(46));
    assert_eq!(world.pushes(bob.session), vec![Push::KeepAlive; 3]);
    world.pass(Duration::from_secs(16));
    assert_eq!(world.pushes(bob.session), [Push::Bye { reason: "idle".into(), detail: None }]);
    assert_eq!(world.closed, [bob.session]);
}

#[test]
fn draining_says_goodbye_to_all_and_lets_nobody_in() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    world.feed(Input::Drain);
    assert_eq!(world.pushes(bob.session), [Push::Bye { reason: "draining".into(), detail: None }]);
    let late = world.connect(&user(2));
    assert_eq!(world.login_as(late, "carol", 2).unwrap_err().code, Code::Draining);
}

#[test]
fn what_is_said_to_the_operator_reaches_the_log_harmless_and_bounded() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    world.log.clear();
    let text = "help\x1b[31m".to_owned();
    assert_eq!(world.request(bob.session, Request::Operator { text }), Reply::Done);
    assert_eq!(world.log[0].to_string(), "bob@s1 to the operator: help\\u{1b}[31m");
    let long = "x".repeat(crate::limits::TEXT_MAX + 1);
    assert_eq!(world.refused(bob.session, Request::Operator { text: long }), Code::TooLarge);
    let flood = (0..100).map(|_| world.request(bob.session, Request::Operator { text: "x".into() }));
    assert!(flood.filter(|r| code(r) == Some(Code::TooMany)).count() > 50);
}

#[test]
fn a_certificate_is_renewed_on_request() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    world.now = Duration::from_secs(3600);
    let Reply::Name(cert) = world.request(bob.session, Request::RenewName) else { panic!() };
    assert!(NameCert::from_bytes(&cert).unwrap().not_after > bob.me.cert.not_after);
}
