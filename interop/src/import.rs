//! Converts backbones of other tools to our format.

use crate::naming::{Candidate, Layout, candidates, choose};
use crate::state_file::{SLACK, StateFile, Stored};
use camtrast_common::checkpoint::{BackboneInfo, IMPORTED, PARTIAL, save_backbone, some};
use camtrast_common::error::{ReadResult, Refusal};
use camtrast_common::resnet::{Arch, ResNet};
use camtrast_common::tensor_file::{self, hex};
use camtrast_common::{Error, Result};
use camtrast_pickle::Dtype;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// The user's knowledge about foreign weights that is not in the file, and options.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Which backbone, if the file has several: the prefix of its tensor names, or the end of the prefix.
    pub prefix: Option<String>,
    /// Accept an incomplete backbone, and initialise the rest.
    pub allow_missing: bool,
    /// The stride of detectron2's bottlenecks is known to be on the 3x3 convolution, and the images to be
    /// RGB.
    pub stride_in_3x3: bool,
    /// Seed of the initialisation.
    pub seed: u64,
    /// Mean of the normalisation the weights were trained with, RGB in 0..1.
    pub mean: [f64; 3],
    /// Standard deviation of that normalisation.
    pub std: [f64; 3],
    /// Side of the training images, in pixels.
    pub image_size: i64,
    /// Commit of this program.
    pub commit: String,
}

/// A ResNet found in a file.
#[derive(Debug)]
pub struct Match<'f> {
    /// Architecture, derived from names and shapes.
    pub arch: Arch,
    /// Naming, and prefix in the file.
    pub naming: Candidate,
    /// Other backbones of the file, which are not read.
    pub others: Vec<Candidate>,
    /// Its tensors by torchvision's names.
    pub tensors: BTreeMap<String, &'f Stored>,
    /// Groups of tensors that do not belong to it, with their numbers.
    pub dropped: Vec<(String, usize)>,
    /// Names of the architecture's missing tensors, without counters.
    pub missing: Vec<String>,
}

/// The result of an import.
#[derive(Debug, Clone)]
pub struct ImportReport {
    /// Architecture.
    pub arch: Arch,
    /// Format of the file.
    pub container: String,
    /// The tool whose names the tensors have, and their prefix.
    pub naming: String,
    /// Prefixes of other backbones of the file, which are not read.
    pub others: Vec<String>,
    /// Number of imported tensors.
    pub matched: usize,
    /// Element types other than float32 that were converted to it.
    pub converted: Vec<&'static str>,
    /// Groups of tensors that do not belong to a backbone, with their numbers.
    pub dropped: Vec<(String, usize)>,
    /// Missing tensors, which were initialised.
    pub missing: Vec<String>,
    /// Classes and functions that the file calls besides those for weights, which were not called; at most
    /// 32.
    pub foreign: Vec<String>,
}

// timm's names of a stem of three convolutions, whose last batch norm has the name of a plain stem's only
// one.
fn deep_stem(name: String) -> String {
    match name.split_once('.') {
        Some(("conv1", rest)) => format!("stem.{rest}"),
        Some(("bn1", rest)) => format!("stem.7.{rest}"),
        _ => name,
    }
}

/// Finds the backbone of a file.
///
/// # Errors
/// [`Error::File`] when there is no backbone, when it is not clear which of several is meant, or when it is
/// not a supported ResNet. Missing tensors are not an error here.
pub fn find<'f>(file: &'f StateFile, prefix: Option<&str>) -> Result<Match<'f>> {
    matched(file, prefix).map_err(Refusal::at(file.path()))
}

