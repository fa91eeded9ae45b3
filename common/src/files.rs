//! Files that are either whole or absent.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes `path` through a temporary neighbour that is synced and renamed, so that a crash, a kill or a full disk leaves
/// either the old file or the new one, never a part.
///
/// # Errors
/// [`Error::Io`] naming `path`; the temporary file is removed.
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.part", std::process::id()));
    let write = || {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        fill(&mut file)?;
        file.into_inner()?.sync_all()?;
        fs::rename(&temporary, path)?;
        // The rename itself lives in the folder.
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::io(path, "write")(source)
    })
}
