//! Real servers in a mesh and real clients, each a process of its own.

mod away;
mod far;
mod harness;
mod names;
mod roaming;
mod sharing;
mod trouble;
