//! The shortest way to each node: Dijkstra's algorithm over the links that both ends tell.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::HOPS_MAX;
use super::event::LinkId;
use crate::wire::vouch::NodeId;

/// The links of the mesh; each counts once both ends have told of it.
#[derive(Debug, Default)]
pub(super) struct Graph {
    told: BTreeMap<NodeId, Vec<(NodeId, u32)>>,
}

/// A way to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) link: LinkId,
    pub(super) round_trip: Duration,
    /// The nodes on the way, the last is where it leads.
    pub(super) path: Vec<NodeId>,
}

impl Route {
    pub(super) fn hops(&self) -> u8 {
        u8::try_from(self.path.len()).unwrap_or(u8::MAX)
    }
}

impl Graph {
    /// What one end says.
    pub(super) fn tell(&mut self, node: NodeId, links: impl Iterator<Item = (NodeId, u32)>) {
        let mut links: Vec<_> = links.filter(|(to, _)| *to != node).collect();
        links.sort_unstable();
        links.dedup_by_key(|(to, _)| *to);
        self.told.insert(node, links);
    }

    /// Round trip of the link between two nodes, microseconds: the longer that they tell.
    pub(super) fn link(&self, a: NodeId, b: NodeId) -> Option<u32> {
        Some(self.one_way(a, b)?.max(self.one_way(b, a)?))
    }

    fn one_way(&self, from: NodeId, to: NodeId) -> Option<u32> {
        let links = self.told.get(&from)?;
        let at = links.binary_search_by_key(&to, |(to, _)| *to).ok()?;
        links.get(at).map(|(_, rtt)| *rtt)
    }

    /// Every link once.
    pub(super) fn links(&self) -> impl Iterator<Item = (NodeId, NodeId, u32)> + '_ {
        let ends = self.told.iter().flat_map(|(a, links)| links.iter().map(|(b, _)| (*a, *b)));
        ends.filter(|(a, b)| a < b).filter_map(|(a, b)| Some((a, b, self.link(a, b)?)))
    }

    /// Whether every link of a way from `from` is still told.
    pub(super) fn holds(&self, from: NodeId, path: &[NodeId]) -> bool {
        let starts = std::iter::once(&from).chain(path);
        starts.zip(path).all(|(a, b)| self.link(*a, *b).is_some())
    }

    /// The shortest ways from `from`, whose own links are `own`. Every node that has heard the same finds the same, so
    /// that no two send a packet back and forth.
    pub(super) fn routes(&self, from: NodeId, own: &BTreeMap<NodeId, LinkId>) -> BTreeMap<NodeId, Route> {
        let ids: Vec<NodeId> = self.told.keys().copied().collect();
        let Ok(start) = ids.binary_search(&from) else { return BTreeMap::new() };
        let tree = shortest(&self.by_index(&ids), start);
        let mut found: BTreeMap<NodeId, Route> = BTreeMap::new();
        for (node, before, cost) in tree.into_iter().skip(1) {
            let (Some(id), Some(before)) = (ids.get(node), ids.get(before)) else { continue };
            let (link, mut path) = match found.get(before) {
                Some(route) => (Some(route.link), route.path.clone()),
                None => (own.get(id).copied(), Vec::new()),
            };
            path.push(*id);
            let links = cost.micros.saturating_sub(u64::from(cost.hops) * HOP_MICROS);
            if let Some(link) = link {
                found.insert(*id, Route { link, round_trip: Duration::from_micros(links), path });
            }
        }
        found
    }

    /// The links that both ends tell, with places in `ids` for ids.
    fn by_index(&self, ids: &[NodeId]) -> Vec<Vec<(usize, u32)>> {
        let place = |(to, rtt): &(NodeId, u32)| Some((ids.binary_search(to).ok()?, *rtt));
        let told: Vec<Vec<(usize, u32)>> =
            self.told.values().map(|links| links.iter().filter_map(place).collect()).collect();
        let back = |from: usize, to: usize| {
            let links = told.get(to)?;
            let at = links.binary_search_by_key(&from, |(to, _)| *to).ok()?;
            links.get(at).map(|(_, rtt)| *rtt)
        };
        let both = |(from, links): (usize, &Vec<(usize, u32)>)| {
            links.iter().filter_map(|(to, rtt)| Some((*to, back(from, *to)?.max(*rtt)))).collect()
        };
        told.iter().enumerate().map(both).collect()
    }
}

