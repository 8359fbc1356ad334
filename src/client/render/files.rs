//! Searches, offers and transfers as lines.

use super::ways::going;
use super::{Hue, Style, size};
use crate::client::event::{Event, Transfer};
use crate::wire::text::shown;

impl Style {
    pub(super) fn files(&self, event: &Event) -> Option<String> {
        let line = |hue, text: String| Some(self.line(hue, &text));
        match event {
            Event::FileFound { from, file, size: bytes, state, free_slots, .. } => {
                let slots = if *free_slots == 0 { "busy".to_owned() } else { format!("{free_slots} free") };
                let state = if state == "ready" { String::new() } else { format!(", {}", shown(state)) };
                line(Hue::Plain, format!("{} has {} ({}, {slots}{state})", self.short(from), name(file), size(*bytes)))
            }
            Event::SearchDone { pattern, found, .. } => line(Hue::Dim, format!("{found} found for {}", shown(pattern))),
            Event::TransferOffered(t) => line(Hue::Good, self.offered(t)),
            Event::OfferRefused(t) => {
                let reason = t.reason.as_deref().unwrap_or("refused");
                let detail = detail(t);
                line(Hue::Warn, format!("the offer of {} is over: {}{detail}", self.transfer(t), shown(reason)))
            }
            Event::TransferStarted(t) => line(Hue::Dim, self.started(t)),
            Event::TransferProgress(t) => line(Hue::Dim, self.progress(t)),
            Event::TransferPath(t) => line(Hue::Dim, format!("{}: now {}", self.transfer(t), route(t))),
            Event::TransferDone(t) => line(Hue::Good, self.finished(t)),
            Event::TransferFailed(t) => {
                let reason = t.reason.as_deref().unwrap_or("failed");
                let detail = detail(t);
                line(Hue::Bad, format!("{} failed: {}{detail}", self.transfer(t), shown(reason)))
            }
            Event::TransferWaiting(t) => {
                let detail = t.detail.as_deref().unwrap_or("waiting");
                let here = match t.bytes.unwrap_or(0) {
                    0 => "has not begun".to_owned(),
                    bytes => format!("has stopped at {}", size(bytes)),
                };
                let next = t.estimate.map(|seconds| format!(" (next attempt in {seconds} s)")).unwrap_or_default();
                line(Hue::Warn, format!("{} {here}: {}{next}", self.transfer(t), shown(detail)))
            }
            Event::SourceAdded(t) => line(Hue::Dim, format!("{} comes too", self.transfer(t))),
            Event::SourceLost(t) => {
                let lied = t.reason.as_deref() == Some("lied");
                line(if lied { Hue::Bad } else { Hue::Warn }, self.lost(t, lied))
            }
            Event::Hashing(t) => line(Hue::Dim, format!("{}: {} are hashed", self.transfer(t), percent(t))),
            Event::Queued(t) => line(Hue::Warn, self.queued(t)),
            other => self.rest(other),
        }
    }

    fn transfer(&self, t: &Transfer) -> String {
        let way = if t.direction == "upload" { "to" } else { "from" };
        format!("{} {way} {}", name(&t.file), self.short(&t.peer))
    }

    fn offered(&self, t: &Transfer) -> String {
        let entries = t.entries.map(|n| format!(" in {n} files")).unwrap_or_default();
        let (what, id) = (format!("{} ({}{entries})", name(&t.file), size(t.size.unwrap_or(0))), short_id(t));
        if t.direction == "upload" {
            return format!("[{id}] {what} is offered to {}; @me cancel {id} takes it back", self.short(&t.peer));
        }
        let peer = self.short(&t.peer);
        format!("[{id}] {peer} offers {what}; @me accept {id} takes it, @me refuse {id} says no")
    }

    fn started(&self, t: &Transfer) -> String {
        let mode = t.key_agreement.as_ref().map(|mode| format!(" ({})", shown(mode))).unwrap_or_default();
        let way = match (&t.way, &t.route) {
            (Some(way), Some(route)) => format!(" {}", going(way, route)),
            _ => String::new(),
        };
        format!("{} has started{way}{mode}{}", self.transfer(t), left_out(t))
    }

