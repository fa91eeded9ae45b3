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
//! detection are in [`scene`], streets for segmentation in [`street`]. [`synth`] draws all of them, as
//! [`SynthOptions`] says.
//!
//! ```
//! use camtrast_common::progress::Silent;
//! use camtrast_world::{SynthOptions, synth};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let options = SynthOptions {
//!     size: 16,
//!     images_per_class: 1,
//!     evaluation_images_per_class: 1,
//!     scenes: [0, 0],
//!     streets: [0, 0],
//!     ..SynthOptions::new(folder.path().join("world"))
//! };
//! let report = synth(&options, &Silent)?;
//! let base = &report.splits[0];
//! assert_eq!((base.split, base.images), ("train", base.classes));
//! assert!(folder.path().join("world/train.csv").exists());
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod canvas;
pub mod catalogue;
mod encode;
mod folder;
pub mod object;
mod options;
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

pub use options::SynthOptions;
pub use sheet::contact_sheet;

use camtrast_common::error::Result;
use camtrast_common::progress::Progress;
use camtrast_common::random::generator;
use catalogue::{Class, Split};
use encode::jpeg;
use folder::{Folder, Job};
use rayon::prelude::*;
use std::path::PathBuf;
use street_folder::StreetFolder;

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
