//! Keeps the router's ways to our two ports while they are wanted, on a thread of its own: nobody ever waits for a router.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::{Gateway, Lease, Refusal, hears};

/// Where a port is reached from outside, if the router has opened a way; for who makes candidates of it.
pub type Mapped = Arc<Mutex<Option<SocketAddr>>>;

/// Asks for ways to our ports once they are wanted, renews them at half of their time, and gives them back when nobody has wanted them for
/// [`LINGER`], or at the end.
#[derive(Debug)]
pub struct Mapper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    wish: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    // For as long as this is set.
    held: bool,
    // When they were last of use.
    used: Option<Instant>,
    // Give back what there is, and end.
    end: bool,
    // The thread has.
    ended: bool,
}

impl Mapper {
    /// Starts the thread, which asks nobody yet. `ports` are where our sockets are bound; each lease is for `lasts`, unless the router
    /// wants it shorter.
    pub fn start(ports: [SocketAddr; 2], lasts: Duration, mapped: [Mapped; 2]) -> io::Result<Self> {
        Self::start_with(ports, lasts, mapped, Gateway::find)
    }

    pub(super) fn start_with(
        ports: [SocketAddr; 2],
        lasts: Duration,
        mapped: [Mapped; 2],
        find: fn() -> Result<Gateway, Refusal>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let [up, down] = mapped;
        let way = |port, mapped| Way { port, mapped, lease: None };
        let ways = [way(ports[0], up), way(ports[1], down)];
        let keeper = Keeper { runtime, lasts, find, gateway: None, ways, again: None, shared: Arc::clone(&shared) };
        std::thread::Builder::new().name("mapping".into()).spawn(move || keeper.run())?;
        Ok(Self { shared })
    }

    /// They are wanted all the time from now on, or not any more.
    pub fn hold(&self, held: bool) {
        self.shared.wish().held = held;
        self.shared.changed.notify_all();
    }

    /// They are of use now: they stay for a while.
    pub fn touch(&self) {
        let mut wish = self.shared.wish();
        let slept = !wish.is_wanted(Instant::now());
        wish.used = Some(Instant::now());
        drop(wish);
        if slept {
            self.shared.changed.notify_all();
        }
    }

    /// Has everything given back, without waiting for it.
    pub fn end(&self) {
        self.shared.wish().end = true;
        self.shared.changed.notify_all();
    }

    /// Waits until everything is given back, or `within` is over. What is not ends with its lease.
    pub fn wait(&self, within: Duration) {
        let wish = self.shared.wish();
        drop(self.shared.changed.wait_timeout_while(wish, within, |wish| wish.end && !wish.ended));
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wish {
    fn is_wanted(&self, now: Instant) -> bool {
        self.held || self.used.is_some_and(|used| now.saturating_duration_since(used) < LINGER)
    }
}

/// The thread.
struct Keeper {
    runtime: Runtime,
    lasts: Duration,
    find: fn() -> Result<Gateway, Refusal>,
    // Who gave what we have, or was asked in vain.
    gateway: Option<Gateway>,
    ways: [Way; 2],
    // When a router that said no is asked again.
    again: Option<Instant>,
    shared: Arc<Shared>,
}

struct Way {
    port: SocketAddr,
    mapped: Mapped,
    // And when it is to be renewed.
    lease: Option<(Lease, Instant)>,
}

impl Keeper {
    fn run(mut self) {
        loop {
            let wish = *self.shared.wish();
            if wish.end {
                break;
            }
            if wish.is_wanted(Instant::now()) {
                self.keep();
            } else {
                self.give_back();
                self.again = None;
            }
            let next = self.next(Instant::now());
            let wish = self.shared.wish();
            let stale = |wish: &mut Wish| !wish.end && wish.is_wanted(Instant::now()) == self.is_active();
            match next {
                Some(next) => drop(self.shared.changed.wait_timeout_while(wish, next, stale)),
                None => drop(self.shared.changed.wait_while(wish, stale)),
            }
        }
        self.give_back();
        self.shared.wish().ended = true;
        self.shared.changed.notify_all();
    }

    /// Whether this works for somebody who wants it.
    fn is_active(&self) -> bool {
        self.again.is_some() || self.ways.iter().any(|way| way.lease.is_some())
    }

    /// Renews what is due and asks for what is missing.
    fn keep(&mut self) {
        let now = Instant::now();
        let gateway = (self.find)();
        if gateway.as_ref().ok() != self.gateway.as_ref() {
            // Another network: the router there knows nothing of us, and the old one cannot hear us.
            self.ways.iter_mut().for_each(Way::forget);
            (self.gateway, self.again) = (gateway.as_ref().ok().copied(), None);
        }
        for way in &mut self.ways {
            if let Some((mut lease, _)) = way.lease.take_if(|(_, due)| *due <= now) {
                let renewed = lease.renew(&self.runtime, self.lasts);
                tracing::debug!(?renewed, "the router was asked to keep a port open");
                match renewed {
                    Ok(()) => way.have(lease),
                    Err(_) => {
                        way.forget();
                        self.again = None;
                    }
                }
            }
        }
        if self.again.is_some_and(|again| now < again) {
            return;
        }
        self.again = Some(now + AGAIN);
        let Ok(gateway) = gateway else { return };
        for way in self.ways.iter_mut().filter(|way| way.lease.is_none() && hears(way.port, gateway.own)) {
            match Lease::open(&self.runtime, &gateway, way.port.port(), self.lasts) {
                Ok(lease) => way.have(lease),
                Err(refusal) => {
                    tracing::debug!(%refusal, "no port is opened by the router");
                    break;
                }
            }
        }
    }

    fn give_back(&mut self) {
        let leases = self.ways.iter_mut().filter_map(|way| {
            let lease = way.lease.take().map(|(lease, _)| lease);
            way.forget();
            lease
        });
        let leases: Vec<_> = leases.collect();
        if !leases.is_empty() {
            Lease::release(leases, &self.runtime);
        }
    }

    /// How long until there is something to do of itself; `None` while nothing is wanted.
    fn next(&self, now: Instant) -> Option<Duration> {
        let due = self.ways.iter().filter_map(|way| way.lease.as_ref().map(|(_, due)| *due)).chain(self.again);
        due.min().map(|due| due.saturating_duration_since(now).clamp(SHORTEST, GLANCE))
    }
}

impl Way {
    fn have(&mut self, lease: Lease) {
        let (protocol, external, lasts) = (lease.protocol, lease.external, lease.lasts);
        if self.swap(Some(external)) != Some(external) {
            tracing::info!(port = self.port.port(), %external, ?lasts, "the router has opened a port by {protocol}");
        }
        // A router may grant it for longer than anybody would remember.
        let due = Instant::now() + (lasts / 2).clamp(SHORTEST, LONGEST);
        self.lease = Some((lease, due));
    }

    fn forget(&mut self) {
        self.lease = None;
        self.swap(None);
    }

    fn swap(&self, external: Option<SocketAddr>) -> Option<SocketAddr> {
        std::mem::replace(&mut *self.mapped.lock().unwrap_or_else(PoisonError::into_inner), external)
    }
}

/// How long after their last use ways are kept: who fetches one file may fetch another.
const LINGER: Duration = Duration::from_secs(120);
/// When a router that said no, or nothing, is asked again.
const AGAIN: Duration = Duration::from_secs(300);
/// How often it is looked whether we are in another network by now.
const GLANCE: Duration = Duration::from_secs(15);
/// Between two renewals, whatever a router says.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
