//! Detections of a data set in memory, and the numbers by which files name its images.

use crate::{Annotated, Dataset};
use camtrast_common::{Error, Result};
use camtrast_images::folder::numbers;
use std::collections::HashMap;
use std::path::Path;

/// One detection of a data set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index of the image in the data set.
    pub image: usize,
    /// Index of the class in the data set's list.
    pub class: usize,
    /// Confidence; only the order counts.
    pub score: f64,
    /// 0-based half-open box [x1, y1, x2, y2] in pixels.
    pub bbox: [f64; 4],
}

impl Detection {
    /// Why the detection is unusable, if it is.
    pub(crate) fn fault(&self) -> Option<String> {
        let [x1, y1, x2, y2] = self.bbox;
        if !self.score.is_finite() {
            Some("the score is NaN or infinite".into())
        } else if !self.bbox.iter().all(|side| side.is_finite()) {
            Some("the box is NaN or infinite".into())
        } else if x2 < x1 || y2 < y1 {
            Some("the box is inverted".into())
        } else {
            None
        }
    }

    /// Whether the box has no point in common with its image.
    fn outside(&self, image: &Annotated) -> bool {
        let [x1, y1, x2, y2] = self.bbox;
        x2 < 0.0 || y2 < 0.0 || x1 > image.width as f64 || y1 > image.height as f64
    }

    pub(super) fn checked(self) -> Result<Self, String> {
        self.fault().map_or(Ok(self), Err)
    }
}

/// Detections on a data set, in the order of the files they come from: evaluations rank equal scores by it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// The detections.
    pub found: Vec<Detection>,
    /// Detections skipped under `skip_bad`, one line each.
    pub problems: Vec<String>,
    /// Likely mistakes that can still be scored, one line for each kind.
    pub notes: Vec<String>,
}

impl Results {
    /// The kept detections, and the notes so far; an error when none was kept, because that would be scored
    /// as no detections at all.
    pub(super) fn new(
        path: &Path,
        dataset: &Dataset,
        found: Vec<Detection>,
        problems: Vec<String>,
        notes: Vec<String>,
    ) -> Result<Self> {
        if let Some(first) = problems.first().filter(|_| found.is_empty()) {
            let remedy = "give the results of the images and classes that are scored";
            let problem = format!("none of its detections can be used, the first because of {first}");
            return Err(Error::file(path, problem, remedy));
        }
        let mut results = Results {
            found,
            problems,
            notes,
        };
        let outside = results
            .found
            .iter()
            .filter(|found| found.outside(&dataset.images[found.image]))
            .count();
        if outside > 0 {
            results.notes.push(format!(
                "{}: {outside} of {} boxes lie outside their image; are these results of other images, or \
                 of another size?",
                path.display(),
                results.found.len()
            ));
        }
        Ok(results)
    }
}

/// The images' numbers in COCO files, in the data set's order: the digits of their ids ([`numbers`]), or 1,
/// 2, .. if those are not distinct.
pub fn image_ids(dataset: &Dataset) -> Vec<u64> {
    digits(dataset).unwrap_or_else(|| (1..=dataset.images.len() as u64).collect())
}

/// The images' ids as numbers, if they are distinct.
pub(super) fn digits(dataset: &Dataset) -> Option<Vec<u64>> {
    numbers(
        &dataset
            .images
            .iter()
            .map(|image| &image.id[..])
            .collect::<Vec<_>>(),
    )
}

/// Indices of the images by their ids.
pub(super) fn places(dataset: &Dataset) -> HashMap<&str, usize> {
    dataset
        .images
        .iter()
        .enumerate()
        .map(|(place, image)| (image.id.as_str(), place))
        .collect()
}
