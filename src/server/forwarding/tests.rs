//! What honest sides, strangers and thieves get of a relay.

use super::*;
use crate::crypto::identity::Identity;
use crate::limits::RELAY_DAY;
use crate::wire::leg::LegDatagram;

const NOW: Duration = Duration::from_secs(1000);
const A: LegId = [0xa; 8];
const B: LegId = [0xb; 8];
const TOKENS: ([u8; 32], [u8; 32]) = ([1; 32], [2; 32]);
const CROSSED: ([u8; 32], [u8; 32]) = ([2; 32], [1; 32]);

fn user(seed: u8) -> PublicKey {
    Identity::from_seed(&[seed; 32]).public()
}

fn key(seed: u8) -> LegKey {
    LegKey::new([seed; 32])
}

fn place(port: u16) -> Place {
    Place::Udp { socket: 0, addr: ([192, 0, 2, 1], port).into() }
}

/// What a bind is answered.
fn ask(relay: &mut Forwarding, id: LegId, counter: u64, with: &LegKey, from: Place) -> Option<LegDatagram> {
    let question = leg::bind(id, counter, with);
    let answer = relay.bind(NOW, id, counter, &question, from, 0)?;
    assert!(leg::is_genuine(&answer, with) && answer.len() <= question.len());
    LegDatagram::decode(&answer)
}

/// Binds, and once more under the next counter where that is to prove the address.
fn bind(relay: &mut Forwarding, id: LegId, counter: u64, with: &LegKey, from: Place) -> bool {
    match ask(relay, id, counter, with, from) {
        Some(LegDatagram::Prove(leg, wanted)) => {
            assert_eq!((leg, wanted), (id, counter + 1));
            ask(relay, id, wanted, with, from) == Some(LegDatagram::Bound(id, wanted))
        }
        answer => answer == Some(LegDatagram::Bound(id, counter)),
    }
}

/// Two sides, registered and bound: A at port 1, B at port 2.
fn paired(limits: RelayLimits) -> Forwarding {
    let mut relay = Forwarding::new(limits, NOW);
    relay.register(NOW, user(1), TOKENS, (A, key(1))).unwrap();
    relay.register(NOW, user(2), CROSSED, (B, key(2))).unwrap();
    assert!(bind(&mut relay, A, 1, &key(1), place(1)) && bind(&mut relay, B, 1, &key(2), place(2)));
    relay
}

#[test]
fn two_sides_that_know_both_tokens_reach_each_other_and_nobody_else_does() {
    let mut relay = paired(RelayLimits::default());
    assert_eq!(relay.forward(NOW, A, 100, place(1)), Some((place(2), B)));
    assert_eq!(relay.forward(NOW, B, 100, place(2)), Some((place(1), A)));
    assert_eq!(relay.forward(NOW, A, 100, place(3)), None, "a leg's number alone sends nothing");
    assert_eq!(relay.forward(NOW, A, 100, Place::Udp { socket: 1, addr: ([192, 0, 2, 1], 1).into() }), None);
    assert_eq!(relay.forward(NOW, [9; 8], 100, place(1)), None);
    let counts = ForwardingCounts { legs: 2, bytes: 200, refused: 3, tickets: 2, paired: 2, ..relay.counts() };
    assert_eq!(relay.counts(), counts);
    assert_eq!(counts.carried.iter().sum::<u64>(), 2);
}

#[test]
fn nothing_leaves_before_both_sides_are_bound() {
    let mut relay = Forwarding::new(RelayLimits::default(), NOW);
    relay.register(NOW, user(1), TOKENS, (A, key(1))).unwrap();
    assert_eq!(relay.forward(NOW, A, 100, place(1)), None);
    assert!(bind(&mut relay, A, 1, &key(1), place(1)));
    assert_eq!(relay.forward(NOW, A, 100, place(1)), None, "unpaired");
    relay.register(NOW, user(2), CROSSED, (B, key(2))).unwrap();
    assert_eq!(relay.forward(NOW, A, 100, place(1)), None, "the other side is nowhere yet");
    assert!(bind(&mut relay, B, 1, &key(2), place(2)));
    assert_eq!(relay.forward(NOW, A, 100, place(1)), Some((place(2), B)));
}

