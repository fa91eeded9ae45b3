//! COCO's average precision by `hotcoco`, which follows pycocotools step by step.

use super::entry::{Entry, mean};
use camtrast_common::{Error, Result};
use hotcoco::params::IouType;
use hotcoco::{Annotation, COCO, COCOeval, Category, Dataset, Image};

/// IoU thresholds .50:.05:.95.
pub(super) const THRESHOLDS: usize = 10;
/// Recalls 0, 0.01, .. 1.
pub(super) const RECALLS: usize = 101;

/// The groups of objects that are averaged separately: all areas, below 32^2, up to 96^2 and above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    All,
    Small,
    Medium,
    Large,
}

/// Interpolated precision by threshold, recall, class and area: pycocotools' `eval["precision"]` at 100
/// detections.
pub(super) struct Precision {
    values: Vec<f64>,
    shape: hotcoco::EvalShape,
}

impl Precision {
    /// Evaluates detections against objects, both by class; the images carry the numbers `image_ids`.
    pub fn new(image_ids: &[u64], objects: &[Vec<Entry>], detections: &[Vec<Entry>]) -> Result<Self> {
        let dataset = |entries: &[Vec<Entry>]| {
            let entries = entries
                .iter()
                .enumerate()
                .flat_map(|(class, of_class)| of_class.iter().map(move |e| (class, e)));
            let annotations = entries
                .enumerate()
                .map(|(i, (class, entry))| annotation(i, class, entry, image_ids));
            COCO::from_dataset(Dataset {
                images: image_ids
                    .iter()
                    .map(|&id| Image {
                        id,
                        ..Image::default()
                    })
                    .collect(),
                // It warns about categories without a name.
                categories: (0..objects.len())
                    .map(|class| Category {
                        id: class as u64,
                        name: class.to_string(),
                        ..Category::default()
                    })
                    .collect(),
                annotations: annotations.collect(),
                ..Dataset::default()
            })
        };
        let mut evaluation = COCOeval::new(dataset(objects), dataset(detections), IouType::Bbox);
        // One limit instead of 1, 10 and 100, of which average precision takes the last.
        evaluation.params.max_dets = vec![100];
        evaluation.evaluate().map_err(|error| {
            Error::settings(
                format!("COCO's evaluation failed: {error}"),
                "check for NaN or infinite boxes",
            )
        })?;
        evaluation.accumulate();
        let accumulated = evaluation.accumulated().expect("was just accumulated");
        assert_eq!((accumulated.shape.t, accumulated.shape.r), (THRESHOLDS, RECALLS));
        Ok(Precision {
            values: accumulated.precision.clone(),
            shape: accumulated.shape,
        })
    }

    /// The precision-recall curve of a class at a threshold, `[101]`; `None` when the class has no object of
    /// that area.
    pub fn curve(&self, threshold: usize, class: usize, area: Area) -> Option<Vec<f64>> {
        let at = |recall| {
            self.values[self
                .shape
                .precision_idx(threshold, recall, class, area as usize, 0)]
        };
        let curve: Vec<f64> = (0..RECALLS).map(at).collect();
        (curve[0] >= 0.0).then_some(curve)
    }

    /// Average precision: the mean of [`Precision::curve`].
    pub fn average(&self, threshold: usize, class: usize, area: Area) -> Option<f64> {
        Some(mean(&self.curve(threshold, class, area)?))
    }
}

fn annotation(index: usize, class: usize, entry: &Entry, image_ids: &[u64]) -> Annotation {
    let [x1, y1, x2, y2] = entry.bbox;
    Annotation {
        id: index as u64 + 1,
        image_id: image_ids[entry.image],
        category_id: class as u64,
        bbox: Some([x1, y1, x2 - x1, y2 - y1]),
        area: Some(entry.area),
        iscrowd: entry.difficult,
        score: Some(entry.score),
        ..Annotation::default()
    }
}
