//! The linear classifier that a method trained on its backbone, in a separate file; class activation maps
//! need it.

use crate::checkpoint::{BackboneInfo, VERSION};
use crate::device::send;
use crate::error::{Error, Result};
use crate::tensor_file::{self, Metadata, TensorFile};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// `format` of a classifier file.
pub const CLASSIFIER_FORMAT: &str = "camtrast-classifier";
/// Its name in a run's folder.
pub const CLASSIFIER_FILE: &str = "classifier.safetensors";

/// `logits = features weight^T + bias`.
#[derive(Debug)]
pub struct Classifier {
    /// [classes, D].
    pub weight: Tensor,
    /// `[classes]`.
    pub bias: Tensor,
}

impl Classifier {
    /// Saves the classifier of the backbone that `info` describes.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is left half-written.
    pub fn save(&self, path: &Path, info: &BackboneInfo) -> Result<()> {
        let tensors = [("fc.weight", &self.weight), ("fc.bias", &self.bias)];
        let tensors = tensors
            .map(|(name, t)| (name.to_owned(), t.shallow_clone()))
            .into();
        tensor_file::save(path, &tensors, &metadata(info))
    }

    /// Loads the classifier of the backbone that `info` describes.
    ///
    /// # Errors
    /// [`Error::File`] when it is damaged, not a classifier, or that of another backbone.
    pub fn load(path: &Path, info: &BackboneInfo, device: Device) -> Result<Self> {
        let file = TensorFile::open(path)?;
        file.verify()?;
        if file
            .metadata()
            .get("format")
            .is_some_and(|format| format == CLASSIFIER_FORMAT)
        {
            file.check_version(VERSION)?;
        }
        let remedy = "take both files from one run, or remove it so that a head is fitted";
        if let Some((key, _)) = metadata(info)
            .iter()
            .find(|(key, value)| file.metadata().get(*key) != Some(*value))
        {
            return Err(Error::file(
                path,
                format!("is not the classifier of the backbone in the same folder ({key} differs)"),
                remedy,
            ));
        }
        let tensor = |name| Ok::<_, Error>(send(file.tensor(name)?.to_kind(Kind::Float), device));
        let (weight, bias) = (tensor("fc.weight")?, tensor("fc.bias")?);
        if weight.dim() != 2 || weight.size()[1] != info.arch.features() || bias.size() != weight.size()[..1]
        {
            return Err(Error::file(
                path,
                format!("does not fit the features of {}", info.arch),
                remedy,
            ));
        }
        Ok(Classifier { weight, bias })
    }

    /// Logits [N, classes] of features [N, D].
    pub fn logits(&self, features: &Tensor) -> Tensor {
        features
            .to_kind(Kind::Float)
            .linear(&self.weight, Some(&self.bias))
    }
}

fn metadata(info: &BackboneInfo) -> Metadata {
    [
        ("format", CLASSIFIER_FORMAT.to_owned()),
        ("version", VERSION.to_string()),
        ("arch", info.arch.to_string()),
        ("method", info.method.clone()),
        ("dataset_sha256", info.dataset_sha256.clone()),
        ("step", info.step.to_string()),
        ("config", info.config.clone()),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into()
}
