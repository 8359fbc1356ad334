//! Offers: a file or folder from anywhere on the disk, opened and hashed, and kept ready for who accepts it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::content::Content;
use super::engine::{CancelOnDrop, Engine, Internal};
use super::hashing::{HashError, Trees};
use super::prepare::Watching;
use super::stamp::Stamp;
use crate::client::effects::{FilesEvent, OfferReady, OfferRefusal, Wanted};
use crate::transfer::restrict::Rules;
use crate::wire::id::OfferId;
use crate::wire::payload::FileRefusal;

/// An offer of ours.
#[derive(Debug)]
pub(super) enum Offer {
    /// Being opened and hashed.
    Opening { _cancel: CancelOnDrop },
    /// For uploads.
    Ready(Arc<Content>),
}

impl Engine {
    pub(super) fn prepare_offer(&mut self, offer: OfferId, path: PathBuf, rules: Rules) {
        let cancel = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&cancel);
        self.offers.insert(offer, Offer::Opening { _cancel: CancelOnDrop(cancel) });
        let (trees, results) = (Arc::clone(&self.trees), self.results.clone());
        tokio::task::spawn_blocking(move || {
            let mut watch = Watching::new(offer, &results, &cancelled);
            let result = open(&path, &trees, &mut watch);
            let verdict = result.as_ref().map(|(content, ready)| content.judge(&ready.name, &rules));
            let told = match verdict {
                Ok(Err(verdict)) => Internal::Restricted(offer, verdict.detail()),
                _ => Internal::Offered(offer, result),
            };
            let _ = results.send(told);
        });
    }

    pub(super) fn on_offered(&mut self, offer: OfferId, result: Result<(Arc<Content>, OfferReady), OfferRefusal>) {
        if !matches!(self.offers.get(&offer), Some(Offer::Opening { .. })) {
            return;
        }
        self.offers.remove(&offer);
        let result = result.map(|(content, ready)| {
            self.offers.insert(offer, Offer::Ready(content));
            ready
        });
        self.outbox.push_back(FilesEvent::OfferReady { offer, result });
    }

    /// What an offer holds, if it is what is wanted.
    pub(super) fn offered(&self, offer: &OfferId, wanted: &Wanted) -> Result<Arc<Content>, FileRefusal> {
        let Some(Offer::Ready(content)) = self.offers.get(offer) else { return Err(FileRefusal::NotShared) };
        if content.kind() != wanted.kind {
            return Err(FileRefusal::BadRequest);
        }
        let same = wanted.root.is_none_or(|root| root == content.root) && content.is_unchanged(0);
        if same { Ok(Arc::clone(content)) } else { Err(FileRefusal::Changed) }
    }
}

fn open(path: &Path, trees: &Arc<Trees>, watch: &mut Watching<'_>) -> Result<(Arc<Content>, OfferReady), OfferRefusal> {
    let unreadable = |error: &dyn std::fmt::Display| OfferRefusal::Unreadable(error.to_string());
    let found = std::fs::symlink_metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OfferRefusal::NotFound,
        _ => unreadable(&error),
    })?;
    // Of `.` and the like, too.
    let whole = std::fs::canonicalize(path).map_err(|error| unreadable(&error))?;
    let name = whole.file_name().and_then(|name| name.to_str()).ok_or(OfferRefusal::Unfit)?.to_owned();
    let content = if found.is_dir() {
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(|error| unreadable(&error))?;
        Content::of_folder(dir, trees, &mut |bytes, total| watch.read(bytes, total)).map_err(refusal)?
    } else if found.is_file() {
        let (file, stamp) = open_file(path).map_err(|error| unreadable(&error))?.ok_or(OfferRefusal::Unfit)?;
        let content = Content::of_file(file, stamp, trees, &mut |bytes| watch.read(bytes, stamp.size));
        content.map_err(refusal)?
    } else {
        return Err(OfferRefusal::Unfit);
    };
    let (kind, root, size, entries) = (content.kind(), content.root, content.total, content.entries);
    let skipped = content.skipped.clone();
    Ok((Arc::new(content), OfferReady { name, kind, root, size, entries, skipped }))
}

/// `None` if it is no regular file by now.
fn open_file(path: &Path) -> io::Result<Option<(File, Stamp)>> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    let stamp = Stamp::of_std(&metadata);
    Ok(metadata.is_file().then_some((file, stamp)))
}

fn refusal(error: HashError) -> OfferRefusal {
    match error {
        HashError::Empty => OfferRefusal::Unfit,
        HashError::Read(error) => OfferRefusal::Unreadable(error.to_string()),
        HashError::Unfit(why) => OfferRefusal::Unreadable(why),
        error => OfferRefusal::Unreadable(error.to_string()),
    }
}
