use crate::harness::{DEADLINE, run, secchat};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;
use tempfile::{TempDir, tempdir};

/// A running server of a mesh, in a home of its own; killed when dropped.
struct Member {
    child: Child,
    home: TempDir,
    /// What it has announced, by its first word.
    facts: Vec<(String, String)>,
}

impl Member {
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempdir().unwrap(), arguments)
    }

    fn start_in(home: TempDir, arguments: &[&str]) -> Self {
        let log = File::create(home.path().join("server.log")).unwrap();
        let mut command = secchat(home.path());
        command.args(["server", "--listen", "127.0.0.1:0"]).args(arguments).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut facts = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let (word, rest) = line.split_once(' ').unwrap();
            facts.push((word.to_owned(), rest.trim().to_owned()));
            if word == "invite" {
                break;
            }
        }
        Self { child, home, facts }
    }

    fn fact(&self, word: &str) -> &str {
        let found = self.facts.iter().find(|(first, _)| first == word);
        &found.unwrap_or_else(|| panic!("{word} in {:?}; {}", self.facts, self.log())).1
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("server.log")).unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn data(&self) -> std::path::PathBuf {
        self.home.path().join(".local/share/secchat/server")
    }

    /// `secchat admin mesh` again and again, until it shows what is wanted.
    fn admin(&self, arguments: &[&str], wanted: &[&str]) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let (code, out, err) = run(self.home.path(), &[&["admin", "mesh"], arguments].concat());
            assert_eq!(code, 0, "{err}");
            if wanted.iter().all(|part| out.contains(part)) {
                return out;
            }
            assert!(Instant::now() < until, "{wanted:?} never came: {out}\n{}", self.log());
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority in a directory; its path.
fn authority(home: &Path, name: &str) -> String {
    let dir = home.join(name).to_str().unwrap().to_owned();
    let (code, out, err) = run(home, &["cert", "init", &dir, "--mesh"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("authority  ed25519:"), "{out}");
    dir
}

/// Vouches for a server; the directory for it.
fn issue(home: &Path, authority: &str, server: &str) -> String {
    let (code, _, err) = run(home, &["cert", "issue", authority, server]);
    assert_eq!(code, 0, "{err}");
    format!("{authority}/{server}")
}

#[test]
fn two_servers_with_certificates_of_one_authority_are_a_mesh_and_show_it() {
    let home = tempdir().unwrap();
    let certs = authority(home.path(), "certs");
    let [one, two] = ["s1", "s2"].map(|server| issue(home.path(), &certs, server));
    let listen = ["--mesh-listen", "127.0.0.1:0", "--metrics", "0", "--mesh-certs"];
    let one = Member::start(&[&listen[..], &[&one, "--name", "s1"]].concat());
    let two = Member::start(&["--mesh-certs", &two, "--link", one.fact("mesh")]);
    assert_eq!(two.fact("server"), "s2", "the name of its certificate");
    let table = one.admin(&[], &["s2", " ms", "from 127.0.0.1:"]);
    assert!(table.starts_with("server  s1  "), "{table}");
    let json: serde_json::Value = serde_json::from_str(&two.admin(&["--json"], &["\"name\":\"s1\""])).unwrap();
    assert_eq!((&json["nodes"][0]["path"][0], &json["links"][0]["dialled"]), (&"s1".into(), &true.into()));
    assert_eq!(json["nodes"][0]["endpoints"][0].as_str(), Some(one.fact("listening")));
    let graph = one.admin(&["--dot"], &["\"s1\" -- \"s2\"", " ms\"];"]);
    assert!(graph.starts_with("graph mesh {\n") && graph.ends_with("}\n"), "{graph}");
    let address = one.fact("metrics").trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let mut scrape = TcpStream::connect(address).unwrap();
    scrape.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    scrape.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("secchat_mesh_links 1\n") && answer.contains("secchat_clients 0\n"), "{answer}");
    let mode = fs::metadata(one.data().join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_server_that_has_a_key_is_vouched_for_by_its_public_key_and_servers_may_be_listed_instead() {
    let home = tempdir().unwrap();
    let certs = authority(home.path(), "certs");
    let one = Member::start(&["--name", "s1"]);
    let pin = one.fact("pin").to_owned();
    let (_, shown, _) = run(home.path(), &["id", "show", "--data", one.data().to_str().unwrap()]);
    let public = shown.lines().find_map(|line| line.strip_prefix("public  ")).unwrap().to_owned();
    let (code, _, err) = run(home.path(), &["cert", "issue", &certs, "s1", "--key", &pin]);
    assert_eq!(code, 2, "a fingerprint is no key: {err}");
    assert_eq!(run(home.path(), &["cert", "issue", &certs, "s1", "--key", &public]).0, 0);
    assert!(!Path::new(&format!("{certs}/s1/identity")).exists());
    let mut one = one;
    one.child.kill().unwrap();
    one.child.wait().unwrap();
    let home_of_one = std::mem::replace(&mut one.home, tempdir().unwrap());
    // The one believes the other by its pin, the other the one by its authority.
    let two = issue(home.path(), &certs, "s2");
    let two = Member::start(&["--mesh-certs", &two, "--mesh-listen", "127.0.0.1:0"]);
    let trust = format!("s2={}", two.fact("pin"));
    let certs_of_one = format!("{certs}/s1");
    let mesh = ["--mesh-certs", &certs_of_one, "--mesh-trust", &trust, "--link", two.fact("mesh")];
    let one = Member::start_in(home_of_one, &mesh);
    assert_eq!(one.fact("pin"), pin);
    two.admin(&[], &["s1", " ms"]);
}

#[test]
fn what_keeps_a_server_out_of_the_mesh_is_named() {
    let home = tempdir().unwrap();
    let (certs, others) = (authority(home.path(), "certs"), authority(home.path(), "others"));
    let one = issue(home.path(), &certs, "s1");
    let refused = |code: i32, arguments: &[&str], wanted: &[&str]| {
        let own = tempdir().unwrap();
        let (ended, out, err) = run(own.path(), &[&["server", "--listen", "127.0.0.1:0"], arguments].concat());
        assert_eq!((ended, out.as_str()), (code, ""), "{err}");
        assert!(wanted.iter().all(|part| err.contains(part)) && err.contains("hint: "), "{err}");
    };
    refused(1, &["--mesh-certs", &one, "--name", "s9"], &["is for a server called s1", "is called s9"]);
    refused(2, &["--mesh-listen", "127.0.0.1:0"], &["which other servers to believe", "--mesh-trust"]);
    fs::copy(format!("{others}/mesh.pub"), format!("{one}/mesh.pub")).unwrap();
    refused(1, &["--mesh-certs", &one], &["is not signed by an authority in"]);
    fs::write(format!("{one}/mesh.cert"), "junk").unwrap();
    refused(1, &["--mesh-certs", &one], &["mesh.cert is not a server's mesh certificate"]);
    // A server that has a key already does not take another one.
    let member = Member::start(&["--name", "s2"]);
    let two = issue(home.path(), &certs, "s2");
    let mut command = secchat(member.home.path());
    let data = member.home.path().join("elsewhere");
    fs::create_dir(&data).unwrap();
    fs::copy(member.data().join("identity"), data.join("identity")).unwrap();
    let output =
        command.args(["server", "--listen", "127.0.0.1:0", "--name", "s2", "--mesh-certs", &two, "--data"]).arg(data);
    let (code, _, err) = crate::harness::told(output.output().unwrap());
    assert_eq!(code, 1);
    assert!(
        err.contains("is for the key ed25519:") && err.contains("secchat cert issue DIR s2 --key ed25519:"),
        "{err}"
    );
    let (code, _, err) = run(member.home.path(), &["admin", "mesh"]);
    assert_eq!((code, err.contains("this server is in no mesh")), (1, true), "{err}");
    let (code, _, err) = run(home.path(), &["admin", "mesh"]);
    assert_eq!((code, err.contains("no server answers at")), (3, true), "{err}");
}

#[test]
fn an_authority_is_made_once_and_a_certificate_renewed_for_the_same_key() {
    let home = tempdir().unwrap();
    let certs = authority(home.path(), "certs");
    assert_eq!(run(home.path(), &["cert", "init", &certs, "--mesh"]).0, 1);
    let mode = fs::metadata(format!("{certs}/mesh.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = |text: &str| text.lines().find_map(|line| line.strip_prefix("key ").map(str::to_owned)).unwrap();
    let one = issue(home.path(), &certs, "s1");
    let first = fs::read_to_string(format!("{one}/mesh.cert")).unwrap();
    let (code, ..) = run(home.path(), &["cert", "issue", &certs, "s1", "--days", "9"]);
    let renewed = fs::read_to_string(format!("{one}/mesh.cert")).unwrap();
    assert_eq!((code, key(&first)), (0, key(&renewed)));
    assert_ne!(first, renewed);
    let other = format!("ed25519:{}", "7".repeat(64));
    let (code, _, err) = run(home.path(), &["cert", "issue", &certs, "s1", "--key", &other]);
    assert_eq!((code, err.contains("belongs to another key")), (1, true), "{err}");
    let (code, _, err) = run(home.path(), &["cert", "issue", home.path().to_str().unwrap(), "s1"]);
    assert_eq!((code, err.contains("there is no mesh authority in")), (1, true), "{err}");
}

#[test]
fn a_server_that_is_told_whom_to_believe_but_links_with_nobody_does_not_start_alone() {
    let home = tempdir().unwrap();
    let certs = authority(home.path(), "certs");
    let one = issue(home.path(), &certs, "s1");
    let (code, out, err) = run(home.path(), &["server", "--listen", "127.0.0.1:0", "--mesh-certs", &one]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("--mesh-certs") && err.contains("hint: say --mesh-listen") && err.contains("--link"), "{err}");
}

#[test]
fn missing_files_of_a_mesh_are_named_with_the_command_that_makes_them() {
    let home = tempdir().unwrap();
    let certs = authority(home.path(), "certs");
    let refused = |dir: &str, wanted: &str| {
        let mesh = ["server", "--listen", "127.0.0.1:0", "--mesh-listen", "127.0.0.1:0", "--mesh-certs", dir];
        let (code, out, err) = run(home.path(), &mesh);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains(wanted) && err.contains("hint: ") && err.contains("secchat cert issue DIR s1"), "{err}");
    };
    refused(&format!("{certs}/s1"), "there is no such directory");
    let one = issue(home.path(), &certs, "s1");
    fs::remove_file(format!("{one}/mesh.cert")).unwrap();
    refused(&one, "mesh.cert");
    fs::remove_file(format!("{one}/mesh.pub")).unwrap();
    refused(&one, "mesh.pub");
}

#[test]
fn a_name_gets_a_second_key_only_when_that_is_said() {
    let home = tempdir().unwrap();
    let certs = authority(home.path(), "certs");
    let elsewhere = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (elsewhere("a"), elsewhere("b"));
    let issue = |more: &[&str]| run(home.path(), &[&["cert", "issue", &certs, "s1"], more].concat());
    let key = |out: &str| out.lines().find_map(|line| line.strip_prefix("key        ").map(str::to_owned)).unwrap();
    let (code, first, err) = issue(&["--out", &a]);
    assert_eq!(code, 0, "{err}");
    for more in [&["--out", &b][..], &[]] {
        let (code, _, err) = issue(more);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("s1 was issued a certificate before") && err.contains(&key(&first)), "{err}");
        assert!(err.contains("hint: ") && err.contains("--key ed25519:") && err.contains("--new-key"), "{err}");
    }
    assert!(!Path::new(&b).exists() && !Path::new(&format!("{certs}/s1")).exists(), "nothing is left of it");
    let (code, renewed, err) = issue(&["--out", &a]);
    assert_eq!((code, key(&renewed)), (0, key(&first)), "{err}");
    let (code, renewed, err) = issue(&["--out", &b, "--key", &key(&first)]);
    assert_eq!((code, key(&renewed)), (0, key(&first)), "{err}");
    let (code, other, err) = issue(&["--new-key"]);
    assert_eq!(code, 0, "{err}");
    assert_ne!(key(&other), key(&first));
    assert_eq!(issue(&[]).0, 0, "the new key is the one that counts now");
    assert_eq!(issue(&["--out", &a]).0, 1, "and the old one is not");
}

#[test]
fn a_frozen_server_is_said_not_to_answer() {
    let home = tempdir().unwrap();
    let certs = authority(home.path(), "certs");
    let one = issue(home.path(), &certs, "s1");
    let one = Member::start(&["--mesh-certs", &one, "--mesh-listen", "127.0.0.1:0"]);
    one.signal("STOP");
    let since = Instant::now();
    let (code, _, err) = run(one.home.path(), &["admin", "mesh"]);
    assert!(since.elapsed() < DEADLINE / 2, "{:?}", since.elapsed());
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("does not answer within") && err.contains("hint: it runs, but is stopped"), "{err}");
    assert!(!err.contains("temporarily"), "{err}");
}

#[test]
fn who_is_stopped_has_left_and_who_is_killed_is_out_of_reach() {
    let home = tempdir().unwrap();
    let certs = authority(home.path(), "certs");
    let [one, two, three] = ["s1", "s2", "s3"].map(|server| issue(home.path(), &certs, server));
    let one = Member::start(&["--mesh-certs", &one, "--mesh-listen", "127.0.0.1:0"]);
    let [mut two, mut three] =
        [&two, &three].map(|certs| Member::start(&["--mesh-certs", certs, "--link", one.fact("mesh")]));
    one.admin(&[], &["s2", "s3"]);
    two.signal("TERM");
    assert_eq!(two.child.wait().unwrap().code(), Some(0));
    three.child.kill().unwrap();
    three.child.wait().unwrap();
    let until = Instant::now() + DEADLINE;
    let lines = |log: &str, name: &str, text: &str| {
        log.lines().any(|line| line.contains(text) && line.contains(&format!("name={name}")))
    };
    loop {
        let log = one.log();
        let left =
            lines(&log, "s2", "the neighbour was stopped") && lines(&log, "s2", "has left the mesh: it was stopped");
        let lost = lines(&log, "s3", "a link with a server is gone") && lines(&log, "s3", "is out of reach");
        if left && lost {
            assert!(!lines(&log, "s3", "stopped") && !lines(&log, "s2", "out of reach"), "{log}");
            return;
        }
        assert!(Instant::now() < until, "{log}");
        // Asking takes a moment.
        one.admin(&[], &[]);
    }
}
