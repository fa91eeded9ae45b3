//! Detectors of torchvision: `fasterrcnn_resnet50_fpn` and similar ones, by the names of their state dicts.

use crate::model::{DetectorArch, ModelConfig};
use camtrast_common::resnet::Arch;
use camtrast_common::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

/// Parts of torchvision's names, and ours.
const NAMES: [(&str, &str); 8] = [
    ("backbone.body.", "backbone."),
    ("backbone.fpn.inner_blocks.", "fpn.inner."),
    ("backbone.fpn.layer_blocks.", "fpn.layer."),
    ("rpn.head.conv.0.0.", "rpn.conv."),
    ("rpn.head.conv.", "rpn.conv."),
    ("rpn.head.", "rpn."),
    ("roi_heads.box_head.", "box_head."),
    ("roi_heads.box_predictor.", "box_predictor."),
];

/// Whether a state dict looks like one.
pub fn is_detector<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|name| name.starts_with("roi_heads.box_predictor."))
}

/// Our configuration and names for the state dict of a torchvision Faster R-CNN with a ResNet-FPN backbone.
///
/// # Errors
/// [`Error::Settings`] when it is of another architecture.
pub fn convert(tensors: BTreeMap<String, Tensor>) -> Result<(ModelConfig, BTreeMap<String, Tensor>)> {
    let foreign = |problem: &str| Error::settings(problem.to_owned(), "give a fasterrcnn_resnetNN_fpn");
    let renamed = |(name, tensor): (String, Tensor)| {
        let found = NAMES
            .iter()
            .find_map(|(theirs, ours)| Some((ours, name.strip_prefix(theirs)?)));
        let Some((ours, rest)) = found else {
            return Err(foreign(&format!(
                "the detector's tensor {name:?} is not part of Faster R-CNN"
            )));
        };
        // The pyramid's convolutions may be in a block that could also hold a norm.
        let rest = if ours.starts_with("fpn.") {
            rest.replace(".0.", ".")
        } else {
            rest.to_owned()
        };
        Ok((format!("{ours}{rest}"), tensor))
    };
    let mut ours = tensors
        .into_iter()
        .map(renamed)
        .collect::<Result<BTreeMap<_, _>>>()?;
    let body = ours.keys().filter_map(|name| name.strip_prefix("backbone."));
    let shape = |name: &str| ours.get(&format!("backbone.{name}")).map(Tensor::size);
    let backbone = Arch::detect(body, shape)
        .map_err(|problem| foreign(&format!("the detector's backbone {problem}")))?;
    // Frozen batch norm counts no batches.
    for name in ours
        .keys()
        .filter(|name| name.ends_with("running_mean"))
        .cloned()
        .collect::<Vec<_>>()
    {
        let counter = name.replace("running_mean", "num_batches_tracked");
        ours.entry(counter).or_insert_with(|| Tensor::from(0i64));
    }
    let rows = |name: &str| {
        ours.get(name)
            .map(|t| t.size()[0])
            .ok_or_else(|| foreign(&format!("the detector has no {name}")))
    };
    let config = ModelConfig {
        fpn_channels: rows("fpn.inner.0.weight")?,
        head_features: rows("box_head.fc6.weight")?,
        ..ModelConfig::new(
            DetectorArch::Fpn,
            backbone,
            rows("box_predictor.cls_score.weight")? - 1,
        )
    };
    Ok((config, ours))
}
