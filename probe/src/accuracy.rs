//! Accuracy of predictions, with its interval.

use camtrast_common::run::Metrics;
use tch::{Kind, Tensor};

/// Whether each test image's class was predicted, gathered part by part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// By the largest score, `[M]`.
    pub first: Vec<bool>,
    /// By one of the five largest scores, `[M]`.
    pub five: Vec<bool>,
}

/// Accuracies as fractions in 0..1.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// Share of images whose class has the largest score.
    pub top1: f64,
    /// Share of images whose class is among the five largest scores; `None` for five classes and fewer.
    pub top5: Option<f64>,
    /// 95 % interval of `top1`: the percentiles of its bootstrap over images.
    pub interval: [f64; 2],
    /// `top1` of the images of each class with test images, by class.
    pub per_class: Vec<(usize, f64)>,
}

impl Tally {
    /// Adds images by the scores [n, c] of their classes; `targets` i64 `[n]`. Of equal scores the lower
    /// class counts.
    pub fn add(&mut self, scores: &Tensor, targets: &Tensor) {
        let classes = scores.size()[1];
        let targets = targets.unsqueeze(1);
        let own = scores.gather(1, &targets, false);
        let lower = Tensor::arange(classes, (Kind::Int64, scores.device())).lt_tensor(&targets);
        let ahead = scores
            .gt_tensor(&own)
            .logical_or(&scores.eq_tensor(&own).logical_and(&lower));
        let place = ahead.sum_dim_intlist(1, false, Kind::Int64);
        let flags = |most: i64| Vec::<bool>::try_from(place.lt(most)).expect("a tensor of flags");
        self.first.extend(flags(1));
        self.five.extend(flags(5));
    }

    /// Share of images with the largest score on their class, in 0..1.
    pub fn top1(&self) -> f64 {
        share(&self.first)
    }

    /// The accuracies, for images of the classes `labels` `[M]` in `0..classes`.
    pub fn accuracy(&self, labels: &[i64], classes: usize) -> Accuracy {
        let mut counts = vec![[0u32; 2]; classes];
        for (&label, &right) in labels.iter().zip(&self.first) {
            counts[label as usize][0] += u32::from(right);
            counts[label as usize][1] += 1;
        }
        let per_class = counts.into_iter().enumerate().filter(|(_, [_, all])| *all > 0);
        Accuracy {
            top1: self.top1(),
            top5: (classes > 5).then(|| share(&self.five)),
            interval: bootstrap(
                self.first.iter().filter(|right| **right).count(),
                self.first.len(),
            ),
            per_class: per_class
                .map(|(class, [right, all])| (class, f64::from(right) / f64::from(all)))
                .collect(),
        }
    }
}

impl Accuracy {
    /// The numbers by their names in metrics.json, after `prefix` (such as `probe/linear`). `names` are those
    /// of the classes.
    pub fn metrics(&self, prefix: &str, names: &[String]) -> Metrics {
        let [low, high] = self.interval;
        let named = [
            ("top1", Some(self.top1)),
            ("top5", self.top5),
            ("ci95", Some((high - low) / 2.0)),
            ("low95", Some(low)),
            ("high95", Some(high)),
        ];
        let numbers = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        numbers
            .map(|(name, value)| (format!("{prefix}/{name}"), value))
            .chain(
                self.per_class
                    .iter()
                    .map(|&(class, value)| (format!("{prefix}/class/{}", names[class]), value)),
            )
            .collect()
    }
}

fn share(flags: &[bool]) -> f64 {
    flags.iter().filter(|flag| **flag).count() as f64 / flags.len() as f64
}

/// Percentiles 2.5 and 97.5 of the share of right images over all resamples of `all` images with replacement.
/// The number of right ones in a resample is binomial, so no resample has to be drawn.
fn bootstrap(right: usize, all: usize) -> [f64; 2] {
    let n = all as f64;
    let p = right as f64 / n;
    if right == 0 || right == all {
        return [p, p];
    }
    let mut log_of_one = n * (1.0 - p).ln(); // of no right image
    let (mut below, mut bounds) = (0.0, Vec::with_capacity(2));
    for k in 0..=all {
        below += log_of_one.exp();
        while bounds.len() < 2 && below >= [0.025, 0.975][bounds.len()] {
            bounds.push(k as f64 / n);
        }
        log_of_one += ((n - k as f64) / (k as f64 + 1.0)).ln() + p.ln() - (1.0 - p).ln();
    }
    // Rounding may leave the sum just below.
    bounds.resize(2, 1.0);
    [bounds[0], bounds[1]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::random::generator;

    #[test]
    fn places_count_and_equal_scores_go_to_the_lower_class() {
        let scores = Tensor::from_slice2(&[[0.1, 0.9, 0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]]);
        let mut tally = Tally::default();
        tally.add(&scores, &Tensor::from_slice(&[1i64, 5]));
        tally.add(&scores, &Tensor::from_slice(&[5i64, 0]));
        assert_eq!(tally.first, [true, false, false, true]);
        assert_eq!(tally.five, [true, false, false, true]);
        let accuracy = tally.accuracy(&[1, 5, 5, 0], 6);
        assert_eq!((accuracy.top1, accuracy.top5), (0.5, Some(0.5)));
        assert_eq!(accuracy.per_class, [(0, 1.0), (1, 1.0), (5, 0.0)]);
    }

    #[test]
    fn the_interval_is_that_of_drawn_resamples() {
        use rand::RngExt;
        let mut random = generator(0, "bootstrap", 0, 0);
        let (right, all, draws) = (130, 200, 20_000);
        let mut shares: Vec<f64> = (0..draws)
            .map(|_| (0..all).filter(|_| random.random_range(0..all) < right).count() as f64 / all as f64)
            .collect();
        shares.sort_by(f64::total_cmp);
        let drawn = [0.025, 0.975].map(|q| shares[(q * draws as f64) as usize]);
        let ours = bootstrap(right, all);
        for (a, b) in ours.iter().zip(drawn) {
            assert!((a - b).abs() < 1.5 / all as f64, "{ours:?} {drawn:?}");
        }
        assert_eq!(bootstrap(7, 7), [1.0, 1.0]);
        assert_eq!(bootstrap(0, 7), [0.0, 0.0]);
    }
}
