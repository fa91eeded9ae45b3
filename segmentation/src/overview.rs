//! The content of a folder in Cityscapes' layout, for `data info`.

use crate::classes::{ClassSet, Meaning};
use crate::dataset::{Dataset, Sample, unknown_id};
use camtrast_common::Result;
use camtrast_common::files::names;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Content of one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitOverview {
    /// Such as `train`.
    pub split: String,
    /// Its images with labels.
    pub images: usize,
    /// Smallest and largest height and width of the images, in pixels.
    pub sizes: Option<[(usize, usize); 2]>,
    /// For each class that occurs: its share of all pixels, in 0..1, and the number of images it occurs in.
    pub classes: BTreeMap<String, (f64, usize)>,
    /// Share of the pixels that are neither trained nor evaluated, in 0..1.
    pub ignored: f64,
    /// Problems, one line each.
    pub problems: Vec<String>,
}

/// Reads every split of a folder; `None` when it is not in Cityscapes' layout.
///
/// # Errors
/// [`camtrast_common::Error::Io`] when a folder cannot be read.
pub fn overview(root: &Path) -> Result<Option<Vec<SplitOverview>>> {
    let images = root.join("leftImg8bit");
    if !images.is_dir() || !root.join("gtFine").is_dir() {
        return Ok(None);
    }
    let splits = names(&images)?
        .into_iter()
        .filter(|split| images.join(split).is_dir());
    Ok(Some(splits.map(|split| inspect(root, split)).collect()))
}

/// Number of pixels of each file id, or the problem of a sample.
struct Counted {
    pixels: [u64; 256],
    size: (usize, usize),
}

fn inspect(root: &Path, split: String) -> SplitOverview {
    let nothing = SplitOverview {
        split,
        images: 0,
        sizes: None,
        classes: BTreeMap::new(),
        ignored: 0.0,
        problems: Vec::new(),
    };
    let dataset = match Dataset::cityscapes(root, &nothing.split) {
        Ok(dataset) => dataset,
        Err(error) => {
            return SplitOverview {
                problems: vec![error.to_string()],
                ..nothing
            };
        }
    };
    let counted: Vec<Result<Counted>> = dataset
        .samples
        .par_iter()
        .map(|s| count(s, &dataset.classes))
        .collect();
    let (good, bad): (Vec<_>, Vec<_>) = counted.into_iter().partition(Result::is_ok);
    let good: Vec<Counted> = good.into_iter().flatten().collect();
    let total: u64 = good.iter().flat_map(|c| c.pixels).sum();
    let share =
        |id: u8| good.iter().map(|c| c.pixels[usize::from(id)]).sum::<u64>() as f64 / total.max(1) as f64;
    let class = |class: &crate::classes::Class| {
        let images = good
            .iter()
            .filter(|c| c.pixels[usize::from(class.id)] > 0)
            .count();
        (images > 0).then(|| (class.name.clone(), (share(class.id), images)))
    };
    let classes: BTreeMap<_, _> = dataset.classes.classes().iter().filter_map(class).collect();
    let smallest = good.iter().map(|c| c.size).min();
    SplitOverview {
        images: dataset.samples.len(),
        sizes: smallest
            .zip(good.iter().map(|c| c.size).max())
            .map(|(least, most)| [least, most]),
        ignored: if total == 0 {
            0.0
        } else {
            1.0 - classes.values().map(|(share, _)| share).sum::<f64>()
        },
        classes,
        problems: bad
            .into_iter()
            .filter_map(|b| b.err())
            .map(|error| error.to_string())
            .collect(),
        ..nothing
    }
}

fn count(sample: &Sample, classes: &ClassSet) -> Result<Counted> {
    let labels = sample.check()?;
    let meanings = classes.meanings();
    let mut pixels = [0; 256];
    labels.pixels.iter().for_each(|&id| pixels[usize::from(id)] += 1);
    match (0..=255).find(|&id| pixels[usize::from(id)] > 0 && meanings[usize::from(id)] == Meaning::Unknown) {
        Some(id) => Err(unknown_id(&sample.label, id, classes)),
        None => Ok(Counted {
            pixels,
            size: (labels.height, labels.width),
        }),
    }
}
