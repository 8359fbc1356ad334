//! Seeds for what comes for a relay.

use crate::fuzz::legs::KEY;
use secchat::wire::leg::{LegKey, LinkData, bind, bound, relayed_head};
use secchat::wire::name::Name;
use secchat::wire::relay::Passing;

type Named = Vec<(&'static str, Vec<u8>)>;

pub fn datagrams() -> Named {
    let key = LegKey::new(KEY);
    let mut false_tag = bind([1; 8], 9, &key).to_vec();
    false_tag[32] ^= 1;
    vec![
        ("ok-relayed", [&relayed_head([1; 8])[..], b"sealed"].concat()),
        ("ok-bind", bind([1; 8], 9, &key).to_vec()),
        ("ok-bound", bound([1; 8], u64::MAX, &key).to_vec()),
        ("bad-tag", false_tag),
        ("bad-empty", relayed_head([1; 8]).to_vec()),
    ]
}

pub fn passing() -> Named {
    let datagrams: [&[u8]; 3] = [b"one", b"2", &[3; 300]];
    let data = LinkData::new([1; 8], datagrams.into_iter());
    let named = LinkData { server: Name::parse("s1").ok(), ..data.clone() };
    let alive = LinkData::new([1; 8], std::iter::empty());
    vec![
        ("ok-to-home", Passing::ToHome { client: 7, data: data.clone() }.to_bytes()),
        ("ok-to-access", Passing::ToAccess { client: u64::MAX, data }.to_bytes()),
        ("ok-named", Passing::ToHome { client: 7, data: named }.to_bytes()),
        ("ok-alive", Passing::ToHome { client: 7, data: alive }.to_bytes()),
        ("bad-kind", vec![0x82, 9, 0x80]),
    ]
}