fn matched<'f>(file: &'f StateFile, prefix: Option<&str>) -> ReadResult<Match<'f>> {
    let names = || file.names();
    if names().any(|name| name.ends_with("res2_0_branch2a_w")) {
        let remedy = "use the PyTorch weights of the same network";
        return Err(Refusal::new(
            "is a Caffe2 model: its stride is in the 1x1 convolutions, its images are BGR, its batch norm \
             is merged into the convolutions",
            remedy,
        ));
    }
    let mut others = candidates(names());
    let naming = choose(&others, prefix).map_err(|refusal| calls_beside(file, &others, refusal))?;
    others.retain(|candidate| *candidate != naming);
    // A weight that cannot be read is an error, not a missing tensor.
    if let Some(unread) = file
        .unread()
        .iter()
        .find(|unread| naming.torchvision(&unread.name).is_some())
    {
        let problem = format!("holds {:?} {}", unread.name, unread.what);
        return Err(Refusal::new(
            problem,
            "save it as a plain tensor, in float32 and little-endian",
        ));
    }

    let mut tensors: BTreeMap<String, &Stored> = BTreeMap::new();
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in file.tensors() {
        match naming.torchvision(&tensor.name) {
            Some(name) => {
                if let Some(other) = tensors.insert(name, tensor) {
                    let problem = format!(
                        "holds two tensors for one weight, {:?} and {:?}",
                        other.name, tensor.name
                    );
                    return Err(Refusal::new(problem, "remove one of them"));
                }
            }
            None => *groups.entry(group(&naming, &tensor.name)).or_default() += 1,
        }
    }
    if tensors.contains_key("conv1.0.weight") {
        tensors = tensors
            .into_iter()
            .map(|(name, tensor)| (deep_stem(name), tensor))
            .collect();
    }
    let shape_of = |name: &str| tensors.get(name).map(|tensor| shape(tensor));
    let arch = Arch::detect(tensors.keys().map(String::as_str), shape_of).map_err(|problem| {
        Refusal::new(
            problem,
            "give a ResNet-18, 34, 50 or 101, with torchvision's names or another tool's",
        )
    })?;
    let expected = arch.tensors();
    let unexpected: Vec<&str> = tensors
        .keys()
        .filter(|n| !expected.contains_key(*n))
        .map(String::as_str)
        .collect();
    if unexpected.iter().any(|n| n.contains(".downsample.2")) {
        return Err(Refusal::new(
            "is a ResNet-D (pooling in the shortcuts)",
            "give a plain ResNet, or a ResNet-C",
        ));
    }
    if !unexpected.is_empty() {
        let problem = format!("is not a plain {arch}: unexpected {}", some(&unexpected));
        return Err(Refusal::new(
            problem,
            "give a plain ResNet; variants (squeeze-excitation, other norms) are not supported",
        ));
    }
    let mut floats = 0;
    for (name, tensor) in &tensors {
        let counter = name.ends_with("num_batches_tracked");
        let shape = shape(tensor);
        if !(shape == expected[name] || counter && tensor.elements() == 1) {
            let problem = format!(
                "tensor {:?} has shape {shape:?}, but {arch} needs {:?}",
                tensor.name, expected[name]
            );
            return Err(Refusal::new(
                problem,
                "give a plain ResNet; variants (wide, ResNeXt) are not supported",
            ));
        }
        if !(counter || tensor.dtype.is_float()) {
            let problem = format!(
                "tensor {:?} has elements of type {}",
                tensor.name,
                tensor.dtype.name()
            );
            return Err(Refusal::new(
                problem,
                "give weights in float32, float16 or bfloat16",
            ));
        }
        floats += tensor.elements();
    }
    if floats > (file.size() * 2 + SLACK / 4) / size_of::<f32>() {
        return Err(Refusal::new(
            "has tensors that share memory",
            "save each tensor separately (tensor.clone())",
        ));
    }
    let missing = expected
        .into_keys()
        .filter(|n| !tensors.contains_key(n) && !n.ends_with("num_batches_tracked"));
    let missing: Vec<String> = missing.collect();
    if !tensors.keys().any(|name| is_statistic(name)) {
        let names: Vec<&str> = missing
            .iter()
            .map(String::as_str)
            .filter(|name| is_statistic(name))
            .collect();
        let problem = format!(
            "is a {arch} without any running statistics: missing {}",
            some(&names)
        );
        let remedy = "give a network with batch norm (group norm, as in timm's resnet50_gn, is not \
                      supported) and save its state_dict(), which holds them";
        return Err(Refusal::new(problem, remedy));
    }
    check_anti_aliased(file)?;
    Ok(Match {
        arch,
        naming,
        others,
        missing,
        tensors,
        dropped: groups.into_iter().collect(),
    })
}

fn is_statistic(name: &str) -> bool {
    name.ends_with("running_mean") || name.ends_with("running_var")
}

// If there is no backbone, the reason may be an object that only a call could create.
fn calls_beside(file: &StateFile, found: &[Candidate], refusal: Refusal) -> Refusal {
    match file.foreign() {
        [name, ..] if found.is_empty() => {
            let problem = format!(
                "{}, and wants to call {name}, which camtrast never does because it would run code",
                refusal.problem
            );
            Refusal::new(
                problem,
                "save plain tensors, as torch.save(model.state_dict(), path) does",
            )
        }
        _ => refusal,
    }
}

