//! Intersection over union, from one confusion matrix over a whole data set.
//!
//! Source: cityscapesScripts `evaluation/evalPixelLevelSemanticLabeling.py`. With `M[t][p]` the pixels of
//! true class t predicted as p, over all pixels whose true class is evaluated (ignored pixels are not
//! counted),
//!
//! ```text
//! IoU(c) = M[c][c] / (sum_p M[c][p] + sum_{t != c} M[t][c])
//! ```
//!
//! where p also runs over predictions that are not a class: they count as misses of the true class only. A
//! class that is neither true nor predicted anywhere has no IoU and is left out of the mean. A category's IoU
//! is that of its classes merged into one.

use crate::classes::{ClassSet, IGNORE, Meaning};
use crate::label_image::LabelImage;
use camtrast_common::Error;
use camtrast_common::distributed::Group;
use serde::Serialize;
use tch::Tensor;

/// Pixels by true and predicted class.
#[derive(Debug, Clone)]
pub struct Confusion {
    /// [K, K + 1], row by row; the last column is for predictions that are not a class.
    counts: Vec<u64>,
    classes: usize,
    rows: [u8; 256],
    columns: [u8; 256],
    known: [bool; 256],
    /// [256, 256] pixels of the image being counted, by true and predicted id; zeros between images.
    pairs: Vec<u32>,
}

/// An unknown id that [`Confusion::add`] counted as wrong, or could not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// The id.
    pub id: u8,
    /// Number of its pixels.
    pub pixels: u64,
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(set: &ClassSet) -> Self {
        let meanings = set.meanings();
        let train = |otherwise: u8| {
            meanings.map(|m| match m {
                Meaning::Class(train) => train,
                _ => otherwise,
            })
        };
        let classes = set.len();
        Confusion {
            counts: vec![0; classes * (classes + 1)],
            classes,
            rows: train(IGNORE),
            columns: train(classes as u8),
            known: meanings.map(|m| m != Meaning::Unknown),
            pairs: vec![0; 1 << 16],
        }
    }

    /// Counts one image, both in file ids and of one size. Returns the first predicted id that the data set
    /// does not know, if any; its pixels are counted as misses.
    ///
    /// # Errors
    /// The first true id that the data set does not know; nothing is counted then.
    ///
    /// # Panics
    /// When the sizes differ.
    pub fn add(&mut self, truth: &LabelImage, prediction: &LabelImage) -> Result<Option<Unknown>, Unknown> {
        assert_eq!((truth.height, truth.width), (prediction.height, prediction.width));
        count_pairs(&truth.pixels, &prediction.pixels, &mut self.pairs);
        let mut cells: Vec<(usize, usize, u64)> = Vec::new();
        for (t, of_truth) in self.pairs.chunks_exact_mut(256).enumerate() {
            if of_truth.iter().any(|n| *n > 0) {
                let pixels = of_truth.iter().enumerate().filter(|(_, n)| **n > 0);
                cells.extend(pixels.map(|(p, n)| (t, p, u64::from(*n))));
                of_truth.fill(0);
            }
        }
        let first = |ids: &mut dyn Iterator<Item = (usize, u64)>| {
            let mut found: Option<Unknown> = None;
            for (id, pixels) in ids.filter(|(id, _)| !self.known[*id]) {
                let unknown = found.get_or_insert(Unknown {
                    id: id as u8,
                    pixels: 0,
                });
                unknown.pixels += if unknown.id == id as u8 { pixels } else { 0 };
            }
            found
        };
        if let Some(unknown) = first(&mut cells.iter().map(|&(t, _, n)| (t, n))) {
            return Err(unknown);
        }
        cells.retain(|(t, _, _)| self.rows[*t] != IGNORE);
        let unknown = first(&mut cells.iter().map(|&(_, p, n)| (p, n)));
        for (t, p, n) in cells {
            self.counts[usize::from(self.rows[t]) * (self.classes + 1) + usize::from(self.columns[p])] += n;
        }
        Ok(unknown)
    }

    /// Adds the counts of another matrix.
    pub fn merge(&mut self, other: &Confusion) {
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(a, b)| *a += b);
    }

    /// Adds the counts of all processes, in every one.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Lost`].
    pub fn sum(&mut self, group: Group) -> Result<(), Error> {
        let counts: Vec<i64> = self.counts.iter().map(|&count| count as i64).collect();
        let counts = Tensor::from_slice(&counts);
        group.all_reduce(&counts)?;
        self.counts = Vec::<i64>::try_from(counts)?
            .into_iter()
            .map(|count| count as u64)
            .collect();
        Ok(())
    }

    /// Pixels of true class `truth` (train id) predicted as class `predicted`, or as not a class (K).
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[truth * (self.classes + 1) + predicted]
    }

    /// All scores of the matrix. `set` is that of [`Confusion::new`].
    pub fn scores(&self, set: &ClassSet) -> Scores {
        let iou = |members: &[usize]| {
            let mut intersection = 0;
            let (mut truth, mut predicted) = (0, 0);
            for &c in members {
                truth += self.truth(c);
                predicted += (0..self.classes).map(|t| self.count(t, c)).sum::<u64>();
                intersection += members.iter().map(|&p| self.count(c, p)).sum::<u64>();
            }
            let union = truth + predicted - intersection;
            (union > 0).then(|| intersection as f64 / union as f64)
        };
        let class = |(c, class): (usize, &crate::classes::Class)| ClassScore {
            name: class.name.clone(),
            iou: iou(&[c]),
            truth: self.truth(c),
        };
        let classes: Vec<ClassScore> = set.classes().iter().enumerate().map(class).collect();
        let category = |name: String| {
            let member = |c: &usize| set.classes()[*c].category.as_ref() == Some(&name);
            let members: Vec<usize> = (0..self.classes).filter(member).collect();
            ClassScore {
                iou: iou(&members),
                truth: members.iter().map(|&c| self.truth(c)).sum(),
                name,
            }
        };
        let categories: Vec<ClassScore> = set.categories().into_iter().map(category).collect();
        let pixels: u64 = self.counts.iter().sum();
        let right: u64 = (0..self.classes).map(|c| self.count(c, c)).sum();
        Scores {
            mean_iou: mean(&classes),
            category_mean_iou: mean(&categories),
            pixel_accuracy: (pixels > 0).then(|| right as f64 / pixels as f64),
            classes,
            categories,
        }
    }

    fn truth(&self, class: usize) -> u64 {
        (0..=self.classes).map(|p| self.count(class, p)).sum()
    }
}

