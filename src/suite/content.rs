//! Checksums of files by their content. Each file is read once; as long as the system reports the same size
//! and times for it, its checksum is taken from a file in the suite's folder.

use anyhow::Result;
use camtrast_common::Error;
use camtrast_common::files::write_atomically;
use camtrast_common::tensor_file::{TensorFile, hex};
use camtrast_datasets::Pack;
use camtrast_datasets::fetch::file_sha256;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file in a suite's folder.
const CACHE: &str = "checksums.json";
/// A file changed less than this before it was read could change again within the same time stamp: its
/// checksum is not cached.
const SETTLED_NS: i64 = 2_000_000_000;

/// Checksums of files.
pub struct Contents {
    cache: PathBuf,
    /// By kind of checksum and absolute path.
    known: BTreeMap<String, Known>,
    changed: bool,
}

/// A checksum, and the file's size and times when it was computed.
#[derive(Serialize, Deserialize, Clone)]
struct Known {
    stamp: Stamp,
    sha256: String,
    #[serde(skip)]
    unsettled: bool,
}

/// Size, and the times of the last change of content and of state, in nanoseconds.
type Stamp = [i64; 3];

impl Contents {
    /// With the checksums cached in a suite's folder.
    pub fn open(suite: &Path) -> Self {
        let cache = suite.join(CACHE);
        let known = fs::read(&cache)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Contents {
            cache,
            known: known.unwrap_or_default(),
            changed: false,
        }
    }

    /// Writes the cache, if the suite has a folder. A cache that cannot be written only costs time.
    pub fn keep(&mut self) {
        if std::mem::take(&mut self.changed) && self.cache.parent().is_some_and(Path::is_dir) {
            let kept: BTreeMap<_, _> = self.known.iter().filter(|(_, known)| !known.unsettled).collect();
            let _ = write_atomically(&self.cache, |out| writeln!(out, "{}", serde_json::json!(kept)));
        }
    }

    /// Checksums of the bytes of files.
    ///
    /// # Errors
    /// [`Error::Io`] naming the first that cannot be read.
    pub fn files(&mut self, paths: &[PathBuf]) -> Result<Vec<String>> {
        let found: Vec<(String, Known, bool)> = paths
            .par_iter()
            .map(|path| {
                let (key, stamp) = (key("file", path), stamp(path)?);
                match self.known.get(&key).filter(|known| known.stamp == stamp) {
                    Some(known) => Ok((key, known.clone(), false)),
                    None => Ok((key, Known::new(stamp, file_sha256(path)?), true)),
                }
            })
            .collect::<Result<_>>()?;
        let mut sums = Vec::new();
        for (key, known, fresh) in found {
            sums.push(known.sha256.clone());
            if fresh {
                self.changed = true;
                self.known.insert(key, known);
            }
        }
        Ok(sums)
    }

    /// Checksum of the bytes of a file.
    pub fn file(&mut self, path: &Path) -> Result<String> {
        Ok(self.files(&[path.to_owned()])?.remove(0))
    }

    /// The checksum stored in a file of tensors, after it has been verified.
    ///
    /// # Errors
    /// [`Error::File`] when it is damaged or not a file of tensors, [`Error::Io`].
    pub fn tensors(&mut self, path: &Path) -> Result<String> {
        let (key, stamp) = (key("tensors", path), stamp(path)?);
        if let Some(known) = self.known.get(&key).filter(|known| known.stamp == stamp) {
            return Ok(known.sha256.clone());
        }
        let file = TensorFile::open(path)?;
        file.verify()?;
        let sum = file.checksum()?.to_owned();
        self.known.insert(key, Known::new(stamp, sum.clone()));
        self.changed = true;
        Ok(sum)
    }

    /// Opens a pack and verifies its checksum.
    ///
    /// # Errors
    /// As [`Pack::open`] and [`Contents::tensors`].
    pub fn pack(&mut self, path: &Path) -> Result<Pack> {
        let pack = Pack::open(path)?;
        self.tensors(path)?;
        Ok(pack)
    }
}

impl Known {
    fn new(stamp: Stamp, sha256: String) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as i64);
        Known {
            stamp,
            sha256,
            unsettled: now - stamp[1].max(stamp[2]) < SETTLED_NS,
        }
    }
}

fn key(kind: &str, path: &Path) -> String {
    format!(
        "{kind} {}",
        std::path::absolute(path)
            .unwrap_or_else(|_| path.to_owned())
            .display()
    )
}

fn stamp(path: &Path) -> Result<Stamp> {
    let about = fs::metadata(path).map_err(Error::io(path, "read"))?;
    let time = |seconds: i64, nanoseconds: i64| seconds * 1_000_000_000 + nanoseconds;
    Ok([
        about.len() as i64,
        time(about.mtime(), about.mtime_nsec()),
        time(about.ctime(), about.ctime_nsec()),
    ])
}

/// Checksum of lines.
pub fn sha256(lines: &[String]) -> String {
    hex(&Sha256::digest(lines.join("\n")))
}
