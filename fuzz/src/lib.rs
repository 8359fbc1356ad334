//! What each fuzz target does with its bytes. The ordinary test `corpus` runs the same functions over `corpus/`.
//!
//! A target says whether it took the bytes as well formed. Beyond not panicking it holds that what was read is written
//! back to something that reads the same.

pub mod exchange;
pub mod legs;
pub mod mesh;
pub mod peer;
pub mod relay;
pub mod rooms;

use secchat::client::commands;
use secchat::crypto::identity::PublicKey;
use secchat::crypto::keyfile;
use secchat::limits::{FRAME_MAX, FRAME_MAX_BEFORE_LOGIN, REFUSAL_DETAIL_MAX, SHARING_MAX, TEXT_MAX};
use secchat::transfer::restrict::{Compiled, Item, Maker, Rules, Used};
use secchat::wire::ban::{Page, SignedBan, Summary};
use secchat::wire::cert::NameCert;
use secchat::wire::datagram::Frames;
use secchat::wire::frame::{ToClient, ToServer};
use secchat::wire::id::Id;
use secchat::wire::invite::Invite;
use secchat::wire::name::{FullName, Name};
use secchat::wire::packet::Header;
use secchat::wire::payload::Envelope;
use secchat::wire::policy::Policy;
use secchat::wire::sharing::Document;

/// A target: whether it took the bytes as well formed.
pub type Target = fn(&[u8]) -> bool;

/// Every target by its name, which is also its folder beneath `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("to_server", to_server),
    ("to_client", to_client),
    ("envelope", envelope),
    ("name_cert", name_cert),
    ("policy", policy),
    ("name", name),
    ("invite", invite),
    ("keyfile", key_file),
    ("packet", packet),
    ("datagram", datagram),
    ("channel_sender", peer::against_sender),
    ("channel_receiver", peer::against_receiver),
    ("room", rooms::room),
    ("command", command),
    ("asks", exchange::asks),
    ("answers", exchange::answers),
    ("manifest", exchange::manifest),
    ("partial", exchange::partial),
    ("mesh_hello", mesh::hello),
    ("mesh_frame", mesh::frame),
    ("mesh_record", mesh::record),
    ("mesh_neighbour", mesh::neighbour),
    ("relay", relay::relay),
    ("leg", legs::leg),
    ("passing", legs::passing),
    ("ban", ban),
    ("sharing", sharing),
];

/// A frame from a client, before login and after.
pub fn to_server(data: &[u8]) -> bool {
    let Ok(frame) = ToServer::from_bytes(data, FRAME_MAX) else { return false };
    assert_eq!(ToServer::from_bytes(&frame.to_bytes(), FRAME_MAX).as_ref(), Ok(&frame));
    assert_eq!(ToServer::from_bytes(data, FRAME_MAX_BEFORE_LOGIN).is_ok(), data.len() <= FRAME_MAX_BEFORE_LOGIN);
    true
}

/// A frame from a server.
pub fn to_client(data: &[u8]) -> bool {
    let Ok(frame) = ToClient::from_bytes(data, FRAME_MAX) else { return false };
    assert_eq!(ToClient::from_bytes(&frame.to_bytes(), FRAME_MAX), Ok(frame));
    true
}

/// What stands inside a sealed message.
pub fn envelope(data: &[u8]) -> bool {
    let Ok(envelope) = Envelope::from_bytes(data) else { return false };
    assert_eq!(Envelope::from_bytes(&envelope.to_bytes()), Ok(envelope));
    true
}

/// A name certificate; nothing that the fuzzer makes is signed, so none may hold.
pub fn name_cert(data: &[u8]) -> bool {
    let Ok(cert) = NameCert::from_bytes(data) else { return false };
    assert_eq!(NameCert::from_bytes(&cert.to_bytes()).as_ref(), Ok(&cert));
    cert.check(&cert.server_key(), 0).ok();
    true
}

/// A room's policy.
pub fn policy(data: &[u8]) -> bool {
    let Ok(policy) = Policy::from_bytes(data) else { return false };
    assert_eq!(Policy::from_bytes(&policy.to_bytes()), Ok(policy));
    true
}

