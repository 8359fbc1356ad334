//! What may be shared. Alice has `notes.txt` and `disk.iso`.

use crate::stage::Stage;

impl Stage {
    #[track_caller]
    fn gets(&mut self, name: &str, file: &str) {
        self.says(name, &format!("@alice getfile {file}"));
        self.hears(name, "transfer_done", |event| event["file"] == file);
    }

    /// It is refused by a rule, and the rule is named.
    #[track_caller]
    fn is_refused(&mut self, name: &str, file: &str, why: &str) {
        self.says(name, &format!("@alice getfile {file}"));
        let error = self.hears(name, "error", |event| event["code"] == "restricted");
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
    }

    fn restricts(&self, arguments: &[&str]) -> String {
        self.done(&[&["restrict"], arguments].concat())["id"].as_str().unwrap().to_owned()
    }

    /// The only rule is lifted, and this one has heard of it: until then its client refuses by itself.
    #[track_caller]
    fn lifts(&mut self, rule: &str, name: &str) {
        self.done(&["unrestrict", rule]);
        self.is_told(name, "nothing is restricted any more");
    }
}

pub fn rules(stage: &mut Stage) {
    stage.gets("heidi", "disk.iso");
    let name = stage.restricts(&["--deny-name", "*.iso", "--reason", "no images"]);
    stage.is_refused("erin", "disk.iso", "no images");
    stage.gets("erin", "notes.txt");
    assert_eq!(stage.rows(&["restrictions"])[0]["id"].to_string(), name);
    stage.lifts(&name, "erin");
    stage.gets("erin", "disk.iso");
    let size = stage.restricts(&["--max-size", "2500"]);
    stage.is_refused("dave", "disk.iso", "");
    stage.gets("dave", "notes.txt");
    stage.done(&["unrestrict", &size]);
    let off = stage.restricts(&["--off", "--reason", "not today"]);
    stage.is_refused("bob", "notes.txt", "not today");
    stage.lifts(&off, "bob");
    stage.gets("bob", "notes.txt");
    assert!(stage.rows(&["restrictions"]).is_empty());
    stage.fails(&["unrestrict", "999"], 5, "unknown_id");
}

pub fn scopes(stage: &mut Stage) {
    let user = stage.restricts(&["--user", "carol", "--off"]);
    stage.is_refused("carol", "notes.txt", "");
    stage.gets("ivan", "notes.txt");
    stage.done(&["unrestrict", &user]);
    let room = stage.restricts(&["--room", "hall", "--deny-type", "text/*", "--deny-name", "*.txt"]);
    stage.is_refused("carol", "notes.txt", "");
    stage.lifts(&room, "carol");
    stage.gets("carol", "notes.txt");
    stage.fails(&["restrict", "--off", "--user", "nobody"], 5, "unknown_user");
    stage.fails(&["restrict", "--off", "--room", "nowhere"], 5, "unknown_room");
}
