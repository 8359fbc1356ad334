//! A message for several servers crosses each link once.

use crate::sim::{Line, Sim, ms};

#[test]
fn one_message_for_many_crosses_each_link_once() {
    // 0 - 1 - 2, then 3, 4, 5 behind 2 and 6, 7 behind 5.
    let mut sim = Sim::new(1, 8);
    for (a, b) in [(0, 1), (1, 2), (2, 3), (2, 4), (2, 5), (5, 6), (5, 7)] {
        sim.link(a, b, Line::fast());
    }
    let all = sim.all();
    sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
    sim.run(ms(1000));
    let before: Vec<u64> = sim.links.iter().map(|link| link.bulk[0] + link.bulk[1]).collect();
    let body = 100_000;
    let bytes: Vec<u64> = sim.links.iter().map(|link| link.bytes[0]).collect();
    sim.send(0, &[1, 3, 4, 6, 7], body);
    sim.run(ms(100));
    for at in [1, 3, 4, 6, 7] {
        sim.assert_delivered(0, at);
    }
    for (link, before) in sim.links.iter().zip(before) {
        assert_eq!(link.bulk[0] + link.bulk[1] - before, 1, "{:?}", link.ends);
    }
    for (link, before) in sim.links.iter().zip(bytes) {
        let carried = link.bytes[0] - before;
        assert!((body as u64..body as u64 + 2000).contains(&carried), "{:?}: {carried}", link.ends);
    }
}

#[test]
fn many_messages_for_many_share_frames_and_keep_their_order() {
    for seed in 0..5 {
        let mut sim = Sim::random(seed, 12);
        let all = sim.all();
        sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
        for _ in 0..300 {
            let targets: Vec<usize> = (1..12).filter(|_| sim.below(2) == 0).collect();
            let len = sim.below(3000);
            sim.send(0, &targets, len);
            let one = 1 + sim.below(11);
            sim.send(one, &[0, 1, 2, 3], 500);
            sim.run(ms(1));
        }
        sim.run(ms(2000));
        for at in 1..12 {
            sim.assert_delivered(0, at);
            (0..4).filter(|to| *to != at).for_each(|to| sim.assert_delivered(at, to));
        }
        sim.assert_no_fault();
    }
}
