//! What one run moves, under which conditions, and what came of it.

use crate::cli::drive::DriveError;
use crate::client::effects;
use crate::net::udp::{BindError, DATAGRAM_MAX, Offload};
use crate::wire::payload;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Bytes of each file.
    pub size: u64,
    /// Bytes of the largest datagram.
    pub datagram: usize,
    /// What the system does for batches.
    pub splits: Splits,
    /// How lost segments are repeated.
    pub arq: Arq,
    /// A fixed window, segments; without one the congestion controller decides.
    pub window: Option<u32>,
    /// The congestion controller.
    pub congestion: Congestion,
    /// What is done to datagrams on their way, each way, as `--inject` of the client has it.
    pub inject: Option<String>,
    /// Pairs of processes, each moving a file of its own.
    pub flows: u32,
    /// Processes that fetch from each holder.
    pub askers: u32,
    /// Uploads that a holder allows at once.
    pub slots: u32,
}

/// Who takes batches of datagrams apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Splits {
    /// Nobody on loopback: batches are joined again before we see them (GSO and GRO)
    Late,
    /// The system's software, before it hands them to the receiver one by one (GSO without GRO)
    Software,
    /// We, before the system sees them: one call for each datagram
    Ours,
}

/// How lost segments are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arq {
    /// Go-Back-N until something is lost, then Selective Repeat
    Auto,
    /// All from the lost one on
    GoBackN,
    /// What is lost, and nothing else
    SelectiveRepeat,
}

/// What decides how much may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Congestion {
    /// Rate-based
    Bbr,
    /// Loss-based
    Cubic,
    /// Nothing: for fixed windows
    None,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// File bytes that arrived, of all files together.
    pub bytes: u64,
    /// From the first start to the last end.
    pub seconds: f64,
    /// Downloads that came to their end.
    pub finished: u32,
    /// Downloads that found no slot.
    pub refused: u32,
    /// All holders.
    pub sender: Spent,
    /// All askers.
    pub receiver: Spent,
}

/// What one end, or several together, used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// File bytes that it sent or received; those that were lost on the way count for the sender only.
    pub bytes: u64,
    /// Seconds of user and system time.
    pub cpu: f64,
    /// The most memory that the process ever had, bytes; of several the largest. 0 where the system does not tell.
    pub peak: u64,
}

impl Outcome {
    /// Nothing was asked for.
    #[must_use]
    pub fn idle() -> Self {
        let nothing = Spent::default();
        Self { bytes: 0, seconds: 0.0, finished: 0, refused: 0, sender: nothing, receiver: nothing }
    }

    /// Gbit/s of file bytes that arrived.
    #[must_use]
    pub fn gbits(&self) -> f64 {
        float(self.bytes) * 8.0 / 1e9 / self.seconds.max(1e-9)
    }

    /// CPU seconds a GiB, both ends together.
    #[must_use]
    pub fn cpu_per_gib(&self) -> f64 {
        self.sender.cpu_per_gib() + self.receiver.cpu_per_gib()
    }
}

impl Spent {
    /// CPU seconds a GiB.
    #[must_use]
    pub fn cpu_per_gib(&self) -> f64 {
        if self.bytes == 0 { 0.0 } else { self.cpu * float(1 << 30) / float(self.bytes) }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, cpu: self.cpu + other.cpu, peak: self.peak.max(other.peak) }
    }
}

impl From<Splits> for Offload {
    fn from(splits: Splits) -> Self {
        match splits {
            Splits::Late => Self::Full,
            Splits::Software => Self::SendOnly,
            Splits::Ours => Self::Off,
        }
    }
}

impl From<Arq> for payload::Arq {
    fn from(arq: Arq) -> Self {
        match arq {
            Arq::Auto => Self::Auto,
            Arq::GoBackN => Self::GoBackN,
            Arq::SelectiveRepeat => Self::SelectiveRepeat,
        }
    }
}

impl From<Congestion> for effects::Congestion {
    fn from(congestion: Congestion) -> Self {
        match congestion {
            Congestion::Bbr => Self::Bbr,
            Congestion::Cubic => Self::Cubic,
            Congestion::None => Self::None,
        }
    }
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A process did not do its part.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// A file or pipe failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No port for measuring.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A plot could not be written.
    #[error("{}: the plot cannot be drawn: {cause}", .path.display())]
    Plot {
        /// Where it was to go.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Trouble needs time.
    #[error("{seconds} s of messages are too few for trouble")]
    Short {
        /// How long they would have come.
        seconds: u64,
    },
    /// It went otherwise than it must.
    #[error("{0}")]
    Wrong(String),
}

impl BenchError {
    /// For `map_err`: names what was tried.
    pub fn io<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }
}

/// Bytes as a float: exact up to 2^53, 8 PiB.
#[expect(clippy::cast_precision_loss, reason = "8 PiB are enough for a measurement")]
#[must_use]
pub fn float(bytes: u64) -> f64 {
    bytes as f64
}

/// The datagrams that most paths carry: an Ethernet frame less IPv6 and UDP headers.
pub const COMMON_DATAGRAM: usize = 1_452;
/// The largest.
pub const LOOPBACK_DATAGRAM: usize = DATAGRAM_MAX;