#[test]
fn an_address_changes_only_by_a_genuine_newer_bind() {
    let mut relay = paired(RelayLimits::default());
    assert!(!bind(&mut relay, A, 2, &key(2), place(9)), "another leg's key");
    assert!(!bind(&mut relay, A, 1, &key(1), place(9)), "a replayed bind");
    assert!(!bind(&mut relay, [9; 8], 2, &key(1), place(9)), "no leg");
    let stolen = leg::bind(A, 2, &key(1));
    assert_eq!(relay.bind(NOW, B, 2, &stolen, place(9), 0), None, "for another leg");
    assert_eq!(relay.forward(NOW, A, 1, place(1)), Some((place(2), B)));
    assert!(bind(&mut relay, A, 7, &key(1), place(9)));
    assert_eq!(relay.forward(NOW, A, 1, place(1)), None);
    assert_eq!(relay.forward(NOW, B, 1, place(2)), Some((place(9), A)));
}

#[test]
fn nothing_goes_to_an_address_before_somebody_there_has_read_our_answer() {
    let mut relay = paired(RelayLimits::default());
    let mut told = |counter, from, random| {
        let question = leg::bind(A, counter, &key(1));
        let answer = relay.bind(NOW, A, counter, &question, from, random);
        (answer.and_then(|answer| LegDatagram::decode(&answer)), relay.forward(NOW, B, 1, place(2)).unwrap().0)
    };
    // A false source, which is told what to say and does not hear it.
    let (answer, leads) = told(10, place(9), u64::MAX);
    let Some(LegDatagram::Prove(A, wanted)) = answer else { panic!("{answer:?}") };
    assert!(leads == place(1) && wanted > 10 + (1 << 47));
    for guess in 11..1000 {
        assert_eq!(told(guess, place(9), 0), (Some(LegDatagram::Prove(A, wanted)), place(1)));
    }
    let (other, leads) = told(wanted, place(8), 5 << 16);
    assert_eq!((other, leads), (Some(LegDatagram::Prove(A, wanted + 6)), place(1)), "it was said to another address");
    assert_eq!(told(wanted + 6, place(8), 0), (Some(LegDatagram::Bound(A, wanted + 6)), place(8)));
    assert_eq!(told(wanted + 7, place(8), 0), (Some(LegDatagram::Bound(A, wanted + 7)), place(8)), "that is known");
    assert_eq!(told(u64::MAX, place(9), 0), (None, place(8)), "no counter is above it");
}

#[test]
fn who_knows_a_token_takes_nothing_over_and_nobody_is_paired_with_oneself() {
    let mut relay = paired(RelayLimits::default());
    assert_eq!(relay.register(NOW, user(3), TOKENS, ([3; 8], key(3))), Err(NoLeg::Taken));
    assert_eq!(relay.register(NOW, user(3), ([5; 32], [5; 32]), ([3; 8], key(3))), Err(NoLeg::Oneself));
    relay.register(NOW, user(3), ([5; 32], [6; 32]), ([3; 8], key(3))).unwrap();
    assert_eq!(relay.register(NOW, user(3), ([6; 32], [5; 32]), ([4; 8], key(3))), Err(NoLeg::Oneself));
    // A third one who names a token of the pair is not their peer.
    relay.register(NOW, user(4), ([7; 32], [1; 32]), ([5; 8], key(4))).unwrap();
    assert!(bind(&mut relay, [5; 8], 1, &key(4), place(5)));
    assert_eq!(relay.forward(NOW, [5; 8], 1, place(5)), None);
    assert_eq!(relay.forward(NOW, A, 1, place(1)), Some((place(2), B)));
}

#[test]
fn a_leg_is_at_a_link_only_where_its_own_user_is_logged_in() {
    let mut relay = paired(RelayLimits::default());
    assert!(!relay.bind_link(NOW, A, user(2), 7), "the other side");
    assert!(!relay.bind_link(NOW, [9; 8], user(1), 7));
    assert!(relay.bind_link(NOW, A, user(1), 7));
    assert_eq!(relay.forward(NOW, B, 1, place(2)), Some((Place::Link(7), A)));
    assert_eq!(relay.forward(NOW, A, 1, Place::Link(7)), Some((place(2), B)));
    assert_eq!(relay.forward(NOW, A, 1, Place::Link(8)), None, "another link");
    assert_eq!(relay.forward(NOW, A, 1, place(1)), None, "where it was before");
    assert!(bind(&mut relay, A, 3, &key(1), place(1)), "and back");
    assert_eq!(relay.forward(NOW, B, 1, place(2)), Some((place(1), A)));
}

#[test]
fn who_registers_anew_is_found_again() {
    let mut relay = paired(RelayLimits::default());
    relay.register(NOW, user(1), TOKENS, ([3; 8], key(3))).unwrap();
    assert_eq!(relay.forward(NOW, A, 1, place(1)), None, "the old leg is gone");
    assert!(bind(&mut relay, [3; 8], 1, &key(3), place(3)));
    assert_eq!(relay.forward(NOW, B, 1, place(2)), Some((place(3), [3; 8])));
    assert_eq!(relay.counts().legs, 2);
}

