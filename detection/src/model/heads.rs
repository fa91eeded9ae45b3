//! The second stage: the class of each proposal, and the correction of its box.
//!
//! `c4`: layer4 of the backbone on 14 x 14 crops, an extra batch norm, mean pooling (Ren et al. 2015 on a
//! ResNet; the extra norm is MoCo's `Res5ROIHeadsExtraNorm`). `fpn`: two fully connected layers on 7 x 7
//! crops. Both end in class logits and one box per class. Source: `torchvision.models.detection.roi_heads`.
//!
//! Symbols: R sampled regions, K classes without background; label 0 is background.

use super::boxes::{BoxCoder, clip, iou, larger_than};
use super::matcher::{Matcher, Sampler};
use super::nms::{Candidates, suppress};
use camtrast_common::Result;
use camtrast_common::device::{send, to_host};
use camtrast_common::nn::Linear;
use rand_chacha::ChaCha8Rng;
use tch::nn::Path;
use tch::{Kind, Reduction, Tensor, no_grad};

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

/// Regions of a batch to train on.
#[derive(Debug)]
pub struct Samples {
    /// x1, y1, x2, y2 of the regions of each image.
    pub regions: Vec<Vec<[f32; 4]>>,
    /// Classes of the R regions of all images, 0 for background, i64 `[R]`.
    pub labels: Tensor,
    /// Offsets f32 [R, 4] to the matched ground truth.
    pub offsets: Tensor,
    /// Rows of the regions that are objects, i64.
    pub objects: Tensor,
}

/// Proposals and ground truth themselves, of each image, matched and sampled. The host reads the regions of
/// all images with their labels in one copy.
///
/// # Errors
/// [`camtrast_common::Error::Torch`] when the device fails.
pub fn sample(
    proposals: &[Tensor],
    truth: &[Truth],
    sampler: &Sampler,
    generator: &mut ChaCha8Rng,
) -> Result<Samples> {
    let assigned = proposals
        .iter()
        .zip(truth)
        .map(|(proposals, truth)| assign(proposals, truth));
    let assigned: Vec<(Tensor, Tensor, Tensor)> = assigned.collect();
    let all = |part: fn(&(Tensor, Tensor, Tensor)) -> &Tensor| {
        Tensor::cat(&assigned.iter().map(part).collect::<Vec<_>>(), 0)
    };
    let (regions, matches, labels) = (
        all(|image| &image.0),
        all(|image| &image.1),
        all(|image| &image.2),
    );
    let table = Tensor::cat(&[&regions, &labels.to_kind(Kind::Float).unsqueeze(1)], 1);
    let table: Vec<f32> = to_host(&table.reshape([-1]))?;
    let counts: Vec<[i64; 2]> = (assigned.iter().zip(truth))
        .map(|((regions, ..), truth)| [regions.size()[0], truth.boxes.size()[0]])
        .collect();
    let drawn = Drawn::of(&table, &counts, sampler, generator);

    let lengths = [drawn.rows.len(), drawn.rows.len(), drawn.objects.len()].map(|length| length as i64);
    let chosen = Tensor::from_slice(&[drawn.rows, drawn.first_truth, drawn.objects].concat());
    let chosen = send(chosen, regions.device()).split_with_sizes(lengths, 0);
    let [rows, first_truth, objects] = <[Tensor; 3]>::try_from(chosen).expect("three lists");
    let regions = regions.index_select(0, &rows);
    let truths: i64 = counts.iter().map(|[_, truths]| truths).sum();
    let offsets = match truths {
        0 => regions.zeros_like(),
        _ => {
            // A region of background has no match; its offsets are not used.
            let matches = matches.index_select(0, &rows).clamp_min(0) + first_truth;
            let boxes = Tensor::cat(&truth.iter().map(|truth| &truth.boxes).collect::<Vec<_>>(), 0);
            CODER.encode(&boxes.index_select(0, &matches.clamp_max(truths - 1)), &regions)
        }
    };
    Ok(Samples {
        regions: drawn.regions,
        labels: labels.index_select(0, &rows),
        offsets,
        objects,
    })
}

/// Which regions are trained on, as the host draws them.
#[derive(Default)]
struct Drawn {
    /// Corners of those of each image.
    regions: Vec<Vec<[f32; 4]>>,
    /// Rows of those of all images, among the regions of all images.
    rows: Vec<i64>,
    /// For each of them, the row of the first ground truth of its image, among those of all images.
    first_truth: Vec<i64>,
    /// Which of them are objects.
    objects: Vec<i64>,
}

impl Drawn {
    /// From a `table` of x1, y1, x2, y2 and label of each region; `counts` are the numbers of regions and of
    /// ground truths in each image.
    fn of(table: &[f32], counts: &[[i64; 2]], sampler: &Sampler, generator: &mut ChaCha8Rng) -> Self {
        const NUMBERS: usize = 5;
        let (mut drawn, mut first, mut first_truth) = (Drawn::default(), 0, 0);
        for &[count, truths] in counts {
            let own = &table[first as usize * NUMBERS..][..count as usize * NUMBERS];
            let own: Vec<&[f32]> = own.chunks_exact(NUMBERS).collect();
            let is_object: Vec<i8> = own.iter().map(|region| i8::from(region[4] > 0.0)).collect();
            let (mut rows, background) = sampler.sample(&is_object, generator);
            rows.extend(background);
            rows.sort_unstable();
            let corners = |&row: &i64| [0, 1, 2, 3].map(|side| own[row as usize][side]);
            drawn.regions.push(rows.iter().map(corners).collect());
            for row in rows {
                if is_object[row as usize] > 0 {
                    drawn.objects.push(drawn.rows.len() as i64);
                }
                drawn.rows.push(first + row);
                drawn.first_truth.push(first_truth);
            }
            first += count;
            first_truth += truths;
        }
        drawn
    }
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
    /// Cross-entropy of the classes and smooth L1 of the objects' offsets, both over R. `labels` and
    /// `offsets` are of all regions, `objects` the rows of the objects.
    pub fn losses(&self, labels: &Tensor, offsets: &Tensor, objects: &Tensor, beta: f64) -> (Tensor, Tensor) {
        let regions = labels.size()[0];
        let count = regions.max(1) as f64;
        let class = self
            .logits
            .cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, -100, 0.0)
            / count;
        // The offsets for the class of every object.
        let columns = objects * self.logits.size()[1] + labels.index_select(0, objects);
        let ours = self.offsets.reshape([-1, 4]).index_select(0, &columns);
        let theirs = offsets.index_select(0, objects);
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
        let counts = scores
            .gt(limits.score)
            .logical_and(&larger_than(&boxes, LEAST_SIDE));
        let found = Detections {
            boxes,
            scores,
            labels,
        };
        // On a device a count of boxes that is read is less work than overlaps of all.
        let found = select(found, counts.nonzero().squeeze_dim(1));
        let candidates = Candidates {
            boxes: found.boxes.shallow_clone(),
            scores: found.scores.shallow_clone(),
            groups: found.labels.shallow_clone(),
            valid: found.labels.gt(0),
        };
        let kept = suppress(&[candidates], limits.nms, limits.detections)?.remove(0);
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
