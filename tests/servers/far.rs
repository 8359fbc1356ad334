//! Clients at the far ends of four servers: what is between them does not show.

use crate::harness::{Client, Mesh};
use secchat::client::event::Event;
use std::path::Path;

const FILE_LEN: usize = 8 << 20;

#[test]
fn a_room_private_words_a_search_and_a_file_over_a_chain_of_four_servers() {
    from_end_to_end(&Mesh::chain(4));
}

#[test]
fn and_over_a_ring() {
    from_end_to_end(&Mesh::ring(4));
}

fn from_end_to_end(mesh: &Mesh) {
    let (share, downloads) = (mesh.path("share"), mesh.path("downloads"));
    std::fs::create_dir(&share).unwrap();
    let mut content = vec![0; FILE_LEN];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    std::fs::write(share.join("noise.bin"), &content).unwrap();
    let [share, downloads] = [share, downloads].map(|path| path.to_str().unwrap().to_owned());

    let room = ["--no-roam", "--room", "lab", "--create", "--private", "--share", &share];
    let mut alice = mesh.client("alice", 1, &room);
    alice.joined();
    alice.say("@me setglobalshare");
    alice.wait("shared", |event| matches!(event, Event::Ok { .. }));
    mesh.settle(&mut alice);
    let mut bob = mesh.client("bob", 4, &["--no-roam", "--room", "lab@s1", "--downloads", &downloads]);
    bob.joined();
    alice.wait("bob", |event| matches!(event, Event::MemberJoined { name, .. } if name == "bob@s4"));
    talk(&mut alice, &mut bob);

    bob.say("@all whohas noise.bin");
    bob.wait("the end of the search", |event| matches!(event, Event::SearchDone { .. }));
    bob.say("@alice getfile noise.bin");
    let done = bob.wait("the file", |event| matches!(event, Event::TransferDone(_) | Event::TransferFailed(_)));
    let Event::TransferDone(done) = done else { panic!("{done:?}") };
    assert!(std::fs::read(Path::new(&done.path.unwrap())).unwrap() == content);
    assert_eq!(done.root.unwrap(), blake3::hash(&content).to_hex().as_str());

    assert_eq!(bob.exit(), Some(0));
    let left = Event::MemberLeft { room: "lab@s1".into(), name: "bob@s4".into(), reason: "left".into() };
    alice.wait("bob's leaving", |event| *event == left);
    assert_eq!(alice.exit(), Some(0));
}

fn talk(alice: &mut Client, bob: &mut Client) {
    bob.say("hello from afar");
    alice.hears("hello from afar");
    alice.say("hello back");
    bob.hears("hello back");
    bob.say("@alice between us");
    alice.wait("a private word", |event| matches!(event, Event::Direct { .. }));
    alice.say("@bob likewise");
    bob.wait("a private word", |event| matches!(event, Event::Direct { .. }));
    bob.say("@alice ping");
    bob.wait("alice's answer", |event| matches!(event, Event::Pong { target, .. } if target == "alice@s1"));
    bob.say("@server get_rooms");
    bob.wait("rooms", |event| matches!(event, Event::Rooms { .. }));
    let kinds = ["connected", "joined", "member_joined", "message", "direct"];
    let keys = ["server", "name", "room", "members", "from", "text"];
    assert_eq!(
        bob.told(&kinds, &keys),
        [
            "connected s4 bob@s4",
            "joined lab@s1 [\"alice@s1\",\"bob@s4\"]",
            "message lab@s1 alice@s1 hello back",
            "direct alice@s1 likewise",
        ]
    );
    assert_eq!(
        alice.told(&kinds, &keys),
        [
            "connected s1 alice@s1",
            "joined lab@s1 [\"alice@s1\"]",
            "member_joined bob@s4 lab@s1",
            "message lab@s1 bob@s4 hello from afar",
            "direct bob@s4 between us",
        ]
    );
}
