//! A mesh that nobody uses says little.

use std::time::Duration;

use crate::sim::{Sim, ms};

/// Bytes a second that a link of a quiet mesh of fifty carries, both ways together; pings are the driver's.
const QUIET: f64 = 1000.0;

#[test]
fn fifty_servers_in_random_meshes_find_each_other_and_fall_silent() {
    for seed in 0..2 {
        let mut sim = Sim::random(seed, 50);
        let all = sim.all();
        let took = sim.until(ms(3000), "all see each other", |sim| sim.is_whole(&all));
        sim.run(Duration::from_secs(30));
        let before: Vec<u64> = sim.links.iter().map(|link| link.bytes[0] + link.bytes[1]).collect();
        let seconds = 90;
        sim.run(Duration::from_secs(seconds));
        let rates: Vec<f64> = sim
            .links
            .iter()
            .zip(&before)
            .map(|(link, before)| (link.bytes[0] + link.bytes[1] - before) as f64 / seconds as f64)
            .collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let most = rates.iter().copied().fold(0.0, f64::max);
        println!(
            "seed {seed}: whole after {took:?}; {} links, idle {mean:.0} bytes/s a link, at most {most:.0}",
            rates.len()
        );
        assert!(most < QUIET, "seed {seed}: {most} bytes a second");
        assert!(sim.is_whole(&all), "seed {seed}");
        assert!(sim.servers.iter().all(|server| server.downs.is_empty()), "seed {seed}: nobody goes");
        sim.assert_no_fault();
    }
}
