//! Which role may ask what: written out here a second time, and tried with every question at the socket, over TLS, and across the mesh.

use crate::admin::{Stage, binary};
use crate::harness::{DEADLINE, run};
use secchat::cli::drive::Server;
use secchat::crypto::identity::{Identity, PublicKey};
use secchat::net::link::{Dial, LinkReceiver, connect};
use secchat::net::queue::FrameSender;
use secchat::net::trust::Trust;
use secchat::wire::admin::{Answer, Ask, Failure, Registration, Role, Whom, Wish};
use secchat::wire::endpoint::Endpoint;
use secchat::wire::frame::{Code, Login, Push, Reply, Request, ToClient, ToServer, VERSION};
use secchat::wire::id::Id;
use secchat::wire::invite::Invite;
use secchat::wire::name::Name;
use secchat::wire::sharing::Limits;
use secchat::wire::vouch::Pass;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;
use tokio::time::timeout;

/// The least role for each question; each is one that changes nothing even where it is allowed.
fn table() -> Vec<(Role, Ask)> {
    let name = || "nobody".to_owned();
    let room = || "nowhere".to_owned();
    let none = || None::<String>;
    let kick = |room| Ask::Kick { name: name(), room, reason: None };
    let ban = |whom| Ask::Ban { whom, for_s: Some(1), reason: None, here: true };
    let restrict = Ask::Restrict {
        room: None,
        user: Some(name()),
        limits: Box::new(Limits { off: true, ..Limits::default() }),
        reason: None,
    };
    let moderator = [
        Ask::Users { after: None },
        Ask::Show { name: name() },
        Ask::Rooms { after: None },
        Ask::Room { room: room() },
        Ask::Bans { after: None },
        Ask::Mutes,
        Ask::Restrictions,
        Ask::Message { name: name(), text: "x".into() },
        kick(none()),
        kick(Some(room())),
        ban(Whom::Name(name())),
        ban(Whom::Fingerprint("7".repeat(64))),
        ban(Whom::Network("203.0.113.7".into())),
        Ask::Unban { id: "999".into() },
        Ask::Mute { name: name(), room: None, for_s: None, reason: None },
        Ask::Unmute { name: name(), room: None },
    ];
    let operator = [
        Ask::Mesh,
        Ask::Health,
        Ask::Stats,
        Ask::Settings,
        Ask::Allowed,
        Ask::Roles,
        Ask::Audit { before: None, limit: Some(1) },
        Ask::Broadcast { text: "x".into() },
        Ask::Allow { whom: name() },
        Ask::Disallow { whom: name() },
        Ask::Registration { mode: Registration::Open },
        Ask::Invitation { uses: Some(1), for_s: Some(1) },
        Ask::Release { name: name() },
        Ask::Close { room: room(), reason: None },
        Ask::Lock { room: room() },
        Ask::Unlock { room: room() },
        Ask::AskOwner { room: room(), wish: Wish::NewSecret },
        Ask::AskOwner { room: room(), wish: Wish::HandOver(name()) },
        restrict,
        Ask::Unrestrict { id: 999 },
        Ask::Defcon { level: 5 },
        Ask::Reload,
    ];
    let owner = [
        Ask::Grant { name: name(), role: Role::Moderator },
        Ask::Revoke { name: name() },
        Ask::Backup { file: "relative".into() },
        Ask::Stop,
    ];
    let rows = |role, asks: Vec<Ask>| asks.into_iter().map(move |ask| (role, ask));
    rows(Role::Moderator, moderator.into())
        .chain(rows(Role::Operator, operator.into()))
        .chain(rows(Role::Owner, owner.into()))
        .collect()
}

fn may_not(answer: &Answer) -> bool {
    matches!(answer, Answer::Failed { code: Failure::NotAllowed, .. })
}

/// Somebody on a link, perhaps to another server than the one that is asked.
struct Officer {
    identity: Identity,
    sender: FrameSender,
    receiver: LinkReceiver,
    access: PublicKey,
    through: Option<Name>,
    asked: u64,
}

