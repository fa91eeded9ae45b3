//! Faster R-CNN (Ren et al. 2015) on a ResNet: backbone, region proposals, second stage.
//!
//! `c4`: conv1 to layer3 (stride 16), 15 anchors per position, aligned RoIAlign of 14 x 14, layer4 as the
//! head. `fpn`: P2 to P6, three anchors per position, RoIAlign of 7 x 7, two fully connected layers; equal to
//! `torchvision`'s `fasterrcnn_resnet50_fpn`.

use super::anchors::Anchors;
use super::config::{DetectorArch, ModelConfig};
use super::fpn::Fpn;
use super::heads::{self, DetectionLimits, Detections, Predictor, Truth};
use super::matcher::Sampler;
use super::nms::suppress;
use super::roi_align::{Map, Region, RoiAlign, level};
use super::rpn::{self, NMS, Predictions, Rpn};
use camtrast_common::Result;
use camtrast_common::device::{Precision, to_host};
use camtrast_common::engine::StepContext;
use camtrast_common::nn::{BatchNorm, Linear, Mode, Modes, Then};
use camtrast_common::random::generator;
use camtrast_common::resnet::{ResNet, Stem, pool};
use tch::nn::Path;
use tch::{Kind, Tensor};

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

    /// Crops [R, channels, P, P] of the regions of each image, group after group; `maps` are those of each
    /// group, `regions` the corners x1, y1, x2, y2 in pixels of each image's.
    pub fn crops(&self, maps: &[Vec<Tensor>], groups: &[Images], regions: &[Vec<[f32; 4]>]) -> Tensor {
        let (align, finest_stride) = match &self.neck {
            Neck::C4 { .. } => {
                let align = RoiAlign {
                    bins: 14,
                    sampling_ratio: 0,
                    aligned: true,
                };
                (align, self.c4_stride())
            }
            Neck::Fpn { .. } => {
                let align = RoiAlign {
                    bins: 7,
                    sampling_ratio: 2,
                    aligned: false,
                };
                (align, self.c4_stride() / 4)
            }
        };
        // The coarsest map of a pyramid is for proposals only.
        let levels = (maps[0].len() - 1).max(1);
        let of_levels = maps.iter().flat_map(|maps| &maps[..levels]);
        let features: Vec<Tensor> = of_levels.map(|map| map.to_kind(Kind::Float)).collect();
        let map = |(i, features)| Map {
            features,
            scale: 1.0 / (finest_stride << (i % levels)) as f64,
        };
        let maps: Vec<Map> = features.iter().enumerate().map(map).collect();
        let images = groups
            .iter()
            .enumerate()
            .flat_map(|(group, images)| (0..images.sizes.len()).map(move |image| (group, image)));
        let region = |(group, image, corners)| Region {
            map: group * levels + level(corners, finest_stride, levels),
            image,
            corners,
        };
        let regions = images.zip(regions).flat_map(|((group, image), corners)| {
            corners.iter().map(move |&corners| (group, image, corners))
        });
        align.forward(&maps, &regions.map(region).collect::<Vec<_>>())
    }

    /// Features [R, D] of crops.
    pub fn head(&self, crops: &Tensor, modes: Modes) -> Tensor {
        match &self.neck {
            Neck::C4 { norm } => pool(&norm.forward(
                &self.backbone.layer(4, crops, modes.backbone),
                modes.head,
                Then::Nothing,
            )),
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
        let (maps, predictions) = self.first_stage(groups, precision, modes)?;
        let mut rest = truth;
        let truth_of_group: Vec<&[Truth]> = groups
            .iter()
            .map(|images| {
                let (own, others) = rest.split_at(images.sizes.len());
                rest = others;
                own
            })
            .collect();
        let with_truth = || predictions.iter().zip(&truth_of_group);
        let targets: Vec<_> = with_truth()
            .flat_map(|(predictions, truth)| truth.iter().map(|truth| predictions.targets(&truth.boxes)))
            .collect();
        let sampled = rpn::sample(&targets, &anchors, &mut anchor_draws)?;
        let (mut first_stage, mut start) = (Vec::new(), 0);
        for (predictions, truth) in with_truth() {
            let images = start..start + truth.len();
            start = images.end;
            let sampled = rpn::in_group(&sampled[images.clone()], predictions.anchors.size()[0]);
            let (objectness, boxes) = predictions.losses(&targets[images], &sampled, config.smooth_l1_beta);
            first_stage.push(Tensor::stack(&[objectness, boxes], 0));
        }
        let count = if config.fixed_rpn_normalizer {
            config.anchors_per_image * truth.len()
        } else {
            sampled.iter().flatten().map(Vec::len).sum()
        };
        let first_stage =
            Tensor::stack(&first_stage, 0).sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
        let first_stage = first_stage / count.max(1) as f64;

        let proposals = proposals(&predictions, groups, config.train_proposals)?;
        let samples = heads::sample(&proposals, truth, &regions, &mut region_draws)?;
        let crops = self.crops(&maps, groups, &samples.regions);
        let scores = self.second_stage(&crops, precision, modes)?;
        let beta = config.smooth_l1_beta;
        let (classes, boxes) = scores.losses(&samples.labels, &samples.offsets, &samples.objects, beta);
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
        let groups = std::slice::from_ref(images);
        let (maps, predictions) = self.first_stage(groups, precision, Modes::EVAL)?;
        let proposals = proposals(&predictions, groups, config.test_proposals)?;
        let regions = corners(&proposals)?;
        let scores = self.second_stage(&self.crops(&maps, groups, &regions), precision, Modes::EVAL)?;
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
    ) -> Result<(Vec<Vec<Tensor>>, Vec<Predictions>)> {
        let pixels: Vec<Tensor> = groups
            .iter()
            .map(|images| images.pixels.shallow_clone())
            .collect();
        precision.run(pixels[0].device(), || {
            let maps = self.feature_maps(&pixels, modes.backbone);
            let of_group =
                |(maps, images): (&Vec<Tensor>, &Images)| self.predictions(maps, images.padded_size());
            let predictions = maps.iter().zip(groups).map(of_group).collect();
            Ok((maps, predictions))
        })
    }

    fn second_stage(&self, crops: &Tensor, precision: Precision, modes: Modes) -> Result<heads::Scores> {
        precision.run(crops.device(), || {
            Ok(self.predictor.forward(&self.head(crops, modes)))
        })
    }
}

// Boxes f32 [n, 4] of each image's proposals, the best first, without gradient. The host reads once for all
// images.
fn proposals(predictions: &[Predictions], groups: &[Images], limits: [usize; 2]) -> Result<Vec<Tensor>> {
    let [before_nms, after_nms] = limits;
    let candidates: Vec<_> = (predictions.iter().zip(groups))
        .flat_map(|(predictions, images)| predictions.candidates(&images.sizes, before_nms as i64))
        .collect();
    let kept = suppress(&candidates, NMS, after_nms)?;
    let boxes = candidates.iter().zip(&kept);
    Ok(boxes
        .map(|(image, kept)| image.boxes.index_select(0, kept))
        .collect())
}

// The corners of each image's boxes [n, 4], read by the host in one copy.
fn corners(boxes: &[Tensor]) -> Result<Vec<Vec<[f32; 4]>>> {
    let all: Vec<f32> = to_host(&Tensor::cat(boxes, 0).reshape([-1]))?;
    let mut rest = all
        .chunks_exact(4)
        .map(|sides| [sides[0], sides[1], sides[2], sides[3]]);
    Ok(boxes
        .iter()
        .map(|boxes| rest.by_ref().take(boxes.size()[0] as usize).collect())
        .collect())
}
