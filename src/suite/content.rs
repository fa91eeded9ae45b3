//! Checksums of what a cell's result follows from, so that what is done is known by its content and not by a list.

use super::plan::Cell;
use anyhow::Result;
use common::Error;
use common::checkpoint::Origin;
use common::data::Pack;
use common::data::fetch::file_sha256;
use common::tensor_file::hex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Checksums of files and folders, each looked at once.
#[derive(Default)]
pub struct Contents {
    known: BTreeMap<PathBuf, String>,
}

impl Contents {
    /// Of a pack its own checksum; of any other file its bytes; of a folder the names and sizes of the files below, hidden ones left out.
    pub fn of(&mut self, path: &Path) -> Result<String> {
        if let Some(known) = self.known.get(path) {
            return Ok(known.clone());
        }
        let sum = if path.is_dir() {
            let mut names = Vec::new();
            list(path, path, &mut names)?;
            names.sort_unstable();
            sha256(names.join("\n").as_bytes())
        } else if path.extension().is_some_and(|e| e == "json" || e == "txt") {
            file_sha256(path)?
        } else {
            Pack::open(path)?.sha256().to_owned()
        };
        self.known.insert(path.to_owned(), sum.clone());
        Ok(sum)
    }

    /// Checksum of all that a cell's result follows from: version of the program, settings, data, backbone.
    pub fn key(&mut self, cell: &Cell, checkpoint_sha256: &str) -> Result<String> {
        let mut parts =
            vec![env!("CARGO_PKG_VERSION").to_owned(), cell.command.to_owned(), checkpoint_sha256.to_owned()];
        parts.extend(cell.deciding());
        for path in &cell.data {
            parts.push(self.of(path)?);
        }
        Ok(sha256(parts.join("\n").as_bytes()))
    }

    /// Checksum of how a task measures: what all runs share.
    pub fn protocol(&mut self, cell: &Cell) -> Result<String> {
        let mut parts = vec![cell.command.to_owned()];
        parts.extend(cell.protocol.iter().cloned());
        for path in &cell.data {
            parts.push(self.of(path)?);
        }
        Ok(sha256(parts.join("\n").as_bytes()))
    }
}

fn list(root: &Path, folder: &Path, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let entry = entry.map_err(Error::io(folder, "list"))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let about = fs::metadata(&path).map_err(Error::io(&path, "read"))?;
        if about.is_dir() {
            list(root, &path, names)?;
        } else {
            names.push(format!("{} {}", path.strip_prefix(root).unwrap_or(&path).display(), about.len()));
        }
    }
    Ok(())
}

/// The checksum that a backbone's file carries.
pub fn backbone_sha256(path: &Path) -> Result<String> {
    Ok(Origin::read(path)?.backbone_sha256)
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
