//! One end of a measured transfer or one server of a measured mesh, in a process of its own: told what to do on standard input, tells on standard output.

use super::case::{BenchError, Case, Spent};
use super::ceiling;
use super::ends::{self, Introduction};
use super::mesh::node;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a process is to be: the first line that it reads.
#[derive(Debug, Serialize, Deserialize)]
pub enum Role {
    /// Sends without reliability.
    CeilingSender {
        /// How.
        case: Case,
        /// What.
        file: PathBuf,
        /// Where to.
        to: SocketAddr,
    },
    /// Receives without reliability; tells [`Told::At`] first.
    CeilingReceiver {
        /// How.
        case: Case,
        /// Where to put it.
        file: PathBuf,
        /// Whether to hash it.
        checks: bool,
    },
    /// Serves a file; see [`ends::hold`].
    Holder {
        /// How.
        case: Case,
        /// Where it is.
        dir: PathBuf,
        /// Its name.
        file: String,
    },
    /// Fetches it; see [`ends::ask`].
    Asker {
        /// How.
        case: Case,
        /// Where to put it.
        dir: PathBuf,
        /// The transfer's id.
        transfer: [u8; 16],
    },
    /// Is a server of a mesh; see [`node::run`].
    MeshNode(node::Setup),
}

/// What a process tells, a line each.
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    /// It can be reached here.
    At(SocketAddr),
    /// An asker: it wants the file.
    Asking(Introduction),
    /// A holder: it waits for this asker, or has no slot for it.
    Holding(Option<Introduction>),
    /// It is through.
    Spent {
        /// What it cost.
        spent: Spent,
        /// From start to end.
        seconds: f64,
    },
    /// It could not.
    Failed(String),
}

/// Does what standard input says.
pub fn run() -> Result<(), BenchError> {
    let ended = hear().and_then(|role| match role {
        Role::CeilingSender { case, file, to } => {
            let spent = ceiling::send(&case, &ceiling::bind(&case)?, &file, to)?;
            tell(&Told::Spent { spent, seconds: 0.0 })
        }
        Role::CeilingReceiver { case, file, checks } => {
            let port = ceiling::bind(&case)?;
            tell(&Told::At(port.local_addr()))?;
            let (spent, seconds) = ceiling::receive(&case, &port, &file, checks)?;
            tell(&Told::Spent { spent, seconds })
        }
        Role::Holder { case, dir, file } => ends::hold(case, &dir, &file),
        Role::Asker { case, dir, transfer } => ends::ask(case, &dir, transfer),
        Role::MeshNode(setup) => node::run(setup),
    });
    ended.or_else(|error| tell(&Told::Failed(error.to_string())))
}

/// The next line of standard input.
pub fn hear<T: DeserializeOwned>() -> Result<T, BenchError> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(BenchError::io("reading standard input"))?;
    serde_json::from_str(&line).map_err(|error| {
        BenchError::Wrong(format!("this is for `secchat bench transfer` and `secchat bench mesh`: {error}"))
    })
}

/// A line on standard output.
pub fn tell(told: &impl Serialize) -> Result<(), BenchError> {
    let mut line = serde_json::to_string(told).map_err(|error| BenchError::Wrong(error.to_string()))?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(BenchError::io("writing to standard output"))
}
