//! The default: what transfers reach beside what the machine could carry.

use super::args::TransferArgs;
use super::case::{BenchError, Case, LOOPBACK_DATAGRAM, Outcome, Splits};
use super::runs::{Runs, median};
use super::usage::mib;
use serde::Serialize;
use std::io::IsTerminal;

/// A line of the table.
#[derive(Debug, Serialize)]
struct Row {
    /// What is measured, for people.
    name: String,
    case: Case,
    ceiling: Outcome,
    ceiling_gbits: f64,
    ceiling_cpu_per_gib: f64,
}

/// Measures and prints row by row.
pub fn run(args: &TransferArgs) -> Result<(), BenchError> {
    let runs = Runs::new(args.dir.as_deref())?;
    if !args.json {
        println!("{HEAD}");
    }
    for (name, case) in cases(args) {
        if !args.json && std::io::stderr().is_terminal() {
            eprint!("measuring {name} …\r");
        }
        let mut ceilings = Vec::new();
        for _ in 0..args.runs {
            ceilings.push(runs.ceiling(&case)?);
        }
        let Some(ceiling) = median(ceilings) else { continue };
        let (ceiling_gbits, ceiling_cpu_per_gib) = (ceiling.gbits(), ceiling.cpu_per_gib());
        print(&Row { name, case, ceiling, ceiling_gbits, ceiling_cpu_per_gib }, args.json)?;
    }
    Ok(())
}

/// The rows: those that the options name, or one for each kind of path.
fn cases(args: &TransferArgs) -> Vec<(String, Case)> {
    let mut found = Vec::new();
    for arq in &args.arq {
        let case = args.case(*arq);
        if args.datagram.is_some() || args.splits.is_some() || args.window.is_some() {
            found.push((named(&case), case));
            continue;
        }
        let largest = Case { datagram: LOOPBACK_DATAGRAM, ..case.clone() };
        let software = Case { splits: Splits::Software, ..case.clone() };
        found.extend([case, largest, software].map(|case| (named(&case), case)));
    }
    found
}

fn named(case: &Case) -> String {
    let who = match case.splits {
        Splits::Late => "GSO and GRO",
        Splits::Software => "split in software",
        Splits::Ours => "one by one",
    };
    format!("{} bytes, {who}", case.datagram)
}

fn print(row: &Row, json: bool) -> Result<(), BenchError> {
    if json {
        let line = serde_json::to_string(row).map_err(|error| BenchError::Wrong(error.to_string()))?;
        println!("{line}");
        return Ok(());
    }
    let (sender, receiver) = (row.ceiling.sender, row.ceiling.receiver);
    println!(
        "{:<32}{:>9.2}{:>9.2}{:>7.0} / {:.0}",
        row.name,
        row.ceiling_gbits,
        row.ceiling_cpu_per_gib,
        mib(sender.peak),
        mib(receiver.peak)
    );
    Ok(())
}

const HEAD: &str = "\
                                 ceiling      CPU    memory
                                  Gbit/s    s/GiB    MiB";
