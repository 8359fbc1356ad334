//! Paths by themselves: who is probed, who is chosen.

use super::*;

const NOW: Duration = Duration::from_secs(1);

fn addr(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

#[test]
fn strangers_by_the_thousand_take_no_more_memory_and_push_no_candidate_out() {
    let mut paths = Paths::new(true, [1; 32]);
    let taken = (1..100).filter(|port| paths.add_candidate(NOW, addr(*port))).count();
    assert_eq!(taken, MAX_CANDIDATES);
    paths.on_received(NOW, &addr(500), 1200);
    paths.on_traffic(NOW, &addr(500), 1);
    for port in 1000..5000 {
        paths.on_received(NOW, &addr(port), 1200);
    }
    assert!(paths.known.len() <= MAX_PATHS);
    assert_eq!(paths.known.iter().filter(|path| path.candidate).count(), MAX_CANDIDATES);
    assert!(paths.find(addr(500)).is_some(), "the address in use stays");
}

#[test]
fn only_a_true_answer_validates_and_only_once() {
    let mut paths = Paths::new(true, [1; 32]);
    paths.add_candidate(NOW, addr(1));
    let (to, token) = paths.next_challenge(NOW, 1200).unwrap();
    assert_eq!(to, addr(1));
    assert_eq!(paths.next_challenge(NOW, 1200), None);
    let mut wrong = token;
    wrong[7] ^= 1;
    assert_eq!(paths.on_response(NOW, wrong), None);
    assert_eq!(paths.active(), None);
    let later = NOW + Duration::from_millis(30);
    assert_eq!(paths.on_response(later, token), Some((Duration::from_millis(30), true)));
    assert_eq!(paths.on_response(later, token), None);
    assert_eq!(paths.active(), Some(addr(1)));
    assert_eq!(paths.next_probe_at(), None);
}

#[test]
fn the_sender_waits_for_the_receivers_choice() {
    let mut paths = Paths::new(false, [1; 32]);
    let mut tokens = Vec::new();
    for port in [1, 2] {
        paths.add_candidate(NOW, addr(port));
        tokens.extend(paths.next_challenge(NOW + SPREAD * u32::from(port), 1200));
    }
    for (_, token) in tokens {
        assert_eq!(paths.on_response(NOW, token).map(|(_, changed)| changed), Some(false));
    }
    assert!(paths.on_traffic(NOW, &addr(2), 7));
    assert_eq!(paths.active(), Some(addr(2)));
    assert!(!paths.on_traffic(NOW, &addr(1), 6), "an older packet moves nothing");
    assert_eq!(paths.active(), Some(addr(2)));
}

#[test]
fn who_challenges_the_asker_is_told_something_early_within_the_limit() {
    for chooses in [true, false] {
        let mut paths = Paths::new(chooses, [1; 32]);
        paths.on_received(NOW, &addr(1), 1_200);
        assert_eq!(paths.promising(1_200), None, "it has not asked for anything");
        paths.on_challenge(NOW, addr(1), [7; 8]);
        let mut sent = 0;
        while let Some(to) = paths.promising(1_200) {
            assert_eq!(to, addr(1));
            paths.spend(to, 1_200);
            sent += 1_200;
        }
        assert_eq!(sent, if chooses { 3 * 1_200 } else { 0 });
        assert_eq!(paths.active(), None);
    }
}

#[test]
fn who_chose_a_path_leaves_it_only_when_it_is_silent() {
    let mut paths = Paths::new(true, [1; 32]);
    let (chosen, other) = (addr(1), addr(2));
    paths.add_candidate(NOW, chosen);
    paths.add_candidate(NOW, other);
    let challenges = [NOW, NOW + SPREAD].map(|at| paths.next_challenge(at, 1_200).unwrap());
    assert_eq!(challenges.map(|(to, _)| to), [chosen, other]);
    // The sender does not know yet that the first to answer was chosen.
    paths.on_traffic(NOW, &other, 1);
    let changes = challenges.map(|(_, token)| paths.on_response(NOW + SPREAD, token).unwrap().1);
    assert_eq!((changes, paths.active()), ([true, false], Some(chosen)));
    assert!(!paths.on_traffic(NOW + SPREAD, &other, 2));
    paths.on_received(NOW + FOLLOWS, &chosen, 1_200);
    assert!(!paths.on_traffic(NOW + FOLLOWS * 2 - SPREAD, &other, 3));
    assert!(paths.on_traffic(NOW + FOLLOWS * 2, &other, 4), "it has gone there for good");
    assert_eq!(paths.active(), Some(other));
}

#[test]
fn a_path_that_falls_silent_is_looked_for_at_every_address_and_the_first_that_answers_is_taken() {
    let mut paths = Paths::new(true, [1; 32]);
    let (chosen, other) = (addr(1), addr(2));
    paths.add_candidate(NOW, chosen);
    paths.add_candidate(NOW, other);
    let (_, token) = paths.next_challenge(NOW, 1_200).unwrap();
    assert_eq!(paths.on_response(NOW, token), Some((Duration::ZERO, true)));
    paths.look_around(NOW + SEARCH_AFTER / 2);
    assert_eq!(paths.next_challenge(NOW + SEARCH_AFTER / 2, 1_200), None, "it may yet speak");
    let later = paths.look_at().unwrap();
    paths.look_around(later);
    let (to, _) = paths.next_challenge(later, 1_200).unwrap();
    let (next, token) = paths.next_challenge(later + PACE, 1_200).unwrap();
    assert_eq!([to, next], [chosen, other]);
    assert!(paths.on_response(later + PACE, token).unwrap().1);
    assert_eq!(paths.active(), Some(other));
    assert_eq!(paths.next_challenge(later + PACE * 2, 1_200), None);
}

#[test]
fn who_follows_opens_its_way_but_does_not_choose() {
    let mut paths = Paths::new(false, [1; 32]);
    paths.add_candidate(NOW, addr(1));
    paths.add_candidate(NOW, addr(2));
    let (_, token) = paths.next_challenge(NOW, 1_200).unwrap();
    paths.on_response(NOW, token);
    assert!(paths.on_traffic(NOW, &addr(1), 1));
    let later = paths.look_at().unwrap();
    paths.look_around(later);
    let (mut now, mut sent) = (later, 0);
    while now < later + SEARCH_AGAIN {
        let Some((to, token)) = paths.next_challenge(now, 1_200) else {
            now += PACE;
            continue;
        };
        sent += 1;
        if to == addr(2) {
            assert!(!paths.on_response(now, token).unwrap().1);
        }
    }
    assert!(sent <= 2 * SEARCH_PROBES, "{sent}");
    assert_eq!(paths.active(), Some(addr(1)));
    assert!(paths.on_traffic(now, &addr(2), 2), "it goes where the peer is");
}

#[test]
fn challenges_cannot_be_foretold_from_each_other() {
    let (mut ours, mut other) = (Tokens { key: [1; 32], count: 0 }, Tokens { key: [2; 32], count: 0 });
    assert_ne!(ours.next(), other.next());
    assert_ne!(ours.next(), ours.next());
}

/// One that chooses, or not, with a direct candidate and a detour, of which the detour has answered.
fn on_a_detour(chooses: bool) -> Paths {
    let mut paths = Paths::new(chooses, [1; 32]);
    paths.add_detour(NOW, addr(9));
    let (to, token) = paths.next_challenge(NOW, 1_200).unwrap();
    assert_eq!(to, addr(9));
    paths.on_response(NOW, token);
    if !chooses {
        assert!(paths.on_traffic(NOW, &addr(9), 1));
    }
    paths.add_candidate(NOW, addr(1));
    assert_eq!(paths.active(), Some(addr(9)));
    paths
}

/// What is sent to the direct candidate until then, while the detour works.
fn challenges(paths: &mut Paths, from: Duration, to: Duration) -> Vec<(Duration, [u8; 8])> {
    let (mut now, mut sent) = (from, Vec::new());
    while now < to {
        paths.on_received(now, &addr(9), 100);
        paths.look_around(now);
        while let Some((where_to, token)) = paths.next_challenge(now, 1_200) {
            assert_eq!(where_to, addr(1));
            sent.push((now, token));
        }
        now += Duration::from_millis(10);
    }
    sent
}

#[test]
fn beside_a_detour_others_are_tried_often_at_first_and_seldom_later_and_taken_when_they_answer() {
    let mut paths = on_a_detour(true);
    let minute = Duration::from_secs(60);
    let first = challenges(&mut paths, NOW, NOW + minute);
    let later = challenges(&mut paths, NOW + minute, NOW + minute * 2);
    assert!(first.len() <= MAX_PROBES as usize + 15 && later.len() <= 12, "{} {}", first.len(), later.len());
    assert!(!later.is_empty());
    let (at, token) = *later.last().unwrap();
    assert!(paths.on_response(at + Duration::from_millis(30), token).unwrap().1);
    assert_eq!(paths.active(), Some(addr(1)));
    assert_eq!(paths.round_trip(), Some(Duration::from_millis(30)));
}

#[test]
fn who_has_never_answered_is_left_alone_in_the_end() {
    let mut paths = on_a_detour(true);
    let sent = challenges(&mut paths, NOW, NOW + Duration::from_secs(7_200)).len();
    assert!(sent <= MAX_IN_ALL as usize, "{sent}");
}

#[test]
fn who_chooses_goes_back_to_a_detour_only_from_a_path_that_is_silent() {
    let mut paths = on_a_detour(true);
    let (at, token) = challenges(&mut paths, NOW, NOW + PACE * 5)[0];
    assert!(paths.on_response(at, token).unwrap().1);
    let mut now = at;
    for number in 2..200 {
        now += Duration::from_millis(100);
        paths.on_received(now, &addr(1), 100);
        // The sender does not follow, or its datagrams are late.
        let later = now + FOLLOWS * 2;
        assert!(!paths.on_traffic(later, &addr(9), number));
    }
    let silent = paths.search_at().unwrap();
    paths.look_around(silent);
    assert!(paths.on_traffic(silent, &addr(9), 1_000));
    assert_eq!(paths.active(), Some(addr(9)));
}

#[test]
fn who_is_looked_for_on_the_path_in_use_tries_all_and_not_for_every_challenge() {
    for chooses in [true, false] {
        let mut paths = Paths::new(chooses, [1; 32]);
        let (used, other) = (addr(1), addr(2));
        paths.add_candidate(NOW, used);
        paths.add_detour(NOW, other);
        let tokens: Vec<_> = (0..2).map(|n| paths.next_challenge(NOW + SPREAD * n, 1_200).unwrap()).collect();
        let (_, token) = *tokens.iter().find(|(to, _)| *to == used).unwrap();
        paths.on_response(NOW + SPREAD, token);
        paths.on_traffic(NOW + SPREAD, &used, 1);
        assert_eq!(paths.active(), Some(used));
        paths.on_challenge(NOW + SETTLED / 2, used, [1; 8]);
        assert!(!paths.is_silent(), "it may not know yet that it was heard");
        let (mut now, mut sent) = (NOW + SETTLED * 2, 0);
        let until = now + Duration::from_secs(60);
        while now < until {
            // Its datagrams come; ours do not get there.
            paths.on_received(now, &used, 1_200);
            paths.on_challenge(now, used, [2; 8]);
            paths.look_around(now);
            assert!(paths.is_silent());
            while paths.next_challenge(now, 1_200).is_some() {
                sent += 1;
            }
            now += Duration::from_millis(10);
        }
        assert!((12..=2 * 12 * SEARCH_PROBES * 2).contains(&sent), "{sent}");
        paths.look_around(now + SOUGHT);
        assert!(!paths.is_silent());
    }
}
