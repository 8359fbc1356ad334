//! Lines about who governs a room, and its secret.

use super::{Hue, Style};
use crate::client::event::Event;
use crate::wire::text::shown;

impl Style {
    pub(super) fn rule(&self, event: &Event) -> Option<String> {
        let line = |hue, text: String| Some(self.line(hue, &text));
        match event {
            Event::TopicChanged { room, topic, by } => {
                line(Hue::Dim, format!("{}{} sets the topic: {}", self.place(room), self.short(by), shown(topic)))
            }
            Event::RoleChanged { room, name, role, by } => {
                let (name, by) = (self.short(name), self.short(by));
                line(Hue::Warn, format!("{}{name} is {} now, by {by}", self.place(room), shown(role)))
            }
            Event::SecretChanged { room, invite, secret, .. } => {
                let mut text = format!("the password of {} has changed", self.short(room));
                let also = |label: &str, value: &Option<String>| {
                    value.as_ref().map(|value| format!("; {label}{}", shown(value))).unwrap_or_default()
                };
                text.push_str(&also("it is ", secret));
                text.push_str(&also("invite: ", invite));
                line(Hue::Good, text)
            }
            Event::NotRotated { room } => {
                let room = self.short(room);
                line(
                    Hue::Bad,
                    format!("{room}: somebody who was put out knows its password until the owner changes it"),
                )
            }
            Event::Wished { room, wish, name } => {
                let room = self.short(room);
                let text = match (wish.as_str(), name) {
                    ("new_secret", _) => format!("an operator asks you for a new password of {room}: /password"),
                    (_, Some(name)) => {
                        let name = self.short(name);
                        format!("an operator asks you to hand {room} over to {name}: /owner {name}")
                    }
                    (other, None) => format!("an operator asks something of you in {room}: {}", shown(other)),
                };
                line(Hue::Warn, text)
            }
            _ => None,
        }
    }

    /// Who is in a room, and as what.
    pub(super) fn peers(&self, event: &Event) -> String {
        let Event::Peers { room, peers, topic, owner, moderators, muted, banned } = event else {
            return String::new();
        };
        let mut text = format!("in {}: {}", self.short(room), self.list(peers));
        if let Some(owner) = owner {
            text.push_str(&format!("; owner: {}", self.short(owner)));
        }
        for (what, names) in [("moderators", moderators), ("muted", muted), ("banned", banned)] {
            if !names.is_empty() {
                text.push_str(&format!("; {what}: {}", self.list(names)));
            }
        }
        if let Some(topic) = topic {
            text.push_str(&format!("; topic: {}", shown(topic)));
        }
        text
    }
}
