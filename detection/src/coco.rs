//! The layout of COCO: one JSON file with `images`, `annotations` and `categories`, and a folder of images.

use crate::dataset::{COUNTED_AREAS, area};
use crate::image_file;
use crate::problems::Problems;
use crate::{Annotated, Dataset, Object};
use camtrast_common::{Error, Result};
use camtrast_images::size::{Size, size};
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// A COCO-layout data set.
#[derive(Debug, Clone)]
pub struct CocoOptions {
    /// The instances JSON.
    pub instances: PathBuf,
    /// The folder that its file names are relative to. Without it no image is read, and sizes are the JSON's:
    /// enough for scoring.
    pub images: Option<PathBuf>,
    /// Skip unusable images and annotations, and list them in [`Dataset::problems`], instead of failing: only
    /// the object if only the object is wrong, otherwise the whole image.
    pub skip_bad: bool,
}

#[derive(Deserialize)]
struct Instances {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: PathBuf,
    #[serde(default)]
    width: usize,
    #[serde(default)]
    height: usize,
}

#[derive(Deserialize)]
struct Annotation {
    id: Option<u64>,
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    area: Option<f64>,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

const REMEDY: &str = "correct the file, or skip such entries with --skip-bad";

/// Reads the JSON, and only the size of the images. Classes keep the order of the category ids; a crowd is a
/// difficult object; an image's id is its number in decimal.
///
/// # Errors
/// [`Error::File`] or [`Error::Io`] naming the JSON or the image at fault.
pub fn read(options: &CocoOptions) -> Result<Dataset> {
    let json = &options.instances;
    let text = std::fs::read(json).map_err(Error::io(json, "read"))?;
    let instances: Instances = serde_json::from_slice(&text).map_err(|reason| {
        Error::file(
            json,
            format!("is not a complete COCO instances file: {reason}"),
            "check that it is complete",
        )
    })?;
    drop(text);
    let refuse = |problem: String| Error::file(json, problem, REMEDY);
    let mut problems = Problems::new(options.skip_bad);

    let mut categories = instances.categories;
    categories.sort_by_key(|category| category.id);
    let class_of: HashMap<u64, usize> = categories
        .iter()
        .enumerate()
        .map(|(i, category)| (category.id, i))
        .collect();
    let names: HashSet<&str> = categories.iter().map(|category| category.name.as_str()).collect();
    if class_of.len() < categories.len() || names.len() < categories.len() {
        return Err(Error::file(
            json,
            "has two categories with the same id or name",
            "give each category a different one",
        ));
    }

    let checked: Vec<Result<Annotated>> = instances
        .images
        .par_iter()
        .map(|image| read_image(image, options.images.as_deref(), json, options.skip_bad))
        .collect();
    let (mut images, mut place_of) = (Vec::new(), HashMap::new());
    // Annotations of a skipped image are skipped with it, without a message.
    let mut left_out = HashSet::new();
    for (image, result) in instances.images.iter().zip(checked) {
        let result = result.and_then(|read| match place_of.get(&image.id) {
            Some(_) => Err(refuse(format!("has two images with id {}", image.id))),
            None => Ok(read),
        });
        match problems.keep(result)? {
            Some(read) => {
                place_of.insert(image.id, images.len());
                images.push(read);
            }
            None => drop(left_out.insert(image.id)),
        }
    }

    // pycocotools keeps annotations by id: if two have the same id, it counts the second twice.
    let mut ids = HashSet::new();
    for (index, annotation) in instances.annotations.iter().enumerate() {
        let again = annotation.id.is_some_and(|id| !ids.insert(id));
        if left_out.contains(&annotation.image_id) && !place_of.contains_key(&annotation.image_id) {
            continue;
        }
        let object = || -> Result<(usize, Object), String> {
            if again {
                return Err("another annotation has this id".into());
            }
            let place = *place_of
                .get(&annotation.image_id)
                .ok_or(format!("there is no image {}", annotation.image_id))?;
            let category = annotation.category_id;
            let class = *class_of
                .get(&category)
                .ok_or(format!("there is no category {category}"))?;
            Ok((place, annotation.object(class, &images[place])?))
        };
        let name = annotation
            .id
            .map_or(format!("annotation {} of the list", index + 1), |id| {
                format!("annotation {id}")
            });
        if let Some((place, object)) =
            problems.keep(object().map_err(|problem| refuse(format!("{name}: {problem}"))))?
        {
            images[place].objects.push(object);
        }
    }
    if images.is_empty() {
        return Err(Error::file(json, "names no images", "give a file with images"));
    }
    let classes = categories.iter().map(|category| category.name.clone()).collect();
    let category_ids = categories.iter().map(|category| category.id).collect();
    Ok(Dataset {
        classes,
        category_ids,
        images,
        problems: problems.into_lines(),
        crowds: true,
        ..Dataset::default()
    })
}

fn read_image(image: &Image, folder: Option<&Path>, json: &Path, whole: bool) -> Result<Annotated> {
    let refuse = |problem: String| Error::file(json, problem, REMEDY);
    if !image_file::stays_inside(&image.file_name) {
        let problem = format!(
            "image {} has the file name {:?}, which leads out of --coco-images",
            image.id, image.file_name
        );
        return Err(refuse(problem));
    }
    let stated = (image.width, image.height);
    let (path, size) = match folder {
        None => (
            image.file_name.clone(),
            Size {
                upright: stated,
                stored: stated,
            },
        ),
        Some(folder) => {
            let path = folder.join(&image.file_name);
            if !path.is_file() {
                return Err(refuse(format!(
                    "names image {}, but {} does not exist",
                    image.id,
                    path.display()
                )));
            }
            let size = size(&path, whole)?;
            (path, size)
        }
    };
    let Some(size) = size.annotated(|size| stated == (0, 0) || stated == size) else {
        let stored = size.stored;
        let (said, actual) = (
            format!("{} x {}", stated.0, stated.1),
            format!("{} x {}", stored.0, stored.1),
        );
        return Err(refuse(format!(
            "says image {} has {said} pixels, but {} has {actual}",
            image.id,
            path.display()
        )));
    };
    if size.0 == 0 || size.1 == 0 {
        return Err(refuse(format!("does not state the size of image {}", image.id)));
    }
    let (width, height) = size;
    Ok(Annotated {
        id: image.id.to_string(),
        image: path,
        width,
        height,
        objects: Vec::new(),
    })
}

impl Annotation {
    fn object(&self, class: usize, image: &Annotated) -> Result<Object, String> {
        let [x, y, width, height] = self.bbox;
        let shown = || format!("the box {x} {y} {width} {height}");
        if !(width > 0.0 && height > 0.0) {
            return Err(format!("{} is empty or inverted", shown()));
        }
        // Boxes around masks are rounded: many real ones cross the edge by a fraction of a pixel.
        let inside = |low: f64, side: f64, limit: usize| low > -1.0 && low + side < limit as f64 + 1.0;
        if !(inside(x, width, image.width) && inside(y, height, image.height)) {
            return Err(format!(
                "{} leaves the image of {} x {} pixels",
                shown(),
                image.width,
                image.height
            ));
        }
        let object = Object {
            class,
            bbox: [x, y, x + width, y + height],
            difficult: self.iscrowd != 0,
            area: self.area,
        };
        match area(&object) {
            area if COUNTED_AREAS.contains(&area) => Ok(object),
            area => Err(format!(
                "the area is {area}, not 0 to 1e10 square pixels, the only areas that COCO counts"
            )),
        }
    }
}
