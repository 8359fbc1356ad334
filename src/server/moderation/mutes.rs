//! Who has no word: in one room, or anywhere on this server.

use super::super::core::{Core, LoadError};
use super::super::sessions::Asker;
use super::kicks::with_reason;
use super::{Officer, Told, entries, fitting, terms};
use crate::crypto::identity::PublicKey;
use crate::limits::REGISTER_MAX;
use crate::store::{Entry, List, Write};
use crate::wire::admin::{Answer, Failure, MuteView};
use crate::wire::encode;
use crate::wire::frame::{Code, Push, Refusal};
use crate::wire::id::{Id, RoomId};
use crate::wire::name::{FullName, Name};
use crate::wire::text::shown;
use std::collections::BTreeMap;

/// By key, for a name may change hands, and room; without a room for the whole server.
#[derive(Debug, Default)]
pub(super) struct Mutes(BTreeMap<Place, Mute>);

type Place = (PublicKey, Option<RoomId>);

#[derive(Debug, Clone, minicbor::Encode, minicbor::Decode)]
struct Mute {
    #[n(0)]
    name: FullName,
    /// The room's label.
    #[n(1)]
    room: Option<Name>,
    #[n(2)]
    reason: String,
    #[n(3)]
    by: String,
    #[n(4)]
    until_ms: Option<u64>,
}

impl Mutes {
    pub(super) fn load(register: &[Entry]) -> Result<Self, LoadError> {
        let mutes = entries(register, List::Mute, MUTE_MAX).map(|entry| {
            let (key, mute) = entry?;
            Ok((place(&key).ok_or(LoadError::Register(List::Mute.as_str()))?, mute))
        });
        Ok(Self(mutes.collect::<Result<_, LoadError>>()?))
    }

    /// Whether a key is muted anywhere here.
    pub(super) fn any(&self, key: &PublicKey, wall_ms: u64) -> bool {
        self.of(key).any(|(_, mute)| terms::holds(mute.until_ms, wall_ms))
    }

    /// What takes the word from a key in a room; the whole server's comes first.
    fn holding(&self, key: &PublicKey, room: Option<RoomId>, wall_ms: u64) -> Option<&Mute> {
        let places = [Some((*key, None)), room.map(|room| (*key, Some(room)))];
        let mut mutes = places.into_iter().flatten().filter_map(|place| self.0.get(&place));
        mutes.find(|mute| terms::holds(mute.until_ms, wall_ms))
    }

    /// Drops all of a key under a name; their keys in the register.
    pub(super) fn forget(&mut self, key: &PublicKey, name: &FullName) -> Vec<Vec<u8>> {
        let gone: Vec<Place> = self.of(key).filter(|(_, mute)| mute.name == *name).map(|(place, _)| *place).collect();
        gone.into_iter().inspect(|place| _ = self.0.remove(place)).map(|place| bytes(&place)).collect()
    }

    fn of(&self, key: &PublicKey) -> impl Iterator<Item = (&Place, &Mute)> {
        self.0.range((*key, None)..).take_while(move |((of, _), _)| of == key)
    }
}

impl Core {
    pub(super) fn mute(
        &mut self,
        officer: &Officer,
        typed: &str,
        room: Option<&str>,
        for_s: Option<u64>,
        reason: Option<&str>,
    ) -> Told {
        let (name, key) = self.person(typed)?;
        let room = room.map(|room| self.room_here(room)).transpose()?.map(|room| (room.id, room.label.clone()));
        let until_ms = terms::until(self.wall_ms, for_s)?;
        self.may_touch(officer, &key)?;
        let (place, label) = match room {
            Some((id, label)) => ((key, Some(id)), label),
            None => ((key, None), None),
        };
        let mutes = &self.moderation.mutes.0;
        if mutes.len() >= REGISTER_MAX && !mutes.contains_key(&place) {
            return Err(Answer::failed(Failure::Full, "there are as many mutes as there may be"));
        }
        let reason = reason.unwrap_or_default().to_owned();
        let mute = Mute { name: name.clone(), room: label, reason, by: officer.named(), until_ms };
        let what = format!("{name} is muted{}{}", scope(&mute), terms::told(until_ms));
        self.out.write(Write::Keep(Entry { list: List::Mute, key: bytes(&place), value: encode(&mute) }));
        if let Some(session) = self.session_of(&name, &key) {
            self.out.push(session, Push::Notice { text: words(&mute) });
        }
        self.moderation.mutes.0.insert(place, mute);
        Ok(Answer::done(what))
    }

