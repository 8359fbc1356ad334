//! Well-formed and malformed input for each fuzz target, made by the code itself.

#[path = "seeds/bans.rs"]
mod bans;
#[path = "seeds/legs.rs"]
mod legs;
#[path = "seeds/mesh.rs"]
mod mesh;
#[path = "seeds/relay.rs"]
mod relay;
#[path = "seeds/sharing.rs"]
mod sharing;
#[path = "seeds/transfer.rs"]
mod transfer;

use secchat::crypto::identity::{Fingerprint, Identity};
use secchat::crypto::keyfile;
use secchat::crypto::rsa_split::PublicPart;
use secchat::crypto::secret::Secret;
use secchat::wire::cert::NameCert;
use secchat::wire::datagram::{Ack, Close, CloseCode, Frame, Segment, SegmentRange};
use secchat::wire::frame::{
    Code, Hello, Login, Published, Push, Refusal, Reply, Request, RoomInfo, ToClient, ToServer, VERSION, Welcome,
};
use secchat::wire::id::Id;
use secchat::wire::invite::{Host, Invite, InvitedRoom};
use secchat::wire::log::{RemoveReason, Row, RowKind};
use secchat::wire::name::{FullName, Name};
use secchat::wire::packet::{ConnectionId, Header, MIN_DATAGRAM};
use secchat::wire::payload::{Arq, Body, Envelope, FileAnswer, FileKind, FileOffer, FileRefusal, FileRequest, FileRow};
use secchat::wire::policy::{Policy, RoomKind};
use std::net::Ipv6Addr;

/// A target, a file's name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// Every seed.
pub fn all() -> Vec<Seed> {
    let mut all = Vec::new();
    let mut add = |target: &'static str, seeds: Vec<(&str, Vec<u8>)>| {
        all.extend(seeds.into_iter().map(|(name, bytes)| (target, name.to_owned(), bytes)));
    };
    add("to_server", to_server());
    add("to_client", to_client());
    add("envelope", envelopes());
    add("name_cert", vec![("ok-cert", cert()), ("bad-name", crooked_cert())]);
    add("policy", policies());
    add("name", names());
    add("invite", invites());
    add("keyfile", key_files());
    add("packet", packets());
    add("datagram", datagrams());
    let end = Frame::Segment(Segment { number: 9, fin: true, ask: true, bytes: &[] });
    add("channel_sender", scripts(&[asks_for_path(), ack(0, 0), ack(0, 3)]));
    add("channel_receiver", scripts(&[asks_for_path(), segment(0), segment(1), segment(7), written(&end)]));
    add("room", rooms());
    add("command", commands());
    add("asks", transfer::asks());
    add("answers", transfer::answers());
    add("manifest", transfer::manifests());
    add("partial", transfer::partials());
    add("mesh_hello", mesh::hellos());
    add("mesh_frame", mesh::frames());
    add("mesh_record", mesh::records());
    add("mesh_neighbour", mesh::neighbours());
    add("relay", relay::messages());
    add("leg", legs::datagrams());
    add("passing", legs::passing());
    add("ban", bans::bans());
    add("sharing", sharing::documents());
    all
}

fn to_server() -> Vec<(&'static str, Vec<u8>)> {
    let login =
        Login { version: VERSION, name: "Bob".into(), instance: Id([1; 16]), cert: None, pass: None, token: None };
    let door = Some([7; 32].into());
    let commit = Request::Commit { room: room(), lease: Some(9), message: mls(), published: published(), door };
    let packages = Request::PublishKeyPackages { single: vec![mls(), mls()], last_resort: mls() };
    let direct = Request::CreateDirect { room: room(), peer: bob(), welcome: mls(), published: published() };
    let create = Request::CreateRoom { room: room(), door: None, published: published() };
    let mut seeds = vec![
        ("ok-login", ToServer::Login(login).to_bytes()),
        ("ok-goodbye", ToServer::Goodbye.to_bytes()),
        ("ok-alive", ToServer::Alive.to_bytes()),
        ("bad-empty", Vec::new()),
        ("bad-claimed-length", vec![0x82, 1, 0x82, 7, 0x82, 1, 0x82, 0x9b, 0, 0, 0, 1, 0, 0, 0, 0]),
    ];
    let requests = [
        ("ok-ping", Request::Ping),
        ("ok-key-packages", packages),
        ("ok-create", create),
        ("ok-direct", direct),
        ("ok-resolve", Request::Resolve { label: "lab".into() }),
        ("ok-enter", Request::Enter { room: room(), door }),
        ("ok-commit", commit),
        ("ok-leave", Request::Leave { room: room(), message: mls() }),
        ("ok-post", Request::Post { room: room(), message: mls() }),
        ("ok-log", Request::Log { room: room(), after: u64::MAX }),
        ("ok-operator", Request::Operator { text: "hello \u{1b}[31m".into() }),
    ];
    seeds.extend(requests.map(|(name, body)| (name, ToServer::Request { id: 300, body }.to_bytes())));
    seeds
}

