use crate::harness::{run, secchat, told};
use secchat::wire::text::harmless;
use std::fs;
use tempfile::tempdir;

const NAUGHTY: &str = "a\x1b]0;x\x07\x1b[2J\u{9b}31m\u{202e}\u{200b}\u{2028}z";

/// What is echoed of an argument, a path or a setting cannot steer the terminal.
#[test]
fn errors_show_names_and_paths_harmless() {
    let home = tempdir().unwrap();
    let bad = home.path().join(NAUGHTY);
    fs::write(&bad, NAUGHTY).unwrap();
    let path = bad.to_str().unwrap();
    let unreachable = ["--server", "127.0.0.1:1"];
    let commands: [&[&str]; 12] = [
        &["client", "--server", NAUGHTY, "--name", "bob"],
        &["client", "--server", "127.0.0.1:1", "--name", NAUGHTY],
        &["client", "--invite", NAUGHTY, "--name", "bob"],
        &["client", "--invite-file", path, "--name", "bob"],
        &["client", "--server", "127.0.0.1:1", "--name", "bob", "--ca", path],
        &["client", "--server", "127.0.0.1:1", "--name", "bob", "--data", path],
        &["client", "--server", "127.0.0.1:1", "--name", "bob", "--share", path],
        &["client", unreachable[0], unreachable[1], "--name", "bob", "--inject", NAUGHTY],
        &["fetch", unreachable[0], unreachable[1], "--name", "bob", "--room", NAUGHTY, NAUGHTY],
        &["server", "--data", path],
        &["server", "--cert", path, "--listen", "127.0.0.1:0"],
        &["id", "import", path],
    ];
    for command in commands {
        let (code, out, err) = run(home.path(), command);
        assert_ne!(code, 0, "{command:?}");
        assert!(!err.trim().is_empty(), "{command:?}");
        let shown = format!("{out}{err}");
        assert!(shown.lines().flat_map(str::chars).all(harmless), "{command:?}: {shown:?}");
    }
    let config = home.path().join("settings.toml");
    fs::write(&config, format!("[client]\n\"{}\" = 1\n", "\\u001b]0;x\\u0007\\u202e")).unwrap();
    let mut command = secchat(home.path());
    command.args(["--config", config.to_str().unwrap(), "client", "--name", "bob"]);
    let (code, out, err) = told(command.output().unwrap());
    assert_ne!(code, 0);
    assert!(format!("{out}{err}").lines().flat_map(str::chars).all(harmless), "{out:?} {err:?}");
}

/// A slip in the description of a bad path is found while the command line is read, before any network or disk.
#[test]
fn a_path_to_be_harmed_is_checked_first() {
    let home = tempdir().unwrap();
    let client = ["client", "--server", "127.0.0.1:1", "--name", "bob"];
    let fetch = ["fetch", "--server", "127.0.0.1:1", "--name", "bob", "--room", "lab", "x"];
    for command in [&client[..], &fetch, &["bench", "transfer"]] {
        let (code, _, err) = run(home.path(), &[command, &["--inject", "loss=1"]].concat());
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("loss: `1` is not a percentage from 0% to 100% (for example loss=1%"), "{err}");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}