/// What a server does not want shared, its signature put aside: whatever the rules say, they judge a file.
pub fn sharing(data: &[u8]) -> bool {
    let Ok(document) = secchat::wire::decode::<Document>(data, SHARING_MAX) else { return false };
    assert_eq!(secchat::wire::decode(&secchat::wire::encode(&document), SHARING_MAX).as_ref(), Ok(&document));
    let maker = Maker::Server(document.server.clone());
    let sharer = (FullName::new(document.server.clone(), document.server.clone()), PublicKey::from_bytes([1; 32]));
    let rules = document.rules.into_iter().map(|rule| Compiled::new(maker.clone(), rule).into());
    let rules = Rules::among(rules, &[Id([7; 16])], sharer, &PublicKey::from_bytes([2; 32]), Used::default());
    let item = Item { name: "trip/Setup.EXE", folder: false, size: Some(1 << 40), root: Some(&[5; 32]) };
    for verdict in [rules.judge(&item), rules.judge_head(item.name, b"MZ"), rules.judge_amount(3, 1 << 40)] {
        let detail = verdict.map_err(|verdict| verdict.detail()).err().unwrap_or_default();
        assert!(detail.len() <= REFUSAL_DETAIL_MAX && detail.chars().all(secchat::wire::text::harmless));
    }
    true
}

/// A name as typed: what is left of it stays as it is.
pub fn name(data: &[u8]) -> bool {
    let Some(name) = std::str::from_utf8(data).ok().and_then(|text| Name::parse(text).ok()) else { return false };
    assert_eq!(Name::parse(name.as_str()).as_ref(), Ok(&name));
    assert!(!name.as_str().chars().any(char::is_control));
    true
}

/// An invite, as pasted.
pub fn invite(data: &[u8]) -> bool {
    let Some(invite) = std::str::from_utf8(data).ok().and_then(|text| Invite::parse(text).ok()) else { return false };
    assert_eq!(Invite::parse(&invite.to_url(true)).as_ref(), Ok(&invite));
    assert!(!Invite::parse(&invite.to_url(false)).unwrap().has_secret());
    true
}

/// An identity file, plain; opening a sealed one is Argon2's work and not of interest here.
pub fn key_file(data: &[u8]) -> bool {
    keyfile::is_sealed(data).ok();
    let Ok(identity) = keyfile::read(data, None) else { return false };
    let again = keyfile::read(keyfile::write_plain(&identity).as_bytes(), None).unwrap();
    assert_eq!(again.public(), identity.public());
    true
}

/// The header of a datagram as it comes from the network.
pub fn packet(data: &[u8]) -> bool {
    let Ok(header) = Header::decode(data) else { return false };
    assert!(data.starts_with(&header.encode()));
    true
}

/// The frames inside an opened datagram.
pub fn datagram(data: &[u8]) -> bool {
    let mut written = Vec::new();
    let mut whole = true;
    for frame in Frames::new(data) {
        match frame {
            Ok(frame) => frame.encode(&mut written).unwrap(),
            Err(_) => whole = false,
        }
    }
    assert!(written.len() <= data.len());
    assert_eq!(Frames::new(&written).filter(|f| f.is_err()).count(), 0);
    whole
}

/// A ban, some of them, or what is known of them; nothing that the fuzzer makes is signed.
pub fn ban(data: &[u8]) -> bool {
    let ban = SignedBan::from_bytes(data);
    if let Ok(ban) = &ban {
        assert_eq!(SignedBan::from_bytes(&ban.to_bytes()).as_ref(), Ok(ban));
        ban.verify().ok();
    }
    let (page, summary) = (Page::from_bytes(data), Summary::from_bytes(data));
    if let Ok(page) = &page {
        assert_eq!(Page::from_bytes(&page.to_bytes()).as_ref(), Ok(page));
    }
    if let Ok(summary) = &summary {
        assert_eq!(Summary::from_bytes(&summary.to_bytes()).as_ref(), Ok(summary));
    }
    ban.is_ok() || page.is_ok() || summary.is_ok()
}

/// A line of the user's, as typed or as a script's object. What is sent is never empty nor longer than allowed.
pub fn command(data: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(data) else { return false };
    let Ok((line, _)) = commands::read_line(line, false) else { return false };
    let Ok(command) = commands::parse(&line) else { return false };
    if let commands::Command::Say { text, .. } | commands::Command::Tell { text, .. } = &command {
        assert!(!text.trim().is_empty() && text.len() <= TEXT_MAX);
    }
    assert!(commands::spec(&command).is_some(), "{command:?} has no row in the table");
    true
}
