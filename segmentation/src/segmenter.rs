//! A trained DeepLab v3+ on disk: `segmenter.safetensors`, everything that prediction needs in one file.

use crate::classes::ClassSet;
use crate::deeplab::{DeepLab, DeepLabConfig};
use common::nn::weights_channels_last;
use common::optim::copy_into;
use common::tensor_file::{self, CHECKSUM, Metadata, TensorFile};
use common::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Tensor};

/// `format` of the file.
pub const SEGMENTER_FORMAT: &str = "camtrast-segmenter";
const VERSION: &str = "1";

/// What a segmenter's file says of itself, one metadata key a field.
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
    /// Pretraining method of the backbone that training began from.
    pub method: String,
    /// Checksum of that backbone.
    pub backbone_sha256: String,
    /// The resolved settings, as JSON.
    pub config: String,
    /// Commit of the program.
    pub commit: String,
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
/// [`Error::Io`]; nothing is left half-written.
pub fn save(path: &Path, vs: &VarStore, info: &SegmenterInfo) -> Result<()> {
    let tensors: BTreeMap<String, Tensor> =
        vs.variables().into_iter().filter(|(name, _)| !name.starts_with("auxiliary.")).collect();
    let fields = serde_json::to_value(SegmenterInfo {
        model: DeepLabConfig { auxiliary: false, ..info.model.clone() },
        ..info.clone()
    });
    let mut metadata = Metadata::new();
    for (key, value) in fields.expect("plain data serialises").as_object().into_iter().flatten() {
        metadata.insert(key.clone(), value.as_str().map_or_else(|| value.to_string(), String::from));
    }
    metadata.insert("format".into(), SEGMENTER_FORMAT.into());
    metadata.insert("version".into(), VERSION.into());
    tensor_file::save(path, &tensors, &metadata)
}

/// Loads a network, laid out channels-last on `device`.
///
/// # Errors
/// [`Error::File`] when the file is damaged, of another kind or not whole.
pub fn load(path: &Path, device: Device) -> Result<Segmenter> {
    let file = TensorFile::open(path)?;
    if file.metadata().get("format").map(String::as_str) != Some(SEGMENTER_FORMAT) {
        let kind = file.metadata().get("format").map_or("of another tool", String::as_str);
        let remedy = "give the segmenter.safetensors that `camtrast segmentation train` leaves";
        return Err(Error::file(path, format!("is no trained segmenter ({kind})"), remedy));
    }
    file.verify()?;
    let info = info(file.metadata())
        .map_err(|e| Error::file(path, format!("its metadata cannot be read ({e})"), "copy or make it again"))?;
    let mut vs = VarStore::new(Device::Cpu);
    let net = DeepLab::new(&vs.root(), &info.model);
    copy_into(&vs.variables().into_iter().collect(), &file.tensors()?, "the file")
        .map_err(|e| Error::file(path, e.to_string(), "copy or make it again"))?;
    vs.set_device(device);
    weights_channels_last(&vs);
    Ok(Segmenter { net, vs, info, sha256: file.metadata()[CHECKSUM].clone() })
}

// Texts are stored as they are, everything else as JSON.
fn info(metadata: &Metadata) -> serde_json::Result<SegmenterInfo> {
    const TEXTS: [&str; 4] = ["method", "backbone_sha256", "config", "commit"];
    let value = |(key, text): (&String, &String)| {
        let text_or_json = if TEXTS.contains(&key.as_str()) {
            serde_json::Value::from(text.clone())
        } else {
            serde_json::from_str(text).unwrap_or_else(|_| text.clone().into())
        };
        (key.clone(), text_or_json)
    };
    serde_json::from_value(metadata.iter().map(value).collect::<serde_json::Map<_, _>>().into())
}
