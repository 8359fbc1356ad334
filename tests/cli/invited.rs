//! New names by invitation, with the real binary on both sides.

use crate::harness::{Server, run};
use secchat::wire::admin::{Answer, Ask, Registration};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use tempfile::tempdir;

/// A question at the admin socket of the server that runs in a home.
fn asks(home: &Path, ask: &Ask) -> Answer {
    let mut socket = UnixStream::connect(home.join(".local/share/secchat/server/admin.sock")).unwrap();
    writeln!(socket, "{}", serde_json::to_string(ask).unwrap()).unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn an_invitation_in_a_file_gives_one_new_name_and_stands_in_no_log() {
    let (home, users) = (tempdir().unwrap(), tempdir().unwrap());
    let server = Server::start(home.path(), &[]);
    let invite = server.invite.to_url(false);
    let client = |name: &str, token: Option<&str>| {
        let data = users.path().join(name);
        let mut arguments = vec!["client", "--invite", &invite, "--data", data.to_str().unwrap(), "--name", name];
        arguments.extend(token.into_iter().flat_map(|file| ["--token-file", file]));
        run(users.path(), &[arguments.as_slice(), &["--json", "--exec", "@server ping"]].concat())
    };
    let done = asks(home.path(), &Ask::Registration { mode: Registration::Invite });
    assert!(matches!(done, Answer::Done { .. }), "{done:?}");
    let (code, out, _) = client("bob", None);
    assert!(code == 4 && out.contains("registration_closed") && out.contains("--token-file"), "{code}: {out}");
    let Answer::Done { token: Some(token), .. } = asks(home.path(), &Ask::Invitation { uses: None, for_s: Some(3600) })
    else {
        panic!()
    };
    let file = users.path().join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(client("bob", Some(file)).0, 0);
    assert_eq!(client("bob", None).0, 0, "the name is there now");
    let (code, out, _) = client("carol", Some(file));
    assert!(code == 4 && out.contains("registration_closed"), "used up: {code}: {out}");
    fs::write(file, "not a token\x1b[2J\n").unwrap();
    let (code, out, errors) = client("dave", Some(file));
    assert!(code == 2 && !out.contains('\x1b') && !errors.contains('\x1b'), "{code}: {out} {errors}");
    let log = fs::read_to_string(home.path().join("server.log")).unwrap();
    let digits = token.replace('-', "");
    assert!(log.contains("invitation") && !log.contains(&token) && !log.contains(&digits), "{log}");
    let database = fs::read(home.path().join(".local/share/secchat/server/server.db-wal")).unwrap_or_default();
    let bytes = u128::from_str_radix(&digits, 16).unwrap().to_be_bytes();
    assert!(!database.windows(16).any(|window| window == bytes), "nor in the database");
}
