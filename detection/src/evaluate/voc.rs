//! PASCAL VOC's average precision, as the devkit's `VOCevaldet.m` computes it in its Python form
//! (`voc_eval.py` of Faster R-CNN and of detectron2).
//!
//! The detections of one class, best score first, are each compared with the object of their image that they
//! overlap most. The overlap must exceed the threshold (the devkit's document says so, and the Python form
//! does; its MATLAB program also takes the exact half). An object can be found once; a difficult one counts
//! neither as found nor as missed. VOC's inclusive sides, `xmax - xmin + 1`, are the plain sides of our
//! half-open boxes.

use super::entry::Entry;
use std::collections::HashMap;

/// Recall and precision after each detection, best score first; both in 0..1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// Share of the objects found so far, never falling.
    pub recall: Vec<f64>,
    /// Share of true detections so far.
    pub precision: Vec<f64>,
}

impl Curve {
    /// VOC2007's average precision: the mean over recalls 0, 0.1, .. 1 of the best precision at that recall
    /// or beyond.
    pub fn eleven_point(&self) -> f64 {
        let envelope = self.envelope();
        // `np.arange(0, 1.1, 0.1)`: its 0.3 is slightly above 0.3, which matters when the recall is exactly
        // 0.3.
        let thresholds = (0..11).map(|tenth| f64::from(tenth) * 0.1);
        let at = |t: f64| {
            envelope
                .get(self.recall.partition_point(|&recall| recall < t))
                .copied()
                .unwrap_or(0.0)
        };
        thresholds.map(at).sum::<f64>() / 11.0
    }

    /// The area below the curve, its precision made non-increasing first: VOC's average precision since 2010.
    pub fn area(&self) -> f64 {
        let before = std::iter::once(0.0).chain(self.recall.iter().copied());
        let steps = before.zip(&self.recall).map(|(before, now)| now - before);
        // Not `sum`, which gives -0 for an empty curve.
        steps
            .zip(self.envelope())
            .map(|(step, precision)| step * precision)
            .fold(0.0, |area, part| area + part)
    }

    // The best precision at each recall or beyond.
    fn envelope(&self) -> Vec<f64> {
        let mut envelope = self.precision.clone();
        for i in (1..envelope.len()).rev() {
            envelope[i - 1] = envelope[i - 1].max(envelope[i]);
        }
        envelope
    }
}

/// The detections of one class with the objects they overlap most: the input of the curves at every
/// threshold.
pub(super) struct Matches {
    /// Largest overlap and its object, best score first; `None` in an image without objects of the class.
    best: Vec<Option<(f64, usize)>>,
    difficult: Vec<bool>,
}

impl Matches {
    /// `objects` and `detections` are those of one class; equal scores keep the order of `detections`.
    pub fn new(objects: &[Entry], detections: &[Entry]) -> Self {
        let mut of_image: HashMap<usize, Vec<usize>> = HashMap::new();
        for (i, object) in objects.iter().enumerate() {
            of_image.entry(object.image).or_default().push(i);
        }
        let mut ranked: Vec<&Entry> = detections.iter().collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        let best = |detection: &&Entry| {
            let candidates = of_image.get(&detection.image)?;
            let overlaps = candidates
                .iter()
                .map(|&i| (overlap(&detection.bbox, &objects[i].bbox), i));
            // The first of equal overlaps.
            overlaps.reduce(|best, next| if next.0 > best.0 { next } else { best })
        };
        let difficult = objects.iter().map(|object| object.difficult).collect();
        Matches {
            best: ranked.iter().map(best).collect(),
            difficult,
        }
    }

    /// Objects that count.
    pub fn objects(&self) -> usize {
        self.difficult.iter().filter(|difficult| !**difficult).count()
    }

    /// The curve when a detection must overlap an object by more than `threshold`.
    pub fn curve(&self, threshold: f64) -> Curve {
        let objects = self.objects() as f64;
        let mut found = vec![false; self.difficult.len()];
        let (mut hits, mut misses) = (0.0, 0.0);
        let mut curve = Curve::default();
        for best in &self.best {
            match *best {
                Some((overlap, object)) if overlap > threshold => {
                    if !self.difficult[object] {
                        *(if found[object] { &mut misses } else { &mut hits }) += 1.0;
                        found[object] = true;
                    }
                }
                _ => misses += 1.0,
            }
            curve.recall.push(hits / objects);
            curve.precision.push(hits / f64::max(hits + misses, f64::EPSILON));
        }
        curve
    }
}

/// Intersection over union of two half-open boxes [x1, y1, x2, y2].
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let area = |r: &[f64; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    let intersection = side(0) * side(1);
    intersection / (area(a) + area(b) - intersection)
}
