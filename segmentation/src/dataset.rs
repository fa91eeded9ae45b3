//! Pairs of images and label files: Cityscapes, and plain folders of images and label PNGs.

use crate::classes::{ClassSet, IGNORE, Meaning};
use crate::label_image::LabelImage;
use camtrast_common::leakage::{self, Prints};
use camtrast_common::tensor_file::hex;
use camtrast_common::{Error, Result};
use camtrast_images::decode;
use camtrast_images::folder::files_below;
use camtrast_images::resample::Image;
use camtrast_images::size::size;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// An image and its labels on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// `<city>_<seq>_<frame>`, or the path below the folder without its extension.
    pub name: String,
    /// The image.
    pub image: PathBuf,
    /// The label PNG.
    pub label: PathBuf,
}

/// Samples of one split, sorted by name, and their classes.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The classes.
    pub classes: ClassSet,
    /// The samples.
    pub samples: Vec<Sample>,
}

const LABELS: &str = "_labelIds.png";

impl Dataset {
    /// A split of Cityscapes: `leftImg8bit/{split}/{city}/*_leftImg8bit.png` and
    /// `gtFine/{split}/{city}/*_gtFine_labelIds.png`.
    ///
    /// # Errors
    /// [`Error::File`] for a folder without images and for images without labels and labels without an image;
    /// otherwise as [`Dataset::check`].
    pub fn cityscapes(root: &Path, split: &str) -> Result<Self> {
        let (images, labels) = (
            root.join("leftImg8bit").join(split),
            root.join("gtFine").join(split),
        );
        let layout = "give the folder that holds leftImg8bit/ and gtFine/ with this split";
        if let Some(missing) = [&images, &labels].into_iter().find(|folder| !folder.is_dir()) {
            return Err(Error::file(missing, "no such folder", layout));
        }
        let image = |name: &str| name.contains("_leftImg8bit.").then(|| prefix(name)).flatten();
        let label = |name: &str| name.ends_with(LABELS).then(|| prefix(name)).flatten();
        Self::paired(
            ClassSet::cityscapes(),
            (&images, keyed(&images, image)?),
            (&labels, keyed(&labels, label)?),
        )
    }

    /// Two folders in which an image and its label PNG have the same path except for the extension.
    ///
    /// # Errors
    /// As [`Dataset::cityscapes`].
    pub fn folders(images: &Path, labels: &Path, classes: ClassSet) -> Result<Self> {
        let image = |name: &str| decode::is_image(Path::new(name)).then(|| stem(name));
        Self::paired(
            classes,
            (images, keyed(images, image)?),
            (labels, plain_labels(labels)?),
        )
    }

    fn paired(classes: ClassSet, images: (&Path, Files), labels: (&Path, Files)) -> Result<Self> {
        let remedy = "every image needs a label PNG of the same name, and every label PNG an image";
        for ((folder, files), (_, others), what) in [(&images, &labels, "label"), (&labels, &images, "image")]
        {
            if files.is_empty() {
                let kind = if what == "label" { "images" } else { "label PNGs" };
                return Err(Error::file(
                    folder,
                    format!("holds no {kind} of this layout"),
                    remedy,
                ));
            }
            let alone: Vec<&str> = files
                .keys()
                .filter(|k| !others.contains_key(*k))
                .map(String::as_str)
                .collect();
            if !alone.is_empty() {
                return Err(Error::file(
                    folder,
                    format!("{} without their {what}: {}", alone.len(), some(&alone)),
                    remedy,
                ));
            }
        }
        let sample = |(name, image): (String, PathBuf)| Sample {
            label: labels.1[&name].clone(),
            name,
            image,
        };
        let dataset = Dataset {
            classes,
            samples: images.1.into_iter().map(sample).collect(),
        };
        dataset.check()?;
        Ok(dataset)
    }

