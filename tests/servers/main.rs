//! Real servers in a mesh and real clients, each a process of its own.

mod away;
mod bans;
mod far;
mod harness;
mod interrupted;
mod names;
mod relayed;
mod roaming;
mod sharing;
mod trouble;
