//! A private room's secret after somebody who knows it was put out: changed by its owner, learned by those who are there, asked for by who
//! lacks it.

use super::acts::Act;
use super::conversation::{Conversation, Kind};
use super::core::{Core, Ticket};
use super::effects::Effect;
use super::event::Event;
use super::governing::Planned;
use crate::crypto::identity::PublicKey;
use crate::crypto::room::RoomKeys;
use crate::crypto::secret::Secret;
use crate::group::{Change, MemberInfo, Sealer};
use crate::wire::id::RoomId;
use crate::wire::log::RemoveReason;
use crate::wire::payload::Body;
use crate::wire::policy::{Policy, RoomKind};
use std::collections::BTreeSet;
use std::time::Duration;

/// Where a room stands with its secret.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    /// Somebody who is out knows the secret in force.
    stale: bool,
    /// Who they are.
    put_out: BTreeSet<PublicKey>,
    /// When the user is told of that, unless it is changed before.
    tell_at: Option<Duration>,
    told: bool,
    /// When we say it in the room, unless somebody else does.
    speak_at: Option<Duration>,
    /// When we, the owner, change it.
    rotate_at: Option<Duration>,
    /// When we did so last at a member's word.
    wished: Option<Duration>,
    /// When we, who lack the new secret, ask for it, and how often we did.
    ask_at: Option<Duration>,
    asked: u32,
    /// The owner's word, while its keys are derived: the number and the version of the policy.
    learning: Option<(u64, Secret, u64)>,
    /// Words of the owner's that did not fit: each cost an Argon2.
    misled: u32,
    /// When we, the owner, said it again last.
    said: Option<Duration>,
}

impl Rotation {
    pub const fn is_stale(&self) -> bool {
        self.stale
    }

    fn next_timeout(&self) -> Option<Duration> {
        [self.tell_at, self.speak_at, self.rotate_at, self.ask_at].into_iter().flatten().min()
    }
}

impl Conversation {
    /// Whether the removal of somebody who was kicked or banned stands.
    pub fn kick_stands(&self) -> bool {
        let kicked = |reason: &RemoveReason| matches!(reason, RemoveReason::Kicked | RemoveReason::Banned);
        self.room.must_commit() && self.reasons.values().any(kicked)
    }

    fn governed_by_us(&self) -> bool {
        self.is_room() && self.room.policy().owner() == self.room.own_key()
    }

    fn is_private(&self) -> bool {
        self.is_room() && self.room.policy().kind == RoomKind::Private
    }

    /// Our place among those who may speak for the others: not the owner, who is spoken to.
    fn place(&self) -> Option<u32> {
        let policy = self.room.policy();
        let speakers = self.room.members().filter(|m| m.key != policy.owner() && !policy.is_muted(&m.key));
        let place = speakers.take_while(|m| m.key != self.room.own_key()).count();
        let speaks = !self.governed_by_us() && !policy.is_muted(&self.room.own_key());
        u32::try_from(place).ok().filter(|_| speaks)
    }

    /// The owner's client makes a new secret; once, however many ask for it.
    fn rotate(&mut self) {
        if self.governed_by_us() && self.is_private() && !self.rule.is_renewing() {
            self.rule.acts.push_back(Planned::new(None, Act::Rotate));
        }
    }

    /// The owner is named to commit a kick: the new secret goes into the same commit. Whether that is so.
    pub fn rotates_with_kick(&mut self) -> bool {
        let ours = self.governed_by_us() && self.is_private() && self.kick_stands();
        if ours {
            self.rotate();
        }
        ours
    }
}

