//! The public layouts: where each stores its images, classes and splits.

mod cifar_fs;
mod csv;
mod detect;
mod folders;
mod imagefolder;
mod miniimagenet;
mod tieredimagenet;
mod tiny_imagenet;

use camtrast_common::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A public data set layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `images/` with `train.csv val.csv test.csv` (`filename,label`), or a folder for each class.
    MiniImagenet,
    /// `train|val|test/<wnid>/`, with the official general categories.
    TieredImagenet,
    /// The CIFAR-100 archive (python or binary), with the few-shot class splits of Bertinetto et al.
    CifarFs,
    /// `train/<wnid>/images/` and `val/` with its annotations.
    TinyImagenet,
    /// A folder for each class.
    Imagefolder,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 5] = [
        Layout::MiniImagenet,
        Layout::TieredImagenet,
        Layout::CifarFs,
        Layout::TinyImagenet,
        Layout::Imagefolder,
    ];

    /// Its name on the command line and in packs.
    pub fn name(self) -> &'static str {
        match self {
            Layout::MiniImagenet => "miniimagenet",
            Layout::TieredImagenet => "tieredimagenet",
            Layout::CifarFs => "cifar-fs",
            Layout::TinyImagenet => "tiny-imagenet",
            Layout::Imagefolder => "imagefolder",
        }
    }

    /// Lists one split of a data set. Image files are named, not read.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Io`] naming the folder, list or line at fault.
    pub fn list(self, from: &Path, split: Option<&str>) -> Result<Listing> {
        if !from.exists() {
            return Err(Error::file(
                from,
                "does not exist",
                format!("give the folder that holds the {self} data set"),
            ));
        }
        match self {
            Layout::MiniImagenet => miniimagenet::list(from, one_of(split, &["train", "val", "test"])?),
            Layout::TieredImagenet => tieredimagenet::list(from, one_of(split, &["train", "val", "test"])?),
            Layout::CifarFs => cifar_fs::list(from, one_of(split, &["train", "val", "test"])?),
            // Its test images have no labels.
            Layout::TinyImagenet => tiny_imagenet::list(from, one_of(split, &["train", "val"])?),
            Layout::Imagefolder => imagefolder::list(from, split),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Layout::ALL
            .into_iter()
            .find(|layout| layout.name() == name)
            .ok_or_else(|| {
                let known = Layout::ALL.map(Layout::name).join(", ");
                Error::settings(
                    format!("there is no layout {name:?}"),
                    format!("choose one of {known}"),
                )
            })
    }
}

/// Where one image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An image file.
    File(PathBuf),
    /// A row of [`Listing::raw`].
    Row(usize),
}

/// Images that a layout stores as arrays instead of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawImages {
    /// Height of every image in pixels.
    pub height: usize,
    /// Width of every image in pixels.
    pub width: usize,
    /// RGB, [rows, height, width, 3].
    pub pixels: Vec<u8>,
}

/// One split of a data set: the images to decode, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Name of the split.
    pub split: String,
    /// Images with their labels, `0..class_names.len()`.
    pub images: Vec<(Source, usize)>,
    /// Class names, sorted; each has at least one image.
    pub class_names: Vec<String>,
    /// Readable names, when the data set has them.
    pub class_titles: Option<Vec<String>>,
    /// General category of each class, `0..category_names.len()`.
    pub category_of_class: Option<Vec<usize>>,
    /// Names of the general categories, sorted.
    pub category_names: Option<Vec<String>>,
    /// Readable names, when the data set has them.
    pub category_titles: Option<Vec<String>>,
    /// Pixels of the images that are not files.
    pub raw: RawImages,
    /// Number of files that are not images and were ignored.
    pub ignored: usize,
    /// Class folders without an image, which are not used as classes.
    pub empty: Vec<PathBuf>,
    /// Notes for the user, such as missing official classes.
    pub notes: Vec<String>,
}

/// General categories and readable names of classes, as far as a layout has them.
#[derive(Clone, Debug, Default)]
struct Facts {
    category: BTreeMap<String, String>,
    class_titles: BTreeMap<String, String>,
    category_titles: BTreeMap<String, String>,
}

impl Listing {
    /// One line about classes left out because they have no image, if there are any.
    pub fn note_of_empty(&self) -> Option<String> {
        let first = self.empty.first()?;
        let count = self.empty.len();
        Some(format!(
            "{count} class folders hold no image of a kind that can be read, such as {}",
            first.display()
        ))
    }

