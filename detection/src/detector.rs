//! A trained detector on disk: `detector.safetensors`, everything that detection needs in one file.

use crate::model::{FasterRcnn, ModelConfig};
use crate::torchvision;
use crate::transform::{Aspect, Scale};
use camtrast_common::augment::{IMAGENET_MEAN, IMAGENET_STD};
use camtrast_common::checkpoint::{IMPORTED, Origin};
use camtrast_common::leakage::Prints;
use camtrast_common::network_file::{self, NetworkFile};
use camtrast_common::tensor_file::TensorFile;
use camtrast_common::{Error, Result};
use camtrast_finetune::{Provenance, load_into};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Name of the file in a run's folder.
pub const DETECTOR: &str = "detector.safetensors";
/// `format` of the file.
pub const DETECTOR_FORMAT: &str = "camtrast-detector";

/// What a detector's file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectorInfo {
    /// The network.
    pub model: ModelConfig,
    /// Names of the classes, without background; empty when they are not known.
    pub classes: Vec<String>,
    /// Mean of the normalisation, RGB in 0..1.
    pub mean: [f64; 3],
    /// Standard deviation of the normalisation, RGB in 0..1.
    pub std: [f64; 3],
    /// How large the network sees an image.
    pub scale: Scale,
    /// Steps trained.
    pub step: u64,
    /// Batches that batch norm's running statistics were estimated on after training; 0: they are moving
    /// averages.
    #[serde(default)]
    pub precise_bn: u64,
    /// Where it comes from.
    #[serde(flatten)]
    pub provenance: Provenance,
}

/// A detector with the variables that hold it.
pub struct Detector {
    /// The network.
    pub net: FasterRcnn,
    /// Its variables.
    pub vs: VarStore,
    /// What it is.
    pub info: DetectorInfo,
    /// Checksum of the file, where it carries one.
    pub sha256: Option<String>,
}

/// Saves a detector's variables.
///
/// # Errors
/// [`Error::Io`]; nothing is left half-written.
pub fn save(path: &Path, vs: &VarStore, info: &DetectorInfo) -> Result<()> {
    network_file::save(path, DETECTOR_FORMAT, &vs.variables().into_iter().collect(), info)
}

/// Loads a detector of ours, or a torchvision `fasterrcnn_resnetNN_fpn` state dict, laid out channels-last on
/// `device`.
///
/// # Errors
/// [`Error::File`] when the file is damaged, of another kind or not whole.
pub fn load(path: &Path, device: Device) -> Result<Detector> {
    let file = TensorFile::open(path)?;
    let foreign = !file.metadata().contains_key("format")
        && torchvision::is_detector(file.names().iter().map(|n| &n[..]));
    let (info, tensors, sha256) = if foreign {
        let tensors = file
            .tensors()?
            .into_iter()
            .map(|(name, tensor)| (name, whole_precision(tensor)));
        let (model, tensors) = torchvision::convert(tensors.collect()).map_err(|e| within(path, &e))?;
        (of_torchvision(model), tensors, None)
    } else {
        let remedy = "give the detector.safetensors that `camtrast detection train` leaves";
        let NetworkFile {
            info,
            tensors,
            sha256,
        } = network_file::load(path, DETECTOR_FORMAT, remedy)?;
        (info, tensors, Some(sha256))
    };
    let mut vs = VarStore::new(Device::Cpu);
    let net = FasterRcnn::new(&vs.root(), &info.model);
    load_into(&mut vs, &tensors, path, device)?;
    Ok(Detector {
        net,
        vs,
        info,
        sha256,
    })
}

fn within(path: &Path, error: &Error) -> Error {
    Error::file(path, error.to_string(), "copy or make it again")
}

fn whole_precision(tensor: Tensor) -> Tensor {
    match tensor.kind() {
        Kind::Half | Kind::BFloat16 | Kind::Double => tensor.to_kind(Kind::Float),
        _ => tensor,
    }
}

// torchvision's own transform: short side 800, long side at most 1333.
fn of_torchvision(model: ModelConfig) -> DetectorInfo {
    DetectorInfo {
        model,
        classes: Vec::new(),
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        scale: Scale {
            side: 800,
            max_side: 1333,
            aspect: Aspect::Keep,
            pad_to: 32,
        },
        step: 0,
        precise_bn: 0,
        provenance: Provenance {
            origin: Origin {
                method: IMPORTED.into(),
                backbone_sha256: "unknown".into(),
                partial: None,
            },
            training_images: Prints::default(),
            config: "{}".into(),
            commit: "unknown".into(),
        },
    }
}