    fn progress(&self, t: &Transfer) -> String {
        if let Some(state) = &t.state {
            return self.row(t, state);
        }
        // Of several each may go another way.
        let how = t.sources.filter(|n| *n > 1).map_or_else(|| by(t), |n| format!(" from {n}"));
        format!("{}: {} at {}/s{how}", self.transfer(t), percent(t), size(t.rate.unwrap_or(0)))
    }

    /// A row of `@me transfers`.
    fn row(&self, t: &Transfer, state: &str) -> String {
        let place = t.place.map(|place| format!(" at place {place}")).unwrap_or_default();
        let amount = t.size.map(|_| format!(", {}", percent(t))).unwrap_or_default();
        let now = match state {
            "running" => format!("{} at {}/s{}", percent(t), size(t.rate.unwrap_or(0)), by(t)),
            "queued" => format!("waiting in line{place}{amount}"),
            "preparing" => format!("preparing{amount}"),
            "searching" => format!("looking for somebody who has it{amount}"),
            "waiting" => format!("waiting for somebody who has it{amount}"),
            other => shown(other),
        };
        format!("[{}] {}: {now}", short_id(t), self.transfer(t))
    }

    fn finished(&self, t: &Transfer) -> String {
        let path = t.path.as_ref().map(|p| format!(" -> {}", name(p))).unwrap_or_default();
        let (bytes, rate) = (size(t.bytes.unwrap_or(0)), size(t.rate.unwrap_or(0)));
        format!(
            "{} is done: {bytes} in {:.2} s, {rate}/s{path}{}",
            self.transfer(t),
            t.seconds.unwrap_or(0.0),
            left_out(t)
        )
    }

    fn lost(&self, t: &Transfer, lied: bool) -> String {
        let detail = detail(t);
        if lied {
            let (peer, file) = (self.short(&t.peer), name(&t.file));
            return format!("{peer} sent what does not belong to {file}, and is not asked for it again{detail}");
        }
        format!("{} is lost: {}{detail}", self.transfer(t), shown(t.reason.as_deref().unwrap_or("gone")))
    }

    fn queued(&self, t: &Transfer) -> String {
        if t.direction == "upload" {
            let (peer, what) = (self.short(&t.peer), size(t.size.unwrap_or(0)));
            return format!("{peer} waits for a slot for {} ({what}); @me grant {peer} gives one", name(&t.file));
        }
        let place = t.place.map(|place| format!(" at place {place}")).unwrap_or_default();
        let estimate = t.estimate.map(|seconds| format!(", for about {seconds} s")).unwrap_or_default();
        format!("{} stands in line{place}{estimate}", self.transfer(t))
    }
}

/// What is said for people beside the stable word.
fn detail(t: &Transfer) -> String {
    t.detail.as_ref().map(|detail| format!(" ({})", squeezed(detail))).unwrap_or_default()
}

/// As at the start, `straight to 192.0.2.1:9 through routers`; `direct (192.0.2.1:9)` where only the address is known.
fn route(t: &Transfer) -> String {
    let route = t.route.as_deref().unwrap_or_default();
    if let Some(way) = &t.way {
        return going(way, route);
    }
    if route.parse::<std::net::SocketAddr>().is_ok() { format!("direct ({route})") } else { shown(route) }
}

/// The way that it goes, in a few words, where that is known: `, straight`, `, relayed by s1`.
pub fn by(t: &Transfer) -> String {
    match (t.way.as_deref(), &t.route) {
        (Some("lan"), _) => ", in your own network".into(),
        (Some("direct"), _) => ", straight".into(),
        (Some("punched"), _) => ", straight through routers".into(),
        (Some(_), Some(route)) => format!(", {}", shown(route)),
        _ => String::new(),
    }
}

/// What a folder lacks of the one that its holder has.
fn left_out(t: &Transfer) -> String {
    t.left_out.map(|n| format!("; {n} of what is in it cannot be sent and is left out")).unwrap_or_default()
}

/// `12% of 1.5 MiB`.
fn percent(t: &Transfer) -> String {
    let (bytes, total) = (t.bytes.unwrap_or(0), t.size.unwrap_or(0));
    let percent = (u128::from(bytes) * 100).checked_div(u128::from(total)).unwrap_or(0);
    format!("{percent}% of {}", size(total))
}

