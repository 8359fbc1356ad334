//! Who is let in, under which name: one of this server's own, or one that another server of the mesh has given.

use super::attempts::source;
use super::core::{Answer, Core};
use super::io::Space;
use super::names::Claim;
use super::outbox::{disk_full, too_many};
use super::sessions::Asker;
use crate::crypto::identity::PublicKey;
use crate::store::Write;
use crate::wire::cert::{CertError, NameCert};
use crate::wire::frame::{Code, Login, MeshWord, Refusal, Reply, VERSION};
use crate::wire::id::InstanceId;
use crate::wire::name::{FullName, Name};
use crate::wire::vouch::Doubt;
use minicbor::bytes::ByteVec;
use std::net::SocketAddr;

impl Core {
    /// Whether a login holds: the name, and its encoded certificate. A free name of ours becomes the key's. Who comes through another
    /// server has a name already and shows that.
    pub(super) fn admit(
        &mut self,
        login: &Login,
        key: PublicKey,
        addr: SocketAddr,
        through: bool,
    ) -> Result<(FullName, Vec<u8>), Refusal> {
        if login.version != VERSION {
            let message = format!("this server speaks version {VERSION} of the protocol");
            return Err(Refusal::new(Code::Version, message));
        }
        if self.draining {
            return Err(Refusal::new(Code::Draining, "the server is stopping"));
        }
        self.barred(&key, (!through).then(|| addr.ip()))?;
        self.may_enter(&key)?;
        let token = login.token.as_ref().map(|token| **token);
        let name = match &login.cert {
            None if through => {
                let message = "a login through another server needs the certificate of a name";
                return Err(
                    Refusal::new(Code::NoCertificate, message).hint("take a name at the server that you connect to")
                );
            }
            None => self.wished(&login.name, key, addr, token)?,
            Some(bytes) => {
                let cert =
                    NameCert::from_bytes(bytes).map_err(|e| Refusal::new(Code::BadCertificate, e.to_string()))?;
                if *cert.server() != self.config.name {
                    self.guest(&cert, key)?;
                    self.barred_name(&cert.subject, &key, true)?;
                    return Ok((cert.subject, bytes.to_vec()));
                }
                self.own(&cert, key, addr, token)?
            }
        };
        let name = FullName::new(name, self.config.name.clone());
        let cert = self.issue(&name, key);
        Ok((name, cert))
    }

    /// A name of ours, as typed.
    fn wished(
        &mut self,
        typed: &str,
        key: PublicKey,
        addr: SocketAddr,
        token: Option<[u8; 16]>,
    ) -> Result<Name, Refusal> {
        let name = Name::parse_user(typed).map_err(|e| Refusal::new(Code::BadName, e.to_string()))?;
        self.claim(name, key, addr, token)
    }

    /// A name that we gave. Whose it is says our own list, so that the time of its certificate may be over: it gets a new one.
    fn own(
        &mut self,
        cert: &NameCert,
        key: PublicKey,
        addr: SocketAddr,
        token: Option<[u8; 16]>,
    ) -> Result<Name, Refusal> {
        let judged = if cert.key() == key { self.trust.check_name(cert, self.wall_ms) } else { Err(not_yours()) };
        let expired = Err(Doubt::Cert(CertError::Expired));
        if judged == expired && self.names.owner(&cert.subject.name) == Some(key) {
            self.barred_name(&cert.subject, &key, true)?;
            return Ok(cert.subject.name.clone());
        }
        judged.map_err(|doubt| bad_cert(&doubt))?;
        self.wished(cert.subject.name.as_str(), key, addr, token)
    }

    /// A name that another server of the mesh gave: nothing is kept of it here.
    fn guest(&self, cert: &NameCert, key: PublicKey) -> Result<(), Refusal> {
        Name::parse_user(cert.subject.name.as_str()).map_err(|e| Refusal::new(Code::BadName, e.to_string()))?;
        let judged = if cert.key() == key { self.trust.check_name(cert, self.wall_ms) } else { Err(not_yours()) };
        judged.map_err(|doubt| bad_cert(&doubt))
    }

