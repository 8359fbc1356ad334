//! Rules on sharing: each honest end holds to them, whatever the other one does.

use crate::world::{World, root_of};
use secchat::client::effects::{FilesEvent, Input};
use secchat::client::event::{Event, Transfer};
use secchat::server;
use secchat::transfer::restrict::parse;
use secchat::wire::admin::Ask;
use secchat::wire::frame::{Push, ToClient};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

const ALICE: usize = 0;
const BOB: usize = 1;

impl World {
    /// The operator of a server makes a rule, with the flags of `restrict`.
    fn restrict(&mut self, at: usize, flags: &str, room: Option<&str>) {
        let typed = parse(flags).unwrap();
        let (user, room) = (typed.users.first().cloned(), room.map(str::to_owned));
        let ask = Ask::Restrict { room, user, limits: Box::new(typed.limits), reason: typed.reason };
        self.feed_server(at, server::Input::Asked { ticket: 1, ask: Box::new(ask) });
        self.run();
    }

    /// A client that goes by no rule of a server: it never hears of any.
    fn lawless(&mut self, client: usize) {
        self.mangler = Box::new(move |to, frame| match frame {
            ToClient::Push(Push::Sharing(_)) if to == client => Vec::new(),
            frame => vec![frame],
        });
    }
}

/// Bob shares `a.iso` of 1,000 bytes with alice, in a room of hers.
fn shared() -> World {
    let mut world = World::den(&["alice", "bob"]);
    world.clients[BOB].files.insert("a.iso".into(), vec![7; 1000]);
    world
}

/// Transfers that failed by a rule, and which rule.
fn restricted(world: &World, client: usize) -> Vec<String> {
    world.clients[client].pick(|event| match event {
        Event::TransferFailed(Transfer { reason: Some(reason), detail, .. }) if reason == "restricted" => {
            detail.clone()
        }
        _ => None,
    })
}

