use super::*;

/// Where clients are: at one server, or at one of several that are linked.
pub(super) trait Hall {
    /// A client says something.
    fn hear(&mut self, session: SessionId, frame: ToServer);

    /// What it was told and has not taken.
    fn inbox(&mut self, session: SessionId) -> &mut VecDeque<ToClient>;

    /// For a request.
    fn number(&mut self) -> u64;

    fn take(&mut self, session: SessionId) -> ToClient {
        self.inbox(session).pop_front().expect("a frame")
    }

    /// Asks without waiting for the answer; the request's number.
    fn ask(&mut self, session: SessionId, body: Request) -> u64 {
        let id = self.number();
        self.hear(session, ToServer::Request { id, body });
        id
    }

    /// Takes the answer to a request out of the inbox, leaving everything else there.
    fn answer(&mut self, session: SessionId, id: u64) -> Option<Reply> {
        let inbox = self.inbox(session);
        let place = inbox.iter().position(|f| matches!(f, ToClient::Reply { id: i, .. } if *i == id))?;
        match inbox.remove(place)? {
            ToClient::Reply { body, .. } => Some(body),
            _ => None,
        }
    }

    fn request(&mut self, session: SessionId, body: Request) -> Reply {
        let id = self.ask(session, body);
        self.answer(session, id).expect("an answer")
    }

    fn refused(&mut self, session: SessionId, body: Request) -> Code {
        match self.request(session, body) {
            Reply::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    fn pushes(&mut self, session: SessionId) -> Vec<Push> {
        let inbox = self.inbox(session);
        let (pushes, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(inbox).into_iter().partition(|f| matches!(f, ToClient::Push(_)));
        *inbox = rest;
        pushes.into_iter().filter_map(|f| if let ToClient::Push(push) = f { Some(push) } else { None }).collect()
    }

    fn create(&mut self, owner: &mut Client, kind: RoomKind) {
        let reply = self.try_create(owner, DEN, "den", kind);
        assert!(matches!(reply, Reply::Sequenced { seq: 0, .. }), "{reply:?}");
    }

    fn try_create(&mut self, owner: &mut Client, id: RoomId, label: &str, kind: RoomKind) -> Reply {
        let join = (kind == RoomKind::Private).then(secret);
        let me = owner.me.identity.public();
        let policy = Policy::new(kind, label.into(), me, join.as_ref().map(Identity::public));
        let (room, grant) = Room::create(&owner.me, server().public(), id.0, policy, join).unwrap();
        owner.room = Some(room);
        owner.seen = 0;
        let door = (kind == RoomKind::Private).then(|| door(1));
        self.request(owner.session, Request::CreateRoom { room: id, door, published: published(0, &grant) })
    }

    /// A member's way in, from the door to the commit.
    fn join(&mut self, client: &mut Client, kind: RoomKind) {
        let door = (kind == RoomKind::Private).then(|| door(1));
        let reply = self.request(client.session, Request::Enter { room: DEN, door });
        let reply = self.finish_join(client, kind, reply);
        assert!(matches!(reply, Reply::Sequenced { .. }), "{reply:?}");
    }

    fn finish_join(&mut self, client: &mut Client, kind: RoomKind, entered: Reply) -> Reply {
        let (lease, commit, room) = client.prepare_join(kind, entered);
        let reply = self.request(client.session, with_lease(commit, lease));
        if let Reply::Sequenced { seq, .. } = reply {
            client.room = Some(room);
            client.seen = seq;
        }
        reply
    }

    fn say(&mut self, client: &mut Client, text: &str) -> Reply {
        let message = client.room.as_mut().unwrap().seal(text.as_bytes()).unwrap();
        self.post(client, message)
    }

    fn post(&mut self, client: &mut Client, message: Vec<u8>) -> Reply {
        let reply = self.request(client.session, Request::Post { room: DEN, message: message.into() });
        if let Reply::Sequenced { seq, .. } = reply {
            client.seen = client.seen.max(seq);
        }
        reply
    }

    /// The client takes in all rows that were pushed to it.
    fn catch(&mut self, client: &mut Client) -> Vec<Push> {
        let mut rest = Vec::new();
        for push in self.pushes(client.session) {
            match push {
                Push::Row { room: DEN, row } => client.receive(&row),
                other => rest.push(other),
            }
        }
        rest
    }

    /// Everything that the client has missed, page by page.
    fn catch_up(&mut self, client: &mut Client) {
        self.try_catch_up(client).unwrap();
    }

    fn try_catch_up(&mut self, client: &mut Client) -> Result<(), Code> {
        loop {
            match self.request(client.session, Request::Log { room: DEN, after: client.seen }) {
                Reply::Log { rows, live } => {
                    rows.iter().for_each(|row| client.receive(row));
                    if live {
                        return Ok(());
                    }
                }
                Reply::Refused(refusal) => return Err(refusal.code),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The client commits what stands.
    fn commit_pending(&mut self, client: &mut Client) -> Reply {
        let out = client.room.as_mut().unwrap().commit_pending().unwrap();
        let reply = self.request(client.session, commit(out));
        match reply {
            Reply::Sequenced { seq, .. } => {
                self.receive_below(client, seq);
                client.room.as_mut().unwrap().own_commit_accepted().unwrap();
                client.seen = seq;
            }
            _ => client.room.as_mut().unwrap().own_commit_lost().unwrap(),
        }
        reply
    }

    /// Rows that were pushed before the answer to an own commit come before it.
    fn receive_below(&mut self, client: &mut Client, seq: u64) {
        let pushes = self.pushes(client.session);
        let inbox = self.inbox(client.session);
        for push in pushes {
            match push {
                Push::Row { room: DEN, row } if row.seq < seq => client.receive(&row),
                other => inbox.push_back(ToClient::Push(other)),
            }
        }
    }

    fn leave(&mut self, client: &mut Client) -> Reply {
        let message = client.room.as_mut().unwrap().leave().unwrap();
        self.request(client.session, Request::Leave { room: DEN, message: message.into() })
    }
}
