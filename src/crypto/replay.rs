//! The replay window of one direction of a connection (the sliding bitmap of RFC 6479).

use std::fmt;

/// Packets behind the newest one that can still be told from a repeat. Older ones are refused.
pub const REPLAY_WINDOW: u64 = (WORDS as u64 - 1) * 64;

/// Remembers which packet numbers were accepted. Ask [`Self::check`] before opening a datagram, call [`Self::mark`]
/// only once it proved authentic: a forgery must not be able to move the window.
#[derive(Clone)]
pub struct ReplayWindow {
    // Bit n % 64 of word (n / 64) % WORDS stands for packet n. The word of the newest packet is only partly in the
    // past, so WORDS - 1 whole words are kept behind it.
    words: [u64; WORDS],
    // One above the newest packet marked; 0 when there is none.
    upper: u64,
}

impl ReplayWindow {
    /// A window that has seen nothing.
    pub fn new() -> Self {
        Self { words: [0; WORDS], upper: 0 }
    }

    /// Whether `packet` is neither a repeat nor too old to know.
    pub fn check(&self, packet: u64) -> bool {
        if packet >= self.upper {
            return packet < u64::MAX;
        }
        let newest = self.upper - 1;
        if newest - packet >= REPLAY_WINDOW {
            return false;
        }
        self.words[Self::slot(packet)] & Self::bit(packet) == 0
    }

    /// Records an authentic packet. Numbers that [`Self::check`] refuses change nothing.
    pub fn mark(&mut self, packet: u64) {
        if !self.check(packet) {
            return;
        }
        if packet >= self.upper {
            self.slide_to(packet);
        }
        self.words[Self::slot(packet)] |= Self::bit(packet);
    }

    fn slide_to(&mut self, packet: u64) {
        let new_word = packet / 64;
        // With nothing marked yet every word is clear already.
        let old_word = if self.upper == 0 { new_word } else { (self.upper - 1) / 64 };
        let steps = (new_word - old_word).min(WORDS as u64);
        for step in 0..steps {
            self.words[Self::slot((new_word - step) * 64)] = 0;
        }
        self.upper = packet + 1;
    }

    fn slot(packet: u64) -> usize {
        // The remainder is below WORDS, so the conversion is exact.
        ((packet / 64) % WORDS as u64) as usize
    }

    fn bit(packet: u64) -> u64 {
        1 << (packet % 64)
    }
}

impl fmt::Debug for ReplayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplayWindow(below {})", self.upper)
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

const WORDS: usize = 513;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_passes_once() {
        let mut window = ReplayWindow::new();
        for packet in [0, 5, 3, REPLAY_WINDOW, 4] {
            assert!(window.check(packet), "{packet}");
            window.mark(packet);
            assert!(!window.check(packet), "{packet}");
        }
    }

    #[test]
    fn at_least_two_full_windows_of_reordering_are_told_from_repeats() {
        const { assert!(REPLAY_WINDOW >= 2 * 16_384) };
        let mut window = ReplayWindow::new();
        window.mark(100_000);
        assert!(window.check(100_000 - REPLAY_WINDOW + 1));
        assert!(!window.check(100_000 - REPLAY_WINDOW));
    }

    #[test]
    fn checking_alone_changes_nothing() {
        let window = ReplayWindow::new();
        assert!(window.check(1 << 40));
        assert!(window.check(0));
    }

    #[test]
    fn the_largest_number_cannot_wrap_the_window() {
        let mut window = ReplayWindow::new();
        window.mark(u64::MAX);
        assert!(window.check(0));
        window.mark(u64::MAX - 1);
        assert!(!window.check(u64::MAX - 1));
        assert!(!window.check(0));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_that_never_forgets(
            jumps in proptest::collection::vec((0..80_000u64, 0..48_000u64), 1..300),
        ) {
            let mut window = ReplayWindow::new();
            let (mut seen, mut newest) = (HashSet::new(), None::<u64>);
            let mut at = 48_000u64;
            for (forward, back) in jumps {
                at += forward / 8;
                let packet = at.saturating_sub(back);
                let expected = match newest {
                    Some(newest) if packet <= newest => newest - packet < REPLAY_WINDOW && !seen.contains(&packet),
                    _ => true,
                };
                prop_assert_eq!(window.check(packet), expected);
                window.mark(packet);
                if expected {
                    seen.insert(packet);
                    newest = newest.max(Some(packet));
                }
            }
        }
    }
}
