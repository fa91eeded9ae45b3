//! The second stage: the class of each proposal, and the correction of its box.
//!
//! `c4`: layer4 of the backbone on 14 x 14 crops, an extra batch norm, mean pooling (Ren et al. 2015 on a
//! ResNet; the extra norm is MoCo's `Res5ROIHeadsExtraNorm`). `fpn`: two fully connected layers on 7 x 7
//! crops. Both end in class logits and one box per class. Source: `torchvision.models.detection.roi_heads`.
//!
//! Symbols: R sampled regions, K classes without background; label 0 is background.

use super::boxes::{self, BoxCoder, clip, iou, larger_than};
use super::matcher::{Matcher, Sampler};
use super::nms::grouped_nms;
use camtrast_common::Result;
use camtrast_common::device::to_host;
use camtrast_common::nn::Linear;
use rand_chacha::ChaCha8Rng;
use tch::nn::Path;
use tch::{Device, Kind, Reduction, Tensor, no_grad};

/// Proposals from this overlap on are objects, below it background.
const OBJECT: f64 = 0.5;
/// Smallest side of a detection in pixels.
const LEAST_SIDE: f64 = 1e-2;

/// How the second stage codes boxes.
pub const CODER: BoxCoder = BoxCoder {
    weights: [10.0, 10.0, 5.0, 5.0],
};

/// Ground truth of an image.
#[derive(Debug)]
pub struct Truth {
    /// Boxes f32 [G, 4].
    pub boxes: Tensor,
    /// Classes from 1 on, i64 `[G]`.
    pub labels: Tensor,
}

/// Regions of an image to train on.
#[derive(Debug)]
pub struct Samples {
    /// Regions f32 [R, 4].
    pub regions: Tensor,
    /// Classes, 0 for background, i64 `[R]`.
    pub labels: Tensor,
    /// Offsets f32 [R, 4] to the matched ground truth.
    pub offsets: Tensor,
}

/// Proposals and ground truth themselves, matched and sampled.
///
/// # Errors
/// [`camtrast_common::Error::Torch`] when the device fails.
pub fn sample(
    proposals: &Tensor,
    truth: &Truth,
    sampler: &Sampler,
    generator: &mut ChaCha8Rng,
) -> Result<Samples> {
    let (regions, matches, labels) = assign(proposals, truth);
    let host: Vec<i64> = to_host(&labels)?;
    let (mut rows, negative) = sampler.sample(&host, generator);
    rows.extend(negative);
    rows.sort_unstable();
    let rows = Tensor::from_slice(&rows).to_device(regions.device());
    let (regions, matches) = (regions.index_select(0, &rows), matches.index_select(0, &rows));
    let offsets = match truth.boxes.size()[0] {
        0 => regions.zeros_like(),
        _ => CODER.encode(&truth.boxes.index_select(0, &matches.clamp_min(0)), &regions),
    };
    Ok(Samples {
        regions,
        labels: labels.index_select(0, &rows),
        offsets,
    })
}

/// Regions [n + G, 4] (proposals, then ground truth), the ground truth each is matched to (below 0: none) and
/// their labels.
pub fn assign(proposals: &Tensor, truth: &Truth) -> (Tensor, Tensor, Tensor) {
    let regions = Tensor::cat(&[proposals, &truth.boxes], 0);
    let matches = Matcher {
        high: OBJECT,
        low: OBJECT,
        low_quality: false,
    }
    .matches(&iou(&truth.boxes, &regions));
    let labels = match truth.boxes.size()[0] {
        0 => matches.zeros_like(),
        _ => truth.labels.index_select(0, &matches.clamp_min(0)) * matches.ge(0).to_kind(Kind::Int64),
    };
    (regions, matches, labels)
}

/// Class logits and boxes from pooled features.
#[derive(Debug)]
pub struct Predictor {
    cls_score: Linear,
    bbox_pred: Linear,
}

/// Predictions of the second stage for regions.
#[derive(Debug)]
pub struct Scores {
    /// Logits f32 [R, K + 1].
    pub logits: Tensor,
    /// Offsets f32 [R, 4 * (K + 1)]; those of the background have no meaning.
    pub offsets: Tensor,
}

