//! The client: a pure core (input -> effects), the command table, and the drivers around them.

pub mod effects;
pub mod event;
pub mod files;
