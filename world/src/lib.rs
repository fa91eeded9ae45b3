//! A synthetic data set (the drawn world) for pretraining and testing: drawn objects whose class depends on
//! one small part.
//!
//! A category (fish, car, ...) is a drawing; its five classes differ in one part only (the tail fin, the sign
//! on the door), while colour, pattern, pose, surroundings and light vary freely. A classifier may use this
//! part alone and ignore the rest, which is the loss of information that the paper describes; a contrastive
//! method has no reason to do so. As in tieredImageNet, the categories of base, validation and novel classes
//! are disjoint.
//!
//! The files are those of miniImageNet: `images/*.jpg` and `train.csv`, `val.csv`, `test.csv`
//! (`filename,label`), together with `categories.csv` (`label,category,label_name,category_name`). Scenes for
//! detection are in [`scene`], streets for segmentation in [`street`].

pub mod canvas;
pub mod catalogue;
mod folder;
pub mod object;
pub mod paint;
pub mod picture;
pub mod scene;
pub mod setting;
pub mod shapes;
mod sheet;
pub mod street;
mod street_folder;
#[cfg(test)]
mod tests;

pub use sheet::contact_sheet;

use camtrast_common::error::{Error, Result};
use camtrast_common::progress::Progress;
use camtrast_common::random::generator;
use camtrast_images::picture::refused;
use catalogue::{Class, Split};
use folder::Folder;
use opencv::core::{CV_8UC1, CV_8UC3, Mat, MatTraitManual, Scalar, Vector};
use opencv::imgcodecs;
use rayon::prelude::*;
use std::path::PathBuf;
use street_folder::StreetFolder;

/// What to draw and where to put it.
#[derive(Clone, Debug)]
pub struct SynthOptions {
    /// The folder to write: new, empty, or holding an earlier set of this kind, which is replaced.
    pub out: PathBuf,
    /// The same seed gives the same pictures on the same machine.
    pub seed: u64,
    /// Side of the pictures in pixels, 16..=1024.
    pub size: usize,
    /// Pictures of each base class.
    pub images_per_class: usize,
    /// Pictures of each validation and novel class; a 5-shot episode with 15 queries needs 20.
    pub evaluation_images_per_class: usize,
    /// Scenes to train a detector on, and to test it with.
    pub scenes: [usize; 2],
    /// Short side of the scenes in pixels, 32..=1024; they are 4:3.
    pub scene_size: usize,
    /// Streets to train a segmenter on, and to evaluate it with.
    pub streets: [usize; 2],
    /// Height of the streets in pixels, 32..=1024; they are twice as wide.
    pub street_size: usize,
    /// JPEG quality, 1..=100.
    pub quality: u8,
}

impl SynthOptions {
    /// The default set: 84 x 84 pixels, 100 pictures of each base class and 40 of each other one.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        SynthOptions {
            out: out.into(),
            seed: 0,
            size: 84,
            images_per_class: 100,
            evaluation_images_per_class: 40,
            scenes: [200, 60],
            scene_size: 150,
            streets: [100, 40],
            street_size: 128,
            quality: 92,
        }
    }

    fn check(&self) -> Result<()> {
        if !(16..=1024).contains(&self.size) {
            return Err(Error::settings(
                format!("--size {} is out of range", self.size),
                "choose 16 to 1024 pixels",
            ));
        }
        for (flag, size) in [
            ("--scene-size", self.scene_size),
            ("--street-size", self.street_size),
        ] {
            if !(32..=1024).contains(&size) {
                return Err(Error::settings(
                    format!("{flag} {size} is out of range"),
                    "choose 32 to 1024 pixels",
                ));
            }
        }
        if self.images_per_class.min(self.evaluation_images_per_class) == 0 {
            return Err(Error::settings(
                "a class needs at least one picture",
                "give at least 1 per class",
            ));
        }
        if !(1..=100).contains(&self.quality) {
            return Err(Error::settings(
                format!("JPEG quality {} is out of range", self.quality),
                "choose 1 to 100",
            ));
        }
        Ok(())
    }

    fn images_per_class(&self, split: Split) -> usize {
        if split == Split::Train {
            self.images_per_class
        } else {
            self.evaluation_images_per_class
        }
    }
}

/// Counts of one written split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitReport {
    /// `train`, `val` or `test`.
    pub split: &'static str,
    /// Kinds of objects.
    pub categories: usize,
    /// Classes.
    pub classes: usize,
    /// Pictures.
    pub images: usize,
}

