//! `secchat bench mesh`: how fast messages cross a mesh, and what becomes of them while servers on the way fall over.

mod args;
pub mod node;
mod rig;
mod speed;
mod tally;
mod trouble;
mod views;

pub use args::{ABOUT, MeshArgs};

use super::case::BenchError;

/// Measures and prints.
pub fn run(args: &MeshArgs) -> Result<(), BenchError> {
    if args.trouble { trouble::run(args) } else { speed::run(args) }
}
