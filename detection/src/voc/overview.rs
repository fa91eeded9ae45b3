//! The content of a VOCdevkit folder, for `data info`.

use super::annotation::Annotation;
use super::read::{VocOptions, read};
use super::split::VocSplit;
use crate::image_file::is_plain_name;
use camtrast_common::files::names;
use camtrast_common::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Content of one split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitOverview {
    /// The split as `--train` and `--test` take it, as in `VOC2007:trainval`.
    pub split: String,
    /// Its usable images.
    pub images: usize,
    /// Images without an object.
    pub background: usize,
    /// Objects of each class: those that count, and the difficult ones.
    pub objects: BTreeMap<String, [usize; 2]>,
    /// Its problems, one line each.
    pub problems: Vec<String>,
}

/// Inspects every split of every folder of a VOCdevkit, with all classes that occur in it; `None` when `root`
/// is not one.
///
/// # Errors
/// [`Error::Io`] when a folder or list cannot be read.
pub fn overview(root: &Path) -> Result<Option<Vec<SplitOverview>>> {
    let mut splits = Vec::new();
    for folder in names(root)? {
        let lists = root.join(&folder).join("ImageSets/Main");
        if !lists.is_dir() || !root.join(&folder).join("Annotations").is_dir() {
            continue;
        }
        for list in names(&lists)?.iter().filter_map(|name| name.strip_suffix(".txt")) {
            // VOC's own lists of a class's images, `car_trainval.txt`, have a second column.
            let path = lists.join(format!("{list}.txt"));
            let text = fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
            let first = text.lines().next().unwrap_or_default();
            if first.split_whitespace().count() == 1 && is_plain_name(&folder) && is_plain_name(list) {
                splits.push(VocSplit {
                    folder: folder.clone(),
                    name: list.to_owned(),
                });
            }
        }
    }
    if splits.is_empty() {
        return Ok(None);
    }
    splits
        .into_iter()
        .map(|split| inspect(root, split))
        .collect::<Result<_>>()
        .map(Some)
}

fn inspect(root: &Path, split: VocSplit) -> Result<SplitOverview> {
    let annotations = root.join(&split.folder).join("Annotations");
    let classes: Vec<String> = classes(&annotations)?.into_iter().collect();
    let split_name = split.to_string();
    let options = VocOptions {
        root: root.to_owned(),
        splits: vec![split],
        classes,
        skip_bad: true,
    };
    let dataset = read(&options)?;
    let mut objects: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for object in dataset.images.iter().flat_map(|image| &image.objects) {
        objects.entry(dataset.classes[object.class].clone()).or_default()[usize::from(object.difficult)] += 1;
    }
    Ok(SplitOverview {
        split: split_name,
        images: dataset.images.len(),
        background: dataset
            .images
            .iter()
            .filter(|image| image.objects.is_empty())
            .count(),
        objects,
        problems: [dataset.problems, dataset.notes].concat(),
    })
}

/// Names of the classes that occur in a folder of annotations; unreadable ones are reported elsewhere.
fn classes(annotations: &Path) -> Result<BTreeSet<String>> {
    let files: Vec<PathBuf> = names(annotations)?
        .iter()
        .map(|name| annotations.join(name))
        .collect();
    let of_file = |path: &PathBuf| {
        Annotation::read(path)
            .map(|a| a.class_names())
            .unwrap_or_default()
    };
    Ok(files.par_iter().flat_map_iter(of_file).collect())
}
