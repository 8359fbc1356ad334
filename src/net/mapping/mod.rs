//! Ports that the router before us opens for a while because we ask for it: by PCP, NAT-PMP or UPnP.
//!
//! ```text
//! mod       a lease on one port: had, renewed, given back
//! gateway   who is asked: the default gateway and nobody else
//! pmp       by PCP (RFC 6887), or NAT-PMP (RFC 6886) where the router knows no better
//! upnp      by UPnP's Internet Gateway Device
//! mapper    the thread that keeps leases on our ports while they are wanted
//! ```
//!
//! Whatever a router says is a stranger's word: nothing but the gateway is spoken to, whichever address it names, and the address that it
//! calls ours is used only if it is one host's outside.

mod gateway;
mod mapper;
mod pmp;
mod upnp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Runtime;

pub use gateway::Gateway;
pub use mapper::{Mapped, Mapper};

use super::candidates::{is_candidate, is_private};

/// How a router was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP Internet Gateway Device.
    Upnp,
}

impl Protocol {
    /// The stable word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::NatPmp => "nat_pmp",
            Self::Upnp => "upnp",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// Why there is no mapping.
#[derive(Debug, Error)]
pub enum Refusal {
    /// No default gateway is known, or none that stands before a private network of ours.
    #[error("there is no router that could be asked")]
    NoGateway,
    /// The router knows none of the protocols, or they are switched off.
    #[error("the router answers neither PCP nor NAT-PMP nor UPnP")]
    Silent,
    /// The router said no.
    #[error("the router refuses it by {0}: {1}")]
    Refused(Protocol, String),
    /// The router opens ports for ever only: one would stay after a crash of ours.
    #[error("the router opens ports only for ever (UPnP), which is not asked for")]
    Permanent,
    /// The library would ask the router over a proxy that the environment names.
    #[error("UPnP is not asked for where a proxy is set ({0}): the proxy would be asked instead of the router")]
    Proxy(&'static str),
    /// What the router calls its own address is none that others can reach: there is another router before it.
    #[error("the router itself stands behind another one: its address is {0}")]
    NotOutside(IpAddr),
    /// The system.
    #[error("the router cannot be asked: {0}")]
    System(#[from] io::Error),
}

/// A port that the router has opened for a while. It ends by itself if nobody renews it.
#[derive(Debug)]
pub struct Lease {
    /// By whom it was granted.
    pub protocol: Protocol,
    /// What leads to our port from outside.
    pub external: SocketAddr,
    /// How long from the last time that it was granted.
    pub lasts: Duration,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Pmp(crab_nat::PortMapping),
    Upnp(upnp::Opened),
}

impl Lease {
    /// Asks `gateway` for a way to our UDP `port`, for `lasts`: by PCP or NAT-PMP, and if it knows neither by UPnP. Takes at most
    /// [`pmp::WAIT`] for the former and some seconds for the latter. `runtime` must drive network and time.
    pub fn open(runtime: &Runtime, gateway: &Gateway, port: u16, lasts: Duration) -> Result<Self, Refusal> {
        match runtime.block_on(pmp::open(gateway, port, lasts)) {
            Err(Refusal::Silent) => upnp::open(gateway, port, lasts),
            known => known,
        }
    }

    /// Has it for as long again; [`Self::external`] may be another one afterwards.
    pub fn renew(&mut self, runtime: &Runtime, lasts: Duration) -> Result<(), Refusal> {
        match &mut self.kind {
            Kind::Pmp(mapping) => *self = runtime.block_on(pmp::renew(mapping.clone()))?,
            Kind::Upnp(opened) => *self = opened.clone().renew(lasts)?,
        }
        Ok(())
    }

    /// Gives all of them back; routers that do not answer have been asked at least.
    pub fn release(leases: Vec<Self>, runtime: &Runtime) {
        let (mut pmp, mut upnp) = (Vec::new(), Vec::new());
        for lease in leases {
            match lease.kind {
                Kind::Pmp(mapping) => pmp.push(mapping),
                Kind::Upnp(opened) => upnp.push(opened),
            }
        }
        runtime.block_on(pmp::release(pmp));
        upnp.iter().for_each(upnp::Opened::release);
    }
}

/// What the router before us would do: a lease on `port` is had and given back. Takes some seconds at most where it does not answer.
pub fn probe(port: u16) -> Result<(Protocol, SocketAddr), Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lease = Lease::open(&runtime, &Gateway::find()?, port, PROBE)?;
    let found = (lease.protocol, lease.external);
    Lease::release(vec![lease], &runtime);
    Ok(found)
}

/// The address under which a router says that we are reached, if others can reach that.
fn outside(ip: IpAddr, port: u16) -> Result<SocketAddr, Refusal> {
    let addr = SocketAddr::new(ip.to_canonical(), port);
    let sound = is_candidate(addr, false) && !is_private(addr.ip());
    if sound { Ok(addr) } else { Err(Refusal::NotOutside(addr.ip())) }
}

/// Our socket's address as a router in our network is told it.
fn inside(gateway: &Gateway, port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(gateway.own, port))
}

/// Whether a port that is bound to `local` hears what is sent to `own`.
fn hears(local: SocketAddr, own: Ipv4Addr) -> bool {
    local.ip().is_unspecified() || local.ip().to_canonical() == IpAddr::V4(own)
}

/// Long enough to look, and over soon if giving it back fails.
const PROBE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
