//! The arguments of the whole program; each command's own stand in its file.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// End-to-end encrypted chat and file transfer for the terminal, over servers that cannot read.
#[derive(Debug, Parser)]
#[command(
    name = "secchat",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = SETTINGS,
)]
pub struct Cli {
    /// Settings file; by default config.toml in the settings directory, if it is there
    #[arg(long, value_name = "FILE", global = true, env = "SECCHAT_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a chat server
    ///
    /// Without options it runs at once: on port 7443 of all addresses, with a certificate and an identity of its own making. It
    /// prints the pin of its identity and an invite line for users. SIGHUP reads the certificate again; SIGTERM tells members and
    /// stops.
    Server(Box<super::server::ServerArgs>),
    /// Chat and share files from this terminal
    Client(Box<super::client::ClientArgs>),
    /// Fetch one file from a room
    Fetch(Box<super::fetch::FetchArgs>),
    /// See it all at work on this machine
    Demo(super::demo::DemoArgs),
    /// Measure how fast files move on this machine
    Bench(super::bench::Args),
    /// Make certificates for servers
    Cert(super::cert::CertArgs),
    /// Run a server: look into it, moderate it, keep it
    Admin(super::admin::AdminArgs),
    /// Find out what stands in the way of files
    Doctor(super::doctor::DoctorArgs),
    /// Show, export or import your identity
    ///
    /// Your identity is one Ed25519 key pair, made at the first start of the client. Names belong to keys: whoever has the file is
    /// you.
    Id(super::id::IdArgs),
    /// Print completions for a shell
    Completions(super::completions::CompletionsArgs),
    /// Write manual pages
    Man(super::man::ManArgs),
}

const SETTINGS: &str = "\
Settings: an option on the command line wins over its environment variable, and that over the settings file. The file is TOML with \
a table for each command; keys are the long options:

    [server]
    listen = [\"0.0.0.0:7443\", \"[::]:7443\"]
    name = \"s1\"

    [client]
    share = \"/home/bob/outbox\"
    up = \"20mbit\"
    key-agreement = \"x25519+mlkem768\"
    accept-from = [\"alice\"]

Exit codes: 0 done, 1 failed, 2 usage, 3 could not reach or trust the server, 4 refused, 5 not found, 6 refused by the peer, \
7 verification failed, 130 interrupted.";
