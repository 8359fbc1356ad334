//! Owners and operators put people out: who sees what, what ends, and who has the secret afterwards.

use crate::world::{World, line, password};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use secchat::client::effects::{Input, Start};
use secchat::client::event::Event;
use secchat::crypto::secret::Secret;
use secchat::server;
use secchat::wire::admin::{Ask, Wish};
use secchat::wire::frame::{Push, ToClient};
use secchat::wire::log::RowKind;
use std::collections::BTreeSet;
use std::time::Duration;

impl World {
    /// An operator at the server's socket.
    fn operator(&mut self, ask: Ask) {
        self.feed_server(0, server::Input::Asked { ticket: 1, ask: Box::new(ask) });
        self.run();
    }

    fn operator_kicks(&mut self, name: &str) {
        self.operator(Ask::Kick { name: name.into(), room: Some("den".into()), reason: None });
    }

    /// Everybody hears everybody, and nobody else does.
    fn chats(&mut self, clients: &[usize]) {
        self.clear();
        for client in clients {
            let text = format!("from {client}");
            self.say(*client, &text);
            for other in clients.iter().filter(|other| *other != client) {
                let name = &self.clients[*client].name.clone();
                assert!(self.clients[*other].heard().contains(&line(name, &text)), "{other} of {client}");
            }
        }
        for (client, deaf) in self.clients.iter().enumerate().filter(|(client, _)| !clients.contains(client)) {
            assert!(deaf.heard().is_empty(), "{client}");
        }
        for client in clients {
            assert!(self.clients[*client].integrity().is_empty(), "{client}");
        }
        self.clear();
    }

    /// The newest secret that a client was told, as its owner.
    fn secret(&self, client: usize) -> Option<String> {
        let told = |e: &Event| match e {
            Event::SecretChanged { secret, .. } => secret.clone(),
            _ => None,
        };
        self.clients[client].pick(told).pop()
    }

    fn told_of_change(&self, client: usize) -> usize {
        self.clients[client].pick(|e| matches!(e, Event::SecretChanged { .. }).then_some(())).len()
    }

    fn gone(&self, client: usize) -> Vec<(String, String)> {
        self.clients[client].pick(|e| match e {
            Event::MemberLeft { name, reason, .. } => Some((name.clone(), reason.clone())),
            _ => None,
        })
    }

    fn left(&self, client: usize) -> Vec<String> {
        self.clients[client].pick(|e| match e {
            Event::Left { reason, .. } => Some(reason.clone()),
            _ => None,
        })
    }

    fn not_rotated(&self, client: usize) -> bool {
        self.clients[client].has(&Event::NotRotated { room: "den@s1".into() })
    }

    /// Whether somebody gets in with this secret.
    fn enters(&mut self, client: usize, secret: Option<&str>) -> bool {
        let password = secret.map_or_else(password, |secret| Secret::new(secret).unwrap());
        self.clients[client].events.clear();
        self.start(client, Start::Join { room: "den".into(), password: Some(password) });
        matches!(self.clients[client].last(), Some(Event::Joined { .. }))
    }
}

#[test]
fn an_owners_kick_changes_the_secret_in_the_same_commit() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    let kick = world.say(0, "/kick carol shouting");
    assert_eq!(world.clients[0].done[&kick], 0);
    assert_eq!(world.clients[2].heard(), [line("alice", "kick carol@s1: shouting")], "the reason, before the kick");
    assert_eq!(world.left(2), ["kicked"]);
    for other in 0..2 {
        assert_eq!(world.gone(other), [("carol@s1".into(), "kicked".into())]);
        assert_eq!(world.told_of_change(other), 1);
    }
    let secret = world.secret(0).expect("the owner is told");
    assert_eq!((secret.split('-').count(), world.secret(1)), (7, None));
    let page = world.servers[0].store.load().unwrap();
    let (room, commits) = (page.rooms[0].id, |kind| kind == RowKind::Commit);
    let rows = world.servers[0].store.page(&room, 0).unwrap().rows;
    // Two joins, and one commit for all of it.
    assert_eq!(rows.iter().filter(|row| commits(row.kind)).count(), 3);
    assert!(!world.received.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "no server sees it");
    world.chats(&[0, 1]);
    assert!(!world.enters(2, None));
    let dave = world.join_mesh("dave");
    assert!(!world.enters(dave, None), "under another name and key neither");
    assert!(world.enters(dave, Some(&secret)));
    // Who was there has the secret too: bob comes back with it.
    world.restart_server();
    (0..4).for_each(|client| world.connect(client));
    world.pass(Duration::from_secs(1));
    world.chats(&[0, 1, dave]);
    assert!((0..2).all(|client| !world.not_rotated(client)));
}

