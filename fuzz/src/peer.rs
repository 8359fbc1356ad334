//! A peer that holds the keys and sends what it likes, against each end of a channel.
//!
//! The bytes are a script of steps: `0x00..=0xdf`, a datagram to come whose frames are the next so many bytes;
//! `0xe0..=0xff`, time passes, more the higher the byte.

use secchat::channel::{
    Batch, ChannelKeys, Config, Connection, ConnectionIds, Event, MAX_BATCH, Side, SourceError, StreamSink,
    StreamSource,
};
use secchat::crypto::seal::SealKey;
use secchat::wire::packet::{ConnectionId, HEADER_LEN, Header};
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes of our stream.
const STREAM: u64 = 1 << 20;
const TIME: u8 = 0xe0;

/// The peer asked and does what it likes.
pub fn against_sender(data: &[u8]) -> bool {
    run(data, Side::Holder)
}

/// The peer was asked and does what it likes.
pub fn against_receiver(data: &[u8]) -> bool {
    run(data, Side::Asker)
}

/// Whether the connection outlived the script without a failure.
fn run(mut script: &[u8], side: Side) -> bool {
    let key = |n: u8| SealKey::new([n; 32], [n; 12]);
    let ids = ConnectionIds { local: ConnectionId([1; 8]), remote: ConnectionId([2; 8]) };
    let keys = ChannelKeys { send: key(1), recv: key(2) };
    let mut connection = Connection::new(Config::default(), keys, ids, side, [5; 32], Duration::ZERO).unwrap();
    connection.set_stream_end(Duration::ZERO, STREAM);
    connection.finish_stream(Duration::ZERO);
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
        connection.handle_datagram(self.now, peer(), &mut datagram, self.number.is_multiple_of(7), &mut self.sink);
        connection.end_of_batch(self.now);
    }

    /// Takes what the connection sends and says; a silent peer must never make it send without end.
    fn drain(&mut self, connection: &mut Connection) {
        let mut batch = Batch::new(MAX_BATCH);
        let mut sent = 0;
        while connection.poll_transmit(self.now, &mut Zeros, &mut batch).is_some() {
            sent += 1;
            assert!(sent < 10_000, "one step made it send without end");
        }
        while let Some(event) = connection.poll_event() {
            self.sound &= !matches!(event, Event::Failed(_));
        }
    }
}

/// Holds that bytes are delivered once and in order.
#[derive(Default)]
struct Whole {
    at: u64,
}

impl StreamSink for Whole {
    fn deliver(&mut self, offset: u64, bytes: &[u8]) {
        assert_eq!(offset, self.at, "delivered out of order");
        self.at += bytes.len() as u64;
    }
}

struct Zeros;

impl StreamSource for Zeros {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SourceError> {
        assert!(offset + bytes.len() as u64 <= STREAM, "read beyond the stream's end");
        bytes.fill(0);
        Ok(())
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 9))
}
