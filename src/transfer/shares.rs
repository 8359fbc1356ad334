//! What is shared: a file's own switch wins over the global one, which is off at first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::name::is_shareable;

/// The switches. They outlive the files that they name, so a file that comes back has its switch still.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switches {
    global: bool,
    // Each satisfies `is_shareable`; at most OWN_MAX.
    own: BTreeMap<String, bool>,
}

/// Why a switch was not set, or a list of switches not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SwitchError {
    /// No file of a shared folder can have this name.
    #[error("no file in a shared folder can have this name")]
    Name,
    /// [`OWN_MAX`] files have their own switch already.
    #[error("{OWN_MAX} files have a switch of their own already")]
    TooMany,
    /// Not what [`Switches::to_json`] wrote.
    #[error("the list of shares cannot be read")]
    Malformed,
}

impl Switches {
    /// Whether the file `name` is shared.
    pub fn is_shared(&self, name: &str) -> bool {
        is_shareable(name) && self.own.get(name).copied().unwrap_or(self.global)
    }

    /// Whether `name` has a switch of its own, on or off.
    pub fn has_own(&self, name: &str) -> bool {
        self.own.contains_key(name)
    }

    /// The global switch.
    pub fn global(&self) -> bool {
        self.global
    }

    /// Turns the global switch; files' own switches stay.
    pub fn set_global(&mut self, on: bool) {
        self.global = on;
    }

    /// Turns a file's own switch.
    pub fn set(&mut self, name: &str, on: bool) -> Result<(), SwitchError> {
        if !is_shareable(name) {
            return Err(SwitchError::Name);
        }
        if self.own.len() >= OWN_MAX && !self.has_own(name) {
            return Err(SwitchError::TooMany);
        }
        self.own.insert(name.to_owned(), on);
        Ok(())
    }

    /// For keeping.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads what was kept.
    pub fn from_json(text: &str) -> Result<Self, SwitchError> {
        let switches: Self = serde_json::from_str(text).map_err(|_| SwitchError::Malformed)?;
        if switches.own.len() > OWN_MAX || !switches.own.keys().all(|name| is_shareable(name)) {
            return Err(SwitchError::Malformed);
        }
        Ok(switches)
    }
}

/// Files with a switch of their own.
pub const OWN_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_own_switch_wins_over_the_global_one() {
        let mut switches = Switches::default();
        assert!(!switches.is_shared("a"));
        switches.set("a", true).unwrap();
        switches.set("b", false).unwrap();
        assert!(switches.is_shared("a") && !switches.is_shared("c"));
        switches.set_global(true);
        assert!(switches.is_shared("c") && !switches.is_shared("b"));
        switches.set_global(false);
        assert!(switches.is_shared("a") && !switches.is_shared("c"));
    }

    #[test]
    fn hidden_files_and_paths_are_never_shared() {
        let mut switches = Switches::default();
        switches.set_global(true);
        for name in [".bashrc", ".a.secchat-part-1", "../a", "a/b", "", ".", "..", "a\\b", "a\0"] {
            assert!(!switches.is_shared(name), "{name:?}");
            assert_eq!(switches.set(name, true), Err(SwitchError::Name));
        }
    }

    #[test]
    fn switches_read_back_and_nonsense_is_refused() {
        let mut switches = Switches::default();
        switches.set("ünïcode name.txt", true).unwrap();
        switches.set_global(true);
        assert_eq!(Switches::from_json(&switches.to_json()), Ok(switches));
        for bad in ["", "{", "[]", r#"{"global":1,"own":{}}"#, r#"{"global":true,"own":{"../x":true}}"#] {
            assert_eq!(Switches::from_json(bad), Err(SwitchError::Malformed), "{bad}");
        }
    }
}
