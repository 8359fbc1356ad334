//! Other servers of the mesh: which we believe, on whose word, where they are reached, and which are within reach now.

use super::core::{Core, Home};
use super::effects::Effect;
use super::event::Event;
use crate::crypto::identity::PublicKey;
use crate::group::{CertCheck, CertRefused};
use crate::wire::cert::{CertError, NameCert};
use crate::wire::endpoint::Endpoint;
use crate::wire::frame::ServerInfo;
use crate::wire::home::{ENDPOINTS_KEPT, HomeCard, SERVERS_KEPT};
use crate::wire::name::Name;
use crate::wire::vouch::{Doubt, ServerCert, ServerTrust};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Servers {
    /// The authorities that our home server believed at first; its word on others counts too.
    pub authorities: Vec<PublicKey>,
    /// Other ones that it named later; the user may take them.
    offered: Vec<PublicKey>,
    /// What follows from all this: made anew when it changes, since every row of a log is judged by it.
    trust: Arc<ServerTrust>,
    /// Believed.
    known: BTreeMap<Name, ServerInfo>,
    /// Within reach of the server that the link leads to, once it has said so.
    listed: Option<BTreeSet<Name>>,
    /// Those that ever were.
    seen: BTreeSet<Name>,
    /// What was told already: a server may say it again and again.
    told: BTreeSet<(Name, [u8; 32])>,
}

impl Servers {
    pub fn listed(&self) -> Option<&BTreeSet<Name>> {
        self.listed.as_ref()
    }

    pub fn is_listed(&self, server: &Name) -> bool {
        self.listed.as_ref().is_some_and(|listed| listed.contains(server))
    }

    /// Nothing is known of what the next link's server reaches.
    pub fn unlisted(&mut self) {
        self.listed = None;
    }

    pub fn key(&self, server: &Name) -> Option<PublicKey> {
        self.known.get(server).map(|info| PublicKey::from_bytes(*info.key))
    }

    /// Where clients reach it.
    pub fn endpoint(&self, server: &Name) -> Option<Endpoint> {
        self.known.get(server)?.endpoints.iter().find_map(|text| text.parse().ok())
    }

    fn with_key(&self, key: &PublicKey) -> Option<&Name> {
        self.known.iter().find(|(_, info)| *info.key == *key.as_bytes()).map(|(name, _)| name)
    }
}

impl Core {
    /// Whom we believe on servers: our home, whatever it lists itself, and what its authorities vouch for.
    pub(super) fn renew_trust(&mut self) {
        let mut trust = ServerTrust { authorities: self.servers.authorities.clone(), listed: Vec::new() };
        let Some(home) = &self.home else { return };
        trust.listed.push((home.server.clone(), home.key.fingerprint()));
        let by_home = |info: &&ServerInfo| ServerCert::from_bytes(&info.vouch).is_ok_and(|c| c.signer() == home.key);
        let by_home = self.servers.known.values().filter(by_home).filter(|info| info.name != home.server);
        trust.listed.extend(by_home.map(|i| (i.name.clone(), PublicKey::from_bytes(*i.key).fingerprint())));
        self.servers.trust = Arc::new(trust);
    }

