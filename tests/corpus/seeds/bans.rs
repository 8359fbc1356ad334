//! Seeds for bans, as they are signed and as servers tell each other of them.

use secchat::crypto::identity::Identity;
use secchat::wire::ban::{Ban, Known, Page, SignedBan, Summary, Target};
use secchat::wire::name::{FullName, Name};
use secchat::wire::vouch::{NodeId, ServerCert};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn server() -> Identity {
    Identity::from_seed(&[1; 32])
}

fn signed(target: Target) -> SignedBan {
    let new = Ban::new(&server().public(), name("s1"), (1, 2), target);
    let (reason, by) = ("spam".to_owned(), "alice@s1".to_owned());
    SignedBan::sign(&server(), Ban { reason, by, since_ms: 3, until_ms: Some(4), mesh: true, ..new })
}

pub fn bans() -> Vec<(&'static str, Vec<u8>)> {
    let bob = Target::Name { name: FullName::new(name("bob"), name("s2")), key: Some([3; 32].into()) };
    let net = |text: &str| signed(Target::Network(text.parse().unwrap()));
    let all = [signed(bob), signed(Target::Key([4; 32].into())), net("192.0.2.0/24"), net("2001:db8::/32")];
    let vouch = ServerCert::issue(&Identity::from_seed(&[2; 32]), name("s1"), server().public(), 1000);
    let page = Page::fill(&server().public(), &name("s1"), Some(&vouch), &mut all.iter().peekable()).unwrap();
    let summary = Summary { known: vec![Known::new(NodeId([5; 32]), 6, [7; 16])] };
    let mut host_bits = all[2].to_bytes();
    let at = host_bits.windows(5).position(|w| w == [192, 0, 2, 0, 0x18]).unwrap();
    host_bits[at + 3] = 1;
    vec![
        ("ok-name", all[0].to_bytes()),
        ("ok-key", all[1].to_bytes()),
        ("ok-network", all[2].to_bytes()),
        ("ok-network-v6", all[3].to_bytes()),
        ("ok-page", page.to_bytes()),
        ("ok-summary", summary.to_bytes()),
        ("bad-half-the-world", net("0.0.0.0/1").to_bytes()),
        ("bad-host-bits", host_bits),
        ("bad-empty", Vec::new()),
    ]
}
