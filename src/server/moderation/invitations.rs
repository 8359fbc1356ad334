//! Invitations: tokens with which somebody takes a new name where that needs one. What they are, only those who have them know.

use super::super::core::{Core, LoadError};
use super::super::io::Output;
use super::{Officer, Told, Verdict, entries, terms};
use crate::limits::REGISTER_MAX;
use crate::store::{Entry, List, Write};
use crate::wire::admin::{Answer, Ask, Failure, Registration};
use crate::wire::encode;
use crate::wire::frame::{Code, Refusal};
use crate::wire::token::Token;
use std::collections::BTreeMap;

/// By the token's digest.
#[derive(Debug, Default)]
pub(super) struct Invitations(BTreeMap<Digest, Invitation>);

type Digest = [u8; 32];

#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct Invitation {
    #[n(0)]
    uses: u32,
    #[n(1)]
    until_ms: Option<u64>,
    #[n(2)]
    by: String,
}

impl Invitations {
    pub(super) fn load(register: &[Entry]) -> Result<Self, LoadError> {
        let all = entries(register, List::Token, INVITATION_MAX).map(|entry| {
            let (key, invitation) = entry?;
            Ok((key.try_into().map_err(|_| LoadError::Register(List::Token.as_str()))?, invitation))
        });
        Ok(Self(all.collect::<Result<_, LoadError>>()?))
    }

    /// How many are good now.
    pub(super) fn open(&self, wall_ms: u64) -> usize {
        self.0.values().filter(|invitation| terms::holds(invitation.until_ms, wall_ms)).count()
    }
}

impl Core {
    /// Checks a wish for an invitation; the token's bytes are the driver's to draw.
    pub(super) fn wish_invitation(&mut self, officer: &Officer, ask: &Ask) -> Verdict {
        match self.invitation_wished(ask) {
            Ok(_) => {
                let ticket = self.await_answer(officer, ask);
                self.out.output(Output::Draw { ticket });
                None
            }
            Err(failed) => Some(failed),
        }
    }

    /// Uses, and until when.
    fn invitation_wished(&self, ask: &Ask) -> Result<(u32, Option<u64>), Answer> {
        let Ask::Invitation { uses, for_s } = ask else {
            return Err(Answer::failed(Failure::Malformed, "no invitation was asked for"));
        };
        let uses = uses.unwrap_or(1);
        if !(1..=USES_MAX).contains(&uses) {
            return Err(Answer::failed(Failure::BadValue, format!("an invitation is for 1 to {USES_MAX} names")));
        }
        if self.moderation.invitations.0.len() >= REGISTER_MAX {
            return Err(Answer::failed(Failure::Full, "there are as many invitations as there may be"));
        }
        Ok((uses, terms::until(self.wall_ms, *for_s)?))
    }

    /// The random bytes are here.
    pub(super) fn make_invitation(&mut self, officer: &Officer, ask: &Ask, drawn: Option<Token>) -> Told {
        let (uses, until_ms) = self.invitation_wished(ask)?;
        let token = drawn.ok_or_else(|| Answer::failed(Failure::Failed, "the system gave no random bytes"))?;
        let invitation = Invitation { uses, until_ms, by: officer.named() };
        self.keep_invitation(token.digest(), invitation);
        let free = self.moderation.settings.registration() == Registration::Open;
        let closed = self.moderation.settings.registration() == Registration::Closed;
        let note = match (free, closed) {
            (true, _) => Some("nobody needs one while registration is open"),
            (_, true) => Some("it is of no use while registration is closed"),
            _ => None,
        };
        let names = if uses == 1 { "one new name".to_owned() } else { format!("{uses} new names") };
        Ok(Answer::Done {
            what: format!("an invitation for {names}{}; it is shown this once", terms::told(until_ms)),
            notes: note.map(str::to_owned).into_iter().collect(),
            id: None,
            token: Some(token.text()),
        })
    }

    /// Whether a new name may be taken; the invitation that it uses up, where it needs one.
    pub(in crate::server) fn may_register(&self, token: Option<[u8; 16]>) -> Result<Option<Digest>, Refusal> {
        let wanted = |why: &str| {
            Refusal::new(Code::Closed, why)
                .hint("ask whoever runs the server for an invitation; the client takes it with --token-file")
        };
        match (self.moderation.settings.registration(), token.map(Token::new)) {
            (Registration::Open, _) => Ok(None),
            (Registration::Closed, _) => Err(Refusal::new(Code::Closed, "this server gives out no new names now")
                .hint("who has a name already gets in with the same identity")),
            (Registration::Invite, None) => Err(wanted("a new name needs an invitation on this server")),
            (Registration::Invite, Some(token)) => {
                let digest = token.digest();
                let known = self.moderation.invitations.0.get(&digest);
                known
                    .filter(|invitation| terms::holds(invitation.until_ms, self.wall_ms))
                    .map(|_| Some(digest))
                    .ok_or_else(|| {
                        wanted("this invitation is not good: it is used up, too old, or none of this server")
                    })
            }
        }
    }

    /// Takes one use from an invitation, in the same transaction as the name.
    pub(in crate::server) fn use_invitation(&mut self, digest: &Digest) {
        let Some(invitation) = self.moderation.invitations.0.remove(digest) else { return };
        let uses = invitation.uses.saturating_sub(1);
        if uses == 0 {
            self.out.write(Write::Strike { list: List::Token, key: digest.to_vec() });
        } else {
            self.keep_invitation(*digest, Invitation { uses, ..invitation });
        }
    }

    fn keep_invitation(&mut self, digest: Digest, invitation: Invitation) {
        let entry = Entry { list: List::Token, key: digest.to_vec(), value: encode(&invitation) };
        self.moderation.invitations.0.insert(digest, invitation);
        self.out.write(Write::Keep(entry));
    }

    /// Those that are too old.
    pub(super) fn prune_invitations(&mut self) {
        let wall_ms = self.wall_ms;
        let late = |invitation: &Invitation| !terms::holds(invitation.until_ms, wall_ms);
        let all = &mut self.moderation.invitations.0;
        let gone: Vec<Digest> = all.iter().filter(|(_, i)| late(i)).map(|(digest, _)| *digest).collect();
        for digest in gone {
            all.remove(&digest);
            self.out.write(Write::Strike { list: List::Token, key: digest.to_vec() });
        }
    }
}

const USES_MAX: u32 = 100_000;
const INVITATION_MAX: usize = 512;
