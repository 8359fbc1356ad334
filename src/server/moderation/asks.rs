//! The way of a question: permitted once, done, written down, answered.

use super::super::core::{Answer as Reaction, Core};
use super::super::io::{LogEvent, Output, Space, Task};
use super::super::outbox::too_many;
use super::super::rates::Doing;
use super::super::sessions::Asker;
use super::table::{act, least, subject};
use super::{Officer, To, Told, Verdict};
use crate::limits::{ADMIN_ASK_MAX, ADMIN_PAGE, ADMIN_WAITING, REASON_MAX};
use crate::store::{Act, Write};
use crate::wire::admin::{Answer, Ask, AuditView, Failure, Page, Role, Whom};
use crate::wire::frame::{Code, Refusal, Reply};
use crate::wire::token::Token;

/// A question that something beside the core answers.
#[derive(Debug)]
pub(super) struct Waiting {
    officer: Officer,
    ask: Ask,
}

impl Core {
    /// A question over TLS. Who has no role hears nothing but that.
    pub(in crate::server) fn asked_by(&mut self, asker: &Asker, id: u64, ask: &str) -> Reaction {
        let Some(role) = self.moderation.roles.of(&asker.key) else {
            return Err(Refusal::new(Code::NotAllowed, "you have no role on this server")
                .hint("whoever runs it may give you one: secchat admin grant NAME --role moderator"));
        };
        self.spend(asker, Doing::Administer, 1)?;
        if self.moderation.waiting.len() >= ADMIN_WAITING {
            return Err(too_many("too many questions of operators at once"));
        }
        let officer =
            Officer { role, person: Some((asker.name.clone(), asker.key)), to: To::Session(asker.session, id) };
        match Some(ask).filter(|ask| ask.len() <= ADMIN_ASK_MAX).map(serde_json::from_str::<Ask>) {
            Some(Ok(ask)) => self.asked(officer, ask),
            _ => {
                let why = "the server does not understand this";
                self.answer(&officer, Answer::failed_with(Failure::Malformed, why, "is the server older than you?"));
            }
        }
        Ok(None)
    }

    /// A question, wherever it comes from.
    pub(in crate::server) fn asked(&mut self, officer: Officer, ask: Ask) {
        // Before the act: afterwards the name may be another's.
        let key = self.key_of_subject(&ask);
        let writes = act(&ask).is_some() && !matches!(ask, Ask::Stop | Ask::Reload | Ask::Backup { .. });
        let verdict = if self.space == Space::None && writes && officer.role >= least(&ask) {
            let why = "the server's disk is full: nothing was done";
            Some(Answer::failed_with(Failure::Failed, why, "make room on the disk of its data directory; see `health`"))
        } else if officer.role < least(&ask) {
            let needed = least(&ask).as_str();
            Some(Answer::failed(
                Failure::NotAllowed,
                format!("this is for the role {needed}; yours is {}", officer.role.as_str()),
            ))
        } else if subject(&ask).1.is_some_and(|reason| reason.len() > REASON_MAX) {
            Some(Answer::failed(Failure::BadValue, format!("a reason has at most {REASON_MAX} bytes")))
        } else {
            self.decide(&officer, &ask)
        };
        if let Some(answer) = verdict {
            self.settle_ask(&officer, &ask, key, answer);
        }
    }

    /// What was done beside the core is done.
    pub(in crate::server) fn operated(&mut self, ticket: u64, answer: Answer) {
        if let Some(Waiting { officer, ask }) = self.moderation.waiting.remove(&ticket) {
            self.settle_ask(&officer, &ask, None, answer);
        }
    }

    /// Random bytes for an invitation.
    pub(in crate::server) fn drawn(&mut self, ticket: u64, token: Option<Token>) {
        if let Some(Waiting { officer, ask }) = self.moderation.waiting.remove(&ticket) {
            let answer = either(self.make_invitation(&officer, &ask, token));
            self.settle_ask(&officer, &ask, None, answer);
        }
    }

    /// A page of the audit log.
    pub(in crate::server) fn acts_read(&mut self, ticket: u64, acts: Vec<(u64, Act)>) {
        let next = acts.last().filter(|(id, _)| *id > 1).map(|(id, _)| id.to_string());
        let view = |(id, act): (u64, Act)| AuditView {
            id,
            time_ms: act.time_ms,
            who: act.who,
            act: act.act,
            whom: act.whom,
            why: act.why,
            outcome: act.outcome,
        };
        let rows = acts.into_iter().map(view).collect();
        self.operated(ticket, Answer::Audit(Page { rows, next }));
    }

    /// The beginning of the key's fingerprint of whom a question names, as far as it is known.
    fn key_of_subject(&self, ask: &Ask) -> Option<String> {
        let (Ask::Kick { name, .. }
        | Ask::Mute { name, .. }
        | Ask::Unmute { name, .. }
        | Ask::Ban { whom: Whom::Name(name), .. }
        | Ask::Release { name }
        | Ask::Grant { name, .. }
        | Ask::Revoke { name }) = ask
        else {
            return None;
        };
        let (_, key) = self.person(name).ok()?;
        key.fingerprint().to_string().get(..16).map(str::to_owned)
    }

