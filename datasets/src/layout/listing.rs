//! What a split of a data set consists of, before any image is decoded.

use camtrast_common::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
pub(super) struct Facts {
    pub(super) category: BTreeMap<String, String>,
    pub(super) class_titles: BTreeMap<String, String>,
    pub(super) category_titles: BTreeMap<String, String>,
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
    pub(crate) fn only(&self, kept: &[bool]) -> Listing {
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
    pub(super) fn assemble(
        split: &str,
        named: Vec<(Source, String)>,
        facts: &Facts,
        origin: &Path,
    ) -> Result<Self> {
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
