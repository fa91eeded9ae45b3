//! Region proposal network: which anchors contain an object, and the correction of their boxes.
//!
//! Source: Ren et al. 2015 and `torchvision.models.detection.rpn`.
//!
//! Symbols: N images, L feature maps, A anchors of all maps together, G ground-truth boxes of an image.

use super::anchors::Anchors;
use super::boxes::{BoxCoder, clip, iou, larger_than};
use super::matcher::{BACKGROUND, IGNORED, Matcher, Sampler};
use super::nms::Candidates;
use camtrast_common::Result;
use camtrast_common::device::{send, to_host};
use camtrast_common::nn::Conv2d;
use rand_chacha::ChaCha8Rng;
use std::cell::OnceCell;
use tch::nn::{Init, Path};
use tch::{Kind, Reduction, Tensor, no_grad};

/// Anchors from this overlap on are objects.
const OBJECT: f64 = 0.7;
/// Anchors below this overlap are background.
const NO_OBJECT: f64 = 0.3;
/// Overlap above which one of two proposals is suppressed.
pub const NMS: f64 = 0.7;
/// Smallest side of a proposal in pixels.
const LEAST_SIDE: f64 = 1e-3;

const CODER: BoxCoder = BoxCoder { weights: [1.0; 4] };

/// The network; see the module.
#[derive(Debug)]
pub struct Rpn {
    conv: Conv2d,
    cls_logits: Conv2d,
    bbox_pred: Conv2d,
    anchors: Anchors,
    /// [`Anchors::cells`], on the device that the network is first used on.
    cells: OnceCell<Vec<Tensor>>,
}

/// Predictions for every anchor.
#[derive(Debug)]
pub struct Predictions {
    /// Logits f32 [N, A].
    pub objectness: Tensor,
    /// Offsets f32 [N, A, 4].
    pub offsets: Tensor,
    /// Number of anchors of each feature map.
    pub per_level: Vec<i64>,
    /// The anchors f32 [A, 4].
    pub anchors: Tensor,
}

/// Targets for the anchors of an image.
#[derive(Debug)]
pub struct AnchorTargets {
    /// 1 object, 0 background, -1 neither: i64 `[A]`.
    pub labels: Tensor,
    /// Offsets f32 [A, 4] to the matched ground truth, used where the label is 1.
    pub offsets: Tensor,
}

impl Rpn {
    /// For feature maps of `channels` channels. Variables `conv`, `cls_logits`, `bbox_pred`.
    pub fn new(vs: &Path, channels: i64, anchors: Anchors) -> Self {
        let init = Init::Randn {
            mean: 0.0,
            stdev: 0.01,
        };
        let conv = |name: &str, outputs: i64, kernel: i64| {
            Conv2d::with_bias(&(vs / name), channels, outputs, kernel, init)
        };
        let per_place = anchors.per_place();
        Rpn {
            conv: conv("conv", channels, 3),
            cls_logits: conv("cls_logits", per_place, 1),
            bbox_pred: conv("bbox_pred", 4 * per_place, 1),
            anchors,
            cells: OnceCell::new(),
        }
    }

    /// On L feature maps [N, channels, h, w] of padded images of `image` (height, width) pixels.
    pub fn forward(&self, maps: &[Tensor], image: (i64, i64)) -> Predictions {
        let (mut objectness, mut offsets, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        for map in maps {
            let (n, _, h, w) = map.size4().expect("a feature map");
            let hidden = self.conv.forward(map).relu();
            // [N, A' * k, h, w] to [N, h * w * A', k].
            let flat = |t: Tensor, k: i64| {
                t.view_([n, -1, k, h, w])
                    .permute([0, 3, 4, 1, 2])
                    .reshape([n, -1, k])
                    .to_kind(Kind::Float)
            };
            objectness.push(flat(self.cls_logits.forward(&hidden), 1));
            offsets.push(flat(self.bbox_pred.forward(&hidden), 4));
            sizes.push((h, w));
        }
        let cells = self.cells.get_or_init(|| self.anchors.cells(maps[0].device()));
        Predictions {
            per_level: objectness.iter().map(|level| level.size()[1]).collect(),
            objectness: Tensor::cat(&objectness, 1).squeeze_dim(2),
            offsets: Tensor::cat(&offsets, 1),
            anchors: Tensor::cat(&Anchors::generate(cells, image, &sizes), 0),
        }
    }
}

impl Predictions {
    /// What the proposals of each image of `sizes` (height, width) pixels are chosen from by
    /// [`super::nms::suppress`], without gradient: the `limit` best anchors of each level.
    pub fn candidates(&self, sizes: &[(i64, i64)], limit: i64) -> Vec<Candidates> {
        let of_image = |(image, &size): (usize, &(i64, i64))| {
            let (objectness, offsets) = (self.objectness.get(image as i64), self.offsets.get(image as i64));
            let (rows, groups) = self.best_of_each_level(&objectness, limit);
            let boxes = CODER.decode(
                &offsets.index_select(0, &rows),
                &self.anchors.index_select(0, &rows),
            );
            let boxes = clip(&boxes, size);
            Candidates {
                valid: larger_than(&boxes, LEAST_SIDE),
                boxes,
                // Probabilities, in which large logits become equal, as torchvision does.
                scores: objectness.index_select(0, &rows).sigmoid(),
                groups,
            }
        };
        no_grad(|| sizes.iter().enumerate().map(of_image).collect())
    }

