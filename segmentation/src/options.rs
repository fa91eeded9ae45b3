//! Every setting of fine-tuning. A field is a flag, a TOML key and a line of config.toml; its default is the
//! preset's.

use crate::augment::{Resize, SegmentationAugment};
use crate::deeplab::{DeepLabConfig, DropoutPlace, Head, LossAverage};
use crate::predict::PredictOptions;
use camtrast_common::resnet::{Arch, BasicDilation};
use camtrast_common::schedule::Decay;
use camtrast_common::settings;
use camtrast_common::settings::{
    BatchNormMode, Numbers, Switch, check_counts, check_not_negative, check_range, set,
};
use camtrast_common::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

settings! {
/// Settings of fine-tuning. `None`: not given; after [`SegmentationOptions::resolve`] all are set.
pub struct SegmentationOptions under "Fine-tuning settings (defaults are the preset's)" {
    /// Optimiser steps (iterations)
    steps: u64,
    /// Crops per batch
    batch_size: u64,
    /// Learning rate of SGD
    lr: f64,
    /// Factor on the backbone's learning rate
    backbone_lr_scale: f64,
    /// Momentum of SGD
    momentum: f64,
    /// Weight decay
    weight_decay: f64,
    /// Decay of the learning rate: poly, constant, cosine
    schedule: Decay,
    /// Learning rate of the last step of poly and cosine (0: it decays to zero after the last step)
    lr_floor: f64,
    /// Steps over which the learning rate rises from zero
    warmup_steps: u64,
    /// Batch norm of the backbone: train, frozen (the checkpoint's statistics, scale and shift are not
    /// changed) or sync (over all processes)
    batch_norm: BatchNormMode,
    /// Training crop, such as 768 or 512x1024 (height x width)
    crop: Size,
    /// Smallest and largest random scale, such as 0.5,2
    scale: Numbers,
    /// How images are scaled: crop (only the pixels of the crop) or whole (OpenCV's resize, as in
    /// mmsegmentation)
    resize: Resize,
    /// Probability of a mirror image
    flip: f64,
    /// Draw a crop again, at most ten times, if one class has this share of its labelled pixels or more
    max_class_share: f64,
    /// mmsegmentation's changes of brightness, contrast, saturation and hue: on or off
    photometric: Switch,
    /// Stride of the last feature map: 16 or 8
    output_stride: i64,
    /// Which 3x3 convolutions of basic blocks (ResNet-18, 34) are dilated for the output stride: both or
    /// first
    basic_dilation: BasicDilation,
    /// What follows the backbone: deeplab, or linear (batch norm and a 1x1 convolution; with --tune frozen
    /// the linear probe)
    head: Head,
    /// ASPP's three atrous rates; the default is doubled with --output-stride 8
    atrous_rates: Numbers,
    /// Kernel size of the last convolution of ASPP: 1 or 3
    aspp_kernel: i64,
    /// Channels of ASPP and decoder
    #[arg(value_parser = clap::value_parser!(i64).range(2..=4096))]
    head_channels: i64,
    /// Depthwise separable 3x3 convolutions in ASPP and decoder: on or off
    separable: Switch,
    /// Probability of dropout
    dropout: f64,
    /// Where dropout acts: aspp (on values of ASPP's output) or classifier (on whole channels before the
    /// classifiers)
    dropout_place: DropoutPlace,
    /// Pixels that the loss is averaged over: labelled, or all (including ignored ones)
    loss_average: LossAverage,
    /// Weight of the loss of an auxiliary classifier on layer3 (0: no such classifier)
    auxiliary_weight: f64,
}
}

/// The value of `--preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Sun et al. 2022 (supplement A): crop 768, 30k steps of 8, lr 0.01, weight decay 1e-4, output stride 16
    Paper,
    /// mmsegmentation's deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024
    Mmseg,
}

