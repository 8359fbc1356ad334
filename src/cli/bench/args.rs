//! The options of `secchat bench`, and the help that teaches them.

use super::case::{Arq, COMMON_DATAGRAM, Case, Congestion, Splits};
use super::mesh::MeshArgs;
use crate::cli::{tuning, values};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Options of `secchat bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: Bench,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Measure file transfers on this machine, and the most that it could carry
    #[command(long_about = ABOUT)]
    Transfer(Box<TransferArgs>),
    /// Measure how fast messages cross a mesh of servers, and what they survive
    #[command(long_about = super::mesh::ABOUT)]
    Mesh(MeshArgs),
    /// One end of a measured transfer or mesh; it is told on standard input what to do
    #[command(hide = true)]
    End,
}

/// Options of `secchat bench transfer`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct TransferArgs {
    /// Size of the file: 512M, 4G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size)]
    pub size: u64,
    /// Runs of each measurement; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub runs: u32,
    /// Directory for the files; without it memory (/dev/shm), or else the directory for temporary files
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print a JSON object for each row instead of a table
    #[arg(long)]
    pub json: bool,
    /// Only the ceiling: sealing and sockets without reliability
    #[arg(long, conflicts_with = "sweep")]
    pub ceiling: bool,
    /// Measure the throughput over a range of values, into a CSV file and a plot
    #[arg(long, value_name = "WHAT")]
    pub sweep: Option<Sweep>,
    /// The sweep's values, in order, instead of its own: 1,4,16 or 0,0.5,1 (loss in per cent, rtt in ms)
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "sweep", value_parser = point)]
    pub points: Vec<f64>,
    /// Where a sweep goes: NAME.csv and NAME.svg
    #[arg(long, value_name = "NAME", requires = "sweep")]
    pub output: Option<PathBuf>,
    /// How lost segments are repeated; of several, each becomes a row, or a line in the plot
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "auto")]
    pub arq: Vec<Arq>,
    /// A fixed window, segments, instead of congestion control
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub window: Option<u32>,
    /// What decides how much may be under way
    #[arg(long, value_name = "WHAT", default_value = "bbr")]
    pub congestion: Congestion,
    /// Bytes of the largest datagram: 1452 is what most paths carry, 65507 fits through loopback only
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1200..=65507))]
    pub datagram: Option<u32>,
    /// Who takes batches of datagrams apart
    #[arg(long, value_name = "WHO")]
    pub splits: Option<Splits>,
    /// Worsen the path, each way: loss=1%, burst=2%/8, dup=1%, reorder=25%/5ms, corrupt=1%, delay=25ms/5ms, rate=200mbit,
    /// queue=50ms, seed=1; several with commas
    #[arg(long, value_name = "LIST", value_parser = inject)]
    pub inject: Option<String>,
    /// Pairs of processes at once, each with a file of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub flows: u32,
    /// Uploads that a holder allows at once, for `--sweep uploads`
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub slots: u32,
}

/// What a sweep varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sweep {
    /// Segments that may be under way
    Window,
    /// Datagrams lost at random each way, per cent
    Loss,
    /// Round trip, milliseconds
    Rtt,
    /// Pairs of processes at once
    Flows,
    /// Downloads from one holder at once, from none to more than it has slots
    Uploads,
}

impl TransferArgs {
    /// What the options say of every run.
    #[must_use]
    pub fn case(&self, arq: Arq) -> Case {
        let datagram = self.datagram.and_then(|bytes| usize::try_from(bytes).ok());
        Case {
            size: self.size,
            datagram: datagram.unwrap_or(COMMON_DATAGRAM),
            splits: self.splits.unwrap_or(Splits::Late),
            arq,
            window: self.window,
            congestion: self.congestion,
            inject: self.inject.clone(),
            flows: self.flows,
            askers: 1,
            slots: self.slots,
        }
    }
}

fn inject(text: &str) -> Result<String, String> {
    tuning::inject(text).map(|_| text.to_owned())
}

fn point(text: &str) -> Result<f64, String> {
    let point = text.trim().parse().ok().filter(|point: &f64| point.is_finite() && *point >= 0.0);
    point.ok_or_else(|| "numbers with commas between them, for example 1,4,16".to_owned())
}

impl Sweep {
    /// The largest value that makes sense.
    const fn most(self) -> f64 {
        match self {
            Self::Window => 1e6,
            Self::Loss => 90.0,
            Self::Rtt => 10_000.0,
            Self::Flows => 32.0,
            Self::Uploads => 64.0,
        }
    }
}

impl TransferArgs {
    /// What is wrong with the points, for people.
    pub fn wrong_points(&self) -> Option<String> {
        let sweep = self.sweep?;
        let bad = self.points.iter().find(|point| **point > sweep.most())?;
        let example = if sweep == Sweep::Loss { "0,0.5,1" } else { "1,2,4" };
        Some(format!("--points {bad}: at most {}, for example {example}", sweep.most()))
    }
}

fn size(text: &str) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    if (1 << 16..=1 << 40).contains(&bytes) { Ok(bytes) } else { Err("between 64K and 1T".into()) }
}

const ABOUT: &str = "\
Measure file transfers on this machine, and the most that it could carry.

Processes of their own move a file over real sockets on loopback, sealed, and checked on arrival, as between two clients; only \
the chat is left out. In the same run the ceiling is measured: the same sockets and the same sealing from file to file, without \
acks, repeats or checks; and once more with the BLAKE3 hash of what comes, without which nobody knows what has come. Only the \
ratio of secchat to the ceiling says something about secchat; the figures themselves are the machine's.

Without options there is a row each for datagrams of 1,452 bytes, for the largest, and for a receiver to which the system hands \
each datagram by itself, having split the batches in software; and one for Go-Back-N with a window of 16 segments.";

const EXAMPLES: &str = "\
Columns:
  ceiling, checked, secchat
                     Gbit/s of file bytes, medians of --runs: sealing and sockets alone, with hashing, and real transfers
  ratio              of secchat to the ceiling
  CPU                seconds of user and system time a GiB, both ends together (in brackets: of the ceiling)
  memory             the most that sender and receiver ever had

Examples:
  secchat bench transfer
  secchat bench transfer --size 4G --runs 3 --json > bench.jsonl
  secchat bench transfer --sweep window --arq go-back-n,selective-repeat --inject loss=0.1%
  secchat bench transfer --sweep loss --points 0,1,5,20 --inject delay=10ms,rate=200mbit --size 64M
  secchat bench transfer --sweep uploads --slots 4 --arq go-back-n,selective-repeat --output uploads
  unshare -Urn sh -c 'ip link set lo up; ethtool -K lo tx-udp-segmentation off; secchat bench transfer --datagram 1452'
                     a loopback of its own that splits in software when it sends, too

A sweep writes NAME.csv, a line for each point, and NAME.svg, a plot; NAME is bench-WHAT where --output does not say. Values that \
a sweep varies win over the same in other options.";
