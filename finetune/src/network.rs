//! A network that is fine-tuned, and what its file says about where it comes from.

use camtrast_common::augment::Input;
use camtrast_common::checkpoint::{BackboneInfo, Origin};
use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::leakage::Prints;
use camtrast_common::nn::weights_channels_last;
use camtrast_common::optim::copy_into;
use camtrast_common::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Tensor};

/// A network with its variables, where and how it runs, and the normalisation of its backbone's images.
pub struct Network<N> {
    /// The network.
    pub net: N,
    /// Its variables.
    pub vs: VarStore,
    /// Where they live.
    pub device: Device,
    /// The processes that train or evaluate it together.
    pub group: Group,
    /// Precision of its forward passes.
    pub precision: Precision,
    /// The backbone that it was initialised from.
    pub backbone: BackboneInfo,
    /// Makes its input of pixels, normalised as the backbone's.
    pub input: Input,
}

/// Where a fine-tuned network comes from, part of what its file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The backbone that training started from.
    #[serde(flatten)]
    pub origin: Origin,
    /// The images that it was trained on; empty where they are not known.
    #[serde(default, skip_serializing_if = "Prints::is_empty")]
    pub training_images: Prints,
    /// The complete settings, as JSON.
    pub config: String,
    /// Commit of the program.
    pub commit: String,
}

/// How far a network is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Optimiser steps.
    pub step: u64,
    /// Batches on which batch norm's running statistics were estimated after training; 0: they are moving
    /// averages.
    pub precise_bn: u64,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// Fills a network's new variables with the tensors of its file, on `device` and channels-last. `path` is
/// named in errors.
///
/// # Errors
/// [`Error::File`] when a tensor is missing, unknown or of another shape.
pub fn load_into(
    vs: &mut VarStore,
    tensors: &BTreeMap<String, Tensor>,
    path: &Path,
    device: Device,
) -> Result<()> {
    copy_into(&vs.variables().into_iter().collect(), tensors, "the file")
        .map_err(|error| Error::file(path, error.to_string(), "copy or make it again"))?;
    vs.set_device(device);
    weights_channels_last(vs);
    Ok(())
}
