//! What a commit does, and why it may not.

use super::CertRefused;
use super::roster::MemberInfo;
use crate::limits::LEAF_MAX;
use crate::wire::name::FullName;
use crate::wire::policy::Policy;
use openmls::prelude::StagedCommit;
use std::collections::BTreeSet;

/// What a commit does to a room, in words of people rather than proposals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The epoch that it makes.
    pub epoch: u64,
    /// Who made it, as it is afterwards; the newcomer if `joined`.
    pub committer: MemberInfo,
    /// The committer was not a member before, or under another leaf.
    pub joined: bool,
    /// The newcomer's own older leaf, which this one replaces.
    pub replaced: Option<MemberInfo>,
    /// Those who left by themselves.
    pub left: Vec<MemberInfo>,
    /// Those who were removed.
    pub removed: Vec<Removed>,
    /// The policy from now on, if it changed.
    pub policy: Option<Policy>,
}

/// One member that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Who is out.
    pub member: MemberInfo,
    /// By whom.
    pub by: By,
}

/// Who wanted a member out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The home server proposed it.
    HomeServer,
    /// The committer did it: the owner or a moderator.
    Committer,
}

impl Change {
    pub(super) fn by(committer: MemberInfo, staged: &StagedCommit) -> Self {
        Self {
            epoch: staged.group_context().epoch().as_u64(),
            committer,
            joined: false,
            replaced: None,
            left: Vec::new(),
            removed: Vec::new(),
            policy: None,
        }
    }

    pub(super) fn each_gone_once(self) -> Result<Self, Refusal> {
        let mut leaves = BTreeSet::new();
        if self.gone().all(|m| leaves.insert(m.leaf)) {
            Ok(self)
        } else {
            Err(Refusal::Forbidden("removing a leaf twice"))
        }
    }

    /// Everybody whose leaf is gone.
    pub(super) fn gone(&self) -> impl Iterator<Item = &MemberInfo> {
        self.replaced.iter().chain(&self.left).chain(self.removed.iter().map(|r| &r.member))
    }
}

/// Why a commit or proposal is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A proposal of a kind, sender or form that is never allowed in this kind of room.
    #[error("{0} is not allowed here")]
    Forbidden(&'static str),
    /// The committer has not the role for it.
    #[error("{0} may not do this")]
    NotEntitled(FullName),
    /// The commit does not renew its maker's leaf.
    #[error("the commit has no update path")]
    NoPath,
    /// Nobody can join a direct conversation.
    #[error("nobody can join a direct conversation")]
    Closed,
    /// The newcomer has not shown that it knows the room's secret.
    #[error("the newcomer has not shown that it knows the room's secret")]
    JoinProof,
    /// The room's owner has banned the newcomer's key.
    #[error("the room's owner has banned this key")]
    Banned,
    /// The room has as many members as it may have.
    #[error("the room is full")]
    Full,
    /// The sender is no member.
    #[error("the sender is no member")]
    Sender,
    /// The leaf's credential is no certificate for its key.
    #[error("the leaf's credential is no name certificate for its key")]
    Credential,
    /// The leaf has more than [`LEAF_MAX`] bytes.
    #[error("a leaf has at most {LEAF_MAX} bytes")]
    Leaf,
    /// The leaf's certificate is not believed.
    #[error(transparent)]
    Cert(#[from] CertRefused),
    /// The committer's leaf changed its name or key.
    #[error("{0} changed its identity")]
    Identity(FullName),
    /// Another leaf has this name or key already.
    #[error("{0} is in the room already")]
    Taken(FullName),
    /// A change of the group context other than the next version of the policy.
    #[error("not the next version of the room's policy")]
    Policy,
    /// The member's removal stands already: it is not proposed twice, and its own commits are refused.
    #[error("its removal stands already")]
    Standing,
    /// Authenticated data where none belongs.
    #[error("unexpected authenticated data")]
    Data,
}
