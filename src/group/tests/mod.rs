//! Rooms and their home server, in one process and without IO.

mod attacks;
mod caps;
mod conversations;
mod kicks;
mod misdeeds;
mod model;
mod removal;
mod rooms;

use super::*;
use crate::crypto::identity::PublicKey;
use crate::wire::name::{FullName, Name};
use crate::wire::policy::{Policy, RoomKind};

const ROOM: RoomId = [7; 16];
const SECRET: u8 = 200;
const LABEL: &str = "den";

fn id(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn server() -> Identity {
    id(100)
}

/// The join key that a password gives.
fn secret() -> Identity {
    id(SECRET)
}

fn name(text: &str) -> FullName {
    FullName::new(Name::parse(text).unwrap(), Name::parse("s1").unwrap())
}

/// A user of the home server; the seed makes the key.
fn user(seed: u8, text: &str) -> Member {
    let identity = id(seed);
    let cert = NameCert::issue(&server(), name(text), identity.public(), 1_000);
    Member { identity, cert }
}

/// Believes what the pinned home server certified.
fn pinned(cert: &NameCert) -> Result<(), CertRefused> {
    Ok(cert.check(&server().public(), 500)?)
}

fn target(kind: RoomKind) -> Target {
    Target { room_id: ROOM, kind, label: LABEL.into(), server: server().public() }
}

/// A room with its home server and the members that are in it, the owner first.
struct World {
    kind: RoomKind,
    join: Option<Identity>,
    directory: Directory,
    rooms: Vec<Room>,
}

impl World {
    fn new(kind: RoomKind) -> Self {
        let join = (kind == RoomKind::Private).then(secret);
        let alice = user(1, "alice");
        let policy = Policy::new(kind, LABEL.into(), alice.identity.public(), join.as_ref().map(Identity::public));
        let (room, grant) = Room::create(&alice, server().public(), ROOM, policy, join.clone()).unwrap();
        let directory = Directory::open(server().public(), ROOM, &grant, &pinned).unwrap();
        Self { kind, join, directory, rooms: vec![room] }
    }

    /// A room with alice, bob and carol.
    fn of_three(kind: RoomKind) -> Self {
        let mut world = Self::new(kind);
        world.join(&user(2, "bob"));
        world.join(&user(3, "carol"));
        world
    }

    fn grant(&self, me: &Member) -> Grant {
        self.directory.grant_for(&me.identity.public())
    }

    fn try_join(&self, me: &Member) -> Result<(Room, Outgoing), JoinError> {
        Room::join(me, &target(self.kind), &self.grant(me), self.join.clone(), &pinned)
    }

    /// Somebody joins, and everybody hears of it.
    fn join(&mut self, me: &Member) -> Change {
        let (room, out) = self.try_join(me).unwrap();
        let change = self.log(&out, None);
        self.rooms.retain(Room::is_active);
        self.rooms.push(room);
        self.agree();
        change
    }

    /// The home server takes a commit; all members but its maker receive it, the maker merges its own.
    fn log(&mut self, out: &Outgoing, maker: Option<usize>) -> Change {
        let checked = self.directory.check_commit(&out.bytes, out.published.clone(), &pinned).unwrap();
        let change = self.directory.apply(checked).unwrap();
        for (i, room) in self.rooms.iter_mut().enumerate() {
            if Some(i) == maker {
                assert_eq!(room.own_commit_accepted().unwrap(), change);
            } else {
                assert_eq!(room.receive(&out.bytes, &pinned).unwrap(), Received::Commit(Box::new(change.clone())));
            }
        }
        change
    }

    /// The home server takes a proposal of a member; everybody receives it.
    fn propose(&mut self, bytes: &[u8]) {
        self.directory.check_proposal(bytes).unwrap();
        self.tell_proposal(bytes);
    }

    fn tell_proposal(&mut self, bytes: &[u8]) {
        for room in &mut self.rooms {
            assert!(matches!(room.receive(bytes, &pinned).unwrap(), Received::Proposal { .. }));
        }
    }

    /// Everybody, the home server too, sees the same members in the same epoch.
    fn agree(&self) {
        let first = self.rooms.first().unwrap();
        let seen: Vec<_> = first.members().collect();
        assert_eq!(self.directory.members().collect::<Vec<_>>(), seen);
        for room in &self.rooms {
            assert_eq!(room.epoch(), self.directory.epoch());
            assert_eq!(room.epoch_authenticator(), first.epoch_authenticator());
            assert_eq!(room.tree_hash(), first.tree_hash());
            assert_eq!(room.members().collect::<Vec<_>>(), seen);
            let read = roster::Roster::read(room.group.members(), None, &pinned).unwrap();
            assert_eq!(read, room.roster, "the roster follows the tree");
        }
    }

    /// Everybody hears everybody.
    fn chat(&mut self) {
        for from in 0..self.rooms.len() {
            let key = self.rooms[from].me.identity.public();
            let sealed = self.rooms[from].seal(b"hello").unwrap();
            assert_eq!(self.directory.check_private_message(&sealed).unwrap(), self.directory.epoch());
            for (to, room) in self.rooms.iter_mut().enumerate() {
                match room.receive(&sealed, &pinned).unwrap() {
                    Received::Own => assert_eq!(to, from),
                    Received::Application { sender, payload } => {
                        assert_eq!((sender.key, payload.as_slice()), (key, b"hello".as_slice()));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

fn key(seed: u8) -> PublicKey {
    id(seed).public()
}
