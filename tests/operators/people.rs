//! Words, mutes, kicks, bans, roles, released names.

use crate::stage::{Stage, TEN, WAIT};
use secchat::wire::invite::Invite;

pub fn words(stage: &mut Stage) {
    stage.done(&["message", "bob", "mind", "your", "step"]);
    stage.is_told("bob", "mind your step");
    stage.done(&["broadcast", "the kitchen is open"]);
    TEN.into_iter().for_each(|name| stage.is_told(name, "the kitchen is open"));
    let carol: Vec<String> = stage.clients["carol"].events().map(|event| event.to_string()).collect();
    assert!(!carol.iter().any(|event| event.contains("mind your step")));
    stage.fails(&["message", "nobody", "x"], 5, "unknown_user");
}

pub fn mutes(stage: &mut Stage) {
    stage.done(&["mute", "bob", "--room", "hall", "--for", "10min", "--reason", "let others speak"]);
    stage.says("bob", "may I?");
    let error = stage.hears("bob", "error", |event| event["code"] == "muted");
    assert!(error["message"].as_str().unwrap().contains("let others speak"), "{error}");
    let rows = stage.rows(&["mutes"]);
    assert_eq!((rows.len(), rows[0]["name"].as_str()), (1, Some("bob@s1")), "{rows:?}");
    stage.done(&["unmute", "bob", "--room", "hall"]);
    stage.can_speak("bob", "carol", "thank you");
    // Everywhere.
    stage.done(&["mute", "bob"]);
    stage.says("bob", "@carol psst");
    stage.hears("bob", "error", |event| event["code"] == "muted");
    stage.done(&["unmute", "bob"]);
    stage.can_speak("bob", "carol", "thank you again");
    stage.fails(&["mute", "nobody"], 5, "unknown_user");
}

pub fn kicks(stage: &mut Stage) {
    stage.done(&["kick", "bob", "--room", "hall", "--reason", "off topic"]);
    stage.hears("bob", "left", |event| event["room"] == "hall@s1" && event["reason"] == "kicked");
    stage.hears("carol", "member_left", |event| event["name"] == "bob@s1" && event["reason"] == "kicked");
    stage.says("bob", "/join hall");
    stage.hears("bob", "joined", |event| event["room"] == "hall@s1");
    stage.can_speak("bob", "carol", "back again");
    stage.done(&["kick", "judy", "--reason", "asleep"]);
    stage.is_told("judy", "asleep");
    stage.is_sent_away("judy", "kicked");
    stage.hears("carol", "member_left", |event| event["name"] == "judy@s1");
    stage.enters("judy");
    stage.fails(&["kick", "nobody"], 5, "unknown_user");
    stage.fails(&["kick", "bob", "--room", "nowhere"], 5, "unknown_room");
}

pub fn bans(stage: &mut Stage) {
    let id = stage.done(&["ban", "dave", "--for", "2h", "--reason", "spam"])["id"].as_str().unwrap().to_owned();
    stage.is_sent_away("dave", "banned");
    stage.hears("carol", "member_left", |event| event["name"] == "dave@s1");
    // Nor under another name with the same key.
    for name in ["dave", "davide"] {
        let (code, said) = stage.tries(name, "dave", &[]);
        assert!(code == 4 && said.contains(r#""code":"banned""#) && said.contains("spam"), "{name}: {said}");
    }
    let rows = stage.rows(&["bans"]);
    assert!(rows.iter().any(|row| row["id"] == id && row["until_ms"].is_u64() && row["reason"] == "spam"), "{rows:?}");
    stage.done(&["unban", &id]);
    stage.enters("dave");
    stage.fails(&["unban", "999"], 5, "unknown_id");
    stage.fails(&["ban", "nobody"], 5, "unknown_user");
}

pub fn keys_and_networks(stage: &mut Stage) {
    let erin = stage.fingerprint("erin");
    let id =
        stage.done(&["ban", "--fingerprint", &erin, "--reason", "a stolen key"])["id"].as_str().unwrap().to_owned();
    stage.is_sent_away("erin", "banned");
    assert_eq!(stage.tries("erin", "erin", &[]).0, 4);
    stage.done(&["unban", &id]);
    stage.enters("erin");
    // Those who come over IPv6; the ten come over IPv4.
    let listening = stage.server.process.said().iter().find(|line| line.contains("[::1]:")).unwrap();
    let port = listening.rsplit(':').next().unwrap().parse().unwrap();
    let invite = Invite {
        host: secchat::wire::invite::Host::V6("::1".parse().unwrap()),
        port,
        ..Invite::parse(&stage.server.invite).unwrap()
    };
    let (invite, first) = (invite.to_url(false).to_string(), stage.server.invite.clone());
    let id = stage.done(&["ban", "--network", "::1/128", "--reason", "closed"])["id"].as_str().unwrap().to_owned();
    stage.server.invite = invite;
    let (code, said) = stage.tries("kim", "kim", &[]);
    stage.done(&["unban", &id]);
    let (after, said_after) = stage.tries("kim", "kim", &[]);
    stage.server.invite = first;
    assert!(code != 0 && !said.contains("connected"), "{code} {said}");
    assert_eq!(after, 0, "{said_after}");
    stage.can_speak("erin", "carol", "nothing happened to us");
}

pub fn roles(stage: &mut Stage) {
    stage.done(&["grant", "ivan", "--role", "moderator"]);
    assert_eq!(stage.rows(&["roles"])[0]["role"], "moderator");
    assert_eq!(stage.asks_as("ivan", &["users"]).0, 0);
    let (code, answer) = stage.asks_as("ivan", &["defcon", "1"]);
    assert_eq!((code, answer["code"].as_str()), (4, Some("not_allowed")));
    let (code, answer) = stage.asks_as("ivan", &["kick", "ivan"]);
    assert_eq!((code, answer["code"].as_str()), (4, Some("not_allowed")), "not oneself");
    let (code, answer) = stage.asks_as("ivan", &["kick", "judy", "--reason", "by a moderator"]);
    assert_eq!(code, 0, "{answer}");
    stage.is_told("judy", "by a moderator");
    stage.is_sent_away("judy", "kicked");
    stage.enters("judy");
    stage.done(&["revoke", "ivan"]);
    assert_eq!(stage.asks_as("ivan", &["users"]).0, 4);
    stage.can_speak("ivan", "carol", "I was here all the time");
}

pub fn release(stage: &mut Stage) {
    stage.can_speak("grace", "carol", "my key is lost");
    assert_eq!(stage.leaves("grace"), Some(0));
    assert_eq!(stage.tries("grace", "another", &[]).0, 4, "the name is taken");
    stage.done(&["release", "grace"]);
    let mut grace = {
        let (invite, data) = (stage.server.invite.clone(), stage.path("client-another"));
        let arguments = [
            "client",
            "--json",
            "--invite",
            &invite,
            "--name",
            "grace",
            "--room",
            "hall",
            "--data",
            data.to_str().unwrap(),
        ];
        let arguments: Vec<String> = arguments.map(str::to_owned).into();
        secchat::cli::drive::Process::start(crate::stage::binary(), "grace", &arguments, &stage.path("grace.log"))
            .unwrap()
    };
    grace.wait_event("joined", WAIT, |_| true).unwrap();
    stage.clients.insert("grace".into(), grace);
    stage.hears("carol", "key_changed", |event| event["name"] == "grace@s1");
}