/// Every node that can be reached, nearest first, with the one before it on the way.
fn shortest(links: &[Vec<(usize, u32)>], start: usize) -> Vec<(usize, usize, Cost)> {
    let (mut done, mut best) = (vec![false; links.len()], vec![None; links.len()]);
    let mut tree = Vec::with_capacity(links.len());
    let mut heap = BinaryHeap::from([Reverse((Cost::default(), start, start))]);
    while let Some(Reverse((cost, node, before))) = heap.pop() {
        let Some(done_now) = done.get_mut(node) else { continue };
        if std::mem::replace(done_now, true) {
            continue;
        }
        tree.push((node, before, cost));
        if cost.hops >= HOPS_MAX {
            continue;
        }
        for (next, rtt) in links.get(node).into_iter().flatten() {
            let further = cost.add(*rtt);
            // Equal ones too: of two ways the one over the lesser id is taken.
            if let Some(known) = best.get_mut(*next)
                && known.is_none_or(|known| further <= known)
            {
                *known = Some(further);
                heap.push(Reverse((further, *next, node)));
            }
        }
    }
    tree
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    micros: u64,
    hops: u8,
}

impl Cost {
    const fn add(self, rtt: u32) -> Self {
        Self { micros: self.micros + rtt as u64 + HOP_MICROS, hops: self.hops + 1 }
    }
}

/// What a server on the way costs beside its links: of two ways that are as fast the one with fewer servers is taken.
const HOP_MICROS: u64 = 500;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn graph(links: &[(u8, u8, u32)]) -> Graph {
        let mut graph = Graph::default();
        let nodes: BTreeSet<u8> = links.iter().flat_map(|(a, b, _)| [*a, *b]).collect();
        for node in nodes {
            let mine = links.iter().filter_map(|(a, b, rtt)| match () {
                () if *a == node => Some((id(*b), *rtt)),
                () if *b == node => Some((id(*a), *rtt)),
                () => None,
            });
            graph.tell(id(node), mine);
        }
        graph
    }

    fn own(neighbours: &[u8]) -> BTreeMap<NodeId, LinkId> {
        neighbours.iter().map(|n| (id(*n), LinkId(u64::from(*n)))).collect()
    }

    #[test]
    fn the_fastest_way_is_taken_and_of_equals_the_shortest() {
        let graph =
            graph(&[(1, 2, 1000), (2, 3, 1000), (1, 3, 9000), (1, 4, 3000), (4, 3, 100), (1, 5, 2000), (2, 5, 900)]);
        let routes = graph.routes(id(1), &own(&[2, 3, 4, 5]));
        assert_eq!(routes[&id(3)].path, [id(2), id(3)]);
        assert_eq!((routes[&id(3)].link, routes[&id(3)].round_trip), (LinkId(2), Duration::from_millis(2)));
        assert_eq!(routes[&id(5)].path, [id(5)], "100 microseconds are not worth a server");
        assert!(graph.holds(id(1), &routes[&id(3)].path) && !graph.holds(id(1), &[id(3), id(5)]));
    }

    #[test]
    fn a_link_that_one_end_tells_does_not_count() {
        let mut graph = graph(&[(1, 2, 10)]);
        graph.tell(id(3), [(id(2), 1), (id(1), 1)].into_iter());
        let routes = graph.routes(id(1), &own(&[2]));
        assert_eq!(routes.keys().copied().collect::<Vec<_>>(), [id(2)]);
        assert_eq!(graph.links().count(), 1);
    }

    #[test]
    fn no_way_is_longer_than_a_packet_may_go() {
        let chain: Vec<_> = (1..30).map(|n| (n, n + 1, 10)).collect();
        let routes = graph(&chain).routes(id(1), &own(&[2]));
        assert_eq!(routes.len(), usize::from(HOPS_MAX));
    }
}
