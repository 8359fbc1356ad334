//! Events as JSON, one object a line.

use super::event::Event;
use crate::wire::text::harmless;
use serde::Serialize;

/// One line without its end: the event's fields, `time` (RFC 3339, UTC, milliseconds) and the `tag` of the command that it follows from.
pub fn to_line(event: &Event, tag: Option<&str>, wall_ms: u64) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        event: &'a Event,
        time: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        tag: Option<&'a str>,
    }
    escaped(&serde_json::to_string(&Line { event, time: time(wall_ms), tag }).unwrap_or_default())
}

/// The same JSON with all that could steer a terminal as `\u` escapes; what is not ASCII stands in strings only.
fn escaped(line: &str) -> String {
    let mut units = [0; 2];
    line.chars().fold(String::with_capacity(line.len()), |mut out, c| {
        if harmless(c) {
            out.push(c);
        } else {
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
        out
    })
}

fn time(wall_ms: u64) -> String {
    let at = i64::try_from(wall_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_and_tag_and_escapes_what_others_wrote() {
        let text = "a\n\x1b[31m\u{7f}\u{9b}2J\u{202e}\u{200b}\u{2028}\u{e0041}é日本";
        let event = Event::Notice { from: "server@s1".into(), text: text.into() };
        let line = to_line(&event, Some("7"), 1_700_000_000_012);
        assert!(line.chars().all(harmless) && line.contains("é日本"), "{line:?}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "notice");
        assert_eq!(value["tag"], "7");
        assert_eq!(value["time"], "2023-11-14T22:13:20.012Z");
        assert_eq!(value["text"], text);
    }
}
