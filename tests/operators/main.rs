//! A running server, ten clients, and a script of `secchat admin --json` calls: each command with what the ten see of it.

mod gate;
mod looking;
mod people;
mod rooms;
mod sharing;
mod stage;

use stage::Stage;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Chapter = fn(&mut Stage);

/// One after the other against the same server; one that fails does not hide the others.
const CHAPTERS: [(&str, Chapter); 19] = [
    ("looking at people and rooms", looking::lists),
    ("health, stats, settings, mesh", looking::the_server),
    ("message and broadcast", people::words),
    ("mute and unmute", people::mutes),
    ("kick", people::kicks),
    ("ban by name, with its key", people::bans),
    ("ban by fingerprint and network", people::keys_and_networks),
    ("roles", people::roles),
    ("release", people::release),
    ("allow list", gate::allow_list),
    ("registration and invitations", gate::registration),
    ("levels", gate::levels),
    ("lock and unlock", rooms::locks),
    ("requests to owners", rooms::wishes),
    ("restrict and unrestrict", sharing::rules),
    ("restrictions of a room and of a person", sharing::scopes),
    ("close", rooms::close),
    ("audit", looking::audit),
    ("reload, backup and stop", looking::keeping),
];

#[test]
fn every_command_of_an_operator_has_its_effect_at_the_clients() {
    let mut stage = Stage::new();
    let mut failed = Vec::new();
    for (chapter, play) in CHAPTERS {
        if catch_unwind(AssertUnwindSafe(|| play(&mut stage))).is_err() {
            failed.push(chapter);
        }
    }
    assert_eq!(failed, Vec::<&str>::new());
}
