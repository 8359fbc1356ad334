//! secchat: end-to-end encrypted chat and file transfer for the terminal.
//!
//! The map, from the top of the house down; imports point one way, downward:
//!
//! ```text
//! cli        arguments, configuration, one file a command, error -> cause + hint
//! client     core (pure: input -> output), command table, driver, files
//! server     core (pure), session, accept and limits
//! mesh       what one server tells the others: routing and delivery (pure), links <- IO
//! net        TLS, framed stream, UDP socket driver                              <- IO
//! store      SQLite: open, migrate, one file a table family                     <- IO
//! group      MLS rooms and direct conversations                                 <- pure
//! transfer   search rows, slots, trees, the two streams, planner, manifests     <- pure
//! channel    the ARQ channel                                                    <- pure
//! wire       every message and packet, its codec, its cap                       <- pure
//! crypto     keys with a purpose                                                <- pure
//! limits     every cap, and why
//! ```
#![forbid(unsafe_code)]

pub mod channel;
pub mod cli;
pub mod client;
pub mod crypto;
pub mod group;
pub mod limits;
pub mod mesh;
pub mod net;
pub mod server;
pub mod store;
pub mod transfer;
pub mod wire;