/// Networks of timm with the names and shapes of a plain ResNet, whose convolutions have no stride: they blur
/// or average.
const ANTI_ALIASED: [&str; 2] = ["resnetaa", "resnetblur"];

// Weights do not show it; the name of the file, the name of the network in it, and a config.json next to it
// (as in timm's repositories on a hub) may.
fn check_anti_aliased(file: &StateFile) -> ReadResult<()> {
    let name = lower_case_name(file);
    let says = |text: &str| ANTI_ALIASED.iter().any(|word| text.to_lowercase().contains(word));
    let by = if says(&name) {
        "by its name".to_owned()
    } else if let Some(model) = file.model().filter(|model| says(model)) {
        format!("as the file names itself {model}")
    } else if let Some(model) = hub_architecture(file.path()).filter(|model| says(model)) {
        format!("as the config.json next to it says ({model})")
    } else {
        return Ok(());
    };
    let problem = format!(
        "is an anti-aliased ResNet of timm, {by}: it has the same tensor names, but computes other \
                 features"
    );
    Err(Refusal::new(
        problem,
        "give a plain ResNet, such as timm's resnet18 or resnet50",
    ))
}

// The name of the file, in which people say what it holds.
fn lower_case_name(file: &StateFile) -> String {
    let name = file.path().file_name().unwrap_or_default();
    name.to_string_lossy().to_lowercase()
}

fn hub_architecture(path: &Path) -> Option<String> {
    /// timm's files have less than 1 kB.
    const LARGEST: u64 = 64 << 10;
    let config = path.with_file_name("config.json");
    if std::fs::metadata(&config).ok()?.len() > LARGEST {
        return None;
    }
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(config).ok()?).ok()?;
    Some(config.get("architecture")?.as_str()?.chars().take(80).collect())
}

fn shape(tensor: &Stored) -> Vec<i64> {
    tensor.shape.iter().map(|&d| d as i64).collect()
}

// The group of a tensor outside the backbone: the first part of its name that is not the backbone's.
fn group(naming: &Candidate, name: &str) -> String {
    let mut own = naming.prefix.split('.');
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        if own.next() != Some(part) {
            break;
        }
        end += 1;
    }
    name[..end.min(name.len())].to_owned()
}

/// Tools that convert weights with the stride on the 3x3 convolution to detectron2's names.
const PLAIN_STRIDE: [&str; 3] = ["torchvision", "moco", "camtrast"];

// The stride of a bottleneck cannot be seen in its weights, and a wrong one lowers results without an error.
fn check_stride(file: &StateFile, found: &Match) -> ReadResult<()> {
    if found.arch.depth < 50 {
        return Ok(());
    }
    let author = file.author().unwrap_or("").to_lowercase();
    let name = lower_case_name(file);
    let known = PLAIN_STRIDE.contains(&author.as_str());
    if name.contains("caffe") || author.contains("caffe") {
        let remedy = "use weights in PyTorch style; add --stride-in-3x3 if these are in that style";
        return Err(Refusal::new(
            "has a name of Caffe style: stride on the 1x1 convolutions, BGR images",
            remedy,
        ));
    }
    if found.naming.layout == Layout::Detectron2 && !known {
        let remedy =
            "add --stride-in-3x3 if it was trained with MODEL.RESNETS.STRIDE_IN_1X1 False and RGB images";
        return Err(Refusal::new(
            "has detectron2's tensor names: detectron2's default is stride on the 1x1 convolutions and BGR \
             images",
            remedy,
        ));
    }
    Ok(())
}

/// Copies the tensors of a match to the CPU, as float32 (counters as int64), by torchvision's names.
pub fn tensors(file: &StateFile, found: &Match) -> BTreeMap<String, Tensor> {
    let copy = |(name, stored): (&String, &&Stored)| {
        let tensor = if name.ends_with("num_batches_tracked") {
            let mut count = [0i64];
            file.integers(stored, &mut count);
            Tensor::from(count[0])
        } else {
            let tensor = Tensor::empty(shape(stored), (Kind::Float, Device::Cpu));
            // SAFETY: a fresh tensor is contiguous, on the CPU, of this many float32, and outlives the slice.
            let out =
                unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, stored.elements()) };
            file.floats(stored, out);
            tensor
        };
        (name.clone(), tensor)
    };
    found.tensors.iter().map(copy).collect()
}

