//! The ways of files, as words.

use crate::client::event::WayRow;
use crate::wire::text::shown;

/// How a file goes: `straight to 203.0.113.9:4000 through routers`.
pub(super) fn going(way: &str, route: &str) -> String {
    let route = shown(route);
    match way {
        "lan" => format!("straight to {route} in your own network"),
        "direct" => format!("straight to {route}"),
        "punched" => format!("straight to {route} through routers"),
        _ => format!("over servers, {route}"),
    }
}

/// `@me stats`.
pub(super) fn stats(ways: &[WayRow], in_vain: u64) -> String {
    let one = |row: &WayRow| {
        let how = match row.way.as_str() {
            "lan" => "in your own network".to_owned(),
            "direct" => "straight".to_owned(),
            "punched" => "straight through routers".to_owned(),
            "relayed" => "over servers".to_owned(),
            other => shown(other),
        };
        let (mean, worst) = (row.mean_ms, row.worst_ms);
        format!("{} {how} (the way was found in {mean} ms, {worst} ms at worst)", row.sessions)
    };
    let mut parts: Vec<String> = ways.iter().map(one).collect();
    if in_vain > 0 {
        parts.push(format!("{in_vain} found no way"));
    }
    match parts.is_empty() {
        true => "no file has gone anywhere yet".to_owned(),
        false => format!("sessions of files since the start: {}", parts.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_how_files_went() {
        let row = |way: &str, sessions| WayRow { way: way.into(), sessions, mean_ms: 210, worst_ms: 400 };
        assert_eq!(stats(&[], 0), "no file has gone anywhere yet");
        assert_eq!(
            stats(&[row("punched", 3), row("relayed", 1)], 2),
            "sessions of files since the start: 3 straight through routers (the way was found in 210 ms, 400 ms at worst); \
             1 over servers (the way was found in 210 ms, 400 ms at worst); 2 found no way"
        );
        assert_eq!(going("relayed", "relayed by s1"), "over servers, relayed by s1");
        assert!(!going("direct", "\u{1b}[2J").contains('\u{1b}'));
    }
}
