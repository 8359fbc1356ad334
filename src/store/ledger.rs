//! What a client has sent and got lately, for quotas: one small file beside its database.

use super::private::{self, PrivateError};
use crate::transfer::restrict::{LEDGER_MAX, Ledger};
use std::path::Path;

/// What an earlier run has kept. What cannot be read counts as nothing: a quota is not worth a client that does not start.
pub fn load(dir: &Path) -> Ledger {
    match private::read(&dir.join(FILE), LEDGER_MAX as u64) {
        Ok(bytes) => Ledger::from_bytes(&bytes).unwrap_or_else(|error| {
            tracing::warn!("{FILE} cannot be read and begins anew: {error}");
            Ledger::default()
        }),
        Err(error) if error.is_absent() => Ledger::default(),
        Err(error) => {
            tracing::warn!("{FILE} begins anew: {error}");
            Ledger::default()
        }
    }
}

/// Keeps it for the next run: written beside, then renamed.
pub fn keep(dir: &Path, bytes: &[u8]) -> Result<(), PrivateError> {
    private::replace(&dir.join(FILE), bytes)
}

const FILE: &str = "sent.bin";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::identity::Identity;
    use crate::transfer::restrict::What;

    #[test]
    fn what_was_sent_is_known_after_a_restart_and_a_broken_file_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Ledger::default());
        let key = Identity::from_seed(&[1; 32]).public();
        let mut ledger = Ledger::default();
        ledger.add(&key, What::new(&key, &[1; 32]), (1, 5), 1_000);
        keep(dir.path(), &ledger.to_bytes()).unwrap();
        keep(dir.path(), &ledger.to_bytes()).unwrap();
        assert_eq!(load(dir.path()), ledger);
        keep(dir.path(), b"nonsense").unwrap();
        assert_eq!(load(dir.path()), Ledger::default());
    }
}