    /// Judges name certificates. Changed keys of people are told apart where the user is asked.
    pub(super) fn certs(&self) -> Box<CertCheck<'static>> {
        let (trust, wall_ms) = (Arc::clone(&self.servers.trust), self.wall_ms);
        Box::new(move |cert: &NameCert| {
            trust.check_name(cert, wall_ms).map_err(|doubt| match doubt {
                Doubt::OtherKey(_) => {
                    CertRefused::FalseName { subject: cert.subject.clone(), signer: cert.server_key() }
                }
                doubt => doubt.into(),
            })
        })
    }

    /// The key of a server in which there may be rooms of ours.
    pub(super) fn server_key(&self, server: &Name) -> Option<PublicKey> {
        let home = self.home.as_ref().filter(|home| home.server == *server).map(|home| home.key);
        let access = self.link.as_ref().filter(|link| link.server == *server).map(|link| link.key);
        home.or_else(|| self.servers.key(server)).or(access)
    }

    /// A name certificate that its own server did not sign: whose key it was is told, once.
    pub(super) fn false_name(&mut self, room: String, refused: &CertRefused) {
        let CertRefused::FalseName { subject, signer } = refused else { return };
        let liar = self.home.as_ref().filter(|home| home.key == *signer).map(|home| home.server.clone());
        let liar = liar.or_else(|| self.servers.with_key(signer).cloned());
        let access = self.link.as_ref().filter(|link| link.key == *signer).map(|link| link.server.clone());
        let liar = liar.or(access).map_or_else(|| signer.fingerprint().to_string(), |name| name.to_string());
        let peer = Some(subject.to_string());
        self.tell(None, Event::Integrity { room, kind: "false_name".into(), peer, server: Some(liar) });
    }

    /// The mesh as our home server sees it. Its authorities are taken once; other ones are the user's business.
    pub(super) fn home_believes(&mut self, authorities: &[PublicKey]) {
        if authorities.is_empty() {
            return;
        }
        let mut authorities = authorities.to_vec();
        authorities.sort_unstable();
        authorities.dedup();
        if self.servers.authorities.is_empty() {
            self.servers.authorities = authorities;
            self.renew_trust();
            return self.keep_home();
        }
        if self.servers.authorities != authorities {
            let server = self.home.as_ref().map(|home| home.server.to_string());
            let room = server.clone().unwrap_or_default();
            self.servers.offered = authorities;
            self.tell(None, Event::Integrity { room, kind: "authorities_changed".into(), peer: None, server });
        }
    }

    /// `@me trust server@HOME`: the user stands by the authorities that the home server names now.
    pub(super) fn trust_authorities(&mut self) -> bool {
        if self.servers.offered.is_empty() {
            return false;
        }
        self.servers.authorities = std::mem::take(&mut self.servers.offered);
        self.renew_trust();
        self.keep_home();
        true
    }

    /// A server's list of the others. What it cannot show a certificate for is left out.
    pub(super) fn servers_listed(&mut self, from: &Name, list: Vec<ServerInfo>) {
        let at_home = self.home.as_ref().is_some_and(|home| home.server == *from);
        let access = self.is_access(from);
        if !at_home && !access {
            return;
        }
        let (mut names, mut changed) = (BTreeSet::new(), false);
        for info in list.into_iter().take(SERVERS_KEPT) {
            match self.judge(&info, at_home) {
                Ok(()) => {
                    names.insert(info.name.clone());
                    if self.learn(info) {
                        changed = true;
                        self.renew_trust();
                    }
                }
                Err(Doubt::OtherKey(_) | Doubt::Cert(CertError::Signature)) => self.false_server(from, &info),
                Err(_) => {}
            }
        }
        if access {
            self.within_reach(names);
        }
        if changed {
            self.keep_home();
        }
    }

    fn judge(&self, info: &ServerInfo, at_home: bool) -> Result<(), Doubt> {
        let key = PublicKey::from_bytes(*info.key);
        let vouch = ServerCert::from_bytes(&info.vouch).map_err(|e| Doubt::Cert(CertError::Malformed(e)))?;
        let judged = self.servers.trust.check_server(&info.name, &key, Some(&vouch), self.wall_ms);
        let Some(home) = self.home.as_ref().filter(|home| at_home && vouch.signer() == home.key) else {
            return judged;
        };
        // Whom our home server lists it may list anew.
        vouch.check(&home.key, self.wall_ms)?;
        let fits = vouch.name == info.name && vouch.key() == key && info.name != home.server;
        if fits { Ok(()) } else { Err(Doubt::OtherKey(info.name.clone())) }
    }

    /// Whether anything is new that is kept.
    fn learn(&mut self, info: ServerInfo) -> bool {
        let mut endpoints = info.endpoints;
        endpoints.truncate(ENDPOINTS_KEPT);
        let info = ServerInfo { endpoints, hops: 0, round_trip_us: 0, ..info };
        let known = &mut self.servers.known;
        if known.get(&info.name) == Some(&info) || known.len() >= SERVERS_KEPT && !known.contains_key(&info.name) {
            return false;
        }
        known.insert(info.name.clone(), info);
        true
    }

    fn false_server(&mut self, from: &Name, info: &ServerInfo) {
        if self.servers.told.len() < SERVERS_KEPT && self.servers.told.insert((info.name.clone(), *info.key)) {
            let (room, server) = (info.name.to_string(), Some(from.to_string()));
            self.tell(None, Event::Integrity { room, kind: "false_server".into(), peer: None, server });
        }
    }

    /// Those that were within reach since our start, or have business with us, and are out of it.
    pub(super) fn away_servers(&self) -> BTreeSet<Name> {
        let rooms = self.conversations.values().filter(|c| c.is_room()).map(|c| &c.server);
        let known = self.servers.seen.iter().chain(rooms);
        known.filter(|server| !self.servers.is_listed(server) && !self.is_access(server)).cloned().collect()
    }

    fn within_reach(&mut self, names: BTreeSet<Name>) {
        let free = SERVERS_KEPT.saturating_sub(self.servers.seen.len());
        let new: Vec<Name> = names.difference(&self.servers.seen).take(free).cloned().collect();
        self.servers.seen.extend(new);
        let before = self.servers.listed.replace(names.clone()).unwrap_or_default();
        names.difference(&before).for_each(|server| self.retry_now(server));
        self.take_key_packages();
    }

    /// What the next run, and the next link, go by.
    pub(super) fn keep_home(&mut self) {
        let Some(home) = &self.home else { return };
        let card = HomeCard {
            cert: home.me.cert.clone(),
            authorities: self.servers.authorities.iter().map(|key| (*key.as_bytes()).into()).collect(),
            servers: self.servers.known.values().cloned().collect(),
        };
        self.effect(Effect::KeepHome(Box::new(card)));
    }

    /// What an earlier run has kept of this home.
    pub(super) fn recall(&mut self, card: &HomeCard) {
        self.servers.authorities = card.authority_keys();
        self.servers.known = card.servers.iter().map(|info| (info.name.clone(), info.clone())).collect();
    }
}

impl Home {
    /// Whether a certificate is for our name and key, signed by our home server.
    pub(super) fn is_ours(&self, cert: &NameCert) -> bool {
        // The server's clock may be ahead of ours: its own word on our name needs no date.
        cert.subject == self.me.cert.subject && cert.key() == self.me.cert.key() && cert.check(&self.key, 0).is_ok()
    }
}
