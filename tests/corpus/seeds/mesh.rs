//! Seeds for what a neighbour in the mesh sends.

use crate::fuzz::mesh::honest;
use secchat::crypto::identity::Identity;
use secchat::mesh::packet::{Frame, write_digest};
use secchat::wire::mesh_hello::{MeshHello, MeshRefusal};
use secchat::wire::name::Name;
use secchat::wire::vouch::NodeId;
use secchat::wire::vouch::ServerCert;

type Named = Vec<(&'static str, Vec<u8>)>;

pub fn frames() -> Named {
    let said = honest();
    let find = |wanted: fn(&Frame<'_>) -> bool| {
        said.iter().find(|bytes| Frame::read(bytes).is_ok_and(|frame| wanted(&frame))).unwrap().clone()
    };
    let data = find(|frame| matches!(frame, Frame::Data(_)));
    let mut nobody = data.clone();
    nobody[42] = 0;
    let parcel = find(|frame| matches!(frame, Frame::Parcel(_)));
    let cut = parcel[..80].to_vec();
    vec![
        ("ok-records", find(|frame| matches!(frame, Frame::Records(_)))),
        ("ok-digest", write_digest([(NodeId([7; 32]), 9)].into_iter())),
        ("ok-data", data),
        ("ok-parcel", parcel),
        ("bad-parcel-cut", cut),
        ("bad-nobody", nobody),
        ("bad-kind", vec![9; 40]),
    ]
}

pub fn records() -> Named {
    let said = honest();
    let records = said.iter().find_map(|bytes| match Frame::read(bytes) {
        Ok(Frame::Records(records)) => records.first().map(|(_, record)| record.to_vec()),
        _ => None,
    });
    vec![("ok-record", records.unwrap()), ("bad-short", vec![0; 70])]
}

pub fn neighbours() -> Named {
    let with_length = |frame: &Vec<u8>| [&(frame.len() as u16).to_le_bytes()[..], frame].concat();
    let all: Vec<u8> = honest().iter().flat_map(with_length).collect();
    vec![("ok-honest", all), ("bad-frame", with_length(&vec![3; 60]))]
}

pub fn hellos() -> Named {
    let (authority, server) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
    let name = Name::parse("s1").unwrap();
    let vouch = Some(ServerCert::issue(&authority, name.clone(), server.public(), 7));
    let hello = MeshHello { version: 1, name, vouch, instance: 9, parcels: None };
    vec![
        ("ok-hello", hello.to_bytes()),
        ("ok-no-vouch", MeshHello { vouch: None, ..hello }.to_bytes()),
        ("ok-refusal", MeshRefusal::NameTaken.to_bytes()),
        ("bad-long", vec![0x81; 600]),
    ]
}