    /// Checks every file's header: labels that are not ids, images of 16 bits, different sizes.
    ///
    /// # Errors
    /// [`Error::File`] naming the first file at fault.
    pub fn check(&self) -> Result<()> {
        self.samples.par_iter().try_for_each(|sample| {
            let labels = LabelImage::size(&sample.label)?;
            match png_header(&sample.image)? {
                Some((_, _, 16)) => Err(sixteen_bits(&sample.image)),
                // May be turned by an orientation tag, which is checked when it is decoded.
                Some((height, width, _)) if (width, height) == labels => Ok(()),
                Some((height, width, _)) => same_size(sample, (height, width), labels),
                None => Ok(()), // checked when it is decoded
            }
        })
    }

    /// SHA-256 of the names and sizes of all files: identifies a set of files without reading them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for sample in &self.samples {
            let length = |path: &Path| {
                fs::metadata(path)
                    .map(|m| m.len())
                    .map_err(Error::io(path, "read"))
            };
            hash.update(format!(
                "{} {} {}\n",
                sample.name,
                length(&sample.image)?,
                length(&sample.label)?
            ));
        }
        Ok(hex(&hash.finalize()))
    }

    /// Prints of its images, see [`camtrast_common::leakage`].
    ///
    /// # Errors
    /// [`Error::Io`] naming the first that cannot be read.
    pub fn prints(&self) -> Result<Prints> {
        Prints::of(
            &self
                .samples
                .iter()
                .map(|sample| &sample.image)
                .collect::<Vec<_>>(),
        )
    }

    /// Checksum of the content of all label files with the names of their samples: the ground truth of a
    /// score.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn labels_sum(&self) -> Result<String> {
        labels_sum(
            self.samples
                .iter()
                .map(|sample| (&sample.name[..], sample.label.as_path())),
        )
    }
}

impl Sample {
    /// Decodes the image (RGB; turned as the camera's orientation tag says, unless only the image as stored
    /// has the labels' size) and its labels, in file ids.
    ///
    /// # Errors
    /// [`Error::File`] when one of them is damaged, of another kind, or when their sizes differ.
    pub fn read(&self) -> Result<(Image, LabelImage)> {
        let labels = LabelImage::read(&self.label)?;
        let image = decode::read_upright(&self.image, (labels.width, labels.height))?;
        same_size(self, (image.height, image.width), (labels.height, labels.width))?;
        Ok((image, labels))
    }

    /// The labels, in file ids, after a check of the image that does not decode it.
    ///
    /// # Errors
    /// [`Error::File`] when one of them is cut off or of another kind, or when their sizes differ.
    pub fn check(&self) -> Result<LabelImage> {
        let (labels, size) = (LabelImage::read(&self.label)?, size(&self.image, true)?);
        let (width, height) = size
            .annotated(|size| size == (labels.width, labels.height))
            .unwrap_or(size.upright);
        same_size(self, (height, width), (labels.height, labels.width))?;
        Ok(labels)
    }

    /// Decodes the image (RGB) and its labels, in train ids with [`IGNORE`].
    ///
    /// # Errors
    /// As [`Sample::read`], and [`Error::File`] for an id that `classes` does not know.
    pub fn read_for_training(&self, classes: &ClassSet) -> Result<(Image, LabelImage)> {
        let (image, mut labels) = self.read()?;
        let train_ids = classes.meanings().map(|meaning| match meaning {
            Meaning::Class(train) => Ok(train),
            Meaning::Ignored => Ok(IGNORE),
            Meaning::Unknown => Err(()),
        });
        for id in &mut labels.pixels {
            *id = train_ids[usize::from(*id)].map_err(|()| unknown_id(&self.label, *id, classes))?;
        }
        Ok((image, labels))
    }
}

/// See [`Dataset::labels_sum`].
pub(crate) fn labels_sum<'a>(labels: impl Iterator<Item = (&'a str, &'a Path)>) -> Result<String> {
    let files: Vec<(&str, &Path)> = labels.collect();
    let lines = files
        .par_iter()
        .map(|(name, path)| Ok(format!("{name} {}", leakage::content(path)?)));
    let mut lines: Vec<String> = lines.collect::<Result<_>>()?;
    lines.sort_unstable();
    Ok(hex(&Sha256::digest(lines.join("\n"))[..8]))
}

/// Files by the name that pairs image and labels.
pub(crate) type Files = BTreeMap<String, PathBuf>;

