//! Whole connections, where their inside must be seen or set.

use std::net::SocketAddr;
use std::time::Duration;

use super::numbers::Numbers;
use super::*;
use crate::crypto::seal::{PACKET_NUMBER_LIMIT, SealKey};
use crate::wire::datagram::CloseCode;
use crate::wire::packet::ConnectionId;

const NOW: Duration = Duration::from_secs(5);

/// Holder, whose stream has `len` bytes, and asker, who sends nothing.
fn ends(config: &Config, len: u64) -> (Connection, Connection) {
    let keys = |send: u8, recv: u8| ChannelKeys {
        send: SealKey::new([send; 32], [0; 12]),
        recv: SealKey::new([recv; 32], [0; 12]),
    };
    let ids =
        |local: u8, remote: u8| ConnectionIds { local: ConnectionId([local; 8]), remote: ConnectionId([remote; 8]) };
    let mut holder = Connection::new(config.clone(), keys(1, 2), ids(1, 2), Side::Holder, [1; 32], NOW).unwrap();
    let mut asker = Connection::new(config.clone(), keys(2, 1), ids(2, 1), Side::Asker, [2; 32], NOW).unwrap();
    holder.set_stream_end(NOW, len);
    holder.finish_stream(NOW);
    asker.finish_stream(NOW);
    asker.add_candidate(NOW, addr(1));
    (holder, asker)
}

fn addr(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

/// Passes datagrams to and fro at one instant until both are quiet.
fn settle(holder: &mut Connection, asker: &mut Connection, mut stream: &[u8], got: &mut dyn StreamSink) {
    let mut batch = Batch::new(MAX_BATCH);
    loop {
        let mut quiet = true;
        while holder.poll_transmit(NOW, &mut stream, &mut batch).is_some() {
            batch.datagrams_mut().for_each(|datagram| asker.handle_datagram(NOW, addr(1), datagram, false, got));
            asker.end_of_batch(NOW);
            quiet = false;
        }
        while asker.poll_transmit(NOW, &mut NoSource, &mut batch).is_some() {
            batch.datagrams_mut().for_each(|datagram| holder.handle_datagram(NOW, addr(2), datagram, false, got));
            holder.end_of_batch(NOW);
            quiet = false;
        }
        if quiet {
            return;
        }
    }
}

fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

#[test]
fn running_out_of_packet_numbers_ends_the_connection_and_repeats_no_nonce() {
    let stream = vec![3; 100_000];
    let config = Config { max_datagram: 1_200, window: Some(64), ..Config::default() };
    let (mut holder, mut asker) = ends(&config, stream.len() as u64);
    holder.numbers = Numbers::starting_at(PACKET_NUMBER_LIMIT - 20);
    let mut got = Vec::new();
    settle(&mut holder, &mut asker, &stream, &mut got);
    assert!(events(&mut holder).contains(&Event::Failed(Failure::PacketNumbers)));
    assert!(holder.is_drained());
    assert_eq!(holder.stats().datagrams_sent, 20);
    assert!(!got.is_empty() && stream.starts_with(&got));
}

#[test]
fn a_source_that_cannot_be_read_ends_both_ends() {
    let (mut holder, mut asker) = ends(&Config { window: Some(64), ..Config::default() }, 100_000);
    settle(&mut holder, &mut asker, &[0; 50_000], &mut Vec::new());
    assert_eq!(events(&mut holder).last(), Some(&Event::Failed(Failure::Source)));
    let told = events(&mut asker);
    assert!(matches!(told.last(), Some(Event::Closed { by: ClosedBy::Peer, code: CloseCode::FILE, .. })));
    assert!(asker.is_drained() && holder.is_drained());
}

#[test]
fn settings_outside_their_range_are_refused() {
    let good = Config::default();
    for (max_datagram, window, receive_bytes) in [
        (1_199, None, 1),
        (65_508, None, 1),
        (usize::MAX, None, 1),
        (1_200, Some(0), 1),
        (1_200, Some(u32::MAX), 1),
        (1_200, None, 0),
    ] {
        let (holder, _) = ends(&good, 1);
        let config = Config { max_datagram, window, receive_bytes, ..good.clone() };
        let made = Connection::new(config, holder.keys, holder.ids, Side::Asker, [0; 32], NOW);
        assert!(made.is_err(), "{max_datagram} {window:?}");
    }
}

#[test]
fn keys_and_challenges_do_not_print() {
    let (holder, _) = ends(&Config::default(), 1);
    let shown = format!("{holder:?}");
    assert!(!shown.contains("[1, 1, 1, 1, 1, 1, 1, 1, 1"), "{shown}");
}
