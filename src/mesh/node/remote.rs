//! Other nodes as they come, stay away, and go.

use std::time::Duration;

use super::super::UNREACHABLE_AFTER;
use super::super::delivery::Streams;
use super::super::event::{DownReason, NodeInfo, Output};
use super::super::parcel::Seen;
use super::super::topology::{Event, Rerouted};
use super::{Node, NodeId};

/// Another node that has a record here.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) streams: Streams,
    pub(super) parcels: Came,
    /// Told as [`Output::Up`], and not as down since.
    pub(super) up: bool,
    dirty: bool,
    // Without a way there.
    lost_at: Option<Duration>,
    told_lost: bool,
    // Of the last way.
    hops: u8,
    round_trip: Duration,
}

/// The parcels of one process that have come.
#[derive(Debug, Default)]
pub(super) struct Came {
    instance: u64,
    seen: Seen,
}

impl Came {
    /// Takes each number of a process once.
    pub(super) fn take(&mut self, instance: u64, number: u64) -> bool {
        if self.instance != instance {
            *self = Self { instance, seen: Seen::default() };
        }
        self.seen.take(number)
    }
}

impl Remote {
    fn new() -> Self {
        let (hops, round_trip, lost_at) = (0, Duration::ZERO, Some(Duration::ZERO));
        let parcels = Came::default();
        Self { streams: Streams::new(), parcels, up: false, dirty: false, lost_at, told_lost: false, hops, round_trip }
    }

    /// Has something to send, perhaps.
    pub(super) fn mark(&mut self, id: NodeId, dirty: &mut Vec<NodeId>) {
        if !std::mem::replace(&mut self.dirty, true) {
            dirty.push(id);
        }
    }

    pub(super) const fn unmark(&mut self) {
        self.dirty = false;
    }

    /// Whether a packet to it can leave.
    pub(super) const fn is_reachable(&self) -> bool {
        self.up && self.lost_at.is_none()
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        if !self.up {
            return None;
        }
        let Some(lost_at) = self.lost_at else {
            return [self.streams.outgoing.deadline(), self.streams.ack_at()].into_iter().flatten().min();
        };
        Some(lost_at + if self.told_lost { UNREACHABLE_AFTER } else { TELL_LOST_AFTER })
    }
}

impl Node {
    /// Acts on what has happened to the mesh. Before this the ways may be wrong.
    pub(super) fn settle(&mut self) {
        let events = self.topology.events();
        let happened = !events.is_empty();
        events.into_iter().for_each(|event| self.happened(event));
        let rerouted = self.topology.reroute();
        let moved = happened || !rerouted.is_empty();
        rerouted.into_iter().for_each(|change| self.rerouted(change));
        if moved {
            let down: Vec<NodeId> = self.remotes.iter().filter(|(_, remote)| !remote.up).map(|(id, _)| *id).collect();
            down.into_iter().for_each(|id| self.bring_up(id));
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            // There is nobody for us any more.
            _ if self.ousted => {}
            Event::Known(id) => {
                let remote = self.remotes.entry(id).or_insert_with(Remote::new);
                if remote.up {
                    self.tell_changed(id);
                }
            }
            Event::Restarted(id) => {
                if let Some(remote) = self.remotes.get_mut(&id) {
                    remote.streams = Streams::new();
                    self.take_down(id, DownReason::Restarted);
                }
            }
            Event::Forgotten(id) => self.remove(id, DownReason::Unreachable),
            Event::Evicted(id) => self.remove(id, DownReason::NameTaken),
            Event::Cut(link, why) => {
                self.full.remove(&link);
                self.outputs.push_back(Output::CutLink { link, why });
            }
            Event::Log(log) => self.outputs.push_back(Output::Log(log)),
            Event::Renumbered => self.begin_anew(),
            Event::Ousted => {
                self.ousted = true;
                let all: Vec<NodeId> = self.remotes.keys().copied().collect();
                all.into_iter().for_each(|id| self.remove(id, DownReason::Unreachable));
                self.outputs.push_back(Output::Ousted);
            }
        }
    }

