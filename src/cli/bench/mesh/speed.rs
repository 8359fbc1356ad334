//! A chain as fast as it goes.

use super::super::case::{BenchError, float};
use super::super::usage::mib;
use super::args::MeshArgs;
use super::node::{Load, Order, Said};
use super::rig::Rig;
use super::tally::Counts;
use serde::Serialize;
use std::io::IsTerminal;
use std::time::Duration;

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    nodes: u32,
    messages: u64,
    bytes: u32,
    /// From the first message handed over to the last delivered.
    seconds: f64,
    messages_per_second: f64,
    #[serde(flatten)]
    counts: Counts,
    /// Of all processes.
    cpu_seconds_per_million: f64,
    /// The most of each process, bytes.
    peak_memory: Vec<u64>,
}

/// Measures, and prints the run in the middle.
pub fn run(args: &MeshArgs) -> Result<(), BenchError> {
    if !args.json {
        println!("{HEAD}");
    }
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        runs.push(measure(args, &format!("run {number} of {}", args.runs))?);
    }
    runs.sort_by(|a, b| a.messages_per_second.total_cmp(&b.messages_per_second));
    let wrong = runs.iter().any(|run| !run.counts.is_right());
    let middle = runs.len() / 2;
    for (_, run) in runs.iter().enumerate().filter(|(at, run)| *at == middle || !run.counts.is_right()) {
        print(run, args.json)?;
    }
    if wrong { Err(BenchError::Wrong("messages were lost, repeated or out of order".into())) } else { Ok(()) }
}

fn measure(args: &MeshArgs, title: &str) -> Result<Run, BenchError> {
    let (messages, nodes) = (args.messages(), args.nodes);
    let mut rig = Rig::new(nodes, messages)?;
    let last = usize::try_from(nodes).unwrap_or_default().saturating_sub(1);
    for number in 0..=last {
        rig.start(number, &number.checked_sub(1).into_iter().collect::<Vec<_>>())?;
    }
    rig.settle(SETTLE)?;
    for number in 0..=last {
        rig.order(number, &Order::Mark)?;
    }
    rig.order(0, &Order::Send(Load { to: rig.id(last)?, messages, bytes: args.bytes, rate: None }))?;
    let began = rig.wait(0, "its start", SETTLE, |said| if let Said::Begun(at) = said { Some(*at) } else { None })?;
    let ended = arrive(&mut rig, last, messages, title)?;
    let (mut cpu, mut peak_memory) = (0.0, Vec::new());
    for number in 0..=last {
        rig.order(number, &Order::Spent)?;
        let spent = |said: &Said| if let Said::Spent(cpu, peak) = said { Some((*cpu, *peak)) } else { None };
        let (seconds, peak) = rig.wait(number, "its cost", SETTLE, spent)?;
        cpu += seconds;
        peak_memory.push(peak);
    }
    rig.order(last, &Order::Tell)?;
    let counts = |said: &Said| if let Said::Received(counts, _) = said { Some(counts.clone()) } else { None };
    let counts = rig.wait(last, "its counts", SETTLE, counts)?;
    let seconds = float(ended.saturating_sub(began)) / 1e9;
    Ok(Run {
        nodes,
        messages,
        bytes: args.bytes,
        seconds,
        messages_per_second: float(counts.arrived) / seconds.max(1e-9),
        counts,
        cpu_seconds_per_million: cpu * 1e6 / float(messages),
        peak_memory,
    })
}

/// When the last message came, or the last of those that came at all.
fn arrive(rig: &mut Rig, last: usize, messages: u64, title: &str) -> Result<u64, BenchError> {
    let shown = std::io::stderr().is_terminal();
    let mut latest = 0;
    loop {
        let arrived = |said: &Said| if let Said::Arrived(count, at) = said { Some((*count, *at)) } else { None };
        let Ok((count, at)) = rig.wait(last, "messages", SILENCE, arrived) else { break };
        latest = at;
        if shown {
            eprint!("{title}: {count} of {messages} messages\r");
        }
        if count >= messages {
            break;
        }
    }
    if shown {
        eprint!("\x1b[K");
    }
    Ok(latest)
}

fn print(run: &Run, json: bool) -> Result<(), BenchError> {
    if json {
        let line = serde_json::to_string(run).map_err(|error| BenchError::Wrong(error.to_string()))?;
        println!("{line}");
        return Ok(());
    }
    let Counts { lost, repeated, disordered, .. } = run.counts;
    let (path, memory) = (format!("{} servers, {} B", run.nodes, run.bytes), run.peak_memory.iter().max());
    let (rate, cpu, memory) = (run.messages_per_second, run.cpu_seconds_per_million, mib(memory.copied().unwrap_or(0)));
    println!("{path:<24}{rate:>12.0}{lost:>8}{repeated:>10}{disordered:>12}{cpu:>8.2}{memory:>9.0}");
    Ok(())
}

const HEAD: &str = "\
chain                     messages/s    lost  repeated  disordered     CPU   memory
                                                                   s/million     MiB";
/// Servers on one machine have found each other by then.
const SETTLE: Duration = Duration::from_secs(20);
/// Nothing comes any more after so long.
const SILENCE: Duration = Duration::from_secs(30);
