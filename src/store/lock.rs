//! One process for each data directory.

use super::{StoreError, make_private_file};
use fs4::FileExt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Held as long as the directory is in use. The operating system gives it free when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let mut file = make_private_file(&path)?;
        match FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { dir: dir.to_owned(), owner: owner(&mut file) });
            }
            Err(fs4::TryLockError::Error(source)) => return Err(StoreError::Io { path, source }),
        }
        let named =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        named.map_err(|source| StoreError::Io { path, source })?;
        Ok(Self { _file: file })
    }
}

fn owner(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}
