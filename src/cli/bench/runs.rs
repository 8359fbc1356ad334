//! Runs: processes started, told what to do, and asked what it cost.

use super::case::{BenchError, Case, Outcome, Spent};
use super::child::{Role, Told};
use super::ends::Heard;
use super::stop::{End, Ends};
use crate::cli::drive::Process;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A place for files, and the binary that becomes the ends.
#[derive(Debug)]
pub struct Runs {
    binary: PathBuf,
    dir: tempfile::TempDir,
    ends: Ends,
}

impl Runs {
    /// Files go beneath `dir`, or into memory, or where temporary files go.
    pub fn new(dir: Option<&Path>) -> Result<Self, BenchError> {
        let memory = Path::new("/dev/shm");
        let within =
            dir.map_or_else(|| if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }, Path::to_owned);
        let what = format!("making a directory in {}", within.display());
        let dir = tempfile::Builder::new().prefix("secchat-bench-").tempdir_in(within).map_err(BenchError::io(what))?;
        let binary = std::env::current_exe().map_err(BenchError::io("finding this program"))?;
        let ends = Ends::watched(dir.path())?;
        Ok(Self { binary, dir, ends })
    }

    /// The ceiling under these conditions: one sender, one receiver, no reliability; with the hash of what comes, or without.
    pub fn ceiling(&self, case: &Case, checks: bool) -> Result<Outcome, BenchError> {
        let (file, into) = (self.source(case.size)?, self.dir.path().join("ceiling"));
        let role = Role::CeilingReceiver { case: case.clone(), file: into.clone(), checks };
        let mut receiver = self.end("receiver", &role)?;
        let to = match hear(&mut receiver, "an address")? {
            Told::At(to) => to,
            told => return Err(wrong(told)),
        };
        let mut sender = self.end("sender", &Role::CeilingSender { case: case.clone(), file, to })?;
        let (sent, _) = spent(&mut sender)?;
        let (received, seconds) = spent(&mut receiver)?;
        // A fresh file for the next run: writing over an old one is faster.
        std::fs::remove_file(&into).map_err(BenchError::io("removing what was received"))?;
        Ok(Outcome { bytes: received.bytes, seconds, finished: 1, refused: 0, sender: sent, receiver: received })
    }

    /// Real transfers under these conditions, all begun together.
    pub fn transfer(&self, case: &Case) -> Result<Outcome, BenchError> {
        let place = tempfile::Builder::new().prefix("run-").tempdir_in(self.dir.path());
        let place = place.map_err(BenchError::io("making a directory"))?;
        let (mut holders, mut askers, mut outcome) = (Vec::new(), Vec::new(), Outcome::idle());
        for flow in 0..case.flows {
            let mut holder = self.holder(case, &place.path().join(format!("holder-{flow}")))?;
            for asker in 0..case.askers {
                let dir = place.path().join(format!("asker-{flow}-{asker}"));
                match self.introduce(case, &mut holder, &dir)? {
                    Some(asker) => askers.push(asker),
                    None => outcome.refused += 1,
                }
            }
            holders.push(holder);
        }
        for asker in &mut askers {
            say(asker, &Heard::Go)?;
        }
        for asker in &mut askers {
            let (spent, seconds) = spent(asker)?;
            outcome.finished += 1;
            outcome.bytes += spent.bytes;
            outcome.seconds = outcome.seconds.max(seconds);
            outcome.receiver = outcome.receiver.and(spent);
        }
        for holder in &mut holders {
            say(holder, &Heard::Go)?;
            outcome.sender = outcome.sender.and(spent(holder)?.0);
        }
        Ok(outcome)
    }

    /// A process that serves the file of this case.
    fn holder(&self, case: &Case, dir: &Path) -> Result<End, BenchError> {
        let source = self.source(case.size)?;
        let placed = std::fs::create_dir(dir).and_then(|()| std::fs::hard_link(&source, dir.join(FILE)));
        placed.map_err(BenchError::io(format!("placing a file in {}", dir.display())))?;
        self.end("holder", &Role::Holder { case: case.clone(), dir: dir.to_owned(), file: FILE.into() })
    }

    /// A process that is ready to fetch it; `None` if the holder has no slot.
    fn introduce(&self, case: &Case, holder: &mut End, dir: &Path) -> Result<Option<End>, BenchError> {
        std::fs::create_dir(dir).map_err(BenchError::io(format!("making {}", dir.display())))?;
        let mut random = [0; 16 + 2 * KEY_LEN];
        getrandom::fill(&mut random).map_err(|error| BenchError::Wrong(error.to_string()))?;
        let (transfer, keys) = random.split_first_chunk::<16>().ok_or_else(out_of_turn)?;
        let (one, two) = keys.split_at(KEY_LEN);
        let (one, two) = (one.to_vec(), two.to_vec());
        let role = Role::Asker { case: case.clone(), dir: dir.to_owned(), transfer: *transfer };
        let mut process = self.end("asker", &role)?;
        let asker = match hear(&mut process, "its introduction")? {
            Told::Asking(asker) => asker,
            told => return Err(wrong(told)),
        };
        say(holder, &Heard::Asked { asker, keys: [one.clone(), two.clone()] })?;
        let found = match hear(holder, "its answer")? {
            Told::Holding(found) => found,
            told => return Err(wrong(told)),
        };
        let served = found.is_some();
        say(&mut process, &Heard::Holding { holder: found, keys: [two, one] })?;
        Ok(served.then_some(process))
    }

    /// A file of `size` bytes that do not compress, made once.
    pub fn source(&self, size: u64) -> Result<PathBuf, BenchError> {
        let path = self.dir.path().join(format!("source-{size}"));
        if !path.exists() {
            write_noise(&path, size).map_err(BenchError::io(format!("writing {}", path.display())))?;
        }
        Ok(path)
    }

    fn end(&self, who: &str, role: &Role) -> Result<End, BenchError> {
        let (args, log) = (["bench", "end"].map(str::to_owned), self.dir.path().join("log"));
        let mut process = self.ends.start(|| Process::start(&self.binary, who, &args, &log))?;
        say(&mut process, role)?;
        Ok(process)
    }
}