/// Scores of a data set; `None` where there is nothing to score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Mean IoU over the classes that have one.
    pub mean_iou: Option<f64>,
    /// Mean IoU over the categories that have one.
    pub category_mean_iou: Option<f64>,
    /// Share of evaluated pixels with the correct class.
    pub pixel_accuracy: Option<f64>,
    /// Of every class, by train id.
    pub classes: Vec<ClassScore>,
    /// Of every category.
    pub categories: Vec<ClassScore>,
}

/// Score of a class or category.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    /// Its name.
    pub name: String,
    /// Intersection over union, 0..1; `None` when it is neither true nor predicted anywhere.
    pub iou: Option<f64>,
    /// Its true pixels.
    pub truth: u64,
}

impl Scores {
    /// Names of the classes without a true pixel. Those that are predicted have IoU 0 and count in the mean,
    /// as in cityscapesScripts; the others are left out of it.
    pub fn absent(&self) -> Vec<&ClassScore> {
        self.classes.iter().filter(|c| c.truth == 0).collect()
    }
}

fn mean(scores: &[ClassScore]) -> Option<f64> {
    let ious: Vec<f64> = scores.iter().filter_map(|s| s.iou).collect();
    (!ious.is_empty()).then(|| ious.iter().sum::<f64>() / ious.len() as f64)
}

// Adds to [256 * 256] counts of (truth, prediction). Labels come in runs, which are counted at once.
fn count_pairs(truth: &[u8], prediction: &[u8], counts: &mut [u32]) {
    let mut start = 0;
    while start < truth.len() {
        let pair = (truth[start], prediction[start]);
        let end = start + run_length(&truth[start..], &prediction[start..], pair);
        counts[usize::from(pair.0) << 8 | usize::from(pair.1)] += (end - start) as u32;
        start = end;
    }
}

