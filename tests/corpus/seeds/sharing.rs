//! Rules on sharing, as a server's document has them before it is signed.

use secchat::crypto::identity::Identity;
use secchat::transfer::restrict::parse;
use secchat::wire::encode;
use secchat::wire::id::Id;
use secchat::wire::name::Name;
use secchat::wire::sharing::{Document, Limits, Rule, Scope};

pub fn documents() -> Vec<(&'static str, Vec<u8>)> {
    let user = Scope::user(&Identity::from_seed(&[2; 32]).public());
    let all = "--deny-name *.exe --allow-name *.jpg --deny-type application/x-executable --allow-type image/* --max-size 1M \
               --files-a-day 2 --bytes-a-day 3M --at-once 1 --only bob@s1";
    let broken = Limits { deny_names: vec!["[".into()], deny_types: vec!["\u{202e}".into()], ..Limits::default() };
    vec![
        ("ok-nothing", document(Vec::new())),
        ("ok-all", document(vec![rule(Scope::All, parse(all).unwrap().limits)])),
        ("ok-scopes", document([Scope::All, Scope::Room(Id([7; 16])), user].map(|scope| rule(scope, off())).into())),
        ("ok-broken-patterns", document(vec![rule(Scope::All, broken)])),
    ]
}

fn off() -> Limits {
    Limits { off: true, ..Limits::default() }
}

fn rule(scope: Scope, limits: Limits) -> Rule {
    Rule { id: u64::MAX, scope, limits, reason: Some("because \u{1b}[2J".into()) }
}

fn document(rules: Vec<Rule>) -> Vec<u8> {
    encode(&Document { server: Name::parse("s1").unwrap(), version: 7, rules, issued_ms: 9 })
}
