//! Who saw whom, and since when: the node lists of all servers beside what is true.

use std::collections::{BTreeMap, BTreeSet};

/// Node lists as the servers told them, in order.
#[derive(Debug, Default)]
pub struct Views {
    told: BTreeMap<String, Vec<(u64, BTreeSet<String>)>>,
}

impl Views {
    /// From `at` on, `who` sees these others.
    pub fn tell(&mut self, who: &str, at: u64, sees: impl IntoIterator<Item = String>) {
        self.told.entry(who.to_owned()).or_default().push((at, sees.into_iter().collect()));
    }

    /// When all that live have seen exactly the others that live, and nothing else until the end: nanoseconds after the start;
    /// `None` if that was never so.
    pub fn right_after(&self, living: &BTreeSet<String>, start: u64, end: u64) -> Option<u64> {
        let since = living.iter().map(|who| {
            let others: BTreeSet<String> = living.iter().filter(|other| *other != who).cloned().collect();
            self.since(who, &others, start, end)
        });
        since.collect::<Option<Vec<u64>>>().map(|since| since.into_iter().max().unwrap_or_default())
    }

    fn since(&self, who: &str, wanted: &BTreeSet<String>, start: u64, end: u64) -> Option<u64> {
        let mut since = None;
        for (at, sees) in self.told.get(who)?.iter().take_while(|(at, _)| *at < end) {
            if sees == wanted {
                since = since.or(Some(at.saturating_sub(start)));
            } else {
                since = None;
            }
        }
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> BTreeSet<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_list_is_right_from_when_it_is_and_stays_so() {
        let mut views = Views::default();
        for (who, at, sees) in [("a", 1, "b c"), ("b", 2, "a"), ("b", 3, "a c"), ("c", 2, "a b"), ("a", 14, "b")] {
            views.tell(who, at, set(sees));
        }
        let all = set("a b c");
        assert_eq!(views.right_after(&all, 0, 10), Some(3));
        assert_eq!(views.right_after(&all, 4, 10), Some(0), "it was right before");
        assert_eq!(views.right_after(&all, 0, 20), None, "it is not any more");
        assert_eq!(views.right_after(&set("a b"), 10, 20), None, "b knows of nothing");
        views.tell("b", 15, set("a"));
        assert_eq!(views.right_after(&set("a b"), 10, 20), Some(5));
        assert_eq!(views.right_after(&set("a d"), 10, 20), None);
    }
}
