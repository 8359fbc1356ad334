//! Every message and packet, its codec, its cap.

pub mod frame;
pub mod packet;
