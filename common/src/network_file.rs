//! Fine-tuned networks on disk: all tensors, and the description needed to build the network and prepare its
//! inputs, in one file.

use crate::error::{Error, Result};
use crate::tensor_file::{self, Metadata, TensorFile};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

const VERSION: u64 = 1;

/// A network as read from its file.
pub struct NetworkFile<I> {
    /// Its description.
    pub info: I,
    /// Its tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Checksum of the file.
    pub sha256: String,
}

/// Saves a network's tensors and its description; `format` names the kind of network.
///
/// # Errors
/// [`Error::Io`]; nothing is left half-written.
pub fn save(
    path: &Path,
    format: &str,
    tensors: &BTreeMap<String, Tensor>,
    info: &impl Serialize,
) -> Result<()> {
    let info = serde_json::to_string(info).expect("plain data serialises");
    let entries = [
        ("format", format.to_owned()),
        ("version", VERSION.to_string()),
        ("info", info),
    ];
    let metadata: Metadata = entries.map(|(key, value)| (key.to_owned(), value)).into();
    tensor_file::save(path, tensors, &metadata)
}

/// Loads a network of the kind `format`. `remedy` says where to find such a file.
///
/// # Errors
/// [`Error::File`] when the file is damaged, not finite, of another kind or of a later version.
pub fn load<I: DeserializeOwned>(path: &Path, format: &str, remedy: &str) -> Result<NetworkFile<I>> {
    let file = TensorFile::open(path)?;
    let found = file
        .metadata()
        .get("format")
        .map_or("a file of another tool", String::as_str);
    if found != format {
        return Err(Error::file(
            path,
            format!("is not a {format} file but {found}"),
            remedy,
        ));
    }
    file.check_version(VERSION)?;
    file.verify()?;
    let info = file.metadata().get("info").map_or("", String::as_str);
    let info = serde_json::from_str(info).map_err(|reason| {
        Error::file(
            path,
            format!("its metadata cannot be read ({reason})"),
            "copy or make it again",
        )
    })?;
    Ok(NetworkFile {
        info,
        tensors: file.tensors()?,
        sha256: file.checksum()?.to_owned(),
    })
}

/// How far a network in a file is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Stage {
    /// Optimiser steps.
    pub step: u64,
    /// Batches that batch norm's running statistics were estimated on after training.
    #[serde(default)]
    pub precise_bn: u64,
}

/// How far the network in a file is trained, from the file's metadata alone; `None` when there is no such
/// file.
pub fn stage(path: &Path) -> Option<Stage> {
    let file = TensorFile::open(path).ok()?;
    serde_json::from_str(file.metadata().get("info")?).ok()
}
