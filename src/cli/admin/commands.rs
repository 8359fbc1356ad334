//! What can be asked of a server, as it is typed: at a shell, and at the server's own console.

use super::room::RoomCommand;
use super::typed;
use crate::wire::admin::{Ask, Registration, Role, Whom};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use std::time::Duration;

/// A question to a server, or an order.
#[derive(Debug, Clone, Subcommand)]
pub enum AdminCommand {
    /// Show the mesh as this server knows it: servers, links, round trips, paths, queues
    #[command(after_help = "\
Examples:
  secchat admin mesh
  secchat admin mesh --json | jq '.nodes[] | select(.reachable | not) | .name'
  secchat admin mesh --dot | dot -Tsvg > mesh.svg")]
    Mesh {
        /// As a graph for Graphviz
        #[arg(long, conflicts_with = "json")]
        dot: bool,
    },
    /// Tell whether all is well; the exit code is 1 where it is not
    #[command(after_help = "\
Looks at the room on the disk, the days that the certificate is still good for, and the other servers of the mesh.
Examples:
  secchat admin health || mail -s 'chat server' root")]
    Health,
    /// Show what was counted since the start
    #[command(after_help = "Examples:\n  secchat admin stats --json | jq .clients")]
    Stats,
    /// Show registration, level, allow list and invitations
    #[command(after_help = "Examples:\n  secchat admin settings")]
    Settings,
    /// List who has a name here, and guests from other servers
    #[command(after_help = "\
Examples:
  secchat admin users
  secchat admin users --json | jq -r '.rows[] | select(.online) | .name'")]
    Users,
    /// Show one person
    #[command(
        after_help = "Examples:\n  secchat admin show bob\n  secchat admin show bob@s2 --json | jq -r .fingerprint"
    )]
    Show {
        /// NAME, or NAME@SERVER for one of another server
        name: String,
    },
    /// List the rooms of this server
    #[command(after_help = "Examples:\n  secchat admin rooms --json | jq -r '.rows[] | select(.members > 50) | .room'")]
    Rooms,
    /// Look at a room, close or lock it, or ask something of its owner
    #[command(
        subcommand,
        after_help = "Examples:\n  secchat admin room show lab\n  secchat admin room lock lab\n  secchat admin room set-password lab"
    )]
    Room(RoomCommand),
    /// List the bans that hold here
    #[command(after_help = "Examples:\n  secchat admin bans --json | jq -r '.rows[] | select(.network) | .network'")]
    Bans,
    /// List who is muted
    #[command(after_help = "Examples:\n  secchat admin mutes")]
    Mutes,
    /// The list of those who may get in: once somebody is on it, nobody else gets in
    #[command(
        subcommand,
        after_help = "Examples:\n  secchat admin allow add alice\n  secchat admin allow list\n  secchat admin allow remove alice"
    )]
    Allow(AllowCommand),
    /// List who has a role
    #[command(after_help = "Examples:\n  secchat admin roles")]
    Roles,
    /// Give somebody a role
    #[command(after_help = "\
Roles: a moderator looks, speaks, kicks, bans and mutes; an operator does all but giving roles, backup and stop. Roles belong to keys, not to \
names. Whoever can open the server's admin socket is its owner, and only the owner gives roles.
Examples:
  secchat admin grant alice --role operator
  secchat admin grant bob@s2 --role moderator")]
    Grant {
        /// NAME, or NAME@SERVER for one of another server
        name: String,
        /// What they may do
        #[arg(long, value_name = "ROLE")]
        role: Given,
    },
    /// Take somebody's role
    #[command(after_help = "Examples:\n  secchat admin revoke alice")]
    Revoke {
        /// As `roles` shows it
        name: String,
    },
    /// List what may not be shared
    #[command(after_help = "Examples:\n  secchat admin restrictions")]
    Restrictions,
    /// Restrict what may be shared: everywhere, in a room, or by a person
    Restrict(Box<super::restrict::RestrictArgs>),
    /// Lift a restriction
    #[command(after_help = "Examples:\n  secchat admin unrestrict 3")]
    Unrestrict {
        /// As `restrictions` shows it
        id: u64,
    },
    /// List what operators and moderators did, the newest first
    #[command(after_help = "\
