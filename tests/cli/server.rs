use crate::harness::{DEADLINE, Server, run};
use secchat::cli::exit::ExitCode;
use secchat::cli::report::Report;
use secchat::net::link::{LinkError, connect};
use secchat::net::pem::load_authorities;
use secchat::net::trust::Trust;
use secchat::wire::cert::NameCert;
use secchat::wire::frame::{Code, Push, Reply, Request, ToClient, ToServer};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::tempdir;
use tokio::time::timeout;

#[tokio::test]
async fn a_bare_server_runs_at_once_and_gives_names_to_keys() {
    let home = tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let (established, sender, mut receiver) = connect(&server.dial(2, "Bob")).await.unwrap();
    let cert = NameCert::from_bytes(&established.welcome.cert).unwrap();
    assert!(cert.check(&established.server_key, established.welcome.now_ms).is_ok());
    assert_eq!(cert.subject.name.as_str(), "bob");
    assert_ne!(established.welcome.stun_port, 0);
    let log = fs::read_to_string(home.path().join("server.log")).unwrap();
    assert!(log.contains("X25519MLKEM768"), "the operator sees the hybrid key exchange: {log}");
    sender.send(ToServer::Request { id: 1, body: Request::Ping }.to_bytes().into()).unwrap();
    assert_eq!(receiver.next().await.unwrap(), Some(ToClient::Reply { id: 1, body: Reply::Done }));
    match connect(&server.dial(3, "bob")).await.map(|_| ()) {
        Err(LinkError::Refused(refusal)) => assert_eq!(refusal.code, Code::NameTaken),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn names_and_identity_outlive_a_restart_and_secrets_are_private() {
    let home = tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let invite = server.invite.clone();
    connect(&server.dial(2, "bob")).await.unwrap();
    assert_eq!(server.stop().0, Some(0));
    let data = home.path().join(".local/share/secchat/server");
    for secret in ["identity", "tls.key", "server.db"] {
        let mode = fs::metadata(data.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let server = Server::start(home.path(), &[]);
    assert_eq!((server.invite.pin, &server.invite.server), (invite.pin, &invite.server));
    assert!(matches!(connect(&server.dial(3, "bob")).await.map(|_| ()), Err(LinkError::Refused(_))));
    assert!(connect(&server.dial(2, "bob")).await.is_ok());
}

#[tokio::test]
async fn a_stop_tells_members_and_is_quick() {
    let home = tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let (_, _sender, mut receiver) = connect(&server.dial(2, "bob")).await.unwrap();
    // Somebody who never logs in must not hold it up.
    let _idle = tokio::net::TcpStream::connect(("127.0.0.1", server.invite.port)).await.unwrap();
    let stopped = tokio::task::spawn_blocking(move || server.stop());
    let frame = timeout(DEADLINE, receiver.next()).await.unwrap().unwrap();
    assert_eq!(frame, Some(ToClient::Push(Push::Bye { reason: "draining".into(), detail: None })));
    let (code, took) = stopped.await.unwrap();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_second_login_with_the_same_key_replaces_the_first() {
    let home = tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let (_, _sender, mut first) = connect(&server.dial(2, "bob")).await.unwrap();
    let _second = connect(&server.dial(2, "bob")).await.unwrap();
    let frame = timeout(DEADLINE, first.next()).await.unwrap().unwrap();
    assert_eq!(frame, Some(ToClient::Push(Push::Bye { reason: "replaced".into(), detail: None })));
    assert_eq!(timeout(DEADLINE, first.next()).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn certificates_of_cert_init_satisfy_ca_for_their_names_only() {
    let home = tempdir().unwrap();
    let dir = home.path().join("certs");
    let dir = dir.to_str().unwrap();
    let (code, ..) = run(home.path(), &["cert", "init", dir, "--name", "127.0.0.1", "chat.example.org"]);
    assert_eq!(code, 0);
    for key in ["ca.key", "server.key"] {
        let mode = fs::metadata(format!("{dir}/{key}")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let server = Server::start(home.path(), &["--cert", &format!("{dir}/server.pem")]);
    let mut dial = server.dial(2, "bob");
    dial.trust = Trust::default();
    assert!(matches!(connect(&dial).await.map(|_| ()), Err(LinkError::NotTrusted(_))));
    dial.authority = Some(load_authorities(format!("{dir}/ca.pem").as_ref()).unwrap());
    assert!(connect(&dial).await.is_ok());
    dial.endpoint.host = "localhost".parse().unwrap();
    let refused = connect(&dial).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, LinkError::Authority { .. }), "{refused:?}");
    assert_eq!(Report::from(refused).code, ExitCode::Unreachable);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_after_sighup() {
    let home = tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    for dir in ["old", "new"] {
        assert_eq!(run(home.path(), &["cert", "init", &path(dir), "--name", "127.0.0.1"]).0, 0);
    }
    let server = Server::start(home.path(), &["--cert", &path("old/server.pem")]);
    let mut dial = server.dial(2, "bob");
    let (established, ..) = connect(&dial).await.unwrap();
    fs::rename(path("new/server.pem"), path("old/server.pem")).unwrap();
    fs::rename(path("new/server.key"), path("old/server.key")).unwrap();
    server.signal("HUP");
    dial.trust = Trust { at_address: Some(established.pin.clone()), ..Trust::default() };
    let renewed = async {
        loop {
            let (again, ..) = connect(&dial).await.unwrap();
            if again.pin.tls_key != established.pin.tls_key {
                return;
            }
        }
    };
    timeout(DEADLINE, renewed).await.expect("the new certificate is served");
}

#[test]
fn what_keeps_a_server_from_starting_is_named() {
    let home = tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    for dir in ["a", "b"] {
        assert_eq!(run(home.path(), &["cert", "init", &path(dir), "--name", "localhost"]).0, 0);
    }
    let refused = |arguments: &[&str]| {
        let (code, out, err) = run(home.path(), &[&["server", "--listen", "127.0.0.1:0"], arguments].concat());
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        err
    };
    let (cert, other_key) = (path("a/server.pem"), path("b/server.key"));
    assert!(refused(&["--cert", &cert, "--key", &other_key]).contains("does not belong to"));
    assert!(refused(&["--cert", &cert, "--key", &cert]).contains("no usable private key"));
    fs::remove_file(path("a/server.key")).unwrap();
    assert!(refused(&["--cert", &cert]).contains("hint: name the key's file with --key"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = run(home.path(), &["server", "--listen", &address]);
    assert_eq!(code, 1);
    assert!(err.contains(&format!("cannot listen on {address}")) && err.contains("hint: "), "{err}");
}

#[test]
fn one_data_directory_serves_one_server_and_an_open_identity_none() {
    let home = tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let (code, _, err) = run(home.path(), &["server", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(err.contains("in use by"), "{err}");
    assert_eq!(server.stop().0, Some(0));
    let identity = home.path().join(".local/share/secchat/server/identity");
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = run(home.path(), &["server", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(err.contains("open to others (mode 0644)"), "{err}");
}

#[test]
fn a_client_trusts_a_stranger_only_when_told_and_a_changed_server_never() {
    let home = tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let address = format!("127.0.0.1:{}", server.invite.port);
    let client = |arguments: &[&str]| {
        let fixed = ["client", "--server", &address, "--name", "bob", "--exec", "@server get_rooms"];
        run(home.path(), &[&fixed, arguments].concat())
    };
    let (code, _, err) = client(&[]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("is not known") && err.contains(&server.invite.pin.to_string()), "{err}");
    let (code, _, err) = client(&["--trust-on-first-use"]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = client(&[]);
    assert_eq!(code, 0, "it is known now: {err}");
    assert_eq!(server.stop().0, Some(0));
    fs::remove_dir_all(home.path().join(".local/share/secchat/server")).unwrap();
    let _impostor = Server::start(home.path(), &["--listen", &address]);
    let (code, _, err) = client(&["--trust-on-first-use"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("has changed"), "{err}");
}
