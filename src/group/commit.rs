//! Our own commits: made, sent, and merged only when the home server has logged them.

use super::allow::check_commit;
use super::change::{Change, Refusal};
use super::info::{Published, vouch};
use super::room::{Pending, Room};
use super::{mls, roster::MemberInfo};
use crate::crypto::identity::{Identity, PublicKey};
use crate::wire::policy::{Policy, RoomKind};
use openmls::prelude::{Extensions, GroupContext, LeafNodeIndex, Sender};
use openmls_traits::OpenMlsProvider;

/// What goes to the home server in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The commit, an MLS PublicMessage.
    pub bytes: Vec<u8>,
    /// The GroupInfo of the epoch that it makes.
    pub published: Published,
}

/// What a commit of who governs a room does, all at once.
#[derive(Debug, Clone, Default)]
pub struct Governing {
    /// Who is to be out.
    pub remove: Option<PublicKey>,
    /// What stands in the next policy; its version and its join key are put right here.
    pub policy: Option<Policy>,
    /// The join key of a private room's new secret.
    pub join: Option<Identity>,
}

/// Whom a direct conversation is begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcoming {
    /// For the recipient, an MLS Welcome.
    pub welcome: Vec<u8>,
    /// The recipient as its key package says and its certificate proves.
    pub peer: MemberInfo,
}

/// Why we cannot commit.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An own commit is on its way already.
    #[error("a commit is on its way already")]
    Busy,
    /// We are no longer a member.
    #[error("we are no longer a member")]
    Gone,
    /// Our own removal stands; somebody else commits it.
    #[error("our own removal stands")]
    Leaving,
    /// Nobody has this key.
    #[error("no such member")]
    NoSuchMember,
    /// We have not the room's present secret, so newcomers would not believe our GroupInfo.
    #[error("we have not the room's present secret")]
    NoJoinKey,
    /// The members would refuse it.
    #[error("the members would refuse it: {0}")]
    Refused(#[from] Refusal),
    /// Nothing awaits the home server's answer.
    #[error("no commit is on its way")]
    NothingPending,
    /// The library failed.
    #[error("MLS: {0}")]
    Mls(String),
}

impl Room {
    /// Renews our leaf (and takes in what stands): new keys for us, so that an old copy of our state opens nothing any more.
    pub fn self_update(&mut self) -> Result<Outgoing, CommitError> {
        self.commit(Plan::default())
    }

    /// Commits the standing removals.
    pub fn commit_pending(&mut self) -> Result<Outgoing, CommitError> {
        self.commit(Plan::default())
    }

    /// Removes a member. In a private room the owner rotates the secret in the same commit, by giving the new join key.
    pub fn remove(&mut self, member: &PublicKey, new_join: Option<Identity>) -> Result<Outgoing, CommitError> {
        let leaf = self.member(member).ok_or(CommitError::NoSuchMember)?.leaf;
        // Its removal may stand already; the commit takes it in, and a second Remove of one leaf would be malformed.
        let remove = (!self.standing().contains(&leaf)).then_some(leaf);
        self.commit(Plan { remove, ..self.rotation(new_join)? })
    }

    /// Removes somebody, changes the policy and replaces the join key in one commit. Moderators can only remove.
    pub fn govern(&mut self, act: Governing) -> Result<Outgoing, CommitError> {
        let Plan { policy: rotated, join, .. } = self.rotation(act.join)?;
        let remove = match act.remove {
            Some(key) => Some(self.member(&key).ok_or(CommitError::NoSuchMember)?.leaf),
            None => None,
        };
        let remove = remove.filter(|leaf| !self.standing().contains(leaf));
        let mut policy = act.policy.or(rotated);
        if let Some(policy) = &mut policy {
            if let Some(join) = &join {
                *policy = policy.rotated(join.public());
            }
            policy.version = self.policy.version.checked_add(1).ok_or(Refusal::Policy)?;
        }
        self.commit(Plan { remove, policy, join })
    }

    /// Replaces the join key of a private room; the owner's alone.
    pub fn rotate(&mut self, new_join: Identity) -> Result<Outgoing, CommitError> {
        let plan = self.rotation(Some(new_join))?;
        self.commit(plan)
    }

    /// Puts the next version of the policy in force; the owner's alone.
    pub fn set_policy(&mut self, policy: Policy) -> Result<Outgoing, CommitError> {
        self.commit(Plan { policy: Some(policy), ..Plan::default() })
    }

