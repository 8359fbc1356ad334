//! Keys with a purpose, labels, identities, agreement, sealing. Pure.

pub mod identity;
pub mod kdf;
pub mod room;
pub mod secret;
