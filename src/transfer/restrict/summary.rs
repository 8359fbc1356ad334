//! A rule in one line, for people.

use crate::wire::sharing::Rule;
use crate::wire::text::shown;

/// What a rule says.
pub fn summary(rule: &Rule) -> String {
    let limits = &rule.limits;
    let list = |what: &str, list: &[String]| (!list.is_empty()).then(|| format!("{what} {}", list.join(", ")));
    let number = |what: &str, number: Option<u64>| number.map(|n| format!("{what} {n}"));
    let parts = [
        limits.off.then(|| "nothing is shared".to_owned()),
        number("bytes at most", limits.max_size),
        list("no names like", &limits.deny_names),
        list("only names like", &limits.allow_names),
        list("no content of type", &limits.deny_types),
        list("only content of type", &limits.allow_types),
        list("not the content", &limits.deny_roots),
        number("files sent a day at most", limits.files_a_day),
        number("bytes sent a day at most", limits.bytes_a_day),
        number("transfers sent at once at most", limits.at_once.map(u64::from)),
        list("only from", &limits.only),
    ];
    let reason = rule.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    shown(&format!("{}{reason}", parts.into_iter().flatten().collect::<Vec<_>>().join("; ")))
}
