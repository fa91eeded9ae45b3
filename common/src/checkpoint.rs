//! The backbone checkpoint, pretraining's only contract with the tasks. See docs/checkpoint.md.

use crate::error::{Error, Result};
use crate::resnet::{Arch, ResNet};
use crate::tensor_file::{self, Metadata, TensorFile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Tensor};

/// How every `format` of this program begins.
pub const OURS: &str = "camtrast-";
/// `format` of a backbone file.
pub const BACKBONE_FORMAT: &str = "camtrast-backbone";
/// `format` of a training state.
pub const STATE_FORMAT: &str = "camtrast-state";
/// Version of both.
pub const VERSION: u64 = 1;
/// `method` of a backbone that another tool made.
pub const IMPORTED: &str = "imported";
/// Key of a backbone's `config` that says what is missing in an imported one.
pub const PARTIAL: &str = "partial";
const CLASS_NAMES: &str = "class_names";

/// File of the backbone that a run keeps of an epoch on its way, counted from 1.
pub fn kept_file(epoch: u64) -> String {
    format!("{KEPT}{epoch}.safetensors")
}

/// Whether a file's name is one of [`kept_file`].
pub fn is_kept_file(name: &str) -> bool {
    let epoch = name
        .strip_prefix(KEPT)
        .and_then(|rest| rest.strip_suffix(".safetensors"));
    epoch.is_some_and(|epoch| epoch.parse::<u64>().is_ok())
}

const KEPT: &str = "backbone-epoch";

/// The metadata of a backbone file, one key per field.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackboneInfo {
    /// Architecture.
    pub arch: Arch,
    /// Pretraining method, or [`IMPORTED`].
    pub method: String,
    /// The pack pretrained on.
    pub dataset: String,
    /// That pack's checksum.
    pub dataset_sha256: String,
    /// Names of the classes whose images it was trained on, as the pack calls them; empty where they are not
    /// known.
    pub class_names: Vec<String>,
    /// Side of the training images, in pixels.
    pub image_size: i64,
    /// Mean of the normalisation, RGB in 0..1.
    pub mean: [f64; 3],
    /// Standard deviation of the normalisation, RGB in 0..1.
    pub std: [f64; 3],
    /// Epochs trained.
    pub epoch: u64,
    /// Steps trained.
    pub step: u64,
    /// The resolved settings, as JSON.
    pub config: String,
    /// Commit of the program.
    pub commit: String,
}

/// The backbone that a number or a fine-tuned network comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Pretraining method, [`IMPORTED`], or `unknown`.
    pub method: String,
    /// Checksum of the backbone's file.
    pub backbone_sha256: String,
    /// See [`BackboneInfo::partial`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
}

impl Origin {
    /// Reads the metadata of a backbone file, without its tensors.
    ///
    /// # Errors
    /// [`Error::File`] when it is not one of our backbone files, [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        let file = open(path)?;
        Ok(Origin::new(
            &BackboneInfo::from_metadata(path, file.metadata())?,
            file.checksum()?,
        ))
    }

    fn new(info: &BackboneInfo, sha256: &str) -> Self {
        Origin {
            method: info.method.clone(),
            backbone_sha256: sha256.to_owned(),
            partial: info.partial(),
        }
    }

    /// The same as keys and texts, to store with results.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let always = [
            ("method", &self.method),
            ("backbone_sha256", &self.backbone_sha256),
        ];
        let partial = self.partial.as_ref().map(|partial| (PARTIAL, partial));
        always
            .into_iter()
            .chain(partial)
            .map(|(key, text)| (key.to_owned(), text.clone()))
            .collect()
    }
}

