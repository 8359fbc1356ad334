//! Living with a server: health, reload, backup and restore, stop.

use crate::admin::{Stage, binary};
use crate::harness::DEADLINE;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use secchat::cli::drive::Server;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::tempdir;

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn health_and_stats_tell_how_the_server_is() {
    let stage = Stage::new(&[]);
    let mut alice = stage.client("alice");
    let (code, health) = stage.json(&["health"]);
    assert_eq!((code, &health["ok"], &health["clients"]), (0, &true.into(), &1.into()), "{health}");
    assert!(health["database_bytes"].as_u64() > Some(4096) && health["disk_free_bytes"].as_u64() > Some(0), "{health}");
    assert!(health["certificate_days"].as_i64() > Some(300), "{health}");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    let (_, stats) = stage.json(&["stats"]);
    assert_eq!((&stats["clients"], &stats["rooms"]), (&1.into(), &0.into()), "{stats}");
    alice.say("/create lab").unwrap();
    alice.wait_event("room_created", DEADLINE, |_| true).unwrap();
    assert_eq!(stage.json(&["stats"]).1["rooms"], 1);
    assert!(stage.admin(&["health"]).1.starts_with("all is well\nserver       s1\n"));
}

#[test]
fn settings_and_certificate_are_read_again_together_or_not_at_all_and_nobody_is_dropped() {
    let dir = tempdir().unwrap();
    let settings = dir.path().join("config.toml");
    fs::write(&settings, "[server]\nlog-age = '7d'\n").unwrap();
    let stage = Stage::new(&["--config", settings.to_str().unwrap()]);
    let mut alice = stage.client("alice");
    let (code, answer) = stage.json(&["reload"]);
    assert_eq!((code, &answer["answer"], &answer["notes"]), (0, &"done".into(), &serde_json::Value::Null));
    fs::write(&settings, "[server]\nlog-age = '1h'\nudp = '127.0.0.1:1'\nrelay-rate = '0'\n").unwrap();
    let notes = stage.json(&["reload"]).1["notes"].to_string();
    assert!(notes.contains("relay-rate has changed, and holds"), "{notes}");
    assert!(
        notes.contains("log-age has changed, and holds") && notes.contains("udp has changed, which needs a restart"),
        "{notes}"
    );
    // A bad file, and then a bad certificate: what was, stays, and the health of the server says so.
    let certificate = stage.server.data.join("tls.pem");
    let sound = fs::read(&certificate).unwrap();
    let refused = |file: &Path, text: &str, wanted: &str| {
        fs::write(file, text).unwrap();
        let (code, answer) = stage.json(&["reload"]);
        assert_eq!((code, &answer["code"]), (1, &"failed".into()));
        assert!(answer["why"].as_str().unwrap().contains(wanted), "{answer}");
        let (code, health) = stage.json(&["health"]);
        assert_eq!((code, &health["ok"]), (1, &false.into()));
        assert!(health["troubles"][0].as_str().unwrap().contains(wanted), "{health}");
    };
    refused(&settings, "[server]\nlog-age = 'never'\n", "never");
    refused(&settings, "[server\n", "is not TOML");
    fs::write(&settings, "[server]\nlog-age = '1h'\n").unwrap();
    refused(&certificate, "junk", "tls.pem");
    stage.met("bob");
    fs::write(&certificate, sound).unwrap();
    assert_eq!((stage.json(&["reload"]).0, stage.json(&["health"]).0), (0, 0));
    alice.say("@server still here").unwrap();
    alice.wait_event("ok", DEADLINE, |_| true).unwrap();
    assert!(!alice.events().any(|event| event["event"] == "reconnecting"));
}

