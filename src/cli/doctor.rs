//! `secchat doctor`: what stands in the way, and what can be done about it.

use super::exit::ExitCode;
use super::report::Report;
use crate::net::survey::{self, Answer, Kind};
use crate::net::udp::canonical;
use crate::wire::endpoint::Endpoint;
use crate::wire::invite::Invite;
use crate::wire::text::shown;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Options of `secchat doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(subcommand)]
    command: DoctorCommand,
}

#[derive(Debug, Subcommand)]
enum DoctorCommand {
    /// Find out what kind of router stands between you and others
    ///
    /// Asks servers, over UDP, how your address looks from there (STUN). With two or more that have different addresses it can tell whether your
    /// router gives you one port for all, which is what a direct way between two people needs.
    Network(NetworkArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secchat doctor network --server chat.example.org
  secchat doctor network --server a.example.org,b.example.org     two servers tell more than one
  secchat doctor network --server chat.example.org --stun stun.example.net:3478 --json")]
struct NetworkArgs {
    /// Servers to ask, with commas between them; the port is 7443 where none is given
    #[arg(long, value_name = "HOST[:PORT],…", env = "SECCHAT_SERVER", value_delimiter = ',', value_parser = server)]
    server: Vec<Endpoint>,
    /// The server that an invite without a secret names
    #[arg(long, value_name = "URL")]
    invite: Option<String>,
    /// Any other STUN server; the port is 3478 where none is given; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", value_parser = stun_server)]
    stun: Vec<Endpoint>,
    /// One JSON object for each address family
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: DoctorArgs) -> Result<ExitCode, Report> {
    let DoctorCommand::Network(args) = args.command;
    let mut endpoints = args.server;
    if let Some(url) = &args.invite {
        let invite = Invite::parse(url).map_err(|error| Report::new(ExitCode::Usage, error))?;
        if invite.has_secret() {
            let cause = "an invite with a room's secret does not belong on a command line";
            return Err(
                Report::new(ExitCode::Usage, cause).hint("leave out the secret, or name the server with --server")
            );
        }
        endpoints.push(Endpoint { host: invite.host, port: invite.port });
    }
    endpoints.extend(args.stun);
    if endpoints.is_empty() {
        return Err(Report::new(ExitCode::Usage, "there is nobody to ask").hint("name your server with --server"));
    }
    let found = look_up(&endpoints)?;
    let own: Vec<IpAddr> =
        if_addrs::get_if_addrs().unwrap_or_default().iter().map(|interface| interface.ip().to_canonical()).collect();
    let mut out = io::stdout().lock();
    let mut works = false;
    for family in ["ipv6", "ipv4"] {
        let servers: Vec<SocketAddr> =
            found.iter().filter(|addr| addr.is_ipv6() == (family == "ipv6")).copied().collect();
        if servers.is_empty() {
            continue;
        }
        let finding = Finding::new(family, &own, &servers)?;
        works |= finding.kind != Kind::Blocked;
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&finding.told()).map_err(io::Error::from)?)?;
        } else {
            finding.print(&mut out)?;
        }
    }
    Ok(if works { ExitCode::Done } else { ExitCode::Failed })
}

/// What was found for one address family.
#[derive(Debug)]
struct Finding {
    family: &'static str,
    kind: Kind,
    port: u16,
    answers: Vec<Answer>,
}

#[derive(Debug, Serialize)]
struct Told<'f> {
    event: &'static str,
    family: &'static str,
    /// A word of [`Kind::word`].
    kind: &'static str,
    /// The port here that was asked from.
    port: u16,
    asked: Vec<Asked>,
    direct_with: &'f str,
    advice: &'f str,
}

#[derive(Debug, Serialize)]
struct Asked {
    server: String,
    seen_as: Option<String>,
    ms: Option<u64>,
}

impl Finding {
    fn new(family: &'static str, own: &[IpAddr], servers: &[SocketAddr]) -> io::Result<Self> {
        // A family that the system does not have is one in which nobody answers.
        let unheard = || servers.iter().map(|server| Answer { server: *server, seen: None }).collect();
        let (port, answers) = survey::ask(servers).unwrap_or_else(|_| (0, unheard()));
        Ok(Self { family, kind: survey::judge(own, port, &answers), port, answers })
    }

    fn told(&self) -> Told<'static> {
        let asked = self.answers.iter().map(|answer| Asked {
            server: answer.server.to_string(),
            seen_as: answer.seen.map(|(seen, _)| seen.to_string()),
            ms: answer.seen.map(|(_, after)| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        });
        let Meaning { direct_with, advice, .. } = meaning(self.kind);
        let (family, kind, port) = (self.family, self.kind.word(), self.port);
        Told { event: "network", family, kind, port, asked: asked.collect(), direct_with, advice }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let family = if self.family == "ipv6" { "IPv6" } else { "IPv4" };
        let Meaning { what, direct_with, advice } = meaning(self.kind);
        writeln!(out, "{family}: {what}")?;
        for answer in &self.answers {
            match answer.seen {
                Some((seen, after)) => {
                    let ms = after.as_millis();
                    writeln!(out, "  {} sees port {} of this machine as {seen} ({ms} ms)", answer.server, self.port)?;
                }
                None => writeln!(out, "  {} does not answer over UDP", answer.server)?,
            }
        }
        writeln!(out, "  Files go directly: {direct_with}.\n  {advice}")
    }
}

/// What a finding means for people.
#[derive(Debug, Clone, Copy)]
struct Meaning {
    what: &'static str,
    direct_with: &'static str,
    advice: &'static str,
}

fn meaning(kind: Kind) -> Meaning {
    match kind {
        Kind::Blocked => Meaning {
            what: "no answer over UDP: a firewall holds it back, or the servers answer no STUN",
            direct_with: "with nobody outside your own network",
            advice: "If other servers do not answer either, allow outgoing UDP in the firewall.",
        },
        Kind::Open => Meaning {
            what: "no router changes your address",
            direct_with: "with everybody, unless a firewall before you drops what comes",
            advice: "Nothing is to be done.",
        },
        Kind::SamePort => Meaning {
            what: "a router gives you one port for all whom you speak to (a cone, as most routers at home)",
            direct_with: "with everybody but, as a rule, people behind routers with a port for each (symmetric)",
            advice: "To be reached by those too, forward a port to this machine and name it with --udp and --candidate.",
        },
        Kind::PortForEach => Meaning {
            what: "a router gives you another port for each whom you speak to (symmetric)",
            direct_with: "only with people without a router, or behind one that lets everybody in (full cone)",
            advice: "Forward a port to this machine and name it with --udp and --candidate, or use IPv6.",
        },
        Kind::Translated => Meaning {
            what: "a router changes your address; one answer does not tell how",
            direct_with: "with many people at least",
            advice: "Name a second server, with another address, by --server or --stun to learn more.",
        },
    }
}

/// The addresses of all of them, each once.
fn look_up(endpoints: &[Endpoint]) -> Result<Vec<SocketAddr>, Report> {
    let mut found: Vec<SocketAddr> = Vec::new();
    let mut failed = None;
    for endpoint in endpoints {
        match (endpoint.host_text(), endpoint.port).to_socket_addrs() {
            Ok(addrs) => found.extend(addrs.map(canonical).take(ADDRESSES_MAX)),
            Err(error) => failed = Some(format!("{} is not found: {error}", shown(&endpoint.to_string()))),
        }
    }
    let mut each: Vec<SocketAddr> = Vec::new();
    for addr in found {
        if !each.contains(&addr) {
            each.push(addr);
        }
    }
    match failed {
        Some(cause) if each.is_empty() => Err(Report::new(ExitCode::Unreachable, cause)),
        _ => Ok(each),
    }
}

fn server(text: &str) -> Result<Endpoint, String> {
    text.trim().parse().map_err(|error| format!("{error}"))
}

fn stun_server(text: &str) -> Result<Endpoint, String> {
    Endpoint::parse_with(text.trim(), STUN_PORT).map_err(|error| error.to_string())
}

/// RFC 8489 §18.6.
const STUN_PORT: u16 = 3478;
/// Addresses that are asked of one name.
const ADDRESSES_MAX: usize = 4;
