//! Measuring transfers and meshes: that they are real, and that figures reach machines, files and plots.

use crate::harness::run;
use secchat::cli::drive::Process;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

#[test]
fn a_row_for_machines_has_both_throughputs_and_what_they_cost() {
    let home = TempDir::new().unwrap();
    let small = ["bench", "transfer", "--size", "1M", "--runs", "1", "--json", "--datagram", "1452"];
    let (code, out, err) = run(home.path(), &small);
    assert_eq!((code, err.as_str()), (0, ""));
    let row: Value = serde_json::from_str(out.trim()).unwrap();
    for who in ["ceiling", "checked", "transfer"] {
        assert!(row[who]["gbits"].as_f64().unwrap() > 0.0, "{out}");
        assert!(row[who]["cpu_per_gib"].as_f64().unwrap() > 0.0, "{out}");
    }
    assert_eq!(row["transfer"]["outcome"]["bytes"], 1 << 20);
    assert!(row["ratio"].as_f64().unwrap() > 0.0, "{out}");
}

#[test]
fn a_sweep_of_uploads_goes_from_idle_past_the_slots_into_a_table_and_a_plot() {
    let home = TempDir::new().unwrap();
    let name = home.path().join("swept").display().to_string();
    let sweep =
        ["bench", "transfer", "--size", "1M", "--runs", "1", "--sweep", "uploads", "--slots", "1", "--output", &name];
    let (code, out, err) = run(home.path(), &sweep);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let csv = std::fs::read_to_string(home.path().join("swept.csv")).unwrap();
    let column = |line: &str, at: usize| line.split(',').nth(at).unwrap().parse::<f64>().unwrap();
    let rows: Vec<(f64, f64, f64)> =
        csv.lines().skip(1).map(|line| (column(line, 2), column(line, 6), column(line, 7))).collect();
    // The value, downloads that ended, downloads that found no slot.
    assert_eq!(rows, [(0.0, 0.0, 0.0), (1.0, 1.0, 0.0), (2.0, 1.0, 1.0), (3.0, 1.0, 2.0)]);
    assert!(std::fs::read_to_string(home.path().join("swept.svg")).unwrap().contains("<circle"));
}

#[test]
fn who_interrupts_it_finds_nothing_left_behind() {
    let home = TempDir::new().unwrap();
    let (dir, name) = (home.path().join("files"), home.path().join("swept").display().to_string());
    std::fs::create_dir(&dir).unwrap();
    let points = vec!["64"; 500].join(",");
    let place = dir.display().to_string();
    let sweep = ["--sweep", "window", "--points", &points, "--size", "1M", "--runs", "1", "--json", "--output", &name];
    let args: Vec<String> =
        ["bench", "transfer", "--dir", &place].iter().chain(&sweep).map(|arg| (*arg).to_owned()).collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_secchat"));
    let mut bench = Process::start(binary, "bench", &args, &home.path().join("log")).unwrap();
    let within = Duration::from_secs(60);
    // Each point has files of its own, so between two of them there are none.
    loop {
        bench.wait_line("a point", within, |line| line.starts_with('{').then_some(())).unwrap();
        if std::fs::read_dir(&dir).unwrap().count() == 1 {
            break;
        }
    }
    bench.terminate();
    assert_eq!(bench.wait_exit(within).unwrap(), Some(130));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    assert!(!Path::new(&format!("{name}.csv")).exists());
}

#[test]
fn an_end_by_hand_says_what_it_is_for() {
    let home = TempDir::new().unwrap();
    let (_, out, _) = run(home.path(), &["bench", "end"]);
    assert!(out.contains("secchat bench transfer"), "{out}");
}

#[test]
fn messages_cross_a_mesh_and_are_counted_with_what_they_cost() {
    let home = TempDir::new().unwrap();
    let small = ["bench", "mesh", "--nodes", "3", "--messages", "2000", "--runs", "1", "--json"];
    let (code, out, err) = run(home.path(), &small);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let row: Value = serde_json::from_str(out.trim()).unwrap();
    let counts = ["arrived", "lost", "repeated", "disordered"].map(|count| row[count].as_u64().unwrap());
    assert_eq!(counts, [2000, 0, 0, 0], "{out}");
    for cost in ["messages_per_second", "cpu_seconds_per_million", "seconds"] {
        assert!(row[cost].as_f64().unwrap() > 0.0, "{out}");
    }
    assert_eq!(row["peak_memory"].as_array().unwrap().len(), 3, "of each process");
}

#[test]
fn trouble_that_would_end_before_it_has_begun_is_refused() {
    let home = TempDir::new().unwrap();
    let (code, out, err) = run(home.path(), &["bench", "mesh", "--trouble", "--messages", "1000"]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("14 s") && err.contains("hint: "), "{err}");
}

#[test]
fn help_says_what_is_measured_and_how() {
    let home = TempDir::new().unwrap();
    for (what, taught) in [("transfer", "without acks, repeats or checks"), ("mesh", "frozen (SIGSTOP)")] {
        let (code, out, _) = run(home.path(), &["bench", what, "--help"]);
        let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(code == 0 && words.contains(taught) && words.contains("Examples:"), "{out}");
    }
}
