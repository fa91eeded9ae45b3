//! The files of an evaluation besides its metrics: result files in the usual formats, and pictures.

use crate::Dataset;
use crate::curves::write_curves;
use crate::draw::{SampleOptions, write_samples};
use crate::evaluate::Evaluation;
use crate::results::{Results, write_coco, write_instances, write_voc};
use camtrast_common::{Error, Result};
use std::path::Path;

/// Writes `detections/comp4_det_test_<class>.txt` (VOC devkit), `detections.json` (COCO results) with
/// `instances.json` (the ground truth for them), `curves/`, and `pictures/` of this many sample images.
///
/// # Errors
/// [`Error::Io`], and those of [`camtrast_images::decode::read`].
pub fn write_report(
    folder: &Path,
    dataset: &Dataset,
    results: &Results,
    evaluation: &Evaluation,
    pictures: usize,
) -> Result<()> {
    let inside = |name: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).map_err(Error::io(&path, "create"))?;
        Ok::<_, Error>(path)
    };
    write_voc(&inside("detections")?, "test", dataset, results)?;
    write_coco(&folder.join("detections.json"), dataset, results)?;
    write_instances(&folder.join("instances.json"), dataset)?;
    write_curves(&inside("curves")?, evaluation)?;
    if pictures > 0 {
        let options = SampleOptions {
            count: pictures,
            ..SampleOptions::default()
        };
        write_samples(&inside("pictures")?, dataset, results, &options)?;
    }
    Ok(())
}
