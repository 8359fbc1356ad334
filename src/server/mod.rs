//! The chat server: a room directory, a sequencer and a fan-out that reads nobody's messages.
//!
//! [`Core`] is a synchronous state machine, one for the whole server, without IO, clock or randomness: it takes one [`Input`] and
//! is then drained of [`Output`]s. Its driver makes a [`Output::Store`] batch durable before it does what follows it.

mod attempts;
mod committer;
mod core;
mod directs;
mod doors;
mod io;
mod joins;
mod leaving;
mod logs;
mod names;
mod outbox;
mod permit;
mod rooms;
mod sessions;
#[cfg(test)]
mod tests;
mod timers;

pub use self::core::{Core, LoadError};
pub use self::io::{Config, Door, Input, LogEvent, Output, SessionId};
