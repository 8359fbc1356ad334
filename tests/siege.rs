//! A real server process under attack: its memory stays where it is and others are served.

#![cfg(target_os = "linux")]

use minicbor::bytes::ByteArray;
use secchat::cli::drive::{Process, Server, start_client};
use secchat::crypto::identity::Identity;
use secchat::limits::{FRAME_MAX, HASHES_PER_KEY, LINK_FRAME_MAX, PENDING_MAX};
use secchat::net::framed::{FrameReader, push_frame};
use secchat::net::link::{Dial, LinkReceiver, connect};
use secchat::net::queue::FrameSender;
use secchat::net::tls;
use secchat::net::trust::Trust;
use secchat::net::verify::ServerCerts;
use secchat::wire::endpoint::Endpoint;
use secchat::wire::frame::{Code, Login, Reply, Request, ToClient, ToServer, VERSION};
use secchat::wire::id::Id;
use secchat::wire::invite::Invite;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const WAIT: Duration = Duration::from_secs(60);
/// Two hashes of 19 MiB at once, and what allocators keep for themselves.
const HASHING_KIB: u64 = 64 * 1024;

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_secchat").into()
}

/// `VmHWM` (the most there ever was) or `VmRSS` (what there is) of a process, KiB.
fn memory(process: &Process, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).expect("a line of status");
    value.trim().trim_end_matches("kB").trim().parse().unwrap()
}

fn addresses(server: &Server) -> impl Iterator<Item = SocketAddr> + '_ {
    server.process.said().iter().filter_map(|line| line.strip_prefix("listening  ")?.trim().parse().ok())
}

fn address(server: &Server) -> SocketAddr {
    addresses(server).find(SocketAddr::is_ipv4).expect("it listens on IPv4")
}

fn ipv6_address(server: &Server) -> SocketAddr {
    addresses(server).find(SocketAddr::is_ipv6).expect("it listens on IPv6")
}

fn dial(server: &Server, address: SocketAddr, seed: u8) -> Dial {
    let Invite { pin, server, .. } = Invite::parse(&server.invite).unwrap();
    Dial {
        endpoint: address.to_string().parse::<Endpoint>().unwrap(),
        identity: Identity::from_seed(&[seed; 32]),
        name: format!("user{seed}"),
        instance: Id([seed; 16]),
        authority: None,
        trust: Trust { invite: Some((pin, server)), ..Trust::default() },
        homes: Vec::new(),
        token: None,
    }
}

async fn answer(receiver: &mut LinkReceiver, wanted: u64) -> Reply {
    loop {
        match timeout(WAIT, receiver.next()).await.expect("in time").unwrap() {
            Some(ToClient::Reply { id, body }) if id == wanted => return body,
            Some(_) => {}
            None => panic!("the link ended"),
        }
    }
}

fn ask(sender: &FrameSender, id: u64, body: Request) {
    sender.send(ToServer::Request { id, body }.to_bytes().into()).unwrap();
}

/// Guesses until the server says that it is enough; how many were judged.
async fn guess(dial: Dial, rounds: u64) -> u64 {
    let (_, sender, mut receiver) = connect(&dial).await.unwrap();
    ask(&sender, 0, Request::Resolve { label: "lab".into() });
    let Reply::Resolved { room, .. } = answer(&mut receiver, 0).await else { panic!("no id") };
    let mut judged = 0;
    for round in 0..rounds {
        let ids = (round * 100 + 1)..(round * 100 + 11);
        for id in ids.clone() {
            let door = ByteArray::from([u8::try_from(id % 251).unwrap(); 32]);
            ask(&sender, id, Request::Enter { room, door: Some(door) });
        }
        let last = ids.end - 1;
        let mut open = ids.clone().count();
        while open > 0 {
            match timeout(WAIT, receiver.next()).await.expect("in time").unwrap() {
                Some(ToClient::Reply { id, body: Reply::Refused(refusal) }) if (1..=last).contains(&id) => {
                    judged += u64::from(refusal.code == Code::WrongRoomOrPassword);
                    open -= 1;
                }
                Some(_) => {}
                None => panic!("the link ended"),
            }
        }
    }
    judged
}

#[test]
fn a_flood_of_wrong_passwords_leaves_memory_flat_and_others_served() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", &["--listen", "[::1]:0"]).unwrap();
    let (attacked, other) = (address(&server), ipv6_address(&server));
    let invite = server.invite.replace(&attacked.to_string(), &other.to_string());
    let owner = ["--room", "lab", "--create", "--private"];
    let mut alice = start_client(&binary(), dir.path(), "alice", &invite, &owner).unwrap();
    let created = alice.wait_event("room_created", WAIT, |_| true).unwrap();
    alice.wait_event("joined", WAIT, |_| true).unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, created["secret"].as_str().unwrap()).unwrap();
    let before = memory(&server.process, "VmHWM");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let flood: Vec<_> = (10..18).map(|seed| runtime.spawn(guess(dial(&server, attacked, seed), 5))).collect();
    // Somebody with the right password gets in through it, and the room talks.
    let member = ["--room", "lab", "--password-file", secret.to_str().unwrap()];
    let mut bob = start_client(&binary(), dir.path(), "bob", &invite, &member).unwrap();
    bob.wait_event("joined", WAIT, |_| true).unwrap();
    bob.say("through the flood").unwrap();
    alice.wait_event("message", WAIT, |e| e["text"] == "through the flood").unwrap();
    let judged: u64 = flood.into_iter().map(|attacker| runtime.block_on(attacker).unwrap()).sum();

    // Guesses that were under way when the allowance ended are judged too: a few for each key, never more.
    let under_way = u64::try_from(8 * HASHES_PER_KEY).unwrap();
    assert!((1..20 + under_way).contains(&judged), "{judged} of 400 guesses were judged");
    let grown = memory(&server.process, "VmHWM").saturating_sub(before);
    assert!(grown < HASHING_KIB, "{grown} KiB more");
}

