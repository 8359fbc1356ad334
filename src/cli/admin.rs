//! `secchat admin`: looks into a running server on this machine.

use super::exit::ExitCode;
use super::places;
use super::report::Report;
use crate::wire::admin::{Answer, Ask, LinkView, MeshView, NodeView};
use crate::wire::text::shown;
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Look into a running server on this machine
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The server's data directory
    #[arg(long, value_name = "DIR", env = "SECCHAT_SERVER_DATA", global = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Show the mesh as this server knows it: servers, links, round trips, paths, queues
    #[command(after_help = "\
Examples:
  secchat admin mesh
  secchat admin mesh --json | jq '.nodes[] | select(.reachable | not) | .name'
  secchat admin mesh --dot | dot -Tsvg > mesh.svg")]
    Mesh {
        /// As one JSON object
        #[arg(long, conflicts_with = "dot")]
        json: bool,
        /// As a graph for Graphviz
        #[arg(long)]
        dot: bool,
    },
}

/// Runs the command.
pub fn run(args: AdminArgs) -> Result<ExitCode, Report> {
    let dir = args.data.or_else(|| places::data_dir("server")).ok_or_else(|| {
        Report::new(ExitCode::Usage, "there is no home directory to look for the server in").hint("name its --data")
    })?;
    let AdminCommand::Mesh { json, dot } = args.command;
    let view = match ask(&dir, &Ask::Mesh)? {
        Answer::Mesh(view) => view,
        Answer::Failed { why, hint, .. } => {
            let report = Report::new(ExitCode::Failed, why);
            return Err(match hint {
                Some(hint) => report.hint(hint),
                None => report,
            });
        }
        _ => return Err(Report::new(ExitCode::Failed, "the server gave another answer than was asked for")),
    };
    let text = match (json, dot) {
        (true, _) => serde_json::to_string(&view).map_err(|e| Report::new(ExitCode::Failed, e))? + "\n",
        (_, true) => graph(&view),
        _ => table(&view),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::Done)
}

#[cfg(unix)]
fn ask(dir: &Path, ask: &Ask) -> Result<Answer, Report> {
    use crate::server::desk::{ADMIN_PATIENCE, ANSWER_MAX, socket_in};
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    let path = socket_in(dir);
    let failed = |e: &dyn std::fmt::Display| {
        Report::new(ExitCode::Unreachable, format!("no server answers at {}: {e}", path.display()))
            .hint("is it running, as the same user, and is this its --data?")
    };
    let silent = || {
        let waited = ADMIN_PATIENCE.as_secs();
        Report::new(
            ExitCode::Unreachable,
            format!("the server at {} does not answer within {waited} s", path.display()),
        )
        .hint("it runs, but is stopped or stuck: look at its process (`ps`, state T means stopped) and its log")
    };
    let exchange = || -> io::Result<String> {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(ADMIN_PATIENCE))?;
        stream.set_write_timeout(Some(ADMIN_PATIENCE))?;
        stream.write_all((serde_json::to_string(ask)? + "\n").as_bytes())?;
        let mut answer = String::new();
        stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => silent(),
        io::ErrorKind::NotFound => failed(&"there is no such socket"),
        io::ErrorKind::ConnectionRefused => failed(&"the server that made it is gone"),
        _ => failed(&e),
    })?;
    if answer.is_empty() {
        return Err(silent());
    }
    serde_json::from_str(&answer).map_err(|e| failed(&e))
}

#[cfg(not(unix))]
fn ask(_: &Path, _: &Ask) -> Result<Answer, Report> {
    Err(Report::new(ExitCode::Failed, "servers have no admin socket on this system"))
}

/// For people.
fn table(view: &MeshView) -> String {
    let mut out = format!("server  {}  {}\n", shown(&view.name), short(&view.id));
    let rows = view.nodes.iter().map(node_row);
    push_table(&mut out, ["SERVER", "ROUND TRIP", "HOPS", "QUEUED", "PATH"], rows.collect());
    let rows = view.links.iter().map(link_row);
    push_table(&mut out, ["LINK", "ROUND TRIP", "WAITS", "SENT/RECEIVED", "ADDRESS"], rows.collect());
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

fn push_table(out: &mut String, head: [&str; 5], rows: Vec<[String; 5]>) {
    out.push('\n');
    let all: Vec<[String; 5]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or_default()).collect();
    for row in &all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
}

/// An undirected graph; dashed are servers that cannot be reached.
fn graph(view: &MeshView) -> String {
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

fn short(id: &str) -> &str {
    id.get(..16).unwrap_or(id)
}

fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}
