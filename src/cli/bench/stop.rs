//! A measurement that is interrupted: its processes and its files go with it.

use super::case::BenchError;
use crate::cli::drive::{DriveError, Process};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The processes that run now.
#[derive(Debug, Clone, Default)]
pub struct Ends(Arc<Mutex<Vec<u32>>>);

/// One of them. It is not ended by us any more once it is dropped: its id may be somebody else's then.
#[derive(Debug)]
pub struct End {
    /// The process.
    pub process: Process,
    all: Ends,
}

impl Ends {
    /// None yet. From now on Ctrl-C and SIGTERM end all of them and this process, once `dir` is removed.
    pub fn watched(dir: &Path) -> Result<Self, BenchError> {
        let ends = Self::default();
        let (all, dir) = (ends.clone(), dir.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(BenchError::io("waiting for signals"))?;
        let watch = move || {
            if runtime.block_on(interrupted()) {
                all.stop(&dir);
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(watch)
            .map_err(BenchError::io("waiting for signals"))?;
        Ok(ends)
    }

    /// Starts one more.
    pub fn start(&self, start: impl FnOnce() -> Result<Process, DriveError>) -> Result<End, DriveError> {
        // Held while it starts, so that an interrupt meets it either here or not at all.
        let mut all = self.lock();
        let process = start()?;
        all.push(process.pid());
        drop(all);
        Ok(End { process, all: self.clone() })
    }

    fn stop(&self, dir: &Path) -> ! {
        // Never given back: who would tell of ends that have failed waits for it.
        let all = self.lock();
        for pid in all.iter().filter_map(|pid| i32::try_from(*pid).ok().and_then(Pid::from_raw)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        for _ in 0..TRIES {
            // One that is ending may still have made a file.
            let removed = std::fs::remove_dir_all(dir);
            if removed.is_ok() || !dir.exists() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        std::process::exit(INTERRUPTED)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let pid = self.process.pid();
        self.all.lock().retain(|other| *other != pid);
    }
}

async fn interrupted() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return false;
    };
    tokio::select! {
        got = int.recv() => got.is_some(),
        got = term.recv() => got.is_some(),
    }
}

const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);
/// The exit code of an interrupted process.
const INTERRUPTED: i32 = 130;
