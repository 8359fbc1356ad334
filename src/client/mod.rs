//! The client: a pure core (input -> effects), the command table, and the drivers around them.
//!
//! [`core::Core`] is the way in. Beside it, by concern: commands (`commands`, `running`, `dispatch`); into, in and out of rooms (`entering`,
//! `joining`, `rooms`, `commits`, `catching_up`, `leaving`); who governs them (`governing`, `acts`, `rotating`, `parting`); one conversation (`conversation`, `reading`, `history`, `outbox`); people
//! (`direct`, `hearing`, `peers`); files (`search`, `transfers`, `download`, `downloads`, `uploads`, `offers`, `agreeing`,
//! `filing`, `ways`, `restricting`, `refusing`, `room_rules`); servers (`links`, `attach`, `requests`, `servers`, `survey`).

mod acts;
mod agreeing;
mod attach;
mod catching_up;
pub mod commands;
mod commits;
pub mod control;
mod conversation;
pub mod core;
mod dialling;
mod direct;
mod dispatch;
mod download;
mod downloads;
pub mod driver;
pub mod effects;
mod entering;
pub mod event;
pub mod files;
mod filing;
mod governing;
mod hearing;
mod history;
mod joining;
pub mod json;
pub mod keyboard;
mod leaving;
mod links;
mod offers;
mod operating;
mod outbox;
mod parting;
mod peers;
mod problem;
mod qr;
mod reading;
mod refusing;
mod relaying;
pub mod render;
mod requests;
mod restricting;
pub mod roaming;
mod room_rules;
mod rooms;
mod rotating;
mod running;
pub mod screen;
pub mod scripts;
mod search;
mod servers;
mod survey;
mod transfers;
mod upload;
mod uploads;
pub mod ways;