impl Officer {
    async fn connect(server: &Server, seed: u8, name: &str) -> Self {
        let Invite { host, port, pin, server, .. } = Invite::parse(&server.invite).unwrap();
        let identity = Identity::from_seed(&[seed; 32]);
        let dial = Dial {
            endpoint: Endpoint { host, port },
            identity: identity.clone(),
            name: name.into(),
            instance: Id([seed; 16]),
            authority: None,
            trust: Trust { invite: Some((pin, server)), ..Trust::default() },
            homes: Vec::new(),
            token: None,
        };
        let (established, sender, receiver) = connect(&dial).await.unwrap();
        let mut officer = Self { identity, sender, receiver, access: established.server_key, through: None, asked: 0 };
        if name.starts_with("far") {
            officer.log_in_at("s1", name, established.welcome.cert.to_vec()).await;
        }
        officer
    }

    /// A session at another server of the mesh, through this one.
    async fn log_in_at(&mut self, server: &str, name: &str, cert: Vec<u8>) {
        self.through = Some(Name::parse(server).unwrap());
        let instance = Id([9; 16]);
        let until = secchat::net::clock::wall_ms() + 3_600_000;
        let pass = Pass::sign(&self.identity, &self.access, instance, until).to_bytes();
        let login = Login {
            version: VERSION,
            name: name.into(),
            instance,
            cert: Some(cert.into()),
            pass: Some(pass.into()),
            token: None,
        };
        let began = Instant::now();
        loop {
            self.send(ToServer::Login(login.clone()));
            // Until the servers have found each other the way is not there.
            match self.next().await {
                Some(ToClient::Welcome(_)) => return,
                Some(other) => panic!("{other:?}"),
                None => assert!(began.elapsed() < DEADLINE),
            }
        }
    }

    fn send(&self, frame: ToServer) {
        let frame = match &self.through {
            Some(server) => ToServer::At { server: server.clone(), frame: frame.to_bytes().into() },
            None => frame,
        };
        self.sender.send(frame.to_bytes().into()).unwrap();
    }

    /// The next frame of the server that is asked; `None` where the session there did not come about.
    async fn next(&mut self) -> Option<ToClient> {
        loop {
            let frame = timeout(DEADLINE, self.receiver.next()).await.unwrap().unwrap().unwrap();
            match frame {
                ToClient::From { frame, .. } => return Some(ToClient::from_bytes(&frame, 1 << 20).unwrap()),
                ToClient::Away { .. } => return None,
                ToClient::Push(Push::KeepAlive) => self.sender.send(ToServer::Alive.to_bytes().into()).unwrap(),
                frame if self.through.is_none() => return Some(frame),
                _ => {}
            }
        }
    }

    /// `None` where it is heard that there is no role at all.
    async fn ask(&mut self, ask: &Ask) -> Option<Answer> {
        self.asked += 1;
        let asked = self.asked;
        self.send(ToServer::Request { id: asked, body: Request::Admin { ask: serde_json::to_string(ask).unwrap() } });
        loop {
            match self.next().await {
                Some(ToClient::Reply { id, body: Reply::Admin(text) }) if id == asked => {
                    return Some(serde_json::from_str(&text).unwrap());
                }
                Some(ToClient::Reply { id, body: Reply::Refused(refusal) }) if id == asked => {
                    assert_eq!(refusal.code, Code::NotAllowed);
                    return None;
                }
                Some(_) => {}
                None => panic!("the session is gone"),
            }
        }
    }
}