    // Rows of the anchors with the highest logits of each level, and their levels.
    fn best_of_each_level(&self, objectness: &Tensor, limit: i64) -> (Tensor, Tensor) {
        let (mut rows, mut levels, mut start) = (Vec::new(), Vec::new(), 0);
        for (level, &count) in self.per_level.iter().enumerate() {
            let best = objectness
                .narrow(0, start, count)
                .topk(limit.min(count), 0, true, true)
                .1;
            levels.push(best.full_like(level as f64));
            rows.push(best + start);
            start += count;
        }
        (Tensor::cat(&rows, 0), Tensor::cat(&levels, 0))
    }

    /// The targets for an image with ground truth f32 [G, 4].
    pub fn targets(&self, truth: &Tensor) -> AnchorTargets {
        let matcher = Matcher {
            high: OBJECT,
            low: NO_OBJECT,
            low_quality: true,
        };
        let matches = matcher.matches(&iou(truth, &self.anchors));
        let labels = matches.ge(0).to_kind(Kind::Int64) - matches.eq(IGNORED).to_kind(Kind::Int64);
        debug_assert_eq!(IGNORED + 1, BACKGROUND);
        let offsets = match truth.size()[0] {
            0 => self.anchors.zeros_like(),
            _ => CODER.encode(&truth.index_select(0, &matches.clamp_min(0)), &self.anchors),
        };
        AnchorTargets { labels, offsets }
    }

    /// Binary cross-entropy of the objectness and smooth L1 of the objects' offsets, sums over the samples:
    /// `sampled` are rows of objects and of background (row a of image n is n * A + a).
    pub fn losses(&self, targets: &[AnchorTargets], sampled: &[Vec<i64>; 2], beta: f64) -> (Tensor, Tensor) {
        let all = send(Tensor::from_slice(&sampled.concat()), self.objectness.device());
        let positive = all.narrow(0, 0, sampled[0].len() as i64);
        let wanted = |part: fn(&AnchorTargets) -> &Tensor| {
            Tensor::cat(&targets.iter().map(part).collect::<Vec<_>>(), 0)
        };
        let labels = wanted(|t| &t.labels).index_select(0, &all).to_kind(Kind::Float);
        let logits = self.objectness.flatten(0, -1).index_select(0, &all);
        let objectness =
            logits.binary_cross_entropy_with_logits::<Tensor>(&labels, None, None, Reduction::Sum);
        let ours = self.offsets.flatten(0, 1).index_select(0, &positive);
        let theirs = wanted(|t| &t.offsets).index_select(0, &positive);
        (objectness, ours.smooth_l1_loss(&theirs, Reduction::Sum, beta))
    }
}

/// Rows of the anchors to train on in each image: objects, then background. The host reads the labels of all
/// images in one copy.
///
/// # Errors
/// [`camtrast_common::Error::Torch`] when the device fails.
pub fn sample(
    targets: &[AnchorTargets],
    sampler: &Sampler,
    generator: &mut ChaCha8Rng,
) -> Result<Vec<[Vec<i64>; 2]>> {
    let labels: Vec<Tensor> = targets
        .iter()
        .map(|image| image.labels.to_kind(Kind::Int8))
        .collect();
    let all: Vec<i8> = to_host(&Tensor::cat(&labels, 0))?;
    let mut rest = &all[..];
    let of_image = |labels: &Tensor| {
        let (own, others) = rest.split_at(labels.numel());
        rest = others;
        <[Vec<i64>; 2]>::from(sampler.sample(own, generator))
    };
    Ok(labels.iter().map(of_image).collect())
}

/// The rows of each image of a group as those of [`Predictions::losses`].
pub fn in_group(sampled: &[[Vec<i64>; 2]], anchors: i64) -> [Vec<i64>; 2] {
    [0, 1].map(|part| {
        let of_image = |(image, rows): (usize, &[Vec<i64>; 2])| {
            let start = image as i64 * anchors;
            rows[part].iter().map(move |row| start + row).collect::<Vec<_>>()
        };
        sampled.iter().enumerate().flat_map(of_image).collect()
    })
}