/// A name that somebody else chose, in quotes and without wide gaps, so that where it ends is seen.
fn name(file: &str) -> String {
    format!("\"{}\"", squeezed(&file.replace('"', "\\\"")))
}

/// What somebody else wrote, each gap in it as one blank.
fn squeezed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_whitespace() && !c.is_control() {
            true if out.ends_with(' ') => {}
            true => out.push(' '),
            false => out.push(c),
        }
    }
    shown(&out)
}

/// As much of the id as a person types.
fn short_id(t: &Transfer) -> String {
    shown(&t.id.chars().take(8).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::lines;
    use super::*;

    fn of(file: &str, direction: &str) -> Transfer {
        let (id, peer, size) = ("0123456789abcdef".to_owned(), "bob@s1".to_owned(), Some(1_572_864));
        Transfer { id, peer, size, file: file.into(), direction: direction.into(), ..Transfer::default() }
    }

    fn line(event: &Event) -> String {
        lines(event, &Style { home: "s1".into(), ..Style::default() }).concat()
    }

    #[test]
    fn a_name_cannot_look_like_the_rest_of_a_line() {
        let file = "a.txt\" (1.0 B)\u{3000}\u{a0}          [ffffffff] carol offers \"b";
        let told = line(&Event::TransferOffered(of(file, "download")));
        let quoted = r#""a.txt\" (1.0 B) [ffffffff] carol offers \"b""#;
        let end = "(1.5 MiB); @me accept 01234567 takes it, @me refuse 01234567 says no";
        assert_eq!(told, format!("[01234567] bob offers {quoted} {end}"));
    }

    #[test]
    fn another_way_is_told_in_a_few_words() {
        let now =
            |route: &str| line(&Event::TransferPath(Transfer { route: Some(route.into()), ..of("a", "download") }));
        assert_eq!(now("192.0.2.1:9"), r#""a" from bob: now direct (192.0.2.1:9)"#);
        assert_eq!(now("relayed by s1"), r#""a" from bob: now relayed by s1"#);
        let (way, route) = (Some("punched".to_owned()), Some("192.0.2.1:9".to_owned()));
        let told = line(&Event::TransferPath(Transfer { way, route, ..of("a", "download") }));
        assert_eq!(told, r#""a" from bob: now straight to 192.0.2.1:9 through routers"#, "in the words of the start");
    }

    #[test]
    fn rows_of_transfers_say_what_is_typed_to_end_them_and_what_they_wait_for() {
        let row = |state: &str, place| {
            let t = Transfer { state: Some(state.into()), place, bytes: Some(393_216), ..of("a", "download") };
            line(&Event::TransferProgress(Transfer { rate: Some(2048), ..t }))
        };
        assert_eq!(row("running", None), r#"[01234567] "a" from bob: 25% of 1.5 MiB at 2.0 KiB/s"#);
        assert_eq!(row("queued", Some(2)), r#"[01234567] "a" from bob: waiting in line at place 2, 25% of 1.5 MiB"#);
        let going = |way: &str, sources| {
            let (state, way) = (Some("running".to_owned()).filter(|_| sources == 0), Some(way.to_owned()));
            let (route, sources) = (Some("relayed by s1".to_owned()), Some(sources).filter(|n| *n > 0));
            let t = Transfer { state, way, route, sources, bytes: Some(393_216), ..of("a", "download") };
            line(&Event::TransferProgress(Transfer { rate: Some(2048), ..t }))
        };
        assert_eq!(going("relayed", 0), r#"[01234567] "a" from bob: 25% of 1.5 MiB at 2.0 KiB/s, relayed by s1"#);
        assert_eq!(going("punched", 1), r#""a" from bob: 25% of 1.5 MiB at 2.0 KiB/s, straight through routers"#);
        assert_eq!(going("lan", 3), r#""a" from bob: 25% of 1.5 MiB at 2.0 KiB/s from 3"#, "each may go another way");
        let unknown = Transfer { state: Some("preparing".into()), size: None, ..of("a", "download") };
        assert_eq!(line(&Event::TransferProgress(unknown)), r#"[01234567] "a" from bob: preparing"#);
        let waiter = line(&Event::Queued(of("a", "upload")));
        assert_eq!(waiter, r#"bob waits for a slot for "a" (1.5 MiB); @me grant bob gives one"#);
    }
}
