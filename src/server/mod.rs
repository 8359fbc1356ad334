//! The chat server: a room directory, a sequencer and a fan-out that reads nobody's messages.
//!
//! [`Core`] is a synchronous state machine, one for the whole server, without IO, clock or randomness: it takes one [`Input`] and
//! is then drained of [`Output`]s. Its driver makes a [`Output::Store`] batch durable before it does what follows it.
//!
//! Around it stands the IO: [`run`] (a whole server), [`connection`] (one client), [`actor`] (the driver of the core).

pub mod actor;
mod admission;
mod attempts;
mod chores;
mod committer;
pub mod connection;
mod core;
mod creating;
pub mod desk;
mod directs;
mod disk;
mod doors;
pub mod engine;
pub mod forwarding;
mod hashing;
mod io;
mod joins;
mod leaving;
mod legs;
mod logs;
mod mesh_view;
pub mod meshed;
pub mod metrics;
mod moderation;
mod names;
pub mod operations;
mod outbox;
mod pace;
mod permit;
mod rates;
pub mod relay;
pub mod reload;
mod room;
mod rooms;
pub mod run;
mod sessions;
#[cfg(test)]
mod tests;
mod timers;
mod udp;
mod upkeep;
mod ways;

pub use self::chores::{Reread, Settings};
pub use self::core::{Core, LoadError};
pub use self::io::{Config, Door, Input, LogEvent, Output, Retention, SessionId, Space, Task, Way};
pub use crate::net::{accept, listen};
