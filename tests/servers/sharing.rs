//! Rules on sharing across servers: a sender whose server has none, and a receiver who holds to its own.

use crate::harness::Mesh;
use secchat::client::event::{Event, Transfer};
use secchat::server::desk::socket_in;
use secchat::transfer::restrict::parse;
use secchat::wire::admin::{Answer, Ask};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn restrict(mesh: &Mesh, server: usize, flags: &str) {
    let typed = parse(flags).unwrap();
    let (limits, reason) = (Box::new(typed.limits), typed.reason);
    let ask = Ask::Restrict { room: None, user: None, limits, reason };
    let mut stream = UnixStream::connect(socket_in(&mesh.path(&format!("server{server}")))).unwrap();
    stream.write_all((serde_json::to_string(&ask).unwrap() + "\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let answer: Answer = serde_json::from_str(&answer).unwrap();
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
}

fn restricted(event: &Event) -> Option<&Transfer> {
    match event {
        Event::TransferFailed(transfer) if transfer.reason.as_deref() == Some("restricted") => Some(transfer),
        _ => None,
    }
}

#[test]
fn a_receiver_takes_no_program_from_a_sender_whose_server_has_no_rule_against_it() {
    let mesh = Mesh::new(2);
    let (share, downloads) = (mesh.path("share"), mesh.path("downloads"));
    [&share, &downloads].iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    let mut program = vec![0x5a; 3_000_000];
    program[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    std::fs::write(share.join("holiday.jpg"), &program).unwrap();
    let share = ["--no-roam", "--share", share.to_str().unwrap()];
    let mut alice = mesh.client("alice", 2, &share);
    let mut bob = mesh.client("bob", 1, &["--no-roam", "--downloads", downloads.to_str().unwrap()]);
    mesh.settle(&mut bob);
    mesh.settle(&mut alice);
    restrict(&mesh, 1, "--deny-type application/x-executable --reason 'no programs'");
    alice.say("@me setglobalshare");
    alice.wait("shared", |event| matches!(event, Event::Ok { command } if command == "setglobalshare"));
    bob.say("@alice@s2 getfile holiday.jpg");
    let here = bob.wait("refused", |event| restricted(event).is_some());
    let there = alice.wait("heard of it", |event| restricted(event).is_some());
    for event in [here, there] {
        let detail = restricted(&event).and_then(|transfer| transfer.detail.clone()).unwrap();
        assert!(detail.contains("rule 1 of the server s1: holiday.jpg is application/x-executable"), "{detail}");
        assert!(detail.ends_with("(no programs)"), "{detail}");
    }
    let left: Vec<_> = std::fs::read_dir(&downloads).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
