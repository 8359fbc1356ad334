//! Conversations of two: begun with a key package, one for each pair in the end, and what is said in them.

use super::conversation::{Conversation, Kind, kind_of};
use super::core::{Core, Ticket};
use super::dispatch::key_changed;
use super::outbox::Item;
use super::problem::{FAILED, Problem, UNVERIFIED};
use super::requests::Purpose;
use crate::crypto::identity::PublicKey;
use crate::group::{self, AcceptError, Direct, Room};
use crate::limits::DIRECTS_PER_CLIENT;
use crate::wire::frame::{Code, Published, Refusal, Reply, Request};
use crate::wire::id::RoomId;
use crate::wire::log::Chain;
use crate::wire::name::{FullName, Name};
use crate::wire::payload::Body;
use rand_core::RngCore;

impl Core {
    /// Says something to one person, in the conversation that there is or in a new one.
    pub(super) fn send_direct(&mut self, to: &FullName, body: Body, ticket: Ticket) -> Result<(), Problem> {
        if self.me() == Some(to) {
            return Err(Problem::new("yourself", FAILED, "that is you"));
        }
        if self.peers.is_changed(to) {
            return Err(key_changed(to));
        }
        let item = Item::new(self.new_id(), body, ticket);
        self.give(to, item)
    }

    fn give(&mut self, to: &FullName, item: Item) -> Result<(), Problem> {
        // Where one server is away another may lead there.
        if self.peers.current(to).is_some_and(|id| !self.reaches(&id)) {
            self.follow_key(to);
        }
        let current = self.peers.current(to);
        if let Some(id) = current.filter(|id| self.reaches(id) || self.meeting_place(to).is_none()) {
            return self.queue_item(&id, item);
        }
        self.peers.get(to).waiting.push(item).map_err(|_| Problem::full())?;
        self.take_key_packages();
        Ok(())
    }

    fn reaches(&self, id: &RoomId) -> bool {
        self.conversations.get(id).is_some_and(|c| self.is_up(&c.server))
    }

    /// Where to ask for somebody's key package: at their home, or where we are together if that is away.
    fn meeting_place(&self, peer: &FullName) -> Option<Name> {
        match &peer.server {
            home if self.is_up(home) => Some(home.clone()),
            home if self.is_coming(home) => None,
            _ => self.common_server(peer),
        }
    }

    /// A server other than their home at which somebody is in a room with us.
    fn common_server(&self, peer: &FullName) -> Option<Name> {
        let there = |c: &&Conversation| c.is_room() && c.server != peer.server && self.is_up(&c.server);
        let mut rooms = self.conversations.values().filter(there);
        rooms.find(|c| c.room.members().any(|m| m.name == *peer)).map(|c| c.server.clone())
    }

    /// Asks for the key packages of those to whom there is something to say, where there is a server to ask.
    pub(super) fn take_key_packages(&mut self) {
        for peer in self.peers.waiting() {
            self.follow_key(&peer);
            if let Some(id) = self.peers.current(&peer).filter(|id| self.reaches(id)) {
                self.move_waiting(&peer, id);
            } else if let Some(server) = self.meeting_place(&peer) {
                self.take_at(&server, peer);
            }
        }
    }

    fn take_at(&mut self, server: &Name, peer: FullName) {
        self.peers.get(&peer).taking = true;
        self.request(server, Request::TakeKeyPackage { peer: peer.clone() }, Purpose::Take(peer));
    }

    /// Nobody can be asked at a server that is out of reach; those whom we meet elsewhere are asked for there.
    pub(super) fn fail_waiting_at(&mut self, server: &Name, problem: &Problem) -> bool {
        let peers = self.peers.waiting().into_iter().filter(|p| p.server == *server);
        let lost: Vec<FullName> = peers.filter(|peer| self.common_server(peer).is_none()).collect();
        lost.iter().for_each(|peer| self.fail_waiting(peer, problem));
        !lost.is_empty()
    }