fn root() -> String {
    root_of(&[7; 1000]).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Flags of a rule that is against what bob shares, and what is said of it.
fn rules() -> Vec<(String, &'static str)> {
    vec![
        ("--off".into(), "nothing is shared"),
        ("--deny-name *.ISO".into(), "names like *.ISO are not shared"),
        ("--allow-name *.txt".into(), "only names like *.txt are shared"),
        ("--max-size 999".into(), "at most 999 are shared"),
        (format!("--deny-root {}", root()), "whatever its name"),
        ("--only alice".into(), "bob@s1 is not among those who may share"),
        ("--files-a-day 0".into(), "at most 0 files a day"),
        ("--bytes-a-day 999".into(), "at most 999 bytes a day"),
        ("--at-once 0".into(), "at most 0 at once"),
        ("--off --user bob".into(), "nothing is shared"),
        ("--off --user alice".into(), "nothing is shared"),
    ]
}

#[test]
fn the_holder_refuses_whatever_the_asker_thinks_of_rules() {
    for (flags, why) in rules() {
        let mut world = shared();
        world.lawless(ALICE);
        world.restrict(0, &format!("{flags} --reason 'house rules'"), None);
        let number = world.say(ALICE, "@bob getfile a.iso");
        assert_eq!(world.clients[ALICE].done[&number], 6, "{flags}");
        assert_eq!(world.clients[ALICE].errors(), ["restricted"], "{flags}");
        for client in [ALICE, BOB] {
            let told = restricted(&world, client);
            assert!(told.len() == 1 && told[0].contains(why), "{client} {flags}: {told:?}");
            assert!(told[0].contains("rule 1 of the server s1") && told[0].contains("(house rules)"), "{told:?}");
        }
        assert!(world.clients.iter().all(|c| c.channels.is_empty()), "{flags}");
    }
}

#[test]
fn the_receiver_refuses_whatever_the_sender_thinks_of_rules() {
    for (flags, why) in rules() {
        for line in ["@bob getfile a.iso", "@any getfile a.iso"] {
            let mut world = shared();
            world.lawless(BOB);
            world.restrict(0, &flags, None);
            let number = world.say(ALICE, line);
            world.pass(Duration::from_secs(3));
            assert_eq!(world.clients[ALICE].done[&number], 4, "{flags} {line}");
            let told = world.clients[ALICE].pick(|event| match event {
                Event::Error { code, message, .. } => Some((code.clone(), message.clone())),
                _ => None,
            });
            assert!(told.len() == 1 && told[0].0 == "restricted" && told[0].1.contains(why), "{flags}: {told:?}");
            assert!(!world.clients[ALICE].channels.values().any(|(_, sends)| !sends), "nothing begins");
        }
    }
}

#[test]
fn the_sender_hears_why_the_receiver_does_not_take_it() {
    let mut world = shared();
    world.lawless(BOB);
    world.restrict(0, "--max-size 999", None);
    world.say(ALICE, "@bob getfile a.iso");
    let told = restricted(&world, BOB);
    assert!(told.len() == 1 && told[0].starts_with("alice@s1 says: rule 1 of the server s1"), "{told:?}");
    assert_eq!(restricted(&world, ALICE).len(), 1);
}

#[test]
fn what_fits_the_rules_comes() {
    let mut world = shared();
    let flags = "--max-size 1000 --deny-name *.exe --allow-name *.iso --only bob --files-a-day 1 --bytes-a-day 1000 --at-once 1";
    world.restrict(0, flags, None);
    world.restrict(0, "--off", Some("den2"));
    let number = world.say(ALICE, "@bob getfile a.iso");
    assert_eq!(world.clients[ALICE].done[&number], 0, "{:?}", world.clients[ALICE].events);
}

#[test]
fn restricted_files_are_not_found() {
    let mut world = shared();
    world.clients[BOB].files.insert("b.txt".into(), vec![1; 10]);
    let found = |world: &mut World| {
        world.clear();
        world.say(ALICE, "@all whohas *");
        world.pass(Duration::from_secs(3));
        world.clients[ALICE].pick(|event| match event {
            Event::FileFound { file, .. } => Some(file.clone()),
            _ => None,
        })
    };
    assert_eq!(found(&mut world), ["a.iso", "b.txt"]);
    world.restrict(0, "--max-size 100", None);
    assert_eq!(found(&mut world), ["b.txt"]);
    world.restrict(0, "--only alice", Some("den"));
    assert!(found(&mut world).is_empty());
}

#[test]
fn an_offer_against_a_rule_is_not_made_and_not_taken() {
    let offering = |lawless: Option<usize>, flags: &str| {
        let mut world = shared();
        world.clients[BOB].disk.insert("a.iso".into(), vec![7; 1000]);
        lawless.into_iter().for_each(|client| world.lawless(client));
        world.restrict(0, flags, None);
        let number = world.say(BOB, "@alice sendfile a.iso");
        (world, number)
    };
    for (flags, why) in rules() {
        // Amounts are counted when something goes.
        if !flags.contains("-a-day") && !flags.contains("--at-once") {
            let (world, number) = offering(None, &flags);
            assert_eq!((world.clients[BOB].errors(), world.clients[BOB].done[&number]), (vec!["restricted".into()], 4));
            assert!(
                world.clients[ALICE].events.iter().all(|(_, e)| !matches!(e, Event::TransferOffered(_))),
                "{flags}"
            );
        }
        let (world, number) = offering(Some(BOB), &flags);
        assert_eq!((world.clients[BOB].errors(), world.clients[BOB].done[&number]), (vec!["restricted".into()], 6));
        for client in [ALICE, BOB] {
            let told = world.clients[client].pick(|event| match event {
                Event::OfferRefused(t) => t.detail.clone().filter(|_| t.reason.as_deref() == Some("restricted")),
                _ => None,
            });
            assert!(told.len() == 1 && told[0].contains(why), "{client} {flags}: {told:?}");
        }
    }
}

#[test]
fn a_rule_that_comes_while_an_offer_waits_holds_for_it() {
    let mut world = shared();
    world.clients[BOB].disk.insert("x.pdf".into(), vec![5; 10]);
    world.say(BOB, "@alice sendfile x.pdf");
    let id = world.clients[ALICE].pick(|event| match event {
        Event::TransferOffered(t) => Some(t.id.clone()),
        _ => None,
    });
    world.restrict(0, "--deny-name *.pdf", None);
    let number = world.say(ALICE, &format!("@me accept {}", id[0]));
    assert_eq!((world.clients[ALICE].errors(), world.clients[ALICE].done[&number]), (vec!["restricted".into()], 4));
}

#[test]
fn what_runs_ends_when_a_rule_comes_that_is_against_it() {
    for lawless in [None, Some(ALICE), Some(BOB)] {
        let mut world = shared();
        lawless.into_iter().for_each(|client| world.lawless(client));
        world.clients[ALICE].stall = true;
        let number = world.say(ALICE, "@bob getfile a.iso");
        assert!(!world.clients[ALICE].done.contains_key(&number));
        world.restrict(0, "--off", None);
        for client in [ALICE, BOB] {
            let told = restricted(&world, client);
            assert!(Some(client) == lawless || !told.is_empty(), "{client} {lawless:?}: {told:?}");
        }
        if lawless != Some(ALICE) {
            assert_eq!(world.clients[ALICE].done[&number], 4);
            assert!(world.clients[ALICE].ended.iter().any(|(_, keep)| !keep), "nothing stays");
        }
    }
}

#[test]
fn what_the_file_side_finds_is_told_on_both_sides() {
    let mut world = shared();
    world.clients[BOB].hashing = true;
    let number = world.say(ALICE, "@bob getfile a.iso");
    let transfer = world.clients[BOB].pick(|event| match event {
        Event::Hashing(t) => Some(t.id.clone()),
        _ => None,
    });
    let transfer = secchat::wire::id::Id(hex(&transfer[0]));
    let detail = "rule 1 of the server s1: a.iso is application/x-executable by its content".to_owned();
    world.news(BOB, FilesEvent::Restricted { transfer, detail: detail.clone() });
    assert_eq!(world.clients[ALICE].done[&number], 6);
    assert_eq!(restricted(&world, BOB), std::slice::from_ref(&detail));
    assert_eq!(restricted(&world, ALICE), [format!("bob@s1 says: {detail}")]);
    // And where the receiver's own file side finds it.
    let mut world = shared();
    world.clients[ALICE].stall = true;
    let number = world.say(ALICE, "@bob getfile a.iso");
    let download = *world.clients[ALICE].downloads.values().next().unwrap();
    let failed = FilesEvent::Failed { transfer: download, reason: "restricted".into(), detail: detail.clone() };
    world.news(ALICE, failed);
    assert_eq!((world.clients[ALICE].done[&number], restricted(&world, ALICE)), (4, vec![detail]));
}

#[test]
fn an_offer_whose_content_the_receiver_may_not_have_is_over() {
    let mut world = shared();
    world.clients[BOB].disk.insert("holiday.jpg".into(), vec![5; 10]);
    world.clients[ALICE].stall = true;
    let number = world.say(BOB, "@alice sendfile holiday.jpg");
    let id = world.clients[ALICE].pick(|event| match event {
        Event::TransferOffered(t) => Some(t.id.clone()),
        _ => None,
    });
    world.say(ALICE, &format!("@me accept {}", id[0]));
    let transfer = *world.clients[BOB].channels.keys().next().unwrap();
    let detail = "rule 1 of the server s1: no programs".to_owned();
    world.news(BOB, FilesEvent::Failed { transfer, reason: "restricted".into(), detail: detail.clone() });
    assert_eq!(restricted(&world, BOB), [format!("alice@s1 says: {detail}")]);
    assert_eq!((world.clients[BOB].done[&number], world.clients[BOB].errors()), (6, vec!["restricted".into()]));
}

fn hex(text: &str) -> [u8; 16] {
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

#[test]
fn a_quota_is_for_a_day_whoever_restarts() {
    for lawless in [ALICE, BOB] {
        let mut world = shared();
        world.clients[BOB].files.insert("b.iso".into(), vec![8; 1000]);
        world.lawless(lawless);
        world.restrict(0, "--files-a-day 1", None);
        let done = |world: &mut World, file: &str| {
            let number = world.say(ALICE, &format!("@bob getfile {file}"));
            let taken = world.clients[ALICE].done[&number] == 0;
            for transfer in world.clients[BOB].channels.keys().copied().collect::<Vec<_>>() {
                world.news(BOB, FilesEvent::Started { transfer, route: "192.0.2.9:9".into() });
                world.news(BOB, FilesEvent::Done { transfer, bytes: 1000, seconds: 1.0, path: None });
            }
            taken
        };
        assert!(done(&mut world, "a.iso"));
        assert!(done(&mut world, "a.iso"), "the same once more is no more");
        assert!(!done(&mut world, "b.iso"));
        let client = 1 - lawless;
        world.restart_client(client);
        world.enter(client);
        assert!(!done(&mut world, "b.iso"), "a restart forgets nothing");
        world.pass(Duration::from_secs(24 * 3600 + 60));
        assert!(done(&mut world, "b.iso"));
    }
}

#[test]
fn two_at_a_time_are_no_way_around_a_quota() {
    let mut world = shared();
    world.clients[BOB].files.insert("b.iso".into(), vec![8; 1000]);
    world.lawless(ALICE);
    world.restrict(0, "--files-a-day 1", None);
    // Answered and not begun.
    world.say(ALICE, "@bob getfile a.iso");
    assert!(restricted(&world, BOB).is_empty());
    world.say(ALICE, "@bob getfile b.iso");
    assert_eq!(restricted(&world, BOB).len(), 1);
    // Given up before it began, it costs nothing.
    let transfer = *world.clients[BOB].channels.keys().next().unwrap();
    world.news(BOB, FilesEvent::Failed { transfer, reason: "no_path".into(), detail: "no way".into() });
    let number = world.say(ALICE, "@bob getfile b.iso");
    assert_eq!(world.clients[ALICE].done[&number], 0);
}

#[test]
fn folders_that_come_at_once_are_no_way_around_a_quota() {
    let mut world = shared();
    for name in ["x/", "y/"] {
        world.clients[BOB].files.insert(name.into(), name.repeat(100).into_bytes());
    }
    world.lawless(BOB);
    world.restrict(0, "--files-a-day 10", None);
    world.clients[ALICE].stall = true;
    for name in ["x/", "y/"] {
        world.say(ALICE, &format!("@bob getfile {name}"));
    }
    let downloads: Vec<_> = world.clients[ALICE].downloads.values().copied().collect();
    assert_eq!(downloads.len(), 2);
    for (download, refused) in downloads.into_iter().zip([0, 1]) {
        world.news(ALICE, FilesEvent::Listed { download, entries: 8, bytes: 100 });
        assert_eq!(restricted(&world, ALICE).len(), refused);
    }
}

#[test]
fn what_runs_at_once_is_counted() {
    for lawless in [ALICE, BOB] {
        let mut world = shared();
        world.clients[BOB].files.insert("b.iso".into(), vec![8; 1000]);
        world.lawless(lawless);
        world.restrict(0, "--at-once 1", None);
        world.clients[ALICE].stall = true;
        world.say(ALICE, "@bob getfile a.iso");
        assert!(restricted(&world, ALICE).is_empty());
        world.say(ALICE, "@bob getfile b.iso");
        let told = restricted(&world, ALICE);
        assert!(told.len() == 1 && told[0].contains("at most 1 at once"), "{told:?}");
    }
}

#[test]
fn a_document_that_is_forged_or_older_is_told_and_changes_nothing() {
    let mut world = shared();
    let kept: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let seen = Rc::clone(&kept);
    world.mangler = Box::new(move |to, frame| {
        if let (ALICE, ToClient::Push(Push::Sharing(bytes))) = (to, &frame) {
            seen.borrow_mut().push(bytes.to_vec());
        }
        vec![frame]
    });
    world.restrict(0, "--off", None);
    world.restrict(0, "--max-size 5", None);
    let (first, mut forged) = (kept.borrow()[0].clone(), kept.borrow()[1].clone());
    *forged.last_mut().unwrap() ^= 1;
    world.clear();
    let push = |bytes: Vec<u8>| Input::Frame(ToClient::Push(Push::Sharing(bytes.into())));
    world.feed(ALICE, push(first.clone()));
    world.feed(ALICE, push(forged));
    assert_eq!(world.clients[ALICE].integrity(), ["sharing_rolled_back", "sharing_forged"]);
    world.say(ALICE, "/restrictions");
    let rules = world.clients[ALICE].pick(|event| match event {
        Event::Notice { from, text } if from == "restrictions" => Some(text.clone()),
        _ => None,
    });
    let expected = ["rule 1 of the server s1: nothing is shared", "rule 2 of the server s1: bytes at most 5"];
    assert_eq!(rules, expected);
    // Not after a restart either: what the home server said is kept.
    world.mangler = Box::new(move |to, frame| match frame {
        ToClient::Push(Push::Sharing(_)) if to == ALICE => vec![ToClient::Push(Push::Sharing(first.clone().into()))],
        frame => vec![frame],
    });
    world.clear();
    world.restart_client(ALICE);
    assert_eq!(world.clients[ALICE].integrity(), ["sharing_rolled_back"]);
    world.enter(ALICE);
    world.clear();
    world.say(ALICE, "@bob getfile a.iso");
    assert_eq!(world.clients[ALICE].errors(), ["restricted"]);
}

#[test]
fn a_rooms_owner_restricts_what_goes_through_the_room() {
    let mut world = World::den(&["alice", "bob", "carol"]);
    world.clients[BOB].files.insert("a.iso".into(), vec![7; 1000]);
    let number = world.say(BOB, "/restrict --off");
    assert_eq!((world.clients[BOB].errors(), world.clients[BOB].done[&number]), (vec!["not_owner".into()], 4));
    let number = world.say(ALICE, "/restrict --deny-name \"*.iso\" --reason 'no images'");
    assert_eq!(world.clients[ALICE].done[&number], 0, "{:?}", world.clients[ALICE].events);
    let notice = world.clients[ALICE].pick(|event| match event {
        Event::Notice { from, text } if from == "restrict" => Some(text.clone()),
        _ => None,
    });
    assert_eq!(notice, ["rule 20 holds in den@s1 now"]);
    world.clear();
    for client in [ALICE, 2] {
        let number = world.say(client, "@bob getfile a.iso");
        assert_eq!(world.clients[client].done[&number], 4);
        let told = restricted_errors(&world, client);
        assert_eq!(told, ["rule 20 of the room den@s1: a.iso: names like *.iso are not shared (no images)"]);
    }
    // Who is in no room with bob has none of its rules.
    let dave = world.join_mesh("dave");
    let number = world.say(dave, "@bob getfile a.iso");
    assert_eq!(world.clients[dave].done[&number], 0);
    // Through another room in which both are, the rule does not hold.
    world.say(2, "/create open");
    world.say(BOB, "/join open");
    let number = world.say(2, "@bob getfile a.iso");
    assert_eq!(world.clients[2].done[&number], 0);
    let number = world.say(ALICE, "/unrestrict 20");
    assert_eq!(world.clients[ALICE].done[&number], 0);
    let number = world.say(ALICE, "@bob getfile a.iso");
    assert_eq!(world.clients[ALICE].done[&number], 0);
    let number = world.say(ALICE, "/unrestrict 20");
    assert_eq!(world.clients[ALICE].done[&number], 5);
}

fn restricted_errors(world: &World, client: usize) -> Vec<String> {
    world.clients[client].pick(|event| match event {
        Event::Error { code, message, .. } if code == "restricted" => Some(message.clone()),
        _ => None,
    })
}

#[test]
fn owners_rules_that_make_no_sense_are_refused_with_their_cause() {
    let mut world = World::den(&["alice", "bob"]);
    for (flags, code) in [
        ("--frobnicate", "usage"),
        ("--max-size much", "usage"),
        ("--reason nothing", "bad_value"),
        ("--deny-name [", "bad_value"),
        ("--deny-type application/x-dosexec", "bad_value"),
        ("--off --user nobody", "not_found"),
    ] {
        world.clear();
        world.say(ALICE, &format!("/restrict {flags}"));
        assert_eq!(world.clients[ALICE].errors(), [code], "{flags}");
    }
    for n in 0..8 {
        let number = world.say(ALICE, &format!("/restrict --max-size {n} --user bob"));
        assert_eq!(world.clients[ALICE].done[&number], 0);
    }
    world.clear();
    world.say(ALICE, "/restrict --off");
    assert_eq!(world.clients[ALICE].errors(), ["full"]);
}

#[test]
fn a_commit_of_somebody_else_does_not_lose_the_owners_rule() {
    let mut world = World::den(&["alice", "bob"]);
    let carol = world.join_mesh("carol");
    world.held.insert(ALICE);
    let number = world.type_line(ALICE, "/restrict --off");
    world.enter(carol);
    world.held.remove(&ALICE);
    world.run();
    assert_eq!(world.clients[ALICE].done[&number], 0, "{:?}", world.clients[ALICE].events);
    world.say(carol, "/restrictions");
    let told = world.clients[carol].pick(|event| match event {
        Event::Notice { from, text } if from == "restrictions" => Some(text.clone()),
        _ => None,
    });
    assert!(told.iter().any(|text| text.ends_with("of the room den@s1: nothing is shared")), "{told:?}");
}

#[test]
fn each_end_holds_to_the_rules_of_its_own_server_and_of_the_rooms() {
    let mut world = World::mesh(2);
    let (alice, bob) = (world.person("alice", 0), world.person("bob", 1));
    world.clients[bob].files.insert("a.iso".into(), vec![7; 1000]);
    world.say(alice, "/create hall@s1");
    world.say(bob, "/join hall@s1");
    // Only alice's server has a rule; it holds for bob too, since the room is there.
    world.restrict(0, "--max-size 999", None);
    world.clear();
    let number = world.say(alice, "@bob@s2 getfile a.iso");
    assert_eq!((world.clients[alice].done[&number], restricted_errors(&world, alice).len()), (6, 1));
    let carol = world.person("carol", 1);
    world.say(carol, "/join hall@s1");
    let number = world.say(carol, "@bob getfile a.iso");
    assert_eq!(world.clients[carol].done[&number], 6);
    // In no room together, at a server without rules: nothing is against it.
    let dave = world.person("dave", 1);
    let number = world.say(dave, "@bob getfile a.iso");
    assert_eq!(world.clients[dave].done[&number], 0);
    // The receiver's server has the rule, and bob has never heard of it.
    let erin = world.person("erin", 0);
    let number = world.say(erin, "@bob@s2 getfile a.iso");
    assert_eq!((world.clients[erin].done[&number], restricted_errors(&world, erin).len()), (4, 1));
}
