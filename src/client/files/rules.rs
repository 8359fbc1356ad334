//! Rules on sharing, held against what is on the disk: the files of a folder, and the first bytes of each.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::content::{Body, Content, Reader};
use super::part::PartBody;
use crate::transfer::manifest::Manifest;
use crate::transfer::restrict::{HEAD, Item, Rules, Verdict};
use crate::wire::payload::FileKind;

impl Content {
    /// Whether all of it may be sent under this name. What cannot be read now cannot be sent either.
    pub(super) fn judge(&self, name: &str, rules: &Rules) -> Result<(), Verdict> {
        if rules.is_empty() {
            return Ok(());
        }
        let folder = self.kind() == FileKind::Folder;
        rules.judge(&Item { name, folder, size: Some(self.total), root: Some(&self.root) })?;
        match &self.body {
            Body::File(_) => self.judge_head(name, 0, self.size, rules),
            Body::Folder(folder) => self.judge_files(name, folder.manifest(), rules),
            Body::Part(part) => match &part.body {
                PartBody::File(_) => self.judge_head(name, 0, self.size, rules),
                PartBody::Folder(folder) => self.judge_files(name, &folder.manifest, rules),
            },
        }
    }

    fn judge_files(&self, name: &str, manifest: &[u8], rules: &Rules) -> Result<(), Verdict> {
        let Ok(manifest) = Manifest::decode(manifest) else { return Ok(()) };
        judge_manifest(name, &manifest, rules)?;
        (1..)
            .zip(manifest.entries())
            .try_for_each(|(item, entry)| self.judge_head(entry.path(), item, entry.size, rules))
    }

    /// Whether the beginning of an item is here.
    fn has_head(&self, item: u32) -> bool {
        let (Body::Part(part), Some(base)) = (&self.body, self.base(item)) else { return true };
        part.has(&(base..base + 1))
    }

    fn judge_head(&self, name: &str, item: u32, size: u64, rules: &Rules) -> Result<(), Verdict> {
        if !rules.ask_types() {
            return Ok(());
        }
        if size > 0 && !self.has_head(item) {
            return rules.judge_unseen(name);
        }
        let read = self.open_plain(item).and_then(|reader| head_of(size, |head| read_all(&reader, head)));
        read.map_or(Ok(()), |head| rules.judge_head(name, &head))
    }
}

/// Whether all files of a folder of this name may be sent, as far as its list tells, and so many of them.
pub(super) fn judge_manifest(name: &str, manifest: &Manifest, rules: &Rules) -> Result<(), Verdict> {
    let entries = manifest.entries();
    let whole = entries.iter().map(|entry| entry.size).fold(0, u64::saturating_add);
    rules.judge(&Item { name, folder: true, size: Some(whole), root: None })?;
    for entry in entries {
        rules.judge(&Item { name: entry.path(), folder: false, size: Some(entry.size), root: Some(&entry.root) })?;
    }
    rules.judge_amount(entries.len() as u64, whole)
}

/// The beginning of a file of this size, as rules look at it.
pub(super) fn head_of(size: u64, read: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut head = vec![0; usize::try_from(size).map_or(HEAD, |size| size.min(HEAD))];
    read(&mut head)?;
    Ok(head)
}

/// The beginning of an open file.
pub(super) fn head_of_file(file: &File, size: u64) -> io::Result<Vec<u8>> {
    head_of(size, |head| file.read_exact_at(head, 0))
}

fn read_all(reader: &Reader, head: &mut [u8]) -> io::Result<()> {
    reader.read(head, 0)
}
