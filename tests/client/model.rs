//! Random lives: people talk, come, go, lose links and restart, and the server is killed, all from one seed. Whoever stayed has heard all that
//! was acknowledged, once and in one order, and nobody sees a breach where there is none.

use crate::world::{World, password};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use secchat::client::effects::Start;
use secchat::client::event::Event;
use std::collections::BTreeSet;
use std::time::Duration;

const SEEDS: u64 = 40;
const PEOPLE: usize = 5;
/// These two never leave nor restart, though their links break.
const STEADY: [usize; 2] = [0, 1];

struct Life {
    world: World,
    rng: ChaCha20Rng,
    up: BTreeSet<usize>,
    inside: BTreeSet<usize>,
    said: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        let names = ["alice", "bob", "carol", "dave", "erin"];
        let mut world = World::of(&names);
        world.start(0, Start::Create { room: "den".into(), private: true, password: Some(password()) });
        world.enter(1);
        let rng = ChaCha20Rng::seed_from_u64(seed);
        Self { world, rng, up: (0..PEOPLE).collect(), inside: STEADY.into(), said: 0 }
    }

    fn pick(&mut self, below: usize) -> usize {
        usize::try_from(self.rng.next_u32()).unwrap() % below
    }

    fn step(&mut self) {
        let who = self.pick(PEOPLE);
        match self.pick(20) {
            0..=7 if self.inside.contains(&who) => {
                self.said += 1;
                let text = format!("word {}", self.said);
                self.world.type_line(who, &text);
            }
            8 | 9 => self.come_or_go(who),
            10 | 11 => self.lose(who),
            12 => self.restart(who),
            13 => {
                self.world.restart_server();
                self.up.clear();
            }
            14 => {
                let time = Duration::from_millis(u64::from(self.rng.next_u32() % 8000));
                self.world.pass(time);
            }
            15 => {
                self.world.held.insert(who);
            }
            16 => self.world.held.clear(),
            17 => self.connect(who),
            _ => self.world.run(),
        }
    }

    fn come_or_go(&mut self, who: usize) {
        if STEADY.contains(&who) || !self.up.contains(&who) {
            return;
        }
        if self.inside.remove(&who) {
            self.world.type_line(who, "/leave den");
        } else {
            self.inside.insert(who);
            self.world.clients[who].password = Some(password());
            self.world.type_line(who, "/join den");
        }
    }

    fn lose(&mut self, who: usize) {
        if self.up.remove(&who) {
            if self.pick(2) == 0 { self.world.cut(who) } else { self.world.cut_answers(who) }
        } else {
            self.connect(who);
        }
    }

    fn restart(&mut self, who: usize) {
        if !STEADY.contains(&who) && self.up.contains(&who) && self.world.clients[who].can_restart() {
            self.world.restart_client(who);
            self.inside.remove(&who);
        }
    }

    fn connect(&mut self, who: usize) {
        if self.up.insert(who) {
            self.world.connect(who);
        }
    }

    /// Everybody is back and time enough passes.
    fn settle(&mut self) {
        self.world.held.clear();
        self.world.run();
        (0..PEOPLE).for_each(|who| self.connect(who));
        for who in 0..PEOPLE {
            if self.world.clients[who].link_is_down() {
                self.world.connect(who);
            }
        }
        self.world.run();
        self.world.pass(Duration::from_secs(30));
    }
}

/// Texts that the log has, as their senders were told.
fn acknowledged(world: &World, who: usize) -> usize {
    world.clients[who].sent()
}

fn texts(world: &World, who: usize) -> Vec<String> {
    world.clients[who].heard().into_iter().map(|(from, text)| format!("{from}: {text}")).collect()
}

#[test]
fn nothing_acknowledged_is_lost_or_repeated_and_nothing_false_is_told() {
    let live = |worker: u64| {
        for seed in (worker..SEEDS).step_by(2) {
            let mut life = Life::new(seed);
            (0..120).for_each(|_| life.step());
            life.settle();
            check(&mut life, seed);
        }
    };
    std::thread::scope(|scope| [0, 1].map(|worker| scope.spawn(move || live(worker))).map(|life| life.join().unwrap()));
}

fn check(life: &mut Life, seed: u64) {
    let world = &mut life.world;
    for c in &world.clients {
        assert_eq!(c.integrity(), [""; 0], "seed {seed}: {}", c.name);
    }
    let [a, b] = STEADY.map(|who| texts(world, who));
    for (who, heard) in [(0, &a), (1, &b)] {
        let once: BTreeSet<_> = heard.iter().collect();
        assert_eq!(once.len(), heard.len(), "seed {seed}: {who} heard something twice");
        let other = acknowledged(world, 1 - who);
        let from_other = heard.iter().filter(|t| t.starts_with(if who == 0 { "bob" } else { "alice" })).count();
        assert_eq!(from_other, other, "seed {seed}: {who} heard all that the other was told is sent");
    }
    let others = |heard: &[String]| -> Vec<String> {
        heard.iter().filter(|t| !t.starts_with("alice") && !t.starts_with("bob")).cloned().collect()
    };
    assert_eq!(others(&a), others(&b), "seed {seed}: one order");
    world.clear();
    for who in STEADY {
        world.say(who, "/members");
    }
    let peers = |who: usize| {
        world.clients[who].pick(|e| match e {
            Event::Peers { peers, .. } => Some(peers.clone()),
            _ => None,
        })
    };
    assert_eq!(peers(0), peers(1), "seed {seed}: one tree");
}
