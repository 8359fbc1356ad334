//! secchat
#![forbid(unsafe_code)]

pub mod channel;
pub mod crypto;
pub mod wire;
