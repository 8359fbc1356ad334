//! `secchat doctor network`, and the server's STUN as programs of others meet it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use secchat::cli::exit::ExitCode;
use serde_json::Value;
use tempfile::tempdir;

use crate::harness::{DEADLINE, Server, run};

#[test]
fn a_foreign_client_learns_its_address_by_the_letter_of_rfc_8489() {
    let home = tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    // A Binding request with the attribute SOFTWARE, which a server need not understand.
    let transaction = *b"twelve bytes";
    let mut request = vec![0x00, 0x01, 0x00, 0x0c, 0x21, 0x12, 0xa4, 0x42];
    request.extend_from_slice(&transaction);
    request.extend_from_slice(&[0x80, 0x22, 0x00, 0x07]);
    request.extend_from_slice(b"foreign\0");
    socket.send_to(&request, ("127.0.0.1", server.invite.port)).unwrap();
    let mut answer = [0; 512];
    let (len, from) = socket.recv_from(&mut answer).unwrap();
    let answer = &answer[..len];
    assert_eq!(from, SocketAddr::from(([127, 0, 0, 1], server.invite.port)));
    assert_eq!(answer[..2], [0x01, 0x01], "a success response");
    assert_eq!(usize::from(u16::from_be_bytes([answer[2], answer[3]])), len - 20);
    assert_eq!(answer[4..8], [0x21, 0x12, 0xa4, 0x42]);
    assert_eq!(answer[8..20], transaction);
    assert_eq!(xor_mapped(&answer[20..]), Some(socket.local_addr().unwrap()));
    assert!(len <= 3 * request.len());
}

/// The attribute XOR-MAPPED-ADDRESS (RFC 8489 §14.2) with an IPv4 address.
fn xor_mapped(mut attributes: &[u8]) -> Option<SocketAddr> {
    while let [t0, t1, l0, l1, rest @ ..] = attributes {
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = rest.get(..len)?;
        if [*t0, *t1] == [0x00, 0x20] {
            let [_, 0x01, p0, p1, a, b, c, d] = *value else { return None };
            let port = u16::from_be_bytes([p0, p1]) ^ 0x2112;
            let ip = Ipv4Addr::new(a ^ 0x21, b ^ 0x12, c ^ 0xa4, d ^ 0x42);
            return Some(SocketAddr::V4(SocketAddrV4::new(ip, port)));
        }
        attributes = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[test]
fn without_a_router_the_doctor_says_so_and_names_who_does_not_answer() {
    let (home, other) = (tempdir().unwrap(), tempdir().unwrap());
    let servers = [Server::start(home.path(), &[]), Server::start(other.path(), &["--listen", "127.0.0.2:0"])];
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let named = format!("127.0.0.1:{},127.0.0.2:{}", servers[0].invite.port, servers[1].invite.port);
    let stun = silent.local_addr().unwrap().to_string();
    let (code, out, err) = run(home.path(), &["doctor", "network", "--server", &named, "--stun", &stun, "--json"]);
    assert_eq!((code, err.as_str()), (ExitCode::Done as i32, ""));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["event"], &told["family"], &told["kind"]), (&"network".into(), &"ipv4".into(), &"open".into()));
    let seen: Vec<bool> = told["asked"].as_array().unwrap().iter().map(|asked| asked["seen_as"].is_string()).collect();
    assert_eq!(seen, [true, true, false]);
    let (code, out, _) = run(home.path(), &["doctor", "network", "--server", &named]);
    assert!(code == 0 && out.starts_with("IPv4: no router changes your address\n"), "{out}");
}

#[test]
fn where_nothing_answers_the_doctor_says_that_and_fails() {
    let home = tempdir().unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let named = silent.local_addr().unwrap().to_string();
    let (code, out, _) = run(home.path(), &["doctor", "network", "--server", &named, "--json"]);
    assert_eq!(code, ExitCode::Failed as i32);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["kind"], "blocked");
    let (code, out, err) = run(home.path(), &["doctor", "network", "--server", &format!("{named},nobody.invalid")]);
    assert!(code == ExitCode::Failed as i32 && err.starts_with("note: nobody.invalid:7443 is not found"), "{err}");
    assert!(out.starts_with("IPv4: no server can be reached") && !out.contains("nobody outside"), "{out}");
    let (code, _, err) = run(home.path(), &["doctor", "network"]);
    assert_eq!(code, ExitCode::Usage as i32);
    assert!(err.contains("--server"), "{err}");
}
