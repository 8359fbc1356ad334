//! Searches, offers and transfers as lines.

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
                line(Hue::Plain, format!("{} has {} ({}, {slots}{state})", self.short(from), shown(file), size(*bytes)))
            }
            Event::SearchDone { pattern, found, .. } => line(Hue::Dim, format!("{found} found for {}", shown(pattern))),
            Event::TransferOffered(t) => line(Hue::Good, self.offered(t)),
            Event::OfferRefused(t) => {
                let reason = t.reason.as_deref().unwrap_or("refused");
                line(Hue::Warn, format!("the offer of {} is over: {}", self.transfer(t), shown(reason)))
            }
            Event::TransferStarted(t) => line(Hue::Dim, self.started(t)),
            Event::TransferProgress(t) => line(Hue::Dim, self.progress(t)),
            Event::TransferDone(t) => line(Hue::Good, self.finished(t)),
            Event::TransferFailed(t) => {
                let reason = t.reason.as_deref().unwrap_or("failed");
                line(Hue::Bad, format!("{} failed: {}", self.transfer(t), shown(reason)))
            }
            Event::TransferWaiting(t) => {
                let detail = t.detail.as_deref().unwrap_or("waiting");
                let here = size(t.bytes.unwrap_or(0));
                let next = t.estimate.map(|seconds| format!(" (next attempt in {seconds} s)")).unwrap_or_default();
                line(Hue::Warn, format!("{} has stopped at {here}: {}{next}", self.transfer(t), shown(detail)))
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
        format!("{} {way} {}", shown(&t.file), self.short(&t.peer))
    }

    fn offered(&self, t: &Transfer) -> String {
        let entries = t.entries.map(|n| format!(" in {n} files")).unwrap_or_default();
        let (what, id) = (format!("{} ({}{entries})", shown(&t.file), size(t.size.unwrap_or(0))), short_id(t));
        if t.direction == "upload" {
            return format!("{what} is offered to {}; @me cancel {id} takes it back", self.short(&t.peer));
        }
        format!("{} offers {what}: @me accept {id}, or @me refuse {id}", self.short(&t.peer))
    }

    fn started(&self, t: &Transfer) -> String {
        let mode = t.key_agreement.as_ref().map(|mode| format!(" ({})", shown(mode))).unwrap_or_default();
        format!("{} has started{mode}", self.transfer(t))
    }

    fn progress(&self, t: &Transfer) -> String {
        let sources = t.sources.filter(|n| *n > 1).map(|n| format!(" from {n}")).unwrap_or_default();
        format!("{}: {} at {}/s{sources}", self.transfer(t), percent(t), size(t.rate.unwrap_or(0)))
    }

    fn finished(&self, t: &Transfer) -> String {
        let path = t.path.as_ref().map(|p| format!(" -> {}", shown(p))).unwrap_or_default();
        let (bytes, rate) = (size(t.bytes.unwrap_or(0)), size(t.rate.unwrap_or(0)));
        format!("{} is done: {bytes} in {:.2} s, {rate}/s{path}", self.transfer(t), t.seconds.unwrap_or(0.0))
    }

    fn lost(&self, t: &Transfer, lied: bool) -> String {
        let detail = t.detail.as_ref().map(|detail| format!(" ({})", shown(detail))).unwrap_or_default();
        if lied {
            let (peer, file) = (self.short(&t.peer), shown(&t.file));
            return format!("{peer} sent what does not belong to {file}, and is not asked for it again{detail}");
        }
        format!("{} is lost: {}{detail}", self.transfer(t), shown(t.reason.as_deref().unwrap_or("gone")))
    }

    fn queued(&self, t: &Transfer) -> String {
        let place = t.place.map(|place| format!(" at place {place}")).unwrap_or_default();
        let estimate = t.estimate.map(|seconds| format!(", for about {seconds} s")).unwrap_or_default();
        format!("{} stands in line{place}{estimate}", self.transfer(t))
    }
}

/// `12% of 1.5 MiB`.
fn percent(t: &Transfer) -> String {
    let (bytes, total) = (t.bytes.unwrap_or(0), t.size.unwrap_or(0));
    let percent = (u128::from(bytes) * 100).checked_div(u128::from(total)).unwrap_or(0);
    format!("{percent}% of {}", size(total))
}

/// As much of the id as a person types.
fn short_id(t: &Transfer) -> String {
    shown(&t.id.chars().take(8).collect::<String>())
}
