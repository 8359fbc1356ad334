//! Whether a server that has proved a key is the server that the user means.

use crate::crypto::identity::{Fingerprint, PublicKey};
use crate::wire::home::HomeCard;
use crate::wire::name::Name;
use crate::wire::pin::ServerPin;
use std::sync::Arc;

/// Who a server proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// `HOST:PORT` that was asked for.
    pub address: String,
    /// Its name.
    pub server: Name,
    /// Its identity key.
    pub key: PublicKey,
    /// SHA-256 of the TLS key that it used.
    pub tls_key: [u8; 32],
    /// An authority of `--ca` vouches for its certificate.
    pub authority: bool,
}

impl Presented {
    /// What to remember once it is approved.
    pub fn pin(&self) -> ServerPin {
        let Self { address, server, key, tls_key, .. } = self.clone();
        ServerPin { address, server, key, tls_key }
    }
}

/// Asks the user whether an unknown server is the right one. May block.
pub type Ask = Arc<dyn Fn(&Presented) -> bool + Send + Sync>;

/// What speaks for or against a server.
#[derive(Clone, Default)]
pub struct Trust {
    /// The pin for this address.
    pub at_address: Option<ServerPin>,
    /// The keys pinned for server names.
    pub names: Vec<(Name, PublicKey)>,
    /// Once we have a name: only servers where it counts.
    pub within: Option<HomeCard>,
    /// The pin and name in an invite.
    pub invite: Option<(Fingerprint, Name)>,
    /// Trust on first use: asked about a server that nothing else speaks for. `None` refuses those.
    pub ask: Option<Ask>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at_address, names, within, invite, ask } = self;
        f.debug_struct("Trust")
            .field("at_address", at_address)
            .field("names", names)
            .field("within", within)
            .field("invite", invite)
            .field("asks", &ask.is_some())
            .finish()
    }
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Known, or vouched for.
    Trusted,
    /// Nothing speaks against it and nothing for it: the user may be asked.
    Unknown,
    /// Another key than this one is pinned: never accepted, whoever vouches for it.
    Changed(Fingerprint),
    /// Another server than the one that stood at this address, or that the invite names.
    Renamed,
    /// A server where the name that we have does not count.
    Elsewhere,
}

impl Trust {
    /// Judges by what is known; asks nobody.
    pub fn judge(&self, presented: &Presented) -> Verdict {
        let Presented { server, key, .. } = presented;
        let by_name = self.names.iter().find(|(name, _)| name == server).map(|(_, key)| key);
        let by_address = self.at_address.as_ref().map(|pin| &pin.key);
        if let Some(pinned) = by_name.into_iter().chain(by_address).find(|pinned| *pinned != key) {
            return Verdict::Changed(pinned.fingerprint());
        }
        if let Some((pin, _)) = self.invite.as_ref().filter(|(pin, _)| *pin != key.fingerprint()) {
            return Verdict::Changed(*pin);
        }
        let named = self.invite.as_ref().map(|(_, name)| name).into_iter();
        let known = self.at_address.as_ref().map(|pin| &pin.server).into_iter();
        if named.chain(known).any(|name| name != server) {
            return Verdict::Renamed;
        }
        if self.within.as_ref().is_some_and(|card| !card.leads_to(server, key)) {
            return Verdict::Elsewhere;
        }
        let vouched = by_name.is_some() || by_address.is_some() || self.invite.is_some() || presented.authority;
        if vouched { Verdict::Trusted } else { Verdict::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::Identity;

    fn presented(seed: u8, name: &str) -> Presented {
        let key = Identity::from_seed(&[seed; 32]).public();
        let server = Name::parse(name).unwrap();
        Presented { address: "a:1".into(), server, key, tls_key: [0; 32], authority: false }
    }

    #[test]
    fn a_stranger_needs_somebody_who_vouches() {
        let server = presented(1, "s1");
        assert_eq!(Trust::default().judge(&server), Verdict::Unknown);
        assert_eq!(Trust::default().judge(&Presented { authority: true, ..server.clone() }), Verdict::Trusted);
        let invite = Some((server.key.fingerprint(), server.server.clone()));
        assert_eq!(Trust { invite, ..Trust::default() }.judge(&server), Verdict::Trusted);
        let names = vec![(server.server.clone(), server.key)];
        assert_eq!(Trust { names, ..Trust::default() }.judge(&server), Verdict::Trusted, "at a new address");
    }

    #[test]
    fn another_key_is_refused_whoever_vouches() {
        let (old, new) = (presented(1, "s1"), Presented { authority: true, ..presented(2, "s1") });
        let invite = Some((new.key.fingerprint(), new.server.clone()));
        let changed = Verdict::Changed(old.key.fingerprint());
        let at_address = Some(old.pin());
        assert_eq!(Trust { at_address, invite: invite.clone(), ..Trust::default() }.judge(&new), changed);
        let names = vec![(old.server.clone(), old.key)];
        assert_eq!(Trust { names, invite, ..Trust::default() }.judge(&new), changed);
        let invite = Some((old.key.fingerprint(), old.server));
        assert_eq!(Trust { invite, ..Trust::default() }.judge(&new), changed, "not the invite's server");
    }

    #[test]
    fn a_pinned_server_keeps_its_name() {
        let (old, renamed) = (presented(1, "s1"), presented(1, "s2"));
        let trust = Trust { at_address: Some(old.pin()), ..Trust::default() };
        assert_eq!(trust.judge(&renamed), Verdict::Renamed);
        assert_eq!(trust.judge(&old), Verdict::Trusted);
    }
}
