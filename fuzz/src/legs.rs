//! What comes for a relay: a datagram at its port, and a parcel of another server.

use secchat::limits::{MESH_PARCEL_MAX, RELAY_LINK_DATAGRAMS};
use secchat::wire::leg::{LegDatagram, LegKey, LinkData, RELAYED_HEAD, bind, bound, is_genuine, prove, relayed_head};
use secchat::wire::relay::Passing;

/// The key of the leg in the corpus.
pub const KEY: [u8; 32] = [7; 32];

/// A datagram of a client, or of a server. A bind or its answer is well formed only with its tag.
pub fn leg(data: &[u8]) -> bool {
    let key = LegKey::new(KEY);
    match LegDatagram::decode(data) {
        None => false,
        Some(LegDatagram::Relayed(leg)) => {
            assert!(data.starts_with(&relayed_head(leg)) && data.len() > RELAYED_HEAD);
            true
        }
        Some(LegDatagram::Bind(leg, counter)) => {
            assert_eq!(is_genuine(data, &key), data == bind(leg, counter, &key));
            is_genuine(data, &key)
        }
        Some(LegDatagram::Bound(leg, counter)) => {
            assert_eq!(is_genuine(data, &key), data == bound(leg, counter, &key));
            is_genuine(data, &key)
        }
        Some(LegDatagram::Prove(leg, counter)) => {
            assert_eq!(is_genuine(data, &key), data == prove(leg, counter, &key));
            is_genuine(data, &key)
        }
    }
}

/// What is in a parcel between servers.
pub fn passing(data: &[u8]) -> bool {
    let Ok(passing) = Passing::from_bytes(data) else { return false };
    assert_eq!(Passing::from_bytes(&passing.to_bytes()).as_ref(), Ok(&passing));
    let (Passing::ToHome { data: batch, .. } | Passing::ToAccess { data: batch, .. }) = &passing;
    assert!(batch.datagrams().count() <= RELAY_LINK_DATAGRAMS && batch.datagrams().all(|one| !one.is_empty()));
    assert!(batch.cost() <= data.len() + RELAYED_HEAD * RELAY_LINK_DATAGRAMS && data.len() <= MESH_PARCEL_MAX);
    let again = LinkData::new(*batch.leg, batch.datagrams());
    assert!(again.datagrams().eq(batch.datagrams()));
    true
}
