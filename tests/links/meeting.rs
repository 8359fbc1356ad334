use crate::harness::{DEADLINE, Log, config, id, identity, name, start, start_linked};
use secchat::mesh::run::{MeshEvent, MeshReport};
use secchat::wire::vouch::ServerTrust;
use std::time::Instant;
use tokio::time::timeout;

#[tokio::test]
async fn two_servers_link_and_what_one_sends_the_other_hears_once_and_in_order() {
    let mut one = start(config(1, "s1"));
    let mut two = start_linked(config(2, "s2"), &[one.address]);
    one.sees(2).await;
    two.sees(1).await;
    for n in 0..1000u32 {
        two.says(1, &n.to_be_bytes()).await;
    }
    for n in 0..1000u32 {
        assert_eq!(one.hears(2).await, (b"head".to_vec(), n.to_be_bytes().to_vec()));
    }
    let info = one.handle.nodes().first().cloned().unwrap();
    assert_eq!((info.name.as_str(), info.hops, info.key), ("s2", 1, identity(2).public()));
    assert_eq!(info.endpoints, ["s2.example.org:7443"]);
    let link = one.until("a round trip", |r| r.links.first().filter(|l| l.round_trip.is_some()).cloned()).await;
    assert!(!link.dialled && link.sent_bytes > 0 && link.received_bytes > 4000, "{link:?}");
}

#[tokio::test]
async fn a_message_hops_to_servers_that_are_no_neighbours() {
    let mut one = start(config(1, "s1"));
    let two = start_linked(config(2, "s2"), &[one.address]);
    let mut three = start_linked(config(3, "s3"), &[two.address]);
    one.sees(3).await;
    three.sees(1).await;
    let large = vec![7; 1 << 20];
    one.says(3, &large).await;
    assert_eq!(three.hears(1).await.1, large);
    let report = one.report().await;
    let far = report.nodes.iter().find(|node| node.info.id == id(3)).unwrap();
    assert_eq!((far.info.hops, far.path.as_slice()), (2, &[id(2), id(3)][..]));
    assert_eq!(report.edges.len(), 2);
}

#[tokio::test]
async fn two_that_dial_each_other_have_one_link() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let addresses = [free(), free()];
    let begin = |seed: u8, own: usize| {
        let mut config = config(seed, &format!("s{seed}"));
        config.listen = vec![addresses[own]];
        start_linked(config, &[addresses[1 - own]])
    };
    let (mut one, mut two) = (begin(1, 0), begin(2, 1));
    one.sees(2).await;
    two.sees(1).await;
    for n in 0..100u32 {
        one.says(2, &n.to_be_bytes()).await;
        assert_eq!(two.hears(1).await.1, n.to_be_bytes());
    }
    let (of_one, of_two) = (one.links().await, two.links().await);
    assert_eq!((of_one.len(), of_two.len()), (1, 1));
    assert_ne!(of_one[0].dialled, of_two[0].dialled, "the same one");
}

#[tokio::test]
async fn a_server_that_was_restarted_is_linked_again_at_once_and_begins_anew() {
    let mut one = start(config(1, "s1"));
    let mut two = start_linked(config(2, "s2"), &[one.address]);
    one.sees(2).await;
    two.sees(1).await;
    let mut again = config(1, "s1");
    again.listen = vec![one.address];
    one.running.stop().await;
    let since = Instant::now();
    let mut one = start(again);
    one.sees(2).await;
    two.loses(1).await;
    two.sees(1).await;
    assert!(since.elapsed().as_secs() < 3, "{:?}", since.elapsed());
    two.says(1, b"anew").await;
    assert_eq!(one.hears(2).await.1, b"anew");
}

#[tokio::test]
async fn servers_that_list_each_other_need_no_authority() {
    let listed = |seed: u8, server: &str, other: u8| {
        let mut config = config(seed, server);
        config.vouch = None;
        let listed = vec![(name(&format!("s{other}")), identity(other).public().fingerprint())];
        config.trust = ServerTrust { authorities: Vec::new(), listed };
        config
    };
    let mut one = start(listed(1, "s1", 2));
    let mut two = start_linked(listed(2, "s2", 1), &[one.address]);
    one.sees(2).await;
    two.sees(1).await;
    let log = Log::start();
    let _impostor = start_linked(listed(9, "s2", 1), &[one.address]);
    log.says(&["refused", "s2", "has another key"]).await;
    assert_eq!(one.refused("not_trusted").await, 1);
}

#[tokio::test]
async fn a_server_that_dials_itself_says_so_and_stops_it() {
    let log = Log::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut own = config(1, "s1");
    own.listen = vec![free];
    let server = start_linked(own, &[free]);
    log.says(&[&format!("--link {free} is this server itself")]).await;
    assert!(server.links().await.is_empty());
}

#[tokio::test]
async fn a_stopped_mesh_says_so_to_whoever_uses_it() {
    let mut one = start(config(1, "s1"));
    let handle = one.handle.clone();
    one.running.stop().await;
    assert!(handle.send(vec![(id(2), Vec::new())], b"late"[..].into()).await.is_err());
    assert!(handle.report().await.is_err());
    let end = timeout(DEADLINE, async {
        while let Some(event) = one.events.next().await {
            assert!(!matches!(event, MeshEvent::Delivered { .. }));
        }
    });
    end.await.expect("the events end");
}

#[tokio::test]
async fn of_two_that_run_with_one_identity_one_leaves_the_mesh_and_says_why() {
    let log = Log::start();
    let two = start(config(2, "s2"));
    let mut three = start_linked(config(3, "s3"), &[two.address]);
    three.sees(2).await;
    let one = start_linked(config(1, "s1"), &[two.address]);
    let other = start_linked(config(1, "s1"), &[three.address]);
    log.says(&["ERROR", "identity also runs elsewhere", "leaves the mesh"]).await;
    let (mut stays, mut leaves) = if one.handle.report().await.is_ok() { (one, other) } else { (other, one) };
    let ends = async { while leaves.events.next().await.is_some() {} };
    timeout(DEADLINE, ends).await.expect("it ends for its server");
    assert!(leaves.handle.report().await.is_err());
    let there = |report: &MeshReport| (report.nodes.len() == 2).then_some(());
    stays.until("the others are there", there).await;
    two.until("it is there", there).await;
    two.says(1, b"you").await;
    assert_eq!(stays.hears(2).await.1, b"you");
    assert_eq!(log.text().matches("identity also runs elsewhere").count(), 1);
}

#[tokio::test]
async fn a_neighbour_keeps_the_newer_of_two_that_run_with_one_identity_and_tells_the_older() {
    let log = Log::start();
    let mut two = start(config(2, "s2"));
    let older = start_linked(config(1, "s1"), &[two.address]);
    two.sees(1).await;
    let mut newer = start_linked(config(1, "s1"), &[two.address]);
    log.says(&["ERROR", "refuses this one", "newer process with this server's identity"]).await;
    newer.sees(2).await;
    assert!(older.links().await.is_empty());
    assert_eq!(newer.links().await.len(), 1);
}
