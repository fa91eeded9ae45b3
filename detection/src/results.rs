//! Detections as files, in the two usual formats: the VOC devkit's result files and COCO's results JSON.

mod coco;
mod found;
mod voc;

#[cfg(test)]
mod tests;

pub use coco::{read_coco, write_coco, write_instances};
pub use found::{Detection, Results, image_ids};
pub use voc::{read_voc, write_voc};

use crate::Dataset;
use camtrast_common::Result;
use std::path::Path;

impl Results {
    /// Reads `path`: a folder of VOC devkit files, or a COCO results JSON.
    ///
    /// # Errors
    /// As [`read_voc`] and [`read_coco`].
    pub fn read(path: &Path, dataset: &Dataset, skip_bad: bool) -> Result<Self> {
        if path.is_dir() {
            read_voc(path, dataset, skip_bad)
        } else {
            read_coco(path, dataset, skip_bad)
        }
    }
}
