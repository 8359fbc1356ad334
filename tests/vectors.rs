//! The test vectors of docs/PROTOCOL.md that span several parts: the document holds what the code makes.

use secchat::crypto::identity::{Identity, Purpose};
use secchat::crypto::pair::Standing;
use secchat::crypto::seal::SealKey;
use secchat::mesh::packet::put_tags;
use secchat::transfer::exchange::{Answers, Ask, Catalog, Here, Item, PartSource};
use secchat::transfer::manifest::{Entry, Manifest};
use secchat::transfer::ranges::RangeSet;
use secchat::transfer::tree::{Geometry, Pair, PairSink, TreeHasher};
use secchat::wire::cert::NameCert;
use secchat::wire::datagram::Frame;
use secchat::wire::frame::{Login, Request, ToServer, VERSION};
use secchat::wire::id::Id;
use secchat::wire::log::{Chain, RowKind};
use secchat::wire::name::{FullName, Name};
use secchat::wire::packet::{ConnectionId, HEADER_LEN, Header};
use secchat::wire::vouch::NodeId;

const PROTOCOL: &str = include_str!("../docs/PROTOCOL.md");

#[track_caller]
fn published(what: &str, bytes: &[u8]) {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert!(PROTOCOL.contains(&hex), "docs/PROTOCOL.md lacks the vector \"{what}\": {hex}");
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn signatures_and_certificates() {
    let (server, user) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
    published("server key", server.public().as_bytes());
    published("fingerprint", &server.public().fingerprint().0);
    published("server-auth", &server.sign(Purpose::ServerAuth, &[&[9; 32], b"s1"]));
    let cert = NameCert::issue(&server, FullName::new(name("bob"), name("s1")), user.public(), 1000);
    published("name certificate", &cert.to_bytes());
}

#[test]
fn frames() {
    let login =
        Login { version: VERSION, name: "Bob".into(), instance: Id([1; 16]), cert: None, pass: None, token: None };
    published("login", &ToServer::Login(login).to_bytes());
    let enter = Request::Enter { room: Id([3; 16]), door: Some([7; 32].into()) };
    published("enter", &ToServer::Request { id: 300, body: enter }.to_bytes());
    published("alive", &ToServer::Alive.to_bytes());
}

#[test]
fn a_tagged_frame_between_servers() {
    let (one, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
    let standing = [Standing::of(&one), Standing::of(&other)];
    let publics = [standing[0].public(), standing[1].public()];
    published("standing key", &publics[0]);
    published("the other's", &publics[1]);
    let (id, other_id) = (NodeId::of(&one.public()), NodeId::of(&other.public()));
    let here = standing[0].pair(&publics[1], &id.0, &other_id.0).unwrap();
    let there = standing[1].pair(&publics[0], &other_id.0, &id.0).unwrap();
    let [seven, eight, first] = [7u64, 8, 1].map(u64::to_le_bytes);
    let target = [&other_id.0[..], &eight, &first, &first, &[0], &first, &first, &[0], &[0; 16]].concat();
    let message = [&[1, 0, 0, 2][..], b"hd", &[4], b"body"].concat();
    let mut frame = [&[3, 15][..], &id.0, &seven, &[1], &target, &message].concat();
    put_tags(&mut frame, |_| Some(&here.ours), &mut Vec::new());
    published("data frame", &frame);
    let covered = [&frame[..1], &frame[2..42], &frame[43..117], &frame[133..]];
    assert!(there.theirs.holds(&covered, frame[117..133].try_into().unwrap()));
}

#[test]
fn the_chain_of_a_log() {
    let start = Chain::start(&Id([3; 16]));
    published("chain 0", &start.0);
    let one = start.after(1, RowKind::Commit, b"commit");
    published("chain 1", &one.0);
    published("chain 2", &one.after(2, RowKind::Message, b"message").0);
}

#[test]
fn a_sealed_datagram() {
    let header = Header { connection: ConnectionId([8; 8]), packet_number: 5 };
    let mut datagram = header.encode().to_vec();
    Frame::Window { segments: 16 }.encode(&mut datagram).unwrap();
    SealKey::new([1; 32], [2; 12]).seal_datagram(5, HEADER_LEN, &mut datagram).unwrap();
    published("datagram", &datagram);
}

/// Keeps a tree's only parent.
struct Parent(Pair);

impl PairSink for Parent {
    type Error = std::convert::Infallible;

    fn put(&mut self, slot: u64, pair: &Pair) -> Result<(), Self::Error> {
        assert_eq!(slot, 0);
        self.0 = *pair;
        Ok(())
    }
}

struct File(Geometry);

impl Catalog for File {
    fn item(&self, item: u32) -> Option<Item<'_>> {
        (item == 0).then_some(Item { geometry: self.0, here: Here::Whole })
    }
}

#[test]
fn the_two_streams_of_a_transfer() {
    let file: Vec<u8> = (0..65_537u32).map(|n| (n % 251) as u8).collect();
    let geometry = Geometry::new(65_537).unwrap();
    let (mut hasher, mut parent) = (TreeHasher::new(geometry), Parent([0; 64]));
    hasher.push(&file, &mut parent).unwrap();
    published("root", &hasher.finish(&mut parent).unwrap());
    let (mut want, mut items) = (Vec::new(), Vec::new());
    Ask::Want { item: 0, first: 1, count: 1 }.encode(&mut want);
    Ask::Items { first: 1, count: 1000 }.encode(&mut items);
    published("want", &want);
    published("items", &items);
    let mut has = RangeSet::of(0..4);
    has.insert(16..300);
    let mut answers = Answers::new(65_537, u64::MAX);
    answers.announce(&has);
    answers.push(&want).unwrap();
    let end = answers.advance(&File(geometry)).unwrap();
    let mut stream = Vec::new();
    for part in answers.parts(0..end) {
        match part.source {
            PartSource::Bytes(bytes) => stream.extend_from_slice(bytes),
            PartSource::Pair { skip, .. } => stream.extend_from_slice(&parent.0[skip..skip + part.len]),
            PartSource::File { offset, .. } => stream.extend_from_slice(&file[offset as usize..][..part.len]),
        }
    }
    published("the holder's stream", &stream);
    let entry = |path: &[&str], size| Entry::new(path.iter().copied(), size, [7; 32]).unwrap();
    let manifest = Manifest::new(vec![entry(&["notes.txt"], 5), entry(&["b", "a"], 300)]).unwrap();
    published("manifest", &manifest.encode());
}
