//! An operator's questions to servers, for another process of the same user.

use super::core::{Core, Ticket};
use super::effects::Effect;
use super::problem::{FAILED, NO_LINK, Problem};
use super::requests::Purpose;
use crate::wire::admin::{Answer, Ask, Failure};
use crate::wire::frame::{Reply, Request};
use crate::wire::name::Name;

impl Core {
    /// Asks a server; one with which there is a session, since a question is no reason to make one.
    pub(super) fn operate(&mut self, tag: String, server: Option<&Name>, ask: &Ask) {
        let ticket = Some(self.counted(tag));
        let Some(server) = server else {
            let problem =
                Problem::new("other_server", NO_LINK, "the running client has never met the server at this address");
            return self.fail(ticket, problem.hint("name it as the client was told it, or leave the client first"));
        };
        let Ok(ask) = serde_json::to_string(ask) else {
            return self.fail(ticket, Problem::new("failed", FAILED, "the question cannot be written down"));
        };
        if !self.request(server, Request::Admin { ask }, Purpose::Admin(ticket)) {
            let message = format!("the running client has no session at {server} now");
            self.fail(ticket, Problem::new("not_connected", NO_LINK, message).hint("let it join a room there"));
        }
    }

    /// What the server says, in our own words: nothing in it may end the line.
    pub(super) fn operated(&mut self, ticket: Ticket, reply: Reply) {
        let answer = match reply {
            Reply::Admin(text) => serde_json::from_str(&text).ok(),
            Reply::Refused(refusal) => {
                Some(Answer::Failed { code: Failure::NotAllowed, why: refusal.message, hint: refusal.hint })
            }
            _ => None,
        };
        match (answer, self.running.tag(ticket)) {
            (Some(answer), Some(tag)) => {
                self.effect(Effect::Answer { tag, answer: Box::new(answer) });
                self.done(ticket, 0);
            }
            _ => {
                self.fail(ticket, Problem::new("protocol", NO_LINK, "the server gave an answer that is not understood"))
            }
        }
    }
}
