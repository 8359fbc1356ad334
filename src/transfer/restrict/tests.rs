use super::*;
use crate::crypto::identity::Identity;
use crate::wire::sharing::{Limits, Rule};
use proptest::prelude::*;

fn name(text: &str) -> FullName {
    person(text).unwrap()
}

fn bob() -> (FullName, PublicKey) {
    (name("bob@s1"), key(2))
}

fn key(seed: u8) -> PublicKey {
    Identity::from_seed(&[seed; 32]).public()
}

fn limits(flags: &str) -> Limits {
    let typed = parse(flags).unwrap();
    check(&typed.limits).unwrap()
}

fn ruled(scope: Scope, limits: Limits) -> Arc<Compiled> {
    let rule = Rule { id: 3, scope, limits, reason: Some("house rules".into()) };
    Arc::new(Compiled::new(Maker::Server(Name::parse("s1").unwrap()), rule))
}

/// What bob sends to alice under one rule for everybody.
fn rules(flags: &str) -> Rules {
    Rules::among([ruled(Scope::All, limits(flags))], &[], bob(), &key(1), Used::default())
}

fn file(name: &str) -> Item<'_> {
    Item { name, folder: false, size: Some(1000), root: Some(&[7; 32]) }
}

fn elf() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(100, 0);
    bytes
}

#[test]
fn a_refusal_names_the_rule_and_whose_it_is_and_why() {
    let verdict = rules("--deny-name *.exe").judge(&file("Setup.EXE")).unwrap_err();
    assert_eq!(
        verdict.to_string(),
        "rule 3 of the server s1: Setup.EXE: names like *.exe are not shared (house rules)"
    );
    let long = "ü".repeat(600);
    let verdict = rules("--max-size 1").judge(&file(&long)).unwrap_err();
    assert!(verdict.detail().len() <= REFUSAL_DETAIL_MAX, "{}", verdict.detail().len());
}

#[test]
fn names_are_judged_in_every_form_in_which_they_could_be_written() {
    let no_exe = rules("--deny-name *.exe");
    for bad in ["a.exe", "A.EXE", "a.exe.", "a.exe ", "a.ex\u{202e}e", "x/a.exe", "x.exe/readme", "e\u{301}.exe"] {
        assert!(no_exe.judge(&file(bad)).is_err(), "{bad:?}");
    }
    for good in ["exe", "a.exe.txt", "exe/a.txt"] {
        assert!(no_exe.judge(&file(good)).is_ok(), "{good:?}");
    }
    let pictures = rules("--allow-name *.jpg --allow-name *.png");
    assert!(pictures.judge(&file("trip/a.PNG")).is_ok() && pictures.judge(&file("a.png.zip")).is_err());
    assert!(pictures.judge(&Item { folder: true, ..file("trip") }).is_ok(), "a folder's own name is not a file's");
}

#[test]
fn size_root_and_off() {
    assert!(rules("--max-size 1000").judge(&file("a")).is_ok() && rules("--max-size 999").judge(&file("a")).is_err());
    assert!(rules("--max-size 999").judge(&Item { size: None, ..file("a") }).is_ok(), "not known yet");
    let denied = format!("--deny-root {}", "07".repeat(32));
    assert!(rules(&denied).judge(&file("any name")).is_err());
    assert!(rules(&denied).judge(&Item { root: Some(&[8; 32]), ..file("a") }).is_ok());
    assert!(rules("--off").judge(&file("a")).is_err());
}

#[test]
fn a_renamed_program_is_known_by_its_first_bytes() {
    let no_programs = "--deny-type application/x-executable --deny-type application/vnd.microsoft.portable-executable";
    let rules_ = rules(no_programs);
    let verdict = rules_.judge_head("holiday.jpg", &elf()).unwrap_err();
    assert!(verdict.why.contains("application/x-executable"), "{verdict}");
    assert!(rules_.judge_head("holiday.jpg", b"MZ\x90\0\x03").is_err());
    assert!(rules_.judge_head("holiday.jpg", &[0xff, 0xd8, 0xff, 0xe0, 0, 16]).is_ok());
    let pictures = rules("--allow-type IMAGE/*");
    assert!(pictures.judge_head("a", &[0xff, 0xd8, 0xff, 0xe0, 0, 16]).is_ok());
    assert!(pictures.judge_head("a.jpg", b"just text").is_err() && pictures.judge_head("a.jpg", b"").is_err());
    assert_eq!(media_of("für alle\n".as_bytes()), "text/plain");
    assert_eq!(media_of(&"é".repeat(9000).as_bytes()[1..][..1]), "application/octet-stream");
    assert_eq!(media_of(&"é".as_bytes()[..1]), "text/plain", "cut within a letter");
    assert_eq!(media_of(b"#!/bin/sh\n"), "text/x-shellscript");
}

