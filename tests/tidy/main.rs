//! The rules of the house that matter, held by tests: which way imports point, what pure rooms may name, how long files
//! get, what no file says. A failure names file and line.

mod source;

use source::{Source, sources};

/// The rooms, floor by floor, from the ground up. A room imports from floors below its own, never sideways or upwards.
const FLOORS: &[&[&str]] = &[
    &["limits"],
    &["crypto"],
    &["wire"],
    &["group", "transfer", "channel"],
    &["net", "store"],
    &["mesh"],
    &["client", "server"],
    &["tui"],
    &["cli"],
];

/// Rooms that are pure as a whole.
const PURE_ROOMS: &[&str] = &["limits", "crypto", "wire", "group", "transfer", "channel"];

/// A file of the client, the server or the mesh is pure unless its path begins like this: what drives sockets, clocks and disks.
const DRIVERS: &[&str] = &[
    "src/client/control.rs",
    "src/client/dialling.rs",
    "src/client/driver.rs",
    "src/client/files/",
    "src/client/keyboard.rs",
    "src/client/screen.rs",
    "src/mesh/link",
    "src/mesh/run",
    "src/server/actor.rs",
    "src/server/chores.rs",
    "src/server/connection.rs",
    "src/server/desk.rs",
    "src/server/disk.rs",
    "src/server/hashing.rs",
    "src/server/metrics.rs",
    "src/server/operations.rs",
    "src/server/reload.rs",
    "src/server/run.rs",
    "src/server/session.rs",
    "src/server/udp.rs",
];

/// Files under `client`, `server` and `mesh` that hold no core and so may do input and output.
fn is_pure(source: &Source) -> bool {
    let room = source.room().unwrap_or_default();
    PURE_ROOMS.contains(&room)
        || (["client", "server", "mesh"].contains(&room)
            && !DRIVERS.iter().any(|driver| source.path.starts_with(driver)))
}

/// What a pure room never names: modules of std, and words.
const IMPURE_STD: &[&str] = &["fs", "thread", "process", "env"];
const IMPURE_WORDS: &[&str] = &[
    "tokio",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "Instant",
    "SystemTime",
    "println",
    "eprintln",
    "print",
    "eprint",
];
/// Randomness is passed in; only the MLS provider that `group` drives has its own.
const RANDOM_WORDS: &[&str] = &["OsRng", "getrandom", "thread_rng"];

/// A file longer than this has two subjects; most stay under 300 lines.
const LINES_MAX: usize = 600;

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for source in sources("src").iter().filter(|s| s.room().is_some()) {
        let room = source.room().unwrap_or_default();
        let Some(here) = floor(room) else {
            wrong.push(format!("{}: the room `{room}` stands on no floor; give it one in FLOORS", source.path));
            continue;
        };
        for (line, target) in source.rooms_named() {
            let known = floor(&target);
            if target != room && known.is_none_or(|there| there >= here) {
                wrong.push(format!("{}:{line}: `{room}` must not know `{target}`", source.path));
            }
        }
    }
    report(&wrong);
}

#[test]
fn the_map_in_lib_rs_names_every_room() {
    let lib = std::fs::read_to_string("src/lib.rs").unwrap();
    let map: Vec<&str> = lib.lines().filter_map(|l| l.strip_prefix("//! ")).collect();
    let mut wrong = Vec::new();
    for (number, line) in lib.lines().enumerate() {
        let room = line.strip_prefix("pub mod ").and_then(|r| r.strip_suffix(';'));
        if let Some(room) = room
            && !map.iter().any(|l| l.split([' ', ',']).any(|word| word == room))
        {
            wrong.push(format!("src/lib.rs:{}: the map does not show `{room}`", number + 1));
        }
    }
    report(&wrong);
}

#[test]
fn pure_rooms_know_no_socket_clock_file_or_runtime() {
    let mut wrong = Vec::new();
    for source in sources("src").iter().filter(|s| is_pure(s) && !s.is_test()) {
        let code = source.code_without_tests();
        for (line, module) in source::named_after(&code, "std::") {
            if IMPURE_STD.contains(&module.as_str()) {
                wrong.push(format!("{}:{line}: a pure room names std::{module}", source.path));
            }
        }
        let random: &[&str] = if source.room() == Some("group") { &[] } else { RANDOM_WORDS };
        for word in IMPURE_WORDS.iter().chain(random) {
            for line in source::lines_with_word(&code, word) {
                wrong.push(format!("{}:{line}: a pure room names `{word}`", source.path));
            }
        }
    }
    report(&wrong);
}

#[test]
fn nothing_is_unsafe_and_nothing_is_switched_off() {
    let mut wrong = Vec::new();
    for source in all_rust() {
        for line in source::lines_with_word(&source.code, "unsafe") {
            wrong.push(format!("{}:{line}: unsafe", source.path));
        }
        for (number, line) in source.code.lines().enumerate() {
            let squeezed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
            for bad in ["allow(dead_code", "allow(unused", "#[ignore", "todo!(", "unimplemented!(", "dbg!("] {
                if squeezed.contains(bad) {
                    wrong.push(format!("{}:{}: {bad}", source.path, number + 1));
                }
            }
        }
    }
    report(&wrong);
}

#[test]
fn every_file_begins_with_what_it_is_and_stays_short() {
    let mut wrong = Vec::new();
    for source in all_rust() {
        let begins = source.text.starts_with("//!") || source.text.starts_with("#![no_main]");
        if !begins && !source.is_part_of_test() {
            wrong.push(format!("{}:1: no `//!` line says what this file is", source.path));
        }
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}:{LINES_MAX}: {lines} lines; {LINES_MAX} are allowed", source.path));
        }
    }
    report(&wrong);
}

/// `path::function` and, after it, `::function` of the same file.
#[test]
fn the_tests_that_the_security_table_names_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (mut wrong, mut file, mut text, mut named) = (Vec::new(), "", String::new(), 0);
    for word in table.split('`').filter(|word| !word.contains(char::is_whitespace)) {
        let (path, function) = word.split_once("::").unwrap_or((word, ""));
        if path.ends_with(".rs") {
            file = path;
            text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        } else if !path.is_empty() || function.is_empty() {
            continue;
        }
        named += 1;
        if text.is_empty() || !(function.is_empty() || text.contains(&format!("fn {function}("))) {
            wrong.push(format!("SECURITY.md: there is no {file}::{function}"));
        }
    }
    assert!(named > 40, "{named}");
    report(&wrong);
}

/// Words that would tie a file to how it came about, or leave work behind in it.
#[test]
fn files_speak_of_the_program_only() {
    let told = ["TODO", "FIXME", "XXX", "this issue", "next issue", "later issue", "the brief", "work session"];
    let mut wrong = Vec::new();
    for (path, text) in source::texts() {
        for (number, line) in text.lines().enumerate() {
            for word in told.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{path}:{}: says `{word}`", number + 1));
            }
            let lower = line.to_lowercase();
            let mut after = lower.split("issue ").skip(1).map(|rest| rest.trim_start_matches('#'));
            if after.any(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                wrong.push(format!("{path}:{}: names an issue by number", number + 1));
            }
        }
    }
    report(&wrong);
}

fn all_rust() -> Vec<Source> {
    ["src", "tests", "benches", "examples", "fuzz"].into_iter().flat_map(sources).collect()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[track_caller]
fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
