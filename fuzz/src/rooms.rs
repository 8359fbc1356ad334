//! MLS messages of a real room, damaged or made up, against a member, the home server and a newcomer.
//!
//! The first byte chooses whom they go to and what they are; the rest are places to damage, three bytes each: offset (2 bytes,
//! big-endian, modulo the length) and what to XOR there. For the highest choices the rest is the message itself.

use secchat::crypto::identity::Identity;
use secchat::group::{Direct, Directory, Grant, KeyPackages, Member, Outgoing, Received, Room, RoomId, Target};
use secchat::wire::cert::NameCert;
use secchat::wire::name::{FullName, Name};
use secchat::wire::policy::{Policy, RoomKind};
use std::cell::RefCell;

const ROOM: RoomId = [7; 16];
const LABEL: &str = "den";

/// Whether it was taken; what is damaged never is by a member or a newcomer, and leaves the room as it was.
pub fn room(data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    thread_local!(static WORLD: RefCell<Option<World>> = const { RefCell::new(None) });
    WORLD.with_borrow_mut(|world| world.get_or_insert_with(World::new).run(choice % 14, rest))
}

/// Alice and bob in a private room; alice has sealed a message and made a commit and a proposal that bob has not seen.
struct World {
    alice: Member,
    carol: Member,
    bob: Room,
    directory: Directory,
    message: Vec<u8>,
    commit: Outgoing,
    proposal: Vec<u8>,
    grant: Grant,
    stock: KeyPackages,
    package: Vec<u8>,
    welcome: Vec<u8>,
    welcome_tree: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let [alice, bob, carol] = [(1, "alice"), (2, "bob"), (3, "carol")].map(|(seed, name)| user(seed, name));
        let owner = alice.identity.public();
        let policy = Policy::new(RoomKind::Private, LABEL.into(), owner, Some(secret().public()));
        let (mut room, grant) = Room::create(&alice, server().public(), ROOM, policy, Some(secret())).unwrap();
        let mut directory = Directory::open(server().public(), ROOM, &grant, &pinned).unwrap();
        let (bob, out) = Room::join(&bob, &target(), &grant, Some(secret()), &pinned).unwrap();
        let checked = directory.check_commit(&out.bytes, out.published.clone(), &pinned).unwrap();
        directory.apply(checked).unwrap();
        room.receive(&out.bytes, &pinned).unwrap();
        let message = room.seal(b"hello").unwrap();
        let commit = room.self_update().unwrap();
        room.own_commit_lost().unwrap();
        let proposal = room.leave().unwrap();
        let mut stock = KeyPackages::new(&carol);
        let package = stock.make(true).unwrap();
        let (_, welcoming, direct) = Direct::create(&alice, server().public(), ROOM, &package, &pinned).unwrap();
        let grant = directory.grant();
        let (welcome, welcome_tree) = (welcoming.welcome, direct.tree);
        Self { alice, carol, bob, directory, message, commit, proposal, grant, stock, package, welcome, welcome_tree }
    }

    fn run(&mut self, choice: u8, rest: &[u8]) -> bool {
        match choice {
            0 => self.hand_member(self.message.clone(), rest),
            1 => self.hand_member(self.commit.bytes.clone(), rest),
            2 => self.hand_member(self.proposal.clone(), rest),
            3 => self.commit_to_server(damaged(&self.commit.bytes, rest).0, self.commit.published.group_info.clone()),
            4 => self.commit_to_server(self.commit.bytes.clone(), damaged(&self.commit.published.group_info, rest).0),
            5 => self.directory.check_private_message(&damaged(&self.message, rest).0).is_ok(),
            6 => self.hand_newcomer(damaged(&self.grant.group_info, rest), (self.grant.tree.clone(), false)),
            7 => self.hand_newcomer((self.grant.group_info.clone(), false), damaged(&self.grant.tree, rest)),
            8 => self.hand_peer(damaged(&self.welcome, rest), (self.welcome_tree.clone(), false)),
            9 => self.hand_peer((self.welcome.clone(), false), damaged(&self.welcome_tree, rest)),
            10 => self.takes_package(damaged(&self.package, rest)),
            11 => self.bob.receive(rest, &pinned).is_ok(),
            12 => self.commit_to_server(rest.to_vec(), rest.to_vec()),
            _ => self.hand_newcomer((rest.to_vec(), true), (rest.to_vec(), true)),
        }
    }

    fn hand_member(&mut self, message: Vec<u8>, rest: &[u8]) -> bool {
        let (bytes, changed) = damaged(&message, rest);
        if !changed {
            return false;
        }
        let before = (self.bob.epoch(), self.bob.tree_hash().to_vec());
        let taken = self.bob.receive(&bytes, &pinned);
        assert!(matches!(taken, Err(_) | Ok(Received::Own)), "a damaged message was taken: {taken:?}");
        assert_eq!((self.bob.epoch(), self.bob.tree_hash().to_vec()), before);
        false
    }

    /// The home server cannot check everything that members can (their membership tag, for one), so it may take more than they.
    fn commit_to_server(&mut self, bytes: Vec<u8>, group_info: Vec<u8>) -> bool {
        let published = secchat::group::Published { group_info, ..self.commit.published.clone() };
        self.directory.check_commit(&bytes, published, &pinned).is_ok()
    }

    fn hand_newcomer(&mut self, info: (Vec<u8>, bool), tree: (Vec<u8>, bool)) -> bool {
        let damaged = info.1 || tree.1;
        let grant = Grant { group_info: info.0, tree: tree.0, ..self.grant.clone() };
        let joined = Room::join(&self.carol, &target(), &grant, Some(secret()), &pinned).is_ok();
        assert_ne!(joined, damaged, "a newcomer takes what is whole, and nothing else");
        joined
    }

    fn hand_peer(&mut self, welcome: (Vec<u8>, bool), tree: (Vec<u8>, bool)) -> bool {
        let damaged = welcome.1 || tree.1;
        let taken = Direct::accept(&mut self.stock, server().public(), ROOM, &welcome.0, &tree.0, &pinned).is_ok();
        assert_ne!(taken, damaged, "a Welcome is taken as it is, or not at all");
        taken
    }

    fn takes_package(&mut self, package: (Vec<u8>, bool)) -> bool {
        let taken = Direct::create(&self.alice, server().public(), ROOM, &package.0, &pinned).is_ok();
        assert_ne!(taken, package.1, "a key package is taken as it is, or not at all");
        taken
    }
}

/// The bytes with the damage done, and whether they are others now.
fn damaged(bytes: &[u8], script: &[u8]) -> (Vec<u8>, bool) {
    let mut out = bytes.to_vec();
    for step in script.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([step[0], step[1]])) % out.len();
        out[at] ^= step[2];
    }
    let changed = out != bytes;
    (out, changed)
}

fn pinned(cert: &NameCert) -> Result<(), secchat::group::CertRefused> {
    Ok(cert.check(&server().public(), 500)?)
}

fn target() -> Target {
    Target { room_id: ROOM, kind: RoomKind::Private, label: LABEL.into(), server: server().public() }
}

fn user(seed: u8, name: &str) -> Member {
    let identity = Identity::from_seed(&[seed; 32]);
    let full = FullName::new(Name::parse(name).unwrap(), Name::parse("s1").unwrap());
    let cert = NameCert::issue(&server(), full, identity.public(), 1_000);
    Member { identity, cert }
}

fn server() -> Identity {
    Identity::from_seed(&[100; 32])
}

fn secret() -> Identity {
    Identity::from_seed(&[200; 32])
}
