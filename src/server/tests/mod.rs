//! The core with a real store, real MLS clients and a clock of its own; no network.

mod bans;
mod bans_mesh;
mod directs;
mod doors;
mod gate;
mod hall;
mod joins;
mod kicks;
mod leaving;
mod linked;
mod login;
mod mesh;
mod model;
mod moderation;
mod people;
mod rates;
mod restart;
mod rooms;
mod sharing;
mod strangers;
mod world;

use super::engine::Engine;
use super::forwarding::{Forwarding, RelayLimits};
use super::meshed::Meshed;
use super::metrics::Gauges;
use super::relay::{Relay, RelayConfig};
use super::*;
use crate::crypto::identity::{Identity, PublicKey};
use crate::group::{CertRefused, Grant, Member, Received, Room, Target};
use crate::mesh::run::MeshEvent;
use crate::store::{ServerStore, Write};
use crate::wire::admin::{Answer, Ask};
use crate::wire::cert::NameCert;
use crate::wire::frame::Away;
use crate::wire::frame::{Code, Login, Published, Push, Refusal, Reply, Request, ToClient, ToServer, VERSION, Welcome};
use crate::wire::id::{Id, RoomId};
use crate::wire::log::{Row, RowKind};
use crate::wire::name::{FullName, Name};
use crate::wire::policy::{Policy, RoomKind};
use crate::wire::relay::Head;
use crate::wire::vouch::{NodeId, Pass, ServerCert, ServerTrust};
use hall::Hall;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use world::{Targets, World};

const DEN: RoomId = Id([7; 16]);
const START_MS: u64 = 1_700_000_000_000;

fn server() -> Identity {
    Identity::from_seed(&[100; 32])
}

fn user(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn secret() -> Identity {
    Identity::from_seed(&[200; 32])
}

/// Vouches for the servers of a mesh.
fn authority() -> Identity {
    Identity::from_seed(&[250; 32])
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn full(text: &str) -> FullName {
    FullName::new(name(text), name("s1"))
}

fn config() -> Config {
    Config {
        name: name("s1"),
        stun_port: 3478,
        log_age: Duration::from_secs(7 * 24 * 3600),
        log_bytes: 1 << 20,
        room_ttl: Duration::from_secs(3600),
        lost_grace: Duration::from_secs(600),
        trust: ServerTrust::default(),
        vouch: None,
        decoy_phc: "decoy".into(),
    }
}

fn trusting(cert: &NameCert) -> Result<(), CertRefused> {
    let listed = vec![(name("s1"), server().public().fingerprint())];
    let trust = ServerTrust { authorities: vec![authority().public()], listed };
    Ok(trust.check_name(cert, START_MS)?)
}

/// A client with at most one room.
struct Client {
    session: SessionId,
    me: Member,
    room: Option<Room>,
    seen: u64,
    texts: Vec<String>,
}

impl Client {
    fn key(&self) -> PublicKey {
        self.me.identity.public()
    }

    /// Rows come in order and without holes, or the test fails.
    fn receive(&mut self, row: &Row) {
        assert_eq!(row.seq, self.seen + 1, "rows come in order");
        self.seen = row.seq;
        let room = self.room.as_mut().unwrap();
        if let Received::Application { payload, .. } = room.receive(&row.bytes, &trusting).unwrap() {
            self.texts.push(String::from_utf8(payload).unwrap());
        }
    }

    fn members(&self) -> Vec<String> {
        self.room.as_ref().unwrap().members().map(|m| m.name.name.to_string()).collect()
    }

    fn prepare_join(&self, kind: RoomKind, entered: Reply) -> (u64, Request, Room) {
        let Reply::Entered { lease, published, proposals, .. } = entered else { panic!("{entered:?}") };
        let grant = Grant {
            group_info: published.group_info.into(),
            tree: published.tree.into(),
            vouch: published.vouch.map(|v| *v),
            proposals: proposals.into_iter().map(Into::into).collect(),
        };
        let target = Target { room_id: DEN.0, kind, label: "den".into(), server: server().public() };
        let join = (kind == RoomKind::Private).then(secret);
        let (room, out) = Room::join(&self.me, &target, &grant, join, &trusting).unwrap();
        (lease, commit(out), room)
    }
}

fn commit(out: crate::group::Outgoing) -> Request {
    let published = Published {
        epoch: out.published.epoch,
        group_info: out.published.group_info.into(),
        tree: Vec::new().into(),
        vouch: out.published.vouch.map(Into::into),
    };
    Request::Commit { room: DEN, lease: None, message: out.bytes.into(), published, door: None }
}

fn with_lease(request: Request, number: u64) -> Request {
    match request {
        Request::Commit { room, message, published, door, .. } => {
            Request::Commit { room, lease: Some(number), message, published, door }
        }
        other => other,
    }
}

fn published(epoch: u64, grant: &Grant) -> Published {
    Published {
        epoch,
        group_info: grant.group_info.clone().into(),
        tree: grant.tree.clone().into(),
        vouch: grant.vouch.map(Into::into),
    }
}

fn door(byte: u8) -> minicbor::bytes::ByteArray<32> {
    [byte; 32].into()
}

fn enter(byte: u8) -> Request {
    Request::Enter { room: DEN, door: Some(door(byte)) }
}

fn code(reply: &Reply) -> Option<Code> {
    if let Reply::Refused(refusal) = reply { Some(refusal.code) } else { None }
}
