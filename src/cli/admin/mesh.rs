//! The mesh: as tables, and as a graph.

use super::show::{Look, short};
use super::table::Table;
use crate::client::render::size;
use crate::wire::admin::{LinkView, MeshView, NodeView};
use crate::wire::text::shown;
use std::fmt::Write as _;

/// For people.
pub(super) fn text(view: &MeshView, look: &Look) -> String {
    let mut out = format!("server  {}  {}\n\n", shown(&view.name), short(&view.id));
    let rows = view.nodes.iter().map(node_row);
    out += &Table::new(["SERVER", "ROUND TRIP", "HOPS", "QUEUED", "PATH"], rows).text("no other server is known", look);
    let rows = view.links.iter().map(link_row);
    let head = ["LINK", "ROUND TRIP", "WAITS", "SENT/RECEIVED", "ADDRESS"];
    out = out + "\n" + &Table::new(head, rows).text("there are no links", look);
    let told: Vec<_> = view.refusals.iter().filter(|(_, count)| **count > 0).collect();
    if !told.is_empty() {
        let told = told.iter().map(|(reason, count)| format!("{} {count}", shown(reason)));
        let _ = writeln!(out, "\nrefused or cut: {}", told.collect::<Vec<_>>().join(", "));
    }
    out
}

fn node_row(node: &NodeView) -> [String; 5] {
    let trip = if node.reachable { format!("{:.1} ms", node.round_trip_ms) } else { "away".into() };
    let path = shown(&node.path.join(" > ")).to_string();
    [shown(&node.name).to_string(), trip, node.hops.to_string(), size(node.queued as u64), path]
}

fn link_row(link: &LinkView) -> [String; 5] {
    let trip = link.round_trip_ms.map_or_else(|| "?".into(), |ms| format!("{ms:.1} ms"));
    let traffic = format!("{}/{}", size(link.sent_bytes), size(link.received_bytes));
    let arrow = if link.dialled { "to" } else { "from" };
    let waits = size((link.control_bytes + link.bulk_bytes) as u64);
    let address = format!("{arrow} {}", shown(&link.address));
    [shown(&link.peer).to_string(), trip, waits, traffic, address]
}

/// An undirected graph; dashed are servers that cannot be reached.
pub(super) fn graph(view: &MeshView) -> String {
    let mut out = "graph mesh {\n".to_owned();
    let quoted = |name: &str| format!("\"{}\"", shown(name).to_string().replace(['"', '\\'], "_"));
    let _ = writeln!(out, "  {} [style=bold];", quoted(&view.name));
    for node in &view.nodes {
        let style = if node.reachable { "" } else { " [style=dashed]" };
        let _ = writeln!(out, "  {}{style};", quoted(&node.name));
    }
    for edge in &view.edges {
        let (from, to) = (quoted(&edge.from), quoted(&edge.to));
        let _ = writeln!(out, "  {from} -- {to} [label=\"{:.1} ms\"];", edge.round_trip_ms);
    }
    out + "}\n"
}
