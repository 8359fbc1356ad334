//! `secchat admin room`.

use super::typed;
use crate::wire::admin::{Ask, Wish};
use clap::Subcommand;

/// What is done about a room. `ROOM` is one of this server.
#[derive(Debug, Clone, Subcommand)]
pub enum RoomCommand {
    /// Show who is in it; a server does not know what they say
    Show { room: String },
    /// End it for everybody
    #[command(after_help = "Examples:\n  secchat admin room close lab --reason 'moved to lab2'")]
    Close {
        room: String,
        /// Shown to its members, and kept in the audit log
        #[arg(long, value_name = "TEXT", value_parser = typed::reason)]
        reason: Option<String>,
    },
    /// Let nobody join any more; who is in stays in
    Lock { room: String },
    /// Let people join again
    Unlock { room: String },
    /// Ask the owner for another password
    #[command(after_help = "\
Only the owner can do this: neither a server nor its operator has a say over who is in a private room. The owner gets your request.")]
    SetPassword { room: String },
    /// Ask the owner to hand the room over
    #[command(after_help = "\
Only the owner can do this: neither a server nor its operator has a say over who owns a room. The owner gets your request.
Examples:
  secchat admin room owner lab carol")]
    Owner {
        room: String,
        /// The new owner, a member
        name: String,
    },
}

impl RoomCommand {
    /// What the server is asked.
    pub(super) fn ask(self) -> Ask {
        match self {
            Self::Show { room } => Ask::Room { room },
            Self::Close { room, reason } => Ask::Close { room, reason },
            Self::Lock { room } => Ask::Lock { room },
            Self::Unlock { room } => Ask::Unlock { room },
            Self::SetPassword { room } => Ask::AskOwner { room, wish: Wish::NewSecret },
            Self::Owner { room, name } => Ask::AskOwner { room, wish: Wish::HandOver(name) },
        }
    }
}