impl Core {
    /// A commit has changed who is in a room, or its policy `before`: what that means for its secret.
    pub(super) fn secret_follows(
        &mut self,
        id: RoomId,
        before: Option<&Policy>,
        change: &Change,
        gone: &[(MemberInfo, &'static str)],
    ) {
        let now = self.now;
        let Some(conversation) = self.conversations.get_mut(&id).filter(|c| c.is_private()) else { return };
        let (policy, me) = (conversation.room.policy().clone(), conversation.room.own_key());
        if before.is_some_and(|before| before.join_key() != policy.join_key()) {
            let wished = conversation.rule.rotation.wished;
            conversation.rule.rotation = Rotation { wished, ..Rotation::default() };
            if !conversation.room.holds_join_key() {
                conversation.rule.rotation.ask_at = Some(now + ASK_AFTER);
            }
            return;
        }
        let put_out = |(member, reason): &(MemberInfo, &str)| {
            matches!(*reason, "kicked" | "banned") && member.key != policy.owner()
        };
        let stale = conversation.rule.rotation.stale;
        if gone.iter().any(put_out) {
            conversation.goes_stale(now);
            let keys = gone.iter().filter(|gone| put_out(gone)).map(|(member, _)| member.key);
            conversation.rule.rotation.put_out.extend(keys);
        }
        // Let in again by the old secret, or they would be told the new one.
        let back = change.joined && conversation.rule.rotation.put_out.contains(&change.committer.key);
        if back && conversation.governed_by_us() {
            conversation.rule.acts.push_back(Planned::new(None, Act::Kick(change.committer.key)));
        }
        let handed_over = before.is_some_and(|before| before.owner() != policy.owner());
        if conversation.rule.rotation.stale && (!stale || handed_over) {
            conversation.rotate();
        }
        if stale && change.joined && change.committer.key != me {
            let place = conversation.place();
            conversation.rule.rotation.speak_at = place.map(|place| now + SPEAK_AFTER + SPEAK_APART * place);
        }
    }

    /// The owner's new secret is in force here: the others who are there get it.
    pub(super) fn secret_renewed(
        &mut self,
        id: RoomId,
        ticket: Ticket,
        secret: Secret,
        keys: RoomKeys,
        generated: bool,
    ) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let version = conversation.room.policy().version;
        conversation.rule.rotation = Rotation { wished: conversation.rule.rotation.wished, ..Rotation::default() };
        let words = secret.expose().to_owned();
        conversation.set_secret(secret, keys);
        // If it finds no room it is asked for.
        let _ = self.queue(&id, Body::NewSecret { version, secret: words.clone() }, None);
        let Some(conversation) = self.conversations.get(&id) else { return };
        let (room, invite) = (conversation.title(), self.invite_to(conversation, false));
        let secret = generated.then_some(words);
        self.tell(ticket, Event::SecretChanged { room, version, invite, secret });
    }

    /// The owner says what the new secret is.
    pub(super) fn new_secret(&mut self, id: RoomId, sender: &Sealer, version: u64, secret: &str) {
        self.next_entry += 1;
        let ticket = self.next_entry;
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let policy = conversation.room.policy();
        let due = policy.owner() == sender.key && policy.version == version && !conversation.room.holds_join_key();
        let learning = conversation.rule.rotation.learning.as_ref().is_some_and(|(_, _, known)| *known == version);
        let Ok(password) = Secret::new(secret) else { return };
        let misled = conversation.rule.rotation.misled >= MISLED_MAX;
        if !conversation.is_private() || !due || learning || misled {
            return;
        }
        conversation.rule.rotation.learning = Some((ticket, password.clone(), version));
        self.effect(Effect::DeriveRoom { ticket, password, room: id });
    }

    /// Its keys: what is not the policy's own is not taken.
    pub(super) fn secret_learned(&mut self, number: u64, keys: RoomKeys) {
        let of = |c: &Conversation| c.rule.rotation.learning.as_ref().is_some_and(|(n, ..)| *n == number);
        let Some(conversation) = self.conversations.values_mut().find(|c| of(c)) else { return };
        let Some((_, secret, version)) = conversation.rule.rotation.learning.take() else { return };
        let (room, owner) = (conversation.title(), conversation.room.policy().owner());
        let peer = conversation.room.member(&owner).map(|m| m.name.to_string());
        if conversation.room.policy().version < version || conversation.room.holds_join_key() {
            return;
        }
        if conversation.room.set_join_key(keys.join.clone()) {
            conversation.set_secret(secret, keys);
            conversation.rule.rotation.ask_at = None;
            self.tell(None, Event::SecretChanged { room, version, invite: None, secret: None });
        } else if conversation.room.policy().version == version {
            conversation.rule.rotation.misled += 1;
            self.integrity(None, room, "bad_secret", peer);
        }
    }

    /// A member says that somebody who is out knows the secret.
    pub(super) fn rotation_wanted(&mut self, id: RoomId, version: u64) {
        let now = self.now;
        let Some(conversation) = self.conversations.get_mut(&id).filter(|c| c.is_private()) else { return };
        if conversation.room.policy().version != version {
            return;
        }
        conversation.goes_stale(now);
        let rotation = &mut conversation.rule.rotation;
        rotation.speak_at = None;
        if conversation.governed_by_us() {
            let rotation = &mut conversation.rule.rotation;
            // Any member can say so, and each time costs everybody a commit.
            let at = rotation.wished.map_or(now, |wished| now.max(wished + WISHES_APART));
            rotation.rotate_at.get_or_insert(at);
        }
    }

    /// A member lacks the new secret.
    pub(super) fn secret_wanted(&mut self, id: RoomId, asker: &PublicKey, version: u64) {
        let now = self.now;
        let Some(conversation) = self.conversations.get_mut(&id).filter(|c| c.is_private()) else { return };
        let recent = conversation.rule.rotation.said.is_some_and(|said| now < said + SAY_APART);
        let due = conversation.governed_by_us()
            && conversation.room.policy().version == version
            && conversation.room.holds_join_key()
            && conversation.room.own_key() != *asker;
        let Some(secret) = conversation.secret().map(|s| s.expose().to_owned()).filter(|_| due && !recent) else {
            return;
        };
        conversation.rule.rotation.said = Some(now);
        let _ = self.queue(&id, Body::NewSecret { version, secret }, None);
    }

    /// Changes the secret, if that is still to be done.
    pub(super) fn rotate_if_stale(&mut self, id: RoomId) {
        if let Some(conversation) = self.conversations.get_mut(&id).filter(|c| c.rule.rotation.stale) {
            conversation.rotate();
        }
    }

    /// The server did not take it: once more in a while.
    pub(super) fn rotate_later(&mut self, id: RoomId) {
        let at = self.now + ROTATE_AGAIN;
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.rule.rotation.rotate_at = Some(at);
        }
    }

