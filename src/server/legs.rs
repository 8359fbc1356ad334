//! A client asks for a leg to pass a file's datagrams through: what it costs, and what it is told.

use super::core::{Answer, Core};
use super::forwarding::NoLeg;
use super::io::{Output, SessionId};
use super::outbox::too_many;
use super::rates::Doing;
use super::sessions::Asker;
use crate::wire::frame::{Code, Refusal, Reply};
use crate::wire::leg::{LegId, LegKey, RelayTicket, RelayTokens};

impl Core {
    pub(super) fn register_leg(&mut self, asker: &Asker, request: u64, tokens: &RelayTokens) -> Answer {
        self.spend(asker, Doing::Relay, 1)?;
        self.may_relay(&asker.key)?;
        if self.config.stun_port == 0 {
            return Err(refusal(NoLeg::Off));
        }
        let tokens = (*tokens.own, *tokens.peer);
        self.out.output(Output::RegisterLeg { session: asker.session, request, user: asker.key, tokens });
        Ok(None)
    }

    pub(super) fn leg_made(&mut self, session: SessionId, request: u64, made: Result<(LegId, LegKey), NoLeg>) {
        match made {
            Ok((leg, key)) => {
                let ticket =
                    RelayTicket { leg: leg.into(), key: (*key.as_bytes()).into(), port: self.config.stun_port };
                self.out.reply(session, request, Reply::RelayTicket(ticket));
            }
            Err(why) => self.out.refuse(session, request, refusal(why)),
        }
    }
}

fn refusal(why: NoLeg) -> Refusal {
    match why {
        NoLeg::TooMany => too_many("too many relayed transfers"),
        NoLeg::Off | NoLeg::Oneself | NoLeg::Taken | NoLeg::Spent => Refusal::new(Code::NotAllowed, why.to_string()),
    }
}
