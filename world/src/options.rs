//! What to draw, and in which numbers and sizes.

use super::catalogue::Split;
use camtrast_common::error::{Error, Result};
use std::path::PathBuf;

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

    pub(super) fn check(&self) -> Result<()> {
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

    pub(super) fn images_per_class(&self, split: Split) -> usize {
        if split == Split::Train {
            self.images_per_class
        } else {
            self.evaluation_images_per_class
        }
    }
}
