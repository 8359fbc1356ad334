//! Random histories: whatever happens in whatever order, those who are in agree on everything.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Join(u8),
    Leave(u8),
    Remove(u8),
    Kick(u8),
    Update(u8),
    Race(u8, u8),
    Rotate,
    Chat,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..8u8).prop_map(Step::Join),
        2 => any::<u8>().prop_map(Step::Leave),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => any::<u8>().prop_map(Step::Kick),
        2 => any::<u8>().prop_map(Step::Update),
        2 => any::<(u8, u8)>().prop_map(|(a, b)| Step::Race(a, b)),
        1 => Just(Step::Rotate),
        2 => Just(Step::Chat),
    ]
}

/// Alice, the first, owns the room and stays; the others come and go.
struct Model {
    world: World,
    rotations: u8,
}

impl Model {
    fn pick(&self, n: u8) -> usize {
        usize::from(n) % self.world.rooms.len()
    }

    fn other(&self, n: u8) -> Option<usize> {
        let others = self.world.rooms.len() - 1;
        (others > 0).then(|| 1 + usize::from(n) % others.max(1))
    }

    fn settle(&mut self) {
        self.world.rooms.retain(Room::is_active);
        self.world.agree();
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Join(n) => {
                let me = user(n + 10, &format!("user{n}"));
                self.world.rooms.retain(|r| r.me.identity.public() != me.identity.public());
                self.world.join(&me);
            }
            Step::Leave(n) => {
                let Some(i) = self.other(n) else { return };
                let bytes = self.world.rooms[i].leave().unwrap();
                self.world.propose(&bytes);
                self.commit(0);
            }
            Step::Remove(n) => {
                let Some(i) = self.other(n) else { return };
                let key = self.world.rooms[i].me.identity.public();
                let bytes = self.world.directory.propose_remove(&server(), &key).unwrap();
                self.world.tell_proposal(&bytes);
                let committer = (0..self.world.rooms.len()).rev().find(|c| *c != i).unwrap();
                self.commit(committer);
            }
            Step::Kick(n) => {
                let Some(i) = self.other(n) else { return };
                let key = self.world.rooms[i].me.identity.public();
                let new = self.new_secret();
                let out = self.world.rooms[0].remove(&key, new.clone()).unwrap();
                self.world.log(&out, Some(0));
                self.hand_out(new);
            }
            Step::Rotate => {
                let Some(new) = self.new_secret() else { return };
                let out = self.world.rooms[0].rotate(new.clone()).unwrap();
                self.world.log(&out, Some(0));
                self.hand_out(Some(new));
            }
            Step::Update(n) => self.commit(self.pick(n)),
            Step::Race(a, b) => {
                let (a, b) = (self.pick(a), self.pick(b));
                if a != b {
                    self.world.rooms[b].self_update().unwrap();
                }
                self.commit(a);
            }
            Step::Chat => self.world.chat(),
        }
        self.settle();
    }

    fn commit(&mut self, maker: usize) {
        let out = self.world.rooms[maker].self_update().unwrap();
        self.world.log(&out, Some(maker));
    }

    fn new_secret(&mut self) -> Option<Identity> {
        self.world.join.as_ref()?;
        self.rotations += 1;
        Some(Identity::from_seed(&[self.rotations; 32]))
    }

    /// The owner's client sends the new secret sealed to all; here they just have it.
    fn hand_out(&mut self, new: Option<Identity>) {
        let Some(new) = new else { return };
        self.world.rooms.retain(Room::is_active);
        for room in &mut self.world.rooms {
            assert!(room.set_join_key(new.clone()));
        }
        self.world.join = Some(new);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_in_agrees(private in any::<bool>(), steps in prop::collection::vec(step(), 1..25)) {
        let kind = if private { RoomKind::Private } else { RoomKind::Public };
        let mut model = Model { world: World::new(kind), rotations: 0 };
        for step in &steps {
            model.run(step);
        }
        model.world.chat();
        let grant = model.world.directory.grant();
        let again = Directory::open(server().public(), ROOM, &grant, &pinned).unwrap();
        prop_assert_eq!(again.grant(), grant);
    }
}
