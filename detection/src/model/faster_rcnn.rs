//! Faster R-CNN (Ren et al. 2015) on a ResNet: backbone, region proposals, second stage.
//!
//! `c4`: conv1 to layer3 (stride 16), 15 anchors a place, aligned RoIAlign of 14 x 14, layer4 as the head. `fpn`: P2 to P6, three
//! anchors a place, RoIAlign of 7 x 7, two fully connected layers; equal to `torchvision`'s `fasterrcnn_resnet50_fpn`.

use super::anchors::Anchors;
use super::fpn::Fpn;
use super::heads::{self, Found, FoundLimits, Predictor, Truth};
use super::matcher::Sampler;
use super::roi_align::{RoiAlign, multi_scale};
use super::rpn::{Limits, Predictions, Rpn};
use common::Result;
use common::device::Precision;
use common::engine::Moment;
use common::nn::{BatchNorm, Linear, Mode, Modes};
use common::random::generator;
use common::resnet::{Arch, ResNet, Stem, pool};
use serde::{Deserialize, Serialize};
use tch::nn::Path;
use tch::{Kind, Tensor};

/// Which Faster R-CNN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DetectorArch {
    /// One feature map of stride 16, layer4 as the head
    C4,
    /// Feature pyramid, two fully connected layers as the head
    Fpn,
}

/// Everything that shapes the network and what it keeps.
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
    /// The same in evaluation.
    pub test_proposals: [usize; 2],
    /// Anchors of an image that the first stage trains on.
    pub anchors_per_image: usize,
    /// Regions of an image that the second stage trains on.
    pub regions_per_image: usize,
    /// Where the smooth L1 loss turns from square to linear: 1/9 in torchvision, 0 (plain L1) in detectron2.
    pub smooth_l1_beta: f64,
    /// Score that a detection must pass.
    pub score_threshold: f64,
    /// Overlap above which two detections of a class are one.
    pub nms_threshold: f64,
    /// Detections per image.
    pub detections_per_image: usize,
}

impl ModelConfig {
    /// torchvision's values for `fpn` and detectron2's for `c4`.
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
        }
    }
}

/// Images of several sizes in one padded tensor.
#[derive(Debug)]
pub struct Images {
    /// Normalised pixels f32 [N, 3, H, W], zero beyond each image's own size.
    pub pixels: Tensor,
    /// Height and width of each image before padding.
    pub sizes: Vec<(i64, i64)>,
}

impl Images {
    fn padded_size(&self) -> (i64, i64) {
        (self.pixels.size()[2], self.pixels.size()[3])
    }
}

/// The four losses, scalars.
#[derive(Debug)]
pub struct Losses {
    /// Of the first stage's objectness.
    pub objectness: Tensor,
    /// Of the first stage's boxes.
    pub proposal_boxes: Tensor,
    /// Of the second stage's classes.
    pub classes: Tensor,
    /// Of the second stage's boxes.
    pub boxes: Tensor,
}

#[derive(Debug)]
enum Neck {
    C4 { norm: BatchNorm },
    Fpn { fpn: Fpn, fc6: Linear, fc7: Linear },
}

/// See the module.
#[derive(Debug)]
pub struct FasterRcnn {
    config: ModelConfig,
    backbone: ResNet,
    neck: Neck,
    rpn: Rpn,
    predictor: Predictor,
}

impl FasterRcnn {
    /// Variables `backbone.*` (torchvision's names of the ResNet), `rpn.*`, `box_head.*`, `box_predictor.*` and, of `fpn`, `fpn.*`.
    pub fn new(vs: &Path, config: &ModelConfig) -> Self {
        let arch = config.backbone;
        let backbone = ResNet::new(&(vs / "backbone"), arch);
        let depths = [8, 4, 2, 1].map(|part| arch.features() / part);
        let head = vs / "box_head";
        let (neck, channels, anchors, features) = match config.arch {
            DetectorArch::C4 => {
                let anchors = Anchors::at_one_level(&config.anchor_sizes, &config.anchor_ratios);
                (Neck::C4 { norm: BatchNorm::new(&(&head / "norm"), depths[3]) }, depths[2], anchors, depths[3])
            }
            DetectorArch::Fpn => {
                let (channels, features) = (config.fpn_channels, config.head_features);
                let neck = Neck::Fpn {
                    fpn: Fpn::new(&(vs / "fpn"), &depths, channels),
                    fc6: Linear::new(&(&head / "fc6"), channels * 49, features),
                    fc7: Linear::new(&(&head / "fc7"), features, features),
                };
                (neck, channels, Anchors::one_size_a_level(&config.anchor_sizes, &config.anchor_ratios), features)
            }
        };
        FasterRcnn {
            config: config.clone(),
            backbone,
            neck,
            rpn: Rpn::new(&(vs / "rpn"), channels, anchors),
            predictor: Predictor::new(&(vs / "box_predictor"), features, config.classes),
        }
    }

    /// What shaped it.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Feature maps of images [N, 3, H, W]: the one of `c4`, the five of `fpn`.
    pub fn feature_maps(&self, pixels: &Tensor, mode: Mode) -> Vec<Tensor> {
        match &self.neck {
            Neck::C4 { .. } => {
                let stem = self.backbone.stem(pixels, mode);
                vec![(1..=3).fold(stem, |map, layer| self.backbone.layer(layer, &map, mode))]
            }
            Neck::Fpn { fpn, .. } => fpn.forward(&self.backbone.stages(pixels, mode).layers),
        }
    }

