//! Our home server: who we are there, what we believe of its certificates, and the shapes that `group` and the wire share.

use super::core::{Core, Home};
use super::effects::LinkInfo;
use super::problem::{Problem, UNVERIFIED};
use super::requests::Purpose;
use crate::group::{self, CertCheck, CertRefused, Grant, KeyPackages, Member};
use crate::limits::KEY_PACKAGES;
use crate::wire::cert::NameCert;
use crate::wire::frame::{Published, Reply, Request};
use minicbor::bytes::ByteVec;

impl Home {
    /// Believes what our server certified, as long as it is valid. Changed keys are told apart where the user is asked.
    pub fn certs(&self, wall_ms: u64) -> Box<CertCheck<'static>> {
        let (server, key) = (self.server.clone(), self.key);
        Box::new(move |cert: &NameCert| {
            if *cert.server() != server {
                return Err(CertRefused::UnknownServer);
            }
            Ok(cert.check(&key, wall_ms)?)
        })
    }
}

impl Core {
    /// Takes what a login gave, or says why it cannot be.
    pub(super) fn settle_in(&mut self, info: &LinkInfo) -> Result<(), Problem> {
        let wrong = |text: &str| Problem::new("server_identity", UNVERIFIED, text);
        let cert = self.own_cert(&info.welcome.cert, info).ok_or_else(|| wrong("our name certificate is not valid"))?;
        if let Some(home) = &mut self.home {
            if home.key != info.server_key || home.server != info.server {
                return Err(wrong("the server has another identity than before"));
            }
            if home.me.cert.subject != cert.subject {
                return Err(wrong("the server gave us another name than before"));
            }
        }
        let me = Member { identity: self.config.identity.clone(), cert };
        let renew_at_ms = renewal(self.wall_ms, me.cert.not_after);
        let stock = self.home.take().map_or_else(|| KeyPackages::new(&me), |home| home.stock);
        let (server, key) = (info.server.clone(), info.server_key);
        self.home = Some(Home { server, key, me, stock, old_stock: None, renew_at_ms });
        self.spread_cert();
        Ok(())
    }

    fn own_cert(&self, bytes: &[u8], info: &LinkInfo) -> Option<NameCert> {
        let cert = NameCert::from_bytes(bytes).ok()?;
        let ours = cert.key() == self.config.identity.public() && *cert.server() == info.server;
        // The server's clock may be ahead of ours: its own word on our name needs no date.
        (ours && cert.check(&info.server_key, 0).is_ok()).then_some(cert)
    }

    /// A fresh stock; the one before stays good for what is on its way.
    pub(super) fn publish_key_packages(&mut self) {
        let Some(home) = &mut self.home else { return };
        let mut stock = KeyPackages::new(&home.me);
        let single: Result<Vec<ByteVec>, _> = (0..KEY_PACKAGES).map(|_| stock.make(false).map(ByteVec::from)).collect();
        let (Ok(single), Ok(last_resort)) = (single, stock.make(true)) else { return };
        home.old_stock = Some(std::mem::replace(&mut home.stock, stock));
        let request = Request::PublishKeyPackages { single, last_resort: last_resort.into() };
        self.request(request, Purpose::Forget);
    }

    /// Asks for a new certificate in time.
    pub(super) fn renew_name(&mut self) {
        let now = self.wall_ms;
        if let Some(home) = self.home.as_mut().filter(|home| now >= home.renew_at_ms) {
            home.renew_at_ms = renewal(now, home.me.cert.not_after).max(now + RENEWAL_PAUSE_MS);
            self.request(Request::RenewName, Purpose::RenewName);
        }
    }

    pub(super) fn name_renewed(&mut self, reply: &Reply) {
        let (Reply::Name(bytes), Some(home)) = (reply, &mut self.home) else { return };
        let Ok(cert) = NameCert::from_bytes(bytes) else { return };
        let same = cert.subject == home.me.cert.subject && cert.key() == home.me.cert.key();
        if same && cert.check(&home.key, 0).is_ok() {
            home.renew_at_ms = renewal(self.wall_ms, cert.not_after);
            home.me.cert = cert;
            self.spread_cert();
            self.publish_key_packages();
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

const RENEWAL_PAUSE_MS: u64 = 60_000;
