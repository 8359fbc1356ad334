//! Who gets in.

use crate::stage::Stage;

pub fn allow_list(stage: &mut Stage) {
    stage.done(&["allow", "add", "alice"]);
    stage.can_speak("frank", "carol", "who is in stays in");
    stage.leaves("frank");
    let (code, said) = stage.tries("frank", "frank", &[]);
    assert!(code == 4 && said.contains(r#""code":"not_listed""#), "{said}");
    stage.done(&["allow", "add", "frank"]);
    assert_eq!(stage.rows(&["allow", "list"]).len(), 2);
    stage.enters("frank");
    stage.done(&["allow", "remove", "frank"]);
    stage.done(&["allow", "remove", "alice"]);
    assert_eq!(stage.tries("lena", "lena", &[]).0, 0, "with the last one the list ends");
    stage.fails(&["allow", "add", "nobody"], 5, "unknown_user");
}

pub fn registration(stage: &mut Stage) {
    let closed = |(code, said): (i32, String)| code == 4 && said.contains(r#""code":"registration_closed""#);
    stage.done(&["registration", "closed"]);
    assert!(closed(stage.tries("mia", "mia", &[])));
    stage.done(&["registration", "invite"]);
    assert!(closed(stage.tries("mia", "mia", &[])));
    let token = stage.done(&["invitation", "--uses", "1", "--for", "1h"])["token"].as_str().unwrap().to_owned();
    let file = stage.path("token");
    std::fs::write(&file, token).unwrap();
    let token = ["--token-file", file.to_str().unwrap()];
    let (code, said) = stage.tries("mia", "mia", &token);
    assert_eq!(code, 0, "{said}");
    assert!(closed(stage.tries("nora", "nora", &token)), "it was for one");
    assert_eq!(stage.tries("mia", "mia", &[]).0, 0, "names that are taken stay");
    assert_eq!(stage.asks(&["settings"]).1["registration"], "invite");
    stage.done(&["registration", "open"]);
    assert_eq!(stage.tries("nora", "nora", &[]).0, 0);
}

pub fn levels(stage: &mut Stage) {
    stage.done(&["defcon", "3"]);
    assert_eq!(stage.tries("olga", "olga", &[]).0, 4, "new names by invitation only");
    stage.done(&["defcon", "2"]);
    stage.says("carol", "/create parlour");
    stage.hears("carol", "error", |_| true);
    stage.can_speak("bob", "carol", "slowly");
    stage.done(&["defcon", "1"]);
    stage.leaves("frank");
    assert_eq!(stage.tries("frank", "frank", &[]).0, 4, "only who has a role or is on the list");
    assert_eq!(stage.asks(&["settings"]).1["defcon"], 1);
    stage.done(&["defcon", "5"]);
    stage.enters("frank");
    assert_eq!(stage.tries("olga", "olga", &[]).0, 0);
}
