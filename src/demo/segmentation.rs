//! The demo's third task: every backbone fine-tuned to label each pixel of the drawn streets.

use crate::commands::{Common, build};
use crate::screen::{STOP, Screen};
use anyhow::{Result, bail};
use common::device::Precision;
use segmentation::options::EvaluationOptions;
use segmentation::train::Recipe;
use segmentation::{Options, Preset, TrainConfig, TrainData, train};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use tch::Device;

/// How much there is to see, and how it is trained on.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SegmentationRecipe {
    /// Streets to train on, and to evaluate on.
    pub streets: [usize; 2],
    /// Their height in pixels; they are twice as wide.
    pub street_size: usize,
    precision: Precision,
    settings: Options,
}

/// Fine-tunes DeepLab v3+ from `checkpoint` on the streets of `world`, in the run folder `out`. Returns its mIoU in 0..1.
pub fn segment(
    recipe: &SegmentationRecipe,
    checkpoint: PathBuf,
    world: &Path,
    out: PathBuf,
    common: &Common,
    device: Device,
    screen: &Screen,
) -> Result<f64> {
    let config = TrainConfig {
        recipe: Recipe {
            checkpoint,
            seed: common.seed,
            precision: recipe.precision,
            preset: Preset::Paper,
            data: TrainData::of_cityscapes(world),
            options: recipe.settings.clone(),
            evaluation: EvaluationOptions { pictures: 4, ..EvaluationOptions::default() },
        },
        out: out.clone(),
        overwrite: false,
        device,
        log_every: 20,
        save_every: None,
        build: build(),
    };
    if train(&config, screen, &STOP)?.outcome.interrupted {
        bail!("interrupted while segmenting; the same command goes on from there");
    }
    // A run that had been finished before is not measured again.
    let metrics: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("metrics.json"))?)?;
    Ok(metrics["segmentation/mIoU"].as_f64().unwrap_or(f64::NAN))
}
