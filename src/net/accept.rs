//! Who may be connected: caps in all and for each address, and room for newcomers under a flood.

use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS, PENDING_MAX, PENDING_PER_ADDRESS};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Counts connections. Clones share the counts.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Mutex<Counts>>);

/// The caps of a [`Gate`].
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Connections in all.
    pub connections: usize,
    /// From one address (an IPv6 /64 counts as one).
    pub per_address: usize,
    /// Not logged in yet, in all.
    pub pending: usize,
    /// Not logged in yet, from one address (an IPv6 /64 counts as one).
    pub pending_per_address: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            per_address: CONNECTIONS_PER_ADDRESS,
            pending: PENDING_MAX,
            pending_per_address: PENDING_PER_ADDRESS,
        }
    }
}

/// A connection's place; dropping it gives the place free.
#[derive(Debug)]
pub struct Ticket {
    gate: Gate,
    id: u64,
    source: IpAddr,
}

/// Resolves when a connection that has not logged in must make room for a newer one.
pub type Evicted = oneshot::Receiver<()>;

impl Gate {
    /// An empty gate.
    pub fn new(caps: Caps) -> Self {
        Self(Arc::new(Mutex::new(Counts {
            caps,
            next: 0,
            connections: 0,
            pending: BTreeMap::new(),
            by_address: HashMap::new(),
            all_by_address: HashMap::new(),
        })))
    }

    /// Lets a connection in, or not when [`Caps::connections`] or [`Caps::per_address`] are there. Where too many are pending, the oldest of them (of the same
    /// address, if that has too many) is evicted: whoever logs in at once gets in however many idle ones there are.
    pub fn admit(&self, address: IpAddr) -> Option<(Ticket, Evicted)> {
        let mut counts = self.lock();
        if counts.connections >= counts.caps.connections {
            return None;
        }
        let source = source_of(address);
        if counts.all_by_address.get(&source).is_some_and(|all| *all >= counts.caps.per_address) {
            return None;
        }
        let of_address = counts.by_address.get(&source).copied().unwrap_or_default();
        if of_address >= counts.caps.pending_per_address {
            counts.evict_oldest(Some(source));
        } else if counts.pending.len() >= counts.caps.pending {
            counts.evict_oldest(None);
        }
        let (evict, evicted) = oneshot::channel();
        let id = counts.next;
        counts.next += 1;
        counts.connections += 1;
        counts.pending.insert(id, Pending { source, evict });
        *counts.by_address.entry(source).or_default() += 1;
        *counts.all_by_address.entry(source).or_default() += 1;
        Some((Ticket { gate: self.clone(), id, source }, evicted))
    }

    /// Connections in all, and those of them that are pending.
    pub fn counts(&self) -> (usize, usize) {
        let counts = self.lock();
        (counts.connections, counts.pending.len())
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// It counts as pending no more and cannot be evicted.
    pub fn logged_in(&self) {
        self.gate.lock().forget_pending(self.id);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.gate.lock();
        counts.forget_pending(self.id);
        counts.connections = counts.connections.saturating_sub(1);
        take_one(&mut counts.all_by_address, &self.source);
    }
}

#[derive(Debug)]
struct Counts {
    caps: Caps,
    next: u64,
    connections: usize,
    /// By age: ids only grow.
    pending: BTreeMap<u64, Pending>,
    /// How many of `pending` each source has; no zeros.
    by_address: HashMap<IpAddr, usize>,
    /// How many connections each source has; no zeros.
    all_by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Pending {
    source: IpAddr,
    evict: oneshot::Sender<()>,
}

impl Counts {
    fn evict_oldest(&mut self, source: Option<IpAddr>) {
        let oldest = self.pending.iter().find(|(_, p)| source.is_none_or(|s| s == p.source)).map(|(id, _)| *id);
        if let Some(pending) = oldest.and_then(|id| self.forget_pending(id)) {
            let _ = pending.evict.send(());
        }
    }

    fn forget_pending(&mut self, id: u64) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        take_one(&mut self.by_address, &pending.source);
        Some(pending)
    }
}

fn take_one(counts: &mut HashMap<IpAddr, usize>, source: &IpAddr) {
    if let Some(count) = counts.get_mut(source) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(source);
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 one, since that is what one customer is given.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { connections: 6, per_address: 5, pending: 4, pending_per_address: 3 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_oldest_idle_connection_makes_room() {
        let gate = Gate::new(CAPS);
        let mut held: Vec<_> = (0..4).map(|n| gate.admit(ip(&format!("192.0.2.{n}"))).unwrap()).collect();
        let newcomer = gate.admit(ip("198.51.100.1")).unwrap();
        assert_eq!(gate.counts(), (5, 4));
        assert!(held[0].1.try_recv().is_ok(), "the oldest");
        assert!(held[1].1.try_recv().is_err());
        newcomer.0.logged_in();
        assert_eq!(gate.counts(), (5, 3));
        drop(held);
        assert_eq!(gate.counts(), (1, 0));
    }

    #[test]
    fn one_address_evicts_its_own_only_and_a_v6_network_is_one_address() {
        let gate = Gate::new(CAPS);
        let mut other = gate.admit(ip("192.0.2.1")).unwrap();
        let mut held: Vec<_> = (0..4).map(|n| gate.admit(ip(&format!("2001:db8::{n}:1"))).unwrap()).collect();
        assert!(held[0].1.try_recv().is_ok());
        assert!(other.1.try_recv().is_err());
        assert_ne!(source_of(ip("2001:db8:0:1::1")), source_of(ip("2001:db8:0:2::1")));
        assert_eq!(source_of(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn the_cap_in_all_holds_for_those_logged_in_too() {
        let gate = Gate::new(CAPS);
        let held: Vec<_> = (0..6)
            .map(|n| {
                let (ticket, _) = gate.admit(ip(&format!("192.0.2.{n}"))).unwrap();
                ticket.logged_in();
                ticket
            })
            .collect();
        assert!(gate.admit(ip("192.0.2.9")).is_none());
        drop(held);
        assert!(gate.admit(ip("192.0.2.9")).is_some());
    }

    #[test]
    fn one_address_cannot_take_all_places_by_logging_in() {
        let gate = Gate::new(CAPS);
        let log_in = |address: &str| {
            let (ticket, _) = gate.admit(ip(address))?;
            ticket.logged_in();
            Some(ticket)
        };
        let mut held: Vec<_> = (0..CAPS.per_address).map(|_| log_in("192.0.2.1").unwrap()).collect();
        assert!(log_in("192.0.2.1").is_none());
        let other = log_in("192.0.2.2");
        assert!(other.is_some());
        drop(other);
        held.pop();
        assert!(log_in("192.0.2.1").is_some());
    }
}