// How many pixels at the start have these labels.
fn run_length(truth: &[u8], prediction: &[u8], pair: (u8, u8)) -> usize {
    let repeated = |label: u8| u64::from_le_bytes([label; 8]);
    let (t, p) = (repeated(pair.0), repeated(pair.1));
    let ((truths, _), (predictions, _)) = (truth.as_chunks::<8>(), prediction.as_chunks::<8>());
    for (i, (truth, prediction)) in truths.iter().zip(predictions).enumerate() {
        let differ = (u64::from_le_bytes(*truth) ^ t) | (u64::from_le_bytes(*prediction) ^ p);
        if differ != 0 {
            return i * 8 + differ.trailing_zeros() as usize / 8;
        }
    }
    let whole = truths.len() * 8;
    let same = |(t, p): &(&u8, &u8)| (**t, **p) == pair;
    whole
        + truth[whole..]
            .iter()
            .zip(&prediction[whole..])
            .take_while(same)
            .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(pixels: &[u8]) -> LabelImage {
        LabelImage {
            height: 1,
            width: pixels.len(),
            pixels: pixels.to_vec(),
        }
    }

    #[test]
    fn hand_counted() {
        let set = ClassSet::cityscapes();
        let mut confusion = Confusion::new(&set);
        // Nine roads (one predicted as sidewalk, one as an ignored id), two ignored pixels, a car that is
        // seen, no train but one claimed.
        let truth = [7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 4, 26, 23];
        let predicted = [7, 7, 7, 7, 7, 7, 7, 8, 9, 26, 7, 26, 31];
        assert_eq!(confusion.add(&image(&truth), &image(&predicted)), Ok(None));
        let scores = confusion.scores(&set);
        let iou = |name: &str| scores.classes.iter().find(|c| c.name == name).unwrap().iou;
        assert_eq!(iou("road"), Some(7.0 / 9.0));
        assert_eq!(
            (iou("sidewalk"), iou("car"), iou("sky"), iou("train")),
            (Some(0.0), Some(1.0), Some(0.0), Some(0.0))
        );
        assert_eq!(iou("person"), None);
        let mean = scores.mean_iou.unwrap();
        assert!((mean - (7.0 / 9.0 + 1.0) / 5.0).abs() < 1e-15, "{mean}");
        // Road and sidewalk are one category: only the parking is missed.
        let flat = scores.categories.iter().find(|c| c.name == "flat").unwrap();
        assert_eq!(flat.iou, Some(8.0 / 9.0));
        let absent: Vec<_> = scores.absent().iter().map(|c| c.name.as_str()).collect();
        assert!(absent.contains(&"train") && absent.contains(&"person") && !absent.contains(&"road"));
        assert_eq!(scores.pixel_accuracy, Some(8.0 / 11.0));
    }

    #[test]
    fn unknown_predictions_are_misses_and_unknown_truth_is_an_error() {
        let set = ClassSet::cityscapes();
        let mut confusion = Confusion::new(&set);
        let unknown = confusion.add(&image(&[7, 7, 0, 7]), &image(&[7, 200, 99, 200]));
        assert_eq!(unknown, Ok(Some(Unknown { id: 200, pixels: 2 })));
        assert_eq!(confusion.scores(&set).classes[0].iou, Some(1.0 / 3.0));
        assert_eq!(
            confusion.add(&image(&[7, 34]), &image(&[7, 7])),
            Err(Unknown { id: 34, pixels: 1 })
        );
        assert_eq!(confusion.scores(&set).classes[0].truth, 3);
    }

    #[test]
    fn nothing_evaluated_scores_nothing() {
        let set = ClassSet::cityscapes();
        let mut confusion = Confusion::new(&set);
        confusion.add(&image(&[0; 16]), &image(&[7; 16])).unwrap();
        let scores = confusion.scores(&set);
        assert_eq!(
            (scores.mean_iou, scores.category_mean_iou, scores.pixel_accuracy),
            (None, None, None)
        );
    }
}
