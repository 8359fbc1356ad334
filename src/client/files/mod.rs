//! The file side of a client: what it shares, what it fetches, and the UDP channels that carry files. IO.
//!
//! ```text
//! side       how it is started, spoken to, and ended
//! engine     one thread: commands in, events out, datagrams both ways
//! prepare    what it does on each command
//! reflexive  our address as the server sees it
//! run        one running transfer: its channel, its file, its progress
//! shares     the shared folder and its switches
//! hashing    BLAKE3 of shared files, in the background, remembered
//! upload     an opened file as the source of a channel
//! downloads  the downloads directory: unfinished files, and their final names
//! writer     a thread that writes one download
//! ```

mod downloads;
mod engine;
mod hashing;
mod prepare;
mod reflexive;
mod content;
mod lane;
mod mailbox;
mod meter;
mod outboards;
mod part;
mod rates;
mod session;
mod source;
mod stamp;
mod store;
mod tunnel;
mod upload;
mod uploads;
mod walk;
mod wire;
mod run;
mod shares;
mod side;

mod writer;

pub use shares::ShareError;
pub use side::{FilesConfig, FilesHandle, StartError, start};
