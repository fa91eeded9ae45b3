//! Every setting of fine-tuning a detector; the defaults are a preset's.

use crate::Dataset;
use crate::grouping::Grouping;
use crate::model::{DetectorArch, ModelConfig};
use crate::source::DetectionAugment;
use crate::transform::{Aspect, Scale};
use camtrast_common::optim::Algorithm;
use camtrast_common::resnet::Arch;
use camtrast_common::schedule::{Decay, Schedule};
use camtrast_common::settings;
use camtrast_common::settings::{
    BatchNormMode, Numbers, Switch, check_counts, check_milestones, check_not_negative, check_range, set,
};
use camtrast_common::{Error, Result};
use serde::{Deserialize, Serialize};

settings! {
/// Settings of fine-tuning. `None`: not given. After [`DetectionOptions::resolve`], only one of `steps` and
/// `epochs` is `None`.
pub struct DetectionOptions under "Fine-tuning settings (defaults are the preset's)" {
    /// Optimiser steps (iterations)
    steps: u64,
    /// Passes over the training images, in place of --steps
    epochs: u64,
    /// Images per step
    batch_size: u64,
    /// Batches whose gradients are added up for one step, each of --batch-size / --accumulate images
    accumulate: u64,
    /// Images in a group that is padded to a common size, as on one of several GPUs (0: the whole batch; the
    /// preset's 2 becomes 1 if it does not divide the batch). Batch norm uses the whole batch
    images_per_group: u64,
    /// on: the images of a group are either all wider than high, or all not
    group_by_aspect: Switch,
    /// The sides of a group of images, and of a test image, are padded to a multiple of this many pixels
    pad_to: usize,
    /// on: objects that VOC marks as difficult are trained on; they are never counted in evaluation
    train_difficult: Switch,
    /// sgd, adam or adamw
    optimizer: Algorithm,
    /// Learning rate
    lr: f64,
    /// Factor on the backbone's learning rate
    backbone_lr_scale: f64,
    /// Momentum of sgd
    momentum: f64,
    /// Weight decay
    weight_decay: f64,
    /// Weight decay of batch norm's scale and shift
    norm_weight_decay: f64,
    /// Decay of the learning rate: constant, step, cosine, poly, exponential (each epoch)
    schedule: Decay,
    /// Steps at which --schedule step lowers the learning rate (default: 3/4 and 11/12 of the training)
    milestones: Numbers,
    /// Factor of --schedule step and exponential
    gamma: f64,
    /// Steps over which the learning rate rises from zero
    warmup_steps: u64,
    /// Largest norm of all gradients together; larger ones are scaled down (0: never)
    clip_norm: f64,
    /// Batch norm of the backbone: train, frozen (the checkpoint's statistics, scale and shift are not
    /// changed) or sync (over all processes)
    batch_norm: BatchNormMode,
    /// Training batches from which the running statistics of batch norm are recomputed at the end (PreciseBN;
    /// 0: not recomputed)
    precise_bn: u64,
    /// Short sides in pixels for training images, one drawn at random for each image, such as 480,512,544
    train_sides: Numbers,
    /// Short side in pixels of test images
    test_side: usize,
    /// Largest long side in pixels
    max_side: usize,
    /// Resize images with their aspect ratio (keep), or to a square
    aspect: Aspect,
    /// Probability of a mirror image
    flip: f64,
    /// Sizes of the anchors in pixels: all on the one map of c4, one on each of the five maps of fpn
    anchor_sizes: Numbers,
    /// Height over width of the anchors
    anchor_ratios: Numbers,
    /// on: the anchors' corners are rounded to whole pixels, as in torchvision
    round_anchors: Switch,
    /// Channels of the pyramid of fpn
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    fpn_channels: i64,
    /// Features of the two fully connected layers of fpn
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    head_features: i64,
    /// Proposals in training before and after suppression, such as 12000,2000
    train_proposals: Numbers,
    /// Proposals in evaluation before and after suppression
    test_proposals: Numbers,
    /// Anchors per image that the first stage trains on
    anchors_per_image: usize,
    /// on: the first stage's losses are divided by --anchors-per-image for every image, as in detectron2;
    /// off: by the number sampled
    fixed_rpn_normalizer: Switch,
    /// Regions per image that the second stage trains on
    regions_per_image: usize,
    /// Where the smooth L1 loss turns from square to linear (0: plain L1)
    smooth_l1_beta: f64,
    /// Minimum score of a detection
    score_threshold: f64,
    /// Overlap above which one of two detections of a class is suppressed
    nms_threshold: f64,
    /// Detections per image
    detections_per_image: usize,
}
}