    pub(super) fn direct_reply(&mut self, server: &Name, purpose: Purpose, reply: Reply) {
        match (purpose, reply) {
            (Purpose::Take(peer), Reply::KeyPackage(package)) => {
                self.peers.not_taking(&peer);
                // Meanwhile they may have begun one with us.
                if let Some(id) = self.peers.current(&peer).filter(|id| self.reaches(id)) {
                    return self.move_waiting(&peer, id);
                }
                if let Err(problem) = self.begin(server, &peer, &package) {
                    self.fail_waiting(&peer, &problem);
                }
            }
            (Purpose::Take(peer), Reply::Refused(refusal)) => {
                self.peers.not_taking(&peer);
                match self.common_server(&peer).filter(|_| *server == peer.server && refusal.code == Code::NotHere) {
                    Some(common) => self.take_at(&common, peer),
                    None => self.fail_waiting(&peer, &refusal.into()),
                }
            }
            (Purpose::CreateDirect(id), Reply::Sequenced { .. }) => {
                self.conversations.get_mut(&id).into_iter().for_each(|c| c.founding = false);
            }
            (Purpose::CreateDirect(id), Reply::Refused(refusal)) => self.direct_failed(&id, Some(refusal)),
            _ => {}
        }
    }

    /// Makes the group and shows it to the server; what waits goes out once that has taken it up.
    fn begin(&mut self, server: &Name, peer: &FullName, package: &[u8]) -> Result<(), Problem> {
        let (id, certs) = (self.new_id(), self.certs());
        let key = self.server_key(server).ok_or_else(Problem::no_link)?;
        let home = self.home.as_ref().ok_or_else(Problem::no_link)?;
        let made = Direct::create(&home.me, key, id.0, package, &certs);
        let (room, welcoming, grant) = made.map_err(|e| self.not_the_peer(peer, &e))?;
        if welcoming.peer.name != *peer {
            self.integrity(None, peer.to_string(), "forged_sender", Some(welcoming.peer.name.to_string()));
            return Err(Problem::new("forged_sender", UNVERIFIED, "the server gave us somebody else's key package"));
        }
        self.meet(peer, &welcoming.peer.key);
        if self.peers.is_changed(peer) {
            return Err(key_changed(peer));
        }
        let published = Published {
            epoch: room.epoch(),
            group_info: grant.group_info.into(),
            tree: grant.tree.into(),
            vouch: None,
        };
        let welcome = welcoming.welcome.into();
        self.add_direct((id, server.clone()), peer, welcoming.peer.key, room);
        self.conversations.get_mut(&id).into_iter().for_each(|c| c.founding = true);
        let request = Request::CreateDirect { room: id, peer: peer.clone(), welcome, published };
        self.request(server, request, Purpose::CreateDirect(id));
        Ok(())
    }

    fn not_the_peer(&mut self, peer: &FullName, error: &AcceptError) -> Problem {
        if let AcceptError::Peer(group::Refusal::Cert(refused)) = error {
            self.false_name(peer.to_string(), refused);
        }
        let text = format!("no conversation with {peer}: {error}");
        match error.integrity() {
            Some(broken) => Problem::new(kind_of(broken), UNVERIFIED, text),
            None => Problem::new("failed", FAILED, text),
        }
    }

    /// Somebody made a conversation with us.
    pub(super) fn invited(&mut self, server: &Name, id: RoomId, welcome: &[u8], tree: &[u8]) {
        if self.conversations.contains_key(&id) {
            return;
        }
        // Before the costly part: whoever is not welcome makes us open nothing and costs no key package.
        let accepted = match self.announced(tree) {
            Ok(peer) if !self.is_welcome(&peer) => return self.refuse_state(server, id),
            Ok(_) => self.accept(server, id, welcome, tree),
            Err(error) => Err(error),
        };
        match accepted {
            Ok((room, peer, key)) => {
                self.meet(&peer, &key);
                self.add_direct((id, server.clone()), &peer, key, room);
            }
            Err(error) => {
                if let Some(broken) = error.integrity() {
                    self.integrity(None, "direct".into(), kind_of(broken), None);
                }
                if let AcceptError::Peer(group::Refusal::Cert(refused)) = &error {
                    self.false_name("direct".into(), refused);
                }
                self.refuse_state(server, id);
            }
        }
    }

