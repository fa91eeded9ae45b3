//! Faster R-CNN (Ren et al. 2015) on a ResNet: backbone, region proposals, second stage.
//!
//! `c4`: conv1 to layer3 (stride 16), 15 anchors per position, aligned RoIAlign of 14 x 14, layer4 as the
//! head. `fpn`: P2 to P6, three anchors per position, RoIAlign of 7 x 7, two fully connected layers; equal to
//! `torchvision`'s `fasterrcnn_resnet50_fpn`.

use super::anchors::Anchors;
use super::fpn::Fpn;
use super::heads::{self, DetectionLimits, Detections, Predictor, Truth};
use super::matcher::Sampler;
use super::roi_align::{RoiAlign, multi_scale};
use super::rpn::{Limits, Predictions, Rpn};
use camtrast_common::Result;
use camtrast_common::device::Precision;
use camtrast_common::engine::StepContext;
use camtrast_common::nn::{BatchNorm, Linear, Mode, Modes};
use camtrast_common::random::generator;
use camtrast_common::resnet::{Arch, ResNet, Stem, pool};
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

/// Faster R-CNN; see the module.
#[derive(Debug)]
pub struct FasterRcnn {
    config: ModelConfig,
    backbone: ResNet,
    neck: Neck,
    rpn: Rpn,
    predictor: Predictor,
}