/// The value of `--preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Sun et al. 2022 (supplement A): 800x800, Adam at 1e-4 times 0.95 each epoch, 100 epochs of batch 4
    Paper,
    /// MoCo's and SimSiam's detectron2 schedule for VOC: short sides 480-800, SGD at 0.02, 24k steps of batch
    /// 16
    Moco,
}

impl Preset {
    /// Every setting, for one of the architectures.
    pub fn options(self, arch: DetectorArch) -> DetectionOptions {
        let numbers = |list: &[f64]| Some(Numbers(list.to_vec()));
        let pair = |[before, after]: [usize; 2]| numbers(&[before as f64, after as f64]);
        // These depend neither on the backbone nor on the number of classes.
        let model = ModelConfig::new(
            arch,
            Arch {
                depth: 50,
                width: 64,
                stem: camtrast_common::resnet::Stem::Standard,
            },
            1,
        );
        let paper = DetectionOptions {
            steps: None,
            epochs: Some(100),
            batch_size: Some(4),
            accumulate: Some(1),
            images_per_group: Some(0),
            group_by_aspect: Some(Switch::Off),
            pad_to: Some(32),
            train_difficult: Some(Switch::Off),
            optimizer: Some(Algorithm::Adam),
            lr: Some(1e-4),
            backbone_lr_scale: Some(1.0),
            momentum: Some(0.9),
            weight_decay: Some(5e-4),
            norm_weight_decay: Some(5e-4),
            schedule: Some(Decay::Exponential),
            milestones: None,
            gamma: Some(0.95),
            warmup_steps: Some(0),
            clip_norm: Some(0.0),
            batch_norm: Some(BatchNormMode::Train),
            precise_bn: Some(0),
            train_sides: numbers(&[800.0]),
            test_side: Some(800),
            max_side: Some(1333),
            aspect: Some(Aspect::Square),
            flip: Some(0.5),
            anchor_sizes: numbers(&model.anchor_sizes),
            anchor_ratios: numbers(&model.anchor_ratios),
            round_anchors: Some(Switch::On),
            fpn_channels: Some(model.fpn_channels),
            head_features: Some(model.head_features),
            train_proposals: pair(model.train_proposals),
            test_proposals: pair(model.test_proposals),
            anchors_per_image: Some(model.anchors_per_image),
            fixed_rpn_normalizer: Some(Switch::Off),
            regions_per_image: Some(model.regions_per_image),
            smooth_l1_beta: Some(model.smooth_l1_beta),
            score_threshold: Some(model.score_threshold),
            nms_threshold: Some(model.nms_threshold),
            detections_per_image: Some(model.detections_per_image),
        };
        match self {
            Preset::Paper => paper,
            Preset::Moco => DetectionOptions {
                steps: Some(24_000),
                epochs: None,
                batch_size: Some(16),
                images_per_group: Some(2),
                group_by_aspect: Some(Switch::On),
                pad_to: Some(if arch == DetectorArch::Fpn { 32 } else { 1 }),
                train_difficult: Some(Switch::On),
                optimizer: Some(Algorithm::Sgd),
                lr: Some(0.02),
                weight_decay: Some(1e-4),
                norm_weight_decay: Some(0.0),
                schedule: Some(Decay::Step),
                gamma: Some(0.1),
                warmup_steps: Some(100),
                batch_norm: Some(BatchNormMode::Sync),
                precise_bn: Some(200),
                train_sides: numbers(&(0..11).map(|i| f64::from(480 + 32 * i)).collect::<Vec<_>>()),
                aspect: Some(Aspect::Keep),
                round_anchors: Some(Switch::Off),
                fixed_rpn_normalizer: Some(Switch::On),
                smooth_l1_beta: Some(0.0),
                ..paper
            },
        }
    }
}

fn wrong(problem: String, remedy: &str) -> Error {
    Error::settings(problem, remedy)
}