#[test]
fn idle_and_unpaired_legs_end() {
    let mut relay = paired(RelayLimits::default());
    let unpaired = ([8; 32], [9; 32]);
    relay.register(NOW, user(3), unpaired, ([3; 8], key(3))).unwrap();
    relay.tidy(NOW + RELAY_IDLE - Duration::from_secs(1));
    assert_eq!(relay.counts().legs, 3);
    relay.forward(NOW + RELAY_IDLE - Duration::from_secs(1), A, 1, place(1));
    relay.tidy(NOW + RELAY_IDLE);
    assert_eq!(relay.counts().legs, 2, "B was silent");
    assert_eq!(relay.forward(NOW + RELAY_IDLE, A, 1, place(1)), None);
    relay.tidy(NOW + RELAY_UNPAIRED);
    assert_eq!(relay.counts().legs, 0);
    assert!(relay.tokens.is_empty());
}

#[test]
fn legs_of_who_has_left_go_on_for_a_while_only() {
    let mut relay = paired(RelayLimits::default());
    let legs_at = |relay: &mut Forwarding, now: Duration| {
        relay.forward(now, A, 1, place(1));
        relay.forward(now, B, 1, place(2));
        relay.tidy(now);
        relay.counts().legs
    };
    relay.stay(NOW, user(1), Stay::Away);
    relay.stay(NOW, user(3), Stay::Away);
    let (step, mut now) = (RELAY_IDLE / 2, NOW);
    let mut pass = |relay: &mut Forwarding, time: Duration| {
        (0..time.as_secs() / step.as_secs())
            .map(|_| {
                legs_at(relay, {
                    now += step;
                    now
                })
            })
            .last()
    };
    assert_eq!(pass(&mut relay, RELAY_AWAY / 2), Some(2));
    relay.stay(NOW, user(1), Stay::Here);
    assert_eq!(pass(&mut relay, RELAY_AWAY * 2), Some(2), "back in time");
    relay.stay(NOW + RELAY_AWAY, user(1), Stay::Away);
    assert_ne!(pass(&mut relay, RELAY_AWAY * 2), Some(2));
    let mut relay = paired(RelayLimits::default());
    relay.stay(NOW, user(2), Stay::Out);
    assert_eq!((relay.counts().legs, relay.forward(NOW, A, 1, place(1))), (1, None));
}

#[test]
fn legs_are_bounded_for_each_user_and_in_all() {
    let mut relay = Forwarding::new(RelayLimits::default(), NOW);
    let register = |relay: &mut Forwarding, who: u8, n: usize| {
        let (mut own, mut id) = ([who; 32], [who; 8]);
        own[..8].copy_from_slice(&n.to_be_bytes());
        id[..4].copy_from_slice(&u32::try_from(n).unwrap().to_be_bytes());
        relay.register(NOW, user(who), (own, [0; 32]), (id, key(1)))
    };
    let made = (0..1000).filter(|n| register(&mut relay, 1, *n).is_ok()).count();
    assert_eq!(made, RELAY_LEGS_PER_USER);
    let mut all = made;
    for who in 2..=200 {
        all += (0..RELAY_LEGS_PER_USER).filter(|n| register(&mut relay, who, *n).is_ok()).count();
    }
    assert_eq!(all, RELAY_LEGS);
    relay.tidy(NOW + RELAY_UNPAIRED);
    assert!(relay.legs.is_empty() && relay.tokens.is_empty() && relay.users.is_empty());
}

#[test]
fn rates_and_days_are_charged_to_who_sends() {
    let limits = RelayLimits { user_rate: 1000, rate: 1500, user_bytes: 3000, bytes: 1 << 40 };
    let mut relay = paired(limits);
    let mut sent = |from: LegId, port: u16, second: u64| {
        let at = |n: u64| NOW + Duration::from_secs(second) + Duration::from_millis(n);
        (0..1000).filter(|n| relay.forward(at(*n), from, 10, place(port)).is_some()).count() * 10
    };
    let first = sent(A, 1, 0);
    assert!((900..=1200).contains(&first), "{first}");
    let other = sent(B, 2, 1);
    assert!((900..=1200).contains(&other), "the other side's rate is its own: {other}");
    let rest: usize = (2..10).map(|second| sent(A, 1, second)).sum();
    assert_eq!(first + rest, 3000, "the day's worth");
    assert!(sent(A, 1, 24 * 3600) > 0, "and the next day's");
    assert!(relay.counts().limited > 0);
    let mut both = paired(RelayLimits { user_rate: 1000, rate: 1000, ..limits });
    let each = [(A, 1), (B, 2)];
    let at = |n: u64| NOW + Duration::from_millis(n / 2);
    let all = (0..2000).filter(|n| {
        let (leg, port) = each[usize::from(n % 2 == 0)];
        both.forward(at(*n), leg, 10, place(port)).is_some()
    });
    let all = all.count() * 10;
    assert!((900..=1200).contains(&all), "in all: {all}");
}