#[test]
fn an_operators_kick_is_committed_by_the_owner_with_the_new_secret() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.operator_kicks("carol");
    assert_eq!((world.left(2), world.gone(1)), (vec!["kicked".into()], vec![("carol@s1".into(), "kicked".into())]));
    assert_eq!((world.told_of_change(0), world.told_of_change(1)), (1, 1));
    let secret = world.secret(0).unwrap();
    let room = world.servers[0].store.load().unwrap().rooms[0].id;
    let rows = world.servers[0].store.page(&room, 0).unwrap().rows;
    assert_eq!(rows.iter().filter(|row| row.kind == RowKind::Commit).count(), 3, "in one commit");
    assert!(!world.enters(2, None) && world.enters(2, Some(&secret)), "a kick is no ban");
    world.chats(&[0, 1, 2]);
}

#[test]
fn a_kick_while_the_owner_is_away_is_followed_by_a_new_secret_when_it_is_back() {
    for process in ["same", "new"] {
        let mut world = World::den(&["alice", "bob", "carol", "dave"]);
        world.cut(0);
        world.operator_kicks("dave");
        world.pass(Duration::from_secs(4));
        assert_eq!(world.left(3), ["kicked"]);
        for member in [1, 2] {
            assert_eq!(world.gone(member), [("dave@s1".into(), "kicked".into())]);
            assert!(world.not_rotated(member) && world.told_of_change(member) == 0);
        }
        world.chats(&[1, 2]);
        // The old secret still opens the door, and who comes in with it is told.
        let erin = world.join_mesh("erin");
        assert!(world.enters(erin, None));
        world.pass(Duration::from_secs(10));
        assert!(world.not_rotated(erin));
        assert!(!world.enters(3, None), "but not for the key that was kicked");
        if process == "same" {
            world.connect(0);
        } else {
            world.restart_client(0);
            world.enter(0);
        }
        world.pass(Duration::from_secs(10));
        for member in [0, 1, 2, erin] {
            assert_eq!(world.told_of_change(member), 1, "{process} {member}");
        }
        let secret = world.secret(0).unwrap();
        let frank = world.join_mesh("frank");
        assert!(!world.enters(frank, None) && world.enters(frank, Some(&secret)));
        world.chats(&[0, 1, 2, erin, frank]);
    }
}

#[test]
fn a_moderator_kicks_and_the_owner_changes_the_secret() {
    let mut world = World::den(&["alice", "bob", "carol", "dave"]);
    let kick = world.say(1, "/kick carol");
    assert_eq!((world.clients[1].done[&kick], world.clients[1].errors()), (4, vec!["not_allowed".into()]));
    world.say(0, "/op bob");
    let role = Event::RoleChanged {
        room: "den@s1".into(),
        name: "bob@s1".into(),
        role: "moderator".into(),
        by: "alice@s1".into(),
    };
    assert!(world.clients.iter().all(|client| client.has(&role)));
    world.clear();
    let kick = world.say(1, "/kick carol");
    assert_eq!((world.clients[1].done[&kick], world.left(2)), (0, vec!["kicked".to_owned()]));
    assert_eq!((world.told_of_change(0), world.told_of_change(1), world.told_of_change(3)), (1, 1, 1));
    for (who, line) in [(1, "/kick alice"), (1, "/ban dave"), (1, "/topic mine"), (3, "/op dave"), (1, "/password")] {
        let number = world.say(who, line);
        assert_eq!(world.clients[who].done[&number], 4, "{line}");
    }
    assert!(!world.enters(2, None));
    world.chats(&[0, 1, 3]);
}