fn to_client() -> Vec<(&'static str, Vec<u8>)> {
    let server = Identity::from_seed(&[1; 32]);
    let key = (*server.public().as_bytes()).into();
    let hello = Hello { version: VERSION, server: name("s1"), key, signature: [2; 64].into() };
    let welcome =
        Welcome { cert: cert().into(), seen_as: "[::1]:9".into(), stun_port: 3478, now_ms: 1 << 40, mesh: None };
    let refusal = Refusal::new(Code::NameTaken, "taken").hint("bob2");
    let chain = [9; 32].into();
    let entered = Reply::Entered { lease: 1, published: published(), seq: 5, chain, proposals: vec![mls()] };
    let rooms = vec![RoomInfo { room: FullName::new(name("lab"), name("s1")), id: room(), members: 3 }];
    let reply = |body| ToClient::Reply { id: 1, body }.to_bytes();
    let push = |body| ToClient::Push(body).to_bytes();
    vec![
        ("ok-hello", ToClient::Hello(hello).to_bytes()),
        ("ok-welcome", ToClient::Welcome(welcome).to_bytes()),
        ("ok-refused", ToClient::Refused(refusal.clone()).to_bytes()),
        ("ok-reply-done", reply(Reply::Done)),
        ("ok-reply-refused", reply(Reply::Refused(refusal))),
        ("ok-reply-sequenced", reply(Reply::Sequenced { seq: 3, time_ms: 4 })),
        ("ok-reply-resolved", reply(Reply::Resolved { room: room(), private: true })),
        ("ok-reply-entered", reply(entered)),
        ("ok-reply-log", reply(Reply::Log { rows: vec![row(), row()], live: true })),
        ("ok-reply-rooms", reply(Reply::Rooms(rooms))),
        ("ok-push-row", push(Push::Row { room: room(), row: row() })),
        ("ok-push-direct", push(Push::Direct { room: room(), welcome: mls(), tree: mls() })),
        ("ok-push-commit-now", push(Push::CommitNow { room: room(), epoch: 8 })),
        ("ok-push-bye", push(Push::Bye { reason: "draining".into(), detail: None })),
        ("bad-empty", Vec::new()),
        ("bad-unknown", vec![0x82, 0x18, 99, 0x80]),
    ]
}

fn envelopes() -> Vec<(&'static str, Vec<u8>)> {
    let file = FileRow {
        name: "a b.txt".into(),
        size: 0,
        root: Some([4; 32].into()),
        free_slots: 2,
        kind: FileKind::Folder,
        partial: true,
    };
    let modes = vec!["x25519+mlkem768".to_owned(), "x25519".to_owned()];
    let request = FileRequest {
        transfer: Id([1; 16]),
        file: "../../etc/passwd".into(),
        root: None,
        random: [1; 32].into(),
        x25519: [2; 32].into(),
        ml_kem: Some(vec![3; 1184].into()),
        modes: modes.clone(),
        connection: [4; 8].into(),
        candidates: vec!["192.0.2.1:9".into(), "[2001:db8::1]:9".into()],
        window: Some(16),
        arq: Arq::GoBackN,
        max_datagram: 65_507,
        kind: FileKind::Folder,
        offer: Some(Id([2; 16])),
        wait: true,
        rsa: Some(Box::new(PublicPart { n: [0xff; 384], y: [1; 35], x_hash: [2; 32] })),
        room: Some(Id([7; 16])),
    };
    let answer = FileAnswer {
        transfer: Id([1; 16]),
        root: [5; 32].into(),
        size: u64::MAX,
        random: [6; 32].into(),
        x25519: [7; 32].into(),
        ml_kem: Some(vec![8; 1088].into()),
        mode: "x25519+mlkem768".into(),
        modes,
        connection: [9; 8].into(),
        candidates: Vec::new(),
        confirm: [10; 32].into(),
        arq: Arq::SelectiveRepeat,
        max_datagram: 1_200,
        window: None,
        kind: FileKind::File,
        partial: true,
        left_out: 7,
    };
    let offer = FileOffer {
        offer: Id([2; 16]),
        name: "..\\x\u{202e}".into(),
        size: u64::MAX,
        root: [5; 32].into(),
        kind: FileKind::Folder,
        entries: u64::MAX,
        room: None,
    };
    let bodies = [
        ("ok-text", Body::Text("Grüße \u{202e}".into())),
        ("ok-whohas", Body::WhoHas { search: Id([3; 16]), pattern: "*.iso".into() }),
        ("ok-holds", Body::Holds { search: Id([3; 16]), rows: vec![file], more: 1 }),
        ("ok-request", Body::FileRequest(request)),
        ("ok-answer", Body::FileAnswer(answer)),
        ("ok-refused", Body::FileRefused { transfer: Id([1; 16]), reason: FileRefusal::Busy, detail: None }),
        ("ok-ping", Body::Ping { token: 1 }),
        ("ok-offer", Body::FileOffer(offer)),
        ("ok-offer-refused", Body::OfferRefused { offer: Id([2; 16]), full: true, detail: None }),
        ("ok-offer-withdrawn", Body::OfferWithdrawn { offer: Id([2; 16]) }),
        ("ok-queued", Body::FileQueued { transfer: Id([1; 16]), place: u32::MAX, seconds: Some(u64::MAX) }),
        ("ok-hashing", Body::FileHashing { transfer: Id([1; 16]), bytes: 2, total: 1 }),
        ("ok-given-up", Body::FileGivenUp { transfer: Id([1; 16]), detail: None }),
        ("ok-rotation", Body::RotationWanted { version: 2 }),
        ("ok-secret-wanted", Body::SecretWanted { version: 2 }),
        ("ok-secret", Body::NewSecret { version: 2, secret: "two words".into() }),
    ];
    let sealed = |body| {
        let (id, session, chain) = (Id([2; 16]), [3; 8].into(), [6; 32].into());
        Envelope { id, session, counter: 4, seen: 5, chain, body }.to_bytes()
    };
    bodies.map(|(name, body)| (name, sealed(body))).into()
}

