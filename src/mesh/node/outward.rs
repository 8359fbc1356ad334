//! Frames put together: what waits for several nodes beyond one link leaves as one, and no body crosses a link twice.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::HOPS_MAX;
use super::super::event::{Class, LinkId, Output};
use super::super::outgoing::Item;
use super::super::packet::{BODY_MAX, HEAD_MAX, begin_data, begin_message, put_body, put_tags, put_target};
use super::{Node, NodeId};

/// What leaves on one link.
#[derive(Debug, Default)]
struct Load {
    targets: Vec<NodeId>,
    items: Vec<Item>,
}

impl Node {
    /// Puts everything together that may leave now.
    pub(super) fn flush(&mut self) {
        self.settle();
        let now = self.now;
        for (link, frame) in self.topology.frames(now) {
            self.outputs.push_back(Output::Transmit { link, frame: frame.into(), class: Class::Control });
        }
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.is_empty() {
            return;
        }
        let mut loads: BTreeMap<LinkId, Load> = BTreeMap::new();
        for id in &dirty {
            self.collect(now, *id, &mut loads);
        }
        for (link, load) in loads {
            self.transmit(now, link, load);
        }
        self.acknowledge(now, &dirty);
    }

    fn collect(&mut self, now: Duration, id: NodeId, loads: &mut BTreeMap<LinkId, Load>) {
        let Some(remote) = self.remotes.get_mut(&id) else { return };
        remote.unmark();
        let Some(route) = self.topology.route(id).filter(|_| remote.up) else { return };
        if self.full.contains(&route.link) {
            return;
        }
        let load = loads.entry(route.link).or_default();
        let index = u32::try_from(load.targets.len()).unwrap_or(u32::MAX);
        let before = load.items.len();
        self.counts.repeated += remote.streams.outgoing.collect(now, index, &mut load.items);
        if load.items.len() > before {
            load.targets.push(id);
            // There may be more.
            remote.mark(id, &mut self.dirty);
        }
    }

    fn transmit(&mut self, now: Duration, link: LinkId, mut load: Load) {
        if load.targets.len() > 1 {
            load.items.sort_by_key(|item| item.group);
        }
        let mut rest = load.items.as_slice();
        while !rest.is_empty() {
            let (frame, later) = rest.split_at(frame_end(rest));
            rest = later;
            self.write(now, &load.targets, frame);
            let frame = self.scratch.as_slice().into();
            self.outputs.push_back(Output::Transmit { link, frame, class: Class::Bulk });
        }
    }

    /// One data frame, into `scratch`.
    fn write(&mut self, now: Duration, targets: &[NodeId], items: &[Item]) {
        let mut places: Vec<Option<(u8, u64)>> = vec![None; targets.len()];
        let mut order = Vec::new();
        for item in items {
            let Some(place) = usize::try_from(item.target).ok().and_then(|at| places.get_mut(at)) else { continue };
            if place.is_none() {
                // There are fewer other nodes than 256, and the first item of each has its lowest number.
                *place = Some((u8::try_from(order.len()).unwrap_or(u8::MAX), item.number));
                order.push((item.target, item.number));
            }
        }
        let out = &mut self.scratch;
        out.clear();
        let count = u8::try_from(order.len()).unwrap_or(u8::MAX);
        begin_data(out, HOPS_MAX - 1, self.topology.id(), self.topology.config().instance, count);
        for (index, base) in order {
            let id = usize::try_from(index).ok().and_then(|at| targets.get(at));
            if let Some((id, remote)) = id.and_then(|id| Some((*id, self.remotes.get_mut(id)?))) {
                let instance = self.topology.said(id).map_or(0, |record| record.said().instance);
                remote.streams.target(now, id, instance, base).write(out);
            }
        }
        for message in items.chunk_by(|a, b| a.group == b.group) {
            begin_message(out, u8::try_from(message.len()).unwrap_or(u8::MAX));
            for item in message {
                let place = usize::try_from(item.target).ok().and_then(|at| places.get(at).copied().flatten());
                let (place, base) = place.unwrap_or_default();
                put_target(out, place, item.number - base, item.head.as_deref().unwrap_or_default());
            }
            put_body(out, message.first().map_or(&[], |item| &item.body));
        }
        self.put_tags();
    }

    /// The frame in `scratch` is whole.
    fn put_tags(&mut self) {
        let Self { scratch, covered, topology, .. } = self;
        put_tags(scratch, |id| topology.pair(id).map(|pair| &pair.ours), covered);
    }

    /// Acknowledgements that no message has taken along.
    fn acknowledge(&mut self, now: Duration, ids: &[NodeId]) {
        let mut acks: BTreeMap<LinkId, Vec<NodeId>> = BTreeMap::new();
        for id in ids {
            let due = self
                .remotes
                .get(id)
                .is_some_and(|remote| remote.is_reachable() && remote.streams.ack_at().is_some_and(|at| at <= now));
            if let Some(route) = self.topology.route(*id).filter(|_| due) {
                acks.entry(route.link).or_default().push(*id);
            }
        }
        for (link, ids) in acks {
            let out = &mut self.scratch;
            out.clear();
            let count = u8::try_from(ids.len()).unwrap_or(u8::MAX);
            begin_data(out, HOPS_MAX - 1, self.topology.id(), self.topology.config().instance, count);
            for id in ids {
                if let Some(remote) = self.remotes.get_mut(&id) {
                    let instance = self.topology.said(id).map_or(0, |record| record.said().instance);
                    remote.streams.target(now, id, instance, 0).write(out);
                }
            }
            self.put_tags();
            let frame = self.scratch.as_slice().into();
            self.outputs.push_back(Output::Transmit { link, frame, class: Class::Control });
        }
    }
}

/// How many items the next frame takes: some 64 KiB, at least one message. Only a message with very many long heads is
/// cut between its targets, and then its body crosses the link again.
fn frame_end(items: &[Item]) -> usize {
    let (mut bytes, mut group, mut end) = (0, None, 0);
    for item in items {
        let head = item.head.as_ref().map_or(0, |head| head.len()) + TARGET_BYTES;
        let fresh = group != Some(item.group);
        let more = head + if fresh { item.body.len() } else { 0 };
        if end > 0 && bytes + more > if fresh { CHUNK } else { LONGEST } {
            break;
        }
        bytes += more;
        group = Some(item.group);
        end += 1;
    }
    end
}

const CHUNK: usize = 64 * 1024;
/// Below the largest frame by what stands before the messages.
const LONGEST: usize = BODY_MAX + 4 * HEAD_MAX;
/// What one target of a message takes beside its head, at most.
const TARGET_BYTES: usize = 16;
