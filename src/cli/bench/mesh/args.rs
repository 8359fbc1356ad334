//! The options of `secchat bench mesh`, and the help that teaches them.

use clap::Args;

/// Options of `secchat bench mesh`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct MeshArgs {
    /// Messages of each run; 2,000,000 without --trouble, 14,000 with it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=1_000_000_000))]
    pub messages: Option<u64>,
    /// Bytes of each message
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub bytes: u32,
    /// Servers in the chain; messages go from the first to the last
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=16), conflicts_with = "trouble")]
    pub nodes: u32,
    /// Runs; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99), conflicts_with = "trouble")]
    pub runs: u32,
    /// Kill, start again, freeze and thaw the server on the path by turns, where there is another way
    #[arg(long)]
    pub trouble: bool,
    /// Messages a second while there is trouble; it lasts for as long as there are messages
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000), requires = "trouble")]
    pub rate: u64,
    /// Print a JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl MeshArgs {
    /// Messages of each run.
    pub fn messages(&self) -> u64 {
        self.messages.unwrap_or(if self.trouble { 14_000 } else { 2_000_000 })
    }
}

/// What the command does, at length.
pub const ABOUT: &str = "\
Measure what a mesh of servers carries on this machine, and what becomes of messages while servers on the way fall over.

Each server is a process of its own with only its mesh in it: real TLS links over loopback, signed records, routing, and \
deliveries that are numbered, acknowledged from end to end and repeated. Messages go from one end of a chain to the other, as \
fast as the first is let; a message counts when the last has it.

With --trouble there are two servers side by side between the ends. Again and again, the one on the path is killed (SIGKILL), \
started again, and the one that is on the path then frozen (SIGSTOP) and thawed (SIGCONT), while messages come at a steady \
rate. None may be lost, repeated or out of order; then the exit code is 0. Each step leaves 3.25 s for the next.";

const EXAMPLES: &str = "\
Columns:
  messages/s      that arrived, from the first sent to the last delivered
  lost, repeated, disordered
                  of what arrived at the end; all must be 0
  CPU             seconds of user and system time a million messages, of all processes
  memory          the most that a process ever had, MiB
  pause           the longest time without a message until the next step; one is due each ms
  presence        when each living server knew exactly the living ones; wanted within 3 s

Examples:
  secchat bench mesh
  secchat bench mesh --nodes 2 --bytes 4000 --messages 200000
  secchat bench mesh --trouble
  secchat bench mesh --trouble --messages 130000 --json        two minutes, ten of each";
