//! What is kept on disk. IO.

pub mod client;
pub mod identity;
pub mod private;
