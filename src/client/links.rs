//! Our home server: who we are there, what we believe of its certificates, and the shapes that `group` and the wire share.

use super::core::{Core, Home};
use super::effects::LinkInfo;
use super::problem::{Problem, UNVERIFIED};
use super::requests::Purpose;
use crate::crypto::identity::PublicKey;
use crate::group::{self, Grant, KeyPackages, Member};
use crate::limits::KEY_PACKAGES;
use crate::wire::cert::NameCert;
use crate::wire::frame::{Published, Reply, Request, Welcome};
use crate::wire::name::Name;
use minicbor::bytes::ByteVec;

impl Core {
    /// Takes what a login gave, or says why it cannot be. The server may be our home, or another one that believes our home.
    pub(super) fn settle_in(&mut self, info: &LinkInfo) -> Result<(), Problem> {
        let wrong = |text: &str| Problem::new("server_identity", UNVERIFIED, text);
        let cert = NameCert::from_bytes(&info.welcome.cert).ok();
        let cert = cert.filter(|cert| cert.key() == self.config.identity.public());
        let cert = cert.ok_or_else(|| wrong("our name certificate is not valid"))?;
        if let Some(home) = &self.home {
            if home.server == info.server && home.key != info.server_key {
                return Err(wrong("the server has another identity than before"));
            }
            if home.me.cert.subject != cert.subject {
                return Err(wrong("the server gave us another name than before"));
            }
        } else {
            self.find_home(&cert, info).ok_or_else(|| wrong("our name certificate is not valid"))?;
        }
        self.take_cert(cert).ok_or_else(|| wrong("our name certificate is not valid"))?;
        if self.is_home(&info.server) {
            self.heard_from_home(&info.welcome);
        }
        Ok(())
    }

    /// At the first login of all: the server that gave the name, or one that earlier runs have kept.
    fn find_home(&mut self, cert: &NameCert, info: &LinkInfo) -> Option<()> {
        let kept = self.config.homes.iter().find(|card| card.cert.subject == cert.subject).cloned();
        let key = if *cert.server() == info.server { info.server_key } else { kept.as_ref()?.cert.server_key() };
        let kept = kept.filter(|card| card.cert.server_key() == key);
        let ours = cert.check(&key, 0).is_ok();
        kept.iter().for_each(|card| self.recall(card));
        let me = Member { identity: self.config.identity.clone(), cert: cert.clone() };
        let home = Home { server: cert.server().clone(), key, me, renew_at_ms: renewal(self.wall_ms, cert.not_after) };
        self.home = ours.then_some(home);
        self.renew_trust();
        self.home.as_ref().map(|_| ())
    }

    pub(super) fn is_home(&self, server: &Name) -> bool {
        self.home.as_ref().is_some_and(|home| home.server == *server)
    }

    /// What our home server says at a login, over the link or through another server.
    pub(super) fn heard_from_home(&mut self, welcome: &Welcome) {
        if let Ok(cert) = NameCert::from_bytes(&welcome.cert) {
            self.take_cert(cert);
        }
        let authorities = welcome.mesh.iter().flat_map(|mesh| &mesh.authorities).take(AUTHORITIES);
        let authorities: Vec<_> = authorities.map(|key| PublicKey::from_bytes(**key)).collect();
        self.home_believes(&authorities);
    }

    /// Goes by a certificate of our name, if it is one and not older than ours.
    fn take_cert(&mut self, cert: NameCert) -> Option<()> {
        let home = self.home.as_mut()?;
        if !home.is_ours(&cert) {
            return None;
        }
        if cert.not_after >= home.me.cert.not_after {
            home.renew_at_ms = renewal(self.wall_ms, cert.not_after);
            home.me.cert = cert;
            self.spread_cert();
            self.keep_home();
        }
        Some(())
    }

    /// A fresh stock; the one before stays good for what is on its way.
    pub(super) fn publish_key_packages(&mut self, server: &Name) {
        let (Some(home), Some(attachment)) = (&self.home, self.attachments.get_mut(server)) else { return };
        let mut stock = KeyPackages::new(&home.me);
        let single: Result<Vec<ByteVec>, _> = (0..KEY_PACKAGES).map(|_| stock.make(false).map(ByteVec::from)).collect();
        let (Ok(single), Ok(last_resort)) = (single, stock.make(true)) else { return };
        attachment.old_stock = attachment.stock.replace(stock);
        let request = Request::PublishKeyPackages { single, last_resort: last_resort.into() };
        self.request(server, request, Purpose::Forget);
    }

    /// Asks for a new certificate in time.
    pub(super) fn renew_name(&mut self) {
        let now = self.wall_ms;
        let Some(server) = self.home.as_ref().filter(|home| now >= home.renew_at_ms).map(|h| h.server.clone()) else {
            return;
        };
        if self.is_up(&server)
            && let Some(home) = &mut self.home
        {
            home.renew_at_ms = renewal(now, home.me.cert.not_after).max(now + RENEWAL_PAUSE_MS);
            self.request(&server, Request::RenewName, Purpose::RenewName);
        }
    }

    pub(super) fn name_renewed(&mut self, reply: &Reply) {
        let Reply::Name(bytes) = reply else { return };
        let Ok(cert) = NameCert::from_bytes(bytes) else { return };
        if self.take_cert(cert).is_some() {
            let servers: Vec<Name> = self.attachments.keys().cloned().collect();
            servers.iter().filter(|server| self.is_up(server)).cloned().collect::<Vec<_>>().iter().for_each(|server| {
                self.publish_key_packages(server);
            });
        }
    }

    /// Rooms take the present certificate with our next commit there, which comes soon.
    fn spread_cert(&mut self) {
        let Some(home) = &self.home else { return };
        for conversation in self.conversations.values_mut() {
            let stands = conversation.room.own().is_some_and(|own| own.cert == home.me.cert);
            if !stands && conversation.room.set_cert(home.me.cert.clone()) {
                conversation.renew_at = self.now;
            }
        }
    }
}

/// Half way to its end.
fn renewal(now_ms: u64, not_after_ms: u64) -> u64 {
    now_ms + not_after_ms.saturating_sub(now_ms) / 2
}

/// A grant as the server takes it at a creation, tree included.
pub(super) fn published_of(epoch: u64, grant: Grant) -> Published {
    let vouch = grant.vouch.map(Into::into);
    Published { epoch, group_info: grant.group_info.into(), tree: grant.tree.into(), vouch }
}

/// What goes with a commit; the server has the tree.
pub(super) fn published_commit(published: group::Published) -> Published {
    let group::Published { epoch, group_info, vouch } = published;
    Published { epoch, group_info: group_info.into(), tree: Vec::new().into(), vouch: vouch.map(Into::into) }
}

/// What the server hands a newcomer.
pub(super) fn grant_of(published: Published, proposals: Vec<ByteVec>) -> Grant {
    Grant {
        group_info: published.group_info.into(),
        tree: published.tree.into(),
        vouch: published.vouch.map(|v| *v),
        proposals: proposals.into_iter().map(Into::into).collect(),
    }
}

/// Mesh authorities that a server may name.
const AUTHORITIES: usize = 16;
const RENEWAL_PAUSE_MS: u64 = 60_000;
