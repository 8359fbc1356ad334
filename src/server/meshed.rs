//! The core of a server that is in a mesh: what clients and other servers say to each other passes between the two.

use super::core::Core;
use super::engine::Engine;
use super::io::{Input, Output};
use super::metrics::Gauges;
use super::relay::{Act, Relay, RelayCounts, is_guest};
use std::collections::VecDeque;
use std::time::Duration;

/// A core and its relay, which behave as one.
#[derive(Debug)]
pub struct Meshed {
    pub(super) core: Core,
    pub(super) relay: Relay,
    /// Taken from the core and not yet from here.
    ready: VecDeque<Output>,
    now: Duration,
    wall_ms: u64,
}

impl Meshed {
    /// Both from their beginnings.
    pub fn new(core: Core, relay: Relay) -> Self {
        Self { core, relay, ready: VecDeque::new(), now: Duration::ZERO, wall_ms: 0 }
    }

    /// What was counted.
    pub fn counts(&self) -> RelayCounts {
        self.relay.counts()
    }

    fn tell_core(&mut self, input: Input) {
        self.core.handle(self.now, self.wall_ms, input);
    }

    /// What of the core's output is not the relay's.
    fn pass(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Send { session, frame } if is_guest(session) => self.relay.say(session, frame),
            Output::Close { session } if is_guest(session) => self.relay.closed(session),
            Output::Admitted { session } if is_guest(session) => {}
            Output::Gossip { to, head, body } => self.relay.gossip(to, &head, &body),
            Output::Relay { session, key, addr, server, frame } => {
                self.relay.forward(session, (key, addr.ip()), &server, frame);
            }
            Output::Admitted { session } => {
                self.relay.admitted(session);
                return Some(output);
            }
            Output::Close { session } => {
                self.relay.left(session);
                return Some(output);
            }
            output => return Some(output),
        }
        None
    }
}

impl Engine for Meshed {
    fn handle(&mut self, now: Duration, wall_ms: u64, input: Input) {
        (self.now, self.wall_ms) = (now, wall_ms);
        self.relay.at(now, wall_ms);
        match input {
            Input::Mesh(event) => self.relay.event(event),
            Input::TooSlow { client } => self.relay.too_slow(client),
            Input::Disconnected(session) => {
                // What the client said last still goes where it was for.
                while let Some(output) = self.core.poll_output() {
                    let rest = self.pass(output);
                    self.ready.extend(rest);
                }
                self.relay.left(session);
                self.tell_core(Input::Disconnected(session));
            }
            input => self.tell_core(input),
        }
    }

    /// What the relay has for the core goes there at once, so that its writes come before whatever follows from them.
    fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.ready.pop_front() {
            return Some(output);
        }
        loop {
            match self.relay.poll() {
                Some(Act::Core(input)) => self.tell_core(*input),
                Some(Act::Mesh(targets, body)) => return Some(Output::Mesh { targets, body }),
                Some(Act::Way(way)) => return Some(Output::Way(way)),
                Some(Act::Client(session, frame)) => return Some(Output::Send { session, frame }),
                Some(Act::From { session, client, frame }) => return Some(Output::SendFrom { session, client, frame }),
                None => match self.core.poll_output() {
                    Some(output) => {
                        if let Some(output) = self.pass(output) {
                            return Some(output);
                        }
                    }
                    None if self.relay.flush() => {}
                    None => return None,
                },
            }
        }
    }

    fn gauges(&self) -> Gauges {
        let RelayCounts { away, guests, ignored, refused, .. } = self.relay.counts();
        let core = self.core.gauges();
        Gauges { away: away as u64, guests: guests as u64, ignored, refused: core.refused + refused, ..core }
    }

    fn next_timeout(&self) -> Option<Duration> {
        [self.core.next_timeout(), self.relay.next_timeout()].into_iter().flatten().min()
    }
}
