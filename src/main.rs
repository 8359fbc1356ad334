//! The binary: see `secchat::cli`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    secchat::cli::run(std::env::args_os().collect()).into()
}
