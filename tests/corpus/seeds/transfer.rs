//! Seeds for what the two streams of a transfer carry.

use crate::fuzz::exchange::{SIZE, WANTED, content, tree};
use secchat::transfer::exchange::Ask;
use secchat::transfer::manifest::{Entry, Manifest};
use secchat::transfer::partial::Partial;
use secchat::transfer::tree::{Geometry, Step};

type Named = Vec<(&'static str, Vec<u8>)>;

pub fn asks() -> Named {
    let sent = |asks: &[Ask]| {
        let mut bytes = Vec::new();
        asks.iter().for_each(|ask| ask.encode(&mut bytes));
        bytes
    };
    let want = |item, first, count| Ask::Want { item, first, count };
    vec![
        ("ok-wants", sent(&[want(0, 0, 16), want(0, 16_000, 384), want(2, 0, 1)])),
        ("ok-items", sent(&[Ask::Items { first: 1, count: 2 }])),
        ("ok-beyond", sent(&[want(0, 16_000, 1000), want(9, 0, 1)])),
        ("bad-none", sent(&[want(0, 0, 0)])),
        ("bad-overflow", sent(&[want(0, u64::MAX, u64::MAX)])),
        ("bad-items", sent(&[Ask::Items { first: 0, count: u32::MAX }])),
        ("bad-length", vec![0xff; 10]),
    ]
}

pub fn answers() -> Named {
    let (file, (_, pairs), geometry) = (content(), tree(), Geometry::new(SIZE).unwrap());
    let mut data = vec![0];
    for step in geometry.layout(WANTED) {
        match step {
            Step::Parent { slot, .. } => data.extend_from_slice(&pairs[usize::try_from(slot).unwrap()]),
            Step::Group { group, len } => {
                let start = usize::try_from(group).unwrap() << 16;
                data.extend_from_slice(&file[start..start + len]);
            }
        }
    }
    let have = [3, 0, 6, 0x81, 0x44, 0, 2, 9, 1];
    vec![
        ("ok-refused", [&have[..], &[1]].concat()),
        ("ok-changed", vec![2]),
        ("ok-data", [&have[..], &data].concat()),
        ("bad-more", [&data[..], &data].concat()),
        ("bad-kind", vec![4]),
        ("bad-unasked", vec![1, 1]),
        ("bad-have", vec![3, 0xff, 0xff, 0x81]),
        ("bad-parent", [&[0], &[7; 64][..]].concat()),
    ]
}

pub fn manifests() -> Named {
    let entry = |path: &str, size| Entry::new(path.split('/'), size, [7; 32]).unwrap();
    let manifest = Manifest::new(vec![entry("a.txt", 10), entry("folder/ä", 0), entry("folder/b", 1 << 40)]).unwrap();
    let sound = manifest.encode();
    let swapped = |from: &[u8], to: &[u8]| {
        let at = sound.windows(from.len()).position(|part| part == from).unwrap();
        [&sound[..at], to, &sound[at + from.len()..]].concat()
    };
    vec![
        ("ok-folder", sound.clone()),
        ("bad-path", swapped(b"a.txt", b"../..")),
        ("bad-device", swapped(b"a.txt", b"nul.a")),
        ("bad-twice", swapped(b"\x66folder\x61b", b"\x66Folder\x61b")),
        ("bad-empty", vec![0x80]),
        ("bad-claimed-length", vec![0x9a, 0, 1, 0, 0]),
    ]
}

pub fn partials() -> Named {
    let mut partial = Partial::new("report.pdf", [7; 32], 100 << 16, 100);
    partial.mark(0..10);
    partial.mark(20..70);
    let sound = partial.encode();
    let mut damaged = sound.clone();
    damaged[30] ^= 1;
    vec![("ok-part", sound), ("bad-damaged", damaged), ("bad-empty", Vec::new())]
}