#[test]
fn two_kicks_at_once_put_both_out() {
    let mut world = World::den(&["alice", "bob", "carol", "dave"]);
    let first = world.type_line(0, "/kick carol");
    let second = world.type_line(0, "/kick dave");
    world.run();
    assert_eq!((world.clients[0].done[&first], world.clients[0].done[&second]), (0, 0));
    assert_eq!((world.left(2), world.left(3)), (vec!["kicked".to_owned()], vec!["kicked".to_owned()]));
    assert_eq!(world.told_of_change(1), 2);
    let secret = world.secret(0).unwrap();
    let erin = world.join_mesh("erin");
    assert!(world.enters(erin, Some(&secret)), "the second one's is in force");
    world.chats(&[0, 1, erin]);
}

#[test]
fn owner_and_operator_kick_the_same_one_at_once() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    // The operator's kick reaches the log while the owner's commit is on its way.
    world.held.insert(0);
    let kick = world.type_line(0, "/kick carol");
    world.operator_kicks("carol");
    world.held.clear();
    world.run();
    world.pass(Duration::from_secs(5));
    assert_eq!((world.clients[0].done[&kick], world.left(2)), (0, vec!["kicked".to_owned()]));
    assert!(world.told_of_change(0) >= 1 && world.told_of_change(0) == world.told_of_change(1));
    assert!((0..2).all(|client| !world.not_rotated(client)));
    let secret = world.secret(0).unwrap();
    let dave = world.join_mesh("dave");
    assert!(!world.enters(dave, None) && world.enters(dave, Some(&secret)));
    world.chats(&[0, 1, dave]);
}

#[test]
fn whoever_waits_at_the_door_while_somebody_is_kicked_needs_the_new_secret() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    let dave = world.join_mesh("dave");
    // His commit is made and waits to be sent; the kick wins the epoch.
    world.hold_after_entered(dave, Start::Join { room: "den".into(), password: Some(password()) });
    let kick = world.say(0, "/kick carol");
    assert_eq!(world.clients[0].done[&kick], 0);
    world.held.clear();
    world.run();
    assert!(matches!(world.clients[dave].last(), Some(Event::Error { .. })), "{:?}", world.clients[dave].last());
    let secret = world.secret(0).unwrap();
    assert!(world.enters(dave, Some(&secret)));
    world.chats(&[0, 1, dave]);
}

#[test]
fn the_kicked_do_not_come_back_in_the_moment_of_their_kick() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.restart_client(2);
    // In place of her own leaf; her commit is made and waits to be sent.
    world.hold_after_entered(2, Start::Join { room: "den".into(), password: Some(password()) });
    world.operator_kicks("carol");
    world.held.clear();
    world.run();
    world.pass(Duration::from_secs(10));
    assert_eq!(world.gone(1), [("carol@s1".into(), "kicked".into())]);
    assert!(!matches!(world.clients[2].last(), Some(Event::Joined { .. })));
    world.clients[2].events.clear();
    world.chats(&[0, 1]);
}

