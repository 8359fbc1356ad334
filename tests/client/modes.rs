//! Which key agreement runs, and that both sides see it.

use crate::world::World;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use secchat::client::core::FileRules;
use secchat::client::effects::{ChannelStart, FilesEvent};
use secchat::client::event::Event;
use secchat::crypto::agreement::Mode;

const HYBRID: [Mode; 2] = [Mode::X25519MlKem768, Mode::X25519];
const SPLIT: [Mode; 3] = [Mode::RsaSplit, Mode::X25519MlKem768, Mode::X25519];

/// Alice fetches from bob; the first takes these modes, the second those.
fn fetch(alice: &[Mode], bob: &[Mode]) -> (World, u64) {
    let mut world = World::new();
    for (name, modes) in [("alice", alice), ("bob", bob)] {
        world.rules = FileRules { modes: modes.to_vec(), ..FileRules::default() };
        world.join_mesh(name);
    }
    world.clients[1].files.insert("x".into(), vec![1; 10]);
    let number = world.say(0, "@bob getfile x");
    (world, number)
}

fn starts(world: &mut World) -> (ChannelStart, ChannelStart) {
    let mut of = |client: usize| world.clients[client].channels.pop_first().unwrap().1.0;
    (of(0), of(1))
}

#[test]
fn the_strongest_that_both_take_runs_and_both_are_told() {
    for (alice, bob, ran) in [
        (&HYBRID[..], &HYBRID[..], "x25519+mlkem768"),
        (&[Mode::X25519], &HYBRID, "x25519"),
        (&HYBRID, &[Mode::X25519], "x25519"),
        (&HYBRID, &SPLIT, "x25519+mlkem768"),
    ] {
        let (mut world, number) = fetch(alice, bob);
        assert_eq!(world.clients[0].done[&number], 0);
        let (asker, holder) = starts(&mut world);
        assert_eq!((asker.mode.as_str(), holder.mode.as_str()), (ran, ran));
        assert!(asker.handover.is_none() && holder.handover.is_none());
        world.news(1, FilesEvent::Started { transfer: holder.transfer, route: "192.0.2.1:1".into() });
        for client in 0..2 {
            let told = world.clients[client].pick(|e| match e {
                Event::TransferStarted(t) => t.key_agreement.clone(),
                _ => None,
            });
            assert_eq!(told, [ran], "client {client}");
        }
    }
}

#[test]
fn without_a_common_mode_nothing_is_sent() {
    let (world, number) = fetch(&[Mode::X25519MlKem768], &[Mode::X25519]);
    assert_eq!((world.clients[0].errors(), world.clients[0].done[&number]), (vec!["bad_request".to_owned()], 6));
    assert!(world.clients.iter().all(|c| c.channels.is_empty()));
}

#[test]
fn a_split_key_is_handed_over_between_the_two_and_ends_in_other_keys() {
    let (mut world, _) = fetch(&SPLIT, &SPLIT);
    let (asker, holder) = starts(&mut world);
    assert_eq!((asker.mode.as_str(), holder.mode.as_str()), ("rsa-split", "rsa-split"));
    let (mut at_asker, mut at_holder) = (asker.handover.unwrap(), holder.handover.unwrap());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let taken = at_holder.take(&mut rng, &at_asker.first().unwrap()).unwrap();
    let opened = at_asker.take(&mut rng, &taken.reply.unwrap()).unwrap();
    let (a, b) = (opened.keys.unwrap(), taken.keys.unwrap());
    assert_eq!((*a.send, *a.receive), (*b.receive, *b.send));
    assert_ne!(*a.send, *asker.send);
    // The request named everything but x, which went over no server.
    let x = at_asker.first().unwrap();
    assert!(!world.received.windows(x.len()).any(|window| window == x.as_slice()));
}

#[test]
fn who_wished_for_another_agreement_than_runs_is_told_once() {
    let notices = |alice: &[Mode], bob: &[Mode]| {
        fetch(alice, bob).0.clients[0].pick(|e| match e {
            Event::Notice { from, text } if from == "key_agreement" => Some(text.clone()),
            _ => None,
        })
    };
    assert_eq!(notices(&HYBRID, &[Mode::X25519]), ["bob@s1 does not take x25519+mlkem768, so x25519 runs"]);
    assert!(notices(&HYBRID, &SPLIT).is_empty());
}
