//! Every message and packet, its codec, its cap.

pub mod packet_frame;
pub mod packet;
