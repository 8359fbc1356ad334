//! Questions to all servers within reach: their public rooms, and how far they are.

use super::core::{Core, Ticket};
use super::event::{Event, RoomRow};
use super::problem::{NO_LINK, Problem};
use super::requests::Purpose;
use super::rooms::millis;
use crate::limits::{REQUEST_DEADLINE, SURVEY_DEADLINE};
use crate::wire::frame::{Refusal, Reply, Request, RoomInfo};
use crate::wire::name::{FullName, Name};
use std::collections::BTreeSet;
use std::time::Duration;

/// One under way.
pub(super) struct Survey {
    ticket: Ticket,
    about: About,
    /// Those that have not answered.
    waiting: BTreeSet<Name>,
    /// Those that will not.
    silent: BTreeSet<Name>,
    rows: Vec<RoomRow>,
    deadline: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    Rooms,
    RoundTrips,
    /// Public rooms of this label at other servers than this one, for the hint of a join that failed.
    Elsewhere(FullName, Problem),
}

impl Survey {
    pub fn waiting(&self) -> impl Iterator<Item = &Name> {
        self.waiting.iter()
    }
}

impl Core {
    /// Whether a join that failed waits for its hint.
    pub(super) fn looks_around(&self) -> bool {
        self.surveys.values().any(|survey| matches!(survey.about, About::Elsewhere(..)))
    }

    /// There is no such room that could be entered: perhaps another server has one.
    pub(super) fn look_around(&mut self, ticket: Ticket, room: FullName, problem: Problem) {
        let others = self.servers.listed().is_some_and(|listed| !listed.is_empty());
        let number = ticket.filter(|_| others && self.link.is_some());
        let asked = number.map(|number| self.ask_all(number, About::Elsewhere(room, problem.clone())));
        if !matches!(asked, Some(Ok(()))) {
            self.fail(ticket, problem);
        }
    }

    /// Asks the link's server and all that it reaches. Those that were within reach and are not now count as silent.
    pub(super) fn ask_all(&mut self, number: u64, about: About) -> Result<(), Problem> {
        let access = self.link.as_ref().ok_or_else(Problem::no_link)?.server.clone();
        let mut waiting: BTreeSet<Name> = self.servers.listed().cloned().unwrap_or_default();
        let within = if waiting.is_empty() { REQUEST_DEADLINE } else { SURVEY_DEADLINE };
        waiting.insert(access);
        let deadline = self.now + within;
        let asked: Vec<Name> = waiting.iter().cloned().collect();
        let (silent, rows) = (self.away_servers(), Vec::new());
        self.surveys.insert(number, Survey { ticket: Some(number), about, waiting, silent, rows, deadline });
        asked.iter().for_each(|server| self.ask_one(number, server));
        Ok(())
    }

    fn ask_one(&mut self, number: u64, server: &Name) {
        let Some(survey) = self.surveys.get(&number) else { return };
        let body = match &survey.about {
            About::Rooms | About::Elsewhere(..) => Request::Rooms,
            About::RoundTrips => Request::Ping,
        };
        self.request(server, body, Purpose::Survey { number, sent: self.now });
    }

    /// A session stands: what it is to be asked is asked.
    pub(super) fn resume_surveys(&mut self, server: &Name) {
        let asks = |(number, survey): (&u64, &Survey)| survey.waiting.contains(server).then_some(*number);
        let numbers: Vec<u64> = self.surveys.iter().filter_map(asks).collect();
        numbers.into_iter().for_each(|number| self.ask_one(number, server));
    }

    pub(super) fn surveyed(&mut self, server: &Name, number: u64, sent: Duration, reply: Reply) {
        match reply {
            Reply::Rooms(rows) => self.rooms_of(server, number, rows),
            Reply::Refused(refusal) if self.is_access(server) => return self.survey_refused(number, refusal),
            Reply::Refused(_) => return self.survey_lost(server, number),
            _ => self.ponged(server, number, sent),
        }
        if let Some(survey) = self.surveys.get_mut(&number) {
            survey.waiting.remove(server);
        }
        self.survey_over(number);
    }