impl DetectionOptions {
    /// The user's settings, completed with the preset's, and checked.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the setting that cannot work.
    pub fn resolve(self, preset: Preset, arch: DetectorArch) -> Result<DetectionOptions> {
        let mut defaults = preset.options(arch);
        match (self.steps, self.epochs) {
            (Some(_), Some(_)) => {
                return Err(wrong(
                    "--steps and --epochs exclude each other".into(),
                    "give one of them",
                ));
            }
            (Some(_), None) => defaults.epochs = None,
            (None, Some(_)) => defaults.steps = None,
            (None, None) => {}
        }
        let given = self.images_per_group.is_some();
        let mut options = self.or(defaults);
        let images = set(&options.batch_size).checked_div(set(&options.accumulate));
        if !given && images.is_some_and(|images| images % set(&options.images_per_group).max(1) != 0) {
            options.images_per_group = Some(1);
        }
        options.check(arch)?;
        Ok(options)
    }

    fn check(&self, arch: DetectorArch) -> Result<()> {
        let (batch_size, accumulate) = (set(&self.batch_size), set(&self.accumulate));
        if batch_size == 0 || accumulate == 0 || !batch_size.is_multiple_of(accumulate) {
            let problem = format!("--batch-size {batch_size} is not a multiple of --accumulate {accumulate}");
            return Err(wrong(
                problem,
                "give positive numbers, the second a divisor of the first",
            ));
        }
        let (images, group) = (batch_size / accumulate, set(&self.images_per_group));
        if group != 0 && !images.is_multiple_of(group) {
            let problem =
                format!("--images-per-group {group} does not divide the {images} images of a batch");
            return Err(wrong(
                problem,
                "give a divisor of them, such as --images-per-group 1, or another --batch-size",
            ));
        }
        if !(1..=256).contains(&set(&self.pad_to)) {
            let problem = format!("--pad-to {} is not from 1 to 256 pixels", set(&self.pad_to));
            return Err(wrong(problem, "give a number from 1 to 256, such as 32"));
        }
        for (flag, value) in [
            ("flip", set(&self.flip)),
            ("score-threshold", set(&self.score_threshold)),
            ("nms-threshold", set(&self.nms_threshold)),
        ] {
            check_range(flag, value, 0.0..=1.0, "from 0 to 1")?;
        }
        check_range("momentum", set(&self.momentum), 0.0..1.0, "from 0 to below 1")?;
        check_not_negative(&[
            ("lr", self.lr),
            ("backbone-lr-scale", self.backbone_lr_scale),
            ("weight-decay", self.weight_decay),
            ("norm-weight-decay", self.norm_weight_decay),
            ("gamma", self.gamma),
            ("clip-norm", self.clip_norm),
            ("smooth-l1-beta", self.smooth_l1_beta),
        ])?;
        check_counts(&[
            ("steps", self.steps),
            ("epochs", self.epochs),
            ("batch-size", self.batch_size),
            ("warmup-steps", self.warmup_steps),
        ])?;
        check_milestones(&self.milestones)?;
        let sides = set(&self.train_sides).0;
        let whole = |side: &f64| side.fract() == 0.0 && (32.0..=8192.0).contains(side);
        let test = [set(&self.test_side), set(&self.max_side)].map(|side| side as f64);
        if sides.is_empty() || !sides.iter().chain(&test).all(whole) {
            return Err(wrong(
                "--train-sides, --test-side and --max-side must be whole numbers of pixels".into(),
                "give sides from 32 to 8192, such as 480,512,544",
            ));
        }
        let (sizes, ratios) = (set(&self.anchor_sizes).0, set(&self.anchor_ratios).0);
        if sizes.is_empty()
            || ratios.is_empty()
            || sizes.iter().chain(&ratios).any(|n| !(n.is_finite() && *n > 0.0))
        {
            return Err(wrong(
                "--anchor-sizes and --anchor-ratios must be positive".into(),
                "give them as 32,64,128 and 0.5,1,2",
            ));
        }
        if arch == DetectorArch::Fpn && sizes.len() != 5 {
            return Err(wrong(
                format!(
                    "--anchor-sizes has {} sizes for the five maps of fpn",
                    sizes.len()
                ),
                "give five, the smallest first",
            ));
        }
        if [
            self.anchors_per_image,
            self.regions_per_image,
            self.detections_per_image,
        ]
        .iter()
        .any(|n| set(n) == 0)
        {
            return Err(wrong(
                "anchors, regions and detections per image must be at least 1".into(),
                "give positive numbers",
            ));
        }
        self.pair("train-proposals", &self.train_proposals)?;
        self.pair("test-proposals", &self.test_proposals)?;
        Ok(())
    }

