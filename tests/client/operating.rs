//! Questions of an operator, through the client that runs.

use crate::world::World;
use secchat::client::effects::Input;
use secchat::server;
use secchat::wire::admin::{Answer, Ask, Failure, Role};
use secchat::wire::frame::{Reply, ToClient};
use secchat::wire::name::Name;

impl World {
    fn asks(&mut self, client: usize, server: Option<&str>, ask: Ask) {
        let server = server.map(|name| Name::parse(name).unwrap());
        self.feed(client, Input::Admin { tag: "t".into(), server, ask: Box::new(ask) });
        self.run();
    }
}

#[test]
fn the_answer_of_the_server_comes_back_and_the_session_stays() {
    let mut world = World::of(&["alice", "bob"]);
    world.asks(1, Some("s1"), Ask::Roles);
    assert!(matches!(&world.clients[1].answers[0].1, Answer::Failed { code: Failure::NotAllowed, .. }));
    let grant = Ask::Grant { name: "bob".into(), role: Role::Operator };
    world.feed_server(0, server::Input::Asked { ticket: 1, ask: Box::new(grant) });
    world.asks(1, Some("s1"), Ask::Roles);
    let (tag, answer) = &world.clients[1].answers[1];
    assert!(tag == "t" && matches!(answer, Answer::Roles(page) if page.rows[0].name == "bob@s1"), "{answer:?}");
    assert!(world.clients[1].exit.is_none() && world.clients[1].errors().is_empty());
}

#[test]
fn a_server_that_was_not_met_or_is_not_there_is_not_asked() {
    let mut world = World::of(&["alice"]);
    world.asks(0, None, Ask::Roles);
    world.asks(0, Some("elsewhere"), Ask::Roles);
    assert_eq!(world.clients[0].errors(), ["other_server", "not_connected"]);
    assert!(world.clients[0].answers.is_empty());
}

/// Whatever the server writes stands on one line of its own, or nowhere.
#[test]
fn what_is_no_answer_is_not_passed_on() {
    let mut world = World::of(&["alice"]);
    world.mangler = Box::new(|_, frame| match frame {
        ToClient::Reply { id, body: Reply::Admin(_) | Reply::Refused(_) } => {
            vec![ToClient::Reply { id, body: Reply::Admin("{\"answer\":\"stats\"}\n{\"done\":0}".into()) }]
        }
        frame => vec![frame],
    });
    world.asks(0, Some("s1"), Ask::Stats);
    assert_eq!(world.clients[0].errors(), ["protocol"]);
    assert!(world.clients[0].answers.is_empty());
}
