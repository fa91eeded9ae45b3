//! COCO's average precision, step by step as pycocotools' `COCOeval` computes it for boxes.
//!
//! In each image the best 100 detections of a class, best score first, each take the object that they overlap
//! most and at least by the threshold, if no other took it before. An object that does not count, difficult
//! (a crowd) or of another area, is taken only where none that counts fits; the detection then counts neither
//! as found nor as false, and neither does one of another area that takes nothing. A crowd may be taken by
//! many, and the overlap with it is the share of the detection that lies in it.

use super::entry::{Entry, mean};
use rayon::prelude::*;
use std::ops::RangeInclusive;

/// IoU thresholds .50:.05:.95.
pub(super) const THRESHOLDS: usize = 10;
/// Recalls 0, 0.01, .. 1.
pub(super) const RECALLS: usize = 101;
/// Detections of a class that count in an image.
const MOST: usize = 100;

/// The groups of objects that are averaged separately: all areas, below 32^2, up to 96^2 and above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    All,
    Small,
    Medium,
    Large,
}

impl Area {
    const EVERY: [Area; 4] = [Area::All, Area::Small, Area::Medium, Area::Large];

    /// Square pixels.
    fn range(self) -> RangeInclusive<f64> {
        match self {
            Area::All => 0.0..=1e10,
            Area::Small => 0.0..=1024.0,
            Area::Medium => 1024.0..=9216.0,
            Area::Large => 9216.0..=1e10,
        }
    }
}

/// A set of thresholds, one bit each.
type Thresholds = u16;
const ALL: Thresholds = (1 << THRESHOLDS) - 1;

/// `np.linspace(.5, .95, 10)`.
fn threshold(index: usize) -> f64 {
    const STEP: f64 = (0.95 - 0.5) / 9.0;
    if index == THRESHOLDS - 1 {
        0.95
    } else {
        index as f64 * STEP + 0.5
    }
}

/// Interpolated precision by class, area, threshold and recall: pycocotools' `eval["precision"]` at 100
/// detections.
pub(super) struct Precision {
    classes: Vec<[Option<Curves>; 4]>,
}

/// A curve of [`RECALLS`] precisions for each threshold.
type Curves = Vec<Vec<f64>>;

impl Precision {
    /// Evaluates detections against objects, both by class; the images carry the numbers `image_ids`.
    pub fn new(image_ids: &[u64], objects: &[Vec<Entry>], detections: &[Vec<Entry>]) -> Self {
        let classes = objects.par_iter().zip(detections);
        let of_class = |(objects, detections): (&Vec<Entry>, &Vec<Entry>)| {
            let outcomes = outcomes(image_ids, objects, detections);
            Area::EVERY.map(|area| curves(area, objects, &outcomes))
        };
        Precision {
            classes: classes.map(of_class).collect(),
        }
    }

    /// The precision-recall curve of a class at a threshold, `[101]`; `None` when the class has no object of
    /// that area.
    pub fn curve(&self, threshold: usize, class: usize, area: Area) -> Option<&Vec<f64>> {
        Some(&self.classes[class][area as usize].as_ref()?[threshold])
    }

    /// Average precision: the mean of [`Precision::curve`].
    pub fn average(&self, threshold: usize, class: usize, area: Area) -> Option<f64> {
        Some(mean(self.curve(threshold, class, area)?))
    }
}

/// What became of a detection.
#[derive(Clone, Copy, Default)]
struct Outcome {
    /// Thresholds at which it took an object, by area.
    found: [Thresholds; 4],
    /// Thresholds at which it does not count, by area.
    ignored: [Thresholds; 4],
}

