//! Throughput over a range of values: rows as they come, then a CSV file and a plot.

use super::args::{Sweep, TransferArgs};
use super::case::{Arq, BenchError, Case, Outcome};
use super::plot::{Plot, draw};
use super::runs::{Runs, median};
use super::usage::mib;
use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One point.
#[derive(Debug, Serialize)]
struct Point {
    arq: Arq,
    sweep: &'static str,
    value: f64,
    gbits: f64,
    outcome: Outcome,
}

/// Measures, prints, writes the CSV file and the plot.
pub fn run(args: &TransferArgs) -> Result<(), BenchError> {
    let Some(sweep) = args.sweep else { return Ok(()) };
    let (csv, svg) = outputs(args, sweep);
    [&csv, &svg].into_iter().try_for_each(|path| can_be_written(path))?;
    let runs = Runs::new(args.dir.as_deref())?;
    let values = if args.points.is_empty() { sweep.values(args.slots) } else { args.points.clone() };
    if !args.json {
        println!(
            "{:<18}{:>12}{:>12}{:>12}{:>10}{:>16}",
            "arq",
            sweep.word(),
            "Gbit/s",
            "CPU s/GiB",
            "refused",
            "memory MiB"
        );
    }
    let mut points = Vec::new();
    for arq in &args.arq {
        for value in &values {
            let case = sweep.apply(args.case(*arq), *value);
            let outcome = outcome(&runs, &case, args.runs)?;
            let point = Point { arq: *arq, sweep: sweep.word(), value: *value, gbits: outcome.gbits(), outcome };
            print(&point, args.json)?;
            points.push(point);
        }
    }
    std::fs::write(&csv, to_csv(&points)).map_err(BenchError::io(format!("writing {}", csv.display())))?;
    draw(&to_plot(args, sweep, &points), &svg)?;
    if !args.json {
        println!("\n{} and {}", csv.display(), svg.display());
    }
    Ok(())
}

