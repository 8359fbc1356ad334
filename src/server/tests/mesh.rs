use super::linked::{Linked, identity, login, node, server_name, vouch};
use super::*;
use crate::group::{Direct, KeyPackages};
use crate::mesh::DownReason;
use crate::wire::frame::Away;
use crate::wire::relay::Head;

#[test]
fn people_of_other_servers_create_enter_speak_and_read_as_if_they_were_here() {
    let mut mesh = Linked::new(3);
    let (mut alice, mut bob) = (mesh.visitor(1, 0, 1, "alice"), mesh.visitor(2, 0, 2, "bob"));
    let mut carol = mesh.client(0, 3, "carol");
    mesh.create(&mut alice, RoomKind::Private);
    mesh.join(&mut bob, RoomKind::Private);
    mesh.catch(&mut alice);
    mesh.join(&mut carol, RoomKind::Private);
    mesh.catch(&mut alice);
    mesh.catch(&mut bob);
    assert!(matches!(mesh.say(&mut alice, "over two hops"), Reply::Sequenced { seq: 3, .. }));
    mesh.catch(&mut bob);
    mesh.catch(&mut carol);
    assert!(matches!(mesh.say(&mut carol, "and back"), Reply::Sequenced { .. }));
    mesh.catch(&mut alice);
    mesh.catch(&mut bob);
    assert_eq!(bob.texts, ["over two hops", "and back"]);
    assert_eq!(alice.texts, ["and back"]);
    let names: Vec<String> = bob.room.as_ref().unwrap().members().map(|m| m.name.to_string()).collect();
    assert_eq!(names, ["alice@s2", "bob@s3", "carol@s1"]);
}
