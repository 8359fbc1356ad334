//! Rooms: what an operator does, and what only their owner can do.

use crate::stage::Stage;

pub fn locks(stage: &mut Stage) {
    stage.done(&["room", "lock", "hall"]);
    let joins = ["--room", "hall"];
    let (code, said) = stage.tries("paul", "paul", &joins);
    assert!(code != 0 && said.contains(r#""code":"locked""#), "{said}");
    stage.can_speak("bob", "carol", "we stay");
    assert!(stage.rows(&["rooms"]).iter().any(|row| row["room"] == "hall@s1" && row["locked"] == true));
    stage.done(&["room", "unlock", "hall"]);
    assert_eq!(stage.tries("paul", "paul", &joins).0, 0);
    stage.fails(&["room", "lock", "nowhere"], 5, "unknown_room");
}

/// The owner is asked, and nothing happens by itself.
pub fn wishes(stage: &mut Stage) {
    let secret = stage.path("secret");
    stage.start("quinn", &["--room", "den", "--password-file", secret.to_str().unwrap()]);
    stage.hears("quinn", "joined", |event| event["room"] == "den@s1");
    let version = |stage: &Stage| stage.asks(&["room", "show", "den"]).1["policy_version"].clone();
    let before = version(stage);
    stage.done(&["room", "set-password", "den"]);
    stage.hears("alice", "wished", |event| event["room"] == "den@s1" && event["wish"] == "new_secret");
    stage.done(&["room", "owner", "den", "quinn"]);
    stage.hears("alice", "wished", |event| {
        event["wish"] == "hand_over" && event["name"].as_str().unwrap().starts_with("quinn")
    });
    assert_eq!(version(stage), before);
    assert_eq!(stage.asks(&["room", "show", "den"]).1["owner"], "alice@s1");
}

pub fn close(stage: &mut Stage) {
    stage.done(&["room", "close", "den", "--reason", "the house is tidied"]);
    stage.hears("alice", "left", |event| event["room"] == "den@s1");
    stage.is_told("quinn", "the house is tidied");
    assert!(!stage.rows(&["rooms"]).iter().any(|row| row["room"] == "den@s1"));
    stage.says("alice", "/room hall");
    stage.fails(&["room", "close", "den"], 5, "unknown_room");
}
