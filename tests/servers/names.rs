//! A server that lets somebody in under a name of another server.

use crate::harness::{ANYWHERE, Mesh};
use secchat::client::event::Event;
use secchat::store::client::ClientStore;
use secchat::store::{identity, mesh};
use secchat::wire::cert::NameCert;
use secchat::wire::frame::ServerInfo;
use secchat::wire::home::HomeCard;
use secchat::wire::name::{FullName, Name};

#[test]
fn a_false_name_is_caught_by_clients_of_other_servers_and_the_lying_server_is_named() {
    let mut mesh = Mesh::new(3);
    // The second takes its own signature for the first's.
    let liar = identity::load(&identity::path_in(&mesh.path("server2")), None).unwrap();
    let trust = format!("s1={}", liar.public().fingerprint());
    let links = vec![mesh.servers[0].mesh.clone(), mesh.servers[2].mesh.clone()];
    mesh.kill(2);
    mesh.servers[1] = mesh.start(2, ANYWHERE, ANYWHERE, links, &["--mesh-trust", &trust]);
    let mut alice = mesh.client("alice", 1, &["--no-roam", "--room", "lab", "--create", "--private"]);
    alice.joined();
    let mut bob = mesh.client("bob", 3, &["--no-roam"]);
    mesh.settle(&mut bob);
    bob.say("/create hall@s2");
    bob.joined();
    forge(&mesh, &liar);
    let mut mallory = mesh.client_with("alice", "mallory", 2, &["--no-roam"]);
    let connected = mallory.wait("let in", |event| matches!(event, Event::Connected { .. }));
    assert!(matches!(connected, Event::Connected { name, .. } if name == "alice@s1"), "the server lies");
    mallory.say("/join hall@s2");
    mallory.joined();
    let caught = Event::Integrity {
        room: "hall@s2".into(),
        kind: "false_name".into(),
        peer: Some("alice@s1".into()),
        server: Some("s2".into()),
    };
    bob.wait("caught", |event| *event == caught);
    mallory.say("believe me");
    mallory.wait("sent", |event| matches!(event, Event::Sent { .. }));
    mallory.say("@bob@s3 it is me, alice");
    // The true one is heard, before and after.
    alice.say("@bob@s3 it is me");
    let word = bob.wait("a private word", |event| matches!(event, Event::Direct { .. }));
    assert!(
        matches!(word, Event::Direct { text, from, .. } if (text.as_str(), from.as_str()) == ("it is me", "alice@s1"))
    );
    assert!(bob.texts().is_empty(), "{:?}", bob.seen);
}

/// A data directory in which the lying server's certificate says alice of the first server.
fn forge(all: &Mesh, liar: &secchat::crypto::identity::Identity) {
    let name = |text: &str| Name::parse(text).unwrap();
    let store = ClientStore::open(&all.path("mallory")).unwrap();
    let mallory = identity::load_or_create(&all.path("mallory"), None).unwrap();
    let files = mesh::load(&all.path("certs").join("s2")).unwrap();
    let cert = NameCert::issue(liar, FullName::new(name("alice"), name("s1")), mallory.public(), u64::MAX >> 1);
    let there = ServerInfo {
        name: name("s2"),
        key: (*liar.public().as_bytes()).into(),
        vouch: files.cert.to_bytes().into(),
        endpoints: Vec::new(),
        hops: 0,
        round_trip_us: 0,
    };
    let authorities = files.authorities.iter().map(|key| (*key.as_bytes()).into()).collect();
    let card = HomeCard { cert: cert.with_chain(Some(files.cert)), authorities, servers: vec![there], sharing: None };
    store.keep_home(&card).unwrap();
}
