//! Argon2 for doors, on threads of its own.

use super::{Door, Input};
use crate::crypto::room::{DoorHasher, DoorKey};
use crate::limits::HASHES_RUNNING;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Argon2 work on threads of its own, as many as may hash at once, each with memory that it keeps.
pub(super) struct Hashing(std::sync::mpsc::Sender<Work>);

type Work = Box<dyn FnOnce(&mut DoorHasher) -> Input + Send>;

impl Hashing {
    pub(super) fn new(answered: &mpsc::UnboundedSender<Input>) -> Self {
        let (sender, queue) = std::sync::mpsc::channel::<Work>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..HASHES_RUNNING {
            let (queue, answered) = (Arc::clone(&queue), answered.clone());
            std::thread::spawn(move || {
                let mut hasher = DoorHasher::default();
                while let Some(work) = next_work(&queue) {
                    // When the core is gone nobody asks any more.
                    let _ = answered.send(work(&mut hasher));
                }
            });
        }
        Self(sender)
    }

    /// The core has at most [`HASHES_RUNNING`] under way, so nothing piles up here.
    pub(super) fn start(&self, work: impl FnOnce(&mut DoorHasher) -> Input + Send + 'static) {
        let _ = self.0.send(Box::new(work));
    }
}

/// Waits for work; `None` when the actor is gone.
fn next_work(queue: &Mutex<std::sync::mpsc::Receiver<Work>>) -> Option<Work> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

pub(super) fn door_key(door: &Door) -> DoorKey {
    DoorKey::from_bytes(*door.as_bytes())
}
