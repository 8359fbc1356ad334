//! What servers say to each other about clients.

use crate::fuzz::relay::{guest, packed};
use secchat::wire::ban::Summary;
use secchat::wire::frame::{Push, Request, ToClient, ToServer};
use secchat::wire::relay::Head;

fn summary() -> Vec<u8> {
    Summary::default().to_bytes()
}

pub fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let ping = ToServer::Request { id: 1, body: Request::Ping }.to_bytes();
    let rooms = ToServer::Request { id: 2, body: Request::Rooms }.to_bytes();
    let notice = ToClient::Push(Push::Notice { text: "x".into() }).to_bytes();
    let visit = [
        packed(&Head::Open { client: 2, source: [9; 16].into() }, &guest(7).to_bytes()),
        packed(&Head::Frame { client: 2 }, &ping),
        packed(&Head::Frame { client: 1 }, &rooms),
        packed(&Head::Gone { client: 2 }, &[]),
    ];
    let answers = [
        packed(&Head::ToClients { clients: vec![1, 1, 2] }, &notice),
        packed(&Head::Closed { client: 1 }, &[]),
        packed(&Head::Closed { client: 1 }, &[]),
    ];
    let bans = [packed(&Head::BansKnown, &summary()), packed(&Head::Bans, &[0]), packed(&Head::BansKnown, &[0xff])];
    vec![
        ("ok-bans", bans.concat()),
        ("ok-a-visit", visit.concat()),
        ("ok-answers", answers.concat()),
        ("bad-no-head", vec![0, 1, 0, 0, 7]),
    ]
}