    /// What others have told us they told another process.
    fn begin_anew(&mut self) {
        let all: Vec<NodeId> = self.remotes.keys().copied().collect();
        for id in all {
            self.take_down(id, DownReason::Reset);
            if let Some(remote) = self.remotes.get_mut(&id) {
                remote.streams = Streams::new();
            }
        }
    }

    fn remove(&mut self, id: NodeId, why: DownReason) {
        self.take_down(id, why);
        self.remotes.remove(&id);
    }

    fn take_down(&mut self, id: NodeId, why: DownReason) {
        if let Some(remote) = self.remotes.get_mut(&id)
            && std::mem::take(&mut remote.up)
        {
            self.outputs.push_back(Output::Down(id, why));
        }
    }

    fn bring_up(&mut self, id: NodeId) {
        let Some(route) = self.topology.route(id) else { return };
        let Some(remote) = self.remotes.get_mut(&id).filter(|remote| !remote.up) else { return };
        (remote.up, remote.lost_at, remote.told_lost) = (true, None, false);
        (remote.hops, remote.round_trip) = (route.hops(), route.round_trip);
        remote.streams.outgoing.set_path_rtt(route.round_trip);
        remote.mark(id, &mut self.dirty);
        if let Some(info) = self.info(id) {
            self.outputs.push_back(Output::Up(info));
        }
    }

    /// The streams were reset: tells it, and begins anew if there is a way.
    pub(super) fn void(&mut self, id: NodeId, why: DownReason) {
        self.take_down(id, why);
        self.bring_up(id);
    }

    fn rerouted(&mut self, change: Rerouted) {
        let (Rerouted::Found(id) | Rerouted::Lost(id) | Rerouted::Broken(id) | Rerouted::Better(id)) = change;
        let Some(remote) = self.remotes.get_mut(&id) else { return };
        let Some(route) = self.topology.route(id) else {
            remote.lost_at = Some(self.now);
            remote.streams.outgoing.lose_all();
            return;
        };
        let was_told_lost = std::mem::take(&mut remote.told_lost);
        let hops = std::mem::replace(&mut remote.hops, route.hops());
        (remote.lost_at, remote.round_trip) = (None, route.round_trip);
        remote.streams.outgoing.set_path_rtt(route.round_trip);
        if !matches!(change, Rerouted::Better(_)) {
            remote.streams.outgoing.lose_all();
            remote.streams.outgoing.begin_path();
        }
        remote.mark(id, &mut self.dirty);
        if remote.up && (was_told_lost || hops != route.hops()) {
            self.tell_changed(id);
        }
    }

    fn tell_changed(&mut self, id: NodeId) {
        if let Some(info) = self.info(id) {
            self.outputs.push_back(Output::Changed(info));
        }
    }

    pub(super) fn remote_timeout(&mut self, id: NodeId) {
        let now = self.now;
        let Some(remote) = self.remotes.get_mut(&id).filter(|remote| remote.up) else { return };
        let Some(lost_at) = remote.lost_at else {
            let expired = remote.streams.outgoing.expire(now);
            if expired || remote.streams.ack_at().is_some_and(|at| at <= now) {
                remote.mark(id, &mut self.dirty);
            }
            return;
        };
        if now >= lost_at + UNREACHABLE_AFTER {
            remote.streams.reset(now);
            self.take_down(id, DownReason::Unreachable);
        } else if now >= lost_at + TELL_LOST_AFTER && !std::mem::replace(&mut remote.told_lost, true) {
            self.tell_changed(id);
        }
    }

    pub(super) fn info(&self, id: NodeId) -> Option<NodeInfo> {
        let said = self.topology.said(id)?.said();
        let remote = self.remotes.get(&id)?;
        Some(NodeInfo {
            id,
            key: said.key(),
            name: said.name.clone(),
            vouch: said.vouch.clone(),
            endpoints: said.endpoints.clone(),
            instance: said.instance,
            reachable: remote.is_reachable(),
            hops: remote.hops,
            round_trip: remote.round_trip,
            queued: remote.streams.outgoing.queued(),
        })
    }
}

/// A way that is found again by then was not lost: while a change goes round, the records contradict each other.
const TELL_LOST_AFTER: Duration = Duration::from_millis(300);