impl BackboneInfo {
    /// Reads the metadata of a backbone file, without its tensors.
    ///
    /// # Errors
    /// [`Error::File`] when it is not one of our backbone files, [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_metadata(path, open(path)?.metadata())
    }

    /// What was missing in an imported backbone and was initialised instead, as `3 of 102 tensors missing`;
    /// `None` for a complete one. Every result of a partial backbone must be marked with this text.
    pub fn partial(&self) -> Option<String> {
        let config: serde_json::Value = serde_json::from_str(&self.config).ok()?;
        config.get(PARTIAL)?.as_str().map(String::from)
    }

    fn to_metadata(&self) -> Metadata {
        let json = |v: &[f64; 3]| serde_json::json!(v).to_string();
        let class_names = serde_json::json!(self.class_names).to_string();
        let known = (!self.class_names.is_empty()).then_some((CLASS_NAMES, class_names));
        let always = [
            ("format", BACKBONE_FORMAT.into()),
            ("version", VERSION.to_string()),
            ("arch", self.arch.to_string()),
            ("method", self.method.clone()),
            ("dataset", self.dataset.clone()),
            ("dataset_sha256", self.dataset_sha256.clone()),
            ("image_size", self.image_size.to_string()),
            ("mean", json(&self.mean)),
            ("std", json(&self.std)),
            ("epoch", self.epoch.to_string()),
            ("step", self.step.to_string()),
            ("config", self.config.clone()),
            ("commit", self.commit.clone()),
        ];
        always
            .into_iter()
            .chain(known)
            .map(|(k, v)| (k.to_owned(), v))
            .collect()
    }

    fn from_metadata(path: &Path, metadata: &Metadata) -> Result<Self> {
        let text = |key: &str| {
            let missing = || {
                Error::file(
                    path,
                    format!("its metadata has no {key:?}"),
                    "copy or make it again",
                )
            };
            metadata.get(key).cloned().ok_or_else(missing)
        };
        fn parsed<T>(path: &Path, key: &str, value: Result<T, impl std::fmt::Display>) -> Result<T> {
            value.map_err(|e| {
                Error::file(
                    path,
                    format!("its metadata {key:?} is wrong: {e}"),
                    "copy or make it again",
                )
            })
        }
        Ok(BackboneInfo {
            arch: parsed(path, "arch", text("arch")?.parse())?,
            method: text("method")?,
            dataset: text("dataset")?,
            dataset_sha256: text("dataset_sha256")?,
            class_names: match metadata.get(CLASS_NAMES) {
                Some(names) => parsed(path, CLASS_NAMES, serde_json::from_str(names))?,
                None => Vec::new(),
            },
            image_size: parsed(path, "image_size", text("image_size")?.parse::<i64>())?,
            mean: parsed(path, "mean", serde_json::from_str(&text("mean")?))?,
            std: parsed(path, "std", serde_json::from_str(&text("std")?))?,
            epoch: parsed(path, "epoch", text("epoch")?.parse::<u64>())?,
            step: parsed(path, "step", text("step")?.parse::<u64>())?,
            config: text("config")?,
            commit: text("commit")?,
        })
    }
}

/// A backbone with the variables that hold it.
pub struct Backbone {
    /// The network.
    pub net: ResNet,
    /// Its variables, named as in torchvision.
    pub vs: VarStore,
    /// Where it comes from.
    pub info: BackboneInfo,
    /// Checksum of the file.
    pub sha256: String,
}

impl Backbone {
    /// The origin to store with its results.
    pub fn origin(&self) -> Origin {
        Origin::new(&self.info, &self.sha256)
    }

    /// Copies every tensor into the variables of a larger network, where `prefix` precedes their names.
    ///
    /// # Errors
    /// [`Error::Settings`] when that network has no such variable, or one of another shape.
    pub fn copy_into(&self, vs: &VarStore, prefix: &str) -> Result<()> {
        let targets = vs.variables();
        for (name, source) in self.vs.variables() {
            let target = targets
                .get(&format!("{prefix}{name}"))
                .filter(|t| t.size() == source.size());
            let Some(target) = target else {
                let problem = format!(
                    "this network has no tensor for {name} of the {} backbone",
                    self.info.arch
                );
                return Err(Error::settings(
                    problem,
                    "build the network for the checkpoint's architecture",
                ));
            };
            tch::no_grad(|| target.shallow_clone().copy_(&source));
        }
        Ok(())
    }
}

/// Saves backbone tensors (torchvision's names, [`Tensor`]s of any layout) under their description.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written; nothing is left half-written.
pub fn save_backbone(path: &Path, tensors: &BTreeMap<String, Tensor>, info: &BackboneInfo) -> Result<()> {
    tensor_file::save(path, tensors, &info.to_metadata())
}

