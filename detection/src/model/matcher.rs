//! Matching of boxes to ground truth, and sampling of the boxes to train on.
//!
//! Source: `torchvision.models.detection._utils`, `Matcher` and `BalancedPositiveNegativeSampler`.

use camtrast_common::random::draw;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

/// Matches boxes to ground truth by overlap.
#[derive(Debug, Clone, Copy)]
pub struct Matcher {
    /// Overlap from which a box is matched.
    pub high: f64,
    /// Overlap below which it is background; between the two it is neither.
    pub low: f64,
    /// Whether the boxes that overlap a ground truth most are matched even if that overlap is small (ties
    /// included), each to the ground truth that it overlaps most itself.
    pub low_quality: bool,
}

/// The match of a box that is background.
pub const BACKGROUND: i64 = -1;
/// The match of a box that is neither object nor background.
pub const IGNORED: i64 = -2;

impl Matcher {
    /// From overlaps [m, n] of m ground truths with n boxes to the matched ground truth of each box, i64
    /// `[n]`, or [`BACKGROUND`] or [`IGNORED`]. Without ground truth all boxes are background (torchvision
    /// leaves that case to its callers).
    pub fn matches(&self, overlaps: &Tensor) -> Tensor {
        let (truths, boxes) = overlaps.size2().expect("a matrix");
        if truths == 0 || boxes == 0 {
            return Tensor::full([boxes], BACKGROUND, (Kind::Int64, overlaps.device()));
        }
        let (best, nearest) = overlaps.max_dim(0, false);
        let matches = nearest.where_scalarother(&best.ge(self.high), IGNORED);
        let matches = matches.where_scalarother(&best.lt(self.low).logical_not(), BACKGROUND);
        if !self.low_quality {
            return matches;
        }
        let best_of_truth = overlaps.amax([1i64].as_slice(), true);
        let chosen = overlaps.eq_tensor(&best_of_truth).any_dim(0, false);
        nearest.where_self(&chosen, &matches)
    }
}

/// Draws a fixed number of boxes, a fixed share of them objects.
#[derive(Debug, Clone, Copy)]
pub struct Sampler {
    /// Boxes per image.
    pub size: usize,
    /// Share of objects among them, at most.
    pub positive_share: f64,
}

impl Sampler {
    /// Rows of the boxes drawn, in ascending order: objects (label above 0), then background (label 0). Boxes
    /// of label below 0 are left out. If there are too few objects, more background is drawn.
    pub fn sample(&self, labels: &[i8], generator: &mut ChaCha8Rng) -> (Vec<i64>, Vec<i64>) {
        let rows = |wanted: fn(i8) -> bool| -> Vec<i64> {
            (0..labels.len() as i64)
                .filter(|&row| wanted(labels[row as usize]))
                .collect()
        };
        let mut draw = |rows: Vec<i64>, count: usize| {
            let mut drawn = draw(rows, count, generator);
            drawn.sort_unstable();
            drawn
        };
        let positives = draw(
            rows(|label| label > 0),
            (self.size as f64 * self.positive_share) as usize,
        );
        let negatives = draw(rows(|label| label == 0), self.size - positives.len());
        (positives, negatives)
    }
}
