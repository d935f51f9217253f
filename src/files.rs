//! Files that a graph names: opened without waiting, and only where they are regular.
//!
//! Opening a FIFO waits for its other end, and a device may never end: neither may hang a graph, nor fill the memory.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of a certificate, a key or a template at most.
pub const LARGEST: u64 = 16 << 20;

/// Opens a regular file for reading; never waits.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening a device may have effects of its own.
    regular(&path.metadata()?)?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    // Another one may have taken its place meanwhile.
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Refuses everything but a regular file, and says what it is.
pub fn regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let (error, what) = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => (io::ErrorKind::IsADirectory, "a folder"),
        _ if kind.is_fifo() => (io::ErrorKind::InvalidInput, "a FIFO (named pipe)"),
        _ if kind.is_socket() => (io::ErrorKind::InvalidInput, "a socket"),
        _ => (io::ErrorKind::InvalidInput, "a device"),
    };
    Err(io::Error::new(error, format!("it is {what}, not a regular file")))
}

/// Whether symbolic links lead nowhere but to one another.
pub fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (file, fifo, socket) = (dir.path().join("file"), dir.path().join("fifo"), dir.path().join("socket"));
        std::fs::write(&file, "1234").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"1234");
        assert_eq!(read(&file, 3).unwrap_err().to_string(), "it is larger than 3 bytes");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (&fifo, "a FIFO"),
            (&socket, "a socket"),
            (&dir.path().into(), "a folder"),
            (&"/dev/zero".into(), "a device"),
        ] {
            let error = read(path, 4).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("not a regular file"), "{error}");
        }
    }
}
