//! Keys with a purpose, labels, identities, agreement, sealing. Pure.

pub mod agreement;
pub mod handover;
pub mod identity;
pub mod kdf;
pub mod keyfile;
pub mod pair;
pub mod replay;
pub mod room;
pub mod rsa_split;
pub mod schedule;
pub mod seal;
pub mod secret;
