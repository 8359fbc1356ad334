use crate::harness::{DEADLINE, HELLO, Log, NODE, Peer, REFUSAL, config, hello, identity, start, start_linked, vouch};
use secchat::net::tls;
use secchat::wire::mesh_hello::{MeshHello, MeshRefusal};
use secchat::wire::vouch::ServerTrust;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let log = Log::start();
    let one = start(config(1, "s1"));
    let mut foreign = config(2, "s2");
    foreign.vouch = Some(vouch(200, "s2", 2));
    let _two = start_linked(foreign, &[one.address]);
    log.says(&["is called s2", "no authority that is trusted here vouches"]).await;
    log.says(&["ERROR", "refuses this one", "nobody that it trusts vouches"]).await;
    assert!(one.links().await.is_empty());
    assert_eq!(one.refused("not_trusted").await, 1);
    // Nor does the one that dials believe it.
    let mut believer = config(3, "s3");
    believer.trust = ServerTrust { authorities: vec![identity(200).public()], listed: Vec::new() };
    let three = start_linked(believer, &[one.address]);
    log.says(&["no link with the server", "is called s1", "no authority"]).await;
    assert!(three.links().await.is_empty() && one.links().await.is_empty());
}

#[tokio::test]
async fn a_server_has_the_name_of_its_certificate_and_the_key_of_its_handshake() {
    let log = Log::start();
    let one = start(config(1, "s1"));
    for (seed, server) in [(2, "s9"), (3, "s2")] {
        let mut peer = Peer::connect(one.address, seed).await.unwrap();
        let lie = MeshHello { vouch: Some(vouch(crate::harness::AUTHORITY, "s2", 2)), ..hello(seed, server, 1) };
        peer.say(HELLO, &lie.to_bytes()).await;
        let (kind, said) = peer.hear().await.unwrap();
        assert_eq!((kind, MeshRefusal::from_bytes(&said)), (REFUSAL, Ok(MeshRefusal::NotTrusted)));
    }
    log.says(&["is called s9", "has another key"]).await;
    assert_eq!(one.refused("not_trusted").await, 2);
}

#[tokio::test]
async fn a_name_that_is_taken_anywhere_in_the_mesh_is_refused_and_the_server_is_told() {
    let log = Log::start();
    let one = start(config(1, "s1"));
    let mut two = start_linked(config(2, "s2"), &[one.address]);
    two.sees(1).await;
    // At the one that has it, and at another one that knows of it.
    for address in [one.address, two.address] {
        let _second = start_linked(config(9, "s1"), &[address]);
        log.says(&["ERROR", &address.to_string(), "another server of the mesh has this name already"]).await;
    }
    one.refused("name_taken").await;
    two.refused("name_taken").await;
    assert_eq!(two.links().await.len(), 1);
}

