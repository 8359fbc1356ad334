//! The server, its ten clients, and the script's calls.

use secchat::cli::drive::{Process, Server, start_client};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub const WAIT: Duration = Duration::from_secs(30);
/// In the rooms `lobby` and `hall`, which alice has made; she has a private `den` too.
pub const TEN: [&str; 10] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"];

pub struct Stage {
    pub dir: TempDir,
    pub server: Server,
    pub clients: BTreeMap<String, Process>,
}

impl Stage {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(binary(), dir.path(), "s1", "127.0.0.1:0", &["--listen", "[::1]:0"]).unwrap();
        let mut stage = Self { dir, server, clients: BTreeMap::new() };
        let share = stage.path("share");
        std::fs::create_dir(&share).unwrap();
        std::fs::write(share.join("notes.txt"), vec![7; 2000]).unwrap();
        std::fs::write(share.join("disk.iso"), vec![8; 3000]).unwrap();
        let share = share.to_str().unwrap().to_owned();
        stage.start("alice", &["--room", "lobby", "--create", "--share", &share]);
        stage.hears("alice", "room_created", |event| event["room"] == "lobby@s1");
        stage.says("alice", "/create hall");
        stage.hears("alice", "room_created", |event| event["room"] == "hall@s1");
        stage.says("alice", "@me setglobalshare");
        for name in TEN.iter().skip(1) {
            stage.enters(name);
        }
        stage.says("alice", "/create den --private");
        let den = stage.hears("alice", "room_created", |event| event["room"] == "den@s1");
        let secret = stage.path("secret");
        std::fs::write(&secret, den["secret"].as_str().unwrap()).unwrap();
        stage.says("alice", "/room hall");
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts somebody's client; it is connected then.
    pub fn start(&mut self, name: &str, more: &[&str]) {
        let downloads = self.path(&format!("downloads-{name}")).to_str().unwrap().to_owned();
        let more = [&["--downloads", &downloads], more].concat();
        let client = start_client(binary(), self.dir.path(), name, &self.server.invite, &more).unwrap();
        self.clients.insert(name.to_owned(), client);
    }

    /// Starts somebody's client, in the hall; and in the lobby, since a program's client ends with its last room.
    pub fn enters(&mut self, name: &str) {
        self.start(name, &["--room", "lobby"]);
        self.hears(name, "joined", |event| event["room"] == "lobby@s1");
        self.says(name, "/join hall");
        self.hears(name, "joined", |event| event["room"] == "hall@s1");
    }

    /// A client of this name, with the data directory of another one perhaps, that says one thing and leaves: its exit code and events.
    pub fn tries(&self, name: &str, data: &str, more: &[&str]) -> (i32, String) {
        let data = self.path(&format!("client-{data}"));
        let mut command = Command::new(binary());
        command.args(["client", "--json", "--invite", &self.server.invite, "--name", name, "--data"]).arg(data);
        let output = command.args(more).args(["--exec", "/rooms"]).stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
    }

    /// Of somebody's key, as they see it themselves.
    pub fn fingerprint(&self, name: &str) -> String {
        let data = self.path(&format!("client-{name}"));
        let output = Command::new(binary()).args(["id", "show", "--data"]).arg(data).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        shown.lines().find_map(|line| line.strip_prefix("key ")).unwrap().trim().to_owned()
    }

    /// The client ends, and says how.
    pub fn leaves(&mut self, name: &str) -> Option<i32> {
        let mut client = self.clients.remove(name).unwrap();
        client.say("exit").unwrap();
        client.wait_exit(WAIT).unwrap()
    }

    /// The client of somebody has ended by itself with this exit code, after it said goodbye for this reason.
    pub fn is_sent_away(&mut self, name: &str, reason: &str) {
        let mut client = self.clients.remove(name).unwrap();
        client.wait_event("bye", WAIT, |event| event["reason"] == reason).unwrap();
        assert_eq!(client.wait_exit(WAIT).unwrap(), Some(4), "{name}");
    }

    pub fn says(&mut self, name: &str, line: &str) {
        self.clients.get_mut(name).unwrap().say(line).unwrap();
    }

    /// The next event of this kind that fits.
    #[track_caller]
    pub fn hears(&mut self, name: &str, kind: &str, fits: impl FnMut(&Value) -> bool) -> Value {
        self.clients.get_mut(name).unwrap().wait_event(kind, WAIT, fits).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    #[track_caller]
    pub fn is_told(&mut self, name: &str, text: &str) {
        self.hears(name, "notice", |event| event["text"].as_str().unwrap().contains(text));
    }

    /// A line of one reaches another one in the hall.
    #[track_caller]
    pub fn can_speak(&mut self, name: &str, to: &str, text: &str) {
        self.says(name, text);
        self.hears(to, "message", |event| event["text"] == text && event["from"] == format!("{name}@s1"));
    }

    /// `secchat admin --json --yes`: exit code and answer.
    pub fn asks(&self, arguments: &[&str]) -> (i32, Value) {
        let mut command = Command::new(binary());
        command.args(["admin", "--json", "--yes", "--data"]).arg(&self.server.data).args(arguments);
        parsed(arguments, command)
    }

    /// The same as somebody with a role, from afar.
    pub fn asks_as(&self, name: &str, arguments: &[&str]) -> (i32, Value) {
        let data = self.path(&format!("client-{name}"));
        let mut command = Command::new(binary());
        command.args(["admin", "--json", "--yes", "--invite", &self.server.invite, "--client-data"]).arg(data);
        parsed(arguments, {
            command.args(arguments);
            command
        })
    }

    /// It is done; the answer.
    #[track_caller]
    pub fn done(&self, arguments: &[&str]) -> Value {
        let (code, answer) = self.asks(arguments);
        assert_eq!((code, answer["answer"].as_str()), (0, Some("done")), "{arguments:?}: {answer}");
        answer
    }

    /// It is not done, for this reason.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str], exit: i32, word: &str) {
        let (code, answer) = self.asks(arguments);
        assert_eq!((code, answer["code"].as_str()), (exit, Some(word)), "{arguments:?}: {answer}");
    }

    /// The rows of a list.
    #[track_caller]
    pub fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let (code, answer) = self.asks(arguments);
        assert_eq!(code, 0, "{arguments:?}: {answer}");
        answer["rows"].as_array().unwrap().clone()
    }
}

fn parsed(arguments: &[&str], mut command: Command) -> (i32, Value) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let answer = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {out}{err}"));
    (output.status.code().unwrap_or(-1), answer)
}

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_secchat"))
}
