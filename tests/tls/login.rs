use crate::harness::{DEADLINE, dial, identity, start, start_at, write_certificate, yes};
use secchat::cli::report::Report;
use secchat::net::link::{LinkError, connect};
use secchat::net::trust::Trust;
use secchat::server::accept::Caps;
use secchat::server::run::Control;
use secchat::wire::frame::{Code, Reply, Request, ToClient, ToServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::timeout;

#[tokio::test]
async fn a_user_logs_in_over_hybrid_tls_and_is_answered() {
    let server = start(1);
    let (established, sender, mut receiver) = connect(&server.dial(2)).await.unwrap();
    assert_eq!(established.server_key, identity(1).public());
    assert_eq!(established.server.as_str(), "s1");
    assert!(established.tls.starts_with("TLSv1_3 "), "{}", established.tls);
    assert!(established.tls.ends_with(" X25519MLKEM768"), "{}", established.tls);
    let ping = ToServer::Request { id: 7, body: Request::Ping };
    sender.send(ping.to_bytes().into()).unwrap();
    let answer = timeout(DEADLINE, receiver.next()).await.unwrap().unwrap();
    assert_eq!(answer, Some(ToClient::Reply { id: 7, body: Reply::Done }));
}

#[tokio::test]
async fn it_works_over_ipv6() {
    let server = start_at("[::1]:0".parse().unwrap(), 1, Caps::default());
    assert!(connect(&server.dial(2)).await.is_ok());
}

#[tokio::test]
async fn a_refused_login_says_why_and_what_to_do() {
    let server = start(1);
    let mut dial = server.dial(2);
    dial.name = "taken".into();
    match connect(&dial).await.map(|_| ()) {
        Err(LinkError::Refused(refusal)) => {
            assert_eq!((refusal.code, refusal.hint.as_deref()), (Code::NameTaken, Some("taken2")));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unknown_server_is_asked_about_once_and_then_known() {
    let server = start(1);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let ask = Some(Arc::new(move |_: &_| count.fetch_add(1, Ordering::SeqCst) == 0) as _);
    let (established, ..) =
        connect(&dial(server.address, 2, Trust { ask: ask.clone(), ..Trust::default() })).await.unwrap();
    let known = Trust { at_address: Some(established.pin), ask, ..Trust::default() };
    assert!(connect(&dial(server.address, 2, known)).await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let refused = connect(&dial(server.address, 2, Trust::default())).await.map(|_| ());
    assert!(matches!(refused, Err(LinkError::NotTrusted(_))), "{refused:?}");
}

#[tokio::test]
async fn a_renewed_certificate_of_the_same_server_is_accepted_without_asking() {
    let server = start(1);
    let (established, ..) = connect(&server.dial(2)).await.unwrap();
    write_certificate(server.files.certificate.parent().unwrap());
    server.control.send(Control::Reload).await.unwrap();
    let trust = Trust { at_address: Some(established.pin.clone()), ..Trust::default() };
    // Reloading and connecting are not ordered: until the new certificate is served the old one is.
    let renewed = async {
        loop {
            let (again, ..) = connect(&dial(server.address, 2, trust.clone())).await.unwrap();
            if again.pin.tls_key != established.pin.tls_key {
                return again;
            }
        }
    };
    let again = timeout(DEADLINE, renewed).await.unwrap();
    assert_eq!(again.server_key, established.server_key);
}

#[tokio::test]
async fn another_identity_at_a_known_address_is_refused_even_if_the_user_would_say_yes() {
    let server = start(1);
    let (established, ..) = connect(&server.dial(2)).await.unwrap();
    let address = server.stop().await;
    let impostor = start_at(address, 9, Caps::default());
    let trust = Trust { at_address: Some(established.pin), ask: Some(yes()), ..Trust::default() };
    let refused = connect(&dial(impostor.address, 2, trust)).await.map(|_| ()).unwrap_err();
    assert!(matches!(&refused, LinkError::Changed { pinned, .. } if *pinned == identity(1).public().fingerprint()));
    assert_eq!(Report::from(refused).code.code(), 3);
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let address = start(1).stop().await;
    let refused = connect(&dial(address, 2, Trust::default())).await.map(|_| ());
    assert!(matches!(refused, Err(LinkError::Unreachable { .. })), "{refused:?}");
}