#[test]
fn a_rule_for_a_person_counts_what_that_person_sends_and_holds_for_what_comes_there() {
    let of = |who: u8, flags: &str, used| {
        let rule = ruled(Scope::user(&key(who)), limits(flags));
        Rules::among([rule], &[], bob(), &key(1), used)
    };
    let full = Used { files: 5, ..Used::default() };
    assert!(of(2, "--files-a-day 5", full).judge_amount(1, 1).is_err());
    assert!(of(1, "--files-a-day 5", full).judge_amount(1, 1).is_ok(), "alice fetches");
    assert!(of(1, "--off", full).judge(&file("a")).is_err());
    assert!(of(9, "--off", full).judge(&file("a")).is_ok(), "somebody else");
}

#[test]
fn quotas_and_who_may_share() {
    let used = Used { files: 2, bytes: 500, at_once: 1, counted: false };
    let of = |flags: &str| rules(flags).with_used(used);
    assert!(of("--files-a-day 3").judge_amount(1, 9).is_ok() && of("--files-a-day 3").judge_amount(2, 9).is_err());
    assert!(of("--bytes-a-day 509").judge_amount(1, 9).is_ok() && of("--bytes-a-day 508").judge_amount(1, 9).is_err());
    assert!(of("--at-once 2").judge_amount(1, 9).is_ok() && of("--at-once 1").judge_amount(1, 9).is_err());
    let again = rules("--files-a-day 2").with_used(Used { counted: true, ..used });
    assert!(again.judge_amount(7, 7).is_ok(), "a second attempt at the same");
    assert!(rules("--only alice@s1").judge(&file("a")).is_err() && rules("--only bob@s1").judge(&file("a")).is_ok());
}

#[test]
fn only_rules_of_the_rooms_concerned_hold() {
    let rule = || ruled(Scope::Room(crate::wire::id::Id([1; 16])), limits("--off"));
    let through = |room: u8| {
        let rooms = [crate::wire::id::Id([room; 16])];
        Rules::among([rule()], &rooms, bob(), &key(1), Used::default())
    };
    assert!(through(1).judge(&file("a")).is_err() && through(2).judge(&file("a")).is_ok());
}

#[test]
fn a_rule_that_cannot_be_read_allows_nothing() {
    let broken = Limits { deny_names: vec!["[".into()], ..Limits::default() };
    let rules = Rules::among([ruled(Scope::All, broken)], &[], bob(), &key(1), Used::default());
    assert!(rules.judge(&file("a")).unwrap_err().why.contains("does not understand"));
}

#[test]
fn patterns_that_braces_multiply_take_bounded_memory() {
    let many = |n: usize| format!("{}{}{n}", "{a,b}".repeat(6), "x".repeat(400));
    let rule = |n: usize| Rule {
        id: n as u64,
        scope: Scope::All,
        limits: Limits { deny_names: vec![many(n)], ..Limits::default() },
        reason: None,
    };
    let maker = Maker::Server(Name::parse("s1").unwrap());
    let all = Compiled::all(&maker, (0..300).map(rule));
    let unread = all.iter().filter(|rule| rule.sharer(None).is_err()).count();
    assert!((290..300).contains(&unread), "{unread}");
    let limits: Vec<Limits> = (0..300).map(|n| rule(n).limits).collect();
    assert!(fits(&limits[..4]) && !fits(&limits));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_cause() {
    let checked = |flags: &str| check(&parse(flags).unwrap().limits).unwrap_err().to_string();
    assert!(checked("").contains("restricts nothing"));
    assert!(checked("--deny-name [").contains("is not understood"));
    assert!(checked("--deny-name a/b").contains("slash"));
    for bad in ["image", "*/*", "a b/c", "/", "image/"] {
        assert!(checked(&format!("--deny-type '{bad}'")).contains("is not a type"), "{bad}");
    }
    for unknown in ["application/x-dosexec", "picture/*"] {
        assert!(checked(&format!("--deny-type {unknown}")).contains("no file is ever recognised"), "{unknown}");
    }
    for bad in ["0", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66), "é"] {
        assert!(checked(&format!("--deny-root {bad}")).contains("BLAKE3"), "{bad}");
    }
    assert!(checked("--only bob").contains("NAME@SERVER"));
    let many: String = (0..=64).map(|n| format!("--deny-name {n} ")).collect();
    assert!(checked(&many).contains("64 times"));
    let flags = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(flags("--max-size"), "--max-size needs a value");
    assert!(flags("--max-size 10X").contains("number") && flags("--at-once 99999999999").contains("number"));
    assert!(flags("--frobnicate").contains("there is no") && flags("--reason 'x").contains("quote"));
    let typed = parse("--max-size=10M --user bob --user eve --reason \"too big\"").unwrap();
    assert_eq!((typed.limits.max_size, typed.users.len()), (Some(10 << 20), 2));
    assert_eq!(typed.reason.as_deref(), Some("too big"));
}

