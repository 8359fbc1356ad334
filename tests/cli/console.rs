//! The terminal of `secchat server`.

use crate::admin::Stage;
use crate::harness::{DEADLINE, run, secchat};
use crate::terminal::Terminal;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use tempfile::tempdir;

#[test]
fn commands_come_through_a_pipe_and_its_end_means_nothing() {
    let mut stage = Stage::new(&[]);
    stage.met("alice");
    let server = &mut stage.server.process;
    let mut says = |line: &str, wanted: &str| {
        server.say(line).unwrap();
        server.wait_line(wanted, DEADLINE, |line| line.contains(wanted).then_some(())).unwrap();
    };
    says("grant alice --role moderator", "alice@s1 is moderator now");
    says("roles --json", r#"{"answer":"roles","rows":[{"name":"alice@s1""#);
    says("revoke alice", "this needs a yes");
    says("revoke --yes 'alice'", "alice@s1 has no role any more");
    says("revoke --yes alice", "alice has no role here");
    says("frobnicate", "unrecognized subcommand");
    says("@server hello", "hello");
    says("help", "@NAME TEXT writes to somebody");
    says(&"x".repeat(100_000), "");
    says("audit", "revoke");
    stage.server.process.close_input();
    let (code, answer) = stage.json(&["audit"]);
    assert_eq!((code, answer["rows"][0]["who"].as_str()), (0, Some("owner")));
}

#[test]
fn lines_to_the_operator_are_shown_harmless_and_exit_stops_the_server() {
    let mut stage = Stage::new(&[]);
    let mut alice = stage.client("alice");
    alice.say(r#"{"cmd":"@server help me \u001b[31m\u202e"}"#).unwrap();
    let server = &mut stage.server.process;
    let line =
        server.wait_line("the line", DEADLINE, |line| line.contains("help me").then(|| line.to_owned())).unwrap();
    assert_eq!(line, r"alice@s1 to the operator: help me \u{1b}[31m\u{202e}");
    server.say("exit").unwrap();
    assert_eq!(server.wait_exit(DEADLINE).unwrap(), Some(0));
    alice.wait_event("reconnecting", DEADLINE, |_| true).unwrap();
    let log = std::fs::read_to_string(stage.path("s1.log")).unwrap();
    assert!(!log.contains("help me"), "what somebody reads does not go into the log too");
}

#[test]
fn a_person_at_the_terminal_of_a_server_is_asked_before_it_stops() {
    let home = tempdir().unwrap();
    let mut server = Terminal::start(home.path(), &["server", "--listen", "127.0.0.1:0", "--name", "s1"]);
    server.wait_for("invite     ");
    server.answer("", "stop");
    server.answer("go on? [yes/no] ", "no");
    server.wait_for("nothing was done");
    server.answer("", "stop");
    server.answer("go on? [yes/no] ", "yes");
    server.wait_for("the server stops");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_without_a_console_writes_lines_to_the_operator_into_its_log() {
    let home = tempdir().unwrap();
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    let mut command = secchat(home.path());
    command.args(["server", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(log);
    let mut server = command.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let invite = lines.find_map(|line| line.strip_prefix("invite     ").map(str::to_owned)).unwrap();
    let said = ["client", "--invite", &invite, "--name", "bob", "--exec", "@server it is cold"];
    assert_eq!(run(home.path(), &said).0, 0);
    let (code, _, err) = run(home.path(), &["admin", "stop", "--yes"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(std::fs::read_to_string(home.path().join("log")).unwrap().contains("bob@"));
}