    fn pair(&self, flag: &str, list: &Option<Numbers>) -> Result<[usize; 2]> {
        match set(list).0[..] {
            [before, after]
                if before >= 1.0 && after >= 1.0 && before.fract() == 0.0 && after.fract() == 0.0 =>
            {
                Ok([before as usize, after as usize])
            }
            _ => Err(wrong(
                format!("--{flag} {} is not a pair of whole numbers", set(list)),
                "give it as 2000,1000",
            )),
        }
    }

    /// The network that they describe.
    ///
    /// # Errors
    /// As [`DetectionOptions::resolve`].
    pub fn model(&self, arch: DetectorArch, backbone: Arch, classes: i64) -> Result<ModelConfig> {
        Ok(ModelConfig {
            arch,
            backbone,
            classes,
            anchor_sizes: set(&self.anchor_sizes).0,
            anchor_ratios: set(&self.anchor_ratios).0,
            fpn_channels: set(&self.fpn_channels),
            head_features: set(&self.head_features),
            train_proposals: self.pair("train-proposals", &self.train_proposals)?,
            test_proposals: self.pair("test-proposals", &self.test_proposals)?,
            anchors_per_image: set(&self.anchors_per_image),
            regions_per_image: set(&self.regions_per_image),
            smooth_l1_beta: set(&self.smooth_l1_beta),
            score_threshold: set(&self.score_threshold),
            nms_threshold: set(&self.nms_threshold),
            detections_per_image: set(&self.detections_per_image),
            round_anchors: set(&self.round_anchors) == Switch::On,
            fixed_rpn_normalizer: set(&self.fixed_rpn_normalizer) == Switch::On,
        })
    }

    /// The augmentation of the training images of a data set.
    pub fn augment(&self, dataset: &Dataset) -> DetectionAugment {
        let scale = |&side: &f64| Scale {
            side: side as usize,
            ..self.test_scale()
        };
        DetectionAugment {
            scales: set(&self.train_sides).0.iter().map(scale).collect(),
            flip: set(&self.flip),
            difficult: set(&self.train_difficult) == Switch::On && !dataset.crowds,
        }
    }

    /// How images are grouped into batches.
    pub fn grouping(&self) -> Grouping {
        Grouping {
            batch_size: set(&self.batch_size) / set(&self.accumulate),
            images_per_group: set(&self.images_per_group),
            by_aspect: set(&self.group_by_aspect) == Switch::On,
        }
    }

    /// The size of test images.
    pub fn test_scale(&self) -> Scale {
        Scale {
            side: set(&self.test_side),
            max_side: set(&self.max_side),
            aspect: set(&self.aspect),
            pad_to: set(&self.pad_to),
        }
    }

    /// Optimiser steps for this many training images.
    pub fn total_steps(&self, images: usize) -> u64 {
        self.steps
            .unwrap_or_else(|| set(&self.epochs) * self.pass(images))
    }

    /// Steps that a pass over the training images takes.
    pub fn pass(&self, images: usize) -> u64 {
        (images as u64).div_ceil(set(&self.batch_size))
    }