impl Preset {
    /// Every setting. The stem is not a setting: it comes from the checkpoint; mmsegmentation's network is a
    /// `resnet50-v1c`.
    pub fn options(self) -> SegmentationOptions {
        let paper = SegmentationOptions {
            steps: Some(30_000),
            batch_size: Some(8),
            lr: Some(0.01),
            backbone_lr_scale: Some(1.0),
            momentum: Some(0.9),
            weight_decay: Some(1e-4),
            schedule: Some(Decay::Poly),
            lr_floor: Some(0.0),
            warmup_steps: Some(0),
            batch_norm: Some(BatchNormMode::Train),
            crop: Some(Size {
                height: 768,
                width: 768,
            }),
            scale: Some(Numbers(vec![0.5, 2.0])),
            resize: Some(Resize::Crop),
            flip: Some(0.5),
            max_class_share: Some(1.0),
            photometric: Some(Switch::Off),
            output_stride: Some(16),
            basic_dilation: Some(BasicDilation::Both),
            head: Some(Head::Deeplab),
            atrous_rates: None,
            aspp_kernel: Some(1),
            head_channels: Some(256),
            separable: Some(Switch::Off),
            dropout: Some(0.1),
            dropout_place: Some(DropoutPlace::Aspp),
            loss_average: Some(LossAverage::Labelled),
            auxiliary_weight: Some(0.0),
        };
        match self {
            Preset::Paper => paper,
            Preset::Mmseg => SegmentationOptions {
                steps: Some(40_000),
                weight_decay: Some(5e-4),
                lr_floor: Some(1e-4),
                batch_norm: Some(BatchNormMode::Sync),
                crop: Some(Size {
                    height: 512,
                    width: 1024,
                }),
                resize: Some(Resize::Whole),
                max_class_share: Some(0.75),
                photometric: Some(Switch::On),
                output_stride: Some(8),
                basic_dilation: Some(BasicDilation::First),
                aspp_kernel: Some(3),
                head_channels: Some(512),
                separable: Some(Switch::On),
                dropout_place: Some(DropoutPlace::Classifier),
                loss_average: Some(LossAverage::All),
                auxiliary_weight: Some(0.4),
                ..paper
            },
        }
    }
}

