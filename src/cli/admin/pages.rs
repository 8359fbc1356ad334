//! Lists that come in parts: all of them, as one.

use super::counter::Counter;
use crate::cli::exit::ExitCode;
use crate::cli::report::Report;
use crate::wire::admin::{Answer, Ask, Page};

/// Asks until the list is whole, or as long as was asked for.
pub(super) fn all(counter: &mut dyn Counter, ask: Ask) -> Result<Answer, Report> {
    let (mut whole, mut seen) = (counter.ask(&ask)?, None);
    for _ in 0..PAGES_MAX {
        let Some(next) = next(&mut whole).filter(|next| seen.as_ref() != Some(next)) else { return Ok(whole) };
        let Some(more) = after(&ask, next.clone(), rows(&mut whole)) else { return Ok(whole) };
        let answer = counter.ask(&more)?;
        if matches!(answer, Answer::Failed { .. }) {
            return Ok(answer);
        }
        if !join(&mut whole, answer) {
            return Err(Report::new(ExitCode::Failed, "the server gave another answer than was asked for"));
        }
        seen = Some(next);
    }
    Err(Report::new(ExitCode::Failed, "the list has no end"))
}

/// The question for what comes behind; none where enough has come.
fn after(ask: &Ask, next: String, have: usize) -> Option<Ask> {
    Some(match ask {
        Ask::Users { .. } => Ask::Users { after: Some(next) },
        Ask::Rooms { .. } => Ask::Rooms { after: Some(next) },
        Ask::Bans { .. } => Ask::Bans { after: Some(next) },
        Ask::Audit { limit: Some(limit), .. } => {
            let left = limit.saturating_sub(u32::try_from(have).unwrap_or(u32::MAX));
            Ask::Audit { before: Some(next.parse().ok().filter(|_| left > 0)?), limit: Some(left) }
        }
        _ => return None,
    })
}

fn next(answer: &mut Answer) -> Option<String> {
    each(answer).and_then(|(next, _)| next.clone())
}

fn rows(answer: &mut Answer) -> usize {
    each(answer).map_or(0, |(_, rows)| rows)
}

/// Of a list: where the next page begins, and how many rows there are.
fn each(answer: &mut Answer) -> Option<(&mut Option<String>, usize)> {
    fn of<T>(page: &mut Page<T>) -> (&mut Option<String>, usize) {
        (&mut page.next, page.rows.len())
    }
    Some(match answer {
        Answer::Users(page) => of(page),
        Answer::Rooms(page) => of(page),
        Answer::Bans(page) => of(page),
        Answer::Mutes(page) => of(page),
        Answer::Allowed(page) => of(page),
        Answer::Roles(page) => of(page),
        Answer::Restrictions(page) => of(page),
        Answer::Audit(page) => of(page),
        _ => return None,
    })
}

/// Whether it was more of the same.
fn join(whole: &mut Answer, more: Answer) -> bool {
    fn add<T>(whole: &mut Page<T>, more: Page<T>) -> bool {
        whole.rows.extend(more.rows);
        whole.next = more.next;
        true
    }
    match (whole, more) {
        (Answer::Users(whole), Answer::Users(more)) => add(whole, more),
        (Answer::Rooms(whole), Answer::Rooms(more)) => add(whole, more),
        (Answer::Bans(whole), Answer::Bans(more)) => add(whole, more),
        (Answer::Audit(whole), Answer::Audit(more)) => add(whole, more),
        _ => false,
    }
}

/// More than any list of a server has.
const PAGES_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::admin::{AuditView, UserView};

    /// Answers in parts of two.
    struct Parts(u64);

    impl Counter for Parts {
        fn ask(&mut self, ask: &Ask) -> Result<Answer, Report> {
            self.0 += 1;
            let user = |n: u64| UserView { name: n.to_string(), ..UserView::default() };
            Ok(match ask {
                Ask::Users { after } => {
                    let from: u64 = after.as_ref().map_or(0, |after| after.parse().unwrap());
                    let rows = (from..5).take(2).map(user).collect();
                    Answer::Users(Page { rows, next: (from + 2 < 5).then(|| (from + 2).to_string()) })
                }
                Ask::Audit { before, limit } => {
                    let from = before.unwrap_or(u64::MAX).min(10);
                    let row = |id: u64| AuditView {
                        id,
                        time_ms: 0,
                        who: String::new(),
                        act: String::new(),
                        whom: None,
                        why: None,
                        outcome: String::new(),
                    };
                    let ids = (1..from).rev().take(limit.unwrap().min(2) as usize);
                    let rows: Vec<_> = ids.map(row).collect();
                    let next = rows.last().map(|row| row.id.to_string());
                    Answer::Audit(Page { rows, next })
                }
                _ => Answer::Rooms(Page { rows: Vec::new(), next: Some("again".into()) }),
            })
        }
    }

    #[test]
    fn parts_are_put_together_up_to_the_number_that_was_asked_for() {
        let Ok(Answer::Users(page)) = all(&mut Parts(0), Ask::Users { after: None }) else { panic!() };
        assert_eq!(page.rows.iter().map(|row| row.name.as_str()).collect::<String>(), "01234");
        assert_eq!(page.next, None);
        let Ok(Answer::Audit(page)) = all(&mut Parts(0), Ask::Audit { before: None, limit: Some(5) }) else { panic!() };
        assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [9, 8, 7, 6, 5]);
    }

    #[test]
    fn a_server_that_names_the_same_page_again_is_not_followed_for_ever() {
        let mut parts = Parts(0);
        assert!(all(&mut parts, Ask::Rooms { after: None }).is_ok());
        assert_eq!(parts.0, 2);
    }
}
