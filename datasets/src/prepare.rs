//! Public layout -> [`Pack`](crate::Pack).

use crate::fold::Fold;
use crate::layout::{Layout, Listing, RawImages, Source, in_common};
use crate::pack_writer::{PackDescription, PackWriter};
use camtrast_common::error::{Error, Result};
use camtrast_common::progress::Progress;
use camtrast_common::tensor_file::Metadata;
use camtrast_images::decode::{self, Fit};
use camtrast_images::resample::Image;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Images decoded in parallel before they are written in order; at 84 pixels 11 MB.
const CHUNK: usize = 512;
/// Largest height and width of a pack in pixels.
const LARGEST: usize = 4096;

/// What to pack and how.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Layout of the data set.
    pub layout: Layout,
    /// Its folder (or archive, where the layout allows one).
    pub from: PathBuf,
    /// The pack to write; an older one is replaced.
    pub out: PathBuf,
    /// Split; the layout's first when `None`.
    pub split: Option<String>,
    /// A part of the split's images.
    pub fold: Option<Fold>,
    /// Height and width of the images in pixels.
    pub size: usize,
    /// Length of the shorter side in pixels before the centre crop; plain resize to `size` when `None`.
    pub resize: Option<usize>,
    /// Height and width of the centre crop in pixels; only with `resize`, `size` when `None`.
    pub crop: Option<usize>,
    /// Skips files that cannot be decoded, instead of failing.
    pub skip_bad: bool,
}

impl PrepareOptions {
    /// Height and width used by the paper, in pixels.
    pub const DEFAULT_SIZE: usize = 84;

    /// Plain resize to 84 x 84 of the layout's first split.
    pub fn new(layout: Layout, from: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        PrepareOptions {
            layout,
            from: from.into(),
            out: out.into(),
            split: None,
            fold: None,
            size: Self::DEFAULT_SIZE,
            resize: None,
            crop: None,
            skip_bad: false,
        }
    }

    fn fit(&self) -> Result<Fit> {
        let fit = match (self.resize, self.crop) {
            (None, None) => Fit::Stretch { size: self.size },
            (None, Some(_)) => {
                return Err(Error::settings(
                    "--crop is given without --resize",
                    "add --resize, such as 92",
                ));
            }
            (Some(resize), crop) => Fit::ResizeCrop {
                resize,
                crop: crop.unwrap_or(self.size),
            },
        };
        if !(1..=LARGEST).contains(&fit.size()) || self.resize.is_some_and(|resize| resize > LARGEST) {
            let problem = format!(
                "images of {} pixels are out of range",
                fit.size().max(self.resize.unwrap_or(0))
            );
            return Err(Error::settings(
                problem,
                format!("set --size, --resize and --crop to 1..{LARGEST}"),
            ));
        }
        match fit {
            Fit::ResizeCrop { resize, crop } if crop > resize => Err(Error::settings(
                format!("a centre of {crop} pixels cannot be cropped from {resize}"),
                "set --resize to at least --crop",
            )),
            fit => Ok(fit),
        }
    }
}

/// The result of [`prepare`].
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareReport {
    /// The pack.
    pub path: PathBuf,
    /// The split it holds.
    pub split: String,
    /// Number of images in it.
    pub images: usize,
    /// Number of classes.
    pub classes: usize,
    /// Number of general categories, when the data set has any.
    pub categories: Option<usize>,
    /// Height and width of the images in pixels.
    pub size: usize,
    /// Number of files that are not images and were ignored.
    pub ignored: usize,
    /// Why each image was left out (`skip_bad`), one line each with the file's name.
    pub skipped: Vec<String>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Images and classes that this split shares with other splits but should not: one line each.
    pub in_common: Vec<String>,
    /// The checksum of the pack: `dataset_sha256` of checkpoints.
    pub sha256: String,
    /// Wall-clock time in seconds.
    pub seconds: f64,
}