    /// A server's word on rooms counts for its own only.
    fn rooms_of(&mut self, server: &Name, number: u64, rows: Vec<RoomInfo>) {
        let Some(survey) = self.surveys.get_mut(&number) else { return };
        let own = rows.into_iter().filter(|row| row.room.server == *server);
        let row = |r: RoomInfo| RoomRow { room: r.room.to_string(), id: r.id.to_string(), members: r.members };
        survey.rows.extend(own.map(row));
    }

    fn ponged(&mut self, server: &Name, number: u64, sent: Duration) {
        let Some(survey) = self.surveys.get(&number) else { return };
        let route = if self.is_access(server) { "link" } else { "mesh" };
        let rtt_ms = millis(self.now.saturating_sub(sent));
        let (files_way, files_route) = Default::default();
        let target = server.to_string();
        self.tell(survey.ticket, Event::Pong { target, rtt_ms, route: route.into(), files_way, files_route });
    }

    fn survey_refused(&mut self, number: u64, refusal: Refusal) {
        if let Some(survey) = self.surveys.remove(&number) {
            self.survey_failed(survey, refusal.into());
        }
    }

    /// The answer will not come.
    pub(super) fn survey_lost(&mut self, server: &Name, number: u64) {
        if self.link.is_none() {
            if let Some(survey) = self.surveys.remove(&number) {
                let text = "the link broke before the server answered";
                self.survey_failed(survey, Problem::new("link_lost", NO_LINK, text));
            }
            return;
        }
        if let Some(survey) = self.surveys.get_mut(&number)
            && survey.waiting.remove(server)
        {
            survey.silent.insert(server.clone());
        }
        self.survey_over(number);
    }

    fn survey_failed(&mut self, survey: Survey, problem: Problem) {
        match survey.about {
            About::Elsewhere(_, cause) => self.fail(survey.ticket, cause),
            About::Rooms | About::RoundTrips => self.fail(survey.ticket, problem),
        }
    }

    fn survey_over(&mut self, number: u64) {
        if self.surveys.get(&number).is_none_or(|survey| !survey.waiting.is_empty()) {
            return;
        }
        let Some(survey) = self.surveys.remove(&number) else { return };
        let Survey { ticket, silent, mut rows, .. } = survey;
        match survey.about {
            About::Rooms => {
                rows.sort_by(|a, b| a.room.cmp(&b.room));
                let silent = silent.iter().map(ToString::to_string).collect();
                self.tell(ticket, Event::Rooms { rooms: rows, silent });
            }
            About::RoundTrips => {
                for server in silent {
                    let problem = Problem::timeout(&format!("the server {server}"));
                    self.tell(ticket, problem.event());
                }
            }
            About::Elsewhere(room, problem) => {
                let head = format!("{}@", room.name);
                let same = |row: &RoomRow| row.room.starts_with(&head) && row.room != room.to_string();
                let found: Vec<String> = rows.into_iter().filter(same).map(|row| row.room).collect();
                let hint = format!("there is a public room {}: name its server too", found.join(", and one "));
                return self.fail(ticket, if found.is_empty() { problem } else { problem.hint(hint) });
            }
        }
        self.done(ticket, 0);
    }

    pub(super) fn surveys_timeout(&self) -> Option<Duration> {
        self.surveys.values().map(|survey| survey.deadline).min()
    }

    pub(super) fn surveys_timeouts(&mut self) {
        let late = |survey: &Survey| self.now >= survey.deadline;
        let late: Vec<u64> = self.surveys.iter().filter(|(_, s)| late(s)).map(|(number, _)| *number).collect();
        for number in late {
            if let Some(survey) = self.surveys.get_mut(&number) {
                let waiting = std::mem::take(&mut survey.waiting);
                survey.silent.extend(waiting);
            }
            self.survey_over(number);
        }
    }
}
