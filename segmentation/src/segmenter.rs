//! A trained DeepLab v3+ on disk: `segmenter.safetensors`, everything that prediction needs in one file.

use crate::classes::ClassSet;
use crate::deeplab::{DeepLab, DeepLabConfig};
use camtrast_common::Result;
use camtrast_common::network_file::{self, NetworkFile};
use camtrast_finetune::{Provenance, load_into};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Tensor};

/// Name of the file in a run's folder.
pub const SEGMENTER: &str = "segmenter.safetensors";
/// `format` of the file.
pub const SEGMENTER_FORMAT: &str = "camtrast-segmenter";

/// What a segmenter's file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmenterInfo {
    /// The network.
    pub model: DeepLabConfig,
    /// What its outputs mean.
    pub classes: ClassSet,
    /// Mean of the normalisation, RGB in 0..1.
    pub mean: [f64; 3],
    /// Standard deviation of the normalisation, RGB in 0..1.
    pub std: [f64; 3],
    /// Training crop, height and width in pixels: the default window of sliding evaluation.
    pub crop: [i64; 2],
    /// Steps trained.
    pub step: u64,
    /// Where it comes from.
    #[serde(flatten)]
    pub provenance: Provenance,
}

/// A network with the variables that hold it.
pub struct Segmenter {
    /// The network.
    pub net: DeepLab,
    /// Its variables.
    pub vs: VarStore,
    /// What it is.
    pub info: SegmenterInfo,
    /// Checksum of the file.
    pub sha256: String,
}

/// Saves a network's variables. The auxiliary classifier is left out: it only serves training.
///
/// # Errors
/// [`camtrast_common::Error::Io`]; nothing is left half-written.
pub fn save(path: &Path, vs: &VarStore, info: &SegmenterInfo) -> Result<()> {
    let tensors: BTreeMap<String, Tensor> = vs
        .variables()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("auxiliary."))
        .collect();
    let model = DeepLabConfig {
        auxiliary: false,
        ..info.model.clone()
    };
    network_file::save(
        path,
        SEGMENTER_FORMAT,
        &tensors,
        &SegmenterInfo {
            model,
            ..info.clone()
        },
    )
}

/// Loads a network, laid out channels-last on `device`.
///
/// # Errors
/// [`camtrast_common::Error::File`] when the file is damaged, of another kind or not whole.
pub fn load(path: &Path, device: Device) -> Result<Segmenter> {
    let remedy = "give the segmenter.safetensors that `camtrast segmentation train` leaves";
    let NetworkFile::<SegmenterInfo> {
        info,
        tensors,
        sha256,
    } = network_file::load(path, SEGMENTER_FORMAT, remedy)?;
    let mut vs = VarStore::new(Device::Cpu);
    let net = DeepLab::new(&vs.root(), &info.model);
    load_into(&mut vs, &tensors, path, device)?;
    Ok(Segmenter {
        net,
        vs,
        info,
        sha256,
    })
}