    fn decide(&mut self, officer: &Officer, ask: &Ask) -> Verdict {
        match ask {
            Ask::Mesh => self.beside(officer, ask, Task::Mesh),
            Ask::Health => self.beside(officer, ask, Task::Health),
            Ask::Stats => self.beside(officer, ask, Task::Stats),
            Ask::Reload => self.beside(officer, ask, Task::Reload),
            Ask::Backup { file } => self.beside(officer, ask, Task::Backup(file.clone())),
            Ask::Stop => self.beside(officer, ask, Task::Stop),
            Ask::Audit { before, limit } => self.read_acts(officer, ask, *before, *limit),
            Ask::Roles | Ask::Grant { .. } | Ask::Revoke { .. } => Some(either(self.role_ask(officer, ask))),
            Ask::Users { .. }
            | Ask::Show { .. }
            | Ask::Message { .. }
            | Ask::Broadcast { .. }
            | Ask::Kick { .. }
            | Ask::Mutes
            | Ask::Mute { .. }
            | Ask::Unmute { .. }
            | Ask::Release { .. } => Some(either(self.people_ask(officer, ask))),
            Ask::Bans { .. } | Ask::Ban { .. } | Ask::Unban { .. } => Some(either(self.ban_ask(officer, ask))),
            Ask::Invitation { .. } => self.wish_invitation(officer, ask),
            Ask::Settings
            | Ask::Allowed
            | Ask::Allow { .. }
            | Ask::Disallow { .. }
            | Ask::Registration { .. }
            | Ask::Defcon { .. } => Some(either(self.gate_ask(officer, ask))),
            Ask::Rooms { .. }
            | Ask::Room { .. }
            | Ask::Close { .. }
            | Ask::Lock { .. }
            | Ask::Unlock { .. }
            | Ask::AskOwner { .. } => Some(either(self.room_ask(officer, ask))),
            Ask::Restrictions | Ask::Restrict { .. } | Ask::Unrestrict { .. } => {
                Some(either(self.sharing_ask(officer, ask)))
            }
        }
    }

    fn beside(&mut self, officer: &Officer, ask: &Ask, task: Task) -> Verdict {
        let ticket = self.await_answer(officer, ask);
        self.out.output(Output::Operate { ticket, task });
        None
    }

    fn read_acts(&mut self, officer: &Officer, ask: &Ask, before: Option<u64>, limit: Option<u32>) -> Verdict {
        let most = u32::try_from(ADMIN_PAGE).unwrap_or(u32::MAX);
        let ticket = self.await_answer(officer, ask);
        let (before, limit) = (before.unwrap_or(u64::MAX), limit.unwrap_or(most).min(most));
        self.out.output(Output::ReadActs { ticket, before, limit });
        None
    }

    pub(super) fn await_answer(&mut self, officer: &Officer, ask: &Ask) -> u64 {
        let ticket = self.number();
        self.moderation.waiting.insert(ticket, Waiting { officer: officer.clone(), ask: ask.clone() });
        ticket
    }

    /// An act is written down with what came of it, and answered after that.
    fn settle_ask(&mut self, officer: &Officer, ask: &Ask, key: Option<String>, answer: Answer) {
        if let Some(word) = act(ask) {
            let (whom, why) = subject(ask);
            let whom = whom.map(|whom| key.map_or(whom.clone(), |key| format!("{whom} (key {key})")));
            let outcome = outcome(&answer);
            let who = officer.named();
            self.out.log(LogEvent::Acted { who: who.clone(), act: word, whom: whom.clone(), outcome: outcome.clone() });
            let act = Act {
                time_ms: self.wall_ms,
                who,
                act: word.into(),
                whom: whom.map(short),
                why: why.map(short),
                outcome,
            };
            if self.space != Space::None {
                self.out.write(Write::Note(act));
            }
        }
        self.answer(officer, answer);
    }

    fn answer(&mut self, officer: &Officer, answer: Answer) {
        match officer.to {
            To::Socket(ticket) => self.out.output(Output::Answer { ticket, answer: Box::new(answer) }),
            To::Session(session, request) => {
                let text = serde_json::to_string(&answer).unwrap_or_default();
                self.out.reply(session, request, Reply::Admin(text));
            }
        }
    }

    /// Whether an officer may act against somebody: not against oneself, nor against who has as much to say.
    pub(super) fn may_touch(&self, officer: &Officer, key: &crate::crypto::identity::PublicKey) -> Result<(), Answer> {
        if officer.person.as_ref().is_some_and(|(_, own)| own == key) {
            let why = "that is you: it would lock you out";
            return Err(Answer::failed_with(
                Failure::NotAllowed,
                why,
                "at the admin socket of the server it can be done",
            ));
        }
        match self.moderation.roles.of(key) {
            Some(role) if officer.role != Role::Owner && role >= officer.role => {
                Err(Answer::failed(Failure::NotAllowed, format!("they are {} here", role.as_str())))
            }
            _ => Ok(()),
        }
    }
}

/// An answer is one, whichever way it came about.
fn either(told: Told) -> Answer {
    told.unwrap_or_else(|failed| failed)
}

/// The word for the audit log.
fn outcome(answer: &Answer) -> String {
    match answer {
        Answer::Failed { code, .. } => {
            serde_json::to_value(code).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
        }
        _ => "done".into(),
    }
}

/// What was typed may be long; the log keeps its beginning.
fn short(mut text: String) -> String {
    let end = (0..=REASON_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.truncate(end);
    text
}
