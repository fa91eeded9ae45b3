//! Files that are either whole or absent.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Writes `path` through a temporary neighbour that is synced and renamed, so that a crash, a kill or a full
/// disk leaves either the old file or the new one, never a part.
///
/// # Errors
/// [`Error::Io`] naming `path`; the temporary file is removed.
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut whole = WholeFile::create(path)?;
    let mut out = BufWriter::with_capacity(1 << 20, whole.file());
    fill(&mut out)
        .and_then(|()| out.flush())
        .map_err(Error::io(path, "write"))?;
    drop(out);
    whole.publish()
}

/// Writes a value as one line of JSON, as [`write_atomically`] does.
///
/// # Errors
/// [`Error::Io`] naming `path`.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write_atomically(path, |out| {
        serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from)?;
        out.write_all(b"\n")
    })
}

/// Writes one of very many small files that can be made again: a kill leaves it whole or absent, but it is
/// not synced, so that a power failure may lose it.
///
/// # Errors
/// [`Error::Io`] naming `path`; the temporary file is removed.
pub fn write_renamed(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder_of(path).join(format!(".{name}.part"));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Error::io(path, "write")(error)
    })
}

/// A file that is being written under a temporary name and appears under its own only when
/// [`WholeFile::publish`] is called. Dropped before that, it leaves nothing; killed, it leaves a
/// `.<name>.<process>.part` that the next `create` removes.
///
/// The temporary file is locked while it is written: a lock, other than a process's number, is seen by other
/// users and, on shared file systems, by other machines.
pub struct WholeFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl WholeFile {
    /// Opens the temporary neighbour of `path` for reading and writing, and makes missing folders.
    ///
    /// # Errors
    /// [`Error::Io`] naming the folder or `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let folder = folder_of(path);
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        remove_abandoned(folder, &name);
        let temporary = folder.join(format!(".{name}.{}.part", std::process::id()));
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&temporary);
            let file = file.map_err(Error::io(path, "write"))?;
            match file.lock() {
                // A file system without locks: no process can find that the file is abandoned.
                Err(e) if e.kind() == std::io::ErrorKind::Unsupported => {}
                locked => locked.map_err(Error::io(path, "lock"))?,
            }
            // Between opening and locking, another process may have removed it as abandoned.
            let same = |there: fs::Metadata| file.metadata().is_ok_and(|own| own.ino() == there.ino());
            if fs::metadata(&temporary).is_ok_and(same) {
                return Ok(WholeFile {
                    path: path.to_owned(),
                    temporary,
                    file,
                });
            }
        }
    }

    /// The temporary file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Syncs the content and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; nothing is left behind.
    pub fn publish(self) -> Result<()> {
        let publish = || {
            self.file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            // The rename itself lives in the folder.
            File::open(folder_of(&self.path))?.sync_all()
        };
        publish().map_err(Error::io(&self.path, "write"))
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // After `publish` the name is gone already.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

// Abandoned parts of the same file: they can be tens of gigabytes.
fn remove_abandoned(folder: &Path, name: &str) {
    let prefix = format!(".{name}.");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let process = file_name.to_str().and_then(|n| {
            n.strip_prefix(&prefix)?
                .strip_suffix(".part")?
                .parse::<i32>()
                .ok()
        });
        if process.is_some_and(|p| p > 0 && !is_alive(p)) {
            // Unknown processes may be another machine's, whose files are locked. What cannot be opened is
            // another user's to remove.
            let part = File::options().write(true).open(entry.path());
            if part.is_ok_and(|part| part.try_lock().is_ok()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn is_alive(process: i32) -> bool {
    // SAFETY: signal 0 is never delivered, it only asks whether the process exists.
    let found = unsafe { libc::kill(process, 0) } == 0;
    // Processes of other users exist, too, but may not be asked.
    found || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Removes a file, or a folder with everything in it.
///
/// # Errors
/// [`Error::Io`].
pub fn remove(path: &Path) -> Result<()> {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.map_err(Error::io(path, "remove"))
}

/// Names in a folder, sorted.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let list = || -> std::io::Result<Vec<String>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    let mut names = list().map_err(Error::io(folder, "read"))?;
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_write_leaves_the_old_file_and_no_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, |out| out.write_all(b"old")).unwrap();
        let failure = write_atomically(&path, |out| {
            out.write_all(b"new")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        let message = failure.unwrap_err().to_string();
        assert!(message.contains("the disk is full"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()).unwrap(), ["a"]);
    }

    #[test]
    fn one_of_many_files_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        // What a killed process left.
        fs::write(folder.path().join(".a.part"), "ne").unwrap();
        write_renamed(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::create_dir(folder.path().join("b")).unwrap();
        assert!(write_renamed(&folder.path().join("b"), b"new").is_err());
        assert_eq!(names(folder.path()).unwrap(), ["a", "b"]);
    }

    #[test]
    fn parts_of_dead_processes_are_removed_and_of_living_ones_kept() {
        let folder = tempfile::tempdir().unwrap();
        // Process numbers are below 2^22 on Linux.
        let dead = folder.path().join(".a.99999999.part");
        let living = folder
            .path()
            .join(format!(".a.{}.part", std::os::unix::process::parent_id()));
        let other = folder.path().join(".b.99999999.part");
        for path in [&dead, &living, &other] {
            fs::write(path, "x").unwrap();
        }
        write_atomically(&folder.path().join("a"), |out| out.write_all(b"new")).unwrap();
        assert!(!dead.exists() && living.exists() && other.exists());
    }

    #[test]
    fn parts_that_another_machine_writes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        // No process of this machine, but somebody holds the lock.
        let path = folder.path().join(".a.99999999.part");
        let remote = File::create(&path).unwrap();
        remote.lock().unwrap();
        let write = || write_atomically(&folder.path().join("a"), |out| out.write_all(b"new")).unwrap();
        write();
        assert!(path.exists());
        drop(remote);
        write();
        assert!(!path.exists());
    }

    #[test]
    fn processes_of_other_users_are_alive() {
        // Process 1 is another user's unless this is root, who may ask for all.
        assert!(is_alive(1));
        assert!(!is_alive(99_999_999));
    }
}
