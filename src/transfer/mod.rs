//! What two peers agree on about files, apart from keys and datagrams. Pure.
//!
//! ```text
//! name      a name from outside -> a name that is safe to give to a file of ours
//! shares    which files are shared: each file's own switch over the global one
//! glob      patterns over names
//! search    a glob over shared files -> rows for the asker, capped
//! slots     how many uploads run at once
//! tree      a file's BLAKE3 tree: shape, outboard, checking a run of groups
//! ranges    sets of groups
//! exchange  what the two streams of a transfer say
//! manifest  the files of a folder
//! partial   what is kept beside an unfinished file
//! planner   which groups are asked of which holder
//! space     one numbering of groups over all files of a transfer
//! queue     who waits for a slot
//! restrict  rules on what may be shared -> yes, or which rule says no
//! ```

pub mod exchange;
mod glob;
pub mod manifest;
pub mod name;
pub mod partial;
pub mod planner;

pub mod queue;
pub mod ranges;
pub mod restrict;
pub mod search;
pub mod shares;
pub mod slots;
pub mod space;
pub mod tree;