/// Lists, decodes and packs one split. `out` appears only when the pack is complete.
///
/// # Errors
/// [`Error::Settings`] for impossible sizes or splits, [`Error::File`] and [`Error::Io`] naming the file that
/// cannot be read.
pub fn prepare(options: &PrepareOptions, progress: &dyn Progress) -> Result<PrepareReport> {
    let begun = Instant::now();
    let fit = options.fit()?;
    if options.out.is_dir() {
        return Err(Error::file(
            &options.out,
            "is a folder",
            "give --out the name of a file, such as train.pack",
        ));
    }
    let mut listing = options.layout.list(&options.from, options.split.as_deref())?;
    if let Some(folder) = listing.empty.first().filter(|_| !options.skip_bad) {
        let remedy = "remove the folder, put its images directly into it, or skip such \
                      folders with --skip-bad";
        return Err(Error::file(folder, "is a class without images", remedy));
    }
    listing.notes.extend(listing.note_of_empty());
    let in_common = with_other_splits(options, &listing);
    if let Some(fold) = options.fold {
        fold.keep(&mut listing, &options.from)?;
    }
    let mut writer = PackWriter::create(
        &options.out,
        describe(options, fit, &listing),
        listing.images.len(),
    )?;
    let (mut labels, mut skipped) = (Vec::with_capacity(listing.images.len()), Vec::new());
    progress.start("packing images", listing.images.len() as u64, 0);
    for chunk in listing.images.chunks(CHUNK) {
        let decoded: Vec<_> = chunk
            .par_iter()
            .map(|(source, _)| decode_one(source, &listing, fit))
            .collect();
        for (decoded, (_, label)) in decoded.into_iter().zip(chunk) {
            match decoded {
                Ok(pixels) => {
                    writer.push(&pixels)?;
                    labels.push(*label as i64);
                }
                Err(error) if options.skip_bad => skipped.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let rate = (labels.len() + skipped.len()) as f64 / begun.elapsed().as_secs_f64();
        progress.advance(chunk.len() as u64, &format!("{rate:.0} images/s"));
    }
    progress.finish();
    let listing = without_lost_classes(&mut labels, listing, &options.from)?;
    writer.describe(describe(options, fit, &listing));
    let categories: Option<Vec<i64>> = listing.category_of_class.as_ref().map(|category| {
        labels
            .iter()
            .map(|&label| category[label as usize] as i64)
            .collect()
    });
    let sha256 = writer.finish(&labels, categories.as_deref())?;
    Ok(PrepareReport {
        path: options.out.clone(),
        split: listing.split,
        images: labels.len(),
        classes: listing.class_names.len(),
        categories: listing.category_names.map(|names| names.len()),
        size: fit.size(),
        ignored: listing.ignored,
        skipped,
        notes: listing.notes,
        in_common,
        sha256,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

// A split that is missing or cannot be read shares nothing with this one.
fn with_other_splits(options: &PrepareOptions, listing: &Listing) -> Vec<String> {
    let PrepareOptions { layout, from, .. } = options;
    // CIFAR-FS would have to be read completely, and its division is built in.
    if *layout == Layout::CifarFs {
        return Vec::new();
    }
    let others = layout
        .splits(from)
        .into_iter()
        .flatten()
        .filter(|split| **split != listing.split);
    let compared = others
        .filter_map(|split| layout.list(from, Some(split)).ok())
        .flat_map(|other| {
            // The layout's first split: training, as in `data info`.
            let order = |listing: &Listing| {
                ["train", "val", "valid", "test"]
                    .iter()
                    .position(|name| *name == listing.split)
            };
            let (first, second) = if order(&other) < order(listing) {
                (&other, listing)
            } else {
                (listing, &other)
            };
            in_common(*layout, first, second)
        });
    compared.collect()
}

fn decode_one(source: &Source, listing: &Listing, fit: Fit) -> Result<Vec<u8>> {
    match source {
        Source::File(path) => decode::load(path, fit),
        Source::Row(row) => {
            let RawImages {
                height,
                width,
                ref pixels,
            } = listing.raw;
            let bytes = height * width * 3;
            let image = Image {
                height,
                width,
                pixels: pixels[row * bytes..][..bytes].to_vec(),
            };
            Ok(decode::fit_image(image, fit).pixels)
        }
    }
}

// Under `skip_bad` a class can lose all its images: the others move up, and labels with them.
fn without_lost_classes(labels: &mut [i64], mut listing: Listing, from: &Path) -> Result<Listing> {
    let mut kept = vec![false; listing.class_names.len()];
    labels.iter().for_each(|&label| kept[label as usize] = true);
    let Some(first) = kept.iter().position(|kept| !kept) else {
        return Ok(listing);
    };
    if labels.is_empty() {
        return Err(Error::file(
            from,
            "has no image that can be decoded",
            "check that the data set is complete",
        ));
    }
    let (lost, name) = (
        kept.iter().filter(|kept| !**kept).count(),
        &listing.class_names[first],
    );
    let note =
        format!("{lost} classes are left out because none of their images can be decoded, such as {name}");
    listing.notes.push(note);
    let number = |label: i64| kept[..label as usize].iter().filter(|kept| **kept).count() as i64;
    labels.iter_mut().for_each(|label| *label = number(*label));
    Ok(listing.only(&kept))
}

fn describe(options: &PrepareOptions, fit: Fit, listing: &Listing) -> PackDescription {
    let size = fit.size();
    let (resize, crop) = match fit {
        Fit::Stretch { size } => (format!("{size}x{size}"), "none".to_owned()),
        Fit::ResizeCrop { resize, crop } => (format!("{resize} (shorter side)"), crop.to_string()),
    };
    // Only the folder's name: its path on this machine is private.
    let source = options
        .from
        .canonicalize()
        .unwrap_or_else(|_| options.from.clone());
    let source = source
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut more = Metadata::from([
        ("layout".to_owned(), options.layout.to_string()),
        ("split".to_owned(), listing.split.clone()),
        ("size".to_owned(), size.to_string()),
        ("resize".to_owned(), resize),
        ("crop".to_owned(), crop),
        ("source".to_owned(), source),
    ]);
    for (key, titles) in [
        ("class_titles", &listing.class_titles),
        ("category_titles", &listing.category_titles),
    ] {
        if let Some(titles) = titles {
            more.insert(
                key.to_owned(),
                serde_json::to_string(titles).expect("strings serialise"),
            );
        }
    }
    PackDescription {
        height: size,
        width: size,
        class_names: listing.class_names.clone(),
        category_names: listing.category_names.clone(),
        more,
    }
}
