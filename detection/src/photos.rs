//! Detections in somebody's own images: files and pictures instead of figures.

use crate::Annotated;
use crate::draw::picture;
use crate::predict::Predictor;
use crate::results::Detection;
use camtrast_common::files::write_json;
use camtrast_common::progress::Progress;
use camtrast_common::{Error, Result};
use camtrast_images::decode::read_upright;
use camtrast_images::folder::{Photo, replace};
use rayon::prelude::*;
use serde_json::json;
use std::path::Path;

/// The files and folders that [`detect_photos`] writes.
pub const WRITTEN: [&str; 3] = ["detections.json", "images.json", "pictures"];

/// Detects in every photo and writes `detections.json` (COCO results, with names), `images.json` (their
/// images and categories, as in COCO's instances) and, given the least score that is drawn,
/// `pictures/<name>.png`. Boxes are half-open, in pixels of the upright image. `classes` are the detector's;
/// the first has number 1.
///
/// The errors of photos that cannot be decoded are returned; the other photos do not depend on them.
///
/// # Errors
/// [`Error::Torch`], and [`Error::Io`] when writing fails.
pub fn detect_photos(
    predictor: &Predictor,
    classes: &[String],
    photos: &[Photo],
    out: &Path,
    pictures: Option<f64>,
    progress: &dyn Progress,
) -> Result<Vec<Error>> {
    let annotated: Vec<Annotated> = photos.iter().map(annotated).collect();
    let (mut problems, mut found) = (Vec::new(), Vec::new());
    predictor.each(&annotated, progress, |place, detections| {
        match detections {
            Ok(detections) => found.push((place, detections)),
            Err(error) => problems.push(replace(error)),
        }
        Ok(())
    })?;
    let records = found
        .iter()
        .flat_map(|(place, detections)| detections.iter().map(|one| record(&photos[*place], one, classes)));
    write_json(&out.join("detections.json"), &records.collect::<Vec<_>>())?;
    let images = found.iter().map(|(place, _)| {
        let (photo, (width, height)) = (&photos[*place], photos[*place].size);
        json!({"id": photo.number, "file_name": photo.file_name, "width": width, "height": height})
    });
    let categories = classes
        .iter()
        .zip(1..)
        .map(|(name, id)| json!({"id": id, "name": name}));
    let (images, categories): (Vec<_>, Vec<_>) = (images.collect(), categories.collect());
    let whole = json!({"images": images, "annotations": [], "categories": categories});
    write_json(&out.join("images.json"), &whole)?;

    if let Some(min_score) = pictures {
        progress.start("drawing", found.len() as u64, 0);
        found.par_iter().try_for_each(|(place, detections)| {
            let (photo, image) = (&photos[*place], &annotated[*place]);
            let mut shown: Vec<Detection> = detections.clone();
            shown.retain(|one| one.score >= min_score);
            shown.sort_by(|a, b| a.score.total_cmp(&b.score));
            let path = out.join("pictures").join(format!("{}.png", photo.name));
            picture(read_upright(&photo.path, photo.size)?, image, &shown, classes)?.write(&path)?;
            progress.advance(1, "");
            Ok::<_, Error>(())
        })?;
        progress.finish();
    }
    Ok(problems)
}

fn annotated(photo: &Photo) -> Annotated {
    let (width, height) = photo.size;
    Annotated {
        id: photo.name.clone(),
        image: photo.path.clone(),
        width,
        height,
        objects: Vec::new(),
    }
}

fn record(photo: &Photo, one: &Detection, classes: &[String]) -> serde_json::Value {
    let [x1, y1, x2, y2] = one.bbox;
    json!({
        "image_id": photo.number,
        "file_name": photo.file_name,
        "category_id": one.class + 1,
        "category": classes[one.class],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": one.score,
    })
}
