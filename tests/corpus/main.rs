//! The fuzz targets' corpus, replayed as an ordinary test: each file as it is, and cut short at every length.
//!
//! Files named `ok-…` must be read, `bad-…` refused; others (found by a fuzzer) only do no harm.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod seeds;

use fuzz::TARGETS;
use std::path::{Path, PathBuf};

/// Targets whose input has an end of its own, so that a part of something well formed never is.
const WHOLE: &[&str] = &[
    "to_server",
    "to_client",
    "envelope",
    "name_cert",
    "policy",
    "manifest",
    "partial",
    "mesh_record",
    "mesh_hello",
    "ban",
    "passing",
    "sharing",
];

#[test]
fn every_file_reads_as_its_name_says() {
    for (target, run) in TARGETS {
        for (path, bytes) in corpus(target) {
            let accepted = run(&bytes);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(accepted || !name.starts_with("ok-"), "{} is no longer read", path.display());
            assert!(!accepted || !name.starts_with("bad-"), "{} is read", path.display());
        }
    }
}

#[test]
fn no_truncation_does_harm_and_none_passes_for_the_whole() {
    for (target, run) in TARGETS {
        for (path, bytes) in corpus(target) {
            let well_formed = path.file_name().unwrap().to_string_lossy().starts_with("ok-");
            for len in 0..bytes.len() {
                let accepted = run(&bytes[..len]);
                let whole = well_formed && WHOLE.contains(target);
                assert!(!(accepted && whole), "{} is read when cut to {len} bytes", path.display());
            }
        }
    }
}

#[test]
fn no_single_damaged_byte_does_harm() {
    for (target, run) in TARGETS {
        for (_, bytes) in corpus(target) {
            for at in 0..bytes.len().min(512) {
                for flip in [0x01, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= flip;
                    run(&damaged);
                }
            }
        }
    }
}

/// Run with `SECCHAT_WRITE_CORPUS=1` to write the seeds anew after a change of the wire.
#[test]
fn the_seeds_stand_in_the_corpus() {
    for (target, name, bytes) in seeds::all() {
        let path = folder(target).join(name);
        if std::env::var_os("SECCHAT_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(folder(target)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let stored = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(stored == bytes, "{} is not what is written today", path.display());
    }
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no corpus");
    paths.into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}
