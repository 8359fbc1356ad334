//! Keys with a purpose, labels, identities, agreement, sealing. Pure.

pub mod identity;
pub mod replay;
pub mod seal;