/// Counts of the written data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynthReport {
    /// The folder.
    pub out: PathBuf,
    /// Train, val, test.
    pub splits: Vec<SplitReport>,
    /// Scenes to train and to test with.
    pub scenes: [usize; 2],
    /// Streets to train and to evaluate with.
    pub streets: [usize; 2],
}

/// One picture to be drawn.
struct Job {
    class: Class,
    index: usize,
}

impl Job {
    fn file_name(&self) -> String {
        format!("{}_{:05}.jpg", self.class.label(), self.index)
    }
}

/// Draws the world into `options.out`, on all cores of rayon's pool.
///
/// The split files are written last, so that an interrupted run leaves nothing that looks complete; the same
/// command then removes its files and starts again.
///
/// # Errors
/// Settings out of range, a folder that holds something else, or a failed write (a full disk, for example),
/// with the file's name.
pub fn synth(options: &SynthOptions, progress: &dyn Progress) -> Result<SynthReport> {
    options.check()?;
    let folder = Folder::open(options)?;
    let street_folder = StreetFolder::open(options)?;
    let jobs: Vec<Job> = Class::all()
        .flat_map(|class| {
            (0..options.images_per_class(class.category().split)).map(move |index| Job { class, index })
        })
        .collect();
    let scenes = options.scenes[0] + options.scenes[1];
    let streets = options.streets[0] + options.streets[1];
    progress.start("drawing pictures", (jobs.len() + scenes + streets) as u64, 0);
    jobs.par_iter().try_for_each(|job| -> Result<()> {
        let mut rng = generator(
            options.seed,
            &format!("synth/{}", job.class.label()),
            0,
            job.index as u64,
        );
        let picture = picture::draw(job.class, options.size, &mut rng)?;
        folder.write_image(&job.file_name(), &jpeg(&picture.canvas, options.quality)?)?;
        progress.advance(1, "");
        Ok(())
    })?;
    (0..scenes).into_par_iter().try_for_each(|index| -> Result<()> {
        let mut rng = generator(options.seed, "synth/scene", 0, index as u64);
        let scene = scene::draw(options.scene_size, options.scene_size * 4 / 3, &mut rng)?;
        folder.write_scene(index, &scene, &jpeg(&scene.canvas, options.quality)?)?;
        progress.advance(1, "");
        Ok(())
    })?;
    (0..streets).into_par_iter().try_for_each(|index| -> Result<()> {
        let mut rng = generator(options.seed, "synth/street", 0, index as u64);
        street_folder.write(
            index,
            &street::draw(options.street_size, 2 * options.street_size, &mut rng)?,
        )?;
        progress.advance(1, "");
        Ok(())
    })?;
    folder.finish(&jobs, options.scenes)?;
    progress.finish();

    let report = |split: Split| {
        let classes = Class::all()
            .filter(|class| class.category().split == split)
            .count();
        SplitReport {
            split: split.name(),
            categories: classes / catalogue::CLASSES_PER_CATEGORY,
            classes,
            images: classes * options.images_per_class(split),
        }
    };
    let splits = Split::ALL.map(report).to_vec();
    Ok(SynthReport {
        out: options.out.clone(),
        splits,
        scenes: options.scenes,
        streets: options.streets,
    })
}

fn jpeg(canvas: &canvas::Canvas, quality: u8) -> Result<Vec<u8>> {
    encode(canvas, ".jpg", &[imgcodecs::IMWRITE_JPEG_QUALITY, quality.into()])
}

fn encode(canvas: &canvas::Canvas, extension: &str, parameters: &[i32]) -> Result<Vec<u8>> {
    let run = || -> opencv::Result<Vec<u8>> {
        let mut image = Mat::new_rows_cols_with_default(
            canvas.height as i32,
            canvas.width as i32,
            CV_8UC3,
            Scalar::all(0.0),
        )?;
        image.data_bytes_mut()?.copy_from_slice(&canvas.bgr_bytes());
        let mut bytes = Vector::new();
        imgcodecs::imencode(extension, &image, &mut bytes, &Vector::from_slice(parameters))?;
        Ok(bytes.into())
    };
    run().map_err(refused)
}

// A PNG of one byte a pixel.
fn encode_grey(pixels: &[u8], height: usize, width: usize) -> Result<Vec<u8>> {
    let run = || -> opencv::Result<Vec<u8>> {
        let mut image =
            Mat::new_rows_cols_with_default(height as i32, width as i32, CV_8UC1, Scalar::all(0.0))?;
        image.data_bytes_mut()?.copy_from_slice(pixels);
        let mut bytes = Vector::new();
        imgcodecs::imencode(".png", &image, &mut bytes, &Vector::new())?;
        Ok(bytes.into())
    };
    run().map_err(refused)
}