    pub(super) fn rotations_timeout(&self) -> Option<Duration> {
        self.conversations.values().filter_map(|c| c.rule.rotation.next_timeout()).min()
    }

    pub(super) fn rotations_timeouts(&mut self) {
        let now = self.now;
        let due = |c: &&Conversation| c.rule.rotation.next_timeout().is_some_and(|at| now >= at);
        let ids: Vec<RoomId> = self.conversations.values().filter(due).map(|c| c.id).collect();
        for id in ids {
            let Some(conversation) = self.conversations.get_mut(&id) else { continue };
            let (room, version) = (conversation.title(), conversation.room.policy().version);
            let rotation = &mut conversation.rule.rotation;
            let is_due = |at: &mut Option<Duration>| at.take_if(|at| now >= *at).is_some();
            let tell = is_due(&mut rotation.tell_at);
            let speak = is_due(&mut rotation.speak_at);
            let rotate = is_due(&mut rotation.rotate_at);
            let ask = is_due(&mut rotation.ask_at);
            rotation.told |= tell;
            if rotate {
                rotation.wished = Some(now);
                conversation.rotate();
            }
            if tell {
                self.tell(None, Event::NotRotated { room });
            }
            if speak {
                let _ = self.queue(&id, Body::RotationWanted { version }, None);
            }
            if ask {
                self.ask_for_secret(id, version);
            }
        }
    }

    fn ask_for_secret(&mut self, id: RoomId, version: u64) {
        let now = self.now;
        let Some(conversation) = self.conversations.get_mut(&id).filter(|c| !c.room.holds_join_key()) else { return };
        let rotation = &mut conversation.rule.rotation;
        rotation.asked += 1;
        rotation.ask_at = (rotation.asked < ASKS).then(|| now + ASK_AFTER * 2_u32.pow(rotation.asked));
        let _ = self.queue(&id, Body::SecretWanted { version }, None);
    }
}

impl Conversation {
    fn goes_stale(&mut self, now: Duration) {
        let ours = self.governed_by_us();
        let rotation = &mut self.rule.rotation;
        rotation.stale = true;
        if !rotation.told && !ours {
            rotation.tell_at.get_or_insert(now + TELL_AFTER);
        }
    }

    /// For the way back in, and for invites.
    fn set_secret(&mut self, secret: Secret, keys: RoomKeys) {
        if let Kind::Room { access, .. } = &mut self.kind {
            (access.secret, access.keys) = (Some(secret), Some(keys));
        }
    }
}

/// An owner who is there has changed the secret by then.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// Whoever comes in is told so much later that the secret is known outside, by the first of those there; the next one waits for it ...
const SPEAK_AFTER: Duration = Duration::from_secs(1);
/// ... so long.
const SPEAK_APART: Duration = Duration::from_secs(2);
/// How often an owner changes the secret at the word of members.
const WISHES_APART: Duration = Duration::from_secs(60);
const ROTATE_AGAIN: Duration = Duration::from_secs(30);
/// Whoever has not got the new secret by then asks for it, and again after twice that, and so on.
const ASK_AFTER: Duration = Duration::from_secs(10);
const ASKS: u32 = 5;
/// Wrong secrets for one policy whose keys are derived.
const MISLED_MAX: u32 = 3;
/// How often an owner says it again.
const SAY_APART: Duration = Duration::from_secs(5);
