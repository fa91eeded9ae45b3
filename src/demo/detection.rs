//! The demo's second task: every backbone fine-tuned to detect the objects of the drawn scenes.

use crate::commands::{Common, build};
use crate::screen::{STOP, Screen};
use anyhow::{Result, bail};
use common::data::synth::scene::scene_classes;
use common::device::Precision;
use detection::model::DetectorArch;
use detection::voc::{VocOptions, read};
use detection::{Dataset, Options, Preset, Recipe, TrainConfig, train};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tch::Device;

/// How much there is to see, and how it is trained on.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DetectionRecipe {
    /// Scenes to train on, and to test with.
    pub scenes: [usize; 2],
    /// Their short side in pixels.
    pub scene_size: usize,
    arch: DetectorArch,
    precision: Precision,
    settings: Options,
}

/// Where the scenes are, for config.toml.
#[derive(Clone, Serialize)]
struct Scenes {
    voc: PathBuf,
}

/// The figures of one backbone, in 0..1.
pub struct Detected {
    /// COCO's AP.
    pub ap: f64,
    /// COCO's AP at IoU .50.
    pub ap50: f64,
}

/// Fine-tunes a detector from `checkpoint` on the scenes of `world` and tests it, in the run folder `out`.
pub fn detect(
    recipe: &DetectionRecipe,
    checkpoint: PathBuf,
    world: &Path,
    out: PathBuf,
    common: &Common,
    device: Device,
    screen: &Screen,
) -> Result<Detected> {
    let voc = world.join("VOCdevkit");
    let scenes = |list: &str| -> Result<Dataset> {
        let classes = scene_classes().into_iter().map(String::from).collect();
        let splits = vec![format!("2007:{list}").parse()?];
        Ok(read(&VocOptions { root: voc.clone(), splits, classes, skip_bad: false })?)
    };
    let config = TrainConfig {
        recipe: Recipe {
            checkpoint,
            seed: common.seed,
            precision: recipe.precision,
            arch: recipe.arch,
            preset: Preset::Moco,
            data: Scenes { voc: voc.clone() },
            options: recipe.settings.clone(),
        },
        training: scenes("trainval")?,
        test: Some(scenes("test")?),
        out: out.clone(),
        overwrite: false,
        device,
        pictures: 4,
        log_every: 20,
        save_every: None,
        build: build(),
    };
    let report = train(config, screen, &STOP)?;
    if report.outcome.interrupted {
        bail!("interrupted while detecting; the same command goes on from there");
    }
    // A run that had been finished before is not measured again.
    let metrics: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("metrics.json"))?)?;
    let metric = |name: &str| metrics[name].as_f64().unwrap_or(f64::NAN);
    Ok(Detected { ap: metric("detection/AP"), ap50: metric("detection/AP50") })
}