impl SegmentationOptions {
    /// The user's settings, completed with the preset's and with the atrous rates for the output stride, and
    /// checked.
    ///
    /// # Errors
    /// [`Error::Settings`] for values out of range.
    pub fn resolve(self, preset: Preset) -> Result<SegmentationOptions> {
        let mut options = self.or(preset.options());
        let stride = set(&options.output_stride);
        if ![8, 16].contains(&stride) {
            return Err(Error::settings(
                format!("--output-stride {stride} is neither 16 nor 8"),
                "choose one of them",
            ));
        }
        let kernel = set(&options.aspp_kernel);
        if ![1, 3].contains(&kernel) {
            return Err(Error::settings(
                format!("--aspp-kernel {kernel} is neither 1 nor 3"),
                "choose one of them",
            ));
        }
        let rates = [6.0, 12.0, 18.0].map(|rate| rate * (16 / stride) as f64);
        options.atrous_rates.get_or_insert(Numbers(rates.into()));
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<()> {
        for (flag, value) in [
            ("flip", set(&self.flip)),
            ("max-class-share", set(&self.max_class_share)),
        ] {
            check_range(flag, value, 0.0..=1.0, "from 0 to 1")?;
        }
        for (flag, value) in [("dropout", set(&self.dropout)), ("momentum", set(&self.momentum))] {
            check_range(flag, value, 0.0..1.0, "from 0 to below 1")?;
        }
        check_not_negative(&[
            ("lr", self.lr),
            ("lr-floor", self.lr_floor),
            ("backbone-lr-scale", self.backbone_lr_scale),
            ("weight-decay", self.weight_decay),
            ("auxiliary-weight", self.auxiliary_weight),
        ])?;
        check_counts(&[
            ("steps", self.steps),
            ("batch-size", self.batch_size),
            ("warmup-steps", self.warmup_steps),
        ])?;
        if ![Decay::Poly, Decay::Constant, Decay::Cosine].contains(&set(&self.schedule)) {
            let problem = format!(
                "--schedule {} is counted in epochs, but segmentation trains by steps",
                set(&self.schedule)
            );
            return Err(Error::settings(problem, "choose poly, constant or cosine"));
        }
        // With a batch of one, the batch norm of image pooling has a single value, whose variance is
        // undefined.
        if set(&self.batch_size) < 2 {
            let remedy = "give --batch-size 2 or more: ASPP's image pooling has only one value per image";
            return Err(Error::settings("--batch-size 1 has no batch statistics", remedy));
        }
        self.model("resnet18".parse().expect("a known architecture"), 2)?;
        self.augment([0.0; 3])?;
        Ok(())
    }

    /// The network that the settings describe.
    ///
    /// # Errors
    /// [`Error::Settings`] for atrous rates that are not three positive whole numbers.
    pub fn model(&self, arch: Arch, classes: i64) -> Result<DeepLabConfig> {
        let rates = set(&self.atrous_rates).0;
        let whole = rates.iter().all(|r| *r >= 1.0 && r.fract() == 0.0);
        let atrous_rates: [f64; 3] = rates.try_into().ok().filter(|_| whole).ok_or_else(|| {
            Error::settings(
                "--atrous-rates must be three positive whole numbers",
                "give 6,12,18",
            )
        })?;
        Ok(DeepLabConfig {
            arch,
            head: set(&self.head),
            output_stride: set(&self.output_stride),
            basic_dilation: set(&self.basic_dilation),
            atrous_rates: atrous_rates.map(|rate| rate as i64),
            aspp_kernel: set(&self.aspp_kernel),
            channels: set(&self.head_channels),
            separable: set(&self.separable) == Switch::On,
            dropout: set(&self.dropout),
            dropout_place: set(&self.dropout_place),
            classes,
            auxiliary: set(&self.auxiliary_weight) > 0.0,
        })
    }

    /// The crops that the settings describe, padded in the colour `mean` (RGB in 0..1).
    ///
    /// # Errors
    /// [`Error::Settings`] for a scale that is not a range.
    pub fn augment(&self, mean: [f64; 3]) -> Result<SegmentationAugment> {
        let scale = set(&self.scale);
        let &[least, most] = scale.0.as_slice() else {
            return Err(Error::settings(
                format!("--scale {scale} does not have two numbers"),
                "give it as 0.5,2",
            ));
        };
        if !(0.05 <= least && least <= most && most <= 20.0) {
            return Err(Error::settings(
                format!("--scale {scale} is not a range of scales"),
                "give it as 0.5,2",
            ));
        }
        let Size { height, width } = set(&self.crop);
        Ok(SegmentationAugment {
            height,
            width,
            scale: (least, most),
            resize: set(&self.resize),
            flip: set(&self.flip),
            max_class_share: set(&self.max_class_share),
            photometric: set(&self.photometric) == Switch::On,
            padding: mean.map(|m| (m * 255.0).round() as u8),
        })
    }
}

/// The views of an image whose predictions are joined.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
#[serde(rename_all = "kebab-case")]
pub struct ViewOptions {
    /// Predict with sliding windows of the training crop's size, not on whole images
    #[arg(long, help_heading = "Evaluation")]
    pub crop_eval: bool,
    /// Pixels between sliding windows, such as 513 (default: two thirds of the window)
    #[arg(long, help_heading = "Evaluation", requires = "crop_eval")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_stride: Option<Size>,
    /// Scales whose class probabilities are averaged, such as 0.5,0.75,1,1.25,1.5,1.75
    #[arg(long, default_value = "1", help_heading = "Evaluation")]
    pub eval_scales: Numbers,
    /// Also average the probabilities of the mirror image
    #[arg(long, help_heading = "Evaluation")]
    pub eval_flip: bool,
}

impl Default for ViewOptions {
    /// Whole images at their original size.
    fn default() -> Self {
        ViewOptions {
            crop_eval: false,
            eval_stride: None,
            eval_scales: Numbers(vec![1.0]),
            eval_flip: false,
        }
    }
}

impl ViewOptions {
    /// The prediction settings, for a network trained on crops of `crop` (height and width).
    ///
    /// # Errors
    /// [`Error::Settings`] for impossible windows and scales.
    pub fn predict_options(&self, crop: [i64; 2]) -> Result<PredictOptions> {
        let options = PredictOptions {
            window: self.crop_eval.then_some(crop),
            stride: self.eval_stride.map(|s| [s.height as i64, s.width as i64]),
            scales: self.eval_scales.0.clone(),
            flip: self.eval_flip,
        };
        options.check()?;
        Ok(options)
    }
}

/// How a trained network is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
#[serde(rename_all = "kebab-case")]
pub struct EvaluationOptions {
    /// How images are predicted.
    #[command(flatten)]
    #[serde(flatten)]
    pub views: ViewOptions,
    /// Number of samples to draw with ground truth, prediction and errors
    #[arg(long, default_value_t = 8, help_heading = "Evaluation")]
    pub pictures: usize,
}

impl Default for EvaluationOptions {
    fn default() -> Self {
        EvaluationOptions {
            views: ViewOptions::default(),
            pictures: 8,
        }
    }
}

/// Height and width in pixels, written `512x1024`, or `768` when they are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Size {
    /// Height.
    pub height: usize,
    /// Width.
    pub width: usize,
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let side = |part: &str| part.trim().parse().ok().filter(|side| (16..=8192).contains(side));
        let (height, width) = text.split_once('x').unwrap_or((text, text));
        match (side(height), side(width)) {
            (Some(height), Some(width)) => Ok(Size { height, width }),
            _ => Err(format!(
                "{text:?} is not a size of 16 to 8192 pixels, such as 768 or 512x1024"
            )),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(Size { height, width }: Size) -> String {
        if height == width {
            height.to_string()
        } else {
            format!("{height}x{width}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_complete_and_the_user_wins() {
        for preset in [Preset::Paper, Preset::Mmseg] {
            let options = SegmentationOptions::default().resolve(preset).unwrap();
            let fields = serde_json::to_value(&options).unwrap();
            assert_eq!(
                fields.as_object().unwrap().len(),
                27,
                "{preset:?} leaves a setting open"
            );
        }
        let given = SegmentationOptions {
            output_stride: Some(8),
            lr: Some(0.1),
            ..SegmentationOptions::default()
        };
        let options = given.resolve(Preset::Paper).unwrap();
        assert_eq!(
            (options.lr, options.atrous_rates),
            (Some(0.1), Some(Numbers(vec![12.0, 24.0, 36.0])))
        );
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let refused = |options: SegmentationOptions| options.resolve(Preset::Paper).unwrap_err().to_string();
        for (options, flag) in [
            (
                SegmentationOptions {
                    output_stride: Some(32),
                    ..SegmentationOptions::default()
                },
                "--output-stride",
            ),
            (
                SegmentationOptions {
                    batch_size: Some(1),
                    ..SegmentationOptions::default()
                },
                "--batch-size",
            ),
            (
                SegmentationOptions {
                    flip: Some(1.5),
                    ..SegmentationOptions::default()
                },
                "--flip",
            ),
            (
                SegmentationOptions {
                    scale: Some(Numbers(vec![2.0, 0.5])),
                    ..SegmentationOptions::default()
                },
                "--scale",
            ),
            (
                SegmentationOptions {
                    atrous_rates: Some(Numbers(vec![6.0, 12.5, 18.0])),
                    ..SegmentationOptions::default()
                },
                "--atrous-rates",
            ),
            (
                SegmentationOptions {
                    schedule: Some(Decay::Step),
                    ..SegmentationOptions::default()
                },
                "--schedule",
            ),
            (
                SegmentationOptions {
                    lr: Some(f64::NAN),
                    ..SegmentationOptions::default()
                },
                "--lr",
            ),
            (
                SegmentationOptions {
                    momentum: Some(2.0),
                    ..SegmentationOptions::default()
                },
                "--momentum 2",
            ),
            (
                SegmentationOptions {
                    steps: Some(1 << 63),
                    ..SegmentationOptions::default()
                },
                "--steps",
            ),
        ] {
            let message = refused(options);
            assert!(message.contains(flag), "{message}");
        }
        assert!("8x8".parse::<Size>().is_err() && "64x".parse::<Size>().is_err());
        assert_eq!(String::from("512x1024".parse::<Size>().unwrap()), "512x1024");
    }
}
