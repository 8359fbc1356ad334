use super::*;
use proptest::prelude::*;

const PEOPLE: usize = 4;

/// What may happen to one of the people, or to the server.
#[derive(Debug, Clone, Copy)]
enum Step {
    Say(usize),
    Join(usize),
    Leave(usize),
    Renew(usize),
    /// Commits without having heard what was said meanwhile.
    RenewBlindly(usize),
    LoseLink(usize),
    Reconnect(usize),
    NewProcess(usize),
    ServerKilled,
    Minutes(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..PEOPLE;
    prop_oneof![
        8 => who.clone().prop_map(Step::Say),
        5 => who.clone().prop_map(Step::Join),
        2 => who.clone().prop_map(Step::Leave),
        2 => who.clone().prop_map(Step::Renew),
        1 => who.clone().prop_map(Step::RenewBlindly),
        2 => who.clone().prop_map(Step::LoseLink),
        3 => who.clone().prop_map(Step::Reconnect),
        1 => who.prop_map(Step::NewProcess),
        1 => Just(Step::ServerKilled),
        1 => (1..12u32).prop_map(Step::Minutes),
    ]
}

struct Person {
    client: Client,
    online: bool,
    instance: u8,
    /// The number of the row with which it joined.
    joined: u64,
}

struct Model {
    world: World,
    people: Vec<Person>,
    /// Acknowledged messages: number, sender, text.
    sent: Vec<(u64, usize, String)>,
}

impl Model {
    fn new() -> Self {
        let mut world = World::new();
        let mut people: Vec<Person> = (0..PEOPLE)
            .map(|n| {
                let seed = u8::try_from(n + 1).unwrap();
                let client = world.client(seed, &format!("p{seed}x"));
                Person { client, online: true, instance: seed, joined: 0 }
            })
            .collect();
        world.create(&mut people[0].client, RoomKind::Private);
        Self { world, people, sent: Vec::new() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Say(n) => self.say(n),
            Step::Join(n) if self.people[n].client.room.is_none() => self.join(n),
            Step::Join(_) => {}
            Step::Leave(n) => self.leave(n),
            Step::Renew(n) => {
                self.hear(n);
                self.commit(n);
            }
            Step::RenewBlindly(n) => self.commit(n),
            Step::LoseLink(n) => {
                self.people[n].online = false;
                self.world.disconnect(&self.people[n].client);
            }
            Step::Reconnect(n) => self.reconnect(n),
            Step::NewProcess(n) => {
                self.people[n].instance += 10;
                self.check(n);
                self.people[n].client.room = None;
                self.reconnect(n);
            }
            Step::ServerKilled => self.restart(),
            Step::Minutes(minutes) => self.pass(minutes * 60),
        }
    }

    fn active(&self, n: usize) -> bool {
        self.people[n].online && self.people[n].client.room.as_ref().is_some_and(Room::is_active)
    }

    /// Takes in what was pushed, and does what one is named for.
    fn hear(&mut self, n: usize) {
        if self.people[n].client.room.is_none() {
            self.world.pushes(self.people[n].client.session);
            return;
        }
        let rest = self.world.catch(&mut self.people[n].client);
        if !self.people[n].client.room.as_ref().unwrap().is_active() {
            self.out(n);
        } else if rest.iter().any(|p| matches!(p, Push::CommitNow { .. })) {
            self.commit(n);
            if self.people[n].client.room.is_some() {
                self.world.catch(&mut self.people[n].client);
            }
        }
    }

    /// The person is no longer in the room; what it heard must be right.
    fn out(&mut self, n: usize) {
        self.check(n);
        self.people[n].client.room = None;
    }

    fn commit(&mut self, n: usize) {
        if !self.active(n) {
            return;
        }
        let reply = self.world.commit_pending(&mut self.people[n].client);
        match code(&reply) {
            None | Some(Code::Stale) => {}
            Some(Code::NotMember) => self.out(n),
            Some(other) => panic!("{other:?}: {reply:?}"),
        }
    }

