use proptest::prelude::*;

use super::*;
use crate::crypto::identity::Identity;
use crate::crypto::pair::{Pair, Standing};

/// A target, and per message who gets it with which head, and the body.
type Sent = (Vec<Target>, Vec<(Vec<(u8, u64, Vec<u8>)>, Vec<u8>)>);

fn target() -> impl Strategy<Value = Target> {
    let ranges = proptest::collection::vec((1..1000u64, 1..1000u64), 0..=RANGES_MAX);
    (any::<[u8; 32]>(), any::<u64>(), any::<(u64, u64, bool)>(), 0..1u64 << 60, 0..1u64 << 60, ranges).prop_map(
        |(id, instance, (epoch, peer_epoch, asks), base, below, steps)| {
            let mut at = below;
            let ranges = steps.into_iter().map(|(gap, len)| {
                let start = at + gap;
                at = start + len;
                start..at
            });
            let ack = Ack { below, ranges: ranges.collect() };
            Target { id: NodeId(id), instance, epoch, peer_epoch, asks, base, ack, tag: [id[0]; TAG_LEN] }
        },
    )
}

fn sent() -> impl Strategy<Value = Sent> {
    proptest::collection::vec(target(), 1..6).prop_flat_map(|targets| {
        let count = targets.len() as u8;
        let to = (0..count, 0..1u64 << 40, proptest::collection::vec(any::<u8>(), 0..200));
        let message = (proptest::collection::vec(to, 1..5), proptest::collection::vec(any::<u8>(), 0..300));
        (Just(targets), proptest::collection::vec(message, 0..6))
    })
}

fn write((targets, messages): &Sent) -> Vec<u8> {
    let mut out = Vec::new();
    begin_data(&mut out, 9, NodeId([4; 32]), 77, targets.len() as u8);
    targets.iter().for_each(|target| target.write(&mut out));
    for (to, body) in messages {
        begin_message(&mut out, to.len() as u8);
        to.iter().for_each(|(place, number, head)| put_target(&mut out, *place, *number, head));
        put_body(&mut out, body);
    }
    out
}

fn read(bytes: &[u8]) -> Option<Sent> {
    let Ok(Frame::Data(data)) = Frame::read(bytes) else { return None };
    let to = |message: &Message<'_>| message.targets().map(|to| (to.target, to.number, to.head.to_vec())).collect();
    let messages = data.messages().map(|message| (to(&message), message.body.to_vec())).collect();
    Some((data.targets, messages))
}