/// The outcomes of one class, best score first; equal scores in the order of their images' numbers, then in
/// that of `detections`.
fn outcomes(image_ids: &[u64], objects: &[Entry], detections: &[Entry]) -> Vec<Outcome> {
    let sorted = |entries: &'_ [Entry]| -> Vec<usize> {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|&i| image_ids[entries[i].image]);
        order
    };
    let (mut places, own) = (sorted(detections), sorted(objects));
    let image = |entry: &Entry| image_ids[entry.image];
    let mut ranked: Vec<(f64, Outcome)> = Vec::with_capacity(detections.len());
    let mut rest = &own[..];
    for of_image in places.chunk_by_mut(|&a, &b| detections[a].image == detections[b].image) {
        of_image.sort_by(|&a, &b| detections[b].score.total_cmp(&detections[a].score));
        let best: Vec<&Entry> = of_image.iter().take(MOST).map(|&i| &detections[i]).collect();
        let number = image(best[0]);
        rest = &rest[rest.partition_point(|&i| image(&objects[i]) < number)..];
        let (here, after) = rest.split_at(rest.partition_point(|&i| image(&objects[i]) == number));
        rest = after;
        let here: Vec<&Entry> = here.iter().map(|&i| &objects[i]).collect();
        let overlaps: Vec<f64> = best
            .iter()
            .flat_map(|d| here.iter().map(|o| overlap(d, o)))
            .collect();
        let mut found = vec![Outcome::default(); best.len()];
        Area::EVERY
            .iter()
            .for_each(|&area| assign(area, &here, &best, &overlaps, &mut found));
        ranked.extend(best.iter().map(|detection| detection.score).zip(found));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Assigns the detections of one image to its objects, for objects of an area; `overlaps` are row by row
/// those of a detection.
fn assign(area: Area, objects: &[&Entry], detections: &[&Entry], overlaps: &[f64], outcomes: &mut [Outcome]) {
    let range = area.range();
    let counts: Vec<bool> = objects
        .iter()
        .map(|o| !o.difficult && range.contains(&o.area))
        .collect();
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by_key(|&object| !counts[object]);
    let mut taken: Vec<Thresholds> = vec![0; objects.len()];
    for (number, (detection, outcome)) in detections.iter().zip(outcomes).enumerate() {
        let overlaps = &overlaps[number * objects.len()..][..objects.len()];
        let (mut found, mut ignored) = (0, 0);
        for index in (0..THRESHOLDS).filter(|_| !objects.is_empty()) {
            let (bit, mut most, mut best) = (1 << index, threshold(index), None);
            for &object in &order {
                if taken[object] & bit != 0 && !objects[object].difficult {
                    continue;
                }
                if best.is_some_and(|best: usize| counts[best]) && !counts[object] {
                    break;
                }
                if overlaps[object] >= most {
                    (most, best) = (overlaps[object], Some(object));
                }
            }
            if let Some(object) = best {
                taken[object] |= bit;
                found |= bit;
                ignored |= if counts[object] { 0 } else { bit };
            }
        }
        if !range.contains(&detection.area) {
            ignored |= ALL & !found;
        }
        (outcome.found[area as usize], outcome.ignored[area as usize]) = (found, ignored);
    }
}

/// The curves of one class at all thresholds; `None` when it has no object of that area that counts.
fn curves(area: Area, objects: &[Entry], outcomes: &[Outcome]) -> Option<Curves> {
    let range = area.range();
    let objects = objects
        .iter()
        .filter(|o| !o.difficult && range.contains(&o.area))
        .count();
    let curve = |index: usize| {
        let (bit, mut seen) = (1 << index, 0.0);
        // Precision at each object found: between them recall stays, and precision falls.
        let mut precisions: Vec<f64> = Vec::with_capacity(objects);
        for outcome in outcomes.iter().filter(|o| o.ignored[area as usize] & bit == 0) {
            seen += 1.0;
            if outcome.found[area as usize] & bit != 0 {
                precisions.push((precisions.len() + 1) as f64 / (seen + f64::EPSILON));
            }
        }
        // The best at each recall or beyond.
        for i in (1..precisions.len()).rev() {
            precisions[i - 1] = precisions[i - 1].max(precisions[i]);
        }
        let mut place = 0;
        let at = |recall: usize| {
            // `np.linspace(0, 1, 101)`.
            let wanted = recall as f64 * 0.01;
            while place < precisions.len() && ((place + 1) as f64 / objects as f64) < wanted {
                place += 1;
            }
            precisions.get(place).copied().unwrap_or(0.0)
        };
        (0..RECALLS).map(at).collect()
    };
    (objects > 0).then(|| (0..THRESHOLDS).map(curve).collect())
}

/// Intersection over union, or over the detection where the object is a crowd, in COCO's arithmetic: boxes as
/// place and size.
fn overlap(detection: &Entry, object: &Entry) -> f64 {
    let sized = |[x1, y1, x2, y2]: [f64; 4]| [x1, y1, x2 - x1, y2 - y1];
    let (d, o) = (sized(detection.bbox), sized(object.bbox));
    let side = |i: usize| (d[i] + d[i + 2]).min(o[i] + o[i + 2]) - d[i].max(o[i]);
    let (width, height) = (side(0), side(1));
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let (intersection, of_detection) = (width * height, d[2] * d[3]);
    let whole = if object.difficult {
        of_detection
    } else {
        of_detection + o[2] * o[3] - intersection
    };
    intersection / whole
}