Nothing in it can be changed or taken out by this program.
Examples:
  secchat admin audit --limit 10
  secchat admin audit --limit 1000 --json | jq -r '.rows[] | select(.act == \"ban\") | .whom'")]
    Audit {
        /// Only those before this number
        #[arg(long, value_name = "ID")]
        before: Option<u64>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
    /// Write a line to somebody
    #[command(after_help = "Examples:\n  secchat admin message bob 'please keep to the topic'")]
    Message {
        /// NAME, or NAME@SERVER for one of another server
        name: String,
        /// The line
        #[arg(required = true, num_args = 1.., allow_hyphen_values = true, trailing_var_arg = true)]
        text: Vec<String>,
    },
    /// Write a line to everybody
    #[command(after_help = "Examples:\n  secchat admin broadcast 'the server restarts at noon'")]
    Broadcast {
        /// The line
        #[arg(required = true, num_args = 1.., allow_hyphen_values = true, trailing_var_arg = true)]
        text: Vec<String>,
    },
    /// Put somebody out of a room, or of all rooms and off the server
    #[command(after_help = "\
Who was kicked may come back; see `ban` and `mute`.
Examples:
  secchat admin kick bob --reason 'asked to stop three times'
  secchat admin kick bob --room lab
  secchat admin kick bob --yes                 (in a script)")]
    Kick {
        /// NAME, or NAME@SERVER for one of another server
        name: String,
        /// Only out of this room
        #[arg(long, value_name = "ROOM")]
        room: Option<String>,
        /// Shown to them, and kept in the audit log
        #[arg(long, value_name = "TEXT", value_parser = typed::reason)]
        reason: Option<String>,
    },
    /// Put somebody out and keep them out: a name with its key, a key, or a network
    #[command(after_help = "\
A ban of a name binds the key behind it, so another name does not help; it holds on every server of the mesh, unless --here is given.
Examples:
  secchat admin ban bob --for 2h --reason spam
  secchat admin ban --fingerprint 3b7c…64 digits…
  secchat admin ban --network 203.0.113.0/24 --for 1d")]
    Ban(Box<BanArgs>),
    /// Lift a ban
    #[command(after_help = "Examples:\n  secchat admin unban 7")]
    Unban {
        /// As `bans` shows it
        id: String,
    },
    /// Let somebody listen only, in one room or everywhere on this server
    #[command(after_help = "Examples:\n  secchat admin mute bob --room lab --for 10min --reason 'let others speak'")]
    Mute {
        /// NAME, or NAME@SERVER for one of another server
        name: String,
        /// Only in this room
        #[arg(long, value_name = "ROOM")]
        room: Option<String>,
        /// Until then; for good where it is left out
        #[arg(long = "for", value_name = "TIME", value_parser = typed::term)]
        term: Option<Duration>,
        /// Shown to them, and kept in the audit log
        #[arg(long, value_name = "TEXT", value_parser = typed::reason)]
        reason: Option<String>,
    },
    /// Let somebody speak again
    #[command(after_help = "Examples:\n  secchat admin unmute bob --room lab")]
    Unmute {
        /// NAME, or NAME@SERVER for one of another server
        name: String,
        /// In this room
        #[arg(long, value_name = "ROOM")]
        room: Option<String>,
    },
    /// Say who may take a new name
    #[command(after_help = "\
open: everybody; invite: who has a token of `invitation`; closed: nobody. Names that are taken stay theirs.
Examples:
  secchat admin registration invite && secchat admin invitation --uses 5 --for 7d")]
    Registration {
        /// Who
        mode: Mode,
    },
    /// Make a token with which somebody may take a new name
    #[command(after_help = "Examples:\n  secchat admin invitation --uses 5 --for 7d --json | jq -r .token")]
    Invitation {
        /// For so many names
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// Until then; for good where it is left out
        #[arg(long = "for", value_name = "TIME", value_parser = typed::term)]
        term: Option<Duration>,
    },
    /// Free a name whose key is lost
    #[command(after_help = "\
Whoever asks for the name first has it then, and everybody who knew the old key is alarmed. Make sure that it is the same person.
Examples:
  secchat admin release bob")]
    Release {
        /// A name of this server
        name: String,
    },
    /// Say how wary the server is, from 5 (normal) to 1
    #[command(after_help = "\
Levels:
  5  normal
  4  half of all rates
  3  a quarter of all rates, new names by invitation only
  2  a tenth of all rates, no new names, no new rooms
  1  as 2, and only those get in who have a role or are on the allow list
Examples:
  secchat admin defcon 3")]
    Defcon {
        /// 1 to 5
        #[arg(value_parser = clap::value_parser!(u8).range(1..=5))]
        level: u8,
    },
    /// Stop the server, as SIGTERM does: everybody is told, what waits is written
    #[command(after_help = "Examples:\n  secchat admin stop --yes")]
    Stop,
    /// Read certificate and settings again; nobody is dropped
    #[command(after_help = "\
Of the settings file log-age, log-bytes and room-ttl can change while the server runs. A certificate or file that cannot be \
used changes nothing. SIGHUP does the same.")]
    Reload,
    /// Copy the database into a file while the server runs
    #[command(after_help = "\
The copy is made on the server's machine, 0600, and never over a file that is there. To restore it, put it as server.db into an empty data \
directory, with copies of the files identity, name, tls.pem and tls.key.
Examples:
  secchat admin backup /var/backups/secchat-$(date +%F).db")]
    Backup {
        /// A file that is not there yet
        #[arg(value_parser = typed::file)]
        file: String,
    },
}

