//! `secchat demo`: the whole thing at work on loopback, with its real parts, in half a minute.

use super::drive::{DriveError, Process, Server, client_args, start_client};
use super::exit::ExitCode;
use super::report::Report;
use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);
const TRANSFER_WAIT: Duration = Duration::from_secs(600);
const CANARY: &str = "the harbour at seven, bring the blue folder";
const ANSWER: &str = "noted, I will fetch the recording first";

/// Options of the demo.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  secchat demo\n  secchat demo --file ~/big.iso\n  secchat demo --size-mib 1024")]
pub struct DemoArgs {
    /// Send this file instead of one made on the spot
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Size of the file that is made on the spot, MiB
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub size_mib: u64,
    /// Keep the directory with the data of server and clients, and print its path
    #[arg(long)]
    pub keep: bool,
}

/// A step of the demo that failed.
#[derive(Debug, thiserror::Error)]
#[error("step \"{step}\" failed: {cause}")]
pub struct DemoError {
    /// Which step.
    pub step: &'static str,
    /// Why.
    pub cause: Cause,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A process did not do its part.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The server's database could not be read.
    #[error("reading what the server stored: {0}")]
    Stored(#[from] crate::store::StoreError),
    /// It went otherwise than it must.
    #[error("{0}")]
    Wrong(String),
}

/// Runs the demo; an error names the step.
pub fn run(args: &DemoArgs) -> Result<ExitCode, Report> {
    perform(args).map_err(|error| Report::new(ExitCode::Failed, error))?;
    Ok(ExitCode::Done)
}

fn perform(args: &DemoArgs) -> Result<(), DemoError> {
    let mut demo = Demo::prepare(args).map_err(|cause| DemoError { step: "prepare", cause })?;
    let steps: [Step; 6] = [
        ("private room", Demo::private_room),
        ("wrong password", Demo::wrong_password),
        ("chat", Demo::chat),
        ("what the server stored", Demo::what_the_server_stored),
        ("file", Demo::file),
        ("leave", Demo::leave),
    ];
    for (step, act) in steps {
        println!("\n── {step}");
        if let Err(cause) = act(&mut demo) {
            demo.keep_for_inspection();
            return Err(DemoError { step, cause });
        }
    }
    println!("\ndone in {:.1} s: every step held", demo.started.elapsed().as_secs_f64());
    if args.keep {
        demo.keep_for_inspection();
    }
    Ok(())
}

/// A step, by name.
type Step = (&'static str, fn(&mut Demo) -> Result<(), Cause>);

struct Demo {
    dir: tempfile::TempDir,
    binary: PathBuf,
    server: Server,
    alice: Process,
    bob: Option<Process>,
    file: PathBuf,
    size: u64,
    secret: String,
    started: Instant,
}

impl Demo {
    fn prepare(args: &DemoArgs) -> Result<Self, Cause> {
        let started = Instant::now();
        let dir = tempfile::Builder::new().prefix("secchat-demo-").tempdir()?;
        let binary = std::env::current_exe()?;
        let share = dir.path().join("alice's files");
        std::fs::create_dir(&share)?;
        let file = place_file(args, &share)?;
        let size = std::fs::metadata(&file)?.len();
        println!("── server and two clients, each a process of its own");
        let server = Server::start(&binary, dir.path(), "demo", "127.0.0.1:0", &[])?;
        println!("server  demo, TLS 1.3, its own certificate; invite {}", server.invite);
        let share = share.display().to_string();
        let more = ["--share", &share, "--room", "lab", "--create", "--private"];
        let alice = start_client(&binary, dir.path(), "alice", &server.invite, &more)?;
        if let Some(tls) = alice.said().iter().find_map(|l| field(&serde_json::from_str(l).ok()?, "tls")) {
            println!("alice   connected: {tls}");
        }
        Ok(Self { dir, binary, server, alice, bob: None, file, size, secret: String::new(), started })
    }

    fn private_room(&mut self) -> Result<(), Cause> {
        let created = self.alice.wait_event("room_created", WAIT, |_| true)?;
        self.secret = field(&created, "secret").ok_or_else(|| wrong("the new room came without a secret"))?;
        let room = field(&created, "room").unwrap_or_default();
        println!("alice   made {room}, private; its generated secret goes to bob by another way");
        Ok(())
    }

    fn wrong_password(&mut self) -> Result<(), Cause> {
        let password = self.password_file("wrong", "correct horse battery staple")?;
        let more = ["--room", "lab", "--password-file", &password];
        let args = client_args(self.dir.path(), "mallory", &self.server.invite, &more);
        let log = self.dir.path().join("mallory.log");
        let mut mallory = Process::start(&self.binary, "mallory", &args, &log)?;
        mallory.close_input();
        match mallory.wait_exit(WAIT)? {
            Some(4) => println!("mallory with a wrong password: refused, exit code 4"),
            other => return Err(wrong(&format!("a wrong password ended with {other:?} instead of exit code 4"))),
        }
        Ok(())
    }

    fn chat(&mut self) -> Result<(), Cause> {
        let password = self.password_file("right", &self.secret.clone())?;
        let downloads = self.dir.path().join("bob's downloads");
        std::fs::create_dir(&downloads)?;
        let downloads = downloads.display().to_string();
        let more = ["--room", "lab", "--password-file", &password, "--downloads", &downloads];
        let mut bob = start_client(&self.binary, self.dir.path(), "bob", &self.server.invite, &more)?;
        bob.wait_event("joined", WAIT, |_| true)?;
        self.alice.wait_event("member_joined", WAIT, |e| field(e, "name").is_some_and(|n| n.starts_with("bob")))?;
        println!("bob     joined with the right one; alice and bob see each other");
        self.alice.say(CANARY)?;
        bob.wait_event("message", WAIT, |e| field(e, "text").as_deref() == Some(CANARY))?;
        println!("alice → lab   {CANARY}");
        bob.say(ANSWER)?;
        self.alice.wait_event("message", WAIT, |e| field(e, "text").as_deref() == Some(ANSWER))?;
        println!("bob   → lab   {ANSWER}");
        self.bob = Some(bob);
        Ok(())
    }

    fn what_the_server_stored(&mut self) -> Result<(), Cause> {
        let mut held = 0;
        for needle in [CANARY, ANSWER, self.secret.as_str()] {
            held += files_holding(&self.server.data, needle.as_bytes())?;
        }
        if held > 0 {
            return Err(wrong("the server's data directory holds a message or the room's secret in clear"));
        }
        let rows = stored_rows(&self.server.data)?;
        for (seq, bytes) in rows.iter().rev().take(2).rev() {
            let shown: String = bytes.iter().rev().take(24).rev().map(|b| format!("{b:02x}")).collect();
            println!("row {seq}: {} bytes, ending …{shown}", bytes.len());
        }
        println!("neither message, nor the secret, is anywhere in its {} log rows or other files", rows.len());
        Ok(())
    }

    fn file(&mut self) -> Result<(), Cause> {
        let name = self.file.file_name().and_then(|n| n.to_str()).unwrap_or("file").to_owned();
        self.alice.say(&format!("@me setshare {name}"))?;
        self.alice.wait_event("ok", WAIT, |e| field(e, "command").as_deref() == Some("setshare"))?;
        let bob = self.bob.as_mut().ok_or_else(|| wrong("bob is not there"))?;
        bob.say("@all whohas *")?;
        let found = bob.wait_event("file_found", WAIT, |e| field(e, "file").as_deref() == Some(&name))?;
        println!("bob     whohas *: {} has {name}, {} bytes", field(&found, "from").unwrap_or_default(), self.size);
        let before = cpu_seconds(&[self.alice.pid(), bob.pid()]);
        bob.say(&format!("@alice getfile {name}"))?;
        let done = bob.wait_event("transfer_done", TRANSFER_WAIT, |_| true)?;
        let cpu = cpu_seconds(&[self.alice.pid(), bob.pid()]).zip(before).map(|(after, before)| after - before);
        let path = field(&done, "path").ok_or_else(|| wrong("the finished download has no path"))?;
        let (ours, theirs) = (hash(&self.file)?, hash(Path::new(&path))?);
        println!("alice   {ours}  {name}");
        println!("bob     {theirs}  fetched");
        if ours != theirs {
            return Err(wrong("the hashes differ"));
        }
        let seconds = done.get("seconds").and_then(Value::as_f64).unwrap_or(f64::NAN);
        let agreement = field(&done, "key_agreement").unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let gigabytes = self.size as f64 / 1e9;
        println!("equal hashes; {seconds:.2} s, {:.2} Gbit/s over UDP, keys by {agreement}", gigabytes * 8.0 / seconds);
        if let Some(cpu) = cpu {
            println!("CPU     {cpu:.2} s at both ends together, {:.1} s a GB", cpu / gigabytes);
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Cause> {
        let bob = self.bob.as_mut().ok_or_else(|| wrong("bob is not there"))?;
        bob.say("exit")?;
        expect_exit(bob, "bob")?;
        self.alice.wait_event("member_left", WAIT, |_| true)?;
        self.alice.say("exit")?;
        expect_exit(&mut self.alice, "alice")?;
        self.server.process.terminate();
        expect_exit(&mut self.server.process, "the server")?;
        println!("bob left, alice left, the server stopped: exit code 0 each");
        Ok(())
    }

    fn password_file(&self, name: &str, password: &str) -> Result<String, Cause> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.dir.path().join(format!("{name}.password"));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        writeln!(file, "{password}")?;
        Ok(path.display().to_string())
    }

    fn keep_for_inspection(&mut self) {
        self.dir.disable_cleanup(true);
        println!("data and logs are kept in {}", self.dir.path().display());
    }
}

fn expect_exit(process: &mut Process, who: &str) -> Result<(), Cause> {
    match process.wait_exit(WAIT)? {
        Some(0) => Ok(()),
        other => Err(wrong(&format!("{who} ended with {other:?} instead of exit code 0"))),
    }
}

fn wrong(what: &str) -> Cause {
    Cause::Wrong(what.to_owned())
}

fn field(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

/// Makes the file that alice shares: a hard link or copy of the given one, or fresh bytes that do not compress.
fn place_file(args: &DemoArgs, share: &Path) -> Result<PathBuf, Cause> {
    if let Some(given) = &args.file {
        let name = given.file_name().ok_or_else(|| wrong("--file needs the path of a file"))?;
        let placed = share.join(name);
        if std::fs::hard_link(given, &placed).is_err() {
            std::fs::copy(given, &placed)?;
        }
        return Ok(placed);
    }
    let placed = share.join("recording.bin");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&placed)?);
    let mut stream = blake3::Hasher::new().update(&args.size_mib.to_be_bytes()).finalize_xof();
    let mut block = vec![0; 1 << 20];
    for _ in 0..args.size_mib {
        stream.fill(&mut block);
        out.write_all(&block)?;
    }
    out.flush()?;
    Ok(placed)
}

fn hash(path: &Path) -> Result<String, Cause> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// How many files beneath `dir` hold `needle`.
fn files_holding(dir: &Path, needle: &[u8]) -> Result<usize, Cause> {
    let mut count = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            count += files_holding(&entry.path(), needle)?;
        } else if kind.is_file() {
            let mut bytes = Vec::new();
            std::fs::File::open(entry.path())?.read_to_end(&mut bytes)?;
            count += usize::from(bytes.windows(needle.len()).any(|window| window == needle));
        }
    }
    Ok(count)
}

/// The rows of all rooms' logs in the server's database: number and bytes.
fn stored_rows(data: &Path) -> Result<Vec<(u64, Vec<u8>)>, Cause> {
    let rows = crate::store::ServerStore::peek(data)?;
    if rows.is_empty() {
        return Err(wrong("the server's log is empty"));
    }
    Ok(rows)
}

/// User and system seconds of these processes so far, where the system tells (Linux).
fn cpu_seconds(pids: &[u32]) -> Option<f64> {
    let ticks = pids.iter().map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some(fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?)
    });
    let ticks: u32 = ticks.sum::<Option<u32>>()?;
    #[expect(clippy::cast_precision_loss, reason = "a hertz value is small")]
    let hertz = rustix::param::clock_ticks_per_second() as f64;
    Some(f64::from(ticks) / hertz)
}
