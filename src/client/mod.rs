//! The client: a pure core (input -> effects), the command table, and the drivers around them.
//!
//! [`core::Core`] is the way in. Beside it: `running` and `dispatch` (commands), `joining` and `rooms` (conversations), `conversation`, `history`
//! and `outbox` (one of them), `direct` and `peers` (people), `search` and `transfers` (files), `links` (the home server).

pub mod commands;
mod conversation;
pub mod core;
mod direct;
mod dispatch;
pub mod driver;
pub mod effects;
pub mod event;
pub mod files;
mod filing;
mod history;
mod joining;
pub mod json;
pub mod keyboard;
mod links;
mod outbox;
mod peers;
mod problem;
mod qr;
pub mod render;
mod requests;
mod rooms;
mod running;
pub mod screen;
pub mod scripts;
mod search;
mod transfers;
