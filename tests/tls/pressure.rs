//! Peers that hold connections open, or do not read.

use crate::harness::{DEADLINE, start, start_at};
use secchat::net::link::connect;
use secchat::server::accept::Caps;
use secchat::wire::frame::{Reply, Request, ToClient, ToServer};
use secchat::wire::id::Id;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageWrite, MessageWriteVec};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_new_user_gets_in_through_a_flood_of_half_open_connections() {
    let server = start(1);
    let mut flood = Vec::new();
    for _ in 0..400 {
        flood.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert!(timeout(DEADLINE, connect(&server.dial(2))).await.expect("in time").is_ok());
    // The oldest had to make room, so it was not held open until its deadline.
    let mut heard = Vec::new();
    let _ = timeout(DEADLINE, flood[0].read_to_end(&mut heard)).await.expect("closed");
}

/// All posts are taken, none is refused; it is the flooder's link that is read more slowly.
#[tokio::test]
async fn a_flood_of_posts_is_slowed_down_and_nobody_else_is() {
    const POSTS: u64 = 2_200;
    let server = start(1);
    let (_, fast, mut fast_receiver) = connect(&server.dial(2)).await.unwrap();
    let (_, other, mut other_receiver) = connect(&server.dial(3)).await.unwrap();
    let begun = std::time::Instant::now();
    for id in 1..=POSTS {
        let body = Request::Post { room: Id([1; 16]), message: vec![7; 100].into() };
        fast.send(ToServer::Request { id, body }.to_bytes().into()).unwrap();
    }
    other.send(ToServer::Request { id: 1, body: Request::Ping }.to_bytes().into()).unwrap();
    let first = timeout(DEADLINE, other_receiver.next()).await.unwrap().unwrap();
    assert_eq!(first, Some(ToClient::Reply { id: 1, body: Reply::Done }));
    for wanted in 1..=POSTS {
        let answer = timeout(DEADLINE, fast_receiver.next()).await.unwrap().unwrap();
        assert_eq!(answer, Some(ToClient::Reply { id: wanted, body: Reply::Done }));
    }
    // Never less, however fast the machine: what goes beyond the burst takes its time.
    let least = Duration::from_millis(POSTS - 200);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn above_the_cap_in_all_newcomers_are_turned_away() {
    let caps = Caps { connections: 3, ..Caps::default() };
    let server = start_at((Ipv4Addr::LOCALHOST, 0).into(), 1, caps);
    let mut users = Vec::new();
    for seed in 2..5 {
        users.push(connect(&server.dial(seed)).await.unwrap());
    }
    assert!(connect(&server.dial(9)).await.is_err());
}

#[tokio::test]
async fn a_slow_reader_is_dropped_while_others_are_served() {
    let server = start(1);
    let (_, slow, mut slow_receiver) = connect(&server.dial(2)).await.unwrap();
    let (_, brisk, mut brisk_receiver) = connect(&server.dial(3)).await.unwrap();
    // 25 MiB of notices, which are not read.
    let flood = ToServer::Request { id: 1, body: Request::Operator { text: "x".repeat(400) } };
    slow.send(flood.to_bytes().into()).unwrap();
    brisk.send(ToServer::Request { id: 2, body: Request::Ping }.to_bytes().into()).unwrap();
    let answer = timeout(DEADLINE, brisk_receiver.next()).await.unwrap().unwrap();
    assert_eq!(answer, Some(ToClient::Reply { id: 2, body: Reply::Done }));
    let mut heard = 0;
    while let Ok(Some(frame)) = timeout(DEADLINE, slow_receiver.next()).await.expect("dropped in time") {
        assert!(matches!(frame, ToClient::Push(_)), "the reply stands behind more than the queue holds");
        heard += 1;
    }
    assert!(heard < 400);
}

#[tokio::test]
async fn the_udp_port_tells_a_client_its_own_address() {
    let server = start(1);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    socket.send_to(&request, (Ipv4Addr::LOCALHOST, server.stun)).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 200];
        let len = socket.recv(&mut buffer).unwrap();
        (buffer[..len].to_vec(), socket.local_addr().unwrap())
    });
    let (bytes, own) = answer.await.unwrap();
    let message = Message::from_bytes(&bytes).unwrap();
    assert_eq!(message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id()), own);
}
