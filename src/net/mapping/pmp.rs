//! Ports by PCP, and by NAT-PMP where the router answers that it knows no other.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{
    GatewayAddress, InternetProtocol, MappingFailure, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig,
    natpmp, pcp,
};

use super::{Gateway, Kind, Lease, Protocol, Refusal, outside};

/// Asks for a way to our UDP `port`; waits for [`WAIT`] at most.
pub(super) async fn open(gateway: &Gateway, port: u16, lasts: Duration) -> Result<Lease, Refusal> {
    let port = NonZeroU16::new(port).ok_or(Refusal::NoGateway)?;
    let options = PortMappingOptions {
        external_port: Some(port),
        lifetime_seconds: Some(u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX)),
        timeout_config: Some(PATIENT),
    };
    let (at, own) = (GatewayAddress::IpV4(gateway.ip), IpAddr::V4(gateway.own));
    let asked = PortMapping::new(at, own, InternetProtocol::Udp, port, options);
    let mapping = tokio::time::timeout(WAIT, asked).await.map_err(|_| Refusal::Silent)?.map_err(refusal)?;
    told(mapping).await
}

/// Has it for as long as it was granted before.
pub(super) async fn renew(mut mapping: PortMapping) -> Result<Lease, Refusal> {
    tokio::time::timeout(WAIT, mapping.renew()).await.map_err(|_| Refusal::Silent)?.map_err(refusal)?;
    told(mapping).await
}

/// Gives all of them back at once; waits for [`RELEASE`] at most.
pub(super) async fn release(mappings: Vec<PortMapping>) {
    let each = mappings.into_iter().map(|mut mapping| {
        mapping.timeout_config = HASTY;
        tokio::spawn(mapping.try_drop())
    });
    let all: Vec<_> = each.collect();
    let _ = tokio::time::timeout(RELEASE, async {
        for one in all {
            let _ = one.await;
        }
    })
    .await;
}

/// What was granted, if it is of use; else it is given back.
async fn told(mapping: PortMapping) -> Result<Lease, Refusal> {
    let (protocol, ip) = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => (Protocol::Pcp, Ok(external_ip)),
        PortMappingType::NatPmp => {
            let ip = natpmp::external_address(mapping.gateway(), Some(PATIENT)).await;
            (Protocol::NatPmp, ip.map(IpAddr::V4).map_err(|failure| refusal(failure.into())))
        }
    };
    let external = ip.and_then(|ip| outside(ip, mapping.external_port().get()));
    let lasts = Duration::from_secs(mapping.lifetime().into());
    let external = match external {
        Ok(external) if !lasts.is_zero() => external,
        useless => {
            release(vec![mapping]).await;
            return Err(useless.err().unwrap_or_else(|| Refusal::Refused(protocol, "for no time at all".into())));
        }
    };
    Ok(Lease { protocol, external, lasts, kind: Kind::Pmp(mapping) })
}

/// Silence is what routers say that know none of it, and so are answers that nobody understands.
fn refusal(failure: MappingFailure) -> Refusal {
    match failure {
        MappingFailure::Pcp(
            pcp::Failure::Timeout
            | pcp::Failure::Socket(_)
            | pcp::Failure::UnsupportedVersion(_)
            | pcp::Failure::InvalidResponse(_)
            | pcp::Failure::Nonce,
        )
        | MappingFailure::NatPmp(
            natpmp::Failure::Timeout
            | natpmp::Failure::Socket(_)
            | natpmp::Failure::UnsupportedVersion(_)
            | natpmp::Failure::InvalidResponse(_),
        ) => Refusal::Silent,
        MappingFailure::Pcp(failure) => Refusal::Refused(Protocol::Pcp, failure.to_string()),
        MappingFailure::NatPmp(failure) => Refusal::Refused(Protocol::NatPmp, failure.to_string()),
    }
}

/// A router is a hop away.
const PATIENT: TimeoutConfig =
    TimeoutConfig { initial_timeout: Duration::from_millis(250), max_retries: 1, max_retry_timeout: None };
const HASTY: TimeoutConfig =
    TimeoutConfig { initial_timeout: Duration::from_millis(80), max_retries: 1, max_retry_timeout: None };
/// For one question.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// For giving back all ports.
const RELEASE: Duration = Duration::from_millis(250);