    pub(super) fn unmute(&mut self, officer: &Officer, typed: &str, room: Option<&str>) -> Told {
        // A guest that is gone and a room that is gone can be named too.
        let name = self.full_name(typed)?;
        let own = self.names.owner(&name.name).filter(|_| name.server == self.config.name);
        let label = |typed: &str| typed.trim_start_matches('#').split('@').next().and_then(|l| Name::parse(l).ok());
        let label = room.map(|typed| label(typed).ok_or_else(|| self.room_here(typed).err()));
        let label = match label {
            None => None,
            Some(Ok(label)) => Some(label),
            Some(Err(unknown)) => {
                return Err(unknown.unwrap_or_else(|| Answer::failed(Failure::UnknownRoom, "there is no such room")));
            }
        };
        let named = |place: &Place, mute: &Mute| mute.name == name || Some(place.0) == own;
        let mut mutes = self.moderation.mutes.0.iter();
        let found = mutes.find(|(place, mute)| named(place, mute) && mute.room == label).map(|(place, _)| *place);
        let Some(place) = found else {
            let place = label.map(|label| format!(" in {label}")).unwrap_or_default();
            let why = format!("{} is not muted{place}", shown(typed));
            return Err(Answer::failed_with(Failure::UnknownUser, why, "see `mutes`"));
        };
        if officer.person.as_ref().is_some_and(|(_, key)| *key == place.0) {
            return Err(Answer::failed(Failure::NotAllowed, "somebody else must give you the word back"));
        }
        let Some(mute) = self.moderation.mutes.0.remove(&place) else {
            return Err(Answer::failed(Failure::UnknownUser, "there is no such mute"));
        };
        self.out.write(Write::Strike { list: List::Mute, key: bytes(&place) });
        if let Some(session) = self.session_of(&mute.name, &place.0) {
            self.out.push(session, Push::Notice { text: format!("you have the word again{}", scope(&mute)) });
        }
        Ok(Answer::done(format!("{} has the word again{}", mute.name, scope(&mute))))
    }

    pub(super) fn list_mutes(&self) -> Answer {
        let holds = self.moderation.mutes.0.values().filter(|mute| terms::holds(mute.until_ms, self.wall_ms));
        let view = |mute: &Mute| MuteView {
            name: mute.name.to_string(),
            room: mute.room.as_ref().map(|label| format!("{label}@{}", self.config.name)),
            reason: mute.reason.clone(),
            by: mute.by.clone(),
            until_ms: mute.until_ms,
        };
        Answer::Mutes(fitting(holds.map(view), |row| row.name.clone()))
    }

    /// Whether somebody has the word, in a room or anywhere. What is posted is sealed, so that a mute ends pings, searches and the
    /// agreements of file transfers with it.
    pub(in crate::server) fn may_speak(&self, asker: &Asker, room: Option<RoomId>) -> Result<(), Refusal> {
        match self.moderation.mutes.holding(&asker.key, room, self.wall_ms) {
            None => Ok(()),
            Some(mute) => Err(Refusal::new(Code::Muted, words(mute)).hint("@server TEXT still reaches the operator")),
        }
    }

    /// Mutes that are over, and those in rooms that are gone.
    pub(super) fn prune_mutes(&mut self) {
        let (wall_ms, rooms) = (self.wall_ms, &self.rooms);
        let stays = |place: &Place, mute: &Mute| {
            terms::holds(mute.until_ms, wall_ms) && place.1.is_none_or(|room| rooms.get(&room).is_some())
        };
        let mutes = &mut self.moderation.mutes.0;
        let gone: Vec<Place> = mutes.iter().filter(|(place, mute)| !stays(place, mute)).map(|(p, _)| *p).collect();
        for place in gone {
            mutes.remove(&place);
            self.out.write(Write::Strike { list: List::Mute, key: bytes(&place) });
        }
    }
}

/// To the one who is muted.
fn words(mute: &Mute) -> String {
    let reason = Some(mute.reason.as_str()).filter(|reason| !reason.is_empty());
    with_reason(format!("you are muted{}{}", scope(mute), terms::told(mute.until_ms)), reason)
}

fn scope(mute: &Mute) -> String {
    mute.room.as_ref().map(|label| format!(" in {label}")).unwrap_or_default()
}

/// The key in the register: the user's key, and the room's id where it is about one.
fn bytes((key, room): &Place) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    bytes.extend(room.iter().flat_map(|room| room.0));
    bytes
}

fn place(bytes: &[u8]) -> Option<Place> {
    let (key, room) = bytes.split_first_chunk::<32>()?;
    let room = if room.is_empty() { None } else { Some(Id(room.try_into().ok()?)) };
    Some((PublicKey::from_bytes(*key), room))
}

const MUTE_MAX: usize = 2048;