#[test]
fn transfers_with_who_is_kicked_end_at_both_sides() {
    let failed = |world: &World, client: usize| {
        world.clients[client].pick(|e| match e {
            Event::TransferFailed(t) => Some((t.direction.clone(), t.reason.clone().unwrap_or_default())),
            _ => None,
        })
    };
    let over = |direction: &str| vec![(direction.to_owned(), "kicked".to_owned())];
    for (asker, holder) in [(1, 2), (2, 1)] {
        let mut world = World::den(&["alice", "bob", "carol"]);
        world.clients[holder].files.insert("a.iso".into(), vec![7; 1000]);
        world.clients[asker].stall = true;
        world.clients[holder].stall = true;
        let name = world.clients[holder].name.clone();
        let get = world.say(asker, &format!("@{name} getfile a.iso"));
        let transfer = *world.clients[holder].channels.keys().next().unwrap();
        let started = |world: &mut World, client| {
            let route = "direct 192.0.2.9".to_owned();
            world.news(client, secchat::client::effects::FilesEvent::Started { transfer, route });
        };
        started(&mut world, asker);
        started(&mut world, holder);
        world.operator_kicks("carol");
        assert_eq!((failed(&world, asker), failed(&world, holder)), (over("download"), over("upload")));
        assert_ne!(world.clients[asker].done[&get], 0);
        assert!(world.clients[holder].ended.iter().any(|(id, _)| *id == transfer), "the file side is told");
        assert!(!world.clients[asker].ended.is_empty());
    }
}

#[test]
fn whom_an_owner_bans_stays_out_with_the_right_secret_and_under_another_name() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    let ban = world.say(0, "/ban carol");
    assert_eq!((world.clients[0].done[&ban], world.left(2)), (0, vec!["banned".to_owned()]));
    assert_eq!(world.gone(1), [("carol@s1".into(), "banned".into())]);
    let secret = world.secret(0).unwrap();
    assert!(!world.enters(2, Some(&secret)));
    assert!(world.clients[2].errors().contains(&"banned".to_owned()));
    let identity = world.clients[2].identity.clone();
    world.cut(2);
    let other = world.add_as("caroline", identity, 50, Vec::new(), false);
    world.connect(other);
    assert!(!world.enters(other, Some(&secret)), "the key is banned, not the name");
    world.say(1, "/members");
    let banned = world.clients[1].pick(|e| match e {
        Event::Peers { banned, .. } => Some(banned.clone()),
        _ => None,
    });
    assert_eq!(banned, [["carol@s1"]]);
    let unban = world.say(0, "/unban carol");
    assert_eq!(world.clients[0].done[&unban], 0);
    assert!(world.enters(other, Some(&secret)));
}

#[test]
fn who_is_muted_is_refused_by_the_server_and_dropped_by_members() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.say(0, "/mute carol");
    world.clear();
    let said = world.say(2, "but");
    assert_ne!(world.clients[2].done[&said], 0);
    assert_eq!(world.clients[2].errors(), ["muted"]);
    assert!(world.clients[0].heard().is_empty());
    world.say(0, "/unmute carol");
    world.chats(&[0, 1, 2]);
}

#[test]
fn topic_roles_and_a_new_owner_are_seen_by_all() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.say(0, "/topic what we read \u{1b}[31m");
    let topic =
        Event::TopicChanged { room: "den@s1".into(), topic: "what we read \u{1b}[31m".into(), by: "alice@s1".into() };
    assert!(world.clients.iter().all(|client| client.has(&topic)));
    for line in ["/op bob", "/mute carol", "/owner bob"] {
        let number = world.say(0, line);
        assert_eq!(world.clients[0].done[&number], 0, "{line}");
    }
    world.clear();
    world.say(2, "/members");
    let shown = world.clients[2].pick(|e| match e {
        Event::Peers { topic, owner, moderators, muted, .. } => {
            Some((topic.clone(), owner.clone(), moderators.clone(), muted.clone()))
        }
        _ => None,
    });
    let (topic, owner) = (Some("what we read \u{1b}[31m".to_owned()), Some("bob@s1".to_owned()));
    assert_eq!(shown, [(topic, owner, Vec::new(), vec!["carol@s1".to_owned()])]);
    let back = world.say(0, "/topic mine still");
    assert_eq!(world.clients[0].done[&back], 4, "what is given away is gone");
    let kick = world.say(1, "/kick alice");
    assert_eq!((world.clients[1].done[&kick], world.left(0)), (0, vec!["kicked".to_owned()]));
    assert_eq!(world.told_of_change(2), 1);
}