impl FasterRcnn {
    /// Variables `backbone.*` (torchvision's names of the ResNet), `rpn.*`, `box_head.*`, `box_predictor.*`
    /// and, of `fpn`, `fpn.*`.
    pub fn new(vs: &Path, config: &ModelConfig) -> Self {
        let arch = config.backbone;
        let backbone = ResNet::new(&(vs / "backbone"), arch);
        let depths = [8, 4, 2, 1].map(|part| arch.features() / part);
        let head = vs / "box_head";
        let (neck, channels, anchors, features) = match config.arch {
            DetectorArch::C4 => {
                let anchors = Anchors::at_one_level(&config.anchor_sizes, &config.anchor_ratios);
                let anchors = Anchors {
                    rounded: config.round_anchors,
                    ..anchors
                };
                (
                    Neck::C4 {
                        norm: BatchNorm::new(&(&head / "norm"), depths[3]),
                    },
                    depths[2],
                    anchors,
                    depths[3],
                )
            }
            DetectorArch::Fpn => {
                let (channels, features) = (config.fpn_channels, config.head_features);
                let neck = Neck::Fpn {
                    fpn: Fpn::new(&(vs / "fpn"), &depths, channels),
                    fc6: Linear::new(&(&head / "fc6"), channels * 49, features),
                    fc7: Linear::new(&(&head / "fc7"), features, features),
                };
                let anchors = Anchors::one_size_a_level(&config.anchor_sizes, &config.anchor_ratios);
                (
                    neck,
                    channels,
                    Anchors {
                        rounded: config.round_anchors,
                        ..anchors
                    },
                    features,
                )
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

    /// Its settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Feature maps of each group of images [n, 3, H, W]: the one of `c4`, the five of `fpn`. Batch norm
    /// takes its statistics from all groups together.
    pub fn feature_maps(&self, groups: &[Tensor], mode: Mode) -> Vec<Vec<Tensor>> {
        match &self.neck {
            Neck::C4 { .. } => {
                let stem = self.backbone.stem_of_all(groups, mode);
                let maps = (1..=3).fold(stem, |maps, layer| self.backbone.layer_of_all(layer, maps, mode));
                maps.into_iter().map(|map| vec![map]).collect()
            }
            Neck::Fpn { fpn, .. } => self
                .backbone
                .stages_of_all(groups, mode)
                .iter()
                .map(|stages| fpn.forward(&stages.layers))
                .collect(),
        }
    }

    /// The predictions of the first stage for the anchors, from the maps of images padded to `size` (height,
    /// width) pixels.
    pub fn predictions(&self, maps: &[Tensor], size: (i64, i64)) -> Predictions {
        let size = match (&self.neck, maps) {
            // Positions are a stride apart, even if the last one is partly outside an image that is not
            // padded.
            (Neck::C4 { .. }, [map]) => (map.size()[2] * self.c4_stride(), map.size()[3] * self.c4_stride()),
            _ => size,
        };
        self.rpn.forward(maps, size)
    }

    /// Pixels between the positions of the map of `c4`.
    fn c4_stride(&self) -> i64 {
        if self.config.backbone.stem == Stem::Small {
            4
        } else {
            16
        }
    }

    /// Crops of regions f32 [R, 5]: [R, channels, P, P].
    ///
    /// # Errors
    /// [`camtrast_common::Error::Torch`] when the device fails.
    pub fn crops(&self, maps: &[Tensor], regions: &Tensor) -> Result<Tensor> {
        let maps: Vec<Tensor> = maps.iter().map(|map| map.to_kind(Kind::Float)).collect();
        match &self.neck {
            Neck::C4 { .. } => {
                let align = RoiAlign {
                    bins: 14,
                    sampling_ratio: 0,
                    aligned: true,
                };
                align.forward(&maps[0], regions, 1.0 / self.c4_stride() as f64)
            }
            Neck::Fpn { .. } => {
                let align = RoiAlign {
                    bins: 7,
                    sampling_ratio: 2,
                    aligned: false,
                };
                // The coarsest map is for proposals only.
                multi_scale(&align, &maps[..maps.len() - 1], self.c4_stride() / 4, regions)
            }
        }
    }

    /// Features [R, D] of crops.
    pub fn head(&self, crops: &Tensor, modes: Modes) -> Tensor {
        match &self.neck {
            Neck::C4 { norm } => {
                pool(&norm.forward(&self.backbone.layer(4, crops, modes.backbone), modes.head))
            }
            Neck::Fpn { fc6, fc7, .. } => fc7.forward(&fc6.forward(&crops.flatten(1, -1)).relu()).relu(),
        }
    }

    /// The losses of a batch of groups of images; `truth` is of all images, group after group. `at` seeds the
    /// sampling of anchors and regions.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Torch`] when the device lacks the precision or fails.
    pub fn losses(
        &self,
        groups: &[Images],
        truth: &[Truth],
        at: &StepContext,
        precision: Precision,
        modes: Modes,
    ) -> Result<Losses> {
        let config = &self.config;
        let anchors = Sampler {
            size: config.anchors_per_image,
            positive_share: 0.5,
        };
        let regions = Sampler {
            size: config.regions_per_image,
            positive_share: 0.25,
        };
        let mut anchor_draws = generator(at.seed, "sample/anchors", at.epoch, at.batch);
        let mut region_draws = generator(at.seed, "sample/regions", at.epoch, at.batch);
        let (mut first_stage, mut crops, mut samples) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sampled_anchors, mut rest) = (0, truth);
        for (images, (maps, predictions)) in groups.iter().zip(self.first_stage(groups, precision, modes)?) {
            let (truth, after) = rest.split_at(images.sizes.len());
            rest = after;
            let targets: Vec<_> = truth
                .iter()
                .map(|truth| predictions.targets(&truth.boxes))
                .collect();
            let sampled = predictions.sample(&targets, &anchors, &mut anchor_draws)?;
            sampled_anchors += sampled.iter().map(Vec::len).sum::<usize>();
            let (objectness, boxes) = predictions.losses(&targets, &sampled, config.smooth_l1_beta);
            first_stage.push(Tensor::stack(&[objectness, boxes], 0));

            let proposals = predictions.proposals(&images.sizes, limits(config.train_proposals))?;
            let of_group: Vec<heads::Samples> = (proposals.iter().zip(truth))
                .map(|(proposals, truth)| heads::sample(proposals, truth, &regions, &mut region_draws))
                .collect::<Result<_>>()?;
            let regions = heads::regions(&of_group.iter().map(|s| &s.regions).collect::<Vec<_>>());
            crops.push(self.crops(&maps, &regions)?);
            samples.extend(of_group);
        }
        let count = if config.fixed_rpn_normalizer {
            config.anchors_per_image * truth.len()
        } else {
            sampled_anchors
        };
        let first_stage =
            Tensor::stack(&first_stage, 0).sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
        let first_stage = first_stage / count.max(1) as f64;
        let scores = self.second_stage(&Tensor::cat(&crops, 0), precision, modes)?;
        let all = |part: fn(&heads::Samples) -> &Tensor| {
            Tensor::cat(&samples.iter().map(part).collect::<Vec<_>>(), 0)
        };
        let (classes, boxes) =
            scores.losses(&all(|s| &s.labels), &all(|s| &s.offsets), config.smooth_l1_beta);
        Ok(Losses {
            objectness: first_stage.get(0),
            proposal_boxes: first_stage.get(1),
            classes,
            boxes,
        })
    }

    /// The detections in each image, with boxes in pixels of the given images.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Torch`] when the device lacks the precision or fails.
    pub fn detect(&self, images: &Images, precision: Precision) -> Result<Vec<Detections>> {
        let config = &self.config;
        let (maps, predictions) = self
            .first_stage(std::slice::from_ref(images), precision, Modes::EVAL)?
            .remove(0);
        let proposals = predictions.proposals(&images.sizes, limits(config.test_proposals))?;
        let regions = heads::regions(&proposals.iter().collect::<Vec<_>>());
        let scores = self.second_stage(&self.crops(&maps, &regions)?, precision, Modes::EVAL)?;
        let kept = DetectionLimits {
            score: config.score_threshold,
            nms: config.nms_threshold,
            detections: config.detections_per_image,
        };
        let mut start = 0;
        let found = proposals.iter().zip(&images.sizes).map(|(proposals, &size)| {
            let count = proposals.size()[0];
            let part = |all: &Tensor| all.narrow(0, start, count);
            let own = heads::Scores {
                logits: part(&scores.logits),
                offsets: part(&scores.offsets),
            };
            start += count;
            own.found(proposals, size, &kept)
        });
        found.collect()
    }

    // Feature maps and predictions of each group.
    fn first_stage(
        &self,
        groups: &[Images],
        precision: Precision,
        modes: Modes,
    ) -> Result<Vec<(Vec<Tensor>, Predictions)>> {
        let pixels: Vec<Tensor> = groups
            .iter()
            .map(|images| images.pixels.shallow_clone())
            .collect();
        precision.run(pixels[0].device(), || {
            let maps = self.feature_maps(&pixels, modes.backbone).into_iter();
            let with_predictions = |(maps, images): (Vec<Tensor>, &Images)| {
                let predictions = self.predictions(&maps, images.padded_size());
                (maps, predictions)
            };
            Ok(maps.zip(groups).map(with_predictions).collect())
        })
    }

    fn second_stage(&self, crops: &Tensor, precision: Precision, modes: Modes) -> Result<heads::Scores> {
        precision.run(crops.device(), || {
            Ok(self.predictor.forward(&self.head(crops, modes)))
        })
    }
}

fn limits([before_nms, after_nms]: [usize; 2]) -> Limits {
    Limits {
        before_nms: before_nms as i64,
        after_nms,
    }
}
