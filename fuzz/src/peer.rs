//! A peer that holds the keys and sends what it likes, against each end of a file's channel.
//!
//! The bytes are a script of steps: `0x00..=0xdf`, a datagram to come whose frames are the next so many bytes;
//! `0xe0..=0xff`, time passes, more the higher the byte.

use secchat::channel::{
    ChannelKeys, Config, Connection, ConnectionIds, Event, SegmentSink, SegmentSource, SourceError,
};
use secchat::crypto::seal::SealKey;
use secchat::wire::packet::{ConnectionId, HEADER_LEN, Header};
use std::net::SocketAddr;
use std::time::Duration;

const FILE: u64 = 1 << 20;
const TIME: u8 = 0xe0;

/// The peer asked for the file and answers as it likes.
pub fn against_sender(data: &[u8]) -> bool {
    run(data, |keys, ids| Connection::new_sender(Config::default(), keys, ids, [5; 32], FILE, Duration::ZERO))
}

/// The peer has the file and sends what it likes.
pub fn against_receiver(data: &[u8]) -> bool {
    run(data, |keys, ids| Connection::new_receiver(Config::default(), keys, ids, [5; 32], FILE, Duration::ZERO))
}

/// Whether the connection outlived the script without a failure.
fn run<E: std::fmt::Debug>(
    mut script: &[u8],
    end: impl FnOnce(ChannelKeys, ConnectionIds) -> Result<Connection, E>,
) -> bool {
    let key = |n: u8| SealKey::new([n; 32], [n; 12]);
    let ids = ConnectionIds { local: ConnectionId([1; 8]), remote: ConnectionId([2; 8]) };
    let mut connection = end(ChannelKeys { send: key(1), recv: key(2) }, ids).unwrap();
    let mut world = World { now: Duration::ZERO, number: 0, sink: Whole::default(), sound: true };
    connection.add_candidate(world.now, peer());
    while let Some((&step, rest)) = script.split_first() {
        script = rest;
        if step >= TIME {
            world.now += Duration::from_millis(1 << (step - TIME).min(16));
            connection.handle_timeout(world.now);
        } else {
            let (frames, rest) = script.split_at(script.len().min(step.into()));
            script = rest;
            world.datagram(&mut connection, frames);
        }
        world.drain(&mut connection);
    }
    world.sound
}

struct World {
    now: Duration,
    number: u64,
    sink: Whole,
    sound: bool,
}

impl World {
    fn datagram(&mut self, connection: &mut Connection, frames: &[u8]) {
        let header = Header { connection: ConnectionId([1; 8]), packet_number: self.number };
        let mut datagram = [&header.encode()[..], frames].concat();
        SealKey::new([2; 32], [2; 12]).seal_datagram(self.number, HEADER_LEN, &mut datagram).unwrap();
        self.number += 1;
        connection.handle_datagram(self.now, peer(), &mut datagram, &mut self.sink);
    }

    /// Takes what the connection sends and says; a silent peer must never make it send without end.
    fn drain(&mut self, connection: &mut Connection) {
        let mut out = Vec::new();
        let mut sent = 0;
        while connection.poll_transmit(self.now, &mut Zeros, &mut out).is_some() {
            sent += 1;
            assert!(sent < 10_000, "one step made it send without end");
        }
        while let Some(event) = connection.poll_event() {
            self.sound &= !matches!(event, Event::Failed(_));
        }
    }
}

/// Holds that a file is delivered once, in order and never beyond its size.
#[derive(Default)]
struct Whole {
    at: u64,
}

impl SegmentSink for Whole {
    fn deliver(&mut self, offset: u64, bytes: &[u8]) {
        assert_eq!(offset, self.at, "delivered out of order");
        self.at += bytes.len() as u64;
        assert!(self.at <= FILE, "delivered beyond the file's end");
    }
}

struct Zeros;

impl SegmentSource for Zeros {
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        assert!(offset + out.len() as u64 <= FILE, "read beyond the file's end");
        out.fill(0);
        Ok(())
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 9))
}
