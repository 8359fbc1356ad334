//! Conversations as they run: posts go out, rows come in, members come and go, removals are committed, rooms are left.

use super::conversation::{Conversation, News};
use super::core::{Core, Ticket};
use super::dispatch::no_room;
use super::effects::FilesCommand;
use super::event::Event;
use super::outbox::Item;
use super::problem::{NO_LINK, Problem, REFUSED, UNVERIFIED};
use super::requests::Purpose;
use crate::group::{Change, MemberInfo};
use crate::wire::frame::{Code, Push, Reply, Request, ToServer};
use crate::wire::id::{MessageId, RoomId};
use crate::wire::log::Row;
use crate::wire::name::Name;
use crate::wire::payload::Body;
use std::time::Duration;

impl Core {
    /// Puts a message into a conversation's outbox.
    pub(super) fn queue(&mut self, id: &RoomId, body: Body, ticket: Option<u64>) -> Result<(), Problem> {
        let item = Item::new(self.new_id(), body, ticket);
        self.queue_item(id, item)
    }

    pub(super) fn queue_item(&mut self, id: &RoomId, item: Item) -> Result<(), Problem> {
        let conversation = self.conversations.get_mut(id).ok_or_else(no_room)?;
        if conversation.held {
            let text = format!("{} is held: somebody broke its rules", conversation.title());
            return Err(Problem::new("held", UNVERIFIED, text).hint("/leave it, ask the others, /join again"));
        }
        conversation.outbox.push(item).map_err(|_| Problem::full())?;
        let server = conversation.server.clone();
        if self.is_away(&server) {
            self.hold(*id);
        }
        Ok(())
    }

    /// What was said at a server that is away: each line is marked.
    pub(super) fn hold_lines(&mut self, server: &Name) {
        let there = self.conversations.values().filter(|c| c.server == *server && !c.outbox.is_empty());
        let ids: Vec<RoomId> = there.map(|c| c.id).collect();
        ids.into_iter().for_each(|id| self.hold(id));
    }