/// Said before an hour of measuring rather than after it.
fn can_be_written(path: &Path) -> Result<(), BenchError> {
    let was_there = path.exists();
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(BenchError::io(format!("writing {}", path.display())))?;
    if !was_there {
        // It was made only to see whether it can be.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// The median of several runs; nothing moves where there is nobody to move it.
fn outcome(runs: &Runs, case: &Case, times: u32) -> Result<Outcome, BenchError> {
    if case.flows == 0 || case.askers == 0 {
        return Ok(Outcome::idle());
    }
    let outcomes: Result<Vec<_>, _> = (0..times).map(|_| runs.transfer(case)).collect();
    Ok(median(outcomes?).unwrap_or_else(Outcome::idle))
}

impl Sweep {
    fn word(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Loss => "loss",
            Self::Rtt => "rtt",
            Self::Flows => "flows",
            Self::Uploads => "uploads",
        }
    }

    fn axis(self) -> &'static str {
        match self {
            Self::Window => "window, segments",
            Self::Loss => "datagrams lost each way, %",
            Self::Rtt => "round trip, ms",
            Self::Flows => "pairs at once",
            Self::Uploads => "downloads asked for at once",
        }
    }

    /// What is measured where nobody says what.
    fn values(self, slots: u32) -> Vec<f64> {
        match self {
            Self::Window => (0..=12).map(|power| 2f64.powi(power)).collect(),
            Self::Loss => vec![0.0, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 20.0],
            Self::Rtt => vec![0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0],
            Self::Flows => vec![1.0, 2.0, 3.0, 4.0, 6.0, 8.0],
            Self::Uploads => (0..=slots + 2).map(f64::from).collect(),
        }
    }

    /// The case with this value in it.
    fn apply(self, case: Case, value: f64) -> Case {
        let injecting = |key: &str, value: String| {
            let others = case.inject.as_deref().unwrap_or_default().split(',');
            let others =
                others.filter(|part| !part.is_empty() && part.split('=').next() != Some(key)).map(str::to_owned);
            Some(others.chain([format!("{key}={value}")]).collect::<Vec<_>>().join(","))
        };
        match self {
            Self::Window => Case { window: Some(count(value).max(1)), ..case },
            Self::Loss => Case { inject: injecting("loss", format!("{value}%")), ..case },
            Self::Rtt => Case { inject: injecting("delay", format!("{}us", count(value * 500.0))), ..case },
            Self::Flows => Case { flows: count(value), ..case },
            Self::Uploads => Case { askers: count(value), flows: 1, ..case },
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates, and a person gave it")]
fn count(value: f64) -> u32 {
    value.round() as u32
}

fn print(point: &Point, json: bool) -> Result<(), BenchError> {
    if json {
        println!("{}", serde_json::to_string(point).map_err(|error| BenchError::Wrong(error.to_string()))?);
        return Ok(());
    }
    let Outcome { refused, sender, receiver, .. } = &point.outcome;
    let memory = format!("{:.0} / {:.0}", mib(sender.peak), mib(receiver.peak));
    let cpu = point.outcome.cpu_per_gib();
    let Point { value, gbits, .. } = point;
    println!("{:<18}{value:>12}{gbits:>12.3}{cpu:>12.2}{refused:>10}{memory:>16}", name(point.arq));
    Ok(())
}

fn to_csv(points: &[Point]) -> String {
    let head =
        "arq,sweep,value,gbits,seconds,bytes,finished,refused,sender_cpu_s,receiver_cpu_s,sender_peak,receiver_peak";
    points.iter().fold(format!("{head}\n"), |mut csv, Point { arq, sweep, value, gbits, outcome }| {
        let Outcome { bytes, seconds, finished, refused, sender, receiver } = outcome;
        let (arq, counts) = (name(*arq), format!("{bytes},{finished},{refused}"));
        let spent = format!("{:.3},{:.3},{},{}", sender.cpu, receiver.cpu, sender.peak, receiver.peak);
        // Writing into a string does not fail.
        let _ = writeln!(csv, "{arq},{sweep},{value},{gbits:.4},{seconds:.4},{counts},{spent}");
        csv
    })
}

fn to_plot(args: &TransferArgs, sweep: Sweep, points: &[Point]) -> Plot {
    let line = |arq: &Arq| {
        let own = points.iter().filter(|point| point.arq == *arq);
        (name(*arq), own.map(|point| (point.value, point.gbits)).collect())
    };
    let path = args.inject.as_deref().map(|inject| format!(", {inject}")).unwrap_or_default();
    let size = mib(args.size);
    let flows = if args.flows > 1 { format!("{} × ", args.flows) } else { String::new() };
    let slots = if sweep == Sweep::Uploads { format!(", {} slots", args.slots) } else { String::new() };
    Plot {
        title: format!("secchat: throughput by {}, {flows}{size} MiB{slots}{path}", sweep.word()),
        x: sweep.axis().into(),
        y: "Gbit/s of file bytes".into(),
        ratios: sweep == Sweep::Window,
        whole: matches!(sweep, Sweep::Flows | Sweep::Uploads),
        lines: args.arq.iter().map(line).collect(),
    }
}

/// NAME.csv and NAME.svg; a dot in the name stays.
fn outputs(args: &TransferArgs, sweep: Sweep) -> (PathBuf, PathBuf) {
    let name = args.output.clone().unwrap_or_else(|| format!("bench-{}", sweep.word()).into());
    let with = |ending: &str| {
        let mut path = name.clone().into_os_string();
        path.push(ending);
        PathBuf::from(path)
    };
    (with(".csv"), with(".svg"))
}

/// As the option has it.
fn name(arq: Arq) -> String {
    arq.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: TransferArgs,
    }

    fn args(line: &str) -> TransferArgs {
        Line::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).unwrap().args
    }

    #[test]
    fn a_sweep_sets_its_value_and_wins_over_the_option() {
        let args = args("--sweep loss --inject loss=9%,delay=1ms --window 7 --arq go-back-n,selective-repeat");
        let case = args.case(Arq::Auto);
        assert_eq!(Sweep::Loss.apply(case.clone(), 0.5).inject.as_deref(), Some("delay=1ms,loss=0.5%"));
        assert_eq!(
            Sweep::Rtt.apply(Case { inject: None, ..case.clone() }, 50.0).inject.as_deref(),
            Some("delay=25000us")
        );
        assert_eq!(Sweep::Window.apply(case.clone(), 64.0).window, Some(64));
        assert_eq!(Sweep::Uploads.apply(case, 5.0).askers, 5);
        assert_eq!(Sweep::Uploads.values(3).last(), Some(&5.0));
        assert_eq!(args.arq, [Arq::GoBackN, Arq::SelectiveRepeat]);
    }

    #[test]
    fn rows_become_csv_and_a_line_for_each_policy() {
        let args = args("--sweep window --arq go-back-n,selective-repeat --output a.b");
        let point = |arq, value| {
            let outcome = Outcome { bytes: 1 << 30, seconds: 2.0, ..Outcome::idle() };
            Point { arq, sweep: "window", value, gbits: outcome.gbits(), outcome }
        };
        let points = [point(Arq::GoBackN, 1.0), point(Arq::GoBackN, 2.0), point(Arq::SelectiveRepeat, 1.0)];
        let csv = to_csv(&points);
        assert_eq!(csv.lines().count(), 4);
        assert!(csv.lines().all(|line| line.split(',').count() == 12), "{csv}");
        assert!(csv.contains("\ngo-back-n,window,2,4.2950,2.0000,1073741824,"), "{csv}");
        let plot = to_plot(&args, Sweep::Window, &points);
        assert_eq!(plot.lines.iter().map(|(_, points)| points.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(outputs(&args, Sweep::Window), ("a.b.csv".into(), "a.b.svg".into()));
    }

    #[test]
    fn ends_of_values_that_make_no_sense_are_refused() {
        for bad in [
            "--points 1",
            "--size 1",
            "--datagram 100",
            "--arq never",
            "--sweep window --ceiling",
            "--runs 0",
            "--sweep loss --points a",
        ] {
            let words = std::iter::once("bench").chain(bad.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{bad}");
        }
        assert!(args("--sweep loss --points 0,101").wrong_points().unwrap().contains("0,0.5,1"));
        assert_eq!(args("--sweep window --points 1,1024").wrong_points(), None);
    }
}