/// The outcome in the middle, by throughput; `None` of none.
pub fn median(mut outcomes: Vec<Outcome>) -> Option<Outcome> {
    outcomes.sort_by(|a, b| a.gbits().total_cmp(&b.gbits()));
    let middle = outcomes.len() / 2;
    outcomes.into_iter().nth(middle)
}

fn say(end: &mut End, what: &impl Serialize) -> Result<(), BenchError> {
    let line = serde_json::to_string(what).map_err(|error| BenchError::Wrong(error.to_string()))?;
    Ok(end.process.say(&line)?)
}

/// The next line that is of this kind.
fn hear<T: DeserializeOwned>(end: &mut End, wanted: &str) -> Result<T, BenchError> {
    Ok(end.process.wait_line(wanted, RUN_DEADLINE, |line| serde_json::from_str(line).ok())?)
}

fn spent(process: &mut End) -> Result<(Spent, f64), BenchError> {
    match hear(process, "its result")? {
        Told::Spent { spent, seconds } => Ok((spent, seconds)),
        told => Err(wrong(told)),
    }
}

/// What went wrong when this came instead of what was waited for.
fn wrong(told: Told) -> BenchError {
    match told {
        Told::Failed(cause) => BenchError::Wrong(cause),
        _ => out_of_turn(),
    }
}

fn out_of_turn() -> BenchError {
    BenchError::Wrong("an end spoke out of turn".into())
}

fn write_noise(path: &Path, size: u64) -> std::io::Result<()> {
    let mut out = std::fs::File::create(path)?;
    let mut noise = blake3::Hasher::new().update(&size.to_be_bytes()).finalize_xof();
    let mut block = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        noise.fill(&mut block);
        let len = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        out.write_all(block.get(..len).unwrap_or_default())?;
        left -= len as u64;
    }
    Ok(())
}

/// The name of the file that travels.
const FILE: &str = "source";
/// A key and its iv.
const KEY_LEN: usize = 44;
/// A run that takes longer than this will not end.
const RUN_DEADLINE: Duration = Duration::from_secs(1800);
