use super::*;

fn tell(to: &str, text: &str) -> Command {
    Command::Tell { to: to.into(), text: text.into() }
}

fn get(from: Option<&str>, file: &str) -> Command {
    let (file, kind) = (file.into(), FileKind::File);
    Command::GetFile { from: from.map(Into::into), file, kind }
}

fn say_to(room: Option<&str>, text: &str) -> Command {
    Command::Say { room: room.map(Into::into), text: text.into() }
}

#[test]
fn each_form_of_a_command_is_the_same_command() {
    let same: &[(&[&str], Command)] = &[
        (&["hello all", "@all hello all", "@all|hello all", "/all hello all"], say_to(None, "hello all")),
        (&["@#den hi", "@#den|hi"], say_to(Some("den"), "hi")),
        (&["@bob hi there", "@bob|hi there", "/msg bob hi there", "/msg @bob hi there"], tell("bob", "hi there")),
        (&["@bob@s2 hi"], tell("bob@s2", "hi")),
        (
            &["@bob getfile a b.txt", "@bob|getfile|a b.txt", "/getfile bob a b.txt", "@bob getfile \"a b.txt\""],
            get(Some("bob"), "a b.txt"),
        ),
        (&["@any getfile x", "@any|getfile|x", "/get any x", "/getfile @any 'x'"], get(None, "x")),
        (
            &["@bob getfile my photos/", "@bob|getfile|'my photos/'"],
            Command::GetFile { from: Some("bob".into()), file: "my photos".into(), kind: FileKind::Folder },
        ),
        (
            &["@bob sendfile ~/a b/", "@bob|sendfile|~/a b/", "/sendfile @bob \"~/a b/\""],
            Command::SendFile { to: "bob".into(), path: "~/a b/".into() },
        ),
        (&["@me accept 3f", "/accept 3f"], Command::Accept { id: "3f".into() }),
        (&["@me grant bob", "@me grant @bob"], Command::Grant { name: "bob".into() }),
        (&["@me setwindowsize 32"], Command::Window(Some(32))),
        (&["@me setrate up 20mbit"], Command::Rate { way: Way::Up, limit: Some(2_500_000) }),
        (&["@me setrate down off"], Command::Rate { way: Way::Down, limit: None }),
        (&["@me setwindowsize auto"], Command::Window(None)),
        (&["@all whohas *.iso", "@all|whohas|*.iso", "/whohas *.iso"], Command::WhoHas { pattern: "*.iso".into() }),
        (&["@server ping", "@server|ping", "/ping"], Command::PingServer),
        (&["@bob ping", "/ping bob"], Command::Ping { to: "bob".into() }),
        (&["@server get_rooms", "/rooms", "/get_rooms"], Command::Rooms),
        (&["@server exit", "quit()", "!q", "exit", "/quit", "/exit"], Command::Quit),
        (&["@me setmaxuploads 3", "@me|setmaxuploads|3", "/setmaxuploads 3"], Command::MaxUploads(3)),
        (&["/join #den", "/join den"], Command::Join { room: "den".into() }),
        (
            &["/kick bob too  loud", "/kick @bob too  loud"],
            Command::Govern(Deed::Kick { name: "bob".into(), reason: Some("too  loud".into()) }),
        ),
        (&["/ban bob@s2", "/ban @bob@s2"], Command::Govern(Deed::Ban { name: "bob@s2".into() })),
        (&["/topic what we read"], Command::Govern(Deed::Topic { text: "what we read".into() })),
        (&["/topic --none"], Command::Govern(Deed::Topic { text: String::new() })),
        (&["/password --own"], Command::Govern(Deed::Password { own: true })),
    ];
    for (lines, command) in same {
        for line in *lines {
            assert_eq!(parse(line).as_ref(), Ok(command), "{line}");
        }
    }
}

#[test]
fn text_that_looks_like_a_command_stays_text() {
    assert_eq!(parse("@bob ping me later"), Ok(tell("bob", "ping me later")));
    assert_eq!(parse("@bob a|b"), Ok(tell("bob", "a|b")));
    assert_eq!(parse("@bob|hi|there"), Ok(tell("bob", "hi|there")));
    assert_eq!(parse("//shrug"), Ok(say_to(None, "/shrug")));
    assert_eq!(parse("@server please help"), Ok(Command::Operator { text: "please help".into() }));
}

#[test]
fn empty_and_unknown_lines_are_refused() {
    for empty in ["", "   ", "@all", "@all|", "@bob", "@bob|  ", "@#den", "@server"] {
        assert_eq!(parse(empty), Err(ParseError::Empty), "{empty:?}");
    }
    for unknown in ["/nonsense", "@me sendfile x"] {
        assert!(matches!(parse(unknown), Err(ParseError::Unknown(_))), "{unknown}");
    }
    for usage in [
        "@",
        "@any hello",
        "@bob getfile",
        "@bob getfile /",
        "@bob sendfile",
        "/create",
        "/create den --hidden",
        "@me setwindowsize 0",
        "/help_",
    ] {
        assert!(parse(usage).is_err(), "{usage}");
    }
    assert_eq!(parse(&"x".repeat(TEXT_MAX + 1)), Err(ParseError::TooLong));
}

#[test]
fn each_row_is_reached_by_its_slash() {
    for spec in TABLE {
        let line =
            ["", " x", " 1", " x y", " up off"].iter().find_map(|args| parse(&format!("/{}{args}", spec.name)).ok());
        let found = super::spec(&line.unwrap_or_else(|| panic!("{}", spec.name))).unwrap();
        assert_eq!(found.name, spec.name);
    }
}

#[test]
fn quotes_keep_blanks_at_the_ends_of_a_name() {
    for (line, file, kind) in [
        (r#"@bob getfile " a b ""#, " a b ", FileKind::File),
        (r#"@any getfile " dir /""#, " dir ", FileKind::Folder),
        (r#"@bob|getfile|""a"""#, r#""a""#, FileKind::File),
    ] {
        let Ok(Command::GetFile { file: read, kind: of, .. }) = parse(line) else { panic!("{line}") };
        assert_eq!((read.as_str(), of), (file, kind));
    }
}

#[test]
fn a_script_line_may_be_an_object() {
    for program in [false, true] {
        let said = read_line(r#"{"cmd":"@all hi","tag":"7"}"#, program);
        assert_eq!(said, Ok(("@all hi".into(), Some("7".into()))));
        let secret = read_line(r#"{"cmd":"@bob secret""#, program);
        assert_eq!(secret, Err(ParseError::Json), "it is not said to the room");
    }
    assert_eq!(read_line("{not json", false), Ok(("{not json".into(), None)));
    for bad in ["{not json", r#"{"command":"@bob secret"}"#, " {}"] {
        assert_eq!(read_line(bad, true), Err(ParseError::Json), "{bad}");
    }
}