    fn announced(&self, tree: &[u8]) -> Result<FullName, AcceptError> {
        let home = self.home.as_ref().ok_or(AcceptError::NoKeyPackage)?;
        Direct::announced(&home.me.identity.public(), tree, &self.certs())
    }

    fn accept(
        &mut self,
        server: &Name,
        id: RoomId,
        welcome: &[u8],
        tree: &[u8],
    ) -> Result<(Room, FullName, PublicKey), AcceptError> {
        let (certs, own) = (self.certs(), self.config.identity.public());
        let key = self.server_key(server).ok_or(AcceptError::NoKeyPackage)?;
        let attachment = self.attachments.get_mut(server).ok_or(AcceptError::NoKeyPackage)?;
        let mut accepted = Err(AcceptError::NoKeyPackage);
        for stock in attachment.stock.iter_mut().chain(&mut attachment.old_stock) {
            accepted = Direct::accept(stock, key, id.0, welcome, tree, &certs);
            if !matches!(accepted, Err(AcceptError::NoKeyPackage)) {
                break;
            }
        }
        let room = accepted?;
        let peer = room.members().find(|m| m.key != own);
        let (name, key) = peer.map(|m| (m.name.clone(), m.key)).ok_or(AcceptError::WrongRoom)?;
        Ok((room, name, key))
    }

    /// Strangers may begin only so many conversations in a time.
    fn is_welcome(&mut self, peer: &FullName) -> bool {
        let directs = self.conversations.values().filter(|c| !c.is_room()).count();
        if self.peers.is_ignored(peer) || directs >= DIRECTS_PER_CLIENT {
            return false;
        }
        let together = self.conversations.values().any(|c| c.room.members().any(|m| m.name == *peer));
        together || self.peers.stranger(self.now)
    }

    fn refuse_state(&mut self, server: &Name, id: RoomId) {
        self.request(server, Request::NoState { room: id }, Purpose::Forget);
    }

    /// Of two that were made at once the lower id wins; lines that are not on their way move there.
    fn add_direct(&mut self, (id, server): (RoomId, Name), peer: &FullName, key: PublicKey, room: Room) {
        let mut session = [0; 8];
        self.rng.fill_bytes(&mut session);
        let kind = Kind::Direct { peer: peer.clone() };
        let mut conversation = Conversation::new((id, server), kind, room, (0, Chain::start(&id)), session);
        conversation.history.expect(&key);
        conversation.renew_at = self.next_renewal();
        self.conversations.insert(id, conversation);
        // Only a key that the user stands by gets lines: whoever certifies keys must not lead them elsewhere.
        if self.peers.is_pinned(peer, &key) {
            self.use_direct(peer);
        }
        self.keep_few(peer);
    }

    /// There is a new conversation: lines go into the best of all from now on.
    fn use_direct(&mut self, peer: &FullName) {
        let before = self.peers.current(peer);
        self.follow_key(peer);
        let Some(current) = self.peers.current(peer) else { return };
        if let Some(before) = before.filter(|before| *before != current) {
            let items = self.conversations.get_mut(&before).map(|c| c.outbox.drain(false)).unwrap_or_default();
            self.give_all(peer, items);
        }
        self.move_waiting(peer, current);
    }

    /// The user stands by another key of this person now, or a server came or went: lines go where that key is.
    pub(super) fn follow_key(&mut self, peer: &FullName) {
        let current = self.with_pinned_key(peer);
        self.peers.get(peer).current = current;
    }

    /// The lowest id wins at both ends; a conversation that gets through wins over one that waits for its server.
    fn with_pinned_key(&self, peer: &FullName) -> Option<RoomId> {
        let with = |c: &&Conversation| matches!(&c.kind, Kind::Direct { peer: p, .. } if p == peer);
        let pinned =
            |c: &&Conversation| c.room.members().any(|m| m.name == *peer && self.peers.is_pinned(peer, &m.key));
        let directs = self.conversations.values().filter(with).filter(pinned);
        directs.min_by_key(|c| (!self.is_up(&c.server), c.id)).map(|c| c.id)
    }

