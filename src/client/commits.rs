//! Our own commits: removals that we are named for, and new keys for our leaf from time to time.

use super::core::Core;
use super::links::published_commit;
use super::requests::Purpose;
use crate::group::Outgoing;
use crate::wire::frame::{Code, Reply, Request};
use crate::wire::id::RoomId;
use minicbor::bytes::ByteArray;
use rand_core::RngCore;
use std::time::Duration;

impl Core {
    pub(super) fn commit_now(&mut self, id: RoomId, epoch: u64) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let ready = conversation.room.epoch() == epoch && conversation.may_commit();
        if ready && conversation.rotates_with_kick() {
            return;
        }
        if ready && let Ok(out) = conversation.room.commit_pending() {
            self.send_commit(id, out, None);
        }
    }

    pub(super) fn committed(&mut self, id: RoomId, epoch: u64, reply: &Reply) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        if let Reply::Sequenced { seq, .. } = reply {
            let news = conversation.committed(epoch, *seq);
            self.news(id, news);
        } else {
            conversation.commit_refused(epoch);
            match reply {
                // The commit that won is on its way to us; or there was none, and we left somebody in who is to go.
                Reply::Refused(refusal) if refusal.code == Code::Stale => {
                    let theirs = refusal.hint.as_ref().and_then(|hint| hint.parse::<u64>().ok());
                    if theirs.is_none_or(|theirs| theirs > epoch) {
                        conversation.stale = Some(epoch);
                    }
                }
                Reply::Refused(refusal) => self.act_refused(id, epoch, refusal.clone().into()),
                _ => {}
            }
        }
    }

    /// New keys for our leaf from time to time, and a renewed name certificate.
    pub(super) fn renew_leaf(&mut self, id: RoomId) {
        let (now, next) = (self.now, self.conversations.get(&id).map_or(Duration::MAX, |c| c.renew_at));
        if now < next {
            return;
        }
        let renewal = self.next_renewal();
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        if conversation.may_commit() {
            conversation.renew_at = renewal;
            if let Ok(out) = conversation.room.self_update() {
                self.send_commit(id, out, None);
            }
        }
    }

    pub(super) fn next_renewal(&mut self) -> Duration {
        let spread = u64::from(self.rng.next_u32()) % LEAF_RENEWAL.as_secs();
        self.now + LEAF_RENEWAL + Duration::from_secs(spread)
    }

    pub(super) fn send_commit(&mut self, id: RoomId, out: Outgoing, door: Option<ByteArray<32>>) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let epoch = conversation.room.epoch();
        conversation.commit = Some((epoch, out.bytes.clone()));
        let (message, published) = (out.bytes.into(), published_commit(out.published));
        let request = Request::Commit { room: id, lease: None, message, published, door };
        self.room_request(&id, request, Purpose::Commit(id, epoch));
    }

    pub(super) fn rooms_timeout(&self) -> Option<Duration> {
        let able = self.conversations.values().filter(|c| c.may_commit() && self.is_up(&c.server));
        able.map(|c| c.renew_at).min().filter(|at| *at != Duration::MAX)
    }
}

/// A member's leaf gets new keys after this time, or up to twice as much.
const LEAF_RENEWAL: Duration = Duration::from_secs(12 * 3600);
