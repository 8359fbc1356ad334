//! `secchat doctor`: what stands in the way, and what can be done about it.

use super::exit::ExitCode;
use super::report::Report;
use crate::net::mapping::{self, Protocol, Refusal};
use crate::net::survey::{self, Answer, Kind};
use crate::net::udp::canonical;
use crate::wire::endpoint::Endpoint;
use crate::wire::invite::Invite;
use crate::wire::text::shown;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};

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
    /// router gives you one port for all, which is what a direct way between two people needs. Then it asks the router to open a port (by PCP,
    /// NAT-PMP or UPnP), gives it back, and looks how a server can be reached where no direct way works.
    Network(NetworkArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  secchat doctor network --server chat.example.org
  secchat doctor network --server a.example.org,b.example.org     two servers tell more than one
  secchat doctor network --server chat.example.org --stun stun.example.net:3478 --json
A server that has its UDP at another port (its --udp) is asked there by --stun.
Exit codes: 0 somebody answers over UDP, 1 nobody does, 3 no server is found.")]
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
    /// Do not ask the router to open a port
    #[arg(long, env = "SECCHAT_NO_PORT_MAPPING")]
    no_port_mapping: bool,
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
    let (relays, _) = look_up(&endpoints);
    endpoints.extend(args.stun);
    if endpoints.is_empty() {
        return Err(Report::new(ExitCode::Usage, "there is nobody to ask").hint("name your server with --server"));
    }
    let (found, missing) = look_up(&endpoints);
    if let (true, Some(cause)) = (found.is_empty(), missing.first()) {
        return Err(Report::new(ExitCode::Unreachable, cause));
    }
    missing.iter().for_each(|cause| eprintln!("note: {cause}"));
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
        let mut finding = Finding::new(family, &own, &servers)?;
        if !args.no_port_mapping {
            finding.ask_router();
        }
        finding.try_relays(&relays);
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
    // None where there is nothing to ask for.
    mapping: Option<Result<(Protocol, SocketAddr), Refusal>>,
    relays: Vec<(SocketAddr, Leads)>,
}

/// How a server of the user's can pass files on, if its operator lets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    Udp,
    Tls,
    Nowhere,
}

impl Leads {
    const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tls => "tls",
            Self::Nowhere => "none",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Udp => "over UDP",
            Self::Tls => {
                "over TLS only, which is slower: UDP does not get through to it, or has another port there (name that with --stun)"
            }
            Self::Nowhere => "not at all: it cannot be reached",
        }
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    port_mapping: Option<MappingTold>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    relays: Vec<RelayTold>,
}

#[derive(Debug, Serialize)]
struct MappingTold {
    /// Whether the router opens ports.
    offered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct RelayTold {
    server: String,
    /// A word of [`Leads::word`].
    over: &'static str,
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
        let kind = survey::judge(own, port, &answers);
        Ok(Self { family, kind, port, answers, mapping: None, relays: Vec::new() })
    }

    /// Whether the router opens ports: routers do so for IPv4, and one that changes no address need not.
    fn ask_router(&mut self) {
        let here = self.answers.iter().all(|answer| answer.server.ip().is_loopback());
        if self.family == "ipv4" && self.kind != Kind::Open && !here {
            self.mapping = Some(mapping::probe(self.port));
        }
    }

    /// How those of these servers that were asked can be reached when no direct way works.
    fn try_relays(&mut self, servers: &[SocketAddr]) {
        let relays = self.answers.iter().filter(|answer| servers.contains(&answer.server)).map(|answer| {
            let tls = || TcpStream::connect_timeout(&answer.server, survey::WAIT).is_ok();
            // It may have its UDP at another port, where it was asked too.
            let same = |other: &&Answer| other.seen.is_some() && other.server.ip() == answer.server.ip();
            let over = match self.answers.iter().find(same) {
                Some(_) => Leads::Udp,
                None if tls() => Leads::Tls,
                None => Leads::Nowhere,
            };
            (answer.server, over)
        });
        self.relays = relays.collect();
    }

    fn meaning(&self) -> Meaning {
        let none = self.kind == Kind::Blocked && !self.relays.is_empty();
        if none && self.relays.iter().all(|(_, over)| *over == Leads::Nowhere) { UNREACHED } else { meaning(self.kind) }
    }

