//! The most that these sockets and this sealing can carry: file to file without acks, repeats or verification.
//!
//! Both ends do it as the transfers themselves do: positioned reads into a batch, sealed where it stands, one send; a few
//! batches received at once, opened where they stand, gathered, one positioned write. What the receiver has no time for is lost.

use super::case::{BenchError, Case, Spent};
use super::usage::{cpu_seconds, peak_memory};
use crate::crypto::seal::{SealKey, TAG_LEN};
use crate::net::received::Received;
use crate::net::udp::{BoundPort, DATAGRAM_MAX, Sent};
use crate::wire::packet::{ConnectionId, HEADER_LEN, Header};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A port on loopback.
pub fn bind(case: &Case) -> Result<BoundPort, BenchError> {
    Ok(BoundPort::bind_with(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), case.splits.into())?)
}

/// Sends the whole file once, as fast as the system takes it.
pub fn send(case: &Case, port: &BoundPort, file: &Path, to: SocketAddr) -> Result<Spent, BenchError> {
    let io = |source| BenchError::Io { what: format!("sending {}", file.display()), source };
    let source = File::open(file).map_err(io)?;
    let payload = payload_len(case);
    // As many as one call takes; where it takes one only, a file is still not read piece by piece.
    let slots = port.batch_len(case.datagram).max(BATCH_BYTES / case.datagram).max(1);
    let mut batch = vec![0; slots * case.datagram];
    let mut plain = vec![0; slots * payload];
    let key = key();
    let before = cpu_seconds();
    let (mut offset, mut number) = (0, 0);
    while offset < case.size {
        let len = plain.len().min(usize::try_from(case.size - offset).unwrap_or(usize::MAX));
        let plain = plain.get_mut(..len).unwrap_or_default();
        source.read_exact_at(plain, offset).map_err(io)?;
        let mut end = 0;
        for (piece, slot) in plain.chunks(payload).zip(batch.chunks_mut(case.datagram)) {
            end += fill(&key, number, offset, piece, slot);
            offset += piece.len() as u64;
            number += 1;
        }
        give(port, batch.get(..end).unwrap_or_default(), case.datagram, to).map_err(io)?;
    }
    Ok(Spent { bytes: offset, cpu: cpu_seconds() - before, peak: peak_memory() })
}

/// Receives into `file` until nothing comes any more. Seconds are from the first datagram to the last. `checks`: hashes what
/// comes as if it were compared with what it should be, which is the least that a transfer has to do.
pub fn receive(case: &Case, port: &BoundPort, file: &Path, checks: bool) -> Result<(Spent, f64), BenchError> {
    let io = |source| BenchError::Io { what: format!("receiving into {}", file.display()), source };
    let target = File::create(file).map_err(io)?;
    let key = key();
    let mut received = Received::new(RECEIVE_BUFFERS);
    let mut gathered = Gathered { bytes: Vec::with_capacity(GATHERED + DATAGRAM_MAX), offset: 0, checks };
    let (mut bytes, mut span, mut before) = (0, None, cpu_seconds());
    loop {
        if !port.recv_batch(&mut received).map_err(io)? {
            let patience = if span.is_some() { SILENCE } else { START };
            if port.wait_readable(Some(patience)).map_err(io)? {
                continue;
            }
            break;
        }
        let (first, last) = span.get_or_insert_with(|| {
            before = cpu_seconds();
            (Instant::now(), Instant::now())
        });
        for mut batch in received.batches() {
            for datagram in batch.datagrams() {
                let Some((offset, piece)) = open(&key, datagram) else { continue };
                bytes += piece.len() as u64;
                gathered.add(offset, piece, &target).map_err(io)?;
            }
        }
        *last = Instant::now();
        if bytes >= case.size {
            gathered.flush(&target).map_err(io)?;
            *last = Instant::now();
            break;
        }
        let _ = first;
    }
    gathered.flush(&target).map_err(io)?;
    let cpu = cpu_seconds() - before;
    let seconds = span.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    Ok((Spent { bytes, cpu, peak: peak_memory() }, seconds))
}

