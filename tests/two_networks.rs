//! The main job between two network namespaces, over IPv4 and IPv6. Needs root and `ip`; says so and passes where they are missing.

use secchat::cli::drive::{Process, client_args};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

/// Two namespaces joined by a veth pair: `a` has 10.99.7.1 or fd99:7::1, `b` has .2 or ::2. Removed when dropped.
struct Networks {
    a: String,
    b: String,
}

impl Networks {
    fn lay(tag: &str) -> Option<Self> {
        let id = std::process::id();
        let nets = Self { a: format!("sc{tag}a{id}"), b: format!("sc{tag}b{id}") };
        let (a, b) = (nets.a.as_str(), nets.b.as_str());
        let (va, vb) = (format!("v{tag}a{id}"), format!("v{tag}b{id}"));
        let mut steps = vec![
            vec!["netns", "add", a],
            vec!["netns", "add", b],
            vec!["link", "add", &va, "netns", a, "type", "veth", "peer", "name", &vb, "netns", b],
        ];
        for (ns, link, v4, v6) in [(a, &va, "10.99.7.1/24", "fd99:7::1/64"), (b, &vb, "10.99.7.2/24", "fd99:7::2/64")] {
            // One family each, so that the files too must go by it.
            let address = if tag == "4" { vec![v4] } else { vec![v6, "nodad"] };
            let (cidr, more) = (address[0], &address[1..]);
            steps.push([&["-n", ns, "addr", "add", cidr, "dev", link], more].concat());
            steps.push(vec!["-n", ns, "link", "set", link, "up"]);
            steps.push(vec!["-n", ns, "link", "set", "lo", "up"]);
        }
        steps.iter().all(|step| ip(step)).then_some(nets)
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.a]);
        ip(&["netns", "del", &self.b]);
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).output().is_ok_and(|out| out.status.success())
}

fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn start(ns: &str, who: &str, args: Vec<String>, dir: &Path) -> Process {
    let mut full: Vec<String> = ["netns", "exec", ns, env!("CARGO_BIN_EXE_secchat")].map(str::to_owned).to_vec();
    full.extend(args);
    Process::start(Path::new("ip"), who, &full, &dir.join(format!("{who}.log"))).unwrap()
}

fn across(tag: &str, listen: &str) {
    let Some(nets) = Networks::lay(tag) else {
        eprintln!("skipped: network namespaces need root and ip");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let data = at("server").display().to_string();
    let args = ["server", "--listen", listen, "--name", "s1", "--data", &data].map(str::to_owned).to_vec();
    let mut server = start(&nets.a, "server", args, dir.path());
    let invite = server
        .wait_line("its invite", WAIT, |line| {
            line.split_whitespace().find(|word| word.starts_with("secchat://")).map(str::to_owned)
        })
        .unwrap();

    let share = at("share");
    std::fs::create_dir(&share).unwrap();
    let mut content = vec![0; 5_000_000];
    blake3::Hasher::new().update(tag.as_bytes()).finalize_xof().fill(&mut content);
    std::fs::write(share.join("data.bin"), &content).unwrap();
    let share = share.display().to_string();
    let more = ["--room", "lab", "--create", "--private", "--share", &share];
    let mut alice = start(&nets.a, "alice", client_args(dir.path(), "alice", &invite, &more), dir.path());
    let created = alice.wait_event("room_created", WAIT, |_| true).unwrap();
    let secret = at("secret");
    std::fs::write(&secret, field(&created, "secret")).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let secret = secret.display().to_string();
    let downloads = at("downloads").display().to_string();
    let more = ["--room", "lab", "--password-file", &secret, "--downloads", &downloads];
    let mut bob = start(&nets.b, "bob", client_args(dir.path(), "bob", &invite, &more), dir.path());
    bob.wait_event("joined", WAIT, |_| true).unwrap();

    bob.say("over there").unwrap();
    alice.wait_event("message", WAIT, |e| field(e, "text") == "over there").unwrap();
    alice.say("@me setglobalshare").unwrap();
    alice.wait_event("ok", WAIT, |e| field(e, "command").starts_with("set")).unwrap();
    bob.say("@alice getfile data.bin").unwrap();
    let done = bob.wait_event("transfer_done", WAIT, |_| true).unwrap();
    assert_eq!(std::fs::read(field(&done, "path")).unwrap(), content);
    let by_family = if tag == "4" { "10.99.7." } else { "[fd99:7::" };
    assert!(field(&done, "route").starts_with(by_family), "{done}");
}

#[test]
fn a_file_crosses_between_two_networks_over_ipv4() {
    across("4", "10.99.7.1:7443");
}

#[test]
fn a_file_crosses_between_two_networks_over_ipv6() {
    across("6", "[fd99:7::1]:7443");
}
