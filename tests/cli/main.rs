//! The binary's commands around servers, certificates and identities, driven as a user would.

mod bench;
mod files;
mod harness;
mod invited;
mod mesh;
mod naughty;
mod server;
mod terminal;