/// Loads a backbone, laid out channels-last on `device`.
///
/// # Errors
/// [`Error::File`] when the file is damaged, of another kind or a later version, incomplete, not finite, or
/// of another tool (to be imported first).
pub fn load_backbone(path: &Path, device: Device) -> Result<Backbone> {
    let file = open(path)?;
    file.verify()?;
    let info = BackboneInfo::from_metadata(path, file.metadata())?;
    let sha256 = file.checksum()?.to_owned();
    let (net, vs) = fill(path, info.arch, &file.tensors()?, device)?;
    Ok(Backbone {
        net,
        vs,
        info,
        sha256,
    })
}

fn starts_as_torch(path: &Path) -> bool {
    let mut start = [0; 9];
    let read =
        std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    // The length at the start of a safetensors file may look like a pickle, but byte 8 is the header's brace.
    read.is_ok() && start[8] != b'{' && (start.starts_with(b"PK\x03\x04") || start[0] == 0x80)
}

// The file, if it is a backbone's.
fn open(path: &Path) -> Result<TensorFile> {
    let file = TensorFile::open(path).map_err(|error| match error {
        // `.pth`, `.pt`, `.pkl`: a zip file, or a pickle.
        Error::File { path, .. } if starts_as_torch(&path) => Error::file(
            path,
            "is a checkpoint of another tool",
            "convert it with `camtrast checkpoint import`, and use the file that this writes",
        ),
        error => error,
    })?;
    match file.metadata().get("format").map(String::as_str) {
        Some(BACKBONE_FORMAT) => {}
        Some(other) if other.starts_with(OURS) => {
            let remedy = "give the run's backbone.safetensors";
            return Err(Error::file(
                path,
                format!("is a {other} file, not a backbone checkpoint"),
                remedy,
            ));
        }
        _ => {
            let remedy = "convert other tools' weights with `camtrast checkpoint import`";
            return Err(Error::file(path, "is a safetensors file of another tool", remedy));
        }
    }
    file.check_version(VERSION)?;
    Ok(file)
}

// Builds the network and fills it from named tensors, which must be the whole backbone and nothing else.
fn fill(
    path: &Path,
    arch: Arch,
    tensors: &BTreeMap<String, Tensor>,
    device: Device,
) -> Result<(ResNet, VarStore)> {
    let mut vs = VarStore::new(Device::Cpu);
    let net = ResNet::new(&vs.root(), arch);
    let own: BTreeMap<String, Tensor> = vs.variables().into_iter().collect();
    // torch accepts files without these counters, and so do we.
    let missing: Vec<&str> = own
        .keys()
        .filter(|n| !tensors.contains_key(*n) && !n.ends_with("num_batches_tracked"))
        .map(|s| &s[..])
        .collect();
    let unexpected: Vec<&str> = tensors
        .keys()
        .filter(|n| !own.contains_key(*n))
        .map(|s| &s[..])
        .collect();
    if !missing.is_empty() || !unexpected.is_empty() {
        let problem = format!(
            "is not a complete {arch}: missing {}, unexpected {}",
            some(&missing),
            some(&unexpected)
        );
        return Err(Error::file(
            path,
            problem,
            "give a file with every backbone tensor under torchvision's names",
        ));
    }
    for (name, source) in tensors {
        let target = &own[name];
        if source.size() != target.size() {
            let problem = format!(
                "tensor {name:?} is {:?}, but {arch} has {:?}",
                source.size(),
                target.size()
            );
            return Err(Error::file(
                path,
                problem,
                "is it a checkpoint of another architecture?",
            ));
        }
        tch::no_grad(|| target.shallow_clone().copy_(source));
    }
    vs.set_device(device);
    crate::nn::weights_channels_last(&vs);
    Ok((net, vs))
}

/// Names for a message, at most two.
pub fn some(names: &[&str]) -> String {
    match names {
        [] => "nothing".into(),
        [a] => a.to_string(),
        [a, b] => format!("{a}, {b}"),
        [a, b, rest @ ..] => format!("{a}, {b} and {} more", rest.len()),
    }
}
