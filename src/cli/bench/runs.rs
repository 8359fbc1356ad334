//! Runs: processes started, told what to do, and asked what it cost.

use super::case::{BenchError, Case, Outcome};
use super::child::{Role, Told};
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
        Ok(Self { binary, dir })
    }

    /// The ceiling under these conditions: one sender, one receiver, no reliability.
    pub fn ceiling(&self, case: &Case) -> Result<Outcome, BenchError> {
        let (file, into) = (self.source(case.size)?, self.dir.path().join("ceiling"));
        let mut receiver = self.end("receiver", &Role::CeilingReceiver { case: case.clone(), file: into.clone() })?;
        let Told::At(to) = hear(&mut receiver, "an address")? else { return Err(out_of_turn()) };
        let mut sender = self.end("sender", &Role::CeilingSender { case: case.clone(), file, to })?;
        let (sent, _) = spent(&mut sender)?;
        let (received, seconds) = spent(&mut receiver)?;
        // A fresh file for the next run: writing over an old one is faster.
        std::fs::remove_file(&into).map_err(BenchError::io("removing what was received"))?;
        Ok(Outcome { bytes: received.bytes, seconds, finished: 1, refused: 0, sender: sent, receiver: received })
    }

    /// A file of `size` bytes that do not compress, made once.
    pub fn source(&self, size: u64) -> Result<PathBuf, BenchError> {
        let path = self.dir.path().join(format!("source-{size}"));
        if !path.exists() {
            write_noise(&path, size).map_err(BenchError::io(format!("writing {}", path.display())))?;
        }
        Ok(path)
    }

    fn end(&self, who: &str, role: &Role) -> Result<Process, BenchError> {
        let args = ["bench", "end"].map(str::to_owned);
        let mut process = Process::start(&self.binary, who, &args, &self.dir.path().join("log"))?;
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

fn say(process: &mut Process, what: &impl Serialize) -> Result<(), BenchError> {
    let line = serde_json::to_string(what).map_err(|error| BenchError::Wrong(error.to_string()))?;
    Ok(process.say(&line)?)
}

/// The next line that is of this kind.
fn hear<T: DeserializeOwned>(process: &mut Process, wanted: &str) -> Result<T, BenchError> {
    Ok(process.wait_line(wanted, RUN_DEADLINE, |line| serde_json::from_str(line).ok())?)
}

fn spent(process: &mut Process) -> Result<(super::case::Spent, f64), BenchError> {
    match hear(process, "its result")? {
        Told::Spent { spent, seconds } => Ok((spent, seconds)),
        Told::Failed(cause) => Err(BenchError::Wrong(cause)),
        Told::At(_) => Err(out_of_turn()),
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

/// A run that takes longer than this will not end.
const RUN_DEADLINE: Duration = Duration::from_secs(1800);
