//! Parcels: sent once, passed on, delivered or lost.

use std::time::Duration;

use super::super::HOPS_MAX;
use super::super::event::{Class, LinkId, MeshLog, Output};
use super::super::packet::HOPS_AT;
use super::super::parcel::{Label, Parcel, write};
use super::{Node, NodeId};
use crate::limits::MESH_PARCEL_MAX;

impl Node {
    /// Sends bytes to another node once, at most [`MESH_PARCEL_MAX`] of them: they go behind all else, and what is lost is lost. Returns
    /// whether they left; they do not where no way is known, or the neighbour on it takes no parcels.
    pub fn send_parcel(&mut self, now: Duration, target: NodeId, body: &[u8]) -> bool {
        self.begin(now);
        self.settle();
        let Some(link) = self.parcel_link(target).filter(|_| body.len() <= MESH_PARCEL_MAX) else {
            self.counts.dropped += 1;
            return false;
        };
        let Some(target_instance) = self.topology.said(target).map(|record| record.said().instance) else {
            return false;
        };
        let Some(pair) = self.topology.pair(target) else { return false };
        self.parcel_number += 1;
        let (origin, instance) = (self.topology.id(), self.topology.config().instance);
        let label = Label { origin, instance, target, target_instance, number: self.parcel_number };
        let frame = write(HOPS_MAX - 1, label, &pair.ours, body).into();
        self.outputs.push_back(Output::Transmit { link, frame, class: Class::Parcel });
        self.counts.parcels_sent += 1;
        true
    }

    /// A parcel from a neighbour.
    pub(super) fn parcel(&mut self, link: LinkId, parcel: &Parcel<'_>, bytes: &[u8]) {
        self.settle();
        let known = self.topology.said(parcel.origin).map(|record| record.said().instance);
        if known != Some(parcel.instance) {
            self.counts.refused += 1;
            if known.is_none() {
                self.log(MeshLog::ForgedOrigin(parcel.origin));
            }
        } else if parcel.target == self.topology.id() {
            self.parcel_arrives(link, parcel);
        } else {
            self.pass_parcel(link, parcel, bytes);
        }
    }

    fn parcel_arrives(&mut self, link: LinkId, parcel: &Parcel<'_>) {
        let from = parcel.origin;
        let ours = parcel.target_instance == self.topology.config().instance;
        let Some(remote) = self.remotes.get_mut(&from).filter(|remote| ours && remote.up) else {
            self.counts.refused += 1;
            return;
        };
        if !self.topology.pair(from).is_some_and(|pair| parcel.is_genuine(&pair.theirs)) {
            self.counts.forged += 1;
            let through = self.topology.peer_of(link).unwrap_or(from);
            return self.log(MeshLog::ForgedPacket { origin: from, through });
        }
        if !remote.parcels.take(parcel.instance, parcel.number) {
            self.counts.parcels_again += 1;
            return;
        }
        self.counts.parcels += 1;
        self.outputs.push_back(Output::Parcel { from, body: parcel.body.into() });
    }

    /// Nowhere if the way leads back, as with data.
    fn pass_parcel(&mut self, from: LinkId, parcel: &Parcel<'_>, bytes: &[u8]) {
        let link = self.parcel_link(parcel.target).filter(|link| *link != from && parcel.hops > 0);
        let Some(link) = link else {
            self.counts.dropped += 1;
            return;
        };
        self.scratch.clear();
        self.scratch.extend_from_slice(bytes);
        if let Some(hops) = self.scratch.get_mut(HOPS_AT) {
            *hops = parcel.hops.saturating_sub(1);
        }
        let frame = self.scratch.as_slice().into();
        self.outputs.push_back(Output::Transmit { link, frame, class: Class::Parcel });
        self.counts.forwarded += 1;
    }

    fn parcel_link(&self, target: NodeId) -> Option<LinkId> {
        let link = self.topology.route(target)?.link;
        self.topology.takes_parcels(link).then_some(link)
    }
}