/// Options of `admin ban`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("whom").required(true).args(["name", "fingerprint", "network"]))]
pub struct BanArgs {
    /// NAME, or NAME@SERVER for one of another server
    name: Option<String>,
    /// A key's fingerprint, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = typed::fingerprint)]
    fingerprint: Option<String>,
    /// An address, or a network like 203.0.113.0/24 or 2001:db8::/32
    #[arg(long, value_name = "CIDR", value_parser = typed::network)]
    network: Option<String>,
    /// Until then; for good where it is left out
    #[arg(long = "for", value_name = "TIME", value_parser = typed::term)]
    term: Option<Duration>,
    /// Shown to them, and kept in the audit log
    #[arg(long, value_name = "TEXT", value_parser = typed::reason)]
    reason: Option<String>,
    /// On this server only, not on the others of the mesh
    #[arg(long)]
    here: bool,
}

/// What is done with the allow list.
#[derive(Debug, Clone, Subcommand)]
pub enum AllowCommand {
    /// Put somebody on it
    Add {
        /// A name that is known here, or a fingerprint of 64 hex digits
        whom: String,
    },
    /// Take somebody off it; with the last one it ends
    Remove {
        /// As `allow list` shows it
        whom: String,
    },
    /// Show it
    List,
}

/// Roles that can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Given {
    /// Looks, speaks, kicks, bans, mutes
    Moderator,
    /// All but roles, backup and stop
    Operator,
}

/// Who may take a new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Everybody
    Open,
    /// Who has a token
    Invite,
    /// Nobody
    Closed,
}

impl AdminCommand {
    /// What the server is asked.
    pub fn ask(self) -> Ask {
        match self {
            Self::Mesh { .. } => Ask::Mesh,
            Self::Health => Ask::Health,
            Self::Stats => Ask::Stats,
            Self::Settings => Ask::Settings,
            Self::Users => Ask::Users { after: None },
            Self::Show { name } => Ask::Show { name },
            Self::Rooms => Ask::Rooms { after: None },
            Self::Room(command) => command.ask(),
            Self::Bans => Ask::Bans { after: None },
            Self::Mutes => Ask::Mutes,
            Self::Allow(AllowCommand::Add { whom }) => Ask::Allow { whom },
            Self::Allow(AllowCommand::Remove { whom }) => Ask::Disallow { whom },
            Self::Allow(AllowCommand::List) => Ask::Allowed,
            Self::Roles => Ask::Roles,
            Self::Grant { name, role } => Ask::Grant { name, role: role.into() },
            Self::Revoke { name } => Ask::Revoke { name },
            Self::Restrictions => Ask::Restrictions,
            Self::Restrict(args) => args.ask(),
            Self::Unrestrict { id } => Ask::Unrestrict { id },
            Self::Audit { before, limit } => Ask::Audit { before, limit: Some(limit) },
            Self::Message { name, text } => Ask::Message { name, text: text.join(" ") },
            Self::Broadcast { text } => Ask::Broadcast { text: text.join(" ") },
            Self::Kick { name, room, reason } => Ask::Kick { name, room, reason },
            Self::Ban(args) => args.ask(),
            Self::Unban { id } => Ask::Unban { id },
            Self::Mute { name, room, term, reason } => Ask::Mute { name, room, for_s: seconds(term), reason },
            Self::Unmute { name, room } => Ask::Unmute { name, room },
            Self::Registration { mode } => Ask::Registration { mode: mode.into() },
            Self::Invitation { uses, term } => Ask::Invitation { uses, for_s: seconds(term) },
            Self::Release { name } => Ask::Release { name },
            Self::Defcon { level } => Ask::Defcon { level },
            Self::Stop => Ask::Stop,
            Self::Reload => Ask::Reload,
            Self::Backup { file } => Ask::Backup { file },
        }
    }
}

impl BanArgs {
    fn ask(self) -> Ask {
        let Self { name, fingerprint, network, term, reason, here } = self;
        let key = || fingerprint.map(Whom::Fingerprint).or(network.map(Whom::Network));
        // The parser sees to it that one of the three is there.
        let whom = name.map(Whom::Name).or_else(key).unwrap_or_else(|| Whom::Name(String::new()));
        Ask::Ban { whom, for_s: seconds(term), reason, here }
    }
}

fn seconds(term: Option<Duration>) -> Option<u64> {
    term.map(|term| term.as_secs())
}

impl From<Given> for Role {
    fn from(given: Given) -> Self {
        match given {
            Given::Moderator => Self::Moderator,
            Given::Operator => Self::Operator,
        }
    }
}

impl From<Mode> for Registration {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Open => Self::Open,
            Mode::Invite => Self::Invite,
            Mode::Closed => Self::Closed,
        }
    }
}