fn cert() -> Vec<u8> {
    let server = Identity::from_seed(&[1; 32]);
    NameCert::issue(&server, bob(), Identity::from_seed(&[2; 32]).public(), 1000).to_bytes()
}

/// A name that is not in its normal form: `Bob`.
fn crooked_cert() -> Vec<u8> {
    let mut bytes = cert();
    let at = bytes.windows(3).position(|w| w == b"bob").unwrap();
    bytes[at] = b'B';
    bytes
}

fn policies() -> Vec<(&'static str, Vec<u8>)> {
    let owner = Identity::from_seed(&[3; 32]).public();
    let private = Policy::new(RoomKind::Private, "lab".into(), owner, Some(owner));
    vec![
        ("ok-public", Policy::new(RoomKind::Public, "lab".into(), owner, None).to_bytes()),
        ("ok-private", private.to_bytes()),
        ("ok-rotated", private.rotated(owner).to_bytes()),
        ("bad-private-without-key", Policy::new(RoomKind::Private, "lab".into(), owner, None).to_bytes()),
    ]
}

fn commands() -> Vec<(&'static str, Vec<u8>)> {
    let lines = [
        ("ok-say", "hello all"),
        ("ok-tell", "@bob@s2 hi there"),
        ("ok-pipes", "@bob|getfile|a b.txt"),
        ("ok-any", "@any getfile \"a b.txt\""),
        ("ok-search", "@all whohas *.iso"),
        ("ok-room", "@#den grüße"),
        ("ok-create", "/create lab --private"),
        ("ok-kick", "/kick @bob too loud"),
        ("ok-owner", "/owner bob@s2"),
        ("bad-password", "/password swordfish"),
        ("ok-share", "@me setshare a.txt"),
        ("ok-window", "@me setwindowsize 64"),
        ("ok-slash", "//not a command"),
        ("ok-object", "{\"cmd\":\"@server ping\",\"tag\":\"7\"}"),
        ("ok-quit", "quit()"),
        ("bad-empty", "   "),
        ("bad-unknown", "/frobnicate"),
        ("bad-nobody", "@ hello"),
        ("bad-window", "@me setwindowsize -1"),
    ];
    lines.map(|(name, line)| (name, line.as_bytes().to_vec())).into()
}

fn names() -> Vec<(&'static str, Vec<u8>)> {
    let texts = [("ok-plain", "Bob"), ("ok-wide", "Ｂｏｂ"), ("ok-accent", "jo\u{301}zef"), ("bad-space", "b ob")];
    let mut seeds: Vec<_> = texts.map(|(name, text)| (name, text.as_bytes().to_vec())).into();
    seeds.push(("bad-bidi", "bob\u{202e}".as_bytes().to_vec()));
    seeds.push(("bad-utf8", vec![b'b', 0xff]));
    seeds
}

fn invites() -> Vec<(&'static str, Vec<u8>)> {
    let secret = Some(Secret::new("seven words & a=b").unwrap());
    let room = InvitedRoom { label: name("lab"), id: [8; 16], secret };
    let host = Host::V6(Ipv6Addr::LOCALHOST);
    let invite = Invite { host, port: 7777, pin: Fingerprint([9; 32]), server: name("s1"), room: Some(room) };
    vec![
        ("ok-room", invite.to_url(true).as_bytes().to_vec()),
        ("ok-server", Invite { room: None, ..invite }.to_url(false).as_bytes().to_vec()),
        ("bad-scheme", b"https://example.org:1/?pin=00".to_vec()),
        ("bad-percent", b"secchat://h:1/?pin=%f&name=%".to_vec()),
    ]
}

