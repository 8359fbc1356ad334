//! `secchat admin restrict`.

use super::typed;
use crate::cli::values;
use crate::wire::admin::Ask;
use crate::wire::sharing::Limits;
use clap::{ArgGroup, Args};

/// Options of `admin restrict`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
What the options say holds together, as one restriction; several restrictions all hold. Types are told by a file's first bytes, so that another \
name does not help. The programs at both ends of a transfer hold to it, and name it when they refuse.
Examples:
  secchat admin restrict --deny-name '*.exe' --deny-type application/x-msdownload --reason 'no programs'
  secchat admin restrict --room lab --max-size 20M
  secchat admin restrict --user bob --files-a-day 10 --bytes-a-day 1G --at-once 1
  secchat admin restrict --deny-root 7a1f…64 digits…
  secchat admin restrict --off --yes                 (nothing is shared any more)")]
#[command(group = ArgGroup::new("limits").required(true).multiple(true).args(LIMITS))]
pub struct RestrictArgs {
    /// Only what is found or offered in this room
    #[arg(long, value_name = "ROOM", conflicts_with = "user")]
    room: Option<String>,
    /// Only what this person sends and fetches
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Nothing is shared
    #[arg(long)]
    off: bool,
    /// No larger files, and folders as a whole
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    max_size: Option<u64>,
    /// No files with such names; may be repeated
    #[arg(long, value_name = "GLOB", value_parser = typed::glob)]
    deny_name: Vec<String>,
    /// Only files with such names; may be repeated
    #[arg(long, value_name = "GLOB", value_parser = typed::glob)]
    allow_name: Vec<String>,
    /// No files of this type, like application/zip or video/*; may be repeated
    #[arg(long, value_name = "MIME", value_parser = typed::mime)]
    deny_type: Vec<String>,
    /// Only files of this type; may be repeated
    #[arg(long, value_name = "MIME", value_parser = typed::mime)]
    allow_type: Vec<String>,
    /// Not the file with this BLAKE3 root, 64 hex digits; may be repeated
    #[arg(long, value_name = "HEX", value_parser = typed::root)]
    deny_root: Vec<String>,
    /// So many files that one person sends in a day
    #[arg(long, value_name = "N")]
    files_a_day: Option<u64>,
    /// So much that one person sends in a day
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    bytes_a_day: Option<u64>,
    /// So many transfers that one person sends at once
    #[arg(long, value_name = "N")]
    at_once: Option<u32>,
    /// Only this person may share; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Named in refusals, and kept in the audit log
    #[arg(long, value_name = "TEXT", value_parser = typed::reason)]
    reason: Option<String>,
}

impl RestrictArgs {
    /// What the server is asked.
    pub(super) fn ask(self) -> Ask {
        let limits = Limits {
            off: self.off,
            max_size: self.max_size,
            deny_names: self.deny_name,
            allow_names: self.allow_name,
            deny_types: self.deny_type,
            allow_types: self.allow_type,
            deny_roots: self.deny_root,
            files_a_day: self.files_a_day,
            bytes_a_day: self.bytes_a_day,
            at_once: self.at_once,
            only: self.only,
        };
        Ask::Restrict { room: self.room, user: self.user, limits: Box::new(limits), reason: self.reason }
    }
}

/// One of these at least.
const LIMITS: [&str; 11] = [
    "off",
    "max_size",
    "deny_name",
    "allow_name",
    "deny_type",
    "allow_type",
    "deny_root",
    "files_a_day",
    "bytes_a_day",
    "at_once",
    "only",
];