    /// The same without the classes that are not `kept` ([classes]); images keep their labels.
    pub(super) fn only(&self, kept: &[bool]) -> Listing {
        fn chosen<T: Clone>(all: &[T], kept: &[bool]) -> Vec<T> {
            all.iter()
                .zip(kept)
                .filter(|(_, kept)| **kept)
                .map(|(one, _)| one.clone())
                .collect()
        }
        let of_class = self
            .category_of_class
            .as_ref()
            .map(|of_class| chosen(of_class, kept));
        let categories = 0..self.category_names.as_ref().map_or(0, Vec::len);
        let used: Vec<bool> = categories
            .map(|c| of_class.as_ref().is_some_and(|all| all.contains(&c)))
            .collect();
        let number = |category: usize| used[..category].iter().filter(|used| **used).count();
        Listing {
            class_names: chosen(&self.class_names, kept),
            class_titles: self.class_titles.as_ref().map(|titles| chosen(titles, kept)),
            category_of_class: of_class.map(|all| all.into_iter().map(number).collect()),
            category_names: self.category_names.as_ref().map(|names| chosen(names, &used)),
            category_titles: self.category_titles.as_ref().map(|titles| chosen(titles, &used)),
            ..self.clone()
        }
    }

    /// Numbers classes and categories by sorted name. `facts` must have a category for every class, or none
    /// at all.
    fn assemble(split: &str, named: Vec<(Source, String)>, facts: &Facts, origin: &Path) -> Result<Self> {
        let classes: BTreeSet<&String> = named.iter().map(|(_, class)| class).collect();
        let class_names: Vec<String> = classes.into_iter().cloned().collect();
        if class_names.is_empty() {
            let problem = format!("has no images in split {split:?}");
            return Err(Error::file(
                origin,
                problem,
                "check that the data set is unpacked completely",
            ));
        }
        let titles = |names: &[String], titles: &BTreeMap<String, String>| -> Option<Vec<String>> {
            (!titles.is_empty()).then(|| names.iter().map(|n| titles.get(n).unwrap_or(n).clone()).collect())
        };
        let class_titles = titles(&class_names, &facts.class_titles);
        let (mut category_of_class, mut category_names, mut category_titles) = (None, None, None);
        if !facts.category.is_empty() {
            let of_class = class_names.iter().map(|class| {
                facts.category.get(class).ok_or_else(|| {
                    Error::file(
                        origin,
                        format!("has no category for class {class}"),
                        "add the class to its list",
                    )
                })
            });
            let of_class = of_class.collect::<Result<Vec<&String>>>()?;
            let distinct: Vec<&String> = of_class
                .iter()
                .copied()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            let number = |name| distinct.binary_search(&name).expect("taken from the same names");
            category_of_class = Some(of_class.into_iter().map(number).collect());
            let names: Vec<String> = distinct.into_iter().cloned().collect();
            category_titles = titles(&names, &facts.category_titles);
            category_names = Some(names);
        }
        let number = |class| {
            class_names
                .binary_search(&class)
                .expect("taken from the same names")
        };
        let images = named
            .into_iter()
            .map(|(source, class)| (source, number(class)))
            .collect();
        Ok(Listing {
            split: split.to_owned(),
            images,
            class_names,
            class_titles,
            category_of_class,
            category_names,
            category_titles,
            ..Listing::default()
        })
    }
}

/// Lines on images and classes that two splits share but should not. Classes are compared only in layouts
/// whose splits are divided by class (except CIFAR-FS, whose division is built in). Empty when nothing is
/// shared.
pub(crate) fn in_common(layout: Layout, one: &Listing, other: &Listing) -> Vec<String> {
    fn files(listing: &Listing) -> BTreeSet<&Path> {
        let files = listing.images.iter().filter_map(|(source, _)| match source {
            Source::File(path) => Some(path.as_path()),
            Source::Row(_) => None,
        });
        files.collect()
    }
    let line = |count: usize, what: &str, first: String| {
        format!(
            "{} and {} have {count} {what} in common, such as {first}",
            one.split, other.split
        )
    };
    let (ours, theirs) = (files(one), files(other));
    let images: Vec<&&Path> = ours.intersection(&theirs).collect();
    let mut lines: Vec<String> = Vec::new();
    lines.extend(
        images
            .first()
            .map(|first| line(images.len(), "images", first.display().to_string())),
    );
    if matches!(layout, Layout::MiniImagenet | Layout::TieredImagenet) {
        let classes: Vec<&String> = one
            .class_names
            .iter()
            .filter(|name| other.class_names.contains(name))
            .collect();
        lines.extend(
            classes
                .first()
                .map(|first| line(classes.len(), "classes", (*first).clone())),
        );
    }
    lines
}

fn one_of<'a>(split: Option<&'a str>, known: &[&'a str]) -> Result<&'a str> {
    match split {
        None => Ok(known[0]),
        Some(split) if known.contains(&split) => Ok(split),
        Some(split) => Err(Error::settings(
            format!("there is no split {split:?}"),
            format!("set --split to {}", known.join(", ")),
        )),
    }
}
