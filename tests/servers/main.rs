//! Real servers in a mesh and real clients, each a process of its own.

mod away;
mod far;
mod harness;
mod interrupted;
mod names;
mod roaming;
mod trouble;
