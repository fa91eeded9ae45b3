//! Predictions of somebody's own images: files and pictures instead of scores.

use crate::classes::ClassSet;
use crate::label_image::LabelImage;
use crate::picture;
use crate::predict::Predictor;
use crate::rle::masks;
use camtrast_common::files::write_json;
use camtrast_common::progress::Progress;
use camtrast_common::{Error, Result};
use camtrast_images::decode::read_upright;
use camtrast_images::folder::{Photo, replace};
use camtrast_images::resample::Image;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// The files and folders that [`predict_photos`] writes.
pub const WRITTEN: [&str; 4] = ["labels", "segments.json", "images.json", "pictures"];

/// Images that are decoded side by side, and whose files are written side by side.
const CHUNK: usize = 8;

/// Predicts every photo and writes `labels/<name>.png` in file ids, `segments.json` (a mask for each class in
/// an image, as COCO's results, with names), `images.json` (their images and categories, as in COCO's
/// instances) and, if `pictures`, `pictures/<name>.png`: the image and its prediction. All are of the size of
/// the upright image.
///
/// The errors of photos that cannot be decoded are returned; the other photos do not depend on them.
///
/// # Errors
/// [`Error::Torch`], and [`Error::Io`] when writing fails.
pub fn predict_photos(
    predictor: &Predictor,
    classes: &ClassSet,
    photos: &[Photo],
    out: &Path,
    pictures: bool,
    progress: &dyn Progress,
) -> Result<Vec<Error>> {
    let mut problems = Vec::new();
    let (mut images, mut segments) = (Vec::new(), Vec::new());
    progress.start("predicting", photos.len() as u64, 0);
    for chunk in photos.chunks(CHUNK) {
        let read = |photo: &Photo| read_upright(&photo.path, photo.size).map_err(replace);
        let decoded: Vec<Result<Image>> = chunk.par_iter().map(read).collect();
        let mut predicted = Vec::new();
        for (photo, image) in chunk.iter().zip(decoded) {
            match image {
                Ok(image) => {
                    let labels = predictor.predict_ids(&image, classes)?;
                    predicted.push((photo, image, labels));
                }
                Err(error) => problems.push(error),
            }
            progress.advance(1, "");
        }
        let write = |(photo, image, labels): &(&Photo, Image, LabelImage)| {
            let name = format!("{}.png", photo.name);
            labels.write(&out.join("labels").join(&name))?;
            if pictures {
                picture::prediction(classes, image, labels)?.write(&out.join("pictures").join(&name))?;
            }
            Ok(records(photo, labels, classes))
        };
        let written: Vec<Vec<Value>> = predicted.par_iter().map(write).collect::<Result<_>>()?;
        segments.extend(written.into_iter().flatten());
        images.extend(predicted.iter().map(|(photo, ..)| {
            let (width, height) = photo.size;
            json!({"id": photo.number, "file_name": photo.file_name, "width": width, "height": height})
        }));
    }
    progress.finish();
    write_json(&out.join("segments.json"), &segments)?;
    let category = |class: &crate::classes::Class| json!({"id": class.id, "name": class.name});
    let categories: Vec<Value> = classes.classes().iter().map(category).collect();
    let whole = json!({"images": images, "annotations": [], "categories": categories});
    write_json(&out.join("images.json"), &whole)?;
    Ok(problems)
}

fn records(photo: &Photo, labels: &LabelImage, classes: &ClassSet) -> Vec<Value> {
    let mut masks = masks(labels);
    let present = classes.classes().iter();
    let records = present.filter_map(|class| {
        let mask = masks.remove(&class.id)?;
        Some(json!({
            "image_id": photo.number,
            "file_name": photo.file_name,
            "category_id": class.id,
            "category": class.name,
            "segmentation": {"size": [labels.height, labels.width], "counts": mask.counts},
            "area": mask.area,
        }))
    });
    records.collect()
}