    fn hold(&mut self, id: RoomId) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let first = conversation.outbox.held() as u64 + 1;
        let (lines, (room, to)) = (conversation.outbox.hold(), conversation.whither());
        let server = self.link.as_ref().and(Some(conversation.server.to_string()));
        for (waiting, (message, ticket)) in (first..).zip(lines) {
            let (room, to, server) = (room.clone(), to.clone(), server.clone());
            self.tell(ticket, Event::Held { room, to, id: message.to_string(), server, waiting });
        }
    }

    /// The last held line is through.
    fn tell_held_sent(&mut self, id: RoomId) {
        let Some(conversation) = self.conversations.get_mut(&id).filter(|c| c.outbox.held() == 0) else { return };
        let (count, (room, to)) = (std::mem::take(&mut conversation.held_sent), conversation.whither());
        if count > 0 {
            self.tell(None, Event::HeldSent { room, to, count });
        }
    }

    /// Sends what can be sent, and leaves what is to be left.
    pub(super) fn pump_all(&mut self) {
        if self.link.is_none() {
            return;
        }
        self.renew_name();
        let reached = |c: &&Conversation| self.is_up(&c.server);
        let ids: Vec<RoomId> = self.conversations.values().filter(reached).map(|c| c.id).collect();
        for id in ids {
            self.pump(id);
            self.govern(id);
            self.renew_leaf(id);
            self.edit_on_time(id);
            self.leave_on_time(id);
        }
    }

    fn pump(&mut self, id: RoomId) {
        while let Some((message_id, message)) = self.conversations.get_mut(&id).and_then(Conversation::next_post) {
            let request = Request::Post { room: id, message: message.into() };
            self.room_request(&id, request, Purpose::Post(id, message_id));
        }
    }

    pub(super) fn reply(&mut self, server: &Name, purpose: Purpose, reply: Reply) {
        match purpose {
            Purpose::Forget | Purpose::Alive => {}
            Purpose::Survey { number, sent } => self.surveyed(server, number, sent, reply),
            Purpose::Operator(ticket) => self.operator_has_it(ticket, reply),
            Purpose::Admin(ticket) => self.operated(ticket, reply),
            Purpose::RenewName => self.name_renewed(&reply),
            Purpose::Relay(transfer) => self.leg_given(server, transfer, reply),
            Purpose::Take(_) | Purpose::CreateDirect(_) => self.direct_reply(server, purpose, reply),
            Purpose::Post(id, message) => self.posted(id, message, reply),
            Purpose::Commit(id, epoch) => self.committed(id, epoch, &reply),
            Purpose::Leave(id) => self.drop_room(&id, "left"),
            Purpose::Log(id) => self.log_page(server, id, reply),
            step => self.entry_reply(&step, reply),
        }
    }

    fn operator_has_it(&mut self, ticket: Ticket, reply: Reply) {
        if let Reply::Refused(refusal) = reply {
            return self.fail(ticket, refusal.into());
        }
        self.tell(ticket, Event::Ok { command: "operator".into() });
        self.done(ticket, 0);
    }

    /// The session broke before the answer came.
    pub(super) fn unanswered(&mut self, server: &Name, purpose: Purpose) {
        match purpose {
            Purpose::Survey { number, .. } => self.survey_lost(server, number),
            Purpose::Operator(ticket) | Purpose::Admin(ticket) => {
                self.fail(ticket, Problem::new("link_lost", NO_LINK, "the link broke before the server answered"));
            }
            Purpose::Leave(id) => self.drop_room(&id, "left"),
            Purpose::CreateDirect(id) => self.direct_failed(&id, None),
            Purpose::Take(peer) => self.peers.not_taking(&peer),
            Purpose::Relay(transfer) => self.no_leg(&transfer),
            // Entries and posts are taken up again when the link stands; an own commit shows itself in the log.
            _ => {}
        }
    }

    pub(super) fn push(&mut self, server: &Name, push: Push) {
        match push {
            Push::Row { room, row } => self.pushed_row(server, room, &row),
            Push::Direct { room, welcome, tree } => self.invited(server, room, &welcome, &tree),
            Push::DirectClosed { room } if self.lives_at(&room, server) => self.close_direct(&room),
            Push::CommitNow { room, epoch } if self.lives_at(&room, server) => self.commit_now(room, epoch),
            Push::DirectClosed { .. } | Push::CommitNow { .. } => {}
            Push::Notice { text } => self.server_says(server, text),
            Push::Bye { reason, detail } => self.bye(server, &reason, detail),
            Push::Sharing(document) => self.sharing_told(server, &document),
            Push::Wish { room, wish } if self.lives_at(&room, server) => self.wished(room, wish),
            Push::RoomClosed { room, reason } if self.lives_at(&room, server) => {
                if let Some(reason) = reason {
                    self.server_says(server, format!("closed: {reason}"));
                }
                self.drop_room(&room, "closed");
            }
            Push::Wish { .. } | Push::RoomClosed { .. } => {}
            Push::RelayData(mut data) if self.is_access(server) => {
                data.server.get_or_insert_with(|| server.clone());
                self.tell_files(FilesCommand::RelayIn(data));
            }
            Push::RelayData(_) => {}
            Push::KeyPackagesLow => self.publish_key_packages(server),
            Push::Servers(list) => self.servers_listed(server, list),
            Push::KeepAlive => self.send(server, ToServer::Alive),
        }
    }

    /// No server gets at what lives at another one.
    fn lives_at(&self, id: &RoomId, server: &Name) -> bool {
        self.conversations.get(id).is_some_and(|c| c.server == *server)
    }

    /// The end of the session says it once more. Only the servers that we depend on can send us away for good.
    fn bye(&mut self, server: &Name, reason: &str, detail: Option<String>) {
        if let Some(detail) = detail.filter(|_| matches!(reason, "kicked" | "banned")) {
            self.server_says(server, format!("{reason}: {detail}"));
        }
        match reason {
            "replaced" | "kicked" | "banned" if self.is_access(server) || self.is_home(server) => {
                self.exit(reason, REFUSED)
            }
            "replaced" => self.closed_by(server),
            "kicked" | "banned" => {
                let there = self.conversations.values().filter(|c| c.is_room() && c.server == *server);
                let rooms: Vec<RoomId> = there.map(|c| c.id).collect();
                rooms.iter().for_each(|room| self.drop_room(room, reason));
                self.closed_by(server);
            }
            "flooding" => self.server_says(server, "the link is cut: too much was posted for too long".into()),
            "draining" => self.server_says(server, "the server is stopping".into()),
            _ => {}
        }
    }

    fn server_says(&mut self, server: &Name, text: String) {
        self.tell(None, Event::Notice { from: format!("server@{server}"), text });
    }

    /// Tells of each room at a server that it waits for it, or goes on.
    pub(super) fn tell_rooms(&mut self, server: &Name, away: bool) {
        let there = self.conversations.values().filter(|c| c.is_room() && c.server == *server);
        let rooms: Vec<String> = there.map(Conversation::title).collect();
        for room in rooms {
            let server = server.to_string();
            self.tell(None, if away { Event::RoomAway { room, server } } else { Event::RoomBack { room, server } });
        }
    }

    fn pushed_row(&mut self, server: &Name, id: RoomId, row: &Row) {
        match self.conversations.get(&id) {
            Some(conversation) if conversation.server != *server => {}
            // It comes again with the page that we wait for.
            Some(conversation) if conversation.syncing => {}
            Some(_) => self.row(id, row),
            None => {
                self.request(server, Request::NoState { room: id }, Purpose::Forget);
            }
        }
    }

    pub(super) fn row(&mut self, id: RoomId, row: &Row) {
        let certs = self.certs();
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let news = conversation.row(row, &certs);
        self.news(id, news);
    }

    fn posted(&mut self, id: RoomId, message: MessageId, reply: Reply) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        match reply {
            Reply::Sequenced { seq, .. } => {
                let news = conversation.posted(&message, seq);
                self.news(id, news);
            }
            Reply::Refused(refusal) if refusal.code == Code::Stale => {
                conversation.stale = Some(conversation.outbox.epoch_of(&message).unwrap_or(0));
                conversation.outbox.unseal(&message);
            }
            Reply::Refused(refusal) if refusal.code == Code::NotMember && conversation.is_room() => {
                conversation.outbox.put_back(&message);
                if !conversation.rejoining && !conversation.left {
                    self.rejoin(id);
                }
            }
            Reply::Refused(refusal) if refusal.code == Code::NotMember => self.close_direct(&id),
            Reply::Refused(refusal) => {
                let item = conversation.post_failed(&message);
                item.into_iter().for_each(|item| self.fail_item(item, refusal.clone().into()));
                self.tell_held_sent(id);
            }
            _ => {}
        }
    }

    /// A message that will not be sent: whoever waits for it is told.
    pub(super) fn fail_item(&mut self, item: Item, problem: Problem) {
        match item.body {
            Body::Ping { token } => self.ping_failed(token, problem),
            Body::WhoHas { search, .. } => self.search_failed(&search, problem),
            Body::FileRequest(request) => self.request_failed(&request.transfer, problem),
            Body::FileAnswer(answer) => self.answer_failed(&answer.transfer),
            Body::FileOffer(offer) => self.offer_failed(&offer.offer, problem),
            // Nobody waits for these, and deadlines do what they would have done.
            Body::FileQueued { .. }
            | Body::FileHashing { .. }
            | Body::FileGivenUp { .. }
            | Body::OfferRefused { .. }
            | Body::OfferWithdrawn { .. }
            | Body::NewSecret { .. }
            | Body::RotationWanted { .. }
            | Body::SecretWanted { .. } => {}
            _ => self.fail(item.ticket, problem),
        }
    }

    pub(super) fn news(&mut self, id: RoomId, news: Vec<News>) {
        for news in news {
            match news {
                News::Delivered(item) => self.delivered(id, *item),
                News::Said { sender, envelope } => self.said(id, &sender, *envelope),
                News::Muted { sender } => self.shouted(id, &sender),
                News::Changed { change, gone } => self.changed(id, &change, &gone),
                News::Out { reason } => self.out(id, reason),
                News::Integrity { kind, peer } => {
                    let room = self.conversations.get(&id).map(Conversation::title).unwrap_or_default();
                    self.integrity(None, room, kind, peer.map(|p| p.to_string()));
                }
                News::FalseName(refused) => {
                    let room = self.conversations.get(&id).map(Conversation::title).unwrap_or_default();
                    self.false_name(room, &refused);
                }
                News::Resync => self.resync(id),
                News::Lost => self.mend(id),
            }
        }
    }

    fn delivered(&mut self, id: RoomId, item: Item) {
        match (&item.body, self.conversations.get_mut(&id)) {
            (Body::Text(_), Some(conversation)) => {
                conversation.held_sent += u64::from(item.held);
                let (room, to) = conversation.whither();
                self.tell(item.ticket, Event::Sent { room, to, id: item.id.to_string() });
            }
            (Body::WhoHas { search, .. }, _) => self.search_posted(&search.clone()),
            _ => {}
        }
        self.done(item.ticket, 0);
        self.tell_held_sent(id);
    }

    /// Who came and who went. A member that comes back after a restart replaces its own leaf: that is no news.
    fn changed(&mut self, id: RoomId, change: &Change, gone: &[(MemberInfo, &'static str)]) {
        let Some(conversation) = self.conversations.get(&id).filter(|c| c.is_room()) else { return };
        let room = conversation.title();
        for (member, reason) in gone {
            let (name, reason) = (member.name.to_string(), (*reason).to_owned());
            self.tell(None, Event::MemberLeft { room: room.clone(), name, reason });
        }
        if change.policy.is_some() {
            self.policy_changed(id, change.committer.key == self.config.identity.public());
        }
        for (member, _) in gone.iter().filter(|(_, reason)| matches!(*reason, "kicked" | "banned")) {
            self.part_from(&member.name);
        }
        self.ruled(id, change, gone);
        if change.joined {
            self.meet(&change.committer.name, &change.committer.key);
            if change.replaced.is_none() {
                self.tell(None, Event::MemberJoined { room, name: change.committer.name.to_string() });
                self.resume_downloads_from(&change.committer.name);
            } else {
                self.peer_restarted(&change.committer.name, id);
            }
        }
    }
}

pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