    fn say(&mut self, n: usize) {
        self.hear(n);
        if self.active(n) && self.people[n].client.room.as_ref().unwrap().must_commit() {
            self.commit(n);
            self.hear(n);
        }
        if !self.active(n) || self.people[n].client.room.as_ref().unwrap().must_commit() {
            return;
        }
        let text = format!("{n}: {}", self.sent.len());
        match self.world.say(&mut self.people[n].client, &text) {
            Reply::Sequenced { seq, .. } => self.sent.push((seq, n, text)),
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, n: usize) {
        self.hear(n);
        if self.active(n) {
            let reply = self.world.leave(&mut self.people[n].client);
            assert!(matches!(reply, Reply::Sequenced { .. }), "{reply:?}");
            self.out(n);
        }
    }

    fn join(&mut self, n: usize) {
        if !self.people[n].online {
            self.reconnect(n);
        }
        let session = self.people[n].client.session;
        let mut asked = self.world.ask(session, enter(1));
        for _ in 0..20 {
            if let Some(entered) = self.world.answer(session, asked) {
                let person = &mut self.people[n];
                person.client.texts.clear();
                let reply = self.world.finish_join(&mut person.client, RoomKind::Private, entered);
                if matches!(reply, Reply::Sequenced { .. }) {
                    person.joined = person.client.seen;
                    return;
                }
                // A member's commit won the epoch: the lease stays, and the newcomer asks for the state again.
                assert_eq!(code(&reply), Some(Code::Stale), "{reply:?}");
                asked = self.world.ask(session, enter(1));
                continue;
            }
            (0..PEOPLE).filter(|m| *m != n).for_each(|m| self.hear(m));
            self.pass(1);
        }
        panic!("nobody lets {n} in");
    }

    fn reconnect(&mut self, n: usize) {
        let person = &mut self.people[n];
        self.world.reconnect(&mut person.client, person.instance);
        person.online = true;
        if person.client.room.is_none() {
            return;
        }
        match self.world.try_catch_up(&mut person.client) {
            Ok(()) => {}
            Err(Code::NotMember | Code::Gap) => return self.out(n),
            Err(other) => panic!("{other:?}"),
        }
        if !self.people[n].client.room.as_ref().unwrap().is_active() {
            self.out(n);
        }
    }

    fn restart(&mut self) {
        let world = std::mem::replace(&mut self.world, World::new());
        self.world = world.restart();
        self.people.iter_mut().for_each(|p| p.online = false);
    }

    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds.div_ceil(15) {
            self.world.pass(Duration::from_secs(u64::from(seconds.min(15))));
            for n in 0..PEOPLE {
                if self.people[n].online {
                    self.world.feed(Input::Frame(self.people[n].client.session, ToServer::Alive));
                    self.hear(n);
                }
            }
        }
    }

    /// What was acknowledged while somebody was in the room came to it once, and in order.
    fn check(&self, n: usize) {
        let person = &self.people[n];
        if person.client.room.is_none() {
            return;
        }
        let due =
            self.sent.iter().filter(|(seq, from, _)| *from != n && *seq > person.joined && *seq <= person.client.seen);
        assert!(due.map(|(_, _, text)| text).eq(&person.client.texts), "{n}: {:?}", person.client.texts);
    }

    /// Everybody comes back; nothing stands, all agree, and all hear each other.
    fn settle(&mut self) {
        for n in 0..PEOPLE {
            if !self.people[n].online {
                self.reconnect(n);
            }
        }
        for n in 0..PEOPLE {
            if self.people[n].client.room.is_none() {
                self.join(n);
            }
        }
        self.pass(700);
        for n in 0..PEOPLE {
            self.say(n);
        }
        for n in 0..PEOPLE {
            self.hear(n);
            self.check(n);
        }
        let seen = |n: usize| {
            let room = self.people[n].client.room.as_ref().unwrap();
            (room.epoch(), room.tree_hash().to_vec(), room.members().count(), self.people[n].client.seen)
        };
        assert!((0..PEOPLE).all(|n| seen(n) == seen(0) && seen(n).2 == PEOPLE));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_that_was_acknowledged_arrives_once_in_order(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
        }
        model.settle();
    }
}
