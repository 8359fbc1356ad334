//! The file side of a client: what it shares, what it fetches, and the UDP channels that carry files. IO.
//!
//! ```text
//! side       how it is started, spoken to, and ended
//! engine     its own thread: commands in, events out
//! prepare    what that does on each command
//! offering   offers of files and folders from anywhere
//!
//! lane       a thread for one direction: datagrams in, every session speaks, wait
//! wire       its UDP port: batches, and our address as the server sees it (reflexive)
//! legs       datagrams that servers pass on
//! harm       a bad path on demand, for tests
//! mailbox    how others speak to it
//! tunnel     one session's sealed connection, and the hand-over of keys before it
//! session    what sessions of both directions have in common (meter, rates)
//!
//! uploads    the direction that sends
//! upload     one session of it: asks in, bytes out
//! reading    positioned reads of what goes into a batch
//! content    what was opened to be sent: a file, a folder, a part
//!
//! fetches    the direction that receives
//! fetch      one download: what is asked of which source
//! supply     one source of it
//! writer     the thread that checks and writes one download, from here
//! desk       and from there
//! intake     what both do: bytes in, checked, written
//! in_place   when it is done without the thread
//! store      an unfinished download on disk
//! part       what others may have of it
//! downloads  the downloads directory: unfinished things, and their final names
//!
//! rules      what may be shared, held against what is on the disk
//! shares     the shared folder and its switches
//! walk       the files of a folder
//! hashing    trees of files, made in the background
//! outboards  trees that were made before
//! stamp      by what a file is known to be the same
//! ```

mod content;
mod desk;
mod downloads;
mod engine;
mod fetch;
mod fetches;
mod harm;
mod hashing;
mod in_place;
mod intake;
mod lane;
mod legs;
mod mailbox;
mod meter;
mod offering;
mod outboards;
mod part;
mod prepare;
mod rates;
mod reading;
mod reflexive;
mod rules;
mod session;
mod shares;
mod side;
mod stamp;
mod store;
mod supply;
mod tunnel;
mod upload;
mod uploads;
mod walk;
mod wire;
mod writer;

pub use shares::ShareError;
pub use side::{FilesConfig, FilesHandle, StartError, start};
