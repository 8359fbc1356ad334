//! How much one may do, and the word before it is too much.

use super::*;
use crate::limits::{JOINS, LOGINS, ROOM_LISTS};

fn notices(world: &mut World, session: SessionId) -> usize {
    world.pushes(session).iter().filter(|p| matches!(p, Push::Notice { text } if text.contains("four fifths"))).count()
}

#[test]
fn who_has_used_most_of_an_allowance_is_told_once_before_it_is_refused() {
    let mut world = World::new();
    let bob = world.client(1, "bob");
    let many = usize::try_from(ROOM_LISTS).unwrap();
    for window in 0..2 {
        for n in 1..=many {
            assert!(matches!(world.request(bob.session, Request::Rooms), Reply::Rooms(_)), "{n}");
            assert_eq!(notices(&mut world, bob.session), usize::from(n == many * 4 / 5), "{n} of window {window}");
        }
        assert_eq!(world.refused(bob.session, Request::Rooms), Code::TooMany);
        assert_eq!(notices(&mut world, bob.session), 0);
        world.now += Duration::from_secs(60);
    }
}

#[test]
fn logins_are_counted_before_anything_else_of_them_is_looked_at() {
    let mut world = World::new();
    world.client(1, "bob");
    let mut codes = Vec::new();
    for _ in 0..LOGINS {
        let session = world.connect(&user(1));
        codes.extend(world.login_as(session, "no such name\x1b", 1).err().map(|refusal| refusal.code));
    }
    let refused = codes.iter().filter(|code| **code == Code::TooMany).count();
    assert_eq!((refused, codes.len()), (1, usize::try_from(LOGINS).unwrap()));
    let session = world.connect(&user(1));
    assert_eq!(world.login_as(session, "bob", 1).unwrap_err().code, Code::TooMany, "whatever it is");
    world.client(2, "carol");
    world.now += Duration::from_secs(60);
    world.client(1, "bob");
}

#[test]
fn who_logs_in_too_often_is_told_once_it_is_in() {
    let mut world = World::new();
    let told: Vec<bool> = (0..LOGINS)
        .map(|_| {
            let bob = world.client(1, "bob");
            notices(&mut world, bob.session) == 1
        })
        .collect();
    assert_eq!(told.iter().filter(|told| **told).count(), 1);
    assert!(told[usize::try_from(LOGINS * 4 / 5 - 1).unwrap()]);
}

#[test]
fn joins_are_counted_and_a_wary_server_takes_fewer() {
    let mut world = World::new();
    let bob = world.client(2, "bob");
    world.owner_asks(Ask::Defcon { level: 2 });
    let enter = Request::Enter { room: DEN, door: None };
    let taken = (0..JOINS).take_while(|_| world.refused(bob.session, enter.clone()) == Code::WrongRoomOrPassword);
    assert_eq!(taken.count(), usize::try_from(JOINS / 10).unwrap());
    world.owner_asks(Ask::Defcon { level: 5 });
    assert_eq!(world.refused(bob.session, enter), Code::WrongRoomOrPassword, "at once");
}
