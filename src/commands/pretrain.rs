//! `camtrast pretrain`.

use super::{Common, build};
use crate::screen::{STOP, Screen, catch_interrupts, clock};
use anyhow::{Result, bail};
use clap::Args;
use common::progress::Progress;
use common::resnet::{Arch, Stem};
use pretrain::{Method, Options, PretrainConfig, PretrainReport, Recipe, Subset, pretrain};
use std::path::PathBuf;
use tch::Device;

#[derive(Args, Debug)]
pub struct PretrainArgs {
    /// The method
    #[arg(long)]
    method: Method,
    /// The pack to train on (`camtrast data prepare` makes one)
    #[arg(long)]
    data: PathBuf,
    /// Folder of the run; the same command there goes on where it was cut off
    #[arg(long)]
    out: PathBuf,
    /// Start anew if the folder holds a run
    #[arg(long)]
    overwrite: bool,
    /// resnet18, resnet34, resnet50 or resnet101
    #[arg(long, default_value = "resnet50")]
    arch: Arch,
    /// Channels after the stem (64 in the published networks)
    #[arg(long)]
    width: Option<i64>,
    /// standard, or small for 32-pixel images
    #[arg(long)]
    stem: Option<Stem>,
    /// Batches whose gradients make one step
    #[arg(long, default_value_t = 1)]
    accumulate: u64,
    /// Scale gradients down to this joint norm
    #[arg(long)]
    clip_norm: Option<f64>,
    /// Steps between log lines
    #[arg(long, default_value_t = 20)]
    log_every: u64,
    /// Steps between saved states (besides every two minutes and the end)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    save_every: Option<u64>,
    /// Epochs between looks at the representation (entropy, uniformity, rank, nearest neighbours), which go to the log
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    probe_every: Option<u64>,
    #[command(flatten)]
    subset: Subset,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: PretrainArgs) -> Result<()> {
    let (device, screen) = args.common.open()?;
    catch_interrupts()?;
    let (recipe, run) = args.recipe()?;
    let report = pretrain_run(recipe, run, device, &screen)?;
    println!("{}", report.backbone.display());
    Ok(())
}

impl PretrainArgs {
    /// What the flags say.
    pub fn recipe(self) -> Result<(Recipe, RunSettings)> {
        let mut arch: Arch = self.arch;
        arch.width = self.width.unwrap_or(arch.width);
        arch.stem = self.stem.unwrap_or(arch.stem);
        let arch: Arch = arch
            .to_string()
            .parse()
            .map_err(|e: String| common::Error::Usage { problem: e, remedy: "choose --width from 4 to 512".into() })?;
        let recipe = Recipe {
            method: self.method,
            data: self.data,
            seed: self.common.seed,
            precision: self.common.precision,
            arch,
            subset: self.subset,
            accumulate: self.accumulate,
            clip_norm: self.clip_norm,
            options: self.options,
        };
        let run = RunSettings {
            out: self.out,
            overwrite: self.overwrite,
            log_every: self.log_every,
            save_every: self.save_every,
            probe_every: self.probe_every,
        };
        Ok((recipe, run))
    }
}

/// How a recipe is run.
pub struct RunSettings {
    pub out: PathBuf,
    pub overwrite: bool,
    pub log_every: u64,
    pub save_every: Option<u64>,
    pub probe_every: Option<u64>,
}

/// Pretrains, and tells how it ended.
pub fn pretrain_run(recipe: Recipe, run: RunSettings, device: Device, screen: &Screen) -> Result<PretrainReport> {
    let config = PretrainConfig {
        recipe,
        out: run.out,
        overwrite: run.overwrite,
        device,
        log_every: run.log_every,
        save_every: run.save_every,
        probe_every: run.probe_every,
        build: build(),
    };
    let report = pretrain(&config, screen, &STOP)?;
    let outcome = report.outcome;
    if outcome.interrupted {
        bail!("interrupted at step {}; the state is saved, the same command goes on from there", outcome.step);
    }
    let loss = outcome.last_epoch[0].map(|loss| format!(", loss {loss:.3}")).unwrap_or_default();
    screen.note(&format!("{} done: {} steps in {}{loss}", report.recipe.method, outcome.step, clock(outcome.seconds)));
    Ok(report)
}