impl Predictor {
    /// Variables `cls_score`, `bbox_pred`, initialised as detectron2's.
    pub fn new(vs: &Path, features: i64, classes: i64) -> Self {
        let linear = |name: &str, outputs: i64, deviation: f64| {
            let mut linear = Linear::new(&(vs / name), features, outputs);
            let _ = no_grad(|| {
                (
                    linear.weight.normal_(0.0, deviation),
                    linear.bias.as_mut().map(Tensor::zero_),
                )
            });
            linear
        };
        Predictor {
            cls_score: linear("cls_score", classes + 1, 0.01),
            bbox_pred: linear("bbox_pred", 4 * (classes + 1), 0.001),
        }
    }

    /// On features [R, D].
    pub fn forward(&self, features: &Tensor) -> Scores {
        let single = |t: Tensor| t.to_kind(Kind::Float);
        Scores {
            logits: single(self.cls_score.forward(features)),
            offsets: single(self.bbox_pred.forward(features)),
        }
    }
}

impl Scores {
    /// Cross-entropy of the classes and smooth L1 of the objects' offsets, both over R.
    pub fn losses(&self, labels: &Tensor, offsets: &Tensor, beta: f64) -> (Tensor, Tensor) {
        let regions = labels.size()[0];
        let count = regions.max(1) as f64;
        let class = self
            .logits
            .cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, -100, 0.0)
            / count;
        let objects = labels.gt(0).nonzero().squeeze_dim(1);
        // The offsets for the class of every object.
        let columns = objects.copy() * (self.logits.size()[1]) + labels.index_select(0, &objects);
        let ours = self.offsets.reshape([-1, 4]).index_select(0, &columns);
        let theirs = offsets.index_select(0, &objects);
        (class, ours.smooth_l1_loss(&theirs, Reduction::Sum, beta) / count)
    }

    /// The detections in one image of `size` (height, width) pixels, from its `regions` [R, 4].
    ///
    /// # Errors
    /// [`camtrast_common::Error::Torch`] when the device fails.
    pub fn found(&self, regions: &Tensor, size: (i64, i64), limits: &DetectionLimits) -> Result<Detections> {
        let columns = self.logits.size()[1];
        let boxes = clip(&CODER.decode(&self.offsets, regions), size).view([-1, columns, 4]);
        let boxes = boxes.narrow(1, 1, columns - 1).reshape([-1, 4]);
        let scores = self
            .logits
            .softmax(-1, Kind::Float)
            .narrow(1, 1, columns - 1)
            .reshape([-1]);
        let labels = Tensor::arange_start(1, columns, (Kind::Int64, boxes.device()));
        let labels = labels.expand([regions.size()[0], -1], false).reshape([-1]);
        let select = |found: Detections, rows: Tensor| Detections {
            boxes: found.boxes.index_select(0, &rows),
            scores: found.scores.index_select(0, &rows),
            labels: found.labels.index_select(0, &rows),
        };
        let sure = scores.gt(limits.score).nonzero().squeeze_dim(1);
        let found = select(
            Detections {
                boxes,
                scores,
                labels,
            },
            sure,
        );
        let large = larger_than(&found.boxes, LEAST_SIDE);
        let found = select(found, large);
        let kept = grouped_nms(
            &found.boxes,
            &found.scores,
            &found.labels,
            limits.nms,
            limits.detections,
        )?;
        Ok(select(found, kept))
    }
}

/// Which detections are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectionLimits {
    /// Minimum score.
    pub score: f64,
    /// Overlap above which one of two detections of a class is suppressed.
    pub nms: f64,
    /// Detections per image.
    pub detections: usize,
}

/// Detections in an image, by decreasing score.
#[derive(Debug)]
pub struct Detections {
    /// Boxes f32 [n, 4].
    pub boxes: Tensor,
    /// Scores f32 `[n]`.
    pub scores: Tensor,
    /// Classes from 1 on, i64 `[n]`.
    pub labels: Tensor,
}

/// Boxes of several images as regions f32 [R, 5] with the image's number in front.
pub fn regions(of_images: &[&Tensor]) -> Tensor {
    let with_number = |(image, boxes): (usize, &&Tensor)| {
        let number = Tensor::full([boxes.size()[0], 1], image as f64, (Kind::Float, boxes.device()));
        Tensor::cat(&[&number, *boxes], 1)
    };
    match of_images {
        [] => boxes::none(Device::Cpu).constant_pad_nd([1, 0]),
        _ => Tensor::cat(
            &of_images.iter().enumerate().map(with_number).collect::<Vec<_>>(),
            0,
        ),
    }
}