fn key_files() -> Vec<(&'static str, Vec<u8>)> {
    let plain = keyfile::write_plain(&Identity::from_seed(&[4; 32]));
    let costly = format!(
        "secchat identity v1\nargon2id 4294967295 1 1 {}\nsealed {} {}\n",
        "0".repeat(32),
        "0".repeat(24),
        "0".repeat(96)
    );
    vec![("ok-plain", plain.as_bytes().to_vec()), ("bad-costly", costly.into_bytes()), ("bad-empty", Vec::new())]
}

fn packets() -> Vec<(&'static str, Vec<u8>)> {
    let mut whole = Header { connection: ConnectionId([1; 8]), packet_number: 2 }.encode().to_vec();
    whole.resize(MIN_DATAGRAM, 3);
    let short = whole[..MIN_DATAGRAM - 1].to_vec();
    vec![("ok-smallest", whole), ("bad-short", short), ("bad-stun", vec![0; 20])]
}

fn datagrams() -> Vec<(&'static str, Vec<u8>)> {
    let close = Frame::Close(Close { code: CloseCode::CANCELLED, reason: "enough" });
    let frames = [asks_for_path(), ack(9, 4), written(&close), written(&Frame::Handshake(b"key"))];
    let sizes = [written(&Frame::SizeProbe(1_452)), written(&Frame::SizeConfirmed(8_900))];
    let window = written(&Frame::Window { segments: u32::MAX });
    vec![
        ("ok-all", [frames.concat(), window, written(&Frame::Ping), sizes.concat(), segment(3)].concat()),
        ("ok-padding", vec![0; 40]),
        ("bad-type", vec![0x7f]),
        ("bad-ack-count", [&written(&Frame::Ping)[..], &[2], &[0; 20], &[255; 9]].concat()),
    ]
}

/// A sound peer's datagrams with pauses between; which frames are sound depends on the end that they go to.
fn scripts(datagrams: &[Vec<u8>]) -> Vec<(&'static str, Vec<u8>)> {
    let mut script = Vec::new();
    for frames in datagrams {
        script.push(u8::try_from(frames.len()).unwrap());
        script.extend_from_slice(frames);
        script.push(0xe8);
    }
    vec![("script", script), ("silence", vec![0xef; 20])]
}

/// What is whole, for those who can be asked again and again; damage here and there for everybody.
fn rooms() -> Vec<(&'static str, Vec<u8>)> {
    let whole = [("ok-commit", 3), ("ok-message", 5), ("ok-join", 6), ("ok-welcome", 8), ("ok-key-package", 10)];
    let mut seeds: Vec<_> = whole.map(|(name, choice)| (name, vec![choice])).into();
    let places: Vec<u8> = (0..40u16).flat_map(|n| [&(n * 31).to_be_bytes()[..], &[1 << (n % 8)]].concat()).collect();
    let names = [
        "member-message",
        "member-commit",
        "member-proposal",
        "server-commit",
        "server-info",
        "server-message",
        "newcomer-info",
        "newcomer-tree",
        "peer-welcome",
        "peer-tree",
        "package",
        "raw-member",
        "raw-server",
        "raw-newcomer",
    ];
    seeds.extend((0..).zip(names).map(|(choice, name)| (name, [&[choice], &places[..]].concat())));
    seeds
}

fn asks_for_path() -> Vec<u8> {
    [written(&Frame::PathChallenge([1; 8])), written(&Frame::PathResponse([2; 8]))].concat()
}

fn ack(largest: u64, cumulative: u64) -> Vec<u8> {
    let ranges = vec![SegmentRange { start: cumulative + 2, end: cumulative + 3 }];
    written(&Frame::Ack(Ack { largest, delay_micros: 5, ce: 0, cumulative, ranges }))
}

fn segment(number: u64) -> Vec<u8> {
    written(&Frame::Segment(Segment { number, fin: false, ask: false, bytes: &[7; 150] }))
}

fn written(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out).unwrap();
    out
}

fn row() -> Row {
    let reason = Some(RemoveReason::Kicked);
    Row { seq: 1, time_ms: 2, kind: RowKind::Proposal, bytes: mls(), reason }
}

fn published() -> Published {
    Published { epoch: 3, group_info: mls(), tree: mls(), vouch: Some([6; 64].into()) }
}

fn mls() -> minicbor::bytes::ByteVec {
    vec![9; 40].into()
}

fn room() -> Id {
    Id([3; 16])
}

fn bob() -> FullName {
    FullName::new(name("bob"), name("s1"))
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}
