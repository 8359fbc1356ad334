//! How other threads speak to a thread that waits for datagrams: a queue, and a socket that wakes it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

/// The end that is spoken to. Its owner waits until [`AsFd::as_fd`] is readable, then takes all there is.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    letters: Receiver<T>,
    bell: UnixStream,
    rung: Arc<AtomicBool>,
}

/// The end that speaks. When the last one is dropped, the owner is woken and sees the end.
#[derive(Debug)]
pub(super) struct Address<T> {
    letters: Sender<T>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    far: UnixStream,
    rung: Arc<AtomicBool>,
}

impl<T> Clone for Address<T> {
    fn clone(&self) -> Self {
        Self { letters: self.letters.clone(), bell: Arc::clone(&self.bell) }
    }
}

/// Makes both ends.
pub(super) fn mailbox<T>() -> io::Result<(Address<T>, Mailbox<T>)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let (sender, letters) = channel();
    let rung = Arc::new(AtomicBool::new(false));
    let bell = Arc::new(Bell { far, rung: Arc::clone(&rung) });
    Ok((Address { letters: sender, bell }, Mailbox { letters, bell: near, rung }))
}

impl<T> Address<T> {
    /// Puts a letter in and wakes the owner; one that is gone gets nothing.
    pub(super) fn send(&self, letter: T) {
        if self.letters.send(letter).is_ok() && !self.bell.rung.swap(true, Ordering::AcqRel) {
            // It is not full: there is one byte in it at most.
            let _ = (&self.bell.far).write(&[1]);
        }
    }
}

impl<T> Mailbox<T> {
    /// The next letter; `Err` when nobody can write any more.
    pub(super) fn take(&mut self) -> Result<Option<T>, Ended> {
        if self.rung.load(Ordering::Acquire) {
            // Unrung first: a letter that comes after this rings again.
            let _ = (&self.bell).read(&mut [0; 8]);
            self.rung.store(false, Ordering::Release);
        }
        match self.letters.try_recv() {
            Ok(letter) => Ok(Some(letter)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Ended),
        }
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// Nobody can write any more, and every letter was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::time::Duration;

    fn waits<T>(mailbox: &Mailbox<T>) -> bool {
        let soon = Timespec::try_from(Duration::from_secs(5)).unwrap();
        poll(&mut [PollFd::new(mailbox, PollFlags::IN)], Some(&soon)).unwrap() == 0
    }

    #[test]
    fn letters_come_in_order_and_none_is_slept_over() {
        let (address, mut mailbox) = mailbox().unwrap();
        let writers: Vec<_> = (0..3_u32)
            .map(|writer| {
                let address = address.clone();
                std::thread::spawn(move || (0..2_000_u32).for_each(|n| address.send((writer, n))))
            })
            .collect();
        drop(address);
        let mut next = [0; 3];
        'all: loop {
            assert!(!waits(&mailbox), "asleep with letters waiting: {next:?}");
            loop {
                match mailbox.take() {
                    Ok(Some((writer, n))) => {
                        assert_eq!(n, next[writer as usize]);
                        next[writer as usize] += 1;
                    }
                    Ok(None) => break,
                    Err(Ended) => break 'all,
                }
            }
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(next, [2_000; 3]);
    }
}