    fn claim(
        &mut self,
        name: Name,
        key: PublicKey,
        addr: SocketAddr,
        token: Option<[u8; 16]>,
    ) -> Result<Name, Refusal> {
        let full = FullName::new(name, self.config.name.clone());
        let name = full.name.clone();
        match self.names.claim(&name, &key) {
            Claim::Own => self.barred_name(&full, &key, true)?,
            Claim::Taken(free) => {
                let refusal = Refusal::new(Code::NameTaken, format!("the name {name} is taken"));
                return Err(free.map_or(refusal.clone(), |free| refusal.hint(free.to_string())));
            }
            Claim::TooMany => return Err(too_many("this key has as many names as it may have")),
            Claim::Free => {
                self.barred_name(&full, &key, false)?;
                let invitation = self.may_register(token)?;
                self.may_add_name(addr)?;
                if let Some(invitation) = invitation {
                    self.use_invitation(&invitation);
                }
                self.names.insert(name.clone(), key);
                self.out.write(Write::Name { name: name.clone(), key, since_ms: self.wall_ms });
            }
        }
        Ok(name)
    }

    fn may_add_name(&mut self, addr: SocketAddr) -> Result<(), Refusal> {
        if self.space != Space::Plenty {
            return Err(disk_full());
        }
        let source = source(addr.ip());
        if self.names.len() >= self.bounds.names {
            return Err(Refusal::new(Code::TooMany, "the server has as many names as it may have"));
        }
        if !self.new_things.take(source, self.now) || !self.new_names.take(source, self.now) {
            return Err(too_many("too many new names from this address"));
        }
        Ok(())
    }

    /// A new run of a client has lost the state of its direct conversations; of its rooms too, which it joins again by itself. Of a
    /// guest that has no conversation here nothing needs to be known.
    pub(super) fn note_instance(&mut self, key: PublicKey, instance: InstanceId) {
        if self.instances.get(&key) == Some(&instance) {
            return;
        }
        for room in self.rooms.directs_of(&key) {
            self.drop_direct(room, &key);
        }
        if self.names.has_one(&key) {
            self.remember_instance(key, instance);
        }
    }

    /// To be known when it comes again: whether its conversations are still there.
    pub(super) fn remember_instance(&mut self, key: PublicKey, instance: InstanceId) {
        if self.instances.insert(key, instance) != Some(instance) && self.space != Space::None {
            self.out.write(Write::Instance { key, instance });
        }
    }

    /// The opposite, for guests whose last conversation has ended.
    pub(super) fn forget_guests(&mut self, keys: impl Iterator<Item = PublicKey>) {
        for key in keys {
            if !self.names.has_one(&key)
                && self.rooms.directs_of(&key).is_empty()
                && self.instances.remove(&key).is_some()
            {
                self.out.write(Write::ForgetInstance { key });
            }
        }
    }

    /// The encoded certificate of a name of ours.
    fn issue(&self, name: &FullName, key: PublicKey) -> Vec<u8> {
        let not_after = self.wall_ms.saturating_add(CERT_MS);
        let cert = NameCert::issue(&self.identity, name.clone(), key, not_after);
        cert.with_chain(self.config.vouch.clone()).to_bytes()
    }

    /// A fresh certificate, if it is ours to give.
    pub(super) fn renew_name(&self, asker: &Asker) -> Answer {
        let home = &asker.name.server;
        if *home != self.config.name {
            let refusal = Refusal::new(Code::NotAllowed, format!("{} is a name of {home}", asker.name));
            return Err(refusal.hint(format!("ask {home}")));
        }
        Ok(Some(Reply::Name(self.issue(&asker.name, asker.key).into())))
    }

    /// What a client is told of the mesh that we are in, if we are in one.
    pub(super) fn mesh_word(&self) -> Option<MeshWord> {
        let trust = &self.config.trust;
        let vouch = self.config.vouch.as_ref().map(|vouch| ByteVec::from(vouch.to_bytes()));
        let authorities: Vec<_> = trust.authorities.iter().map(|key| (*key.as_bytes()).into()).collect();
        let meshed = vouch.is_some() || !authorities.is_empty() || !trust.listed.is_empty();
        meshed.then_some(MeshWord { authorities, vouch })
    }
}

fn not_yours() -> Doubt {
    Doubt::Cert(CertError::Signature)
}

fn bad_cert(doubt: &Doubt) -> Refusal {
    Refusal::new(Code::BadCertificate, format!("the name certificate does not hold: {doubt}"))
}

/// How long a name certificate holds: 90 days, milliseconds.
const CERT_MS: u64 = 90 * 24 * 3600 * 1000;
