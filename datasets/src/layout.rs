//! The public layouts: where each stores its images, classes and splits.

mod cifar_fs;
mod csv;
mod detect;
mod folders;
mod imagefolder;
mod listing;
mod miniimagenet;
mod tieredimagenet;
mod tiny_imagenet;

pub use listing::{Listing, RawImages, Source};

use camtrast_common::error::{Error, Result};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
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
