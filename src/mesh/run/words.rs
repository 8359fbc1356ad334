//! What the log and peers are told of what the node says.

use crate::mesh::{MeshLog, NodeId, Refused};
use crate::wire::mesh_hello::MeshRefusal;

/// What a peer is told of why there is no link.
pub(super) const fn refusal_of(refused: &Refused) -> MeshRefusal {
    match refused {
        Refused::Doubt(_) => MeshRefusal::NotTrusted,
        Refused::NameTaken { .. } => MeshRefusal::NameTaken,
        Refused::Ourselves => MeshRefusal::Itself,
        Refused::Twice(_) | Refused::Replaced(_) => MeshRefusal::Linked,
        Refused::Former(_) => MeshRefusal::Former,
        Refused::TooMany => MeshRefusal::Busy,
    }
}

/// The line, and whether the operator of this very server has to do something.
pub(super) fn describe(log: &MeshLog, own: NodeId) -> (String, bool) {
    match log {
        MeshLog::Doubted { node, why } => (format!("the server {node} is not taken into the mesh: {why}"), false),
        MeshLog::AbsurdRecord { node, number } => {
            (format!("a record of {node} is refused: no clock near ours gives its number {number}"), false)
        }
        MeshLog::NameTaken { name, holder, refused } if *refused == own => (
            format!("the mesh refuses this server: its name {name} belongs to {holder}; choose another with --name"),
            true,
        ),
        MeshLog::NameTaken { name, holder, refused } => {
            (format!("the server {refused} is refused: its name {name} belongs to {holder}"), false)
        }
        MeshLog::OurselvesElsewhere => ("an older process in the mesh uses this server's identity".into(), true),
        MeshLog::ClockSetBack => {
            ("the clock was set back since this server ran last: it goes on as that one's successor".into(), false)
        }
        MeshLog::FormerProcess(node) => (
            format!(
                "a record of an earlier process of {node} is refused: its identity runs twice, or its clock was set back"
            ),
            false,
        ),
        MeshLog::TooManyNodes(node) => (format!("the mesh has as many servers as it may; {node} is not taken"), false),
        MeshLog::TooManyRecords(node) => (format!("records of {node} come too fast; some are not taken"), false),
        MeshLog::ForgedOrigin(node) => (format!("packets claim to come from {node}, and cannot"), false),
        MeshLog::ForgedPacket { origin, through } => (
            format!(
                "packets claim to come from {origin}, which has not sent them so; the last came through {through}, \
                 one of the servers on the way is hostile"
            ),
            false,
        ),
        MeshLog::WeakKey(node) => (format!("a record of {node} is refused: its X25519 key is of low order"), false),
    }
}