async fn stranger(address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    dialled(address, None).await
}

async fn dialled(address: SocketAddr, identity: Option<&Identity>) -> std::io::Result<TlsStream<TcpStream>> {
    let certs = ServerCerts::new(&tls::provider(), None, None).unwrap();
    let config = tls::client_config(certs, identity).unwrap();
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect("localhost".try_into().unwrap(), tcp).await
}

/// The link of a member, taken to the point where frames of full size are accepted.
async fn still_serves(server: &Server, address: SocketAddr, seed: u8) {
    let (_, sender, mut receiver) =
        timeout(WAIT, connect(&dial(server, address, seed))).await.expect("in time").unwrap();
    ask(&sender, 1, Request::Ping);
    assert_eq!(answer(&mut receiver, 1).await, Reply::Done);
}

#[tokio::test]
async fn lengths_that_are_only_announced_take_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", &[]).unwrap();
    let address = address(&server);
    still_serves(&server, address, 2).await;
    let before = memory(&server.process, "VmHWM");
    for length in [u32::MAX, 1 << 31, 1 << 20, 4097].repeat(10) {
        let mut stream = stranger(address).await.unwrap();
        stream.write_all(&length.to_be_bytes()).await.unwrap();
        let mut reader = FrameReader::new(stream, 4096);
        // The hello, perhaps a refusal, then the end; a reset is as good.
        while let Ok(Some(_)) = timeout(WAIT, reader.next()).await.expect("the connection ends") {}
    }
    still_serves(&server, address, 3).await;
    let grown = memory(&server.process, "VmHWM").saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
}

/// Somebody who has logged in by hand: the reader of what the server says, and the other half.
async fn logged_in(address: SocketAddr, seed: u8) -> (FrameReader<impl AsyncRead + Unpin>, impl AsyncWrite + Unpin) {
    let stream = dialled(address, Some(&Identity::from_seed(&[seed; 32]))).await.unwrap();
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, FRAME_MAX);
    let mut said = async || ToClient::from_bytes(&reader.next().await.unwrap().unwrap(), FRAME_MAX).unwrap();
    assert!(matches!(timeout(WAIT, said()).await.expect("in time"), ToClient::Hello(_)));
    let login = Login {
        version: VERSION,
        name: format!("user{seed}"),
        instance: Id([seed; 16]),
        cert: None,
        pass: None,
        token: None,
    };
    let mut bytes = Vec::new();
    push_frame(&mut bytes, &ToServer::Login(login).to_bytes());
    write.write_all(&bytes).await.unwrap();
    assert!(matches!(timeout(WAIT, said()).await.expect("in time"), ToClient::Welcome(_)));
    (reader, write)
}

#[tokio::test]
async fn lengths_that_members_announce_take_no_memory_either() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", &[]).unwrap();
    let address = address(&server);
    still_serves(&server, address, 2).await;
    let before = memory(&server.process, "VmHWM");
    let too_long = u32::try_from(LINK_FRAME_MAX).unwrap() + 1;
    for (seed, length) in (10..).zip([u32::MAX, 1 << 31, too_long].repeat(5)) {
        let (mut reader, mut write) = logged_in(address, seed).await;
        write.write_all(&length.to_be_bytes()).await.unwrap();
        while let Ok(Some(_)) = timeout(WAIT, reader.next()).await.expect("the connection ends") {}
    }
    // Within the cap it stays open, and what has not come takes no place.
    let mut open = Vec::new();
    for seed in 100..140 {
        let (reader, mut write) = logged_in(address, seed).await;
        write.write_all(&u32::try_from(FRAME_MAX).unwrap().to_be_bytes()).await.unwrap();
        open.push((reader, write));
    }
    still_serves(&server, address, 3).await;
    let grown = memory(&server.process, "VmHWM").saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB more");
}

#[tokio::test]
async fn thousands_of_idle_sockets_take_little_memory_and_nobody_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&binary(), dir.path(), "s1", "127.0.0.1:0", &[]).unwrap();
    let address = address(&server);
    still_serves(&server, address, 2).await;
    let before = memory(&server.process, "VmHWM");
    let mut newest = std::collections::VecDeque::new();
    for _ in 0..3 * PENDING_MAX {
        // Ours are given up in their order too, so that the test needs few descriptors.
        if newest.len() == 500 {
            newest.pop_front();
        }
        newest.push_back(TcpStream::connect(address).await.unwrap());
    }
    still_serves(&server, address, 3).await;
    let grown = memory(&server.process, "VmHWM").saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
}
