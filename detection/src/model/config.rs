//! The settings of a Faster R-CNN.

use camtrast_common::resnet::Arch;
use serde::{Deserialize, Serialize};

/// Which Faster R-CNN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DetectorArch {
    /// One feature map of stride 16, layer4 as the head
    C4,
    /// Feature pyramid, two fully connected layers as the head
    Fpn,
}

/// The settings of the network and its sampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelConfig {
    /// Which Faster R-CNN.
    pub arch: DetectorArch,
    /// The backbone.
    pub backbone: Arch,
    /// K, the number of classes without background.
    pub classes: i64,
    /// Sizes of the anchors in pixels: all at the one map of `c4`, one for each of the five maps of `fpn`.
    pub anchor_sizes: Vec<f64>,
    /// Height over width of the anchors.
    pub anchor_ratios: Vec<f64>,
    /// Channels of the pyramid.
    pub fpn_channels: i64,
    /// Features of the two fully connected layers of `fpn`.
    pub head_features: i64,
    /// Proposals in training before (of each feature map) and after suppression.
    pub train_proposals: [usize; 2],
    /// Proposals in evaluation, likewise.
    pub test_proposals: [usize; 2],
    /// Anchors of an image that the first stage trains on.
    pub anchors_per_image: usize,
    /// Regions of an image that the second stage trains on.
    pub regions_per_image: usize,
    /// Where the smooth L1 loss turns from square to linear: 1/9 in torchvision, 0 (plain L1) in detectron2.
    pub smooth_l1_beta: f64,
    /// Minimum score of a detection.
    pub score_threshold: f64,
    /// Overlap above which one of two detections of a class is suppressed.
    pub nms_threshold: f64,
    /// Detections per image.
    pub detections_per_image: usize,
    /// Whether the anchors' corners are rounded to whole pixels, as in torchvision; detectron2 does not.
    #[serde(default = "yes")]
    pub round_anchors: bool,
    /// Whether the first stage's losses are divided by [`Self::anchors_per_image`] for every image, as in
    /// detectron2, or by the number of anchors sampled, as in torchvision: they differ where an image has too
    /// few anchors to sample.
    #[serde(default)]
    pub fixed_rpn_normalizer: bool,
}

// Detectors saved before it was a setting have rounded anchors.
fn yes() -> bool {
    true
}

impl ModelConfig {
    /// torchvision's values for `fpn`; for `c4` detectron2's numbers of proposals with the rest as in
    /// torchvision.
    pub fn new(arch: DetectorArch, backbone: Arch, classes: i64) -> Self {
        let (train_proposals, test_proposals) = match arch {
            DetectorArch::C4 => ([12_000, 2000], [6000, 1000]),
            DetectorArch::Fpn => ([2000, 2000], [1000, 1000]),
        };
        ModelConfig {
            arch,
            backbone,
            classes,
            anchor_sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            anchor_ratios: vec![0.5, 1.0, 2.0],
            fpn_channels: 256,
            head_features: 1024,
            train_proposals,
            test_proposals,
            anchors_per_image: 256,
            regions_per_image: 512,
            smooth_l1_beta: 1.0 / 9.0,
            score_threshold: 0.05,
            nms_threshold: 0.5,
            detections_per_image: 100,
            round_anchors: true,
            fixed_rpn_normalizer: false,
        }
    }
}
