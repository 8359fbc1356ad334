//! Ports by UPnP. The library speaks HTTP and XML; whom it speaks to is decided here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use igd_next::{AddPortError, PortMappingProtocol, SearchOptions};
use socket2::SockRef;

use super::{Gateway, Kind, Lease, Protocol, Refusal, inside, outside};

/// A port at a router.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    router: igd_next::Gateway,
    port: u16,
    inside: SocketAddr,
}

/// Asks for a way to our UDP `port`.
pub(super) fn open(gateway: &Gateway, port: u16, lasts: Duration) -> Result<Lease, Refusal> {
    if let Some(name) = PROXIES.into_iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return Err(Refusal::Proxy(name));
    }
    let router = describe(gateway, &discover(gateway)?)?;
    // Nobody can come in by a port of an address that is not outside, so none is opened.
    let ip = external(&router)?;
    outside(ip, port)?;
    let inside = inside(gateway, port);
    let mut last = Refusal::Silent;
    for port in std::iter::once(port).chain(others()) {
        match (Opened { router: router.clone(), port, inside }).have(ip, lasts) {
            Ok(lease) => return Ok(lease),
            Err((refusal, AddPortError::PortInUse)) => last = refusal,
            Err((refusal, _)) => return Err(refusal),
        }
    }
    Err(last)
}

/// What makes the library's HTTP go elsewhere.
const PROXIES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

impl Opened {
    /// Has it for as long again.
    pub(super) fn renew(self, lasts: Duration) -> Result<Lease, Refusal> {
        let ip = external(&self.router)?;
        self.have(ip, lasts).map_err(|(refusal, _)| refusal)
    }

    /// Gives it back.
    pub(super) fn release(&self) {
        let _ = self.router.remove_port(PortMappingProtocol::UDP, self.port);
    }

    fn have(self, ip: IpAddr, lasts: Duration) -> Result<Lease, (Refusal, AddPortError)> {
        let seconds = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX).max(1);
        let asked = self.router.add_port(PortMappingProtocol::UDP, self.port, self.inside, seconds, DESCRIPTION);
        asked.map_err(|error| (refusal(&error), error))?;
        let external = outside(ip, self.port).map_err(|refusal| {
            self.release();
            (refusal, AddPortError::ActionNotAuthorized)
        })?;
        Ok(Lease { protocol: Protocol::Upnp, external, lasts, kind: Kind::Upnp(self) })
    }
}

fn refusal(error: &AddPortError) -> Refusal {
    match error {
        AddPortError::OnlyPermanentLeasesSupported => Refusal::Permanent,
        // What a router writes in its answers is not repeated.
        AddPortError::RequestError(_) => Refusal::Refused(Protocol::Upnp, "its answer makes no sense".into()),
        known => Refusal::Refused(Protocol::Upnp, known.to_string()),
    }
}

fn external(router: &igd_next::Gateway) -> Result<IpAddr, Refusal> {
    let asked = router.get_external_ip();
    asked.map_err(|_| Refusal::Refused(Protocol::Upnp, "it does not tell its address".into()))
}

/// The answer of the gateway itself to a search for routers; others may answer too, and are not heard.
fn discover(gateway: &Gateway) -> Result<Vec<u8>, Refusal> {
    let socket = UdpSocket::bind((gateway.own, 0))?;
    SockRef::from(&socket).set_multicast_if_v4(&gateway.own)?;
    let (all, one) = (SocketAddr::from((SSDP_GROUP, gateway.ssdp)), SocketAddr::from((gateway.ip, gateway.ssdp)));
    // Who is asked alone answers at once, where many would wait for a while each; but not every router hears it.
    let searches = [(one, search(one, "")), (all, search(all, "MX: 1\r\n"))];
    let began = Instant::now();
    let mut buffer = [0; ANSWER_MAX];
    for wait in [DISCOVER / 3, DISCOVER] {
        for (to, search) in &searches {
            // A network that refuses it is like one that loses it.
            let _ = socket.send_to(search.as_bytes(), to);
        }
        while let Some(left) = wait.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left))?;
            let Ok((len, from)) = socket.recv_from(&mut buffer) else { break };
            let answer = buffer.get(..len).unwrap_or_default();
            if from.ip() == IpAddr::V4(gateway.ip) && answer.starts_with(b"HTTP/1.1 200") {
                return Ok(answer.to_vec());
            }
        }
    }
    Err(Refusal::Silent)
}

fn search(host: SocketAddr, wait: &str) -> String {
    format!("M-SEARCH * HTTP/1.1\r\nHOST: {host}\r\nMAN: \"ssdp:discover\"\r\n{wait}ST: {ROUTER}\r\n\r\n")
}

/// What the gateway that answered so can do. The library is given its answer on a socket of our own and no other, and trusts the gateway's
/// address only: for the answer, for what the answer names, and for what that names.
fn describe(gateway: &Gateway, answer: &[u8]) -> Result<igd_next::Gateway, Refusal> {
    let relay = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    relay.set_read_timeout(Some(DESCRIBE))?;
    let mut options = SearchOptions::default();
    options.bind_addr = (Ipv4Addr::LOCALHOST, 0).into();
    options.broadcast_address = relay.local_addr()?;
    options.timeout = Some(DESCRIBE);
    options.single_search_timeout = Some(DESCRIBE);
    options.allowed_gateway_ips = vec![gateway.ip.into()];
    let router = std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Ok((_, library)) = relay.recv_from(&mut [0; ANSWER_MAX]) {
                let _ = relay.send_to(answer, library);
            }
        });
        igd_next::search_gateway(options)
    });
    // The error may have words of the router in it.
    router.map_err(|_| Refusal::Silent)
}

/// Ports to try where ours is taken.
fn others() -> impl Iterator<Item = u16> {
    (0..OTHER_PORTS).filter_map(|_| {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).ok()?;
        Some(u16::from_be_bytes(bytes) | DYNAMIC)
    })
}

const SSDP_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// Version 2 answers to it as well.
const ROUTER: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
/// What people see in the list of their router.
const DESCRIPTION: &str = "secchat";
/// An answer to a search is one small datagram.
const ANSWER_MAX: usize = 1500;
const DISCOVER: Duration = Duration::from_millis(1200);
/// For the two files in which a router says what it can do.
const DESCRIBE: Duration = Duration::from_secs(1);
const OTHER_PORTS: usize = 3;
/// Ports that nobody owns (RFC 6335 §6).
const DYNAMIC: u16 = 0xc000;
