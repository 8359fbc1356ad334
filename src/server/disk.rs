//! The store as the driver uses it, and the room that its disk has left.

use super::Space;
use crate::limits::{DISK_LAST, DISK_RESERVE};
use crate::store::{ServerStore, StoreError};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

/// The store, which goes to a blocking thread for each use and comes back.
pub(super) struct Disk {
    store: Option<ServerStore>,
    looked: Option<Instant>,
    space: Space,
}

impl Disk {
    pub(super) fn new(store: ServerStore) -> Self {
        Self { store: Some(store), looked: None, space: Space::default() }
    }

    pub(super) async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut ServerStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut store = self.store.take().ok_or(StoreError::Damaged("a use of it was broken off"))?;
        let done = spawn_blocking(move || {
            let result = work(&mut store);
            (store, result)
        });
        let (store, result) = done.await.map_err(|_| StoreError::Damaged("a use of it panicked"))?;
        self.store = Some(store);
        result
    }

    /// Looks now and then; how much room there is, if that has changed.
    pub(super) fn look(&mut self) -> Option<Space> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return None;
        }
        self.looked = Some(Instant::now());
        let space = match self.store.as_ref()?.free_bytes() {
            Some(free) if free < DISK_LAST => Space::None,
            Some(free) if free < DISK_RESERVE => Space::Little,
            _ => Space::Plenty,
        };
        if space == self.space {
            return None;
        }
        match space {
            Space::Plenty => tracing::info!("the disk has room again"),
            Space::Little | Space::None => tracing::error!("the disk is nearly full: what people write is refused"),
        }
        self.space = space;
        Some(space)
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(500);