    /// The learning rate over this many steps.
    pub fn schedule(&self, images: usize) -> Schedule {
        let total_steps = self.total_steps(images);
        let decay = set(&self.schedule);
        let milestones = match &self.milestones {
            Some(list) => list.0.iter().map(|&step| step as u64).collect(),
            None => vec![total_steps * 3 / 4, total_steps * 11 / 12],
        };
        Schedule {
            base_lr: set(&self.lr),
            floor: 0.0,
            decay,
            milestones,
            gamma: set(&self.gamma),
            warmup_steps: set(&self.warmup_steps),
            // detectron2's.
            warmup_factor: 0.001,
            // Milestones are counted in steps, the exponential decay in passes.
            steps_per_epoch: if decay == Decay::Step {
                1
            } else {
                self.pass(images)
            },
            total_steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_the_published_schedules() {
        let voc = Dataset::default();
        let moco = DetectionOptions::default()
            .resolve(Preset::Moco, DetectorArch::C4)
            .unwrap();
        assert!(
            !moco
                .augment(&Dataset {
                    crowds: true,
                    ..Dataset::default()
                })
                .difficult
        );
        let schedule = moco.schedule(16_551);
        let close = |step, lr: f64| {
            assert!(
                (schedule.lr(step) - lr).abs() < 1e-12,
                "{step}: {}",
                schedule.lr(step)
            )
        };
        close(0, 0.02 * 0.001);
        close(100, 0.02);
        close(17_999, 0.02);
        close(18_000, 0.002);
        close(22_000, 0.0002);
        assert_eq!(
            (schedule.total_steps, moco.augment(&voc).scales.len()),
            (24_000, 11)
        );
        assert_eq!(
            moco.grouping(),
            Grouping {
                batch_size: 16,
                images_per_group: 2,
                by_aspect: true
            }
        );
        assert_eq!(
            (moco.precise_bn, moco.pad_to, moco.augment(&voc).difficult),
            (Some(200), Some(1), true)
        );
        let one_by_one = DetectionOptions {
            accumulate: Some(16),
            ..DetectionOptions::default()
        };
        let one_by_one = one_by_one.resolve(Preset::Moco, DetectorArch::Fpn).unwrap();
        assert_eq!(
            (one_by_one.grouping().images_per_group, one_by_one.pad_to),
            (1, Some(32))
        );

        let paper = DetectionOptions::default()
            .resolve(Preset::Paper, DetectorArch::C4)
            .unwrap();
        let schedule = paper.schedule(16_551);
        assert_eq!(schedule.total_steps, 100 * 4138);
        assert!((schedule.lr(4138) - 0.95e-4).abs() < 1e-12);
        assert_eq!(paper.test_scale().target((375, 500)), (800, 800));
        assert_eq!(
            paper.grouping(),
            Grouping {
                batch_size: 4,
                images_per_group: 0,
                by_aspect: false
            }
        );
        assert_eq!(
            (paper.precise_bn, paper.pad_to, paper.augment(&voc).difficult),
            (Some(0), Some(32), false)
        );
    }

    #[test]
    fn impossible_settings_are_named() {
        let failure = |options: DetectionOptions| {
            options
                .resolve(Preset::Moco, DetectorArch::Fpn)
                .unwrap_err()
                .to_string()
        };
        let numbers = |list: &[f64]| Some(Numbers(list.to_vec()));
        for (options, named) in [
            (
                DetectionOptions {
                    steps: Some(1),
                    epochs: Some(1),
                    ..DetectionOptions::default()
                },
                "--steps and --epochs",
            ),
            (
                DetectionOptions {
                    accumulate: Some(3),
                    ..DetectionOptions::default()
                },
                "--accumulate 3",
            ),
            (
                DetectionOptions {
                    images_per_group: Some(3),
                    ..DetectionOptions::default()
                },
                "--images-per-group 3 does not divide the 16",
            ),
            (
                DetectionOptions {
                    pad_to: Some(0),
                    ..DetectionOptions::default()
                },
                "--pad-to 0",
            ),
            (
                DetectionOptions {
                    anchor_sizes: numbers(&[32.0]),
                    ..DetectionOptions::default()
                },
                "--anchor-sizes has 1",
            ),
            (
                DetectionOptions {
                    train_sides: numbers(&[0.0]),
                    ..DetectionOptions::default()
                },
                "--train-sides",
            ),
            (
                DetectionOptions {
                    train_proposals: numbers(&[0.5]),
                    ..DetectionOptions::default()
                },
                "--train-proposals 0.5",
            ),
            (
                DetectionOptions {
                    flip: Some(2.0),
                    ..DetectionOptions::default()
                },
                "--flip 2",
            ),
            (
                DetectionOptions {
                    lr: Some(f64::NAN),
                    ..DetectionOptions::default()
                },
                "--lr NaN",
            ),
            (
                DetectionOptions {
                    weight_decay: Some(-1.0),
                    ..DetectionOptions::default()
                },
                "--weight-decay -1",
            ),
            (
                DetectionOptions {
                    momentum: Some(2.0),
                    ..DetectionOptions::default()
                },
                "--momentum 2",
            ),
            (
                DetectionOptions {
                    steps: Some(1 << 63),
                    ..DetectionOptions::default()
                },
                "--steps",
            ),
            (
                DetectionOptions {
                    milestones: numbers(&[80.0, 60.0]),
                    ..DetectionOptions::default()
                },
                "--milestones 80,60",
            ),
            (
                DetectionOptions {
                    milestones: numbers(&[-1.0]),
                    ..DetectionOptions::default()
                },
                "--milestones -1",
            ),
        ] {
            let message = failure(options);
            assert!(message.contains(named), "{message}");
        }
    }
}