    /// Asks to be taken out: a SelfRemove proposal, which another member commits. If a commit that does not take it in comes
    /// first, it is void and must be made anew.
    pub fn leave(&mut self) -> Result<Vec<u8>, CommitError> {
        self.may_commit()?;
        if self.policy.kind == RoomKind::Direct {
            return Err(Refusal::Forbidden("leaving a direct conversation").into());
        }
        let message = self.group.leave_group_via_self_remove(&self.provider, &self.signer).map_err(library)?;
        message.to_bytes().map_err(library)
    }

    /// The home server has logged our commit: we enter its epoch.
    pub fn own_commit_accepted(&mut self) -> Result<Change, CommitError> {
        let change = self.pending.as_ref().ok_or(CommitError::NothingPending)?.change.clone();
        self.group.merge_pending_commit(&self.provider).map_err(library)?;
        self.follow(&change, true);
        Ok(change)
    }

    /// The home server has logged somebody else's commit, or refused ours: it is dropped.
    pub fn own_commit_lost(&mut self) -> Result<(), CommitError> {
        self.pending = None;
        self.group.clear_pending_commit(self.provider.storage()).map_err(library)
    }

    /// Whether an own commit awaits the home server's answer.
    pub const fn has_pending_commit(&self) -> bool {
        self.pending.is_some()
    }

    fn rotation(&self, new_join: Option<Identity>) -> Result<Plan, CommitError> {
        let Some(join) = new_join else { return Ok(Plan::default()) };
        if self.policy.kind != RoomKind::Private || self.policy.version == u64::MAX {
            return Err(Refusal::Policy.into());
        }
        Ok(Plan { policy: Some(self.policy.rotated(join.public())), join: Some(join), remove: None })
    }

    fn may_commit(&self) -> Result<(), CommitError> {
        if !self.active {
            return Err(CommitError::Gone);
        }
        if self.pending.is_some() {
            return Err(CommitError::Busy);
        }
        let own = self.group.own_leaf_index().u32();
        if self.standing().contains(&own) { Err(CommitError::Leaving) } else { Ok(()) }
    }

    fn commit(&mut self, plan: Plan) -> Result<Outgoing, CommitError> {
        self.may_commit()?;
        let policy = plan.policy.clone().unwrap_or_else(|| self.policy.clone());
        let join = plan.join.clone().or_else(|| self.join.clone());
        if policy.join_key() != join.as_ref().map(Identity::public) {
            return Err(CommitError::NoJoinKey);
        }
        let (bytes, group_info) = self.stage(&plan)?;
        let change = match self.judge_own() {
            Ok(change) => change,
            Err(refusal) => {
                self.own_commit_lost()?;
                return Err(refusal.into());
            }
        };
        let vouch = join.map(|join| vouch(&join, &self.room_id, &policy, &group_info));
        let published = Published { epoch: change.epoch, group_info, vouch };
        self.pending = Some(Pending { change, join: plan.join });
        Ok(Outgoing { bytes, published })
    }

    /// Builds the commit and its GroupInfo; openmls holds it as pending.
    fn stage(&mut self, plan: &Plan) -> Result<(Vec<u8>, Vec<u8>), CommitError> {
        let parameters = mls::leaf_parameters(&self.me);
        let mut builder = self
            .group
            .commit_builder()
            .force_self_update(true)
            .leaf_node_parameters(parameters)
            .propose_removals(plan.remove.map(LeafNodeIndex::new));
        if let Some(policy) = &plan.policy {
            let context = Extensions::<GroupContext>::from_vec(mls::context(policy, &self.server)).map_err(library)?;
            builder = builder.propose_group_context_extensions(context).map_err(library)?;
        }
        let bundle = builder
            .load_psks(self.provider.storage())
            .map_err(library)?
            .create_group_info(true)
            .build(self.provider.rand(), self.provider.crypto(), &self.signer, |_| true)
            .map_err(library)?
            .stage_commit(&self.provider)
            .map_err(library)?;
        let (commit, _, group_info) = bundle.into_messages();
        let group_info = group_info.ok_or_else(|| CommitError::Mls("no GroupInfo".into()))?;
        Ok((commit.to_bytes().map_err(library)?, group_info.to_bytes().map_err(library)?))
    }

    /// Asks the same rules that the others will ask, so that we never send what they refuse.
    fn judge_own(&self) -> Result<Change, Refusal> {
        let tag = self.tag();
        let staged = self.group.pending_commit().ok_or(Refusal::NoPath)?;
        let sender = Sender::Member(self.group.own_leaf_index());
        check_commit(&self.view(&tag), &sender, &[], staged, &|_| Ok(()))
    }
}

#[derive(Default)]
struct Plan {
    remove: Option<u32>,
    policy: Option<Policy>,
    join: Option<Identity>,
}

fn library(error: impl std::fmt::Display) -> CommitError {
    CommitError::Mls(error.to_string())
}
