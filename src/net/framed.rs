//! Reading length-prefixed frames: a big-endian `u32`, then that many bytes.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced more than is allowed at this point.
    #[error("a frame of {len} bytes is more than the {max} allowed here")]
    TooLarge {
        /// What was announced, bytes.
        len: u32,
        /// The cap, bytes.
        max: usize,
    },
    /// The stream ended inside a frame.
    #[error("the connection ended in the middle of a frame")]
    Cut,
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// Takes frames off a stream. Memory grows with what has come, never with what was announced.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    max: usize,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// `max`: the largest frame, bytes without the prefix.
    pub const fn new(stream: R, max: usize) -> Self {
        Self { stream, max, buffer: Vec::new() }
    }

    /// Another cap from the next frame on.
    pub const fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// The next frame, `None` at a clean end. Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_CHUNK);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(FrameError::Cut),
                Ok(_) => {}
                // TLS without close_notify: between frames that is an end like any other.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && self.buffer.is_empty() => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Takes a whole frame from the buffer's front; checks the announced length as soon as it is there.
    fn take(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let len = u32::from_be_bytes(*prefix);
        let size = usize::try_from(len).unwrap_or(usize::MAX);
        if size > self.max {
            return Err(FrameError::TooLarge { len, max: self.max });
        }
        let Some(frame) = rest.get(..size).map(<[u8]>::to_vec) else { return Ok(None) };
        self.buffer.drain(..PREFIX + size);
        if self.buffer.is_empty() && self.buffer.capacity() > READ_CHUNK * 4 {
            self.buffer = Vec::new();
        }
        Ok(Some(frame))
    }
}

/// Puts the length before a frame.
pub fn push_frame(out: &mut Vec<u8>, frame: &[u8]) {
    let len = u32::try_from(frame.len()).expect("our own frames are far below 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(frame);
}

const READ_CHUNK: usize = 16 * 1024;
/// Bytes of the length prefix.
pub(super) const PREFIX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(bytes: &[u8], max: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut reader = FrameReader::new(bytes, max);
        let mut out = Vec::new();
        while let Some(frame) = reader.next().await? {
            out.push(frame);
        }
        Ok(out)
    }

    #[tokio::test]
    async fn frames_come_whole_and_a_cut_is_named() {
        let mut bytes = Vec::new();
        for frame in [&b"abc"[..], b"", &[7; 40_000]] {
            push_frame(&mut bytes, frame);
        }
        let read = frames(&bytes, 40_000).await.unwrap();
        assert_eq!(read, [b"abc".to_vec(), vec![], vec![7; 40_000]]);
        for cut in [1, 3, 5, 9, bytes.len() - 1] {
            assert!(matches!(frames(&bytes[..cut], 40_000).await, Err(FrameError::Cut)), "{cut}");
        }
    }

    #[tokio::test]
    async fn an_announced_length_over_the_cap_is_refused_at_once() {
        let announced = frames(&[0xff; 4], 4096).await;
        assert!(matches!(announced, Err(FrameError::TooLarge { len: u32::MAX, max: 4096 })));
        assert!(frames(&[0, 0, 0, 3, 1, 2, 3], 2).await.is_err());
    }

    #[tokio::test]
    async fn a_large_announcement_within_the_cap_holds_only_what_came() {
        let bytes = [0, 0x0f, 0xff, 0xff, 1, 2, 3];
        let mut reader = FrameReader::new(&bytes[..], 1 << 20);
        assert!(matches!(reader.next().await, Err(FrameError::Cut)));
        assert!(reader.buffer.capacity() <= 2 * READ_CHUNK);
    }
}