proptest! {
    #[test]
    fn data_reads_back_and_no_part_of_it_passes_for_more(sent in sent(), cut: prop::sample::Index) {
        let bytes = write(&sent);
        let back = read(&bytes);
        prop_assert_eq!(back.as_ref(), Some(&sent));
        let part = read(&bytes[..cut.index(bytes.len())]);
        prop_assert!(part.is_none_or(|part| part.0 == sent.0 && sent.1.starts_with(&part.1)), "whole messages only");
    }

    #[test]
    fn damage_does_no_harm(sent in sent(), at: prop::sample::Index, flip in 1..=255u8) {
        let mut bytes = write(&sent);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Some(damaged) = read(&bytes) {
            let back = read(&write(&damaged));
            prop_assert_eq!(back, Some(damaged), "what is read is written to the same again");
        }
    }

    #[test]
    fn each_part_of_a_frame_that_goes_two_ways_has_what_is_its_own(sent in sent(), first: u8) {
        let bytes = write(&sent);
        let Ok(Frame::Data(data)) = Frame::read(&bytes) else { return Err(TestCaseError::fail("unreadable")) };
        let here: Vec<bool> = (0..sent.0.len()).map(|place| first & 1 << place != 0).collect();
        for wanted in [here.clone(), here.iter().map(|here| !here).collect()] {
            if !wanted.contains(&true) {
                continue;
            }
            let mut part = Vec::new();
            data.write_part(&mut part, &wanted);
            let Ok(Frame::Data(half)) = Frame::read(&part) else { return Err(TestCaseError::fail("half unreadable")) };
            prop_assert_eq!((half.hops, half.origin, half.instance), (data.hops - 1, data.origin, data.instance));
            let got: Vec<_> = half
                .messages()
                .flat_map(|message| {
                    let to: Vec<_> = message.targets().collect();
                    to.into_iter().map(move |to| (to, message.body)).collect::<Vec<_>>()
                })
                .map(|(to, body)| (half.targets[usize::from(to.target)].clone(), to.number, to.head.to_vec(), body.to_vec()))
                .collect();
            let all = sent.1.iter().flat_map(|(to, body)| to.iter().map(move |to| (to, body)));
            let want: Vec<_> = all
                .filter(|((place, ..), _)| wanted[usize::from(*place)])
                .map(|((place, number, head), body)| {
                    (sent.0[usize::from(*place)].clone(), *number, head.clone(), body.clone())
                })
                .collect();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn tags_hold_however_a_frame_is_split_and_for_nobody_else(sent in sent(), first: u8, at: prop::sample::Index, flip in 1..=255u8) {
        let keys = |from: u8, to: u8| {
            let standing = |n| Standing::of(&Identity::from_seed(&[n; 32]));
            standing(from).pair(&standing(to).public(), &[from; 32], &[to; 32]).unwrap()
        };
        let pairs: Vec<(NodeId, Pair, Pair)> =
            sent.0.iter().zip(10u8..).map(|(target, n)| (target.id, keys(1, n), keys(n, 1))).collect();
        let of = |id: NodeId| pairs.iter().find(|(of, ..)| *of == id).unwrap();
        let (mut bytes, mut scratch) = (write(&sent), Vec::new());
        put_tags(&mut bytes, |id| Some(&of(id).1.ours), &mut scratch);
        let Ok(Frame::Data(data)) = Frame::read(&bytes) else { return Err(TestCaseError::fail("unreadable")) };
        let mut wanted: Vec<bool> = (0..sent.0.len()).map(|place| first & 1 << place != 0).collect();
        wanted[0] = true;
        let mut part = Vec::new();
        data.write_part(&mut part, &wanted);
        for frame in [&bytes, &part] {
            let Ok(Frame::Data(data)) = Frame::read(frame) else { return Err(TestCaseError::fail("unreadable")) };
            for (target, place) in data.targets.iter().zip(0..) {
                prop_assert!(data.holds(target, place, &of(target.id).2.theirs, &mut scratch));
                prop_assert!(!data.holds(target, place, &of(target.id).2.ours, &mut scratch));
            }
        }
        // Whatever is changed behind the number of targets, somebody notices; and with one target, that one.
        let mut lie = bytes.clone();
        let at = TARGETS_AT + at.index(bytes.len() - TARGETS_AT);
        lie[at] ^= flip;
        if let Ok(Frame::Data(lie)) = Frame::read(&lie) {
            let mut fooled = lie.targets.iter().zip(0..).filter(|(target, _)| pairs.iter().any(|(id, ..)| *id == target.id));
            prop_assert!(!fooled.all(|(target, place)| lie.holds(target, place, &of(target.id).2.theirs, &mut scratch))
                || lie.targets.iter().any(|target| pairs.iter().all(|(id, ..)| *id != target.id)));
        }
    }

    #[test]
    fn any_bytes_do_no_harm(kind in 0..5u8, rest in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = vec![kind];
        bytes.extend(rest);
        Frame::read(&bytes).ok();
    }
}

#[test]
fn records_and_numbers_read_back() {
    let records = [(1, &b"one"[..]), (70_000, b"three")];
    let frames = write_records(records.into_iter(), 1000);
    let Ok(Frame::Records(back)) = Frame::read(&frames[0]) else { panic!("unreadable") };
    assert_eq!(back, records);
    assert_eq!(write_records(records.into_iter(), 4).len(), 2, "cut into frames");
    assert!(
        (1..frames[0].len()).filter(|len| Frame::read(&frames[0][..*len]).is_ok()).eq([1, 10]),
        "whole records only"
    );
    let numbers = [(NodeId([3; 32]), 5), (NodeId([9; 32]), u64::MAX)];
    let Ok(Frame::Digest(back)) = Frame::read(&write_digest(numbers.into_iter())) else { panic!("unreadable") };
    assert_eq!(back, numbers);
}

#[test]
fn too_much_is_refused() {
    let many = write_digest((0..513).map(|n| (NodeId([0; 32]), n)));
    assert!(Frame::read(&many).is_err());
    assert!(Frame::read(&vec![DATA; FRAME_MAX + 1]).is_err());
    assert!(Frame::read(&[]).is_err() && Frame::read(&[LINK_KIND]).is_err());
    // A number beyond all numbers.
    let mut out = Vec::new();
    begin_data(&mut out, 1, NodeId([4; 32]), 77, 1);
    let (id, ack) = (NodeId([5; 32]), Ack::default());
    let tag = [0; TAG_LEN];
    Target { id, instance: 1, epoch: 1, peer_epoch: 1, asks: false, base: u64::MAX, ack, tag }.write(&mut out);
    begin_message(&mut out, 1);
    put_target(&mut out, 0, 1, &[]);
    put_body(&mut out, &[]);
    assert!(Frame::read(&out).is_err());
}