#[tokio::test]
async fn junk_and_other_protocols_are_refused_and_named() {
    let log = Log::start();
    let one = start(config(1, "s1"));
    let mut junk = TcpStream::connect(one.address).await.unwrap();
    junk.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = timeout(DEADLINE, junk.read_to_end(&mut heard)).await.expect("closed");
    log.says(&["refused", "no TLS session"]).await;
    one.refused("no_tls").await;
    // A user's client, with its own protocol inside TLS.
    let certs = secchat::net::verify::ServerCerts::new(&tls::provider(), None, None).unwrap();
    let config = tls::client_config(certs, Some(&identity(5))).unwrap();
    let tcp = TcpStream::connect(one.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    assert!(tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.is_err());
    let mut peer = Peer::connect(one.address, 2).await.unwrap();
    peer.stream.write_all(&[0xff; 64]).await.unwrap();
    assert!(peer.hear().await.is_err(), "closed");
    assert_eq!(one.refused("malformed").await, 1);
    log.says(&["refused", "malformed hello"]).await;
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let log = Log::start();
    let one = start(config(1, "s1"));
    let mut silent = TcpStream::connect(one.address).await.unwrap();
    let mut after_tls = Peer::connect(one.address, 2).await.unwrap();
    let mut heard = Vec::new();
    let _ = timeout(DEADLINE, silent.read_to_end(&mut heard)).await.expect("closed");
    assert!(heard.is_empty() && after_tls.hear().await.is_err());
    log.says(&["refused", "it is too slow"]).await;
}

#[tokio::test]
async fn a_flood_at_the_mesh_port_leaves_a_server_its_way_in_and_the_log_short() {
    let log = Log::start();
    let mut one = start(config(1, "s1"));
    let address = one.address;
    // Silent ones that fill all places of their address, and others that come and go with junk all the time.
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let flood = tokio::spawn(async move {
        loop {
            if let Ok(mut junk) = TcpStream::connect(address).await {
                let _ = junk.write_all(&[0x16; 300]).await;
            }
            tokio::task::yield_now().await;
        }
    });
    let mut two = start_linked(config(2, "s2"), &[address]);
    one.sees(2).await;
    two.sees(1).await;
    two.says(1, b"through the flood").await;
    assert_eq!(one.hears(2).await.1, b"through the flood");
    flood.abort();
    assert!(one.refused("evicted").await >= 100);
    let lines = log.text().lines().filter(|line| line.contains("refused")).count();
    assert!(lines < 10, "{lines}");
}

#[tokio::test]
async fn a_neighbour_that_never_reads_is_cut_within_seconds_and_another_link_lives() {
    let log = Log::start();
    let mut one = start(config(1, "s1"));
    let two = start_linked(config(2, "s2"), &[one.address]);
    one.sees(2).await;
    let since = Instant::now();
    let _deaf = Peer::link(one.address, 3, "s3").await;
    one.until("linked", |report| (report.links.len() == 2).then_some(())).await;
    two.says(1, b"meanwhile").await;
    assert_eq!(one.hears(2).await.1, b"meanwhile");
    log.says(&["cut", "s3", "has answered no ping"]).await;
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    one.refused("silent").await;
    assert_eq!(one.links().await.len(), 1);
    two.says(1, b"after it").await;
    assert_eq!(one.hears(2).await.1, b"after it");
}

/// It talks all the time, so that it is not silent, and takes nothing.
#[tokio::test]
async fn a_neighbour_that_only_talks_is_cut_too() {
    let log = Log::start();
    let since = Instant::now();
    let one = start(config(1, "s1"));
    let mut talker = Peer::link(one.address, 3, "s3").await;
    let talking = tokio::spawn(async move {
        let mut bytes = 8u32.to_be_bytes().to_vec();
        bytes[0] = crate::harness::PING;
        bytes.extend_from_slice(&[7; 8]);
        while talker.stream.write_all(&bytes.repeat(1000)).await.is_ok() && talker.stream.flush().await.is_ok() {}
    });
    log.says(&["cut", "s3"]).await;
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    timeout(DEADLINE, talking).await.expect("its connection ends").unwrap();
}

#[tokio::test]
async fn a_neighbour_that_sends_what_no_server_sends_is_cut() {
    let log = Log::start();
    let one = start(config(1, "s1"));
    for (kind, frame, why) in [(9, &b"x"[..], "malformed"), (HELLO, b"", "malformed"), (NODE, b"\x7fjunk", "violation")]
    {
        let mut peer = Peer::link(one.address, 3, "s3").await;
        peer.say(kind, frame).await;
        while peer.hear().await.is_ok() {}
        one.refused(why).await;
        one.until("unlinked", |report| report.links.is_empty().then_some(())).await;
    }
    log.says(&["cut", "s3", "malformed"]).await;
}

#[tokio::test]
async fn an_announced_length_takes_no_memory_and_is_refused_at_once() {
    let one = start(config(1, "s1"));
    let mut peer = Peer::link(one.address, 3, "s3").await;
    peer.stream.write_all(&[NODE, 0xff, 0xff, 0xff]).await.unwrap();
    while peer.hear().await.is_ok() {}
    assert_eq!(one.refused("malformed").await, 1);
}