/// Reads the backbone of another tool's file and writes it as our checkpoint.
///
/// # Errors
/// As [`StateFile::open`] and [`find`]; values that are not finite are refused; an incomplete backbone is
/// refused unless allowed, and so is one whose stride may be elsewhere unless it is known; [`Error::Io`] when
/// `out` cannot be written.
pub fn import(from: &Path, out: &Path, options: &ImportOptions) -> Result<ImportReport> {
    let file = StateFile::open(from)?;
    let found = find(&file, options.prefix.as_deref())?;
    if !options.stride_in_3x3 {
        check_stride(&file, &found).map_err(Refusal::at(from))?;
    }
    let arch = found.arch;
    let all = arch.tensors();
    let elements = |shape: &[i64]| shape.iter().product::<i64>();
    if !found.missing.is_empty() {
        let names: Vec<&str> = found.missing.iter().map(String::as_str).collect();
        let problem = format!(
            "is an incomplete {arch} ({}): missing {}",
            found.naming,
            some(&names)
        );
        if !options.allow_missing {
            let remedy = "give a complete file, or add --allow-missing: the rest is initialised and all its \
                          results are marked";
            return Err(Error::file(from, problem, remedy));
        }
        let missing: i64 = found.missing.iter().map(|n| elements(&all[n])).sum();
        if missing * 2 > all.values().map(|shape| elements(shape)).sum() {
            return Err(Error::file(
                from,
                format!("{problem}, which is more than half"),
                "give a complete file",
            ));
        }
    }
    let mut tensors = tensors(&file, &found);
    if let Some((name, _)) = tensors.iter().find(|(_, tensor)| !tensor_file::is_finite(tensor)) {
        let problem = format!(
            "tensor {:?} holds NaN or infinite values",
            found.tensors[name].name
        );
        return Err(Error::file(
            from,
            problem,
            "use weights from before their training diverged",
        ));
    }
    for counter in all.keys().filter(|name| name.ends_with("num_batches_tracked")) {
        tensors
            .entry(counter.clone())
            .or_insert_with(|| Tensor::from(0i64));
    }
    if !found.missing.is_empty() {
        tch::manual_seed(options.seed as i64);
        let vs = VarStore::new(Device::Cpu);
        // Only the initial values of the network are needed.
        let _ = ResNet::new(&vs.root(), arch);
        for (name, tensor) in vs.variables() {
            tensors.entry(name).or_insert(tensor);
        }
    }
    let mut config = serde_json::json!({
        "imported_from": from.file_name().map(|n| n.to_string_lossy()),
        "source_sha256": hex(&Sha256::digest(file.bytes())),
        "container": file.container().to_string(),
        "naming": found.naming.tool(),
        "prefix": found.naming.prefix,
    });
    if !found.missing.is_empty() {
        // Counters may be missing in any file, so they are not counted.
        let whole = all.keys().filter(|n| !n.ends_with("num_batches_tracked")).count();
        config[PARTIAL] = format!("{} of {whole} tensors missing", found.missing.len()).into();
        config["missing"] = found.missing.clone().into();
    }
    let info = BackboneInfo {
        arch,
        method: IMPORTED.into(),
        dataset: "unknown".into(),
        dataset_sha256: "unknown".into(),
        class_names: Vec::new(),
        image_size: options.image_size,
        mean: options.mean,
        std: options.std,
        epoch: 0,
        step: 0,
        config: config.to_string(),
        commit: options.commit.clone(),
    };
    save_backbone(out, &tensors, &info)?;
    let mut converted: Vec<Dtype> = found
        .tensors
        .values()
        .map(|t| t.dtype)
        .filter(|d| d.is_float())
        .collect();
    converted.retain(|dtype| *dtype != Dtype::F32);
    let mut converted: Vec<&str> = converted.into_iter().map(Dtype::name).collect();
    converted.sort_unstable();
    converted.dedup();
    Ok(ImportReport {
        arch,
        container: file.container().to_string(),
        naming: found.naming.to_string(),
        others: found.others.iter().map(|c| c.prefix.clone()).collect(),
        matched: found.tensors.len(),
        converted,
        dropped: found.dropped,
        missing: found.missing,
        foreign: file.foreign().to_vec(),
    })
}
