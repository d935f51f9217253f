//! Folders and files that only the user who runs weir may read, whatever the umask: they hold the bodies of events.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FILE: u32 = 0o600;
const FOLDER: u32 = 0o700;
/// What the group and others may do.
const OTHERS: u32 = 0o077;

/// Makes the folder and those above it that are missing. One that is there stays as it is.
pub(crate) fn make_folder(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(dir)
}

/// Makes the folder as [`make_folder`] does. One that is there is weir's own: it and its files are closed to others.
pub(crate) fn own_folder(dir: &Path) -> io::Result<()> {
    make_folder(dir)?;
    close(dir)?;
    close_all(dir).map(drop)
}

/// Makes the folder as [`make_folder`] does. One that is there may be the user's: its files ending in one of these are
/// closed to others, and that others may enter it is logged.
pub(crate) fn given_folder(dir: &Path, own: &[&str]) -> io::Result<()> {
    make_folder(dir)?;
    if fs::metadata(dir)?.permissions().mode() & OTHERS != 0 {
        tracing::warn!(path = %dir.display(), "other users may enter the folder; close it with `chmod 700`");
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| own.iter().any(|end| name.ends_with(end))) {
            close(&entry.path())?;
        }
    }
    Ok(())
}

/// How files are opened for writing.
pub(crate) fn options() -> OpenOptions {
    let mut options = File::options();
    options.mode(FILE);
    options
}

/// Closes the files and folders in a folder to others; gives the folders.
pub(crate) fn close_all(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        close(&entry.path())?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

fn close(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        // Removed since the folder was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    let mode = metadata.permissions().mode();
    if metadata.is_symlink() || mode & OTHERS == 0 {
        return Ok(());
    }
    let closed = fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS & 0o7777));
    if let Err(error) = closed {
        // It is somebody else's.
        tracing::warn!(path = %path.display(), %error, "other users may read it, and its mode cannot be changed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folders_and_files_that_were_open_to_others_are_closed_and_those_of_the_user_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (own, given) = (dir.path().join("a/own"), dir.path().join("given"));
        own_folder(&own).unwrap();
        assert_eq!((mode(&dir.path().join("a")), mode(&own)), (0o700, 0o700));
        for dir in [&own, &given] {
            make_folder(dir).unwrap();
            fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
            for name in ["1.log", "notes.txt"] {
                fs::write(dir.join(name), "").unwrap();
                fs::set_permissions(dir.join(name), Permissions::from_mode(0o644)).unwrap();
            }
        }
        own_folder(&own).unwrap();
        assert_eq!((mode(&own), mode(&own.join("1.log")), mode(&own.join("notes.txt"))), (0o700, 0o600, 0o600));
        given_folder(&given, &[".log"]).unwrap();
        assert_eq!((mode(&given), mode(&given.join("1.log")), mode(&given.join("notes.txt"))), (0o755, 0o600, 0o644));
    }
}
