//! The frames on a link.

use crate::limits;

/// Largest body of a message, bytes: what a server link carries, and the little that stands around it.
pub const BODY_MAX: usize = limits::FRAME_MAX + 4096;
/// Largest head of a message, bytes.
pub const HEAD_MAX: usize = 64 * 1024;
/// Largest frame on a link, bytes.
pub const FRAME_MAX: usize = BODY_MAX + 512 * 1024;
/// First bytes from here on are the link's own frames: hello, ping, pong.
pub const LINK_KIND: u8 = 0x80;
