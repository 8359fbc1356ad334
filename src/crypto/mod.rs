//! Keys with a purpose, labels, identities, agreement, sealing. Pure.

pub mod identity;
