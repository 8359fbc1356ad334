//! Keys with a purpose.

pub mod replay;
pub mod seal;
