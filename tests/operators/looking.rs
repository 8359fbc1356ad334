//! What an operator sees, and the keeping of the server.

use crate::stage::{Stage, TEN, WAIT};

pub fn lists(stage: &mut Stage) {
    let users = stage.rows(&["users"]);
    let here = |name: &str| users.iter().any(|row| row["name"] == format!("{name}@s1") && row["online"] == true);
    assert!(TEN.into_iter().all(here), "{users:?}");
    let (_, bob) = stage.asks(&["show", "bob"]);
    assert_eq!((&bob["name"], bob["fingerprint"].as_str().map(str::len)), (&"bob@s1".into(), Some(64)), "{bob}");
    assert!(bob["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{bob}");
    assert!(bob["rooms"].to_string().contains("hall"), "{bob}");
    stage.fails(&["show", "nobody"], 5, "unknown_user");
    stage.fails(&["show", "\u{1b}[31m"], 5, "unknown_user");
    let rooms = stage.rows(&["rooms"]);
    let room = |label: &str| rooms.iter().find(|row| row["room"] == format!("{label}@s1")).unwrap().clone();
    assert_eq!((&room("hall")["members"], &room("hall")["owner"]), (&10.into(), &"alice@s1".into()));
    assert_eq!((&room("den")["members"], &room("den")["private"]), (&1.into(), &true.into()));
    let (_, hall) = stage.asks(&["room", "show", "hall"]);
    assert_eq!(hall["names"].as_array().unwrap().len(), 10, "{hall}");
    stage.fails(&["room", "show", "nowhere"], 5, "unknown_room");
    for list in ["bans", "mutes", "roles", "restrictions"] {
        assert!(stage.rows(&[list]).is_empty(), "{list}");
    }
    assert!(stage.rows(&["allow", "list"]).is_empty());
}

pub fn the_server(stage: &mut Stage) {
    let (code, health) = stage.asks(&["health"]);
    assert_eq!((code, &health["clients"], &health["ok"]), (0, &10.into(), &true.into()), "{health}");
    let (_, stats) = stage.asks(&["stats"]);
    assert_eq!((&stats["clients"], &stats["rooms"]), (&10.into(), &3.into()), "{stats}");
    let (_, settings) = stage.asks(&["settings"]);
    assert_eq!((&settings["registration"], &settings["defcon"]), (&"open".into(), &5.into()), "{settings}");
    assert_eq!(settings["relay"]["user_rate"], 512_u64 << 20, "{settings}");
    stage.fails(&["mesh"], 1, "failed");
}

pub fn audit(stage: &mut Stage) {
    let acts = stage.rows(&["audit", "--limit", "1000"]);
    let has = |act: &str, whom: &str, outcome: &str| {
        acts.iter().any(|row| {
            let of = row["whom"].as_str().unwrap_or_default();
            row["act"] == act && of.contains(whom) && row["outcome"] == outcome
        })
    };
    let all = [
        "message",
        "broadcast",
        "mute",
        "unmute",
        "kick",
        "ban",
        "unban",
        "grant",
        "revoke",
        "release",
        "allow",
        "disallow",
    ];
    let more =
        ["registration", "invitation", "defcon", "lock", "unlock", "ask_owner", "restrict", "unrestrict", "close"];
    let missing: Vec<_> = all.iter().chain(&more).filter(|act| !has(act, "", "done")).collect();
    assert_eq!(missing, Vec::<&&str>::new());
    assert!(has("kick", "judy", "done") && has("kick", "nobody", "unknown_user"));
    let said = acts.iter().map(ToString::to_string).collect::<String>();
    assert!(!said.contains("the kitchen is open"), "what was said to people is not kept");
    assert!(acts.iter().any(|row| row["who"] == "ivan@s1" && row["act"] == "kick"));
}

pub fn keeping(stage: &mut Stage) {
    stage.done(&["reload"]);
    let copy = stage.path("copy.db");
    stage.done(&["backup", copy.to_str().unwrap()]);
    stage.fails(&["backup", copy.to_str().unwrap()], 1, "already");
    assert!(std::fs::metadata(&copy).unwrap().len() > 10_000);
    // Nobody was dropped by either.
    stage.can_speak("alice", "bob", "all is well?");
    stage.done(&["stop"]);
    for name in ["alice", "bob"] {
        stage.hears(name, "reconnecting", |_| true);
    }
    assert_eq!(stage.server.process.wait_exit(WAIT).unwrap(), Some(0));
    let log = std::fs::read_to_string(stage.path("s1.log")).unwrap();
    for kept in ["all is well?", "the kitchen is open", "notes.txt", "disk.iso"] {
        assert!(!log.contains(kept), "{kept} stands in the log");
    }
}
