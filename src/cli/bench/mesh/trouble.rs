//! A steady flow of messages, while the server on the path is killed, started again, frozen and thawed.

use super::super::case::{BenchError, float};
use super::super::usage::monotonic;
use super::args::MeshArgs;
use super::node::{Load, Order, Said};
use super::rig::{Rig, name};
use super::tally::{Counts, Pause};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

/// What came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    messages: u64,
    rate: u64,
    bytes: u32,
    #[serde(flatten)]
    counts: Counts,
    steps: Vec<Step>,
}

/// What was done, and what it did.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    server: String,
    /// The longest time without a message until the next step.
    pause_ms: f64,
    /// After how long all living servers knew exactly the living ones; none if they did not before the next step.
    presence_s: Option<f64>,
    #[serde(skip)]
    at: u64,
    #[serde(skip)]
    living: BTreeSet<String>,
}

/// Measures and prints.
pub fn run(args: &MeshArgs) -> Result<(), BenchError> {
    let seconds = args.messages() / args.rate;
    if Duration::from_secs(seconds) < LEAD + 4 * STEP {
        return Err(BenchError::Short { seconds });
    }
    let outcome = measure(args)?;
    print(&outcome, args.json)?;
    let on_time = |step: &Step| step.presence_s.is_some_and(|seconds| seconds <= PRESENCE);
    if !outcome.counts.is_right() {
        Err(BenchError::Wrong("messages were lost, repeated or out of order".into()))
    } else if !outcome.steps.iter().all(on_time) {
        Err(BenchError::Wrong(format!("presence was not right within {PRESENCE} s")))
    } else {
        Ok(())
    }
}

/// Two ends, and two servers side by side that dial both.
fn measure(args: &MeshArgs) -> Result<Outcome, BenchError> {
    let messages = args.messages();
    let mut rig = Rig::new(SERVERS, messages)?;
    for number in ENDS {
        rig.start(number, &[])?;
    }
    for number in MIDDLE {
        rig.start(number, &ENDS)?;
    }
    rig.settle(SETTLE)?;
    let [first, last] = ENDS;
    let load = Load { to: rig.id(last)?, messages, bytes: args.bytes, rate: Some(args.rate) };
    rig.order(first, &Order::Send(load))?;
    rig.wait(first, "its start", SETTLE, |said| matches!(said, Said::Begun(_)).then_some(()))?;
    rig.listen(LEAD);
    let (mut steps, mut victim) = (Vec::new(), 1);
    let whole = Duration::from_secs(messages / args.rate) - LEAD;
    for turn in 0..whole.as_millis() / STEP.as_millis() {
        let step = trouble(&mut rig, turn % 4, &mut victim)?;
        progress(&step);
        let next = step.at + u64::try_from(STEP.as_nanos()).unwrap_or_default();
        steps.push(step);
        rig.listen(Duration::from_nanos(next.saturating_sub(monotonic())));
    }
    let end = monotonic();
    let arrived = |said: &Said| matches!(said, Said::Arrived(count, _) if *count >= messages).then_some(());
    // What has not come by then is counted as lost.
    let all = rig.said(last, arrived).is_some() || rig.wait(last, "all messages", LATEST, arrived).is_ok();
    if all {
        rig.listen(REPEATS);
    }
    rig.order(last, &Order::Tell)?;
    let told = |said: &Said| {
        if let Said::Received(counts, pauses) = said { Some((counts.clone(), pauses.clone())) } else { None }
    };
    let (counts, pauses) = rig.wait(last, "its counts", SETTLE, told)?;
    judge(&mut steps, &rig, &pauses, end);
    if std::io::stderr().is_terminal() {
        eprint!("\x1b[K");
    }
    Ok(Outcome { messages, rate: args.rate, bytes: args.bytes, counts, steps })
}

/// One of four things happens to a server in the middle.
fn trouble(rig: &mut Rig, turn: u128, victim: &mut usize) -> Result<Step, BenchError> {
    let (killed, frozen) = (turn == 0, turn == 2);
    if killed || frozen {
        *victim = on_path(rig)?;
    }
    let at = monotonic();
    let step = match turn {
        0 => {
            rig.kill(*victim);
            "killed"
        }
        1 => {
            rig.start(*victim, &ENDS)?;
            "started again"
        }
        2 => {
            rig.freeze(*victim, true)?;
            "frozen"
        }
        _ => {
            rig.freeze(*victim, false)?;
            "thawed"
        }
    };
    let all = ENDS.into_iter().chain(MIDDLE);
    let living = all.filter(|number| number != victim || !(killed || frozen)).map(name).collect();
    Ok(Step { step, server: name(*victim), pause_ms: 0.0, presence_s: None, at, living })
}

fn on_path(rig: &mut Rig) -> Result<usize, BenchError> {
    let [first, last] = ENDS;
    rig.order(first, &Order::Path(rig.id(last)?))?;
    let path = rig
        .wait(first, "the path", SETTLE, |said| if let Said::Path(path) = said { Some(path.clone()) } else { None })?;
    let on_it = MIDDLE.into_iter().find(|number| path.contains(&name(*number)));
    on_it.ok_or_else(|| BenchError::Wrong(format!("no server is on the path: {path:?}")))
}

fn judge(steps: &mut [Step], rig: &Rig, pauses: &[Pause], end: u64) {
    let mut next = end;
    for step in steps.iter_mut().rev() {
        // Of a pause that goes on over the next step, each has its part.
        let within = |pause: &Pause| pause.end.min(next).saturating_sub((pause.end - pause.length).max(step.at));
        step.pause_ms = float(pauses.iter().map(within).max().unwrap_or(0)) / 1e6;
        step.presence_s = rig.views.right_after(&step.living, step.at, next).map(|nanos| float(nanos) / 1e9);
        next = step.at;
    }
}

fn progress(step: &Step) {
    if std::io::stderr().is_terminal() {
        eprint!("\x1b[K{} is {} …\r", step.server, step.step);
    }
}

fn print(outcome: &Outcome, json: bool) -> Result<(), BenchError> {
    if json {
        let line = serde_json::to_string(outcome).map_err(|error| BenchError::Wrong(error.to_string()))?;
        println!("{line}");
        return Ok(());
    }
    println!("{HEAD}");
    for Step { step, server, pause_ms, presence_s, .. } in &outcome.steps {
        let presence = presence_s.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.2} s"));
        println!("{:<24}{pause_ms:>8.0} ms{presence:>12}", format!("{server} {step}"));
    }
    let Counts { lost, repeated, disordered, .. } = outcome.counts;
    let Outcome { messages, rate, bytes, .. } = outcome;
    println!(
        "{messages} messages of {bytes} B, {rate} a second: {lost} lost, {repeated} repeated, {disordered} disordered"
    );
    Ok(())
}

const SERVERS: u32 = 4;
const ENDS: [usize; 2] = [0, 3];
const MIDDLE: [usize; 2] = [1, 2];
/// All is quiet for so long first.
const LEAD: Duration = Duration::from_secs(1);
/// From one step to the next.
const STEP: Duration = Duration::from_millis(3250);
/// Seconds.
const PRESENCE: f64 = 3.0;
/// Servers on one machine have found each other by then.
const SETTLE: Duration = Duration::from_secs(20);
/// A message that is later is lost.
const LATEST: Duration = Duration::from_secs(20);
/// What is repeated comes soon after.
const REPEATS: Duration = Duration::from_millis(500);
const HEAD: &str = "\
step                          pause    presence";