#[test]
fn a_day_is_forgotten_after_a_day_and_nobody_gains_by_many_small_things() {
    let mut ledger = Ledger::default();
    let (bob, eve) = (key(2), key(3));
    let day = 24 * 3600 * 1000;
    ledger.add(&bob, What::new(&key(1), &[1; 32]), (1, 100), 1_000);
    ledger.add(&bob, What::new(&key(1), &[1; 32]), (1, 100), 2_000);
    let what = What::new(&key(1), &[2; 32]);
    assert_eq!(ledger.used(&bob, &what, 5_000), Used { files: 1, bytes: 100, ..Used::default() });
    assert!(ledger.used(&bob, &What::new(&key(1), &[1; 32]), 5_000).counted);
    assert!(!ledger.used(&bob, &What::new(&key(9), &[1; 32]), 5_000).counted, "to somebody else");
    assert_eq!(ledger.used(&eve, &what, 5_000), Used::default());
    assert_eq!(ledger.used(&bob, &what, 1_000 + day), Used::default());
    for n in 0..10_000_u32 {
        let mut root = [0; 32];
        root[..4].copy_from_slice(&n.to_be_bytes());
        ledger.add(&bob, What::new(&key(1), &root), (1, 10), 6_000);
    }
    assert_eq!(ledger.used(&bob, &what, 7_000).files, 10_001);
    let bytes = ledger.to_bytes();
    assert!(bytes.len() <= LEDGER_MAX);
    assert_eq!(Ledger::from_bytes(&bytes), Ok(ledger));
    assert!(Ledger::from_bytes(&bytes[..bytes.len() - 1]).is_err());
}

/// Beginnings by which files are known, each of which a shorter file may end in.
const MAGIC: [&[u8]; 22] = [
    b"\x7fELF",
    b"MZ",
    b"\xca\xfe\xba\xbe",
    b"BC",
    b"dex\n",
    b"dey\n",
    b"PK\x03\x04",
    b"RIFF",
    b"\0\0\0\x20ftyp",
    b"ID3",
    b"OggS",
    b"<?xml",
    b"<!DOCTYPE HTML",
    b"#!",
    b"\x1a\x45\xdf\xa3",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"%PDF",
    b"AT&TFORM",
    b"\x28\xb5\x2f\xfd",
    b"\x50\x2a\x4d\x18",
    b"\xff\xd8\xff",
    b"FORM",
];

proptest! {
    #[test]
    fn no_names_globs_types_or_heads_panic(
        name in r"(\PC|[./\\ *?]){0,80}",
        globs in proptest::collection::vec(r"(\PC|[*?{}!,\[\]\\-]){0,60}", 0..4),
        types in proptest::collection::vec(r"(\PC|[a-z/*]){0,30}", 0..4),
        magic in 0..MAGIC.len(),
        tail in proptest::collection::vec(any::<u8>(), 0..300),
        keep in 0..300_usize,
    ) {
        let limits = Limits {
            deny_names: globs.clone(), allow_names: globs, deny_types: types.clone(), allow_types: types, ..Limits::default()
        };
        let _ = check(&limits);
        let rules = Rules::among([ruled(Scope::All, limits)], &[], bob(), &key(1), Used::default());
        let _ = rules.judge(&file(&name));
        let mut head = MAGIC[magic].to_vec();
        head.extend(tail);
        head.truncate(keep);
        let _ = rules.judge_head(&name, &head).map_err(|verdict| verdict.detail());
        let _ = media_of(&head);
    }

    #[test]
    fn flags_never_panic_and_words_keep_what_is_in_quotes(text in r#"(\PC|["' =-]){0,100}"#) {
        let _ = parse(&text);
        let _ = words(&text);
        let _ = bytes(&text);
    }

    #[test]
    fn what_is_checked_can_be_read(
        globs in proptest::collection::vec(r"[a-z*?.\[\]{}]{1,10}", 0..3), root in "[0-9A-F]{64}"
    ) {
        let limits = Limits { deny_names: globs, deny_roots: vec![root], ..Limits::default() };
        if let Ok(checked) = check(&limits) {
            let again = check(&checked);
            prop_assert_eq!(again.as_ref(), Ok(&checked));
            let no = ruled(Scope::All, checked).item(&Item { name: "\u{1}", ..Item::default() });
            prop_assert!(!no.is_err_and(|verdict| verdict.why.contains("understand")));
        }
    }
}
