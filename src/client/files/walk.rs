//! The files of a folder, found without following a link.

use std::io;

use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};
use rustix::fs::{Mode, OFlags};

use super::stamp::Stamp;
use crate::client::effects::Skipped;

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Regular files with the names from the folder down to each, sorted.
    pub(super) files: Vec<(Vec<String>, Stamp)>,
    /// What is left out: links, special files, names that cannot travel, and what lies too deep. At most [`SKIPPED_MAX`]
    /// paths.
    pub(super) skipped: Skipped,
    /// There are more files than may be sent together.
    pub(super) too_many: bool,
}

/// Looks through `dir`, at most `files_max` files; `fits` tells which names may travel.
pub(super) fn walk(dir: &Dir, files_max: usize, fits: &dyn Fn(&str) -> bool) -> io::Result<Walk> {
    let mut found = Walk::default();
    look_into(dir, &mut Vec::new(), &mut found, files_max, fits)?;
    found.files.sort_by(|a, b| a.0.cmp(&b.0));
    found.skipped.paths.sort();
    Ok(found)
}

fn look_into(
    dir: &Dir,
    path: &mut Vec<String>,
    found: &mut Walk,
    files_max: usize,
    fits: &dyn Fn(&str) -> bool,
) -> io::Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        let shown = name.to_string_lossy().into_owned();
        path.push(shown.clone());
        // Of the entry itself, not of what a link points to.
        let metadata = entry.metadata()?;
        let sound = name.to_str().is_some_and(fits);
        if sound && metadata.is_dir() && path.len() < DEPTH_MAX {
            look_into(&open_dir(dir, &shown)?, path, found, files_max, fits)?;
        } else if sound && metadata.is_file() {
            if found.files.len() == files_max {
                found.too_many = true;
                return Ok(());
            }
            found.files.push((path.clone(), Stamp::of(&metadata)));
        } else {
            found.skipped.count = found.skipped.count.saturating_add(1);
            if found.skipped.paths.len() < SKIPPED_MAX {
                found.skipped.paths.push(path.join("/"));
            }
        }
        path.pop();
    }
    Ok(())
}

/// A directory directly in `dir`, not through a link.
pub(super) fn open_dir(dir: &Dir, name: &str) -> io::Result<Dir> {
    // The system would follow these out of `dir`.
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    Ok(Dir::from_std_file(opened.into()))
}

/// A regular file directly in `dir`: neither through a link nor waiting on a pipe.
pub(super) fn open_file(dir: &Dir, name: &str) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    let file = dir.open_with(name, &options)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

/// The file at `path` beneath `dir`, link by link refused.
pub(super) fn open_beneath(dir: &Dir, path: &[String]) -> io::Result<File> {
    let (name, folders) = path.split_last().ok_or(io::ErrorKind::InvalidInput)?;
    let mut deepest: Option<Dir> = None;
    for folder in folders {
        deepest = Some(open_dir(deepest.as_ref().unwrap_or(dir), folder)?);
    }
    open_file(deepest.as_ref().unwrap_or(dir), name)
}

/// Folders in folders.
const DEPTH_MAX: usize = 32;
/// Names of what is left out that are told.
const SKIPPED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    #[test]
    fn links_and_special_files_are_left_out_and_named() {
        let root = TempDir::new().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("photos/summer")).unwrap();
        for name in ["photos/b", "photos/summer/a", "photos/.hidden", "outside"] {
            fs::write(at(name), name).unwrap();
        }
        symlink(at("outside"), at("photos/link")).unwrap();
        symlink(root.path(), at("photos/summer/up")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("photos/pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let dir = Dir::open_ambient_dir(at("photos"), ambient_authority()).unwrap();
        let found = walk(&dir, 10, &|name| !name.starts_with('.')).unwrap();
        let files: Vec<String> = found.files.iter().map(|(path, _)| path.join("/")).collect();
        assert_eq!(files, ["b", "summer/a"]);
        assert_eq!(found.skipped.paths, [".hidden", "link", "pipe", "summer/up"]);
        assert!(walk(&dir, 1, &|_| true).unwrap().too_many);
        let names = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        assert!(open_beneath(&dir, &names("summer/a")).is_ok());
        for bad in ["link", "pipe", "summer/up/outside", "summer", "../outside", "nothing"] {
            assert!(open_beneath(&dir, &names(bad)).is_err(), "{bad}");
        }
    }
}
