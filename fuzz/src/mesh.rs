//! What a neighbour in the mesh sends.

use secchat::crypto::identity::Identity;
use secchat::mesh::packet::{FRAME_MAX, Frame, write_digest, write_records};
use secchat::mesh::record::{Record, Statement, number_at};
use secchat::mesh::{LinkId, Node, NodeConfig, Output, PeerProof};
use secchat::wire::mesh_hello::{MeshHello, MeshRefusal};
use secchat::wire::name::Name;
use secchat::wire::vouch::ServerTrust;
use std::time::Duration;

/// The Unix clock at [`NOW`].
pub const WALL: u64 = 1_800_000_000_000;
const NOW: Duration = Duration::from_secs(1);

/// What a server says before it is linked.
pub fn hello(data: &[u8]) -> bool {
    let refusal = MeshRefusal::from_bytes(data);
    if let Ok(refusal) = refusal {
        assert_eq!(MeshRefusal::from_bytes(&refusal.to_bytes()), Ok(refusal));
    }
    let Ok(hello) = MeshHello::from_bytes(data) else { return refusal.is_ok() };
    assert_eq!(MeshHello::from_bytes(&hello.to_bytes()).as_ref(), Ok(&hello));
    true
}

/// A frame on a link.
pub fn frame(data: &[u8]) -> bool {
    let Ok(frame) = Frame::read(data) else { return false };
    match frame {
        Frame::Records(records) => {
            let written = write_records(records.iter().copied(), FRAME_MAX);
            assert!(written.len() <= 1 && written.first().is_none_or(|written| written == data));
        }
        Frame::Digest(numbers) => assert_eq!(write_digest(numbers.into_iter()), data),
        Frame::Data(frame) => {
            let mut written = Vec::new();
            frame.write_part(&mut written, &vec![true; frame.targets.len()]);
            let Ok(Frame::Data(again)) = Frame::read(&written) else { panic!("what is passed on is malformed") };
            assert_eq!((again.origin, again.instance, &again.targets), (frame.origin, frame.instance, &frame.targets));
            let bodies =
                |frame: &secchat::mesh::packet::Data<'_>| frame.messages().map(|m| m.body.len()).sum::<usize>();
            assert_eq!(bodies(&again), bodies(&frame));
        }
        Frame::Parcel(parcel) => assert!(data.ends_with(parcel.body) && data.len() == PARCEL_HEAD + parcel.body.len()),
    }
    true
}

/// A record; nothing that the fuzzer makes is signed.
pub fn record(data: &[u8]) -> bool {
    let Ok(record) = Record::read(data) else { return false };
    assert_eq!(Record::read(record.bytes()).as_ref(), Ok(&record));
    record.verify().ok();
    record.is_plausible(WALL);
    true
}

/// Frames of a neighbour one after the other, each with its length before it in two bytes: it is sound as long as none
/// ends the link.
pub fn neighbour(data: &[u8]) -> bool {
    let mut node = node();
    let (mut rest, mut sound, mut said) = (data, true, 0);
    while let Some(([a, b], later)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*a, *b])).min(later.len());
        let (frame, later) = later.split_at(len);
        sound &= node.frame(NOW, LINK, frame).is_ok();
        rest = later;
        while let Some(output) = node.poll() {
            if let Output::Transmit { frame, .. } = output {
                said += frame.len();
            }
        }
    }
    assert!(said <= data.len() * 8 + 4096, "{said} bytes said for {}", data.len());
    sound && rest.is_empty()
}

/// What an honest neighbour says first: its record, then one message and one parcel.
pub fn honest() -> Vec<Vec<u8>> {
    let (ours, theirs) = (identity(1), identity(2));
    let mut node = Node::new(config(&theirs, "s2"), NOW, WALL, [2; 32]);
    node.link_up(NOW, LINK, proof(&ours, "s1")).unwrap();
    let mut said = Statement::new(&ours, name("s1"), None, number_at(WALL));
    (said.number, said.issued_ms) = (number_at(WALL), WALL);
    said.neighbours = vec![secchat::mesh::record::Neighbour::new(node.id(), 1000)];
    let record = Record::sign(&ours, said);
    let answer = write_records([(0, &**record.bytes())].into_iter(), FRAME_MAX);
    let mut frames = drained(&mut node);
    node.frame(NOW, LINK, &answer[0]).unwrap();
    frames.extend(drained(&mut node));
    let to = secchat::mesh::NodeId::of(&ours.public());
    node.send(NOW, &[(to, vec![1, 2])], vec![3; 40].into());
    assert!(node.send_parcel(NOW, to, &[4; 40]));
    frames.extend(drained(&mut node));
    frames
}

fn drained(node: &mut Node) -> Vec<Vec<u8>> {
    let transmitted = |output| match output {
        Output::Transmit { frame, .. } => Some(frame.to_vec()),
        _ => None,
    };
    std::iter::from_fn(|| node.poll()).filter_map(transmitted).collect()
}

fn node() -> Node {
    let mut node = Node::new(config(&identity(1), "s1"), NOW, WALL, [1; 32]);
    node.link_up(NOW, LINK, proof(&identity(2), "s2")).unwrap();
    while node.poll().is_some() {}
    node
}

/// Kind, links left, two ids, three numbers, tag.
const PARCEL_HEAD: usize = 2 + 2 * 32 + 3 * 8 + 16;
const LINK: LinkId = LinkId(1);

fn identity(n: u8) -> Identity {
    Identity::from_seed(&[n; 32])
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn proof(of: &Identity, named: &str) -> PeerProof {
    PeerProof { key: of.public(), name: name(named), vouch: None, instance: number_at(WALL), parcels: true }
}

fn config(of: &Identity, named: &str) -> NodeConfig {
    let listed = [("s1", 1), ("s2", 2)].map(|(named, n)| (name(named), identity(n).public().fingerprint())).to_vec();
    NodeConfig {
        identity: of.clone(),
        name: name(named),
        vouch: None,
        trust: ServerTrust { authorities: Vec::new(), listed },
        endpoints: vec!["a.example:7000".into()],
        instance: number_at(WALL),
        queue_bytes: 1 << 20,
    }
}
