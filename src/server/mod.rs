//! The server: sessions, limits on who may connect, and the one task that owns the core.

pub mod accept;
pub mod actor;
pub mod connection;
pub mod engine;
pub mod listen;
pub mod reload;
pub mod run;