/// Ground truth of Cityscapes below a folder: `*_labelIds.png` by `<city>_<seq>_<frame>`.
pub(crate) fn cityscapes_labels(folder: &Path) -> Result<Files> {
    keyed(folder, |name| {
        name.ends_with(LABELS).then(|| prefix(name)).flatten()
    })
}

/// Predictions for Cityscapes below a folder: PNGs by `<city>_<seq>_<frame>`; where one image has several,
/// those that end in `_labelIds.png`.
pub(crate) fn cityscapes_predictions(folder: &Path) -> Result<Files> {
    let mut files = keyed_all(folder, |name| {
        name.ends_with(".png").then(|| prefix(name)).flatten()
    })?;
    for paths in files.values_mut().filter(|paths| paths.len() > 1) {
        let named = |path: &PathBuf| path.to_string_lossy().ends_with(LABELS);
        if paths.iter().any(named) {
            paths.retain(named);
        }
    }
    single(files)
}

/// Label PNGs below a folder, by path without extension.
pub(crate) fn plain_labels(folder: &Path) -> Result<Files> {
    keyed(folder, |name| {
        name.to_ascii_lowercase().ends_with(".png").then(|| stem(name))
    })
}

pub(crate) fn unknown_id(path: &Path, id: u8, classes: &ClassSet) -> Error {
    let problem = format!("holds the id {id}, but ids are {}", classes.known_ids());
    Error::file(
        path,
        problem,
        "give labelIds files (not trainIds or colours), or exclude ids with --ignore",
    )
}

/// A few of many names.
pub(crate) fn some(names: &[&str]) -> String {
    match names {
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a}, {b}, {c} and {} more", rest.len()),
        few => few.join(", "),
    }
}

// `<city>_<seq>_<frame>` of a file name in Cityscapes' form.
fn prefix(name: &str) -> Option<String> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let mut parts = name.split(['_', '.']);
    let (city, sequence, frame) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (number(sequence) && number(frame)).then(|| format!("{city}_{sequence}_{frame}"))
}

fn stem(name: &str) -> String {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

fn keyed(folder: &Path, key: impl Fn(&str) -> Option<String>) -> Result<Files> {
    single(keyed_all(folder, key)?)
}

fn single(files: BTreeMap<String, Vec<PathBuf>>) -> Result<Files> {
    let one = |(key, mut paths): (String, Vec<PathBuf>)| match paths.len() {
        1 => Ok((key, paths.remove(0))),
        n => {
            let problem = format!("is one of {n} files for {key}, another is {}", paths[0].display());
            Err(Error::file(&paths[1], problem, "keep one of them"))
        }
    };
    files.into_iter().map(one).collect()
}

// All files below a folder whose name (relative, with `/`) has a key.
fn keyed_all(folder: &Path, key: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (name, path) in files_below(folder)? {
        if let Some(key) = key(&name) {
            found.entry(key).or_default().push(path);
        }
    }
    found.values_mut().for_each(|paths| paths.sort());
    Ok(found)
}

fn same_size(sample: &Sample, image: (usize, usize), labels: (usize, usize)) -> Result<()> {
    if image == labels {
        return Ok(());
    }
    let problem = format!(
        "is {} x {} pixels, but {} is {} x {}",
        labels.1,
        labels.0,
        sample.image.display(),
        image.1,
        image.0
    );
    Err(Error::file(
        &sample.label,
        problem,
        "labels must have the size of their image",
    ))
}

fn sixteen_bits(path: &Path) -> Error {
    Error::file(
        path,
        "has 16 bits per channel",
        "convert it to 8 bits: other programs read 16 bits with another brightness",
    )
}

// Height, width and bits of a PNG; `None` for other formats.
fn png_header(path: &Path) -> Result<Option<(usize, usize, u8)>> {
    let mut head = Vec::with_capacity(25);
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    file.take(25)
        .read_to_end(&mut head)
        .map_err(Error::io(path, "read"))?;
    if head.len() < 25 || !head.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Ok(None);
    }
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    Ok(Some((number(20), number(16), head[24])))
}