/// At the admin socket, without the program around it.
fn at_the_socket(server: &Server, ask: &Ask) -> Answer {
    let mut stream = UnixStream::connect(server.data.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all((serde_json::to_string(ask).unwrap() + "\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

/// A sentence on each cell that is not as the table says.
async fn tried(server: &Server, officers: [&mut Officer; 3]) -> Vec<String> {
    let [nobody, moderator, operator] = officers;
    let mut wrong = Vec::new();
    for (least, ask) in table() {
        if nobody.ask(&ask).await.is_some() {
            wrong.push(format!("who has no role is answered {ask:?}"));
        }
        for (role, officer) in [(Role::Moderator, &mut *moderator), (Role::Operator, &mut *operator)] {
            let answer = officer.ask(&ask).await.unwrap();
            if may_not(&answer) == (role >= least) {
                wrong.push(format!("{} asks {ask:?}: {answer:?}", role.as_str()));
            }
        }
        if ask != Ask::Stop && may_not(&at_the_socket(server, &ask)) {
            wrong.push(format!("the owner may not ask {ask:?}"));
        }
    }
    wrong
}

fn grant(server: &Server, name: &str, role: Role) {
    let answer = at_the_socket(server, &Ask::Grant { name: name.into(), role });
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
}

#[tokio::test]
async fn each_role_may_ask_what_the_table_says_over_tls_and_at_the_socket() {
    let mut stage = Stage::new(&[]);
    let server = &stage.server;
    let mut nobody = Officer::connect(server, 1, "alice").await;
    let mut moderator = Officer::connect(server, 2, "bob").await;
    let mut operator = Officer::connect(server, 3, "carol").await;
    grant(server, "bob", Role::Moderator);
    grant(server, "carol", Role::Operator);
    let wrong = tried(server, [&mut nobody, &mut moderator, &mut operator]).await;
    assert_eq!(wrong, Vec::<String>::new());
    // What was tried stands in the log of acts, with what came of it; what only looks does not.
    let Answer::Audit(page) = at_the_socket(server, &Ask::Audit { before: None, limit: Some(250) }) else { panic!() };
    let acts =
        |who: &str, outcome: &str| page.rows.iter().filter(|row| row.who == who && row.outcome == outcome).count();
    assert_eq!(
        acts("bob@s1", "not_allowed"),
        table().iter().filter(|(least, ask)| *least > Role::Moderator && !looks(ask)).count()
    );
    assert_eq!((acts("carol@s1", "not_allowed"), acts("alice@s1", "not_allowed")), (4, 0));
    // A role that was taken counts no more, on a link that stands.
    let answer = at_the_socket(server, &Ask::Revoke { name: "carol".into() });
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    assert_eq!(operator.ask(&Ask::Roles).await, None);
    assert!(matches!(at_the_socket(server, &Ask::Stop), Answer::Done { .. }));
    assert_eq!(stage.server.process.wait_exit(DEADLINE).unwrap(), Some(0));
}

fn looks(ask: &Ask) -> bool {
    matches!(ask, Ask::Mesh | Ask::Health | Ask::Stats | Ask::Settings | Ask::Allowed | Ask::Roles | Ask::Audit { .. })
}

#[tokio::test]
async fn each_role_may_ask_what_the_table_says_across_the_mesh() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs").to_str().unwrap().to_owned();
    assert_eq!(run(dir.path(), &["cert", "init", &certs, "--mesh"]).0, 0);
    let start = |name: &str, more: &[&str]| {
        assert_eq!(run(dir.path(), &["cert", "issue", &certs, name]).0, 0);
        let vouched = format!("{certs}/{name}");
        Server::start(binary(), dir.path(), name, "127.0.0.1:0", &[&["--mesh-certs", &vouched], more].concat()).unwrap()
    };
    let one = start("s1", &["--mesh-listen", "127.0.0.1:0"]);
    let said = std::fs::read_to_string(dir.path().join("s1.log")).unwrap();
    let mesh = one.process.said().iter().find_map(|line| line.strip_prefix("mesh ").map(|at| at.trim().to_owned()));
    let two = start("s2", &["--link", &mesh.expect(&said)]);
    let mut nobody = Officer::connect(&two, 1, "far1").await;
    let mut moderator = Officer::connect(&two, 2, "far2").await;
    let mut operator = Officer::connect(&two, 3, "far3").await;
    grant(&one, "far2@s2", Role::Moderator);
    grant(&one, "far3@s2", Role::Operator);
    let wrong = tried(&one, [&mut nobody, &mut moderator, &mut operator]).await;
    assert_eq!(wrong, Vec::<String>::new());
}
