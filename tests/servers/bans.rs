//! A ban that is made at one server, as processes see it: those who are banned, the others, and the servers.

use crate::harness::{Client, DEADLINE, Mesh};
use secchat::client::event::Event;
use secchat::wire::admin::{Answer, Ask, Whom};
use std::time::Instant;

/// The exit code of a client that is refused.
const REFUSED: Option<i32> = Some(4);

fn ban(name: &str) -> Ask {
    Ask::Ban { whom: Whom::Name(name.into()), for_s: None, reason: Some("no more of this".into()), here: false }
}

fn done(answer: &Answer) -> bool {
    matches!(answer, Answer::Done { .. })
}

fn bans(mesh: &Mesh, server: usize) -> Vec<String> {
    match mesh.ask(server, &Ask::Bans { after: None }) {
        Answer::Bans(page) => page.rows.into_iter().map(|row| row.id).collect(),
        other => panic!("{other:?}"),
    }
}

/// Asks again and again, until it is so.
#[track_caller]
fn until(so: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
}

/// Refused with the reason, and not tried again, here or elsewhere.
#[track_caller]
fn turned_away(client: Client) {
    let (code, seen) = client.ended();
    let told = |event: &Event| matches!(event, Event::Error { code, message, .. } if code == "banned" && message.contains("no more of this"));
    assert!(seen.iter().any(told), "{seen:?}");
    assert_eq!(code, REFUSED, "{seen:?}");
}

#[test]
fn who_is_banned_at_one_server_is_out_of_all_and_stays_out_under_another_name() {
    let mesh = Mesh::new(3);
    let mut alice = mesh.client("alice", 1, &["--no-roam", "--room", "den", "--create", "--private"]);
    alice.joined();
    mesh.settle(&mut alice);
    let mut bob = mesh.client("bob", 3, &["--room", "den@s1"]);
    bob.joined();
    bob.say("spam");
    alice.hears("spam");

    assert!(done(&mesh.ask(1, &ban("bob@s3"))));
    let (code, seen) = bob.ended();
    let told = |event: &Event| matches!(event, Event::Notice { text, .. } if text.contains("no more of this"));
    assert!(seen.iter().any(told), "{seen:?}");
    assert!(matches!(seen.last(), Some(Event::Bye { reason, .. }) if reason == "banned"), "{seen:?}");
    assert_eq!(code, REFUSED);
    alice.wait("left", |event| matches!(event, Event::MemberLeft { name, .. } if name == "bob@s3"));

    for server in 1..=3 {
        turned_away(mesh.client_with("robert", "bob", server, &[]));
    }
    assert_eq!((bans(&mesh, 1), bans(&mesh, 2)), (vec!["1".to_owned()], vec!["1@s1".to_owned()]));
    assert!(done(&mesh.ask(1, &Ask::Unban { id: "1".into() })));
    until(|| bans(&mesh, 3).is_empty());
    // What bob knows opens the room no more: its owner's client has changed the secret.
    let changed = alice.wait("the new secret", |event| matches!(event, Event::SecretChanged { .. }));
    let Event::SecretChanged { secret: Some(secret), .. } = changed else { panic!("{changed:?}") };
    std::fs::write(mesh.path("new"), secret).unwrap();
    let mut bob = mesh.client("bob", 3, &["--room", "den@s1", "--password-file", mesh.path("new").to_str().unwrap()]);
    bob.joined();
    bob.say("sorry");
    alice.hears("sorry");
}

#[test]
fn a_ban_holds_when_the_servers_are_killed_right_after_the_answer() {
    let mut mesh = Mesh::new(2);
    let mut alice = mesh.client("alice", 1, &["--no-roam"]);
    alice.wait("connected", |event| matches!(event, Event::Connected { .. }));
    mesh.settle(&mut alice);
    let mut bob = mesh.client("bob", 1, &["--no-roam"]);
    bob.wait("connected", |event| matches!(event, Event::Connected { .. }));
    assert_eq!(bob.exit(), Some(0));

    assert!(done(&mesh.ask(1, &ban("bob"))));
    mesh.kill(1);
    mesh.revive(1);
    assert_eq!(bans(&mesh, 1), ["1"]);
    turned_away(mesh.client_with("robert", "bob", 1, &[]));
    // The other server has it by now, or hears of it as soon as it is linked again; then it holds there without the first one.
    until(|| !bans(&mesh, 2).is_empty());
    mesh.kill(1);
    mesh.kill(2);
    mesh.revive(2);
    assert_eq!(bans(&mesh, 2), ["1@s1"]);
    turned_away(mesh.client_with("robert", "bob", 2, &["--no-roam"]));
}
