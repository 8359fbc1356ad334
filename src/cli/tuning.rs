//! How files travel: the options that `client` and `fetch` share.

use crate::channel::MAX_WINDOW;
use crate::channel::impair::Spec;
use crate::client::commands::rate;
use crate::client::core::FileRules;
use crate::client::effects::{Congestion, Reach};
use crate::client::files::FilesConfig;
use crate::crypto::agreement::Mode;
use crate::net::udp::{Offload, is_candidate};
use crate::wire::packet::MAX_DATAGRAM;
use crate::wire::payload::Arq;
use clap::ArgMatches;
use clap::parser::ValueSource;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How files travel.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Tuning {
    /// UDP port for files that leave; those that come use the next one. Any ports on all addresses where none is given
    #[arg(long, value_name = "ADDR:PORT", env = "SECCHAT_UDP", value_parser = udp, help_heading = "Files")]
    pub udp: Option<SocketAddr>,
    /// An address from which your router forwards to the port of --udp, and its next port to the next one; may be repeated. Whom files are
    /// exchanged with hears of it
    #[arg(long, value_name = "ADDR:PORT", value_parser = candidate, requires = "udp", help_heading = "Files")]
    pub candidate: Vec<SocketAddr>,
    /// A fixed number of segments under way at once; without it the window follows the line
    #[arg(short = 'w', long, value_name = "N", env = "SECCHAT_WINDOW", value_parser = window, help_heading = "Files")]
    pub window: Option<u32>,
    /// Most that leaves in all, like 20mbit or 2MB (a second)
    #[arg(long, value_name = "RATE", env = "SECCHAT_UP", value_parser = rate, help_heading = "Files")]
    pub up: Option<u64>,
    /// Most that comes in all, like 20mbit or 2MB (a second)
    #[arg(long, value_name = "RATE", env = "SECCHAT_DOWN", value_parser = rate, help_heading = "Files")]
    pub down: Option<u64>,
    /// How lost datagrams are made good, by the asker's choice; auto is go-back-n until loss is seen [default: auto]
    #[arg(long, value_name = "auto|go-back-n|selective-repeat", value_parser = arq, help_heading = "Files")]
    pub arq: Option<Arq>,
    /// Who sets the pace: bbr goes by rates and takes no random loss for congestion, cubic gives way at each loss as TCP does,
    /// none does not hold back [default: bbr]
    #[arg(long, value_name = "bbr|cubic|none", value_parser = congestion, help_heading = "Files")]
    pub congestion: Option<Congestion>,
    /// Only this agreement on keys; rsa-split is a wish: where the other side does not ask for it too the default runs, and you are told
    /// [default: x25519+mlkem768, or x25519 with who knows no other]
    #[arg(long, value_name = "x25519+mlkem768|x25519|rsa-split", value_parser = mode, help_heading = "Files")]
    pub key_agreement: Option<Mode>,
    /// Do not stand in line where all upload slots are taken: hear `busy`
    #[arg(long, help_heading = "Files")]
    pub no_wait: bool,
    /// Files only over servers, never straight: slower, and nobody who sends us files or gets them learns our address
    #[arg(long, conflicts_with = "direct_only", help_heading = "Files")]
    pub relay_only: bool,
    /// Files only straight, never over servers
    #[arg(long, help_heading = "Files")]
    pub direct_only: bool,
    /// Do not ask the router to open ports for files by PCP, NAT-PMP or UPnP
    #[arg(long, env = "SECCHAT_NO_PORT_MAPPING", help_heading = "Files")]
    pub no_port_mapping: bool,
    /// A test tool: harm our own datagrams, each way: loss=1%, burst=2%/8, dup=1%, reorder=25%/5ms, corrupt=1%, delay=25ms/5ms,
    /// rate=200mbit, queue=50ms, seed=1; several with commas
    #[arg(long, value_name = "LIST", value_parser = inject, help_heading = "Test tools")]
    pub inject: Option<Spec>,
}