    fn told(&self) -> Told<'static> {
        let asked = self.answers.iter().map(|answer| Asked {
            server: answer.server.to_string(),
            seen_as: answer.seen.map(|(seen, _)| seen.to_string()),
            ms: answer.seen.map(|(_, after)| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        });
        let mut told = self.meaning();
        if matches!(self.mapping, Some(Ok(_))) {
            (told.direct_with, told.advice) = (BY_MAPPING, NOTHING);
        }
        let Meaning { direct_with, advice, .. } = told;
        let (family, kind, port) = (self.family, self.kind.word(), self.port);
        let port_mapping = self.mapping.as_ref().map(|asked| MappingTold {
            offered: asked.is_ok(),
            protocol: asked.as_ref().ok().map(|(protocol, _)| protocol.word()),
            external: asked.as_ref().ok().map(|(_, external)| external.to_string()),
            reason: asked.as_ref().err().map(|refusal| shown(&refusal.to_string())),
        });
        let relay = |(server, over): &(SocketAddr, Leads)| RelayTold { server: server.to_string(), over: over.word() };
        let (asked, relays) = (asked.collect(), self.relays.iter().map(relay).collect());
        Told { event: "network", family, kind, port, asked, direct_with, advice, port_mapping, relays }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let family = if self.family == "ipv6" { "IPv6" } else { "IPv4" };
        let Meaning { what, direct_with, advice } = self.meaning();
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
        match &self.mapping {
            Some(Ok((protocol, external))) => {
                writeln!(
                    out,
                    "  The router opens ports by {protocol}: for a file one of yours is reached at {external}."
                )?;
                writeln!(out, "  Files go directly: {BY_MAPPING}.\n  {NOTHING}")?;
            }
            other => {
                writeln!(out, "  Files go directly: {direct_with}.\n  {advice}")?;
                if let Some(Err(refusal)) = other {
                    writeln!(out, "  No port is opened: {}.", shown(&refusal.to_string()))?;
                }
            }
        }
        if self.relays.is_empty() {
            return Ok(());
        }
        writeln!(out, "  Where no direct way works, files go over your server, if its operator allows it:")?;
        for (server, over) in &self.relays {
            writeln!(out, "    {server}: {}", over.meaning())?;
        }
        Ok(())
    }
}

/// What a finding means for people.
#[derive(Debug, Clone, Copy)]
struct Meaning {
    what: &'static str,
    direct_with: &'static str,
    advice: &'static str,
}

/// Where not even TCP gets through, the silence says nothing about UDP.
const UNREACHED: Meaning = Meaning {
    what: "no server can be reached, neither over UDP nor over TCP",
    direct_with: "with whom is not known before one answers",
    advice: "Look at the address, whether the server runs, and whether a firewall stands before it or you.",
};

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
            advice: NOTHING,
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

/// The addresses of all of them, each once, and what is to be said of those that have none.
fn look_up(endpoints: &[Endpoint]) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut found, mut missing): (Vec<SocketAddr>, _) = (Vec::new(), Vec::new());
    for endpoint in endpoints {
        match (endpoint.host_text(), endpoint.port).to_socket_addrs() {
            Ok(addrs) => {
                for addr in addrs.map(canonical).take(ADDRESSES_MAX) {
                    if !found.contains(&addr) {
                        found.push(addr);
                    }
                }
            }
            Err(error) => missing.push(format!("{} is not found: {error}", shown(&endpoint.to_string()))),
        }
    }
    (found, missing)
}

fn server(text: &str) -> Result<Endpoint, String> {
    text.trim().parse().map_err(|error| format!("{error}"))
}

fn stun_server(text: &str) -> Result<Endpoint, String> {
    Endpoint::parse_with(text.trim(), STUN_PORT).map_err(|error| error.to_string())
}

const BY_MAPPING: &str = "with everybody, as long as the router opens ports";
const NOTHING: &str = "Nothing is to be done.";
/// RFC 8489 §18.6.
const STUN_PORT: u16 = 3478;
/// Addresses that are asked of one name.
const ADDRESSES_MAX: usize = 4;
