//! COCO's JSON files: results, `[{"image_id", "category_id", "bbox": [x, y, width, height], "score"}, ..]`,
//! and instances.

use super::found::{Detection, Results, digits, image_ids, places};
use crate::Dataset;
use crate::dataset::area;
use crate::problems::Problems;
use camtrast_common::files::write_json;
use camtrast_common::{Error, Result};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

const REMEDY: &str = "correct the file, or skip such entries with --skip-bad";

#[derive(Serialize, Deserialize)]
struct Record {
    image_id: ImageId,
    category_id: u64,
    bbox: [Option<f64>; 4],
    score: Option<f64>,
}

/// The number of [`image_ids`]; some programs write the id itself.
#[derive(Serialize)]
#[serde(untagged)]
enum ImageId {
    Number(u64),
    Name(String),
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = ImageId;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the number or name of an image")
            }
            fn visit_u64<E>(self, number: u64) -> Result<ImageId, E> {
                Ok(ImageId::Number(number))
            }
            fn visit_str<E>(self, name: &str) -> Result<ImageId, E> {
                Ok(ImageId::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Calls a function with each record of a list, in its order, so that the list is never in memory.
struct Each<F>(F);

impl<'de, F: FnMut(Record)> Visitor<'de> for Each<F> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of detections")
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut records: A) -> Result<(), A::Error> {
        while let Some(record) = records.next_element()? {
            (self.0)(record);
        }
        Ok(())
    }
}

/// Reads a results JSON. Images are known by [`image_ids`] or, as text, by their id; categories by the data
/// set's ids.
///
/// # Errors
/// [`Error::File`] or [`Error::Io`] naming the file and the record at fault: an unknown image or category, a
/// NaN or infinite score or box. Also, even with `skip_bad`, the file when nothing in it can be used.
pub fn read_coco(path: &Path, dataset: &Dataset, skip_bad: bool) -> Result<Results> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let (names, numbers) = (places(dataset), image_ids(dataset));
    let numbers: HashMap<u64, usize> = numbers
        .into_iter()
        .enumerate()
        .map(|(place, number)| (number, place))
        .collect();
    let ids = dataset.category_ids.iter().enumerate();
    let class_of: HashMap<u64, usize> = ids.map(|(class, &id)| (id, class)).collect();
    let found = |record: &Record| -> Result<Detection, String> {
        let image = match &record.image_id {
            ImageId::Number(number) => numbers.get(number).ok_or_else(|| format!("image {number}")),
            ImageId::Name(name) => names.get(name.as_str()).ok_or_else(|| format!("image {name:?}")),
        };
        let class = class_of
            .get(&record.category_id)
            .ok_or_else(|| format!("category {}", record.category_id));
        let unknown = |what| format!("{what} is not in the data set");
        let (image, class) = (*image.map_err(unknown)?, *class.map_err(unknown)?);
        let score = record.score.unwrap_or(f64::NAN);
        let [x, y, width, height] = record.bbox.map(|side| side.unwrap_or(f64::NAN));
        let bbox = [x, y, x + width, y + height];
        Detection {
            image,
            class,
            score,
            bbox,
        }
        .checked()
    };
    let mut problems = Problems::new(skip_bad);
    let (mut kept, mut count, mut by_number, mut fault) = (Vec::new(), 0, false, None);
    let each = |record: Record| {
        count += 1;
        by_number |= matches!(record.image_id, ImageId::Number(_));
        let error = |problem| Error::file(path, format!("detection {count}: {problem}"), REMEDY);
        match problems.keep(found(&record).map_err(error)) {
            Ok(detection) => kept.extend(detection),
            Err(error) => drop(fault.get_or_insert(error)),
        }
    };
    let text = without_nan(&text);
    let mut json = serde_json::Deserializer::from_str(&text);
    let read = json.deserialize_seq(Each(each)).and_then(|()| json.end());
    read.map_err(|reason| {
        Error::file(
            path,
            format!("is not a COCO results list: {reason}"),
            "check that it is a complete list of detections",
        )
    })?;
    fault.map_or(Ok(()), Err)?;
    let mut notes = Vec::new();
    if digits(dataset).is_none() && by_number {
        notes.push(format!(
            "{}: the images' ids are not numbers: its image numbers are taken as 1, 2, .. in the order of \
             the list",
            path.display()
        ));
    }
    Results::new(path, dataset, kept, problems.into_lines(), notes)
}

/// Writes a results JSON with every digit of scores and boxes.
///
/// # Errors
/// [`Error::Io`].
pub fn write_coco(path: &Path, dataset: &Dataset, results: &Results) -> Result<()> {
    let numbers = image_ids(dataset);
    let records = results.found.iter().map(|found| {
        let [x1, y1, x2, y2] = found.bbox;
        Record {
            image_id: ImageId::Number(numbers[found.image]),
            category_id: dataset.category_ids[found.class],
            bbox: [x1, y1, x2 - x1, y2 - y1].map(Some),
            score: Some(found.score),
        }
    });
    write_json(path, &records.collect::<Vec<_>>())
}

/// Writes the data set as COCO instances: a difficult object is `iscrowd: 1`, a half-open box `[x1, y1, x2 -
/// x1, y2 - y1]` (VOC's `[xmin-1, ymin-1, xmax-xmin+1, ymax-ymin+1]`), its area the product of the sides.
/// pycocotools' figures on this file are [`evaluate`](crate::evaluate())'s.
///
/// # Errors
/// [`Error::Io`].
pub fn write_instances(path: &Path, dataset: &Dataset) -> Result<()> {
    let numbers = image_ids(dataset);
    let images = dataset.images.iter().zip(&numbers).map(|(image, number)| {
        let name = image.image.file_name().unwrap_or_default().to_string_lossy();
        json!({"id": number, "file_name": name, "width": image.width, "height": image.height})
    });
    let objects = dataset
        .images
        .iter()
        .zip(&numbers)
        .flat_map(|(image, n)| image.objects.iter().map(move |o| (n, o)));
    let annotations = objects.enumerate().map(|(index, (number, object))| {
        let [x1, y1, x2, y2] = object.bbox;
        json!({
            "id": index + 1,
            "image_id": number,
            "category_id": dataset.category_ids[object.class],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": area(object),
            "iscrowd": u8::from(object.difficult),
        })
    });
    let categories = dataset
        .classes
        .iter()
        .zip(&dataset.category_ids)
        .map(|(name, id)| json!({"id": id, "name": name}));
    let (images, annotations): (Vec<_>, Vec<_>) = (images.collect(), annotations.collect());
    let whole =
        json!({"images": images, "annotations": annotations, "categories": categories.collect::<Vec<_>>()});
    write_json(path, &whole)
}

/// Python's `json` writes NaN and Infinity, which are not valid JSON: they become null.
fn without_nan(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    // Every other piece between quotes is a string. Names with escaped quotes are rare and do not justify a
    // parser here.
    let pieces = text.split('"').enumerate().map(|(i, piece)| match i % 2 {
        0 => WORDS
            .iter()
            .fold(piece.to_owned(), |piece, word| piece.replace(word, "null")),
        _ => piece.to_owned(),
    });
    Cow::Owned(pieces.collect::<Vec<_>>().join("\""))
}