impl Tuning {
    /// The file side's part; the places are the command's own.
    pub fn files(&self, share: Option<PathBuf>, downloads: PathBuf, data: PathBuf, loopback: bool) -> FilesConfig {
        FilesConfig {
            share,
            downloads,
            data,
            udp: self.udp,
            candidates: self.candidate.clone(),
            window: self.window,
            congestion: self.congestion.unwrap_or_default(),
            up: self.up,
            down: self.down,
            inject: self.inject,
            max_datagram: MAX_DATAGRAM,
            offload: Offload::default(),
            loopback,
            reach: self.reach(),
            // Who hides the address has nothing to be found by.
            map_ports: !self.no_port_mapping && !self.relay_only,
        }
    }

    /// The core's part.
    pub fn rules(&self, uploads: u32, accept_from: Vec<String>) -> FileRules {
        let default = FileRules::default();
        let modes = match self.key_agreement {
            None => default.modes,
            // With a peer that does not ask for it too, what runs is no weaker.
            Some(Mode::RsaSplit) => std::iter::once(Mode::RsaSplit).chain(default.modes).collect(),
            Some(mode) => vec![mode],
        };
        FileRules {
            uploads,
            modes,
            arq: self.arq.unwrap_or_default(),
            wait: !self.no_wait,
            accept_from,
            up: self.up,
            down: self.down,
            reach: self.reach(),
        }
    }

    const fn reach(&self) -> Reach {
        match (self.relay_only, self.direct_only) {
            (true, _) => Reach::Relayed,
            (false, true) => Reach::Direct,
            (false, false) => Reach::Any,
        }
    }
}

/// Those of these options that were typed on the command line and that only the client that transfers can have: not what the
/// environment or the settings file says, which is meant for every command.
pub fn typed(matches: &ArgMatches) -> Vec<String> {
    const OWN: [&str; 12] = [
        "relay_only",
        "direct_only",
        "no_port_mapping",
        "udp",
        "candidate",
        "window",
        "up",
        "down",
        "arq",
        "congestion",
        "key_agreement",
        "inject",
    ];
    let typed = OWN.into_iter().filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine));
    typed.map(|id| format!("--{}", id.replace('_', "-"))).collect()
}

fn udp(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address with a port, for example 0.0.0.0:7500 or [::]:7500".to_owned())
}

fn candidate(text: &str) -> Result<SocketAddr, String> {
    let wanted = || "an address outside with a port, for example 203.0.113.7:7500".to_owned();
    let addr: SocketAddr = text.parse().ok().filter(|addr| is_candidate(*addr, true)).ok_or_else(wanted)?;
    // The next port is forwarded too.
    if addr.port() < u16::MAX {
        Ok(addr)
    } else {
        Err("no port comes after this one: 65534 is the last that fits".into())
    }
}

fn window(text: &str) -> Result<u32, String> {
    let window = text.parse().ok().filter(|window| (1..=MAX_WINDOW).contains(window));
    window.ok_or_else(|| format!("a window has 1 to {MAX_WINDOW} segments"))
}

fn arq(text: &str) -> Result<Arq, String> {
    let all = [Arq::Auto, Arq::GoBackN, Arq::SelectiveRepeat];
    all.into_iter().find(|arq| arq.as_str() == text).ok_or_else(|| "auto, go-back-n or selective-repeat".to_owned())
}

fn congestion(text: &str) -> Result<Congestion, String> {
    match text {
        "bbr" => Ok(Congestion::Bbr),
        "cubic" => Ok(Congestion::Cubic),
        "none" => Ok(Congestion::None),
        _ => Err("bbr, cubic or none".to_owned()),
    }
}

/// What `--inject` says.
pub fn inject(text: &str) -> Result<Spec, String> {
    text.parse::<Spec>().map_err(|e| format!("{e} (for example loss=1%,delay=25ms)"))
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_name(text).ok_or_else(|| "x25519+mlkem768, x25519 or rsa-split".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_mode_is_the_only_one_but_the_split_one_which_has_the_default_behind_it() {
        let modes = |mode| Tuning { key_agreement: mode, ..Tuning::default() }.rules(2, Vec::new()).modes;
        assert_eq!(modes(None), [Mode::X25519MlKem768, Mode::X25519]);
        assert_eq!(modes(Some(Mode::X25519)), [Mode::X25519]);
        assert_eq!(modes(Some(Mode::X25519MlKem768)), [Mode::X25519MlKem768]);
        assert_eq!(modes(Some(Mode::RsaSplit)), [Mode::RsaSplit, Mode::X25519MlKem768, Mode::X25519]);
    }
}
