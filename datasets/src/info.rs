//! The content of a pack or a data set folder, and its problems.

use crate::Pack;
use crate::layout::{Layout, Listing, RawImages, Source, in_common};
use camtrast_common::error::{Error, Result};
use camtrast_images::decode;
use camtrast_images::size::size;
use rayon::prelude::*;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// Images of a class that an episode of 5 shots and 15 queries needs.
pub const EPISODE_IMAGES: usize = 20;
/// Images per split that are decoded to learn their sizes.
const SAMPLE: usize = 50;

/// Content of a pack or a data set folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// The inspected path.
    pub path: PathBuf,
    /// `pack` or `folder` (also for archives).
    pub kind: &'static str,
    /// Layout: the pack's own, or the one recognised.
    pub layout: String,
    /// Checksum stored in the pack.
    pub sha256: Option<String>,
    /// Whether the pack's content matches its checksum.
    pub checksum_ok: Option<bool>,
    /// Its splits; a pack has one.
    pub splits: Vec<SplitInfo>,
    /// Problems that a user should know before using it, one line each.
    pub problems: Vec<String>,
}

/// Content of one split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitInfo {
    /// Name of the split.
    pub split: String,
    /// Number of images.
    pub images: usize,
    /// Images of the smallest class.
    pub min_per_class: usize,
    /// Images of the middle class (the lower of two).
    pub median_per_class: usize,
    /// Images of the largest class.
    pub max_per_class: usize,
    /// Smallest and largest height and width in pixels; of a sample, where images are files.
    pub heights: [usize; 2],
    /// See `heights`.
    pub widths: [usize; 2],
    /// Every class in label order.
    pub classes: Vec<ClassInfo>,
    /// Names of the general categories and their numbers of classes; empty when the data set has none.
    pub categories: Vec<(String, usize)>,
    /// Number of files that are not images and are ignored.
    pub ignored: usize,
}

/// One class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassInfo {
    /// Its name in the data set.
    pub name: String,
    /// Its readable name, where known.
    pub title: String,
    /// Number of images.
    pub images: usize,
}

/// Inspects a pack (and verifies its checksum, which reads the whole file) or a data set folder or archive,
/// whose layout is recognised. In a folder, the first bytes of image files are checked, and a sample is
/// decoded.
///
/// # Errors
/// [`Error::File`] or [`Error::Io`] when it is neither, or nothing in it can be listed. Smaller faults become
/// `problems`.
pub fn info(path: &Path) -> Result<Info> {
    if !path.exists() {
        return Err(Error::file(
            path,
            "does not exist",
            "name a pack or the folder of a data set",
        ));
    }
    let name = path.to_string_lossy();
    let archive = [".tar.gz", ".tgz", ".tar"]
        .iter()
        .any(|ending| name.ends_with(ending));
    if path.is_dir() || archive {
        of_folder(path)
    } else {
        of_pack(path)
    }
}

fn of_pack(path: &Path) -> Result<Info> {
    let pack = Pack::open(path)?;
    let mut problems = Vec::new();
    let verified = pack.verify();
    problems.extend(verified.as_ref().err().map(Error::to_string));
    let category_of_class = pack.categories().map(|categories| {
        let mut of_class = vec![0; pack.class_names().len()];
        for (&label, &category) in pack.labels().iter().zip(categories) {
            of_class[label as usize] = category as usize;
        }
        of_class
    });
    let split = split_info(
        pack.split(),
        pack.labels().iter().map(|&label| label as usize),
        (pack.class_names(), &pack.class_titles()),
        category_of_class.as_deref().zip(pack.category_names()),
        ([pack.height(); 2], [pack.width(); 2]),
        0,
    );
    problems.extend(small_classes(&split));
    Ok(Info {
        path: path.to_owned(),
        kind: "pack",
        layout: pack.layout().to_owned(),
        sha256: Some(pack.sha256().to_owned()),
        checksum_ok: Some(verified.is_ok()),
        splits: vec![split],
        problems,
    })
}