    /// The server drops the quietest conversation of a pair beyond a few; so do we, lest a peer fill our memory.
    fn keep_few(&mut self, peer: &FullName) {
        let current = self.peers.current(peer);
        let with = |c: &&Conversation| matches!(&c.kind, Kind::Direct { peer: p, .. } if p == peer);
        let ids: Vec<RoomId> = self.conversations.values().filter(with).map(|c| c.id).collect();
        let spare = ids.len().saturating_sub(PER_PEER);
        for id in ids.into_iter().rev().filter(|id| Some(*id) != current).take(spare) {
            self.room_request(&id, Request::NoState { room: id }, Purpose::Forget);
            self.close_direct(&id);
        }
    }

    /// A server went away: what waits in conversations there goes where we meet otherwise, if we do.
    pub(super) fn go_another_way(&mut self, server: &Name) {
        let there = |c: &&Conversation| c.server == *server && !c.founding && !c.outbox.is_empty();
        let stuck: Vec<(RoomId, FullName)> = self
            .conversations
            .values()
            .filter(there)
            .filter_map(|c| match &c.kind {
                Kind::Direct { peer, .. } => Some((c.id, peer.clone())),
                Kind::Room { .. } => None,
            })
            .collect();
        for (id, peer) in stuck {
            self.follow_key(&peer);
            let other = self.peers.current(&peer).is_some_and(|id| self.reaches(&id));
            if other || self.meeting_place(&peer).is_some() {
                let items = self.conversations.get_mut(&id).map(Conversation::move_out).unwrap_or_default();
                self.give_all(&peer, items);
            }
        }
    }

    fn move_waiting(&mut self, peer: &FullName, to: RoomId) {
        let items = self.peers.get(peer).waiting.drain(true);
        for item in items {
            if self.conversations.contains_key(&to) {
                self.give_all(peer, vec![item]);
            }
        }
    }

    fn give_all(&mut self, peer: &FullName, items: Vec<Item>) {
        for item in items {
            let (id, body, ticket) = (item.id, item.body.clone(), item.ticket);
            if let Err(problem) = self.give(peer, item) {
                self.fail_item(Item::new(id, body, ticket), problem);
            }
        }
    }

    fn fail_waiting(&mut self, peer: &FullName, problem: &Problem) {
        for item in self.peers.get(peer).waiting.drain(true) {
            self.fail_item(item, problem.clone());
        }
    }

    /// The server did not take up a conversation of ours. Without its word it is tried anew, with the same lines.
    pub(super) fn direct_failed(&mut self, id: &RoomId, refusal: Option<Refusal>) {
        let Some(problem) = refusal.map(Problem::from) else { return self.close_direct(id) };
        let Some(mut conversation) = self.conversations.remove(id) else { return };
        let Kind::Direct { peer, .. } = &conversation.kind else { return };
        self.forget_current(peer, id);
        for item in conversation.outbox.drain(true) {
            self.fail_item(item, problem.clone());
        }
    }

    /// A conversation is gone; what the log has not, goes into another one with the same inner ids.
    pub(super) fn close_direct(&mut self, id: &RoomId) {
        if self.conversations.get(id).is_none_or(Conversation::is_room) {
            return;
        }
        let Some(mut conversation) = self.conversations.remove(id) else { return };
        self.drop_posts(id);
        let Kind::Direct { peer, .. } = &conversation.kind else { return };
        self.forget_current(peer, id);
        self.give_all(peer, conversation.outbox.drain(true));
    }

    fn forget_current(&mut self, peer: &FullName, id: &RoomId) {
        if self.peers.current(peer) == Some(*id) {
            self.follow_key(peer);
        }
    }
}

/// Conversations with one peer; more than one stand only for moments.
const PER_PEER: usize = 4;
