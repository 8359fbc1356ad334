use crate::harness::{run, secchat, told};
use secchat::crypto::identity::Identity;
use secchat::store::identity::save_new;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::tempdir;

fn own_identity(home: &Path) {
    let dir = home.join(".local/share/secchat/client");
    fs::create_dir_all(&dir).unwrap();
    save_new(&dir.join("identity"), &Identity::from_seed(&[7; 32]), None).unwrap();
}

#[test]
fn an_identity_moves_to_another_machine_under_a_passphrase() {
    let (here, there) = (tempdir().unwrap(), tempdir().unwrap());
    own_identity(here.path());
    let path = |name: &str| here.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("phrase"), "correct horse\n").unwrap();
    fs::write(path("wrong"), "battery staple\n").unwrap();
    let fingerprint = Identity::from_seed(&[7; 32]).public().fingerprint().to_string();
    let export = ["id", "export", &path("bob"), "--passphrase-file", &path("phrase")];
    assert_eq!(run(here.path(), &export).0, 0);
    assert_eq!(run(here.path(), &export).0, 1, "never over an existing file");
    assert!(!fs::read_to_string(path("bob")).unwrap().contains(&"07".repeat(32)));
    assert_eq!(fs::metadata(path("bob")).unwrap().permissions().mode() & 0o777, 0o600);
    let import = |phrase: &str| run(there.path(), &["id", "import", &path("bob"), "--passphrase-file", &path(phrase)]);
    let (code, _, err) = import("wrong");
    assert_eq!(code, 1);
    assert!(err.contains("wrong passphrase"), "{err}");
    assert_eq!(import("phrase").0, 0);
    let (code, out, _) = run(there.path(), &["id", "show", "--passphrase-file", &path("phrase")]);
    assert_eq!(code, 0);
    assert!(out.contains(&fingerprint) && out.contains("sealed  yes"), "{out}");
}

#[test]
fn a_passphrase_comes_from_a_descriptor_too_and_is_asked_for_nowhere_else() {
    let home = tempdir().unwrap();
    own_identity(home.path());
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("phrase"), "correct horse").unwrap();
    let export = ["id", "export", &path("bob"), "--passphrase-file", &path("phrase")];
    assert_eq!(run(home.path(), &export).0, 0);
    let show = ["--data", &path("elsewhere"), "id", "show"];
    assert_eq!(run(home.path(), &show).0, 2, "an option of the command stands behind it");
    fs::create_dir(path("elsewhere")).unwrap();
    fs::rename(path("bob"), path("elsewhere/identity")).unwrap();
    let show = ["id", "show", "--data", &path("elsewhere")];
    let (code, _, err) = run(home.path(), &show);
    assert_eq!(code, 2);
    assert!(err.contains("no terminal to ask on"), "{err}");
    let phrase = fs::File::open(path("phrase")).unwrap();
    let mut command = secchat(home.path());
    let (code, out, err) = told(command.args(show).args(["--passphrase-fd", "0"]).stdin(phrase).output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("sealed  yes"));
}

#[test]
fn an_identity_that_others_may_read_is_refused() {
    let home = tempdir().unwrap();
    own_identity(home.path());
    let identity = home.path().join(".local/share/secchat/client/identity");
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o640)).unwrap();
    let (code, _, err) = run(home.path(), &["id", "show"]);
    assert_eq!(code, 1);
    assert!(err.contains("open to others (mode 0640)") && err.contains("chmod 600"), "{err}");
}

#[test]
fn cert_init_overwrites_nothing() {
    let home = tempdir().unwrap();
    let dir = home.path().join("certs");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("ca.key"), "precious").unwrap();
    let (code, _, err) = run(home.path(), &["cert", "init", dir.to_str().unwrap(), "--name", "localhost"]);
    assert_eq!(code, 1);
    assert!(err.contains("is there already"), "{err}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    assert_eq!(run(home.path(), &["cert", "init", dir.to_str().unwrap()]).0, 2, "a name is needed");
}

#[test]
fn settings_come_from_flags_then_environment_then_file() {
    let home = tempdir().unwrap();
    let config = home.path().join(".config/secchat/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    let in_file = home.path().join("of-file");
    fs::write(&config, format!("[id]\ndata = {:?}\n", in_file)).unwrap();
    let missing = |out: (i32, String, String)| out.2.lines().next().unwrap_or_default().to_owned();
    assert!(missing(run(home.path(), &["id", "show"])).contains("of-file"));
    let mut command = secchat(home.path());
    command.args(["id", "show"]).env("SECCHAT_DATA", home.path().join("of-env"));
    assert!(missing(told(command.output().unwrap())).contains("of-env"));
    command.args(["--data", "of-flag"]);
    assert!(missing(told(command.output().unwrap())).contains("of-flag"));
    fs::write(&config, "[id]\ndaat = 'x'\n").unwrap();
    let (code, _, err) = run(home.path(), &["id", "show"]);
    assert_eq!(code, 2);
    assert!(err.contains("id.daat"), "{err}");
}

#[test]
fn help_completions_and_manuals_are_there() {
    let home = tempdir().unwrap();
    assert_eq!(run(home.path(), &[]).0, 2);
    for command in ["server", "cert", "id", "completions", "man"] {
        let (code, out, _) = run(home.path(), &[command, "--help"]);
        assert_eq!(code, 0);
        assert!(out.contains("Example") || command == "cert", "{command}");
    }
    let (code, out, _) = run(home.path(), &["completions", "bash"]);
    assert!(code == 0 && out.contains("secchat"));
    let dir = home.path().join("man");
    assert_eq!(run(home.path(), &["man", dir.to_str().unwrap()]).0, 0);
    assert!(dir.join("secchat-server.1").exists());
}