fn of_folder(path: &Path) -> Result<Info> {
    let layout = Layout::detect(path)?;
    let (mut splits, mut problems, mut first_error) = (Vec::new(), Vec::new(), None);
    let mut listed: Vec<Listing> = Vec::new();
    for split in layout.splits(path) {
        match layout.list(path, split) {
            Ok(listing) => {
                problems.extend(
                    listing
                        .notes
                        .iter()
                        .map(|note| format!("{}: {note}", listing.split)),
                );
                problems.extend(
                    listing
                        .note_of_empty()
                        .map(|note| format!("{}: {note}", listing.split)),
                );
                problems.extend(bad_files(&listing));
                let (heights, widths) = sizes(&listing);
                let titles = listing.class_titles.as_ref().unwrap_or(&listing.class_names);
                let split = split_info(
                    &listing.split,
                    listing.images.iter().map(|(_, label)| *label),
                    (&listing.class_names, titles),
                    listing
                        .category_of_class
                        .as_deref()
                        .zip(listing.category_names.as_deref()),
                    (heights, widths),
                    listing.ignored,
                );
                problems.extend(small_classes(&split));
                problems.extend(
                    listed
                        .iter()
                        .flat_map(|before| in_common(layout, before, &listing)),
                );
                splits.push(split);
                // Pixels are large, and are not compared.
                listed.push(Listing {
                    raw: RawImages::default(),
                    ..listing
                });
            }
            Err(error) => {
                problems.push(error.to_string());
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if splits.is_empty() => Err(error),
        _ => Ok(Info {
            path: path.to_owned(),
            kind: "folder",
            layout: layout.to_string(),
            sha256: None,
            checksum_ok: None,
            splits,
            problems,
        }),
    }
}

fn split_info(
    split: &str,
    labels: impl Iterator<Item = usize>,
    (names, titles): (&[String], &[String]),
    categories: Option<(&[usize], &[String])>,
    (heights, widths): ([usize; 2], [usize; 2]),
    ignored: usize,
) -> SplitInfo {
    let mut counts = vec![0; names.len()];
    labels.for_each(|label| counts[label] += 1);
    let mut sorted = counts.clone();
    sorted.sort_unstable();
    let classes = names.iter().zip(titles).zip(&counts);
    let categories = categories.map(|(of_class, names)| {
        let classes_of = |category| of_class.iter().filter(|&&c| c == category).count();
        names
            .iter()
            .enumerate()
            .map(|(i, name)| (name.clone(), classes_of(i)))
            .collect()
    });
    SplitInfo {
        split: split.to_owned(),
        images: counts.iter().sum(),
        min_per_class: sorted[0],
        median_per_class: sorted[(sorted.len() - 1) / 2],
        max_per_class: sorted[sorted.len() - 1],
        heights,
        widths,
        classes: classes
            .map(|((name, title), &images)| ClassInfo {
                name: name.clone(),
                title: title.clone(),
                images,
            })
            .collect(),
        categories: categories.unwrap_or_default(),
        ignored,
    }
}

fn small_classes(split: &SplitInfo) -> Option<String> {
    let small: Vec<&ClassInfo> = split
        .classes
        .iter()
        .filter(|class| class.images < EPISODE_IMAGES)
        .collect();
    let first = small.first()?;
    Some(format!(
        "{}: {} of {} classes have fewer than the {EPISODE_IMAGES} images that 5 shots and 15 queries need, \
         such as {} ({})",
        split.split,
        small.len(),
        split.classes.len(),
        first.name,
        first.images
    ))
}

// One line about image files whose first bytes are not those of an image.
fn bad_files(listing: &Listing) -> Option<String> {
    let path = |source: &Source| {
        if let Source::File(path) = source {
            Some(path.clone())
        } else {
            None
        }
    };
    let images: Vec<&(Source, usize)> = listing.images.iter().collect();
    let bad: Vec<PathBuf> = images
        .par_iter()
        .filter_map(|(source, _)| path(source).filter(|path| !decode::begins_like_an_image(path)))
        .collect();
    let first = bad.first()?;
    let problem = "files do not begin like an image, such as";
    Some(format!(
        "{}: {} {problem} {}",
        listing.split,
        bad.len(),
        first.display()
    ))
}

// Smallest and largest height and width of a sample spread over the split.
fn sizes(listing: &Listing) -> ([usize; 2], [usize; 2]) {
    let step = listing.images.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<&(Source, usize)> = listing.images.iter().step_by(step).collect();
    let sizes: Vec<(usize, usize)> = sample
        .par_iter()
        .filter_map(|(source, _)| match source {
            Source::File(path) => size(path, false).ok().map(|size| (size.stored.1, size.stored.0)),
            Source::Row(_) => Some((listing.raw.height, listing.raw.width)),
        })
        .collect();
    let range = |values: Vec<usize>| {
        [
            values.iter().min().copied().unwrap_or(0),
            values.iter().max().copied().unwrap_or(0),
        ]
    };
    (
        range(sizes.iter().map(|s| s.0).collect()),
        range(sizes.iter().map(|s| s.1).collect()),
    )
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{} {} ({})", self.kind, self.path.display(), self.layout)?;
        if let (Some(sha256), Some(ok)) = (&self.sha256, self.checksum_ok) {
            writeln!(
                f,
                "checksum {sha256} {}",
                if ok { "ok" } else { "DOES NOT MATCH" }
            )?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "split   images  classes  categories  per class min/median/max  height     width"
        )?;
        for split in &self.splits {
            let per_class = format!(
                "{}/{}/{}",
                split.min_per_class, split.median_per_class, split.max_per_class
            );
            let range = |[low, high]: [usize; 2]| {
                if low == high {
                    low.to_string()
                } else {
                    format!("{low}-{high}")
                }
            };
            let categories = match split.categories.len() {
                0 => "-".to_owned(),
                n => n.to_string(),
            };
            let row = format!(
                "{:<6} {:>7} {:>8} {:>11}  {:<24}  {:<9}  {}",
                split.split,
                split.images,
                split.classes.len(),
                categories,
                per_class,
                range(split.heights),
                range(split.widths)
            );
            writeln!(f, "{}", row.trim_end())?;
        }
        for split in &self.splits {
            write!(f, "\n{}:", split.split)?;
            for class in &split.classes {
                let title = if class.title == class.name {
                    String::new()
                } else {
                    format!(" {}", class.title)
                };
                write!(f, " {}{title} ({}),", class.name, class.images)?;
            }
            writeln!(f)?;
            if split.ignored > 0 {
                writeln!(f, "{} other files ignored", split.ignored)?;
            }
        }
        if !self.problems.is_empty() {
            writeln!(f, "\nproblems:")?;
        }
        self.problems
            .iter()
            .try_for_each(|problem| writeln!(f, "- {problem}"))
    }
}
