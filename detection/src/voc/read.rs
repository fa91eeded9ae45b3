//! Lists and annotations as a data set.

use super::annotation::{Annotation, Read};
use super::split::VocSplit;
use crate::image_file;
use crate::problems::Problems;
use crate::{Annotated, Dataset};
use camtrast_common::{Error, Result};
use camtrast_images::size::size;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The images and objects of a VOCdevkit folder to read.
#[derive(Debug, Clone)]
pub struct VocOptions {
    /// The folder that contains `VOC2007` or similar folders.
    pub root: PathBuf,
    /// Splits, read one after the other.
    pub splits: Vec<VocSplit>,
    /// Names of the classes; an object's class is its index here.
    pub classes: Vec<String>,
    /// Skip unusable images and annotations, and list them in [`Dataset::problems`], instead of failing: only
    /// the object if only the object is wrong, otherwise the whole image.
    pub skip_bad: bool,
}

/// Reads lists and annotations, and only the size of the images (with `skip_bad`, also whether they are
/// complete).
///
/// Objects of other classes are not used, and boxes that cross the edge of their image are clipped:
/// [`Dataset::notes`] counts them. An id that two folders have in common becomes `<folder>_<id>` in the
/// second. Images without objects are kept, as background.
///
/// # Errors
/// [`Error::File`] or [`Error::Io`] naming the folder, list, annotation or image at fault, the first in the
/// lists' order.
pub fn read(options: &VocOptions) -> Result<Dataset> {
    let classes: HashMap<&str, usize> = options
        .classes
        .iter()
        .enumerate()
        .map(|(i, c)| (c.as_str(), i))
        .collect();
    let mut problems = Problems::new(options.skip_bad);
    let mut images = Vec::new();
    let mut seen = Seen::default();
    let mut folder_of: HashMap<String, PathBuf> = HashMap::new();
    for split in &options.splits {
        let folder = split.folder(&options.root)?;
        let list = split.list(&folder);
        let ids = split.ids(&list, &mut problems)?;
        let read: Vec<_> = ids
            .par_iter()
            .map(|id| read_image(&folder, &list, id, &classes, options.skip_bad))
            .collect();
        for (id, result) in ids.into_iter().zip(read) {
            let id = match folder_of.get(&id) {
                Some(earlier) if *earlier == folder => {
                    let twice = Error::file(
                        &list,
                        format!("names {id:?}, as an earlier split does"),
                        "name it once",
                    );
                    problems.keep(Err::<(), _>(twice))?;
                    continue;
                }
                Some(_) => format!(
                    "{}_{id}",
                    folder.file_name().unwrap_or_default().to_string_lossy()
                ),
                None => id,
            };
            let Some((mut image, bad, of_image)) = problems.keep(result)? else {
                continue;
            };
            bad.into_iter()
                .try_for_each(|error| problems.keep(Err::<(), _>(error)).map(drop))?;
            seen.add(of_image);
            folder_of.insert(id.clone(), folder.clone());
            image.id = id;
            images.push(image);
        }
    }
    let category_ids = (1..=options.classes.len() as u64).collect();
    Ok(Dataset {
        classes: options.classes.clone(),
        category_ids,
        images,
        problems: problems.into_lines(),
        notes: seen.notes(),
        crowds: false,
    })
}

/// An image with its objects, the problems of skipped ones, and the changes to the others.
fn read_image(
    folder: &Path,
    list: &Path,
    id: &str,
    classes: &HashMap<&str, usize>,
    whole: bool,
) -> Result<(Annotated, Vec<Error>, Seen)> {
    let path = folder.join("Annotations").join(format!("{id}.xml"));
    if !path.exists() {
        let remedy = "annotate the image, or remove it from the list";
        return Err(Error::file(
            list,
            format!("names {id:?}, which has no annotation {}", path.display()),
            remedy,
        ));
    }
    let annotation = Annotation::read(&path)?;
    let image = image_file::find(&folder.join("JPEGImages"), id, list)?;
    let size = size(&image, whole)?;
    let size = annotation.check_size(size, &image)?;
    let (mut objects, mut bad, mut seen) = (Vec::new(), Vec::new(), Seen::default());
    for (number, object) in (1..).zip(annotation.objects(size, classes)) {
        match object {
            Ok(Read::Object(object)) => objects.push(object),
            Ok(Read::Clipped(object)) => {
                seen.clipped += 1;
                seen.first_clipped
                    .get_or_insert_with(|| format!("{}: object {number}", path.display()));
                objects.push(object);
            }
            Ok(Read::OtherClass(name)) => *seen.other_classes.entry(name).or_default() += 1,
            Err(error) => bad.push(error),
        }
    }
    let (width, height) = size;
    Ok((
        Annotated {
            id: id.to_owned(),
            image,
            width,
            height,
            objects,
        },
        bad,
        seen,
    ))
}

/// Notes on properties that are not errors, one for the whole data set.
#[derive(Debug, Default)]
struct Seen {
    clipped: usize,
    first_clipped: Option<String>,
    other_classes: BTreeMap<String, usize>,
}

impl Seen {
    fn add(&mut self, of_image: Seen) {
        self.clipped += of_image.clipped;
        self.first_clipped = self.first_clipped.take().or(of_image.first_clipped);
        for (name, count) in of_image.other_classes {
            *self.other_classes.entry(name).or_default() += count;
        }
    }

    fn notes(self) -> Vec<String> {
        let clipped = self.first_clipped.map(|first| {
            format!(
                "{} boxes pass the edge of their image and were clipped, the first is {first}",
                self.clipped
            )
        });
        let classes: Vec<String> = self
            .other_classes
            .iter()
            .map(|(name, count)| format!("{name} ({count})"))
            .collect();
        let others = (!classes.is_empty()).then(|| {
            format!(
                "objects of classes that are not in --classes are not used: {}",
                classes.join(", ")
            )
        });
        clipped.into_iter().chain(others).collect()
    }
}
