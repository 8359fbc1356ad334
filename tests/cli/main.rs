//! The binary's commands around servers, certificates and identities, driven as a user would.

mod admin;
mod bench;
mod console;
mod doctor;
mod files;
mod harness;
mod invited;
mod keeping;
mod matrix;
mod mesh;
mod naughty;
mod server;
mod terminal;
