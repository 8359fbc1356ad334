//! The rows of a conversation's log: placed, chained, opened, judged; what they mean comes out as [`News`].

use super::conversation::{Conversation, News, kind_of};
use super::history::{Flaw, Place};
use crate::crypto::identity::PublicKey;
use crate::group::{By, CertCheck, CertRefused, Change, Integrity, ReceiveError, Received, Refusal, Sealer};
use crate::wire::log::{RemoveReason, Row, RowKind};
use crate::wire::payload::Envelope;

impl Conversation {
    /// One row of the log, pushed or fetched. `certs` judges newcomers.
    pub fn row(&mut self, row: &Row, certs: &CertCheck) -> Vec<News> {
        if self.rejoining {
            return Vec::new();
        }
        match self.history.place(row.seq) {
            Place::Past => return vec![News::Integrity { kind: "replay", peer: None }],
            Place::Beyond => return self.hole(),
            Place::Next => self.history.append(row.seq, row.kind, &row.bytes),
        }
        if let Some(news) = self.before_join(row) {
            return news;
        }
        if self.held {
            return Vec::new();
        }
        if row.kind == RowKind::Message {
            if let Some(id) = self.outbox.with_bytes(&row.bytes) {
                self.history.remember_own(&row.bytes);
                return self.delivered(&id).into_iter().collect();
            }
            if self.is_moved(&row.bytes) {
                return Vec::new();
            }
            if self.history.is_own(&row.bytes) {
                let replayed = !self.syncing;
                return if replayed { vec![News::Integrity { kind: "replay", peer: None }] } else { Vec::new() };
            }
        }
        match self.room.receive(&row.bytes, certs) {
            Ok(received) => self.received(row, received),
            Err(error) => self.refused(row.kind, &error),
        }
    }

    /// Rows up to our own join: of others' words before it we have no keys.
    fn before_join(&mut self, row: &Row) -> Option<Vec<News>> {
        let (at, commit) = self.joined_at.as_ref()?;
        if row.seq < *at {
            return Some(Vec::new());
        }
        let ours = row.seq == *at && *commit == *row.bytes;
        self.joined_at = None;
        Some(if ours { Vec::new() } else { vec![News::Integrity { kind: "diverged", peer: None }] })
    }

    fn received(&mut self, row: &Row, received: Received) -> Vec<News> {
        match received {
            Received::Application { sender, payload } => self.said(row.seq, sender, &payload, true),
            Received::Muted { sender, payload } => self.said(row.seq, sender, &payload, false),
            Received::Own => vec![News::Integrity { kind: "forged_sender", peer: None }],
            // The server gives us nothing of this room after that.
            Received::Proposal { member, .. } if self.is_room() && self.is_put_out(&member.key, row.reason) => {
                vec![News::Out { reason: row.reason.map_or("left", |reason| reason.as_str()) }]
            }
            Received::Proposal { member, .. } => {
                self.reasons.extend(row.reason.map(|reason| (member.key, reason)));
                Vec::new()
            }
            Received::Commit(change) => {
                self.commit = None;
                self.changed(*change)
            }
        }
    }

    /// Whether a moderator has us out, which is in nobody's way to be committed.
    fn is_put_out(&self, member: &PublicKey, reason: Option<RemoveReason>) -> bool {
        use RemoveReason::{Banned, Kicked, Released};
        matches!(reason, Some(Kicked | Banned | Released)) && self.room.own().is_some_and(|own| own.key == *member)
    }

    fn said(&mut self, seq: u64, sender: Sealer, payload: &[u8], heard: bool) -> Vec<News> {
        let Ok(envelope) = Envelope::from_bytes(payload) else {
            return vec![News::Integrity { kind: "malformed", peer: Some(sender.name) }];
        };
        let mut news = Vec::new();
        let flaws = self.history.check(seq, &sender.key, &envelope);
        let shown = !flaws.contains(&Flaw::Late);
        news.extend(flaws.iter().map(|f| News::Integrity { kind: f.as_str(), peer: Some(sender.name.clone()) }));
        if !heard {
            news.push(News::Muted { sender });
        } else if shown {
            news.push(News::Said { sender, envelope: Box::new(envelope) });
        }
        news
    }

    pub(super) fn changed(&mut self, change: Change) -> Vec<News> {
        let mut gone: Vec<_> = change.left.iter().map(|m| (m.clone(), "left")).collect();
        for removed in &change.removed {
            let told = self.reasons.get(&removed.member.key).map(|r| r.as_str());
            // A departure that another commit overtook is proposed anew by the server, which gives no reason then.
            let banned = change.policy.as_ref().is_some_and(|policy| policy.is_banned(&removed.member.key));
            let reason = match removed.by {
                By::Committer if banned => "banned",
                By::Committer => "kicked",
                By::HomeServer => told.unwrap_or("left"),
            };
            gone.push((removed.member.clone(), reason));
        }
        self.reasons.clear();
        gone.iter().for_each(|(member, _)| self.history.forget(&member.key));
        if change.joined {
            self.history.expect(&change.committer.key);
        }
        if self.room.is_active() {
            return vec![News::Changed { change: Box::new(change), gone }];
        }
        // Replaced by another device or process with our key, or removed.
        let me = self.room.own_key();
        let own = gone.iter().find(|(member, _)| member.key == me);
        vec![News::Out { reason: own.map_or("replaced", |(_, reason)| reason) }]
    }

    fn refused(&mut self, row: RowKind, error: &ReceiveError) -> Vec<News> {
        let kind = match error {
            ReceiveError::Repeated => "replay",
            // A row of the log stands in the epoch in which it was logged.
            ReceiveError::WrongEpoch { message, ours } if message < ours => "replay",
            ReceiveError::WrongEpoch { .. } => "diverged",
            ReceiveError::Gone => return Vec::new(),
            error => error.integrity().map_or("malformed", kind_of),
        };
        self.held |= matches!(error, ReceiveError::Refused(_)) && kind == Integrity::UnauthorisedCommit.as_str();
        let mut news = vec![News::Integrity { kind, peer: None }];
        if let ReceiveError::Refused(Refusal::Cert(refused @ CertRefused::FalseName { .. })) = error {
            news.push(News::FalseName(Box::new(refused.clone())));
        }
        if cannot_follow(row, error) {
            news.push(News::Lost);
        }
        news
    }
}

/// The others may be in an epoch that we have no way into: the server checks of a commit only what it has keys for.
fn cannot_follow(row: RowKind, error: &ReceiveError) -> bool {
    match error {
        ReceiveError::WrongEpoch { message, ours } => message > ours,
        ReceiveError::BadCommit(_) | ReceiveError::Forged(_) | ReceiveError::Mls(_) => row == RowKind::Commit,
        _ => false,
    }
}
