//! How files travel: the options that `client` and `fetch` share.

use crate::channel::MAX_WINDOW;
use crate::client::core::FileRules;
use crate::client::effects::Congestion;
use crate::client::files::FilesConfig;
use crate::crypto::agreement::Mode;
use crate::net::udp::Offload;
use crate::wire::packet::MAX_DATAGRAM;
use crate::wire::payload::Arq;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How files travel.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Files")]
pub struct Tuning {
    /// UDP port for files that leave; those that come use the next one. Any ports on all addresses where none is given
    #[arg(long, value_name = "ADDR:PORT", env = "SECCHAT_UDP")]
    pub udp: Option<SocketAddr>,
    /// A fixed number of segments under way at once; without it the window follows the line
    #[arg(short = 'w', long, value_name = "N", env = "SECCHAT_WINDOW", value_parser = window)]
    pub window: Option<u32>,
    /// Most that leaves in all, like 20mbit or 2MB (a second)
    #[arg(long, value_name = "RATE", env = "SECCHAT_UP", value_parser = rate)]
    pub up: Option<u64>,
    /// Most that comes in all, like 20mbit or 2MB (a second)
    #[arg(long, value_name = "RATE", env = "SECCHAT_DOWN", value_parser = rate)]
    pub down: Option<u64>,
    /// How lost datagrams are made good; auto is go-back-n until loss is seen
    #[arg(long, value_name = "auto|go-back-n|selective-repeat", value_parser = arq)]
    pub arq: Option<Arq>,
    /// Who sets the pace
    #[arg(long, value_name = "bbr|cubic|none", value_parser = congestion)]
    pub congestion: Option<Congestion>,
    /// Only this agreement on keys [default: x25519+mlkem768, or x25519 with who knows no other]; rsa-split runs where both sides ask for it
    #[arg(long, value_name = "x25519+mlkem768|x25519|rsa-split", value_parser = mode)]
    pub key_agreement: Option<Mode>,
    /// Do not stand in line where all upload slots are taken: hear `busy`
    #[arg(long)]
    pub no_wait: bool,
    /// A test tool: harm our own datagrams, like loss=1%,dup=…,reorder=…,corrupt=…,delay=…,rate=…,seed=N
    #[arg(long, value_name = "SPEC", help_heading = "Test tools")]
    pub inject: Option<String>,
}

impl Tuning {
    /// The file side's part; the places are the command's own.
    pub fn files(&self, share: Option<PathBuf>, downloads: PathBuf, data: PathBuf, loopback: bool) -> FilesConfig {
        FilesConfig {
            share,
            downloads,
            data,
            udp: self.udp,
            window: self.window,
            congestion: self.congestion.unwrap_or_default(),
            up: self.up,
            down: self.down,
            inject: self.inject.clone(),
            max_datagram: MAX_DATAGRAM,
            offload: Offload::default(),
            loopback,
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
        FileRules { uploads, modes, arq: self.arq.unwrap_or_default(), wait: !self.no_wait, accept_from }
    }
}

fn window(text: &str) -> Result<u32, String> {
    let window = text.parse().ok().filter(|window| (1..=MAX_WINDOW).contains(window));
    window.ok_or_else(|| format!("a window has 1 to {MAX_WINDOW} segments"))
}

/// Bytes a second of `20mbit`, `2MB`, `500KiB/s`, `4096`.
fn rate(text: &str) -> Result<u64, String> {
    let bad = || "a rate is a number with a unit, like 20mbit (bits) or 2MB (bytes)".to_owned();
    let text = text.trim().strip_suffix("/s").unwrap_or(text.trim());
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split).ok_or_else(bad)?;
    let (numerator, denominator) = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => (1, 1),
        "k" | "kb" => (1_000, 1),
        "m" | "mb" => (1_000_000, 1),
        "g" | "gb" => (1_000_000_000, 1),
        "kib" => (1 << 10, 1),
        "mib" => (1 << 20, 1),
        "gib" => (1 << 30, 1),
        "bit" => (1, 8),
        "kbit" => (1_000, 8),
        "mbit" => (1_000_000, 8),
        "gbit" => (1_000_000_000, 8),
        _ => return Err(bad()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(part.len()).ok().filter(|digits| *digits <= 9).ok_or_else(bad)?;
    let number: u64 = format!("{whole}{part}").parse().map_err(|_| bad())?;
    let bytes = u128::from(number) * numerator / denominator / 10_u128.pow(digits);
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(bad)
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

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_name(text).ok_or_else(|| "x25519+mlkem768, x25519 or rsa-split".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_bits_and_bytes() {
        for (text, bytes) in [
            ("20mbit", 2_500_000),
            ("2MB", 2_000_000),
            ("2MB/s", 2_000_000),
            ("1.5 MiB", 1_572_864),
            ("4096", 4096),
            ("1gbit", 125_000_000),
        ] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for bad in ["", "fast", "0", "-1", "1e9", "1.2.3MB", "2 parsecs", "99999999999999999999", "1.0000000001MB"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_named_mode_is_the_only_one_but_the_split_one_which_has_the_default_behind_it() {
        let modes = |mode| Tuning { key_agreement: mode, ..Tuning::default() }.rules(2, Vec::new()).modes;
        assert_eq!(modes(None), [Mode::X25519MlKem768, Mode::X25519]);
        assert_eq!(modes(Some(Mode::X25519)), [Mode::X25519]);
        assert_eq!(modes(Some(Mode::X25519MlKem768)), [Mode::X25519MlKem768]);
        assert_eq!(modes(Some(Mode::RsaSplit)), [Mode::RsaSplit, Mode::X25519MlKem768, Mode::X25519]);
    }
}
