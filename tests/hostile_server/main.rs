//! A real server over real TLS that lies to real client processes: each act ends in a named event, and nothing forged is shown.

#[path = "../client/ghost.rs"]
mod ghost;
mod harness;
mod joins;
mod kicked;
mod members;
mod rows;
