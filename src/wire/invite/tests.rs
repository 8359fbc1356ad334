use super::*;
use proptest::prelude::*;

const PIN: &str = "pin=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn full() -> String {
    format!(
        "secchat://chat.example.org:7667/?{PIN}&name=home&room=cellar&id=000102030405060708090a0b0c0d0e0f&secret=a-b%20%26c"
    )
}

fn refused(text: &str) -> InviteError {
    Invite::parse(text).expect_err(text)
}

#[test]
fn a_full_invite_reads_and_prints_with_or_without_its_secret() {
    let invite = Invite::parse(&format!("  {}\n", full())).unwrap();
    assert_eq!((invite.host.clone(), invite.port), (Host::Name("chat.example.org".into()), 7667));
    assert_eq!(invite.server.as_str(), "home");
    let room = invite.room.as_ref().unwrap();
    assert_eq!((room.label.as_str(), room.id[15]), ("cellar", 15));
    assert_eq!(room.secret.as_ref().unwrap().expose(), "a-b &c");
    assert!(invite.has_secret());
    assert_eq!(*invite.to_url(true), full());
    let bare = invite.to_url(false);
    assert!(!bare.contains("secret") && !bare.contains("a-b"));
    assert!(!Invite::parse(&bare).unwrap().has_secret());
    assert!(!format!("{invite:?}").contains("a-b"));
}

#[test]
fn hosts_may_be_names_or_addresses() {
    let host = |text: &str| Invite::parse(&format!("secchat://{text}:1/?{PIN}&name=s")).map(|invite| invite.host);
    assert_eq!(host("[2001:db8::1]"), Ok(Host::V6("2001:db8::1".parse().unwrap())));
    assert_eq!(host("[2001:db8::1]").unwrap().to_string(), "[2001:db8::1]");
    assert_eq!(host("192.0.2.7"), Ok(Host::V4(Ipv4Addr::new(192, 0, 2, 7))));
    assert_eq!(host("LocalHost"), Ok(Host::Name("localhost".into())));
    for bad in ["", "::1", "[::1", "[fe80::1%eth0]", "a b", "-a", "a..b", "1.2.3", "256.1.1.1", "bob@host", "é", "[]"]
    {
        assert_eq!(host(bad), Err(InviteError::Host), "{bad}");
    }
    assert_eq!(host(&"a".repeat(64)), Err(InviteError::Host));
    assert!(host(&["a"; 127].join(".")).is_ok());
    assert_eq!(host(&["a"; 128].join(".")), Err(InviteError::Host));
}

#[test]
fn each_fault_has_its_name() {
    let with = |rest: &str| refused(&format!("secchat://h:1/?{PIN}{rest}"));
    assert_eq!(refused("https://h:1/"), InviteError::Shape);
    assert_eq!(refused("secchat://h/?"), InviteError::Shape);
    for port in ["0", "65536", "+1", "x", "", "1/x"] {
        assert_eq!(refused(&format!("secchat://h:{port}/?{PIN}&name=s")), InviteError::Port, "{port}");
    }
    assert_eq!(refused("secchat://h:1/?name=s"), InviteError::Missing("pin"));
    assert_eq!(refused("secchat://h:1/?name=s&pin=00"), InviteError::Part("pin"));
    assert_eq!(with(""), InviteError::Missing("name"));
    assert_eq!(with("&name=a%0ab"), InviteError::Part("name"));
    assert_eq!(with("&name=s&name=t"), InviteError::Twice("name"));
    assert_eq!(with("&name=s&room=r"), InviteError::Missing("id"));
    assert_eq!(with("&name=s&secret=r"), InviteError::Missing("room"));
    assert_eq!(with("&name=s&room=r&id=+0102030405060708090a0b0c0d0e0f0"), InviteError::Part("id"));
    assert_eq!(with("&name=s&room=r&id=000102030405060708090a0b0c0d0e0f&secret="), InviteError::Part("secret"));
    for bad in ["%", "%4", "%zz", "%ff"] {
        assert_eq!(with(&format!("&name={bad}")), InviteError::Encoding, "{bad}");
    }
    assert_eq!(refused(&"x".repeat(INVITE_MAX + 1)), InviteError::TooLong);
}

#[test]
fn the_longest_of_everything_fits() {
    let name = Name::parse(&"日".repeat(crate::limits::NAME_MAX / 3)).unwrap();
    let secret = Secret::new(&"%".repeat(crate::crypto::secret::SECRET_MAX)).ok();
    let room = Some(InvitedRoom { label: name.clone(), id: [0xff; 16], secret });
    let host = Host::Name([&"a".repeat(63); 4].map(|label| label.as_str()).join(".")[..HOST_MAX].to_owned());
    let invite = Invite { host, port: 65535, pin: Fingerprint([0xff; 32]), server: name, room };
    let url = invite.to_url(true);
    assert_eq!((url.capacity(), Invite::parse(&url)), (INVITE_MAX, Ok(invite)));
}

#[test]
fn unknown_parts_are_skipped() {
    let invite = Invite::parse(&format!("secchat://h:1?new=%zz&{PIN}&flag&name=s")).unwrap();
    assert_eq!(*invite.to_url(true), format!("secchat://h:1/?{PIN}&name=s"));
}

#[test]
fn truncations_never_pass_for_the_whole() {
    let (full, whole) = (full(), Invite::parse(&full()).unwrap());
    for len in 0..full.len() {
        assert_ne!(Invite::parse(&full[..len]).as_ref(), Ok(&whole), "{len}");
    }
}

fn hosts() -> impl Strategy<Value = Host> {
    prop_oneof![
        "[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9]{0,9}){0,3}".prop_map(Host::Name),
        any::<u32>().prop_map(|bits| Host::V4(bits.into())),
        any::<u128>().prop_map(|bits| Host::V6(bits.into())),
    ]
}

fn names() -> impl Strategy<Value = Name> {
    "[a-zéж日][a-z0-9._-]{0,11}".prop_map(|text| Name::parse(&text).unwrap())
}

fn rooms() -> impl Strategy<Value = InvitedRoom> {
    let secret = prop::option::of(any::<String>().prop_filter_map("a secret", |text| Secret::new(&text).ok()));
    (names(), any::<[u8; 16]>(), secret).prop_map(|(label, id, secret)| InvitedRoom { label, id, secret })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(
        host in hosts(), port in 1..=u16::MAX, pin in any::<[u8; 32]>(), server in names(), room in prop::option::of(rooms()),
    ) {
        let invite = Invite { host, port, pin: Fingerprint(pin), server, room };
        let url = invite.to_url(true);
        prop_assert!(url.is_ascii() && url.len() <= INVITE_MAX && !url.contains(char::is_whitespace));
        prop_assert_eq!(Invite::parse(&url), Ok(invite));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(secchat://)?[a-z:/?&=%\\[\\]é0-9]{0,60}") {
        let _ = Invite::parse(&text);
    }
}
