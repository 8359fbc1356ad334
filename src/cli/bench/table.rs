//! The default: what transfers reach beside what the machine could carry.

use super::args::TransferArgs;
use super::case::{Arq, BenchError, Case, LOOPBACK_DATAGRAM, Outcome, Splits};
use super::runs::{Runs, median};
use super::usage::mib;
use serde::Serialize;
use std::fmt;
use std::io::IsTerminal;

/// A line of the table.
#[derive(Debug, Serialize)]
struct Row {
    /// What is measured, for people.
    name: String,
    case: Case,
    /// Without reliability; none where the case limits itself in another way.
    ceiling: Figures,
    /// The same with the hash of what comes.
    checked: Figures,
    /// The real thing, if it was measured.
    transfer: Option<Figures>,
    /// Of the two throughputs.
    ratio: Option<f64>,
}

/// A median.
#[derive(Debug, Serialize)]
struct Figures {
    gbits: f64,
    cpu_per_gib: f64,
    outcome: Outcome,
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
        let (mut ceilings, mut checked, mut transfers) = (Vec::new(), Vec::new(), Vec::new());
        // By turns, so that a slow minute of the machine strikes all.
        for _ in 0..args.runs {
            ceilings.push(runs.ceiling(&case, false)?);
            checked.push(runs.ceiling(&case, true)?);
            if !args.ceiling {
                transfers.push(runs.transfer(&case)?);
            }
        }
        let medians = (median(ceilings).map(Figures::from), median(checked).map(Figures::from));
        let (Some(ceiling), Some(checked)) = medians else { continue };
        let transfer = median(transfers).map(Figures::from);
        let ratio = transfer.as_ref().map(|transfer| transfer.gbits / ceiling.gbits);
        print(&Row { name, case, ceiling, checked, transfer, ratio }, args.json)?;
    }
    Ok(())
}

impl From<Outcome> for Figures {
    fn from(outcome: Outcome) -> Self {
        Self { gbits: outcome.gbits(), cpu_per_gib: outcome.cpu_per_gib(), outcome }
    }
}

/// The rows: those that the options name, or one for each kind of path.
fn cases(args: &TransferArgs) -> Vec<(String, Case)> {
    let named = |case: Case| (case.to_string(), case);
    let mut found = Vec::new();
    for arq in &args.arq {
        let case = args.case(*arq);
        if args.datagram.is_some() || args.splits.is_some() || args.window.is_some() {
            found.push(named(case));
            continue;
        }
        let largest = Case { datagram: LOOPBACK_DATAGRAM, ..case.clone() };
        let software = Case { splits: Splits::Software, ..case.clone() };
        found.extend([case, largest, software].map(named));
    }
    if args.arq == [Arq::Auto] && found.len() > 1 {
        found.push(named(Case { window: Some(CLASSIC_WINDOW), ..args.case(Arq::GoBackN) }));
    }
    found
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.splits {
            Splits::Late => "joined",
            Splits::Software => "split in software",
            Splits::Ours => "one by one",
        };
        write!(f, "{}, {who}", self.datagram)?;
        match self.arq {
            Arq::Auto => {}
            Arq::GoBackN => f.write_str(", go-back-n")?,
            Arq::SelectiveRepeat => f.write_str(", selective repeat")?,
        }
        self.window.map_or(Ok(()), |window| write!(f, ", window {window}"))
    }
}

fn print(row: &Row, json: bool) -> Result<(), BenchError> {
    if json {
        let line = serde_json::to_string(row).map_err(|error| BenchError::Wrong(error.to_string()))?;
        println!("{line}");
        return Ok(());
    }
    let shown = row.transfer.as_ref().unwrap_or(&row.ceiling);
    let (sender, receiver) = (shown.outcome.sender, shown.outcome.receiver);
    let gbits = row.transfer.as_ref().map(|transfer| format!("{:.2}", transfer.gbits)).unwrap_or_default();
    let ratio = row.ratio.map(|ratio| format!("{:.0} %", ratio * 100.0)).unwrap_or_default();
    let cpu = row.transfer.as_ref().map(|transfer| format!("{:.2} ", transfer.cpu_per_gib)).unwrap_or_default();
    let cpu = format!("{cpu}({:.2})", row.ceiling.cpu_per_gib);
    let memory = format!("{:.0} / {:.0}", mib(sender.peak), mib(receiver.peak));
    let (ceiling, checked) = (row.ceiling.gbits, row.checked.gbits);
    println!("{:<36}{ceiling:>8.2}{checked:>9.2}{gbits:>9}{ratio:>8}{cpu:>14}{memory:>12}", row.name);
    Ok(())
}

/// The window that textbooks begin with.
const CLASSIC_WINDOW: u32 = 16;
const HEAD: &str = "\
bytes a datagram                     ceiling  checked  secchat   ratio   CPU (ceiling)      memory
                                      Gbit/s   Gbit/s   Gbit/s               s/GiB         MiB";