#[test]
fn a_server_that_relays_nothing_says_so() {
    let mut relay = Forwarding::new(RelayLimits { user_rate: 0, ..RelayLimits::default() }, NOW);
    assert_eq!(relay.register(NOW, user(1), TOKENS, (A, key(1))), Err(NoLeg::Off));
    let mut relay = Forwarding::new(RelayLimits { user_bytes: 0, ..RelayLimits::default() }, NOW);
    assert_eq!(relay.register(NOW, user(1), TOKENS, (A, key(1))), Err(NoLeg::Off));
}

#[test]
fn who_has_used_up_the_day_is_told_and_so_is_the_other_side() {
    let mut relay = paired(RelayLimits { user_bytes: 100, ..RelayLimits::default() });
    assert!(relay.forward(NOW, A, 100, place(1)).is_some());
    let anew = |relay: &mut Forwarding, now, who, tokens| relay.register(now, user(who), tokens, ([who; 8], key(7)));
    assert_eq!(anew(&mut relay, NOW, 2, CROSSED), Err(NoLeg::Spent), "joined with who has");
    assert_eq!(anew(&mut relay, NOW, 1, TOKENS), Err(NoLeg::Spent));
    assert_eq!(anew(&mut relay, NOW, 1, ([8; 32], [9; 32])), Err(NoLeg::Spent));
    assert_eq!(anew(&mut relay, NOW, 3, ([8; 32], [9; 32])), Ok(()), "others have a day of their own");
    assert_eq!(anew(&mut relay, NOW + RELAY_DAY, 1, TOKENS), Ok(()));
}

#[test]
fn other_limits_hold_at_once_and_what_was_used_of_the_day_counts() {
    let limits = RelayLimits { user_rate: 1000, rate: 1 << 20, user_bytes: 1000, bytes: 1 << 40 };
    let mut relay = paired(limits);
    let mut now = NOW;
    let sent = |relay: &mut Forwarding, now: &mut Duration, seconds: u64| {
        let steps = (0..seconds * 100).filter(|_| {
            *now += Duration::from_millis(10);
            relay.forward(*now, A, 10, place(1)).is_some()
        });
        steps.count() * 10
    };
    assert_eq!(sent(&mut relay, &mut now, 3), 1000, "the day's worth");
    relay.set_limits(now, RelayLimits { user_bytes: 1500, ..limits });
    assert_eq!(sent(&mut relay, &mut now, 3), 500, "more of a day, less what was used");
    relay.set_limits(now, RelayLimits { user_rate: 100, user_bytes: 1 << 40, ..limits });
    let slow = sent(&mut relay, &mut now, 10);
    assert!((900..=1200).contains(&slow), "{slow}");
    relay.set_limits(now, RelayLimits { user_rate: 0, ..limits });
    assert_eq!(sent(&mut relay, &mut now, 3), 0);
    assert_eq!(relay.register(now, user(3), ([8; 32], [9; 32]), ([3; 8], key(3))), Err(NoLeg::Off));
    relay.set_limits(now, RelayLimits { user_bytes: 1 << 40, ..limits });
    assert!(sent(&mut relay, &mut now, 1) > 0, "the legs are there still");
}

#[test]
fn nobody_has_more_passed_through_a_server_than_over_it() {
    let limits = RelayLimits { user_rate: 1000, rate: 1500, user_bytes: 3000, bytes: 1 << 40 };
    let mut relay = Forwarding::new(limits, NOW);
    let mut passed = |who: u8, second: u64| {
        let at = |n: u64| NOW + Duration::from_secs(second) + Duration::from_millis(n);
        (0..1000).filter(|n| relay.transit(at(*n), user(who), 10)).count() * 10
    };
    let first = passed(1, 0);
    assert!((900..=1200).contains(&first), "{first}");
    let rest: usize = (1..10).map(|second| passed(1, second)).sum();
    assert_eq!(first + rest, 3000);
    assert!(passed(2, 10) > 0, "each has an allowance");
    let counts = relay.counts();
    assert!(counts.bytes > 3000 && counts.limited > 0);
    let mut off = Forwarding::new(RelayLimits { rate: 0, ..limits }, NOW);
    assert!(!off.transit(NOW, user(1), 1), "a server that relays nothing lets nothing pass either");
}
