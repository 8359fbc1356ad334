//! Registration and level: what holds for everybody, and what the levels mean.

use super::super::core::{Core, LoadError};
use super::super::forwarding::RelayLimits;
use super::{Told, entries};
use crate::store::{Entry, List, Write};
use crate::wire::admin::{Answer, Failure, Registration, RelayView, SettingsView};
use crate::wire::encode;

/// What is set.
#[derive(Debug)]
pub(super) struct Settings {
    registration: Registration,
    defcon: u8,
}

/// What a level of wariness means.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct Level {
    /// Rates are a so-manieth of the normal ones.
    pub(in crate::server) slower: u32,
    /// Who takes new names, at the most.
    registration: Registration,
    /// Whether new rooms are made.
    pub(in crate::server) new_rooms: bool,
    /// Whether people get in without a role and without standing on the list of those who may.
    strangers: bool,
    /// Whether anybody joins a room that is not a member already.
    pub(in crate::server) joins: bool,
}

/// Level 1 first.
const LEVELS: [Level; 5] = [
    Level { slower: 10, registration: Registration::Closed, new_rooms: false, strangers: false, joins: false },
    Level { slower: 10, registration: Registration::Closed, new_rooms: false, strangers: true, joins: true },
    Level { slower: 4, registration: Registration::Invite, new_rooms: true, strangers: true, joins: true },
    Level { slower: 2, registration: Registration::Open, new_rooms: true, strangers: true, joins: true },
    NORMAL,
];
const NORMAL: Level =
    Level { slower: 1, registration: Registration::Open, new_rooms: true, strangers: true, joins: true };

/// What a level means, in words; for 1 to 5.
const WORDS: [&str; 5] = [
    "a tenth of all rates; only those with a role or on the list get in; no new names, no new rooms, nobody joins a room",
    "a tenth of all rates; no new names, no new rooms",
    "a quarter of all rates; new names by invitation only",
    "half of all rates",
    "all as usual",
];

impl Settings {
    pub(super) fn load(register: &[Entry]) -> Result<Self, LoadError> {
        let unknown = || LoadError::Register(List::Setting.as_str());
        let mut settings = Self { registration: Registration::default(), defcon: CALM };
        for entry in entries::<u8>(register, List::Setting, SETTING_MAX) {
            match entry? {
                (key, value) if key == REGISTRATION => {
                    settings.registration = *MODES.get(usize::from(value)).ok_or_else(unknown)?
                }
                (key, value) if key == DEFCON => {
                    level(value).ok_or_else(unknown)?;
                    settings.defcon = value;
                }
                _ => return Err(unknown()),
            }
        }
        Ok(settings)
    }

    /// Who may take a new name: what is set, or what the level says where that is stricter.
    pub(super) fn registration(&self) -> Registration {
        self.registration.max(self.level().registration)
    }

    pub(super) fn level(&self) -> &'static Level {
        level(self.defcon).unwrap_or(&NORMAL)
    }

    /// Whether the level lets in who has no role and stands on no list.
    pub(super) fn strangers(&self) -> bool {
        self.level().strangers
    }
}

impl Core {
    /// The present level.
    pub(in crate::server) fn level(&self) -> &'static Level {
        self.moderation.settings.level()
    }

    pub(super) fn settings_view(&self) -> Answer {
        let Settings { registration, defcon } = self.moderation.settings;
        let invitations = u32::try_from(self.moderation.invitations.open(self.wall_ms)).unwrap_or(u32::MAX);
        let RelayLimits { user_rate, rate, user_bytes, bytes } = self.relays;
        Answer::Settings(SettingsView {
            registration,
            defcon,
            allow_list: !self.moderation.allowed.is_empty(),
            invitations,
            relay: Some(RelayView { user_rate, rate, user_bytes, bytes }),
        })
    }

    pub(super) fn set_registration(&mut self, mode: Registration) -> Told {
        let settings = &mut self.moderation.settings;
        if settings.registration == mode {
            return Err(Answer::failed(Failure::Already, format!("registration is {} already", mode.as_str())));
        }
        settings.registration = mode;
        let stricter = Some(settings.registration()).filter(|now| *now != mode);
        let value = MODES.iter().position(|m| *m == mode).and_then(|at| u8::try_from(at).ok()).unwrap_or_default();
        self.keep_setting(REGISTRATION, value);
        let note = stricter.map(|now| format!("the level makes it {} all the same", now.as_str()));
        let what = format!("registration is {} now", mode.as_str());
        Ok(Answer::Done { what, notes: note.into_iter().collect(), id: None, token: None })
    }

    pub(super) fn set_level(&mut self, number: u8) -> Told {
        let why = "a level is a number from 1, the wariest, to 5, which is normal";
        let new = level(number).ok_or_else(|| Answer::failed(Failure::BadValue, why))?;
        if self.moderation.settings.defcon == number {
            return Err(Answer::failed(Failure::Already, format!("the level is {number} already")));
        }
        self.moderation.settings.defcon = number;
        self.keep_setting(DEFCON, number);
        self.tighten();
        let words = WORDS.get(usize::from(number.saturating_sub(1))).copied().unwrap_or_default();
        let mut notes = Vec::new();
        if !new.strangers {
            notes.extend(self.unlisted_note());
        }
        Ok(Answer::Done { what: format!("level {number}: {words}"), notes, id: None, token: None })
    }

    fn keep_setting(&mut self, key: &[u8], value: u8) {
        self.out.write(Write::Keep(Entry { list: List::Setting, key: key.to_vec(), value: encode(&value) }));
    }
}

fn level(number: u8) -> Option<&'static Level> {
    LEVELS.get(usize::from(number.checked_sub(1)?))
}

/// As they are numbered in the register.
const MODES: [Registration; 3] = [Registration::Open, Registration::Invite, Registration::Closed];
const REGISTRATION: &[u8] = b"registration";
const DEFCON: &[u8] = b"defcon";
/// The normal level.
const CALM: u8 = 5;
const SETTING_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_at_least_as_strict_as_the_one_above() {
        assert_eq!(level(CALM), Some(&NORMAL));
        assert_eq!((level(0), level(6)), (None, None));
        for pair in LEVELS.windows(2) {
            let [stricter, milder] = pair else { panic!() };
            assert!(stricter.slower >= milder.slower && stricter.registration >= milder.registration);
            assert!(stricter.new_rooms <= milder.new_rooms && stricter.joins <= milder.joins);
            assert!(stricter.strangers <= milder.strangers && stricter != milder);
        }
    }

    #[test]
    fn what_cannot_be_understood_is_not_taken_for_nothing() {
        let entry = |key: &[u8], value: Vec<u8>| Entry { list: List::Setting, key: key.to_vec(), value };
        let set = [entry(REGISTRATION, encode(&1u8)), entry(DEFCON, encode(&2u8))];
        let settings = Settings::load(&set).unwrap();
        assert_eq!(
            (settings.registration, settings.registration(), settings.defcon),
            (Registration::Invite, Registration::Closed, 2)
        );
        for bad in [
            entry(DEFCON, encode(&0u8)),
            entry(DEFCON, vec![0xff]),
            entry(REGISTRATION, encode(&3u8)),
            entry(b"x", encode(&1u8)),
        ] {
            assert!(Settings::load(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
    }
}