#[test]
fn a_password_is_changed_by_its_owner_and_never_typed_as_an_argument() {
    let mut world = World::den(&["alice", "bob"]);
    let typed = world.say(0, "/password swordfish");
    assert_eq!(world.clients[0].done[&typed], 2);
    let own = "a much better horse staple";
    world.clients[0].password = Some(Secret::new(own).unwrap());
    let number = world.say(0, "/password --own");
    assert_eq!((world.clients[0].done[&number], world.secret(0)), (0, None));
    assert_eq!((world.told_of_change(0), world.told_of_change(1)), (1, 1));
    let carol = world.join_mesh("carol");
    assert!(!world.enters(carol, None) && world.enters(carol, Some(own)));
    world.clients[0].password = None;
    let number = world.say(0, "/password --own");
    assert_eq!(world.clients[0].done[&number], 1);
    world.say(0, "/password");
    assert!(world.secret(0).is_some());
    world.chats(&[0, 1, carol]);
}

#[test]
fn the_owner_commits_a_new_secret_and_loses_its_link_before_it_hears_so() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    let kick = world.type_line(0, "/kick carol");
    world.cut_answers(0);
    world.run();
    world.connect(0);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.clients[0].done[&kick], 0);
    assert_eq!((world.told_of_change(0), world.told_of_change(1)), (1, 1));
    let secret = world.secret(0).unwrap();
    let dave = world.join_mesh("dave");
    assert!(world.enters(dave, Some(&secret)));
    world.chats(&[0, 1, dave]);
}

#[test]
fn an_owner_that_was_lost_with_its_new_secret_comes_back_with_it() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    let kick = world.type_line(0, "/kick carol");
    world.cut_answers(0);
    // Past her grace: nobody else has the secret that is in force, so nobody can remove her leaf, nor speak before that.
    world.pass(Duration::from_secs(700));
    assert_eq!(world.told_of_change(1), 0);
    world.connect(0);
    world.pass(Duration::from_secs(20));
    assert_eq!((world.clients[0].done[&kick], world.told_of_change(0), world.told_of_change(1)), (0, 1, 1));
    let secret = world.secret(0).unwrap();
    let dave = world.join_mesh("dave");
    assert!(world.enters(dave, Some(&secret)));
    world.chats(&[0, 1, dave]);
}

#[test]
fn a_member_that_missed_the_new_secret_asks_for_it() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    // Bob gets rows, but the first message after the kick is kept from him.
    let mut kept = false;
    world.mangler = Box::new(move |client, frame| match &frame {
        ToClient::Push(Push::Row { row, .. }) if client == 1 && row.kind == RowKind::Message && !kept => {
            kept = true;
            Vec::new()
        }
        _ => vec![frame],
    });
    world.say(0, "/kick carol");
    assert_eq!(world.told_of_change(1), 0);
    world.mangler = Box::new(|_, frame| vec![frame]);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.told_of_change(1), 1);
}

#[test]
fn however_many_tell_the_owner_it_changes_the_secret_once() {
    let mut world = World::den(&["alice", "bob", "carol", "dave"]);
    world.cut(0);
    world.operator_kicks("dave");
    world.pass(Duration::from_secs(5));
    // Whoever comes and goes makes the members say it; the owner acts on it once.
    world.connect(0);
    world.restart_client(2);
    world.clients[2].events.clear();
    world.pass(Duration::from_secs(30));
    assert_eq!(world.told_of_change(0), 1);
}

