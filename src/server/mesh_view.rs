//! A mesh as its operator sees it, from what its node reports.

use crate::mesh::NodeId;
use crate::mesh::run::MeshReport;
use crate::wire::admin::{EdgeView, LinkView, MeshView, NodeView};
use std::collections::BTreeMap;
use std::time::Duration;

impl From<&MeshReport> for MeshView {
    fn from(report: &MeshReport) -> Self {
        let mut names: BTreeMap<NodeId, String> =
            report.nodes.iter().map(|node| (node.info.id, node.info.name.to_string())).collect();
        names.insert(report.id, report.name.to_string());
        let name = |id: &NodeId| names.get(id).cloned().unwrap_or_else(|| id.to_string());
        let nodes = report.nodes.iter().map(|node| NodeView {
            name: node.info.name.to_string(),
            id: hex(&node.info.id),
            reachable: node.info.reachable,
            hops: node.info.hops,
            round_trip_ms: ms(node.info.round_trip),
            queued: node.info.queued,
            path: node.path.iter().map(name).collect(),
            endpoints: node.info.endpoints.clone(),
        });
        let links = report.links.iter().map(|link| LinkView {
            peer: link.name.to_string(),
            address: link.address.to_string(),
            dialled: link.dialled,
            up_ms: u64::try_from(link.up.as_millis()).unwrap_or(u64::MAX),
            round_trip_ms: link.round_trip.map(ms),
            control_bytes: link.control_bytes,
            bulk_bytes: link.bulk_bytes,
            dropped: link.dropped,
            parcels_dropped: link.parcels_dropped,
            sent_frames: link.sent_frames,
            sent_bytes: link.sent_bytes,
            received_bytes: link.received_bytes,
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let edge = |(a, b, rtt): &(NodeId, NodeId, Duration)| {
            let (a, b) = (name(a), name(b));
            let (from, to) = if a < b { (a, b) } else { (b, a) };
            EdgeView { from, to, round_trip_ms: ms(*rtt) }
        };
        let mut edges: Vec<_> = report.edges.iter().map(edge).collect();
        edges.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        Self {
            name: report.name.to_string(),
            id: hex(&report.id),
            nodes,
            links: links.collect(),
            edges,
            counts: counts(report),
            refusals: report.refusals.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            waiting: report.waiting,
        }
    }
}

fn counts(report: &MeshReport) -> BTreeMap<String, u64> {
    let of = &report.counts;
    let counts = [
        ("sent", of.sent),
        ("delivered", of.delivered),
        ("repeated", of.repeated),
        ("duplicates", of.duplicates),
        ("forwarded", of.forwarded),
        ("dropped", of.dropped),
        ("refused", of.refused),
        ("forged", of.forged),
        ("parcels_sent", of.parcels_sent),
        ("parcels", of.parcels),
        ("parcels_again", of.parcels_again),
        ("records", of.records),
        ("records_refused", of.records_refused),
    ];
    counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

fn hex(id: &NodeId) -> String {
    crate::crypto::identity::Fingerprint(id.0).to_string()
}

fn ms(duration: Duration) -> f64 {
    // Microseconds are as exact as it is measured.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