    /// What the first stage says of the anchors, from the maps of images padded to `size` (height, width) pixels.
    pub fn predictions(&self, maps: &[Tensor], size: (i64, i64)) -> Predictions {
        self.rpn.forward(maps, size)
    }

    /// Crops of regions f32 [R, 5]: [R, channels, P, P].
    ///
    /// # Errors
    /// [`common::Error::Torch`] when the device fails.
    pub fn crops(&self, maps: &[Tensor], regions: &Tensor) -> Result<Tensor> {
        let maps: Vec<Tensor> = maps.iter().map(|map| map.to_kind(Kind::Float)).collect();
        let stride = if self.config.backbone.stem == Stem::Small { 1 } else { 4 };
        match &self.neck {
            Neck::C4 { .. } => {
                let align = RoiAlign { bins: 14, sampling_ratio: 0, aligned: true };
                align.forward(&maps[0], regions, 1.0 / (4 * stride) as f64)
            }
            Neck::Fpn { .. } => {
                let align = RoiAlign { bins: 7, sampling_ratio: 2, aligned: false };
                // The coarsest map is for proposals only.
                multi_scale(&align, &maps[..maps.len() - 1], stride, regions)
            }
        }
    }

    /// Features [R, D] of crops.
    pub fn head(&self, crops: &Tensor, modes: Modes) -> Tensor {
        match &self.neck {
            Neck::C4 { norm } => pool(&norm.forward(&self.backbone.layer(4, crops, modes.backbone), modes.head)),
            Neck::Fpn { fc6, fc7, .. } => fc7.forward(&fc6.forward(&crops.flatten(1, -1)).relu()).relu(),
        }
    }

    /// The losses of a batch. Anchors and regions are sampled by the moment.
    ///
    /// # Errors
    /// [`common::Error::Torch`] when the device lacks the precision or fails.
    pub fn losses(
        &self,
        images: &Images,
        truth: &[Truth],
        at: &Moment,
        precision: Precision,
        modes: Modes,
    ) -> Result<Losses> {
        let (config, device) = (&self.config, images.pixels.device());
        let (maps, predictions) = precision.run(device, || {
            let maps = self.feature_maps(&images.pixels, modes.backbone);
            let predictions = self.predictions(&maps, images.padded_size());
            Ok((maps, predictions))
        })?;
        let targets: Vec<_> = truth.iter().map(|truth| predictions.targets(&truth.boxes)).collect();
        let sampler = Sampler { size: config.anchors_per_image, positive_share: 0.5 };
        let mut draws = generator(at.seed, "sample/anchors", at.epoch, at.batch);
        let sampled = predictions.sample(&targets, &sampler, &mut draws)?;
        let (objectness, proposal_boxes) = predictions.losses(&targets, &sampled, config.smooth_l1_beta);

        let sampler = Sampler { size: config.regions_per_image, positive_share: 0.25 };
        let mut draws = generator(at.seed, "sample/regions", at.epoch, at.batch);
        let samples: Vec<_> = (predictions.proposals(&images.sizes, limits(config.train_proposals))?.iter())
            .zip(truth)
            .map(|(proposals, truth)| heads::sample(proposals, truth, &sampler, &mut draws))
            .collect::<Result<_>>()?;
        let regions = heads::regions(&samples.iter().map(|s| &s.regions).collect::<Vec<_>>());
        let scores = self.second_stage(&maps, &regions, precision, modes)?;
        let all = |part: fn(&heads::Samples) -> &Tensor| Tensor::cat(&samples.iter().map(part).collect::<Vec<_>>(), 0);
        let (classes, boxes) = scores.losses(&all(|s| &s.labels), &all(|s| &s.offsets), config.smooth_l1_beta);
        Ok(Losses { objectness, proposal_boxes, classes, boxes })
    }

    /// What is found in each image, boxes in pixels of the images given.
    ///
    /// # Errors
    /// [`common::Error::Torch`] when the device lacks the precision or fails.
    pub fn detect(&self, images: &Images, precision: Precision) -> Result<Vec<Found>> {
        let (config, device) = (&self.config, images.pixels.device());
        let (maps, predictions) = precision.run(device, || {
            let maps = self.feature_maps(&images.pixels, Mode::Eval);
            let predictions = self.predictions(&maps, images.padded_size());
            Ok((maps, predictions))
        })?;
        let proposals = predictions.proposals(&images.sizes, limits(config.test_proposals))?;
        let regions = heads::regions(&proposals.iter().collect::<Vec<_>>());
        let scores = self.second_stage(&maps, &regions, precision, Modes::EVAL)?;
        let kept = FoundLimits {
            score: config.score_threshold,
            nms: config.nms_threshold,
            detections: config.detections_per_image,
        };
        let mut start = 0;
        let found = proposals.iter().zip(&images.sizes).map(|(proposals, &size)| {
            let count = proposals.size()[0];
            let part = |all: &Tensor| all.narrow(0, start, count);
            let own = heads::Scores { logits: part(&scores.logits), offsets: part(&scores.offsets) };
            start += count;
            own.found(proposals, size, &kept)
        });
        found.collect()
    }

    fn second_stage(
        &self,
        maps: &[Tensor],
        regions: &Tensor,
        precision: Precision,
        modes: Modes,
    ) -> Result<heads::Scores> {
        let crops = self.crops(maps, regions)?;
        precision.run(regions.device(), || Ok(self.predictor.forward(&self.head(&crops, modes))))
    }
}

fn limits([before_nms, after_nms]: [usize; 2]) -> Limits {
    Limits { before_nms: before_nms as i64, after_nms }
}