#[test]
fn a_closed_room_and_an_operators_wish_are_shown_and_nothing_is_done() {
    let mut world = World::den(&["alice", "bob"]);
    world.operator(Ask::AskOwner { room: "den".into(), wish: Wish::NewSecret });
    let wished = Event::Wished { room: "den@s1".into(), wish: "new_secret".into(), name: None };
    assert!(world.clients[0].has(&wished) && !world.clients[1].has(&wished));
    assert_eq!((world.told_of_change(0), world.told_of_change(1)), (0, 0));
    let carol = world.join_mesh("carol");
    world.operator(Ask::Lock { room: "den".into() });
    assert!(!world.enters(carol, None));
    assert_eq!(world.clients[carol].errors(), ["locked"]);
    world.restart_client(1);
    assert!(world.enters(1, None), "a member comes back to its own leaf");
    world.operator(Ask::Close { room: "den".into(), reason: Some("the end".into()) });
    assert_eq!((world.left(0), world.left(1)), (vec!["closed".to_owned()], vec!["closed".to_owned()]));
    assert_eq!(world.servers[0].rooms(), 0);
    // At once anybody may make another of that name.
    world.feed(carol, Input::Start(Box::new(Start::Create { room: "den".into(), private: false, password: None })));
    world.run();
    assert!(matches!(world.clients[carol].last(), Some(Event::Joined { .. })));
}

/// Kicks by owner and operator, lost links, restarts and newcomers in any order: in the end whoever is in the room hears everybody in it, and
/// the owner's newest secret, and no other, opens it.
#[test]
fn whatever_comes_together_the_room_goes_on_with_its_newest_secret() {
    for seed in 0..SEEDS {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut world = World::den(&["alice", "bob", "carol", "dave", "erin"]);
        let mut newest: Option<String> = None;
        for _ in 0..14 {
            let who = 1 + (rng.next_u32() % 4) as usize;
            let name = world.clients[who].name.clone();
            match rng.next_u32() % 10 {
                0 if world.clients[0].session.is_some() => drop(world.type_line(0, &format!("/kick {name}"))),
                1 => world.operator_kicks(&name),
                2 => world.cut(who),
                3 => world.cut(0),
                4 => drop(world.held.insert(who - 1)),
                5 => world.held.clear(),
                6 if world.clients[who].core.rooms().is_empty() => drop(world.enters(who, newest.as_deref())),
                7 => world.restart_server(),
                8 => drop(world.say(who, "hello")),
                _ => world.pass(Duration::from_secs(u64::from(rng.next_u32() % 4))),
            }
            if rng.next_u32() % 2 == 0 {
                world.run();
            }
            newest = world.secret(0).or(newest);
            (0..5).filter(|_| rng.next_u32() % 2 == 0).for_each(|client| {
                if world.clients[client].session.is_none() {
                    world.connect(client);
                }
            });
        }
        world.held.clear();
        (0..5).for_each(|client| {
            if world.clients[client].session.is_none() {
                world.connect(client);
            }
        });
        world.run();
        world.pass(Duration::from_secs(200));
        newest = world.secret(0).or(newest);
        let inside: Vec<usize> = (0..5).filter(|client| !world.clients[*client].core.rooms().is_empty()).collect();
        assert!(inside.contains(&0), "seed {seed}");
        let frank = world.join_mesh("frank");
        assert_eq!(world.enters(frank, None), newest.is_none(), "seed {seed}");
        if let Some(newest) = &newest {
            assert!(world.enters(frank, Some(newest)), "seed {seed}: {:?}", world.clients[frank].last());
        }
        let members: Vec<usize> = inside.iter().copied().chain([frank]).collect();
        let names: BTreeSet<String> = members.iter().map(|m| format!("{}@s1", world.clients[*m].name)).collect();
        world.clear();
        for member in &members {
            world.say(*member, "/members");
            let peers = world.clients[*member].pick(|e| match e {
                Event::Peers { peers, .. } => Some(peers.iter().cloned().collect::<BTreeSet<_>>()),
                _ => None,
            });
            assert_eq!(peers, std::slice::from_ref(&names), "seed {seed} {member}");
        }
        for member in &members {
            world.say(*member, "last words");
        }
        for member in &members {
            assert_eq!(world.clients[*member].heard().len(), members.len() - 1, "seed {seed} {member}");
        }
        assert!(members.iter().all(|member| !world.not_rotated(*member)), "seed {seed}");
    }
}

const SEEDS: u64 = 40;