/// Makes one datagram in its slot; returns its length.
fn fill(key: &SealKey, number: u64, offset: u64, piece: &[u8], slot: &mut [u8]) -> usize {
    let header = Header { connection: ConnectionId([7; 8]), packet_number: number }.encode();
    let len = HEADER_LEN + OFFSET_LEN + piece.len() + TAG_LEN;
    let Some(datagram) = slot.get_mut(..len) else { return 0 };
    let parts = [&header[..], &offset.to_be_bytes(), piece];
    let mut rest = &mut datagram[..];
    for part in parts {
        let Some((place, after)) = rest.split_at_mut_checked(part.len()) else { return 0 };
        place.copy_from_slice(part);
        rest = after;
    }
    if key.seal_slot(number, HEADER_LEN, datagram).is_ok() { len } else { 0 }
}

/// Where the piece in a datagram belongs, and the piece.
fn open<'d>(key: &SealKey, datagram: &'d mut [u8]) -> Option<(u64, &'d [u8])> {
    let header = Header::decode(datagram).ok()?;
    let (clear, sealed) = datagram.split_at_mut_checked(HEADER_LEN)?;
    let plain: &[u8] = key.open_in_place(header.packet_number, clear, sealed).ok()?;
    let (offset, piece) = plain.split_first_chunk::<OFFSET_LEN>()?;
    Some((u64::from_be_bytes(*offset), piece))
}

fn give(port: &BoundPort, mut batch: &[u8], datagram: usize, to: SocketAddr) -> std::io::Result<()> {
    while let Sent::Full { taken } = port.send_batch(batch, datagram, to) {
        batch = batch.get(taken..).unwrap_or_default();
        port.wait_writable(None)?;
    }
    Ok(())
}

/// Pieces that belong side by side, until they are worth a write.
struct Gathered {
    bytes: Vec<u8>,
    // Of the first byte.
    offset: u64,
    checks: bool,
}

impl Gathered {
    fn add(&mut self, offset: u64, piece: &[u8], target: &File) -> std::io::Result<()> {
        if self.offset + self.bytes.len() as u64 != offset || self.bytes.len() >= GATHERED {
            self.flush(target)?;
            self.offset = offset;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn flush(&mut self, target: &File) -> std::io::Result<()> {
        if self.checks {
            std::hint::black_box(blake3::hash(&self.bytes));
        }
        target.write_all_at(&self.bytes, self.offset)?;
        self.bytes.clear();
        Ok(())
    }
}

fn key() -> SealKey {
    SealKey::new([0x42; 32], [0x24; 12])
}

/// File bytes in each datagram.
fn payload_len(case: &Case) -> usize {
    case.datagram.saturating_sub(HEADER_LEN + OFFSET_LEN + TAG_LEN).max(1)
}

/// Before each piece stands where it belongs.
const OFFSET_LEN: usize = 8;
/// Bytes that are read at once where the system takes single datagrams only.
const BATCH_BYTES: usize = 65_536;
/// Bytes that are written at once.
const GATHERED: usize = 128 << 10;
/// Batches that are received at once: more fall out of the cache again.
const RECEIVE_BUFFERS: usize = 4;
/// The sender has ended when nothing comes for this long.
const SILENCE: Duration = Duration::from_millis(300);
/// The sender must begin by then.
const START: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::case::{Arq, Congestion, Splits};

    #[test]
    fn a_piece_comes_out_as_it_went_in_and_a_changed_one_does_not() {
        let mut slot = [0; 100];
        let len = fill(&key(), 5, 77, b"piece", &mut slot);
        assert_eq!(len, HEADER_LEN + OFFSET_LEN + 5 + TAG_LEN);
        let mut changed = slot;
        changed[HEADER_LEN + 1] ^= 1;
        assert_eq!(open(&key(), &mut slot[..len]), Some((77, &b"piece"[..])));
        assert_eq!(open(&key(), &mut changed[..len]), None);
    }

    #[test]
    fn a_file_within_the_sockets_buffer_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&from, &bytes).unwrap();
        for splits in [Splits::Late, Splits::Software, Splits::Ours] {
            let case = Case {
                size: 100_000,
                datagram: 1452,
                splits,
                arq: Arq::Auto,
                window: None,
                congestion: Congestion::Bbr,
                inject: None,
                flows: 1,
                askers: 1,
                slots: 1,
            };
            let (sender, receiver) = (bind(&case).unwrap(), bind(&case).unwrap());
            let sent = send(&case, &sender, &from, receiver.local_addr()).unwrap();
            let (came, _) = receive(&case, &receiver, &to, true).unwrap();
            assert_eq!((sent.bytes, came.bytes), (100_000, 100_000), "{splits:?}");
            assert!(std::fs::read(&to).unwrap() == bytes, "{splits:?}");
        }
    }
}