#[test]
fn a_backup_restores_names_and_roles_and_is_never_written_over_a_file() {
    let stage = Stage::new(&[]);
    stage.met("alice");
    assert_eq!(stage.json(&["grant", "alice", "--role", "operator"]).0, 0);
    let ban = stage.json(&["ban", "--network", "203.0.113.0/24"]);
    let (copy, folder) = (stage.path("copies/copy.db"), stage.path("copies"));
    let backup = |file: &Path| stage.json(&["backup", file.to_str().unwrap()]);
    let (code, answer) = backup(&copy);
    assert_eq!((code, &answer["code"]), (1, &"failed".into()), "there is no such folder");
    fs::create_dir(&folder).unwrap();
    let (code, answer) = backup(&copy);
    assert_eq!(code, 0, "{answer}");
    assert!(answer["notes"][0].as_str().unwrap().contains("identity"), "{answer}");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, answer) = backup(&copy);
    assert_eq!((code, &answer["code"]), (1, &"already".into()));
    assert_eq!(names(&folder), ["copy.db"]);
    // Another machine.
    let other = stage.path("s2");
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(&copy, other.join("server.db")).unwrap();
    for file in ["identity", "name", "tls.pem", "tls.key"] {
        fs::copy(stage.server.data.join(file), other.join(file)).unwrap();
    }
    let restored = stage.path("restored");
    fs::create_dir(&restored).unwrap();
    fs::rename(&other, restored.join("s1")).unwrap();
    let server = Server::start(binary(), &restored, "s1", "127.0.0.1:0", &[]).unwrap();
    let pin = |invite: &str| invite.split("pin=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    assert_eq!(pin(&server.invite), pin(&stage.server.invite));
    let stage = Stage { dir: stage.dir, server };
    assert_eq!(stage.json(&["roles"]).1["rows"][0]["name"], "alice@s1");
    if ban.0 == 0 {
        assert_eq!(stage.json(&["bans"]).1["rows"].as_array().unwrap().len(), 1);
    }
    // The name is taken there: another key does not get it.
    let (invite, data) = (stage.server.invite.clone(), stage.path("stranger"));
    let arguments =
        ["client", "--invite", &invite, "--name", "alice", "--data", data.to_str().unwrap(), "--exec", "/rooms"];
    assert_eq!(crate::harness::run(stage.dir.path(), &arguments).0, 4);
}

/// A disk that takes no more of the copy: files may not grow beyond what the database itself needs now.
#[test]
fn a_backup_for_which_there_is_no_room_leaves_nothing_and_the_server_runs_on() {
    let mut stage = Stage::new(&[]);
    stage.met("alice");
    stage.server.process.terminate();
    stage.server.process.wait_exit(DEADLINE).unwrap();
    // The signal that comes with the limit is ignored, as a full disk sends none either.
    let (dir, data) = (stage.dir, stage.server.data);
    let wrapper = dir.path().join("secchat-without-xfsz");
    fs::write(&wrapper, format!("#!/bin/sh\ntrap '' XFSZ\nexec {} \"$@\"\n", binary().display())).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let stage = Stage { server: Server::start(&wrapper, dir.path(), "s1", "127.0.0.1:0", &[]).unwrap(), dir };
    let database = fs::metadata(data.join("server.db")).unwrap().len();
    let pid = Pid::from_raw(i32::try_from(stage.server.process.pid()).unwrap());
    let limit = Some(database - 8192);
    prlimit(pid, Resource::Fsize, Rlimit { current: limit, maximum: None }).unwrap();
    let folder = stage.path("copies");
    fs::create_dir(&folder).unwrap();
    let (code, answer) = stage.json(&["backup", folder.join("copy.db").to_str().unwrap()]);
    assert_eq!((code, &answer["code"]), (1, &"failed".into()), "{answer}");
    assert!(answer["why"].as_str().unwrap().starts_with("the copy failed: "), "{answer}");
    assert_eq!(names(&folder), Vec::<String>::new());
    assert_eq!(stage.json(&["health"]).0, 0);
    prlimit(pid, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    assert_eq!(stage.json(&["backup", folder.join("copy.db").to_str().unwrap()]).0, 0);
}

#[test]
fn a_stop_is_answered_tells_everybody_and_stands_in_the_audit_log() {
    let mut stage = Stage::new(&[]);
    // Nobody is here: the answer comes all the same.
    let (code, answer) = stage.json(&["stop"]);
    assert_eq!((code, &answer["answer"]), (0, &"done".into()));
    assert_eq!(stage.server.process.wait_exit(DEADLINE).unwrap(), Some(0));
    let mut stage =
        Stage { server: Server::start(binary(), stage.dir.path(), "s1", "127.0.0.1:0", &[]).unwrap(), ..stage };
    assert_eq!(stage.json(&["audit"]).1["rows"][0]["act"], "stop");
    let mut alice = stage.client("alice");
    assert_eq!(stage.json(&["stop"]).0, 0);
    assert_eq!(stage.server.process.wait_exit(DEADLINE).unwrap(), Some(0));
    alice.wait_event("reconnecting", DEADLINE, |_| true).unwrap();
    assert_eq!(stage.json(&["health"]).0, 3);
}
